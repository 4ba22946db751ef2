"""Which certificates and domains need a person first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from enum import IntEnum

from certferry.core.domain_status import DomainStatus, Standing
from certferry.core.reasons import ReasonCode
from certferry.core.status import Condition, LineageStatus, Remembering


class Need(IntEnum):
    """How much a row needs a person, the most first."""

    MEND = 0
    """It has failed, and the next run alone may not mend it."""
    SOON = 1
    """The next run changes it, or leaves it as it was found."""
    WAIT = 2
    """A change is under way."""
    NOTHING = 3


_NEEDS = {
    Standing.VERIFIED: Need.NOTHING,
    Standing.PROPAGATING: Need.WAIT,
    Standing.PROCESSING: Need.WAIT,
    Standing.BOUND: Need.WAIT,
    Standing.PENDING: Need.SOON,
    Standing.DRIFTED: Need.SOON,
    Standing.FAILED: Need.MEND,
    Standing.UNKNOWN: Need.MEND,
}

_CONDITIONS = {
    Condition.VALID: Need.NOTHING,
    Condition.NOT_NEEDED: Need.NOTHING,
    Condition.DUE: Need.SOON,
    Condition.MISSING: Need.MEND,
    Condition.EXPIRED: Need.MEND,
    Condition.UNREADABLE: Need.MEND,
}

_URGENT = frozenset({ReasonCode.OVERDUE, ReasonCode.REVOKED, ReasonCode.ISSUER_EXPIRED})
"""What another client should have renewed by now, no run of ours mends; what visitors' clients may
refuse already, must not wait for one.
"""

_LAST = datetime.max.replace(tzinfo=UTC)


def need_of_domain(domain: DomainStatus) -> Need:
    """Tell how much one domain needs a person."""
    if domain.last_failure is not None or domain.ticket:
        return Need.MEND
    return _NEEDS[domain.standing]


def need_of_certificate(status: LineageStatus) -> Need:
    """Tell how much one certificate needs a person, whatever its domains do."""
    is_urgent = status.reason is not None and status.reason.code in _URGENT
    if status.last_failure is not None or is_urgent:
        return Need.MEND
    return _CONDITIONS[status.condition]


def need_of(status: LineageStatus) -> Need:
    """Tell how much a certificate and its domains need a person."""
    return min((need_of_certificate(status), *map(need_of_domain, status.domains)))


def are_in_order(statuses: Iterable[LineageStatus], remembering: Remembering) -> bool:
    """Tell whether nothing needs a person, and the state can be used. What is on its way, or is for
    the next run to change, is in order; a file that declares nothing is not.
    """
    needs = [need_of(one) for one in statuses]
    return remembering.problem is None and bool(needs) and Need.MEND not in needs


def most_needed_first(statuses: Iterable[LineageStatus]) -> list[LineageStatus]:
    """Order certificates and the domains of each by need, then by what ends first. What is alike
    stays in the order of the file.
    """
    ordered = sorted(statuses, key=lambda one: (need_of(one), one.until or _LAST))
    return [replace(one, domains=tuple(sorted(one.domains, key=need_of_domain))) for one in ordered]
