"""Going back to the previous certificate at one domain: what follows for the lineage, and what is
told of it. Which version a domain is to serve then: `lineage.version_for`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certferry.core.certificates.lineage import Version, Withdrawal, version_for
from certferry.core.certificates.renewal import overdue_at
from certferry.core.desired.certificate import DesiredDeployment
from certferry.core.observed.observation import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    Served,
)
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.steps import Blocked, Rollback
from certferry.core.reasons import Reason, ReasonCode
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


NEXT_TRY = timedelta(days=3)
"""How long after a certificate that was withdrawn the next one is issued, when the one that is
served nears its end: a CA issues five a week for the same names (Let's Encrypt's "Rate Limits").
"""

BACK = Reason(
    ReasonCode.ROLLED_BACK,
    Text("back to the previous certificate: the newer one was withdrawn here"),
)


def with_withdrawals(
    found: ObservedTarget, label: str, withdrawals: Iterable[Withdrawal]
) -> ObservedTarget:
    """Add to each domain of a target what was withdrawn from it."""
    withdrawn = defaultdict[str, set[str]](set)
    for one in withdrawals:
        if one.target == label:
            withdrawn[one.domain].add(one.fingerprint)
    domains = (
        replace(domain, withdrawn=frozenset(withdrawn[domain.domain])) for domain in found.domains
    )
    return replace(found, domains=tuple(domains))


def versions_after_rollbacks(observed: Observation, now: datetime) -> Iterator[Version]:
    """Return what is served where a certificate was withdrawn, and what would be after another
    rollback.
    """
    for target in observed.targets:
        for domain in target.domains:
            withdrawn = domain.withdrawn
            while withdrawn and (version := version_for(withdrawn, observed.versions, now)):
                yield version
                if version is not observed.current:
                    break
                withdrawn |= {version.certificate.fingerprint}


def must_outlive_rollback(observed: Observation, current: Version, now: datetime) -> Reason | None:
    """Where the certificate in force was withdrawn, the previous one is not near its end. It was
    due already when it was replaced, so that a new one every day would be the rule's only effect.
    """
    for domain in domains_rolled_back(observed):
        if now >= renewed_at(domain, observed, current, now):
            return Reason(
                ReasonCode.ROLLED_BACK,
                Text(
                    "{domain} went back to the previous certificate, which has to be renewed",
                    domain=domain.domain,
                ),
            )
    return None


def renewed_at(
    domain: ObservedDomain, observed: Observation, current: Version, now: datetime
) -> datetime:
    """Return from when a domain that went back needs a new certificate."""
    earliest = current.saved_at + NEXT_TRY
    version = version_for(domain.withdrawn, observed.versions, now)
    return earliest if version is None else max(earliest, overdue_at(version.certificate))


def domains_rolled_back(observed: Observation) -> Iterator[ObservedDomain]:
    """Return the domains at which the certificate in force was withdrawn."""
    current = observed.current
    if current is None:
        return
    for target in observed.targets:
        for domain in target.domains:
            if current.certificate.fingerprint in domain.withdrawn:
                yield domain


def in_words(previous: Version) -> Text:
    """Say that a domain serves its previous certificate on purpose."""
    return Text(
        "rolled back: the previous certificate is served, valid until {moment}; a newer one takes"
        " its place when it is renewed",
        moment=previous.certificate.not_after,
    )


def where_withdrawn(domain: ObservedDomain, observed: Observation) -> Text | None:
    """Say of a domain that it serves the previous certificate on purpose, `None` where it does
    not.
    """
    previous = previous_of(domain, observed)
    return None if previous is None else in_words(previous)


def previous_of(domain: ObservedDomain, observed: Observation) -> Version | None:
    """Return what was bound in the stead of the certificate in force, where that was withdrawn."""
    current, last = observed.current, domain.last
    if current is None or current.certificate.fingerprint not in domain.withdrawn:
        return None
    return None if last is None else observed.version(last.fingerprint)


def renewed_after_rollback(
    observed: Observation, current: Version, now: datetime
) -> datetime | None:
    """Return from when `must_outlive_rollback` asks for a new certificate, `None` where the one in
    force was withdrawn nowhere.
    """
    moments = (renewed_at(one, observed, current, now) for one in domains_rolled_back(observed))
    return min(moments, default=None)


def rolled_back(
    unchanged: Sequence[tuple[str, str]], observed: Observation
) -> Iterator[RolledBack]:
    """Say where the previous certificate is served on purpose; few domains were ever withdrawn."""
    for target in observed.targets:
        for domain in target.domains:
            if not domain.withdrawn or (target.label, domain.domain) not in unchanged:
                continue
            words = where_withdrawn(domain, observed)
            if words is not None:
                yield RolledBack(target.label, domain.domain, words)


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A domain that serves the previous certificate on purpose, in words."""

    target: str
    domain: str
    words: Text
