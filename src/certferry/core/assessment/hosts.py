"""Problems of hosts that share a state: a wrong clock, two machines with one name, a host without
runs.

Each host judges its own name, the clock of every host, and whether the other hosts run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.assessment.notices import Notice, Notices, Subject, Topic
from certferry.core.findings import Code
from certferry.core.network import REFUSED
from certferry.core.observed.records import HostRecord, HostWork
from certferry.errors import Problem, Severity
from certferry.text import Text

AWAY = timedelta(hours=26)
"""How long after a host's last run (of two a day) the other hosts report the host as away and share
the host's work.
"""

_AWAY = "host_away"

CLOCKS_APART = timedelta(minutes=1)
"""A host's clock is reported if the clock is wrong by more than this."""


def of_this_host(
    host: str, now: datetime, ahead: timedelta, other_machine_seen_at: datetime | None
) -> Iterator[Problem]:
    """Yield the problems of this host: a clock that is `ahead` of the state's clock (which says
    `now`), and another machine that ran under the host's name at `other_machine_seen_at`.
    """
    yield from _of_clock(host, now, ahead)
    if other_machine_seen_at is not None and now - other_machine_seen_at <= AWAY:
        message = Text(
            "another machine ran as host {host} at {moment}; the state treats both as one host",
            host=host,
            moment=other_machine_seen_at,
        )
        hint = Text(
            'give each a name under [state], for example host = "{host}-2"; ignore this if one'
            " machine replaced the other",
            host=host,
        )
        yield Problem(Code.HOST_NAME_TWICE, message, hint, Severity.WARNING, host)


def _of_clock(host: str, at: datetime, ahead: timedelta) -> Iterator[Problem]:
    if abs(ahead) > CLOCKS_APART:
        severity = Severity.ERROR if abs(ahead) > REFUSED else Severity.WARNING
        message = Text(
            "the clock of {host} says {machine}, the clock of the database {shared}",
            host=host,
            machine=at + ahead,
            shared=at,
        )
        hint = Text(
            "set the host's clock (`timedatectl set-ntp true`): the state uses the database's"
            " clock, but signatures of requests and TLS use the host's"
        )
        yield Problem(Code.CLOCK_OFF, message, hint, severity, host)


def away_since(host: HostRecord, now: datetime) -> datetime | None:
    """Return when a host began to count as away: `AWAY` after the end of the host's last run.
    Return `None` if the host is not away.

    The beginning of a run counts if the run is in progress, or if no run of the host has ended. A
    host that has never begun a run is never away, because the host has no schedule to miss.
    """
    ended = host.seen_at if host.last_run is None else host.last_run.ended_at
    last = max(filter(None, (ended, host.running_since)), default=None)
    return None if last is None or now - last <= AWAY else last + AWAY


class HostStanding(Struct, frozen=True):
    """A host with its problems, as judged by this host."""

    record: HostRecord  #: The state's record of the host.
    problems: tuple[Problem, ...]  #: The host's problems.
    work: HostWork  #: The host's lineages.
    #: Whether the host is this host.
    is_this: bool = False


def standings_of(
    hosts: Iterable[HostRecord],
    this: str,
    of_this: Iterable[Problem],
    now: datetime,
    work: Mapping[str, HostWork],
) -> tuple[HostStanding, ...]:
    """Return the standing of every host; `of_this` are the problems of this host."""
    own, none = tuple(of_this), HostWork()
    return tuple(
        HostStanding(
            host,
            own if host.name == this else tuple(_of_another(host, now)),
            work.get(host.name, none),
            is_this=host.name == this,
        )
        for host in hosts
    )


def _of_another(host: HostRecord, now: datetime) -> Iterator[Problem]:
    if (since := away_since(host, now)) is not None:
        yield _away(host, since)
    yield from _of_clock(host.name, host.seen_at or now, host.clock_ahead or timedelta(0))


def with_away(before: Iterable[Notice], others: Iterable[HostRecord], now: datetime) -> Notices:
    """Return the notices of `before`, with new notices about absence: a notice for each of the
    `others` that is away now.
    """
    away = ((host, since) for host in others if (since := away_since(host, now)) is not None)
    return (
        *(notice for notice in before if notice.problem.code != _AWAY),
        *(
            Notice(Topic.TROUBLE, Subject(host=host.name), since, _away(host, since))
            for host, since in away
        ),
    )


def _away(host: HostRecord, since: datetime) -> Problem:
    message = Text("the host has not run since {moment}", moment=since - AWAY)
    hint = Text(
        "check with `certferry schedule show` on the host whether the system starts the runs; if"
        " the host is gone: `certferry hosts forget {host}`",
        host=host.name,
    )
    return Problem(_AWAY, message, hint)
