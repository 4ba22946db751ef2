"""Limits on orders and tries: a CA's rate limits, pauses after failures, and the choice of a CA."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.certificates.certificate import Certificate, same_names
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.names import base_name, registered_domain
from certferry.core.desired.certificate import Authority
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import Remembered
from certferry.errors import CertificateRejected, OrderPostponed, Retry
from certferry.text import LINEAGE, Text

CLOCKS_APART = timedelta(minutes=1)
"""The largest expected difference between hosts' clocks. A stored moment further in the future is
wrong and does not count.
"""

_Held = tuple[datetime, Text]
"""The end of a wait, and the reason."""

KEPT = timedelta(days=30)
"""How long orders and failed proofs are stored: longer than any CA's limit counts back."""

MOST_ORDERS = 1500
"""The most orders that any known CA allows an account: the limit of Let's Encrypt's staging
environment.
"""

LONGEST_HOLD = timedelta(days=7)
"""The longest wait that certferry accepts from a CA. No limit of a CA counts further back."""

LONGEST_HOLD_FOR_ALL = timedelta(hours=3)
"""The longest time for which a refusal that mentions no name holds back orders for other names.
Let's Encrypt counts by account and by address over three hours (docs/facts/letsencrypt.md §2).
"""


class Allowance(Struct, frozen=True):
    """A limit: at most `most` events within any period of the length `within`."""

    most: int  #: The number of events.
    within: timedelta  #: The length of the period.


class Limits(Struct, frozen=True):
    """The known limits of a CA, for each account."""

    orders: Allowance  #: New orders of an account.
    domain: Allowance  #: Certificates for names of a registered domain.
    same_names: Allowance  #: Certificates for exactly the same names.
    failed_proofs: Allowance  #: Refused proofs of a name.


class PlannedOrder(Struct, frozen=True):
    """An order to be made."""

    names: tuple[str, ...]  #: The names to order.
    #: Whether the CA counts the order only under `Limits.same_names` and `Limits.failed_proofs`.
    renews: bool = False
    exempt: bool = False  #: Whether the CA counts the order under no limit.


class PastOrder(Struct, frozen=True):
    """An order as stored. The order is stored just before the order is made."""

    names: tuple[str, ...]  #: The ordered names.
    ordered_at: datetime  #: When the order was stored.
    renews: bool = False  #: See `PlannedOrder.renews`.
    issued_at: datetime | None = None  #: When the certificate came, if known.
    given_up: bool = False  #: Whether the order was abandoned without a certificate.

    @property
    def counts_since(self) -> datetime | None:
        """When the certificate was issued or may have been issued; `None` without a certificate."""
        if self.issued_at is not None:
            return self.issued_at
        return None if self.given_up else self.ordered_at


class FailedProof(Struct, frozen=True):
    """A CA's refusal of the proof for a name, with the moment."""

    name: str  #: The name without `*.`.
    at: datetime  #: The moment of the refusal.


class Hold(Struct, frozen=True):
    """A CA's request to wait."""

    names: tuple[str, ...]  #: The names of the refused order.
    told_at: datetime  #: When the CA answered.
    until: datetime  #: The end of the wait for the names of the refused order.
    for_all: bool  #: Whether the request concerns orders for other names, too.

    def end_for(self, names: tuple[str, ...]) -> datetime | None:
        """Return when this request stops holding back an order of these names; `None` if the
        request does not concern the names.
        """
        if same_names(names, self.names):
            return self.until
        if self.for_all:
            return min(self.until, self.told_at + LONGEST_HOLD_FOR_ALL)
        return None


class Spent(Struct, frozen=True):
    """The stored events at one CA that may hold an order back."""

    orders: tuple[PastOrder, ...] = ()  #: Earlier orders.
    failed_proofs: tuple[FailedProof, ...] = ()  #: Refused proofs.
    holds: tuple[Hold, ...] = ()  #: The CA's requests to wait.


