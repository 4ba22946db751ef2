"""What was changed at a domain outside certferry since it was seen as declared, and when two tools
fight over one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from certferry.core.change import Change
from certferry.core.desired import DesiredDeployment, HttpsWish
from certferry.core.https_changes import as_wished, setting_changes
from certferry.core.lineage import Version
from certferry.core.observed import ObservedDomain, ObservedTarget
from certferry.core.policies import DriftPolicy
from certferry.core.rollout_record import RolloutRecord


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs at a domain that was as declared: the certificate, or other settings."""

    certificate: bool = False
    settings: tuple[Change, ...] = ()

    def without(self, wish: HttpsWish) -> HttpsWish:
        """Return a wish that leaves the settings that drifted as they are."""
        return replace(wish, **dict.fromkeys((change.what for change in self.settings), None))


def drift_of(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    wanted: Version | None,
) -> Drift | None:
    """Compare a domain with what was last seen in order there; `None` where it has not drifted. A
    change that was never seen in force, and one of the file, are none: they are for a rollout.
    """
    last = domain.last
    if last is None or domain.kind.is_receiver or domain.binding_hidden:
        return None
    expected = {last.fingerprint, None if wanted is None else wanted.certificate.fingerprint}
    if _was_ours(last) and target.fingerprint_of(domain.bound) not in expected - {None}:
        return Drift(certificate=True)
    settings = tuple(
        change
        for change in setting_changes(deployment.https, domain)
        if as_wished(change.what, deployment.https, last.sent)
    )
    # Until the certificate is seen, only what was left when it was bound is known to be drift.
    is_known = last.verified_at is not None or last.drift == in_one_line(settings)
    return Drift(settings=settings) if settings and is_known else None


def _was_ours(last: RolloutRecord) -> bool:
    """Tell whether the domain was as declared, or a repair has set out to make it so, or is to."""
    is_to_be_repaired = last.drift is not None and last.accepted_at is None
    return last.verified_at is not None or bool(last.repairs) or is_to_be_repaired


def in_one_line(changes: Iterable[Change]) -> str:
    """Write changes for the record: the same drift is told once."""
    return ", ".join(f"{change.what}: {change.was}" for change in changes)


@dataclass(frozen=True, slots=True)
class Drifted:
    """A domain that was changed outside certferry, and that is left like that (`policy`)."""

    target: str
    domain: str
    policy: DriftPolicy
    changes: tuple[Change, ...]
