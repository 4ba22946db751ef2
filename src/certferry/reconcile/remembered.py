"""What the state remembers of a place and nobody can see there: what it was sent, and whether that
went well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from certferry.core.desired import CommandDelivery, DesiredCertificate, HttpsWish
from certferry.core.due import LAG
from certferry.core.hidden_binding import LastChange, likely_binding
from certferry.core.lineage import Version
from certferry.core.observed import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
)
from certferry.core.plan import Plan
from certferry.core.rollout import RolloutRecord
from certferry.ports.receiver import Delivered
from certferry.reconcile.doors import Doors


def with_what_was_sent(
    found: ObservedTarget, lineage: str, target: str, doors: Doors
) -> ObservedTarget:
    """Add what is remembered of each domain, and the settings that it was last sent."""
    records = {r.domain: r for r in doors.state.rollouts(lineage) if r.target == target}
    domains = (
        replace(d, sent=_sent(d, records.get(d.domain)), last=records.get(d.domain))
        for d in found.domains
    )
    return replace(found, domains=tuple(domains))


def _sent(domain: ObservedDomain, record: RolloutRecord | None) -> HttpsWish | None:
    """Give what was sent, unless it is that change which has failed."""
    if record is None or (domain.state is DomainState.FAILED and not _has_succeeded(record)):
        return None
    return record.sent


def _has_succeeded(record: RolloutRecord) -> bool:
    # What was seen at once may have been what was there before the change.
    return record.verified_at is not None and record.verified_at - record.asked_at >= LAG


def with_remembered_remotes(
    found: ObservedTarget,
    lineage: str,
    target: str,
    versions: tuple[Version, ...],
    doors: Doors,
) -> ObservedTarget:
    """Add our copies as the state knows them, where the target could not list its certificates."""
    if not found.remotes_hidden:
        return found
    ends = {v.certificate.fingerprint: v.certificate.not_after for v in versions}
    remotes = tuple(
        RemoteCertificate(u.remote_id, u.label, u.fingerprint, ends[u.fingerprint])
        for u in doors.state.uploads(lineage, target)
        if u.fingerprint in ends
    )
    return replace(found, remotes=remotes)


def with_likely_bindings(found: ObservedTarget, doors: Doors) -> ObservedTarget:
    """Add what is probably bound, where the target does not tell."""
    if not any(domain.binding_hidden for domain in found.domains):
        return found
    domains = (
        replace(domain, bound=_likely_binding(domain, found, doors))
        if domain.binding_hidden
        else domain
        for domain in found.domains
    )
    return replace(found, domains=tuple(domains))


def _likely_binding(domain: ObservedDomain, found: ObservedTarget, doors: Doors) -> str | None:
    record = domain.last
    last = None
    if record is not None and (record.accepted_at or record.verified_at):
        was_seen = record.verified_at is not None
        last = LastChange(record.fingerprint, record.asked_at, was_seen=was_seen)
    served = found.served.get(domain.domain, ())
    return likely_binding(found.remotes, served, last, doors.now(), doors.verify_timeout)


def as_delivered(last: RolloutRecord | None) -> Delivered | None:
    """Give what was last delivered to a receiver, when that ended well."""
    if last is None or last.verified_at is None:
        return None
    return Delivered(last.fingerprint, last.fullchain_digest, last.program_digest)


def keep_programs(desired: DesiredCertificate, plan: Plan, doors: Doors) -> None:
    """Write down which programs the commands in order were run with, where nobody knows that:
    those that are declared now. From here on, an edited one is told from them.
    """
    for record in _without_program(desired, plan, doors):
        doors.state.save_rollout(record)


def lacks_programs(desired: DesiredCertificate, plan: Plan, doors: Doors) -> bool:
    """Tell whether `keep_programs` has something to write down."""
    return any(_without_program(desired, plan, doors))


def _without_program(
    desired: DesiredCertificate, plan: Plan, doors: Doors
) -> Iterator[RolloutRecord]:
    """Give the records of commands that lack their program, completed."""
    for deployment in desired.deployments:
        delivery = deployment.delivery
        if not isinstance(delivery, CommandDelivery):
            continue
        if (deployment.target, delivery.label) not in plan.unchanged:
            continue
        record = doors.state.rollout(desired.lineage, deployment.target, delivery.label)
        if record is not None and record.program_digest is None:
            yield replace(record, program_digest=delivery.program.digest)
