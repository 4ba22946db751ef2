"""Certificates that were made elsewhere: what their files hold becomes the wish."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.certificate import Certificate
from certferry.core.desired import DesiredCertificate
from certferry.core.lineage import Version
from certferry.ports.source import CertificateSource
from certferry.ports.state import StateStore
from certferry.reconcile.doors import Doors


def as_offered(desired: DesiredCertificate, doors: Doors) -> DesiredCertificate:
    """Read the files of a ferried certificate into the wish; return others as they are.

    Raises `CertificateError` and `PlanRefused`.
    """
    if desired.files is None:
        return desired
    bundle = doors.source.read(desired.files)
    offered = bundle.certificate
    return replace(
        desired,
        names=offered.names,
        offered=offered,
        offered_fullchain=bundle.fullchain_digest,
        offered_issuer_end=bundle.issuer_not_after,
    )


def as_known(
    desired: DesiredCertificate, source: CertificateSource, state: StateStore, *, read: bool
) -> DesiredCertificate:
    """Fill in the names of a ferried certificate: those of its files where they are to be `read`
    and can be, else those that were taken from them before. Whatever is wrong with the files, a
    mistake of ours too, is told when it is the certificate's turn, and stops no other.
    """
    if desired.files is None:
        return desired
    versions = state.versions(desired.lineage)
    remembered = versions[0].certificate.names if versions else ()
    if remembered and not read:
        return replace(desired, names=remembered)
    try:
        return replace(desired, names=source.read(desired.files).certificate.names)
    except Exception:  # noqa: BLE001 - nothing is lost of it; see above
        return replace(desired, names=remembered)


def offered_first(versions: tuple[Version, ...], offered: Certificate) -> tuple[Version, ...]:
    """Put the version in force first: with files that went back to an older certificate, that is
    not the newest one.
    """
    wanted = offered.fingerprint
    return tuple(sorted(versions, key=lambda v: v.certificate.fingerprint != wanted))
