"""What recursive resolvers, some of them over HTTPS (RFC 8484), answer about a name."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from functools import cached_property, partial
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver

from certferry import errors
from certferry.adapters.http.client import HttpClient, Pacer, Timeouts
from certferry.core.network import CaaRecord, is_made_up
from certferry.ports.adapter import Http, NoAnswer
from certferry.ports.progress import Pause
from certferry.text import Text, verbatim

MESSAGE = "application/dns-message"
"""RFC 8484 §6."""

LONGEST_MESSAGE = 65535  # bytes (RFC 1035 §4.2.2)
REQUESTS_PER_SECOND = 10.0  # public resolvers slow down a client that asks more
DNS_PORT, HTTPS_PORT = 53, 443  # RFC 1035 §4.2, RFC 9110 §4.2.2
RESOLV_CONF = "/etc/resolv.conf"
PAYLOAD = 1232  # bytes; the EDNS buffer size agreed on at DNS flag day 2020

NO_ANSWER = Text("no answer")
UNREADABLE = Text("an answer that cannot be read")

_NAME_RESOLVERS = Text('name resolvers that answer, such as "223.5.5.5", in [dns].resolvers')

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class Unheard(OSError):
    """No answer to a question came; `problem` says why. dnspython asks such a resolver no more."""

    def __init__(self, problem: Text) -> None:
        super().__init__(str(problem))
        self.problem = problem


class HttpsResolver(dns.nameserver.Nameserver):
    """The resolver at a URL. In sentences it is called by its host: a path may hold a secret."""

    def __init__(self, url: str, http: Http) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # dnspython leaves it without
        self._url = url
        self._http = http

    @property
    def called(self) -> str:
        """What it is called in sentences."""
        return f"https://{urlsplit(self._url).netloc}"

    def ask(self, query: dns.message.QueryMessage) -> dns.message.Message:
        """Return the answer to a question, whatever its code. Raises `Unheard`."""
        asked = copy(query)
        asked.id = 0  # so that answers can be kept on the way (§4.1)
        headers = {"Content-Type": MESSAGE, "Accept": MESSAGE}
        try:
            answer = self._http.send("POST", self._url, headers, asked.to_wire(), repeatable=True)
        except NoAnswer as silence:
            raise Unheard(silence.problem) from silence
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if answer.status != HTTPStatus.OK:
            raise Unheard(Text("status {status}", status=answer.status))
        if kind != MESSAGE:
            raise Unheard(UNREADABLE)
        try:
            response = dns.message.from_wire(answer.body)
        except (dns.exception.DNSException, EOFError, ValueError) as garbled:
            raise Unheard(UNREADABLE) from garbled
        if not asked.is_response(response):
            raise Unheard(Text("an answer to another question"))
        response.id = query.id
        return response

    def __str__(self) -> str:
        """Return what it is called among the errors of a question."""
        return self.called

    def kind(self) -> str:
        """Return dnspython's name for DNS over HTTPS."""
        return "DoH"

    def is_always_max_size(self) -> bool:
        """Return that no answer is cut off."""
        return True

    def answer_nameserver(self) -> str:
        """Return what it is called in an answer."""
        return self.called

    def answer_port(self) -> int:
        """Return its port."""
        return urlsplit(self._url).port or HTTPS_PORT

    def query(
        self, request: dns.message.QueryMessage, timeout: float, *args: Any, **kwargs: Any
    ) -> dns.message.Message:
        """Ask for dnspython, whose times are not needed: each exchange has its own."""
        del timeout, args, kwargs
        return self.ask(request)


def at_urls(
    urls: tuple[str, ...], answer_within: timedelta, pause: Pause
) -> tuple[HttpsResolver, ...]:
    """Return the resolvers at these URLs, each with connections of its own."""
    timeouts = Timeouts(connect=answer_within, read=answer_within, whole=2 * answer_within)
    client = partial(HttpClient, pause=pause, timeouts=timeouts, longest=LONGEST_MESSAGE)
    pace = partial(Pacer, REQUESTS_PER_SECOND, pause=pause)
    # One attempt: the next look asks anew.
    return tuple(HttpsResolver(url, client(pace=pace(), attempts=1)) for url in urls)