def rate_limit_hold(
    limits: Limits | None,
    spent: Spent,
    wanted: PlannedOrder,
    now: datetime,
    *,
    going_on: bool = False,
) -> OrderPostponed | None:
    """Return why an order must wait, and until when; `None` if the order may be made now.

    The CA's own requests to wait always count. The `limits` do not count if the limits are unknown
    (`None`), if the order is exempt, or if the order is already in progress (`going_on`).
    """
    holds = list(_holds(spent, wanted, now))
    if limits is not None and not wanted.exempt and not going_on:
        holds += _exceeded(limits, spent, wanted, now)
    if not holds:
        return None
    until, why = max(holds, key=lambda hold: hold[0])
    return OrderPostponed(
        Text("certferry orders nothing before {moment}: {why}", moment=until, why=why),
        hint=Text(
            "a later run orders again; `certferry sync --rehearse` tries a configuration"
            " without counting"
        ),
        retry=Retry.at(until),
    )


def hold_of(
    words: str, names: tuple[str, ...], until: datetime, now: datetime, *, by_name: bool = True
) -> Hold:
    """Return the hold to store after a refusal in these `words`, at most `LONGEST_HOLD` long.

    The hold concerns only orders for `names` if the words mention a name, a registered domain or
    an "exact set", and `by_name` is true. Otherwise the hold concerns all orders.
    """
    refusal = words.lower()
    domains = {registered_domain(name) for name in names}
    about = {base_name(name) for name in names} | domains | {"exact set"}
    for_all = not (by_name and any(word in refusal for word in about))
    return Hold(names, now, min(max(until, now), now + LONGEST_HOLD), for_all)


def _holds(spent: Spent, wanted: PlannedOrder, now: datetime) -> Iterator[_Held]:
    for hold in spent.holds:
        until = hold.end_for(wanted.names)
        # A request in the future comes from a clock that was ahead, and does not count.
        if until is not None and hold.told_at <= now + CLOCKS_APART and now < until:
            yield until, Text("the CA asked certferry to retry later")


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
            issued = _issued(
                order for order in new if domain in map(registered_domain, order.names)
            )
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
    """Yield when a used-up allowance permits the next event, with the reason; nothing if the
    allowance is not used up.
    """
    # A moment in the future came from a clock running ahead.
    counted = sorted(m for m in moments if now - allowance.within < m <= now + CLOCKS_APART)
    if len(counted) >= allowance.most:
        sentence = why.filled(count=allowance.most, time=allowance.within, **named)
        yield counted[-allowance.most] + allowance.within, sentence


PAUSES = (timedelta(minutes=1), timedelta(minutes=10), timedelta(minutes=100), timedelta(days=1))
"""The pauses after the first, second, third and every further failure."""

LONGEST_IN_A_RUN = PAUSES[-2]
"""The longest pause that a run waits for in order to try again."""

NEAR = timedelta(days=3)
"""The time before a certificate's end in which pauses are at most `NEAR_THE_END`. After a pause of
a day the certificate might have expired.
"""

NEAR_THE_END = timedelta(hours=6)
"""The longest pause while a certificate has at most `NEAR` left. The pauses of 1, 10 and 100
minutes and this pause together are shorter than half a day, so the next scheduled run tries again.
"""


def longest_pause(versions: Sequence[Version], now: datetime) -> timedelta:
    """Return the longest pause of a lineage with these versions, newest first.

    This is `NEAR_THE_END` if the newest version ends within `NEAR` or has ended. Domains may still
    serve the version before, so this is also `NEAR_THE_END` within `NEAR` before and after the end
    of the version before. Otherwise this is the longest of `PAUSES`.
    """
    left = [version.certificate.remaining(now) for version in versions[:2]]
    is_near = any(time <= NEAR for time in left[:1]) or any(abs(time) <= NEAR for time in left[1:])
    return NEAR_THE_END if is_near else PAUSES[-1]


def pause_of(tries: int) -> timedelta:
    """Return the pause after a number of failed tries; zero counts as one."""
    return PAUSES[min(max(tries, 1), len(PAUSES)) - 1]


