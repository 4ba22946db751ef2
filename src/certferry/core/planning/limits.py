"""What keeps a run from trying: a CA's limits, and the pauses after a failure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.certificates.certificate import Certificate, same_names
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.names import base_name, registered_domain
from certferry.core.desired.certificate import Authority
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import Remembered
from certferry.errors import OrderPostponed, Retry
from certferry.text import Text

CLOCKS_APART = timedelta(minutes=1)
"""How far apart the clocks of hosts may be; a moment further ahead is of a wrong clock."""

_Held = tuple[datetime, Text]
"""Until when, and why."""

KEPT = timedelta(days=30)
"""How long what was spent is stored: longer than any CA's limit counts back."""

MOST_ORDERS = 1500
"""The most orders that a limit by account counts: that of Let's Encrypt's staging environment."""

LONGEST_HOLD = timedelta(days=7)
"""The longest that a CA may ask for: no limit counts further back."""

LONGEST_HOLD_FOR_ALL = timedelta(hours=3)
"""How long a refusal that names no name holds other certificates back. What Let's Encrypt counts by
account or address, it counts over three hours (docs/facts/letsencrypt.md §2).
"""


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most so many within any such time."""

    most: int
    within: timedelta


@dataclass(frozen=True, slots=True)
class Limits:
    """What a CA allows by account, registered domain, set of names, and name, at the least."""

    orders: Allowance
    domain: Allowance
    same_names: Allowance
    failed_proofs: Allowance


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """An order to be made: the CA counts one that `renews` by its names only, `exempt` nowhere."""

    names: tuple[str, ...]
    renews: bool = False
    exempt: bool = False


@dataclass(frozen=True, slots=True)
class PastOrder:
    """An order that was made, or was about to be, and may lead to a certificate."""

    names: tuple[str, ...]
    ordered_at: datetime
    renews: bool = False
    issued_at: datetime | None = None
    given_up: bool = False

    @property
    def counts_since(self) -> datetime | None:
        """When its certificate was issued, or may have been; `None` if there was none."""
        if self.issued_at is not None:
            return self.issued_at
        return None if self.given_up else self.ordered_at


@dataclass(frozen=True, slots=True)
class FailedProof:
    """A name whose proof the CA did not accept, and when."""

    name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """At `told_at` the CA asked to be left alone `until` then: for these names, or `for_all`."""

    names: tuple[str, ...]
    told_at: datetime
    until: datetime
    for_all: bool

    def end_for(self, names: tuple[str, ...]) -> datetime | None:
        """Return until when it holds back an order of these names."""
        if same_names(names, self.names):
            return self.until
        if self.for_all:
            return min(self.until, self.told_at + LONGEST_HOLD_FOR_ALL)
        return None


@dataclass(frozen=True, slots=True)
class Spent:
    """The stored orders, failed proofs and holds of a directory that count against an order."""

    orders: tuple[PastOrder, ...] = ()
    failed_proofs: tuple[FailedProof, ...] = ()
    holds: tuple[Hold, ...] = ()


def rate_limit_hold(
    limits: Limits | None,
    spent: Spent,
    wanted: PlannedOrder,
    now: datetime,
    *,
    going_on: bool = False,
) -> OrderPostponed | None:
    """Return why an order is not made now, and until when; `None` when it may be. Without `limits`,
    and once it is `going_on`, only what the CA asked for keeps it.
    """
    found = list(_holds(spent, wanted, now))
    if limits is not None and not wanted.exempt and not going_on:
        found += _exceeded(limits, spent, wanted, now)
    if not found:
        return None
    until, why = max(found, key=lambda one: one[0])
    return OrderPostponed(
        Text("nothing is ordered before {moment}: {why}", moment=until, why=why),
        hint=Text(
            "a run after that orders by itself; `certferry sync --rehearse` tries a configuration"
            " without counting"
        ),
        retry=Retry.at(until),
    )


def hold_of(
    words: str, names: tuple[str, ...], until: datetime, now: datetime, *, by_name: bool = True
) -> Hold:
    """Return what to store of a refusal: it is about these names where it says one of them."""
    said = words.lower()
    domains = {registered_domain(name) for name in names}
    about = {base_name(name) for name in names} | domains | {"exact set"}
    for_all = not (by_name and any(one in said for one in about))
    return Hold(names, now, min(max(until, now), now + LONGEST_HOLD), for_all)


def _holds(spent: Spent, wanted: PlannedOrder, now: datetime) -> Iterator[_Held]:
    for hold in spent.holds:
        until = hold.end_for(wanted.names)
        # An answer in the future was written by a clock that was ahead.
        if until is not None and hold.told_at <= now + CLOCKS_APART and now < until:
            yield until, Text("the CA asked to retry later")


def _exceeded(limits: Limits, spent: Spent, wanted: PlannedOrder, now: datetime) -> Iterator[_Held]:
    new = [order for order in spent.orders if not order.renews]
    if not wanted.renews:
        why = Text("{count} orders were made within {time}, as many as the CA allows")
        yield from _used_up(limits.orders, (order.ordered_at for order in new), now, why)
        why = Text(
            "{count} certificates for names of {domain} were issued within {time}, as many as"
            " the CA allows"
        )
        for domain in sorted({registered_domain(name) for name in wanted.names}):
            issued = _issued(one for one in new if domain in map(registered_domain, one.names))
            yield from _used_up(limits.domain, issued, now, why, domain=domain)
    why = Text(
        "{count} certificates for exactly these names were issued within {time}, as many as the CA"
        " allows"
    )
    same = _issued(order for order in spent.orders if same_names(order.names, wanted.names))
    yield from _used_up(limits.same_names, same, now, why)
    why = Text("the CA has refused the proof of {name} {count} times within {time}")
    for name in sorted({base_name(name) for name in wanted.names}):
        failed = (proof.at for proof in spent.failed_proofs if proof.name == name)
        yield from _used_up(limits.failed_proofs, failed, now, why, name=name)


def _issued(orders: Iterable[PastOrder]) -> Iterator[datetime]:
    return (order.counts_since for order in orders if order.counts_since is not None)


def _used_up(
    allowance: Allowance, moments: Iterable[datetime], now: datetime, why: Text, **named: str
) -> Iterator[_Held]:
    """Return when enough of an allowance is free again that is used up now."""
    # A moment in the future was written by a clock that was ahead.
    counted = sorted(m for m in moments if now - allowance.within < m <= now + CLOCKS_APART)
    if len(counted) >= allowance.most:
        said = why.filled(count=allowance.most, time=allowance.within, **named)
        yield counted[-allowance.most] + allowance.within, said


PAUSES = (timedelta(minutes=1), timedelta(minutes=10), timedelta(minutes=100), timedelta(days=1))

LONGEST_IN_A_RUN = PAUSES[-2]
"""What a run itself waits for, in order to try again."""

NEAR = timedelta(days=3)
"""Time before a certificate's end in which each run counts: a pause of a day may be the last."""

