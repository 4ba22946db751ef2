"""Going back to the previous certificate at one domain: what follows for the lineage, and what is
told of it. Which version a domain is to serve then: `lineage.version_for`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certferry.core.lineage import Version, version_for
from certferry.core.observed import Observation, ObservedDomain, ObservedTarget
from certferry.core.overdue import overdue_at
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.withdrawal import Withdrawal
from certferry.text import Text

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