def paused_until(
    last: datetime | None, tries: int, now: datetime, longest: timedelta = PAUSES[-1]
) -> datetime | None:
    """Return the end of the pause after the `last` of a number of failed `tries`; `None` if a try
    is allowed now. A `last` try in the future came from a wrong clock and causes no pause.
    """
    if last is None or tries == 0 or last > now:
        return None
    until = last + min(pause_of(tries), longest)
    return until if now < until else None


def pause_end(remembered: Remembered, now: datetime) -> datetime | None:
    """Return the end of the lineage's first pause to end, among the pauses of the order and of the
    domains; `None` without a pause.
    """
    issue = paused_until(remembered.issue_tried_at, remembered.issue_tries, now)
    rollouts = (
        paused_until(record.failed_at or record.accepted_at, record.tries, now)
        for record in remembered.rollouts
        if record.verified_at is None
    )
    return min((end for end in (issue, *rollouts) if end is not None), default=None)


ANEW_AFTER = timedelta(days=1)
"""How long certferry orders nothing after a CA issued another certificate than ordered. The CA
counts the rejected certificate as issued: Let's Encrypt allows five of the same names in a week.
"""


def rejection_pause(rejected_at: datetime, now: datetime) -> CertificateRejected | None:
    """Return why nothing is ordered in the pause after a rejected certificate; `None` outside the
    pause.
    """
    # A moment in the future came from a clock running ahead.
    if not rejected_at <= now < rejected_at + ANEW_AFTER:
        return None
    return CertificateRejected(
        Text(
            "certferry orders nothing before {moment}: at {past} the CA issued a certificate that"
            " was not ordered",
            moment=rejected_at + ANEW_AFTER,
            past=rejected_at,
        ),
        hint=Text(
            "`certferry history {lineage}` shows the fault; `certferry sync --renew {lineage}`"
            " orders now",
            lineage=LINEAGE,
        ),
        retry=Retry.at(rejected_at + ANEW_AFTER),
    )


LAST_SHARE = 6
"""Another CA may be asked in the last sixth of a certificate's life, when half of the time for a
renewal is over.
"""

WITHOUT_ANY = timedelta(days=1)
"""How long a CA must have failed before another CA is asked for a first certificate."""

PASSING = timedelta(hours=1)
"""How long a CA must have failed, or must hold the order, before another CA is asked near the end
of a certificate. An error of less than an hour often goes away by itself.
"""


def authorities_now(
    authorities: tuple[Authority, ...], observed: Observation, now: datetime
) -> tuple[Authority, ...]:
    """Return the CAs to ask now, in order: only the first, or all if orders have failed long enough
    because of a CA.

    Without a certificate in force, or with a revoked certificate, a day is long enough. In the last
    sixth of the certificate's life, an hour is long enough. Earlier in the life, only the first CA
    is asked.
    """
    current, since = of_use(observed), observed.remembered.failing_since
    # A failure in the future came from a clock running ahead.
    if since is None or since > now:
        return authorities[:1]
    if current is None:
        may_fall_back = now >= since + WITHOUT_ANY
    else:
        may_fall_back = _is_near(current, now) and now >= since + PASSING
    return authorities if may_fall_back else authorities[:1]


def of_use(observed: Observation) -> Certificate | None:
    """Return the certificate in force; `None` without a certificate, and after a revocation."""
    current = observed.current
    return None if current is None or current.revocation is not None else current.certificate


def may_pass_over(current: Certificate | None, held_until: datetime, now: datetime) -> bool:
    """Return whether the next CA may be asked now, because this CA must not be asked before
    `held_until`.

    Without a `current` certificate, `held_until` must be more than a day away. In the last sixth of
    the certificate's life, `held_until` must be more than an hour away. Earlier in the life, return
    false.
    """
    if current is None:
        return held_until > now + WITHOUT_ANY
    return _is_near(current, now) and held_until > now + PASSING


def _is_near(current: Certificate, now: datetime) -> bool:
    return current.remaining(now) <= current.lifetime / LAST_SHARE


def in_order(authorities: tuple[Authority, ...], in_progress: str | None) -> tuple[Authority, ...]:
    """Return the CAs in the order of asking: first the CA with the order in progress, by the URL of
    the directory.
    """
    return tuple(sorted(authorities, key=lambda authority: authority.directory != in_progress))
