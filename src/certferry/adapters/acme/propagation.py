"""Where a challenge is written, and the wait until every name server of its zone shows it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Protocol

from certferry.adapters.acme import nameservers
from certferry.adapters.acme.network import growing
from certferry.adapters.acme.resolvers import DNS_PORT, DnsLookup, HttpsResolver
from certferry.core.certificates.names import base_name, challenge_name
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import must_have_zone
from certferry.errors import DnsError, DnsRejected, PropagationTimeout, ZoneNotFound
from certferry.ports.dns import DnsProvider, SharedOut
from certferry.ports.progress import Pause
from certferry.ports.state import must_still_hold
from certferry.ports.survey import ZoneFinder, ZoneKeeper
from certferry.text import Text

Wanted = Mapping[str, frozenset[str]]
"""The values that each name must show."""

ANSWER_WITHIN = timedelta(seconds=3)
PARALLEL = 16  # addresses; unbounded bursts lose packets (docs/facts/libraries.md §2)
MOST_HOSTS = 32  # name servers of a zone; the root has 13, and a registry takes about as many
MOST_ADDRESSES = 8  # of one name server
LONGEST_CHAIN = 8  # aliases; a resolver of the CA gives up after eight to eleven

UNLOCATED = timedelta(seconds=30)
"""How long a name server is looked for whose address no resolver knows."""

UNHEARD = timedelta(seconds=20)
"""How long to listen for name servers before asking resolvers, which would remember for ten
minutes that a record is not there yet.
"""

SILENT = timedelta(seconds=75)
"""How long a silent name server is waited for, once every other shows the challenge. A server that
restarts, or whose address moves to another machine, answers again within a minute; one that is dead
must not end each order, and the CA's resolvers pass over it (RFC 1034 §5.3.3).
"""

ROUND = timedelta(seconds=5)
"""What the first look has at least, however short the whole wait is to be."""

FIRST_PAUSE = 0.2  # seconds
LONGEST_PAUSE = 5.0  # seconds

UNWRITTEN = "_certferry-is-not-there"
"""A label that exists below a name only by a wildcard."""

log = logging.getLogger(__name__)

Report = Callable[[Text, datetime, datetime], None]
"""Takes a sentence about what the run waits for, since when, and until when at most."""

FindZone = Callable[[str], FoundZone]
"""Returns the zone of an account that holds a place. Raises `DnsError`."""

_WITHOUT_WAIT = Text(
    "where the challenge is delegated by a CNAME, set `doh` under [dns] in the place of `wait`;"
    " else add the domain to the account, or name the account that has it as `dns` of the"
    " certificate"
)


class Propagation(Protocol):
    """Asks the authoritative name servers."""

    @property
    def sees_cnames(self) -> bool:
        """Whether CNAMEs are looked for at all."""
        ...

    def follow(self, name: str) -> str:
        """Return the name at which a TXT value for `name` must be put: the end of its CNAMEs."""
        ...

    def wildcard_alias(self, name: str) -> str | None:
        """Return the alias that a wildcard makes of this name, which `follow` ignores."""
        ...

    def wait(self, wanted: Mapping[str, frozenset[str]], report: Report) -> None:
        """Wait until every authoritative server shows the values. Raises `DnsError`."""
        ...


@dataclass(frozen=True, slots=True)
class SilentServers:
    """The name servers of a name's zone that do not answer, and whether any `others` do."""

    name: str
    zone: str
    hosts: tuple[str, ...]
    others: bool


def must_be_writable(names: Sequence[str], dns: DnsProvider, propagation: Propagation) -> None:
    """Refuse names whose challenges have no zone to be written into. Raises `DnsError`."""
    for _, problem in unwritable(names, dns, propagation):
        raise problem


def unwritable(
    names: Sequence[str], dns: DnsProvider, propagation: Propagation
) -> Iterator[tuple[str, ZoneNotFound]]:
    """Yield names, without `*.`, whose challenges no zone holds, and why. Raises `DnsError`."""
    known: dict[DnsProvider, FindZone | None] = {}
    for name in dict.fromkeys(map(base_name, names)):
        asked = challenge_name(name)
        place = propagation.follow(asked)
        try:
            account = account_at(dns, place)
            if account not in known:
                known[account] = finder_of(account)
            find = known[account]
            if find is not None:
                find(place)
        except ZoneNotFound as problem:
            yield name, explained(problem, asked, place, propagation)


