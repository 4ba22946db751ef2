"""Which declared certificates are meant by one that another client has just renewed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from certferry.core.certificate import Certificate
from certferry.core.desired import DesiredCertificate, PemFiles
from certferry.errors import CertificateError, ConfigError, PlanRefused
from certferry.ports.source import CertificateSource
from certferry.text import Text


def declared_for(
    files: PemFiles, wishes: Sequence[DesiredCertificate], source: CertificateSource
) -> tuple[DesiredCertificate, ...]:
    """Give the wishes that are meant by a client's files; none when nobody declared them.

    Meant are those with the same files; else those whose files hold the same certificate, as
    copies that the client has made do; else those that ask for exactly its names. Among the last,
    a certificate that certferry would issue is taken from the client instead: there is one
    already. Raises `CertificateError` and `PlanRefused` when the client's files cannot be taken,
    and `ConfigError` when the declared files hold another certificate for the same names.
    """
    same_files = tuple(wish for wish in wishes if _is_same(wish.files, files))
    if same_files:
        return same_files
    renewed = source.read(files).certificate
    held = {wish.lineage: _held(wish, source) for wish in wishes}
    copies = tuple(
        wish for wish in wishes if _fingerprint(held[wish.lineage]) == renewed.fingerprint
    )
    if copies:
        return copies
    for wish in wishes:
        other = held[wish.lineage]
        if other is not None and set(other.names) == set(renewed.names):
            raise _outdated(wish, files)
    return tuple(
        replace(wish, names=(), dns="", files=files)
        for wish in wishes
        if wish.files is None and set(wish.names) == set(renewed.names)
    )


def _is_same(declared: PemFiles | None, files: PemFiles) -> bool:
    return declared is not None and PurePath(declared.fullchain) == PurePath(files.fullchain)


def _held(wish: DesiredCertificate, source: CertificateSource) -> Certificate | None:
    """Give what the declared files hold. What is wrong with them is no matter of the client's."""
    if wish.files is None:
        return None
    try:
        return source.read(wish.files).certificate
    except (CertificateError, PlanRefused):
        return None


def _fingerprint(certificate: Certificate | None) -> str | None:
    return None if certificate is None else certificate.fingerprint


def _outdated(wish: DesiredCertificate, files: PemFiles) -> ConfigError:
    declared = "" if wish.files is None else wish.files.fullchain
    return ConfigError(
        Text(
            "{lineage}: {declared} holds another certificate than {made}",
            lineage=wish.lineage,
            declared=declared,
            made=files.fullchain,
        ),
        hint=Text(
            "have the client write the declared file before it runs the hook (acme.sh:"
            ' --fullchain-file), or declare its own: fullchain = "{made}"',
            made=files.fullchain,
        ),
    )
