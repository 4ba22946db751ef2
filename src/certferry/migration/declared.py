"""Which declared certificates are meant by one that another client has just renewed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import PurePath

from certferry.core.certificate import Certificate
from certferry.core.desired import DesiredCertificate, PemFiles
from certferry.core.lineage import Version
from certferry.errors import CertificateError, ConfigError, PlanRefused
from certferry.ports.source import CertificateSource
from certferry.text import Text

Versions = Callable[[str], Sequence[Version]]
"""A lineage → its certificates so far."""


def declared_for(
    files: PemFiles,
    wishes: Sequence[DesiredCertificate],
    source: CertificateSource,
    versions: Versions,
) -> tuple[DesiredCertificate, ...]:
    """Give the wishes that are meant by a client's files; none where no wish is for them.

    Meant are those with the same files; else those whose files hold the same certificate, as
    copies that the client has made do; else those that ask for exactly its names. Among the last,
    a certificate that certferry would issue is taken from the client instead: there is one
    already.

    Raises `CertificateError` and `PlanRefused` when the client's files cannot be taken, or nothing
    else is meant and declared ones cannot be; `PlanRefused` for a certificate that is not the one
    that certferry would issue, or not the newest; `ConfigError` when the declared files hold
    another certificate for the same names.
    """
    same_files = tuple(wish for wish in wishes if _is_same(wish.files, files))
    if same_files:
        return same_files
    renewed = source.read(files).certificate
    held, broken = _held(wishes, source)
    copies = tuple(wish for wish, found in held if found.fingerprint == renewed.fingerprint)
    if copies:
        return copies
    for wish, found in held:
        if _are_same(found.names, renewed.names):
            raise _outdated(wish, files)
    wanted = [w for w in wishes if w.files is None and _are_same(w.names, renewed.names)]
    for wish in wanted:
        _must_be_as_asked_for(wish, renewed)
        _must_be_the_newest(wish, renewed, files, versions)
    if broken and not wanted:
        raise broken[0]
    return tuple(replace(wish, names=(), dns="", files=files) for wish in wanted)


def how_to_declare(files: PemFiles) -> Text:
    """Say how a client's files are declared."""
    return Text(
        'declare it under [[certificates]]: fullchain = "{fullchain}" and privkey = "{privkey}"',
        fullchain=files.fullchain,
        privkey=files.privkey,
    )


def _is_same(declared: PemFiles | None, files: PemFiles) -> bool:
    """Compare the fullchain alone: it is the certificate. A key that is declared elsewhere may be a
    copy that only certferry can read; whether it belongs is judged when the declared pair is read.
    """
    return declared is not None and PurePath(declared.fullchain) == PurePath(files.fullchain)


def _are_same(names: Collection[str], others: Collection[str]) -> bool:
    return {name.lower() for name in names} == {name.lower() for name in others}


def _held(
    wishes: Sequence[DesiredCertificate], source: CertificateSource
) -> tuple[list[tuple[DesiredCertificate, Certificate]], list[CertificateError | PlanRefused]]:
    """Give what declared files hold, and what is wrong with the others."""
    held = []
    broken: list[CertificateError | PlanRefused] = []
    for wish in wishes:
        if wish.files is not None:
            try:
                held.append((wish, source.read(wish.files).certificate))
            except (CertificateError, PlanRefused) as error:
                broken.append(_perhaps_meant(wish, error))
    return held, broken


def _must_be_as_asked_for(wish: DesiredCertificate, renewed: Certificate) -> None:
    """Otherwise the next run would issue the other kind, and the next hook take this one back."""
    if renewed.key_type != wish.key_type:
        raise PlanRefused(
            Text(
                "{lineage}: the key is {had}; asked for: {wanted}",
                lineage=wish.lineage,
                had=renewed.key_type,
                wanted=wish.key_type.value,
            ),
            hint=Text(
                "have the client make such a key (acme.sh: --keylength; certbot and lego:"
                " --key-type), or declare `key_type` as it is"
            ),
        )


def _must_be_the_newest(
    wish: DesiredCertificate, renewed: Certificate, files: PemFiles, versions: Versions
) -> None:
    """Otherwise a hook that is run again would bring back what has been replaced since."""
    latest = max((v.certificate.not_before for v in versions(wish.lineage)), default=None)
    if latest is not None and latest > renewed.not_before:
        raise PlanRefused(
            Text(
                "{lineage}: {path} holds a certificate of {made}, and there is a later one of"
                " {latest}",
                lineage=wish.lineage,
                path=files.fullchain,
                made=renewed.not_before,
                latest=latest,
            ),
            hint=Text(
                "certferry has renewed it since: switch it off in the client, or {advice}",
                advice=how_to_declare(files),
            ),
        )


def _perhaps_meant(
    wish: DesiredCertificate, error: CertificateError | PlanRefused
) -> CertificateError | PlanRefused:
    said = Text(
        "no declared certificate is the renewed one; {lineage} may be meant, but {problem}",
        lineage=wish.lineage,
        problem=error.message,
    )
    return type(error)(said, hint=error.hint)


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
            " --fullchain-file), or {advice}",
            advice=how_to_declare(files),
        ),
    )