NEAR_THE_END = timedelta(hours=6)
"""The longest pause there: less than half a day, the tries of the run before included."""


def longest_pause(versions: Sequence[Version], now: datetime) -> timedelta:
    """Return the longest pause of a lineage with these versions, newest first."""
    # It is short where the newest ends soon, or the one before it, which may be served still.
    left = [version.certificate.remaining(now) for version in versions[:2]]
    is_near = any(one <= NEAR for one in left[:1]) or any(abs(one) <= NEAR for one in left[1:])
    return NEAR_THE_END if is_near else PAUSES[-1]


def pause_of(tries: int) -> timedelta:
    """Return the pause after so many tries that failed."""
    return PAUSES[min(max(tries, 1), len(PAUSES)) - 1]


def paused_until(
    last: datetime | None, tries: int, now: datetime, longest: timedelta = PAUSES[-1]
) -> datetime | None:
    """Return until when something is left alone, `None` when it may be tried."""
    if last is None or tries == 0 or last > now:
        return None
    until = last + min(pause_of(tries), longest)
    return until if now < until else None


def pause_end(remembered: Remembered, now: datetime) -> datetime | None:
    """Return when the first of a lineage's pauses ends; `None` without a pause."""
    issue = paused_until(remembered.issue_tried_at, remembered.issue_tries, now)
    rollouts = (
        paused_until(record.failed_at or record.accepted_at, record.tries, now)
        for record in remembered.rollouts
        if record.verified_at is None
    )
    return min((end for end in (issue, *rollouts) if end is not None), default=None)


LAST_SHARE = 6
"""In the last sixth of its life, half of the time for a renewal has been lost."""

WITHOUT_ANY = timedelta(days=1)
"""How long a CA must have failed before a first certificate is ordered elsewhere."""

PASSING = timedelta(hours=1)
"""An error that has lasted for less may pass, however near the deadline is."""


def authorities_now(
    authorities: tuple[Authority, ...], observed: Observation, now: datetime
) -> tuple[Authority, ...]:
    """Return the CAs of a list that may be asked now: the first, or all in this order."""
    current, since = of_use(observed), observed.remembered.failing_since
    # A failure in the future was written by a clock that was ahead.
    if since is None or since > now:
        return authorities[:1]
    if current is None:
        may_fall_back = now >= since + WITHOUT_ANY
    else:
        may_fall_back = _is_near(current, now) and now >= since + PASSING
    return authorities if may_fall_back else authorities[:1]


def of_use(observed: Observation) -> Certificate | None:
    """Return the certificate in force, unless it was revoked."""
    current = observed.current
    return None if current is None or current.revocation is not None else current.certificate


def may_pass_over(current: Certificate | None, held_until: datetime, now: datetime) -> bool:
    """Return whether a CA that is not asked before a moment may be passed over by now."""
    if current is None:
        return held_until > now + WITHOUT_ANY
    return _is_near(current, now) and held_until > now + PASSING


def _is_near(current: Certificate, now: datetime) -> bool:
    return current.remaining(now) <= current.lifetime / LAST_SHARE


def in_order(authorities: tuple[Authority, ...], in_progress: str | None) -> tuple[Authority, ...]:
    """Return the CAs as they are asked: first the one with an order in progress."""
    return tuple(sorted(authorities, key=lambda one: one.directory != in_progress))
