"""Wait until every authoritative name server of a zone shows the challenge values.

The CA asks any of them, from several places in the world: one that lags fails the authorization.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import chain

from certferry.adapters.acme.nameservers import ask
from certferry.adapters.acme.polling import growing
from certferry.adapters.acme.propagation_status import (
    Heard,
    PropagationStatus,
    Reading,
    Sought,
    with_reasons,
)
from certferry.adapters.acme.resolvers import DNS_PORT, Resolvers
from certferry.core.made_up import FOR_BENCHMARKS
from certferry.errors import DnsRejected, PropagationTimeout
from certferry.ports.progress import Pause
from certferry.text import Text

ANSWER_WITHIN = timedelta(seconds=3)
PARALLEL = 16  # addresses asked at once; unbounded bursts lose packets (libraries fact sheet §3)
MOST_HOSTS = 32  # name servers of a zone; the root has 13, and a registry takes about as many
MOST_ADDRESSES = 8  # of one name server
LONGEST_CHAIN = 8  # aliases; a resolver of the CA gives up after eight to eleven

UNLOCATED = timedelta(seconds=30)
"""How long a name server is looked for whose address no resolver knows."""

ROUND = timedelta(seconds=5)
"""What the first look has at least, however short the whole wait is to be."""

FIRST_PAUSE = 0.2  # seconds
LONGEST_PAUSE = 5.0  # seconds

NOBODYS = "_certferry-nobody-wrote-this"
"""A label that exists below a name only by a wildcard."""

log = logging.getLogger(__name__)

Report = Callable[[Text, datetime, datetime], None]
"""Told after each round: which servers are missing, since when, and until when at most."""


class Propagation:
    """Looks where a challenge lives and waits until it is there. Safe to use from any thread.

    `resolvers` are addresses and ports, the system's when there are none; `port` is where the
    authoritative servers listen. `answer_within` is given to each question, `timeout` to the
    whole of one wait.
    """

    def __init__(
        self,
        *,
        resolvers: Sequence[tuple[str, int]] = (),
        port: int = DNS_PORT,
        timeout: timedelta,
        pause: Pause,
        now: Callable[[], datetime],
        answer_within: timedelta = ANSWER_WITHIN,
    ) -> None:
        self._resolvers = Resolvers(resolvers, answer_within)
        self._port = port
        self._answer_within = answer_within
        self._timeout = timeout
        self._pause = pause
        self._now = now

    def follow(self, name: str) -> str:
        """Give the name at the end of the aliases that begin at this one: where the CA looks.

        An alias that a wildcard makes up is none: it gives way as soon as something is written at
        the name itself (RFC 4592 §2.2.1), and the zone it leads to is usually a CDN's.

        Raises `DnsRejected` for a loop or an overlong chain, and `DnsUnavailable`.
        """
        target = self._resolvers.alias(name)
        if target is None or self._made_up_beside(name) == target:
            return name
        names = [name]
        while target is not None:
            if target in names:
                raise DnsRejected(
                    Text("CNAME loop at {name}", name=target),
                    hint=Text(
                        "correct the CNAME records: {chain}", chain=" → ".join([*names, target])
                    ),
                )
            names.append(target)
            if len(names) > 1 + LONGEST_CHAIN:
                raise DnsRejected(
                    Text("{name} has too many aliases in a row", name=name),
                    hint=Text("correct the CNAME records: {chain}", chain=" → ".join(names)),
                )
            target = self._resolvers.alias(target)
        return names[-1]

    def wildcard_alias(self, name: str) -> str | None:
        """Give the name that a wildcard makes this one an alias of, to which `follow` does not go;
        `None` where there is none. Raises `DnsUnavailable`.
        """
        target = self._resolvers.alias(name)
        return target if target is not None and self._made_up_beside(name) == target else None

    def _made_up_beside(self, name: str) -> str | None:
        """Give what a wildcard makes an alias of at a name beside this one, which is not there."""
        _, _, parent = name.partition(".")
        return self._resolvers.alias(f"{NOBODYS}.{parent}")

    def wait(self, wanted: Mapping[str, frozenset[str]], report: Report) -> None:
        """Return as soon as every name server of each name's zone shows all of its values. One
        whose address no resolver knows is left out after a while: the CA cannot ask it either. Of
        very many the first are asked.

        The names are those that `follow` gave. Raises `PropagationTimeout`, which says where
        each value was seen and where not; `DnsUnavailable` and `ZoneNotFound` when the servers
        cannot be found; and what the pause raises.
        """
        since = self._now()
        deadline = since + self._timeout
        latest = max(deadline, since + ROUND)
        status = self._begin(wanted, latest)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="propagation") as threads:
            for pause in growing(FIRST_PAUSE, LONGEST_PAUSE):
                self._look(status, threads, latest)
                now = self._now()
                if now - since >= UNLOCATED:
                    status.leave_out_unlocated()
                if not status.incomplete:
                    _tell_left_out(status.unlocated)
                    return
                left = (deadline - now).total_seconds()
                if left <= 0:
                    raise PropagationTimeout(_too_late(status, self._timeout), hint=advice(status))
                report(_waiting_for(status), since, deadline)
                self._pause(min(pause, left))
                # A resolver may have failed once.
                status.addresses |= self._addresses(status.unlocated, latest)

    def _begin(self, wanted: Mapping[str, frozenset[str]], latest: datetime) -> PropagationStatus:
        """Find the name servers of every name."""
        zones = {name: self._resolvers.zone_of(name) for name in wanted}
        hosts = {z: self._resolvers.name_servers(z)[:MOST_HOSTS] for z in set(zones.values())}
        sought = [Sought(n, zones[n], values, hosts[zones[n]]) for n, values in wanted.items()]
        addresses = self._addresses(chain.from_iterable(hosts.values()), latest)
        return PropagationStatus(sought, addresses)

    def _addresses(self, hosts: Iterable[str], latest: datetime) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = dict.fromkeys(hosts, ())
        for host in found:
            if self._now() < latest:
                found[host] = self._resolvers.addresses(host)[:MOST_ADDRESSES]
        return found

    def _look(self, status: PropagationStatus, threads: Executor, latest: datetime) -> None:
        """Ask every address once for all that it has not shown yet, as long as there is time."""
        questions = status.to_ask()
        answers = threads.map(partial(self._ask, latest=latest), questions, questions.values())
        for address, readings in zip(questions, answers, strict=True):
            for name, reading in zip(questions[address], readings, strict=False):
                status.note(address, name, reading)

    def _ask(self, address: str, names: Iterable[str], *, latest: datetime) -> list[Reading]:
        """Ask one address for each name; when it is silent once, the others are not asked for."""
        readings: list[Reading] = []
        for name in names:
            if self._now() >= latest:
                break
            unheard = readings and readings[-1].heard in {Heard.SILENCE, Heard.NO_ROUTE}
            readings.append(
                readings[-1] if unheard else ask(address, self._port, name, self._answer_within)
            )
        return readings


def _waiting_for(status: PropagationStatus) -> Text:
    servers = with_reasons(status.missing())
    if not servers:
        return Text("no name server can be reached from here")
    return Text("waiting for the challenge to appear at {servers}", servers=servers)


def _tell_left_out(hosts: list[str]) -> None:
    if hosts:
        log.warning(
            Text(
                "the challenge is seen everywhere but at {servers}, whose address no resolver"
                " knows: take them out of the zone's NS records",
                servers=hosts,
            )
        )


def _too_late(status: PropagationStatus, timeout: timedelta) -> Text:
    return Text(
        "not every name server showed the challenge within {timeout}: {account}",
        timeout=timeout,
        account=status.account(),
    )


def advice(status: PropagationStatus) -> Text:
    """Say what to look at when the values are not seen everywhere."""
    zones = sorted({one.zone for one in status.incomplete})
    addresses = {
        a for one in status.incomplete for host in one.hosts for a in status.addresses[host]
    }
    made_up = sorted(a for a in addresses if ipaddress.ip_address(a) in FOR_BENCHMARKS)
    if made_up:
        return Text(
            "a proxy on this host answers DNS with made-up addresses ({addresses}); let DNS"
            " bypass it, or name resolvers that it leaves alone in [dns].resolvers",
            addresses=made_up,
        )
    heard = status.heard()
    if heard.keys() == {Heard.SILENCE}:
        return Text(
            "no name server answered at all: this host may not be allowed to ask them directly; let"
            " it send to port 53 outbound, UDP and TCP, of any address, or check the name servers"
            " of {zones}",
            zones=zones,
        )
    if heard.keys() - {Heard.SILENCE} == {Heard.HEARSAY}:
        return Text(
            "a router or a proxy seems to answer in place of the name servers of {zones}:"
            " let this host's queries to port 53 bypass it, UDP and TCP",
            zones=zones,
        )
    refusing = heard.get(Heard.REFUSAL, set()) | heard.get(Heard.HEARSAY, set())
    if refusing:
        return Text(
            "{servers} should serve {zones} and do not: correct the name servers at the registrar",
            servers=sorted(refusing),
            zones=zones,
        )
    return Text(
        "check that {zones} is delegated to the provider that the record was written at, or give "
        "it longer with [dns].propagation_timeout",
        zones=zones,
    )
