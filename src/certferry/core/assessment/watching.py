"""Trouble of the hosts of `[[watch]]`: the problems that count, and the notices about them.

Each certferry host looks from its own network. A watched host is in trouble if any of the last
looks says so, and the trouble is over when no look says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from certferry.core.assessment.notices import Notice, Notices, Subject, Topic
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.network import Host
from certferry.core.observed.watched_hosts import FORGOTTEN_AFTER, WatchedHost
from certferry.errors import Problem
from certferry.values import replace

LASTING = timedelta(hours=6)
"""A warning is trouble only if a look, so long after the first, still finds a problem. While a
certificate is replaced, addresses differ for minutes or hours, as they should.
"""


class Watching(Struct, frozen=True):
    """The watched hosts of this host's file, with the last looks."""

    #: The last look at each host, in the order of the file.
    looks: tuple[WatchedHost, ...] = ()
    #: The hosts that no look has reached yet.
    unseen: tuple[Host, ...] = ()
    #: The hosts that runs look at for a declared certificate, with the certificate's lineage.
    owned: Mapping[Host, str] = {}

    @property
    def troubles(self) -> tuple[WatchedHost, ...]:
        """The looks that found trouble."""
        return tuple(look for look in self.looks if is_trouble(look))

    @property
    def looked_at(self) -> datetime | None:
        """When the last look began; `None` before the first."""
        return max((look.looked_at for look in self.looks), default=None)


def is_trouble(look: WatchedHost) -> bool:
    """Return whether a look found trouble: an error, or a warning that lasts."""
    problem = look.problem
    if problem is None:
        return False
    return problem.is_error or look.looked_at - look.since >= LASTING


def subject_of(look: WatchedHost) -> Subject:
    """Return the subject of notices about a watched host."""
    return Subject(domain=str(look.host), watch=look.watch)


def that_count(
    looks: Iterable[WatchedHost], by: str, declared: Collection[Host], now: datetime
) -> tuple[WatchedHost, ...]:
    """Return the looks that count. `declared` are the hosts watched by `by`, this certferry host.
    Looks of this host at other hosts, and old looks of other certferry hosts, count no more.
    """
    return tuple(
        look
        for look in looks
        if (look.host in declared if look.by == by else now - look.looked_at < FORGOTTEN_AFTER)
    )


def with_watched(before: Iterable[Notice], looks: Iterable[WatchedHost]) -> Notices:
    """Return the notices of `before`, with the notices about watched hosts replaced by those of
    `looks`, one for each host in trouble.
    """
    kept = tuple(notice for notice in before if not notice.subject.watch)
    by_host: dict[Host, list[tuple[WatchedHost, Problem]]] = {}
    for look in looks:
        if look.problem is not None and is_trouble(look):
            by_host.setdefault(look.host, []).append((look, look.problem))
    return (*kept, *(_notice(by_host[host]) for host in sorted(by_host, key=str)))


def _notice(troubles: Sequence[tuple[WatchedHost, Problem]]) -> Notice:
    """Return the notice about a host in trouble; `troubles` are those seen by several certferry
    hosts.
    """
    worst, problem = min(troubles, key=_worst_first)
    since = min(look.since for look, _ in troubles)
    deadline = worst.not_after if problem.code in _OF_ENDS else None
    return Notice(Topic.TROUBLE, subject_of(worst), since, replace(problem, since=since), deadline)


_OF_ENDS = frozenset({EdgeProblemCode.EXPIRED.value, EdgeProblemCode.ENDS_SOON.value})


def _worst_first(trouble: tuple[WatchedHost, Problem]) -> tuple[object, ...]:
    look, problem = trouble
    return (-problem.severity.rank, look.since, look.by)


def shown(
    looks: Iterable[WatchedHost], by: str, hosts: Iterable[Host], owned: Mapping[Host, str]
) -> Watching:
    """Return the watched hosts of this host's file. `by` is this certferry host, `hosts` are the
    declared hosts, and `owned` those that runs look at for a certificate, with its lineage.
    """
    own = {look.host: look for look in looks if look.by == by}
    declared = [host for host in dict.fromkeys(hosts) if host not in owned]
    return Watching(
        tuple(own[host] for host in declared if host in own),
        tuple(host for host in declared if host not in own),
        dict(owned),
    )


_NEVER = datetime.min.replace(tzinfo=UTC)


def in_turn(hosts: Iterable[Host], looks: Mapping[Host, WatchedHost]) -> list[Host]:
    """Return hosts in the order in which a look asks them: hosts whose addresses all answered come
    before hosts with a silent address, which take the longest. Among equals, the host with the
    oldest look comes first, so a look that ended early leaves out other hosts the next time.
    """

    def key(host: Host) -> tuple[bool, datetime]:
        look = looks.get(host)
        return (False, _NEVER) if look is None else (look.is_silent, look.looked_at)

    return sorted(hosts, key=key)
