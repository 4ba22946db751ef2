"""Certificates that were made elsewhere: what their files hold becomes the wish."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.desired import DesiredCertificate
from certferry.core.lineage import Version
from certferry.reconcile.doors import Doors


def as_offered(desired: DesiredCertificate, doors: Doors) -> DesiredCertificate:
    """Read the files of a ferried certificate into the wish; others are given back as they are.

    Raises `CertificateError` and `PlanRefused`.
    """
    if desired.files is None:
        return desired
    offered = doors.source.read(desired.files).certificate
    return replace(desired, names=offered.names, offered=offered)


def offered_first(
    versions: tuple[Version, ...], desired: DesiredCertificate
) -> tuple[Version, ...]:
    """Put the version in force first: with files that went back to an older certificate, that is
    not the newest one.
    """
    if desired.offered is None:
        return versions
    wanted = desired.offered.fingerprint
    return tuple(sorted(versions, key=lambda v: v.certificate.fingerprint != wanted))