@dataclass(eq=False)
class Resolvers:
    """The given resolvers (address, port), or the system's, asked in turn; those `over_https` last,
    or, with `plain` off, alone. Safe to use from any thread.

    Questions raise `DnsUnavailable` when no resolver answers. Names are A-labels without final dot.
    """

    endpoints: Sequence[tuple[str, int]]
    answer_within: timedelta
    over_https: Sequence[HttpsResolver] = ()
    _: KW_ONLY
    plain: bool = True
    system: str = RESOLV_CONF

    def __post_init__(self) -> None:
        for address, _ in self.endpoints:
            if not dns.inet.is_address(address):
                raise errors.ConfigError(
                    Text("the resolver {address} is not an IP address", address=repr(address)),
                    hint=Text("write addresses in [dns].resolvers, for instance 223.5.5.5"),
                )

    def alias(self, name: str) -> str | None:
        """Return the name that this one is an alias of, by one CNAME."""
        # Not dnspython's canonical name, which would need an answer from the end of the chain:
        # that is often a CDN's, and a wildcard's.
        records = self._records(name, dns.rdatatype.CNAME)
        return name_in_text(records[0].target) if records else None

    def zone_of(self, name: str) -> str:
        """Return the zone that holds a name. Raises `ZoneNotFound` if only a top-level one does."""
        with self._translating_errors(name):
            try:
                zone = name_in_text(
                    dns.resolver.zone_for_name(to_name(name), resolver=self._resolver)
                )
            except dns.resolver.NoRootSOA:
                raise _not_delegated(name) from None
        # Only a registry's zone is left when the domain is not registered, or is on hold.
        if "." not in zone:
            raise _not_delegated(name)
        return zone

    def name_servers(self, zone: str) -> tuple[str, ...]:
        """Return the hosts of the zone's NS records. Raises `ZoneNotFound` when it has none."""
        records = self._records(zone, dns.rdatatype.NS)
        if not records:
            raise _not_delegated(zone)
        return tuple(sorted({name_in_text(record.target) for record in records}))

    def caa(self, name: str) -> tuple[CaaRecord, ...]:
        """Return the CAA records at exactly this name, or where its aliases end (RFC 8659 §3)."""
        return tuple(
            CaaRecord(record.flags, _text(record.tag).lower(), _text(record.value))
            for record in self._records(name, dns.rdatatype.CAA)
        )

    def txt(self, name: str) -> tuple[str, ...]:
        """Return the TXT values at this name, or at the end of its aliases, each in one piece."""
        records = self._records(name, dns.rdatatype.TXT)
        return tuple(_text(b"".join(record.strings)) for record in records)

    def is_bogus(self, name: str) -> bool:
        """Return whether only a query without signature checks is answered (RFC 4035 §3.2.2)."""
        try:
            self._records(name, dns.rdatatype.SOA)
        except errors.DnsUnavailable:
            unchecked = copy(self._resolver)
            unchecked.set_flags(dns.flags.RD | dns.flags.CD)
            with (
                self._translating_errors(name),
                suppress(dns.resolver.NXDOMAIN, dns.resolver.NoAnswer),
            ):
                unchecked.resolve(to_name(name), dns.rdatatype.SOA)
            return True
        return False

    def apart(self) -> list[Resolvers]:
        """Return each plain resolver by itself, or else those over HTTPS as one."""
        endpoints = self._plain_endpoints()
        return [Resolvers([one], self.answer_within) for one in endpoints] or [self]

    def addresses(self, host: str) -> tuple[str, ...]:
        """Return the IPv4 and IPv6 addresses of a host that were found."""
        found: list[str] = []
        for rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            try:
                answer = self._resolver.resolve(to_name(host), rdtype)
            except dns.resolver.LifetimeTimeout:
                break  # to wait for as long again would find no more
            except dns.exception.DNSException:
                continue  # broken servers fail at AAAA alone
            found += [record.address for record in answer]
        return tuple(dict.fromkeys(found))

    def invented(self) -> dict[str, list[str]]:
        """Return the resolvers with addresses for a name that does not exist, and these."""
        found: dict[str, list[str]] = {}
        for label, server in self._servers.items():
            alone = copy(self._resolver)
            alone.nameservers, alone.lifetime = [server], alone.timeout
            with suppress(dns.exception.DNSException):
                answer = alone.resolve(f"certferry-{secrets.token_hex(8)}.com.", dns.rdatatype.A)
                found[label] = [record.address for record in answer]
        return found

    @cached_property
    def _servers(self) -> dict[str, dns.nameserver.Nameserver]:
        """The resolvers by their names in messages."""
        servers: dict[str, dns.nameserver.Nameserver] = {}
        for address, port in self._plain_endpoints():
            label = address if port == DNS_PORT else f"{address}:{port}"
            servers[label] = dns.nameserver.Do53Nameserver(address, port)
        return servers | {server.called: server for server in self.over_https}

    def _plain_endpoints(self) -> Sequence[tuple[str, int]]:
        if self.endpoints or not self.plain:
            return self.endpoints
        try:
            return system_resolvers(self.system)
        except errors.DnsUnavailable:
            if not self.over_https:
                raise
            return ()

    @cached_property
    def _resolver(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = list(self._servers.values())
        resolver.use_edns(0, 0, PAYLOAD)
        resolver.timeout = self.answer_within.total_seconds()
        resolver.lifetime = resolver.timeout * (len(self._servers) + 1)
        return resolver

    def _records(self, name: str, rdtype: dns.rdatatype.RdataType) -> list[Any]:
        with self._translating_errors(name):
            try:
                return list(self._resolver.resolve(to_name(name), rdtype))
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                return []

    @contextmanager
    def _translating_errors(self, name: str) -> Iterator[None]:
        """Turn dnspython's errors into ours."""
        try:
            yield
        except dns.resolver.LifetimeTimeout as exc:
            said = Text("no resolver answered when asked for {name}: {troubles}")
            message = said.filled(name=name, troubles=self._troubles(exc))
            raise errors.DnsUnavailable(message, hint=_NAME_RESOLVERS) from exc
        except dns.resolver.NoNameservers as exc:
            raise _refused(self._troubles(exc), name) from exc
        except dns.exception.DNSException as exc:  # such as a DNAME that makes the name too long
            raise _refused([verbatim(type(exc).__name__)], name) from exc

    def _troubles(self, exc: dns.exception.DNSException) -> list[Text]:
        """Return for each resolver how it answered the question."""
        whys = {server: _why(trouble) for server, _, _, trouble, _ in exc.kwargs["errors"]}
        return [
            Text("{resolver} ({why})", resolver=label, why=whys.get(str(server), NO_ANSWER))
            for label, server in self._servers.items()
        ]


class DnsLookup(Resolvers):
    """Resolvers that ask those `over_https` again for what the others deny or make up."""

    @cached_property
    def _elsewhere(self) -> Resolvers:
        return Resolvers((), self.answer_within, self.over_https, plain=False)

    def zone_of(self, name: str) -> str:
        """See `Resolvers.zone_of`."""
        return self._not_denied(super().zone_of, self._elsewhere.zone_of, name)

    def name_servers(self, zone: str) -> tuple[str, ...]:
        """See `Resolvers.name_servers`."""
        return self._not_denied(super().name_servers, self._elsewhere.name_servers, zone)

    def addresses(self, host: str) -> tuple[str, ...]:
        """See `Resolvers.addresses`. Made-up ones are reported, and asked for over HTTPS."""
        found = super().addresses(host)
        made_up = made_up_among(found)
        if (found and not made_up) or not self.over_https:
            return found
        if made_up:
            said = Text(
                "a proxy on this host answers DNS with made-up addresses: it says that {host} is at"
                " {addresses}; other resolvers are asked over HTTPS"
            )
            _log.warning(said.filled(host=host, addresses=made_up))
        return self._elsewhere.addresses(host) or found

    def _not_denied(
        self, question: Callable[[str], _T], elsewhere: Callable[[str], _T], name: str
    ) -> _T:
        """Ask elsewhere for what the resolvers deny: a company's know its own names only."""
        try:
            return question(name)
        except errors.ZoneNotFound as denied:
            if not self.over_https:
                raise
            try:
                return elsewhere(name)
            except errors.DnsUnavailable:
                raise denied from None


def made_up_among(addresses: Sequence[str]) -> list[str]:
    """Return the addresses that stand for no host. Loopback is left to closed worlds."""
    return sorted(one for one in set(addresses) if is_made_up(one, at_home=True))


def system_resolvers(path: str = RESOLV_CONF) -> list[tuple[str, int]]:
    """Return the resolvers this host is configured with. Raises `DnsUnavailable` without any."""
    try:
        return [(str(server), DNS_PORT) for server in dns.resolver.Resolver(path).nameservers]
    except dns.resolver.NoResolverConfiguration as exc:
        raise errors.DnsUnavailable(
            Text("this host has no DNS resolver configured"), hint=_NAME_RESOLVERS
        ) from exc


def to_name(text: str) -> dns.name.Name:
    """Return a name as DNS knows it. Raises `DnsRejected` when it is too long for DNS."""
    try:
        return dns.name.from_text(text, dns.name.root)
    except dns.exception.DNSException as exc:
        raise errors.DnsRejected(Text("{name} cannot be asked for in DNS", name=text)) from exc


def name_in_text(name: dns.name.Name) -> str:
    """Return a name in lower case without the final dot; the root is empty."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _text(raw: bytes) -> str:
    """Read what is text by its standard, and may be anything."""
    return raw.decode(errors="replace")


def _not_delegated(name: str) -> errors.ZoneNotFound:
    return errors.ZoneNotFound(
        Text("no zone in the public DNS holds {name}", name=name),
        hint=Text("check that the domain is registered and its name servers are set there"),
        retry=errors.Retry.LATER,
    )


def _refused(troubles: list[Text], name: str) -> errors.DnsUnavailable:
    return errors.DnsUnavailable(
        Text("no resolver could look up {name}: {troubles}", name=name, troubles=troubles),
        hint=Text("check the delegation of the domain, or name other resolvers in [dns].resolvers"),
    )


def _why(trouble: Exception | str) -> Text:
    if isinstance(trouble, str):  # a response code
        return verbatim(trouble)
    if isinstance(trouble, dns.exception.Timeout):
        return NO_ANSWER
    if isinstance(trouble, Unheard):
        return trouble.problem
    if isinstance(trouble, OSError):
        return errors.system_words(trouble)
    return UNREADABLE
