"""What keeps a run from trying: a CA's limits, counted before it is asked, and the pauses after a
failure; and when another CA is asked instead.
"""

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
from certferry.errors import OrderHeldBack, Retry
from certferry.text import Text

CLOCKS_APART = timedelta(minutes=1)
"""What the clocks of hosts that share a state may differ by. A moment further ahead was written by
a clock that was wrong.
"""

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
    """What a CA allows: orders by account; certificates by registered domain, and by exact set of
    names; proofs that fail, by name. A CA that refills such a budget bit by bit allows more than
    this, and never less.
    """

    orders: Allowance
    domain: Allowance
    same_names: Allowance
    failed_proofs: Allowance


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """An order that is to be made. `renews`: the lineage has had a certificate for exactly these
    names, so the CA counts it by these names only. `exempt`: the CA counts it nowhere.
    """

    names: tuple[str, ...]
    renews: bool = False
    exempt: bool = False


@dataclass(frozen=True, slots=True)
class PastOrder:
    """An order that was made, or was about to be: a run that is killed in between has counted it.
    One without `issued_at` that is not `given_up` may still lead to a certificate.
    """

    names: tuple[str, ...]
    ordered_at: datetime
    renews: bool = False
    issued_at: datetime | None = None
    given_up: bool = False

    @property
    def counts_since(self) -> datetime | None:
        """When its certificate was issued, or may have been; `None` where there is none."""
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
    """The CA asked at `told_at` to be left alone `until` then, when these names were ordered. It
    concerns other names too where it is `for_all`.
    """

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
    """What is remembered of one directory. Where a renewal is wanted, only the orders of its very
    names need be there; where a new order is, also the last `MOST_ORDERS` that renew nothing, and
    earlier ones of these with names of its registered domains.
    """

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
) -> OrderHeldBack | None:
    """Return why an order is not made now, and until when; `None` when it may be. Without `limits`,
    and once it is `going_on`, only what the CA asked for keeps it.
    """
    found = list(_holds(spent, wanted, now))
    if limits is not None and not wanted.exempt and not going_on:
        found += _exceeded(limits, spent, wanted, now)
    if not found:
        return None
    until, why = max(found, key=lambda one: one[0])
    return OrderHeldBack(
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
    """Return what to store of a refusal with these words. It is about these names where it may be
    `by_name` and says one of them, a domain of theirs, or "exact set", as Let's Encrypt does.
    """
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
        why = Text(
            "{count} orders were made within {time}, as many as the CA allows",
            count=limits.orders.most,
            time=limits.orders.within,
        )
        yield from _used_up(limits.orders, (order.ordered_at for order in new), now, why)
        for domain in sorted({registered_domain(name) for name in wanted.names}):
            why = Text(
                "{count} certificates for names of {domain} were issued within {time}, as many as"
                " the CA allows",
                count=limits.domain.most,
                time=limits.domain.within,
                domain=domain,
            )
            issued = _issued(one for one in new if domain in map(registered_domain, one.names))
            yield from _used_up(limits.domain, issued, now, why)
    why = Text(
        "{count} certificates for exactly these names were issued within {time}, as many as the CA"
        " allows",
        count=limits.same_names.most,
        time=limits.same_names.within,
    )
    same = _issued(order for order in spent.orders if same_names(order.names, wanted.names))
    yield from _used_up(limits.same_names, same, now, why)
    for name in sorted({base_name(name) for name in wanted.names}):
        why = Text(
            "the CA has refused the proof of {name} {count} times within {time}",
            name=name,
            count=limits.failed_proofs.most,
            time=limits.failed_proofs.within,
        )
        failed = (proof.at for proof in spent.failed_proofs if proof.name == name)
        yield from _used_up(limits.failed_proofs, failed, now, why)


def _issued(orders: Iterable[PastOrder]) -> Iterator[datetime]:
    return (order.counts_since for order in orders if order.counts_since is not None)


def _used_up(
    allowance: Allowance, moments: Iterable[datetime], now: datetime, why: Text
) -> Iterator[_Held]:
    """Return when enough of an allowance is free again that is used up now."""
    # A moment in the future was written by a clock that was ahead.
    counted = sorted(m for m in moments if now - allowance.within < m <= now + CLOCKS_APART)
    if len(counted) >= allowance.most:
        yield counted[-allowance.most] + allowance.within, why


PAUSES = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(minutes=100),
    timedelta(days=1),
)


LONGEST_IN_A_RUN = PAUSES[-2]
"""What a run itself waits for, in order to try again."""


NEAR = timedelta(days=3)
"""The time before the end of a certificate in which every scheduled run counts: for one that is
valid for six days, a pause of a day may be the last."""

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
    """Return when the first of a lineage's pauses ends, `None` where there is none."""
    issue = paused_until(remembered.issue_tried_at, remembered.issue_tries, now)
    rollouts = (
        paused_until(record.failed_at or record.accepted_at, record.tries, now)
        for record in remembered.rollouts
        if record.verified_at is None
    )
    return min((end for end in (issue, *rollouts) if end is not None), default=None)


LAST_SHARE = 6
"""In the last sixth of its life a certificate has failed to be renewed for half of the time that a
renewal has, and half is left to try elsewhere."""

WITHOUT_ANY = timedelta(days=1)
"""How long a CA must have failed before a first certificate is ordered elsewhere."""

PASSING = timedelta(hours=1)
"""An error that has lasted for less may pass, however near the deadline is."""


def authorities_now(
    authorities: tuple[Authority, ...], observed: Observation, now: datetime
) -> tuple[Authority, ...]:
    """Return the CAs of a list that may be asked now: the first, or all in this order."""
    if may_fall_back(of_use(observed), observed.remembered.failing_since, now):
        return authorities
    return authorities[:1]


def of_use(observed: Observation) -> Certificate | None:
    """Return the certificate in force, unless it was revoked."""
    current = observed.current
    return None if current is None or current.revocation is not None else current.certificate


def may_fall_back(
    current: Certificate | None, failing_since: datetime | None, now: datetime
) -> bool:
    """Return whether other CAs may be asked. `current` is the certificate in force, if it is of any
    use; `failing_since` is when a CA first failed since one came.
    """
    # A failure in the future was written by a clock that was ahead.
    if failing_since is None or failing_since > now:
        return False
    if current is None:
        return now >= failing_since + WITHOUT_ANY
    return _is_near(current, now) and now >= failing_since + PASSING


def may_pass_over(current: Certificate | None, held_until: datetime, now: datetime) -> bool:
    """Return whether a CA that is not asked before a moment may be passed over: near the deadline,
    or without a `current` certificate of use, if that is later than an error would pass.
    """
    if current is None:
        return held_until > now + WITHOUT_ANY
    return _is_near(current, now) and held_until > now + PASSING


def _is_near(current: Certificate, now: datetime) -> bool:
    return current.remaining(now) <= current.lifetime / LAST_SHARE


def in_order(authorities: tuple[Authority, ...], in_progress: str | None) -> tuple[Authority, ...]:
    """Return the CAs as they are asked: first the one with an order in progress, so that a killed
    run is not followed by a second certificate.
    """
    return tuple(sorted(authorities, key=lambda one: one.directory != in_progress))
