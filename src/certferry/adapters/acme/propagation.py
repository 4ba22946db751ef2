"""Find the name at which to write a challenge, and wait until DNS shows the challenge."""

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

from msgspec import Struct

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
"""Name → the TXT values that the name must show."""

ANSWER_WITHIN = timedelta(seconds=3)
PARALLEL = 16  # addresses asked at once; unbounded bursts lose packets (docs/facts/libraries.md §2)
MOST_HOSTS = 32  # name servers of a zone; the root has 13, and a registry takes about as many
MOST_ADDRESSES = 8  # of one name server
LONGEST_CHAIN = 8  # aliases; a resolver of the CA gives up after eight to eleven

UNLOCATED = timedelta(seconds=30)
"""How long to search for the address of a name server that no resolver can locate."""

UNHEARD = timedelta(seconds=20)
"""How long to wait for name servers before asking resolvers: a resolver asked too early would
remember for ten minutes that the record is missing.
"""

SILENT = timedelta(seconds=75)
"""How long to wait for a silent name server once every other name server shows the challenge.

A server that restarts, or moves to another machine, answers again within a minute. A dead server
must not fail every order: the CA's resolvers skip dead servers (RFC 1034 §5.3.3).
"""

ROUND = timedelta(seconds=5)
"""Minimum time for the first round of questions, even if `timeout` is shorter."""

FIRST_PAUSE = 0.2  # seconds
LONGEST_PAUSE = 5.0  # seconds

UNWRITTEN = "_certferry-is-not-there"
"""A label without records: DNS has an answer only if the parent name has a wildcard."""

log = logging.getLogger(__name__)

Report = Callable[[Text, datetime, datetime], None]
"""Takes a sentence about the wait, the start of the wait, and the deadline."""

FindZone = Callable[[str], FoundZone]
"""Returns the account's zone that holds a name. Raises `DnsError`."""

_WITHOUT_WAIT = Text(
    "if a CNAME delegates the challenge, set `doh` under [dns] instead of `wait`; otherwise add "
    "the domain to the account, or set `dns` of the certificate to the account that has the "
    "domain"
)


class Propagation(Protocol):
    """Finds the name at which to write a challenge, and waits until DNS shows the challenge."""

    @property
    def sees_cnames(self) -> bool:
        """Whether `follow` asks DNS for CNAMEs."""
        ...

    def follow(self, name: str) -> str:
        """Return the name at which to write TXT values for `name`: the end of the chain of CNAMEs.
        Raises `DnsError`.
        """
        ...

    def wildcard_alias(self, name: str) -> str | None:
        """Return the target of the CNAME that a wildcard gives the name; `None` without a wildcard.
        `follow` ignores a wildcard's CNAME.
        """
        ...

    def wait(self, wanted: Mapping[str, frozenset[str]], report: Report) -> None:
        """Wait until the CA can see the values, as far as the implementation can tell. Raises
        `DnsError`.
        """
        ...


class SilentServers(Struct, frozen=True):
    """The silent name servers of a name's zone."""

    #: The name.
    name: str
    #: The zone that holds the name.
    zone: str
    #: The silent name servers.
    hosts: tuple[str, ...]
    #: Whether another name server of the zone answers.
    others: bool


def must_be_writable(names: Sequence[str], dns: DnsProvider, propagation: Propagation) -> None:
    """Raise `ZoneNotFound` if the account has no zone for the challenge of a name, and other errors
    of DNS.
    """
    for _, problem in unwritable(names, dns, propagation):
        raise problem


def unwritable(
    names: Sequence[str], dns: DnsProvider, propagation: Propagation
) -> Iterator[tuple[str, ZoneNotFound]]:
    """Yield each name, without `*.`, for whose challenge the provider has no zone, with the error.
    A provider that can neither list nor find zones yields nothing.

    Raises `DnsError`.
    """
    finders: dict[DnsProvider, FindZone | None] = {}
    for name in dict.fromkeys(map(base_name, names)):
        asked = challenge_name(name)
        place = propagation.follow(asked)
        try:
            account = account_at(dns, place)
            if account not in finders:
                finders[account] = finder_of(account)
            find = finders[account]
            if find is not None:
                find(place)
        except ZoneNotFound as problem:
            yield name, explained(problem, asked, place, propagation)


def account_at(dns: DnsProvider, place: str) -> DnsProvider:
    """Return the account that writes at a name. Raises `DnsError`."""
    return dns.at(place) if isinstance(dns, SharedOut) else dns


def finder_of(dns: DnsProvider) -> FindZone | None:
    """Return a function that finds the account's zone of a name. Return `None` if the provider can
    neither list nor find zones. Raises `DnsError`.
    """
    if isinstance(dns, ZoneFinder):
        return dns.zone_of
    return partial(must_have_zone, zones=dns.zones()) if isinstance(dns, ZoneKeeper) else None