def account_at(dns: DnsProvider, place: str) -> DnsProvider:
    """Return the account that writes at a place. Raises `DnsError`."""
    return dns.at(place) if isinstance(dns, SharedOut) else dns


def finder_of(dns: DnsProvider) -> FindZone | None:
    """Return what finds an account's zones, `None` where its provider cannot. Raises `DnsError`."""
    if isinstance(dns, ZoneFinder):
        return dns.zone_of
    return partial(must_have_zone, zones=dns.zones()) if isinstance(dns, ZoneKeeper) else None


def explained(
    problem: ZoneNotFound, asked: str, place: str, propagation: Propagation
) -> ZoneNotFound:
    """Add which CNAME has led away from any zone, does not count, or was not looked for."""
    hint, target = problem.hint, None
    if not propagation.sees_cnames:
        hint = _WITHOUT_WAIT
        message = Text(
            "{problem}; whether a CNAME leads elsewhere is not known, since with `wait` under [dns]"
            " nothing is asked"
        )
    elif place != asked:
        message = Text("the CNAME at {name} leads to {place}, and {problem}")
        hint = Text("if an earlier tool left that CNAME, delete it; otherwise: {hint}", hint=hint)
    else:
        target = propagation.wildcard_alias(asked)
        if target is None:
            return problem
        message = Text(
            "{problem}; the CNAME to {target} that is seen there is a wildcard's and counts for"
            " nothing, since it gives way to what is set at the name itself"
        )
    said = message.filled(problem=problem.message, name=asked, place=place, target=target)
    return ZoneNotFound(said, hint=hint)


