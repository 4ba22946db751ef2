"""What is told of domains that went back to the previous certificate, and when a new one comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from certferry.core.lineage import Version
from certferry.core.observed import Observation, ObservedDomain
from certferry.core.plan import RolledBack
from certferry.core.rollbacks import domains_rolled_back, renewed_at
from certferry.text import Text


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
    current, last = observed.current, domain.last
    if current is None or current.certificate.fingerprint not in domain.withdrawn:
        return None
    previous = None if last is None else observed.version(last.fingerprint)
    return None if previous is None else in_words(previous)


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