def explained(
    problem: ZoneNotFound, asked: str, place: str, propagation: Propagation
) -> ZoneNotFound:
    """Return the error of a name without a zone, with a sentence about the name's CNAME if the
    CNAME led to another name, came from a wildcard and was ignored, or was not looked for.
    """
    hint, target = problem.hint, None
    if not propagation.sees_cnames:
        hint = _WITHOUT_WAIT
        message = Text(
            "{problem}; with `wait` under [dns] certferry asks nothing, so a CNAME to another "
            "zone would stay unseen"
        )
    elif place != asked:
        message = Text("the CNAME at {name} leads to {place}, and {problem}")
        hint = Text("if an earlier tool left the CNAME, delete it; otherwise: {hint}", hint=hint)
    else:
        target = propagation.wildcard_alias(asked)
        if target is None:
            return problem
        message = Text(
            "{problem}; the CNAME to {target} seen at the name comes from a wildcard and stops "
            "applying as soon as a record is set at the name itself"
        )
    sentence = message.filled(problem=problem.message, name=asked, place=place, target=target)
    return ZoneNotFound(sentence, hint=hint)


@dataclass(kw_only=True, eq=False)
class DnsPropagation:
    """A `Propagation` that asks the authoritative name servers. Thread-safe."""

    #: How long to wait for a challenge to appear.
    timeout: timedelta
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: The clock of the run.
    now: Callable[[], datetime]
    #: Address and port of each resolver; the system's resolvers if empty.
    resolvers: Sequence[tuple[str, int]] = ()
    #: Port of the authoritative name servers.
    port: int = DNS_PORT
    #: How long to wait for one answer.
    answer_within: timedelta = ANSWER_WITHIN
    #: Resolvers asked if the other resolvers, or the name servers, do not help.
    over_https: Sequence[HttpsResolver] = ()
    #: Whether the operator chose `over_https`; chosen resolvers always give a second opinion.
    chosen: bool = False
    sees_cnames = True

    def __post_init__(self) -> None:
        self._where = DnsLookup(self.resolvers, self.answer_within, self.over_https)
        # Name servers silent for an earlier order of this run; later orders skip the wait.
        self._dead: set[str] = set()

    def follow(self, name: str) -> str:
        """See `Propagation.follow`. Raises `DnsRejected` for a loop or an overlong chain."""
        target = self._where.alias(name)
        # A wildcard's CNAME stops applying once a record is written at the name (RFC 4592 §2.2.1).
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
        """Return the target of the CNAME that a wildcard gives to an unwritten name beside `name`;
        `None` without a wildcard.
        """
        _, _, parent = name.partition(".")
        return self._where.alias(f"{UNWRITTEN}.{parent}")

    def wait(self, wanted: Wanted, report: Report) -> None:
        """Wait until the values are seen.

        Each name must meet a condition of this list:

        1. Every name server with an address shows the values.
        2. Some name servers stay silent, and all other name servers and the resolvers show the
           values.
        3. No name server answers this host, and the resolvers over HTTPS show the values.

        Raises `DnsError`, and the errors of the pause.
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
                activity = Text("waiting for the challenge to appear at {servers}", servers=servers)
                if not servers:
                    activity = Text("this host cannot reach any name server")
                report(activity, since, deadline)
                self.pause(min(pause, left))
                # Ask again for missing addresses: a resolver may have failed once.
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
        addresses: dict[str, tuple[str, ...]] = dict.fromkeys(hosts, ())
        for host in addresses:
            if self.now() < latest:
                addresses[host] = self._where.addresses(host)[:MOST_ADDRESSES]
        return addresses

    def _ask_elsewhere(self, status: nameservers.PropagationStatus) -> None:
        """Accept each name about which no name server answers, if the resolvers over HTTPS show the
        values.
        """
        unheard = {sought.name: sought.values for sought in status.unheard}
        if not unheard or not self.over_https:
            return
        status.opinions = nameservers.opinions_of(self.over_https, unheard)
        shown = [
            n for n, values in unheard.items() if nameservers.is_shown(status.opinions[n], values)
        ]
        status.accept(shown)
        if shown:
            sentence = Text(
                "no name server of {names} answers this host; resolvers asked over HTTPS show "
                "the challenge"
            )
            log.warning(sentence.filled(names=shown))

    def silent_servers(self, names: Sequence[str]) -> Iterator[SilentServers]:
        """Yield the silent name servers for each name that has some. Raises `DnsError`."""
        latest = self.now() + self.timeout
        status = self._begin(dict.fromkeys(names, frozenset()), latest)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="propagation") as threads:
            self._look(status, threads, latest)
        for sought in status.sought:
            silent = tuple(status.silent(sought))
            if silent:
                others = len(silent) < len(sought.hosts)
                yield SilentServers(sought.name, sought.zone, silent, others)

    def _go_on_without_dead(self, status: nameservers.PropagationStatus, *, is_over: bool) -> None:
        """Accept names missing only at silent name servers, if the resolvers show the values.

        A silent name server gets time to come back. A name is accepted once that time `is_over`, or
        at once if these servers were silent for an earlier order of this run.
        """
        for sought in status.held_up_by_silence:
            silent = status.silent(sought)
            if (is_over or self._dead.issuperset(silent)) and self._is_seen_by_resolvers(sought):
                status.accept([sought.name])
                self._dead.update(silent)
                sentence = Text(
                    "{servers} gave no answer about {name}, but every other name server and the "
                    "resolvers show the challenge, so the order continues. Have these servers "
                    "fixed, or remove them from the NS records of {zone}: each run waits up to "
                    "{time} for them"
                )
                log.warning(
                    sentence.filled(
                        servers=[*silent], name=sought.name, zone=sought.zone, time=SILENT
                    )
                )

    def _is_seen_by_resolvers(self, sought: nameservers.Sought) -> bool:
        """Return whether some resolver answers, and all answering resolvers show the values."""
        seen: list[bool] = []
        for resolver in self._where.apart():
            with suppress(DnsError):
                seen.append(sought.values <= set(resolver.txt(sought.name)))
        readings = nameservers.opinions_of(self.over_https, [sought.name])[sought.name]
        if nameservers.those_heard(readings):
            seen.append(nameservers.is_shown(readings, sought.values))
        return bool(seen) and all(seen)

    def _warn_of_oddities(self, status: nameservers.PropagationStatus, wanted: Wanted) -> None:
        """Warn of unlocated name servers, and of resolvers that contradict the name servers."""
        if status.unlocated:
            sentence = Text(
                "every name server shows the challenge except {servers}, whose address no "
                "resolver knows: remove them from the zone's NS records"
            )
            log.warning(sentence.filled(servers=status.unlocated))
        opinions = nameservers.opinions_of(self.over_https, wanted) if self.chosen else {}
        heard = {name: nameservers.those_heard(readings) for name, readings in opinions.items()}
        others = nameservers.dissent(heard, wanted)
        if others:
            sentence = Text(
                "every name server shows the challenge, but other resolvers do not: {others}"
            )
            log.warning(sentence.filled(others=others))

    def _too_late(
        self, status: nameservers.PropagationStatus, wanted: Wanted
    ) -> PropagationTimeout:
        """Return the error after the time-out: where each value was seen, where not, and a hint."""
        if self.chosen and not status.opinions:
            lacking = [sought.name for sought in status.incomplete]
            status.opinions = nameservers.opinions_of(self.over_https, lacking)
        inventing = self._where.invented() if status.unheard else {}
        account = status.account()
        others = nameservers.dissent(status.opinions, wanted)
        if others:
            account.append(Text("other resolvers: {others}", others=others))
        sentence = Text("not every name server showed the challenge within {timeout}: {account}")
        message = sentence.filled(timeout=self.timeout, account=account)
        return PropagationTimeout(message, hint=nameservers.advice(status, inventing))

    def _look(
        self, status: nameservers.PropagationStatus, threads: Executor, latest: datetime
    ) -> None:
        """Ask every address once for the names still missing there, until `latest`."""
        questions = status.to_ask()
        answers = threads.map(partial(self._ask, latest=latest), questions, questions.values())
        for address, readings in zip(questions, answers, strict=True):
            for name, reading in zip(questions[address], readings, strict=False):
                status.note(address, name, reading)

    def _ask(
        self, address: str, names: Iterable[str], *, latest: datetime
    ) -> list[nameservers.Reading]:
        """Ask an address about each name, and return a reading for each name reached before
        `latest`. After a silence, or without a route, the remaining names are not asked: the same
        reading counts for these names.
        """
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


class FixedWait(Struct, frozen=True):
    """A `Propagation` that waits for a fixed time, without asking DNS."""

    #: How long to wait for the challenges of an order.
    time: timedelta
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: The clock of the run.
    now: Callable[[], datetime]
    sees_cnames = False

    def follow(self, name: str) -> str:
        """Return `name`: CNAMEs are not followed."""
        return name

    def wildcard_alias(self, name: str) -> str | None:
        """Return `None`: DNS is not asked."""
        del name
        return None

    def wait(self, wanted: Wanted, report: Report) -> None:
        """Wait for `time`. Raises the errors of the pause."""
        del wanted
        since = self.now()
        activity = Text(
            "waiting {time} for the challenge to appear, without checking", time=self.time
        )
        report(activity, since, since + self.time)
        self.pause(self.time.total_seconds())