@dataclass(kw_only=True, eq=False)
class DnsPropagation:
    """Finds where a challenge lives and waits until it is there. Safe to use from any thread.

    `port` is where authoritative servers listen. `answer_within` holds for a question, `timeout`
    for a wait. The resolvers `over_https` are asked where the others, or the name servers, do not
    help; those that the operator has `chosen` always give a second opinion.
    """

    timeout: timedelta
    pause: Pause
    now: Callable[[], datetime]
    resolvers: Sequence[tuple[str, int]] = ()
    port: int = DNS_PORT
    answer_within: timedelta = ANSWER_WITHIN
    over_https: Sequence[HttpsResolver] = ()
    chosen: bool = False
    sees_cnames = True

    def __post_init__(self) -> None:
        self._where = DnsLookup(self.resolvers, self.answer_within, self.over_https)
        # Name servers that stayed silent for an order of this run: the next order does not wait.
        self._dead: set[str] = set()

    def follow(self, name: str) -> str:
        """See `Propagation.follow`. Raises `DnsRejected` for a loop or an overlong chain."""
        target = self._where.alias(name)
        # A wildcard's no longer applies once something is written here (RFC 4592 §2.2.1).
        if target is None or self._made_up_beside(name) == target:
            return name
        names = [name]
        while target is not None:
            is_loop = target in names
            names.append(target)
            if is_loop or len(names) > 1 + LONGEST_CHAIN:
                problem = Text("{name} has too many aliases in a row", name=name)
                if is_loop:
                    problem = Text("CNAME loop at {name}", name=target)
                hint = Text("correct the CNAME records: {chain}", chain=" → ".join(names))
                raise DnsRejected(problem, hint=hint)
            target = self._where.alias(target)
        return names[-1]

    def wildcard_alias(self, name: str) -> str | None:
        """See `Propagation.wildcard_alias`. Raises `DnsUnavailable`."""
        target = self._where.alias(name)
        return target if target is not None and self._made_up_beside(name) == target else None

    def _made_up_beside(self, name: str) -> str | None:
        """Return what a wildcard makes an alias of at a name beside this one that is not there."""
        _, _, parent = name.partition(".")
        return self._where.alias(f"{UNWRITTEN}.{parent}")

    def wait(self, wanted: Wanted, report: Report) -> None:
        """Return once every name server that has an address shows all values; where some stay
        silent, every other and the resolvers; where none can be heard from here, the resolvers over
        HTTPS. Raises `DnsError`, and what the pause does.
        """
        since = self.now()
        deadline = since + self.timeout
        latest = max(deadline, since + ROUND)
        status = self._begin(wanted, latest)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="propagation") as threads:
            for pause in growing(FIRST_PAUSE, LONGEST_PAUSE):
                must_still_hold()
                self._look(status, threads, latest)
                now = self.now()
                left = (deadline - now).total_seconds()
                if now - since >= UNLOCATED:
                    status.leave_out_unlocated()
                if now - since >= UNHEARD or left <= 0:
                    self._ask_elsewhere(status)
                self._go_on_without_dead(status, is_over=now - since >= SILENT or left <= 0)
                if not status.incomplete:
                    self._warn_of_oddities(status, wanted)
                    return
                if left <= 0:
                    raise self._too_late(status, wanted)
                servers = nameservers.with_reasons(status.missing())
                what = Text("waiting for the challenge to appear at {servers}", servers=servers)
                if not servers:
                    what = Text("no name server can be reached from here")
                report(what, since, deadline)
                self.pause(min(pause, left))
                # A resolver may have failed once.
                status.addresses |= self._addresses(status.unlocated, latest)

    def _begin(self, wanted: Wanted, latest: datetime) -> nameservers.PropagationStatus:
        """Find the name servers of every name."""
        zones = {name: self._where.zone_of(name) for name in wanted}
        hosts = {z: self._where.name_servers(z)[:MOST_HOSTS] for z in set(zones.values())}
        sought = [
            nameservers.Sought(n, zones[n], values, hosts[zones[n]]) for n, values in wanted.items()
        ]
        addresses = self._addresses(chain.from_iterable(hosts.values()), latest)
        return nameservers.PropagationStatus(sought, addresses)

    def _addresses(self, hosts: Iterable[str], latest: datetime) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = dict.fromkeys(hosts, ())
        for host in found:
            if self.now() < latest:
                found[host] = self._where.addresses(host)[:MOST_ADDRESSES]
        return found

    def _ask_elsewhere(self, status: nameservers.PropagationStatus) -> None:
        """Accept what other resolvers show of the names whose servers cannot be heard from here."""
        unheard = {one.name: one.values for one in status.unheard}
        if not unheard or not self.over_https:
            return
        status.opinions = nameservers.opinions_of(self.over_https, unheard)
        shown = [
            n for n, values in unheard.items() if nameservers.is_shown(status.opinions[n], values)
        ]
        status.accept(shown)
        if shown:
            said = Text(
                "no name server of {names} can be heard from this host; resolvers asked over HTTPS"
                " show the challenge"
            )
            log.warning(said.filled(names=shown))

    def silent_servers(self, names: Sequence[str]) -> Iterator[SilentServers]:
        """Yield for each name the name servers of its zone that do not answer this host, where
        there are any. Raises `DnsError`.
        """
        latest = self.now() + self.timeout
        status = self._begin(dict.fromkeys(names, frozenset()), latest)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="propagation") as threads:
            self._look(status, threads, latest)
        for one in status.sought:
            silent = tuple(status.silent(one))
            if silent:
                others = len(silent) < len(one.hosts)
                yield SilentServers(one.name, one.zone, silent, others)

    def _go_on_without_dead(self, status: nameservers.PropagationStatus, *, is_over: bool) -> None:
        """Accept what only silent name servers do not show, and resolvers do, once the time for a
        server to come back `is_over`.
        """
        for one in status.held_up_by_silence:
            silent = status.silent(one)
            if (is_over or self._dead.issuperset(silent)) and self._is_seen_by_resolvers(one):
                status.accept([one.name])
                self._dead.update(silent)
                said = Text(
                    "{servers} gave no answer about {name}, which every other name server and the"
                    " resolvers show; the order goes on without them. Have them put right, or take"
                    " them out of the NS records of {zone}: each run waits up to {time} for them"
                )
                log.warning(
                    said.filled(servers=[*silent], name=one.name, zone=one.zone, time=SILENT)
                )

    def _is_seen_by_resolvers(self, one: nameservers.Sought) -> bool:
        """Return whether every resolver that answers shows the values, and at least one does."""
        seen: list[bool] = []
        for resolver in self._where.apart():
            with suppress(DnsError):
                seen.append(one.values <= set(resolver.txt(one.name)))
        readings = nameservers.opinions_of(self.over_https, [one.name])[one.name]
        if nameservers.those_heard(readings):
            seen.append(nameservers.is_shown(readings, one.values))
        return bool(seen) and all(seen)

    def _warn_of_oddities(self, status: nameservers.PropagationStatus, wanted: Wanted) -> None:
        """Log what is odd about a challenge that is seen; the name servers have decided."""
        if status.unlocated:
            said = Text(
                "the challenge is seen everywhere but at {servers}, whose address no resolver"
                " knows: take them out of the zone's NS records"
            )
            log.warning(said.filled(servers=status.unlocated))
        opinions = nameservers.opinions_of(self.over_https, wanted) if self.chosen else {}
        heard = {name: nameservers.those_heard(readings) for name, readings in opinions.items()}
        others = nameservers.dissent(heard, wanted)
        if others:
            said = Text(
                "every name server shows the challenge, but other resolvers do not: {others}"
            )
            log.warning(said.filled(others=others))

    def _too_late(
        self, status: nameservers.PropagationStatus, wanted: Wanted
    ) -> PropagationTimeout:
        """Return where each value was seen and where not, and what others say of it."""
        if self.chosen and not status.opinions:
            lacking = [one.name for one in status.incomplete]
            status.opinions = nameservers.opinions_of(self.over_https, lacking)
        inventing = self._where.invented() if status.unheard else {}
        account = status.account()
        others = nameservers.dissent(status.opinions, wanted)
        if others:
            account.append(Text("other resolvers: {others}", others=others))
        said = Text("not every name server showed the challenge within {timeout}: {account}")
        message = said.filled(timeout=self.timeout, account=account)
        return PropagationTimeout(message, hint=nameservers.advice(status, inventing))

    def _look(
        self, status: nameservers.PropagationStatus, threads: Executor, latest: datetime
    ) -> None:
        """Ask every address once for all that it has not shown yet, as long as there is time."""
        questions = status.to_ask()
        answers = threads.map(partial(self._ask, latest=latest), questions, questions.values())
        for address, readings in zip(questions, answers, strict=True):
            for name, reading in zip(questions[address], readings, strict=False):
                status.note(address, name, reading)

    def _ask(
        self, address: str, names: Iterable[str], *, latest: datetime
    ) -> list[nameservers.Reading]:
        """Ask one address for each name; when it is silent once, the others are not asked for."""
        readings: list[nameservers.Reading] = []
        for name in names:
            if self.now() >= latest:
                break
            unheard = readings and readings[-1].heard in {
                nameservers.Heard.SILENCE,
                nameservers.Heard.NO_ROUTE,
            }
            readings.append(
                readings[-1]
                if unheard
                else nameservers.ask(address, self.port, name, self.answer_within)
            )
        return readings


@dataclass(frozen=True, slots=True)
class FixedWait:
    """A `Propagation` that asks nothing: a challenge at its own name is seen after `time`."""

    time: timedelta
    pause: Pause
    now: Callable[[], datetime]
    sees_cnames = False

    def follow(self, name: str) -> str:
        """Return the name itself."""
        return name

    def wildcard_alias(self, name: str) -> str | None:
        """Return `None`: it cannot be known."""
        del name
        return None

    def wait(self, wanted: Wanted, report: Report) -> None:
        """Wait for the time. Raises what the pause raises."""
        del wanted
        since = self.now()
        what = Text("waiting {time} for the challenge to appear, without checking", time=self.time)
        report(what, since, since + self.time)
        self.pause(self.time.total_seconds())
