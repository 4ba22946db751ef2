"""What is wrong with the hosts that share a state: a clock, a name, one that stays away.

A host judges its own name and clock, and whether the others run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.assessment.notices import Notice, Notices, Subject, Topic
from certferry.core.findings import Code
from certferry.core.network import REFUSED
from certferry.core.observed.records import HostRecord, HostWork
from certferry.errors import Problem, Severity
from certferry.text import Text

AWAY = timedelta(hours=26)
"""How long ago the last run of a host may have ended, of two a day, before the others report it and
divide its share of the work.
"""

_AWAY = "host_away"

CLOCKS_APART = timedelta(minutes=1)
"""How far a host's clock may be off before it is reported (contract, section 6)."""


def of_this_host(
    host: str, now: datetime, ahead: timedelta, other_machine_seen_at: datetime | None
) -> Iterator[Problem]:
    """Judge this host: its clock, `ahead` of the state's `now`, and whether its name is its own."""
    yield from _of_clock(host, now, ahead)
    if other_machine_seen_at is not None and now - other_machine_seen_at <= AWAY:
        said = Text(
            "another machine ran as host {host} at {moment}, and both are one host to the state",
            host=host,
            moment=other_machine_seen_at,
        )
        hint = Text(
            'name each under [state], such as host = "{host}-2"; a machine that took the place of'
            " another needs nothing",
            host=host,
        )
        yield Problem(Code.HOST_NAME_TWICE, said, hint, Severity.WARNING, host)


def _of_clock(host: str, at: datetime, ahead: timedelta) -> Iterator[Problem]:
    if abs(ahead) > CLOCKS_APART:
        severity = Severity.ERROR if abs(ahead) > REFUSED else Severity.WARNING
        said = Text(
            "the clock of {host} says {machine}, and that of the database {shared}",
            host=host,
            machine=at + ahead,
            shared=at,
        )
        hint = Text(
            "set its clock (`timedatectl set-ntp true`): what is stored goes by the database's, but"
            " signatures of requests and TLS go by the machine's own"
        )
        yield Problem(Code.CLOCK_OFF, said, hint, severity, host)


def away_since(host: HostRecord, now: datetime) -> datetime | None:
    """Return since when a host has stayed away, `None` for one that does not. One that never began
    a run is no part of the schedule; a run in progress counts from its begin.
    """
    ended = host.seen_at if host.last_run is None else host.last_run.ended_at
    last = max(filter(None, (ended, host.running_since)), default=None)
    return None if last is None or now - last <= AWAY else last + AWAY


@dataclass(frozen=True, slots=True)
class HostStanding:
    """A host, and what is wrong with it, as `is_this` host knows it."""

    record: HostRecord
    problems: tuple[Problem, ...]
    work: HostWork
    is_this: bool = False


def standings_of(
    hosts: Iterable[HostRecord],
    this: str,
    of_this: Iterable[Problem],
    now: datetime,
    work: Mapping[str, HostWork],
) -> tuple[HostStanding, ...]:
    """Judge every host; `of_this` is what is wrong with this one."""
    own, none = tuple(of_this), HostWork()
    return tuple(
        HostStanding(
            one,
            own if one.name == this else tuple(_of_another(one, now)),
            work.get(one.name, none),
            is_this=one.name == this,
        )
        for one in hosts
    )


def _of_another(host: HostRecord, now: datetime) -> Iterator[Problem]:
    if (since := away_since(host, now)) is not None:
        yield _away(host, since)
    yield from _of_clock(host.name, host.seen_at or now, host.clock_ahead or timedelta(0))


def with_away(before: Iterable[Notice], others: Iterable[HostRecord], now: datetime) -> Notices:
    """Return the notices with those of the other hosts that stay away now."""
    found = ((one, since) for one in others if (since := away_since(one, now)) is not None)
    return (
        *(one for one in before if one.problem.code != _AWAY),
        *(
            Notice(Topic.TROUBLE, Subject(host=one.name), since, _away(one, since))
            for one, since in found
        ),
    )


def _away(host: HostRecord, since: datetime) -> Problem:
    said = Text("it has not run since {moment}", moment=since - AWAY)
    hint = Text(
        "see by `certferry schedule show` there whether the system starts it; if the host is gone:"
        " `certferry hosts forget {host}`",
        host=host.name,
    )
    return Problem(_AWAY, said, hint)
