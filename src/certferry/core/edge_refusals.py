"""Edges that refuse a new certificate: when that is enough to go back to the previous one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.desired import DesiredDeployment
from certferry.core.lineage import Version
from certferry.core.observed import DomainState, ObservedDomain, ObservedTarget, Served
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.rollout_record import RolloutRecord
from certferry.core.steps import Blocked, Rollback
from certferry.core.waiting import Waiting, wait_for
from certferry.text import Text

_REFUSED = Text("addresses refuse the new certificate, and worked before")

CONFIRMED_AFTER = timedelta(minutes=2)
"""How long edges must have refused a certificate before it is withdrawn: a node that restarts
refuses connections for a moment.
"""


def plan_rollback(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    record: RolloutRecord | None,
    previous: Version | None,
    now: datetime,
) -> Rollback | None:
    """Plan to withdraw a certificate that edges have refused for a while, where they worked with
    the one before, and there is a `previous` one to go back to.
    """
    if previous is None or record is None or not _can_be_bound(previous, target, now):
        return None
    served = target.served.get(domain.domain, ())
    confirmed = refusal_confirmed_at(record, domain, served, now)
    if confirmed is None or now < confirmed:
        return None
    sentence = Text(
        "{addresses} refused the new certificate since {since}, and worked before",
        addresses=[address.address for address in refusing_addresses(served)],
        since=record.refused_since,
    )
    return Rollback(
        deployment.target,
        domain.domain,
        Reason(ReasonCode.EDGES_REFUSE, sentence),
        record.fingerprint,
        previous.certificate.not_after,
        domain.kind,
    )


def _can_be_bound(previous: Version, target: ObservedTarget, now: datetime) -> bool:
    """Tell whether the target has the certificate, or would still take it."""
    certificate = previous.certificate
    is_there = target.remote_of(certificate.fingerprint) is not None
    return is_there or now <= target.rules.upload_deadline(certificate)


def refusal_confirmed_at(
    record: RolloutRecord, domain: ObservedDomain, served: Sequence[Served], now: datetime
) -> datetime | None:
    """Return when a refusal of the certificate has gone on for long enough, should it go on; `None`
    while the edges refuse nothing, or did before.
    """
    if not record.worked_before or not _is_refused(domain, served):
        return None
    return (record.refused_since or now) + CONFIRMED_AFTER


def until_confirmed(
    record: RolloutRecord,
    domain: ObservedDomain,
    served: Sequence[Served],
    failed: Blocked,
    now: datetime,
) -> Waiting | Blocked:
    """Look on, though the time is over, until a refusal is reason enough to go back: a change was
    slow, or a run was killed, and the edges are first looked at now.
    """
    end = refusal_confirmed_at(record, domain, served, now)
    if end is None or now >= end:
        return failed
    return wait_for(_REFUSED, end - CONFIRMED_AFTER, now, end)


def with_refusal(
    record: RolloutRecord, domain: ObservedDomain, served: Sequence[Served], now: datetime
) -> RolloutRecord:
    """Return a record that says since when addresses refuse the certificate. While the target is at
    a change, a refusal says nothing.
    """
    refuses = _is_refused(domain, served)
    if refuses == (record.refused_since is not None):
        return record
    return replace(record, refused_since=now if refuses else None)


def _is_refused(domain: ObservedDomain, served: Sequence[Served]) -> bool:
    return domain.state is DomainState.READY and bool(refusing_addresses(served))


def all_work(served: Sequence[Served]) -> bool:
    """Tell whether every address that is reached completes handshakes, and one is."""
    return any(address.fingerprint for address in served) and not refusing_addresses(served)


def refusing_addresses(served: Sequence[Served]) -> list[Served]:
    """Return the addresses that were reached and completed no handshake."""
    return [address for address in served if address.answered and address.fingerprint is None]
