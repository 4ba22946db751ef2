"""Changes that a target does not end: when one is stuck, and what to write to its support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from certferry.core.observed import DomainState, ObservedDomain, Served, is_served
from certferry.errors import TargetStuck
from certferry.text import Text

_LAG = timedelta(minutes=1)
"""How far the clocks of a target and of this machine may be apart."""


def stuck_since(domain: ObservedDomain, now: datetime, timeout: timedelta) -> datetime | None:
    """Return since when a target has been at a change for longer than `timeout`, `None` while it is
    not. The target's own time counts or our record's, whichever is older.
    """
    if domain.state is not DomainState.PROCESSING:
        return None
    began = [moment for moment in _beginnings(domain) if moment <= now]
    since = min(began, default=now)
    return since if now - since >= timeout else None


def stuck_error(
    target: str,
    domain: ObservedDomain,
    since: datetime,
    now: datetime,
    *,
    served: Sequence[Served],
    fingerprint: str,
) -> TargetStuck:
    """Say that a change is stuck, and what visitors get meanwhile."""
    if is_served(tuple(served), fingerprint):
        message = Text(
            "{target} has not ended its change since {since}; every address serves the"
            " certificate already",
            target=target,
            since=since,
        )
    else:
        message = Text(
            "{target} has not ended its change since {since}; the certificate is not served"
            " everywhere",
            target=target,
            since=since,
        )
    return TargetStuck(
        message,
        hint=Text(
            "nothing is written to the domain until {target} has ended it: send the ticket to its"
            " support (`certferry status` shows it)",
            target=target,
        ),
        ticket=tuple(_ticket(domain, since, now, served, fingerprint)),
    )


def _beginnings(domain: ObservedDomain) -> Iterator[datetime]:
    last, told = domain.last, None if domain.task is None else domain.task.since
    is_ours = last is not None and last.verified_at is None and last.failed_at is None
    if last is None or not is_ours:
        if told is not None:
            yield told
        return
    yield last.asked_at
    # A time from before the target took our change belongs to a change before it.
    if told is not None and (last.accepted_at is None or told >= last.accepted_at - _LAG):
        yield told


def _ticket(
    domain: ObservedDomain,
    since: datetime,
    now: datetime,
    served: Sequence[Served],
    fingerprint: str,
) -> Iterator[Text]:
    """Write to the target's support, a line each. Nothing in it is secret."""
    yield Text(
        "Hello, a change of the HTTPS certificate of {domain} has not ended for {time}. Please look"
        " at its task and push it on, or tell us what keeps it.",
        domain=domain.domain,
        time=now - since,
    )
    yield Text("domain: {domain} ({kind})", domain=domain.domain, kind=domain.kind.value)
    yield Text("under way since: {since}; now: {now}", since=since, now=now)
    task, last = domain.task, domain.last
    if task is not None:
        yield Text(
            "state: {state}; operation: {operation}; task: {number}",
            state=task.state,
            operation=task.operation or "—",
            number=task.number or "—",
        )
    if last is not None and last.request_id is not None:
        yield Text("request: {id}, accepted at {moment}", id=last.request_id, moment=last.asked_at)
    yield Text("certificate that is bound: {id}", id=domain.bound or "—")
    yield from _edges(served, fingerprint)


def _edges(served: Sequence[Served], fingerprint: str) -> Iterator[Text]:
    answered = [address for address in served if address.answered]
    right = [a for a in answered if a.valid and a.fingerprint == fingerprint]
    if answered:
        yield Text(
            "addresses that serve the new certificate: {count} of {all}",
            count=len(right),
            all=len(answered),
        )
