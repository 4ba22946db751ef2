"""Ask recursive resolvers about a name, also over HTTPS (RFC 8484)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
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
from msgspec import Struct

from certferry import errors
from certferry.adapters.http.exchange import Timeouts
from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry.core.network import CaaRecord, is_made_up
from certferry.ports.adapter import Http, NoAnswer
from certferry.ports.progress import Pause
from certferry.text import Text, verbatim

MESSAGE = "application/dns-message"
"""The media type of a DNS message (RFC 8484 §6)."""

LONGEST_MESSAGE = 65535  # bytes (RFC 1035 §4.2.2)
REQUESTS_PER_SECOND = 10.0  # public resolvers slow down faster clients
DNS_PORT, HTTPS_PORT = 53, 443  # RFC 1035 §4.2, RFC 9110 §4.2.2
RESOLV_CONF = "/etc/resolv.conf"
PAYLOAD = 1232  # bytes; the EDNS buffer size agreed on at DNS flag day 2020

NO_ANSWER = Text("no answer")
UNREADABLE = Text("an unreadable answer")

_NAME_RESOLVERS = Text('set [dns].resolvers to resolvers that answer, for example "223.5.5.5"')

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class Unheard(OSError):
    """Raised if a resolver gives no usable answer; dnspython then asks the other resolvers."""

    def __init__(self, problem: Text) -> None:
        super().__init__(str(problem))
        #: Why no answer came.
        self.problem = problem


class InvalidSignatures(Struct, frozen=True):
    """Signatures (DNSSEC) that a validating resolver refuses."""

    #: The end of the signature that ends first; `None` if the zone sends no signature.
    first_end: datetime | None


class HttpsResolver(dns.nameserver.Nameserver):
    """The resolver at a URL, for dnspython. Sentences for operators name only the host, because the
    URL's path may hold a secret.
    """

    def __init__(self, url: str, http: Http) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # dnspython leaves the method untyped
        self._url = url
        self._http = http

    @property
    def called(self) -> str:
        """The resolver's name in sentences."""
        return f"https://{urlsplit(self._url).netloc}"

    def ask(self, query: dns.message.QueryMessage) -> dns.message.Message:
        """Return the answer to a question, with any response code. Raises `Unheard`."""
        asked = copy(query)
        asked.id = 0  # allows caches on the way (RFC 8484 §4.1)
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
        """Return the resolver's name for dnspython's errors."""
        return self.called

    def kind(self) -> str:
        """Return dnspython's name for DNS over HTTPS."""
        return "DoH"

    def is_always_max_size(self) -> bool:
        """Return `True`: answers over HTTPS are complete."""
        return True

    def answer_nameserver(self) -> str:
        """Return the resolver's name for dnspython's answers."""
        return self.called

    def answer_port(self) -> int:
        """Return the URL's port."""
        return urlsplit(self._url).port or HTTPS_PORT

    def query(
        self, request: dns.message.QueryMessage, timeout: float, *args: Any, **kwargs: Any
    ) -> dns.message.Message:
        """Ask on behalf of dnspython; `HttpClient` has its own time-outs."""
        del timeout, args, kwargs
        return self.ask(request)


def at_urls(
    urls: tuple[str, ...], answer_within: timedelta, pause: Pause
) -> tuple[HttpsResolver, ...]:
    """Return a resolver for each URL, each with separate connections."""
    timeouts = Timeouts(connect=answer_within, read=answer_within, whole=2 * answer_within)
    client = partial(HttpClient, pause=pause, timeouts=timeouts, longest=LONGEST_MESSAGE)
    pace = partial(Pacer, REQUESTS_PER_SECOND, pause=pause)
    # A single attempt, because the caller asks again later.
    return tuple(HttpsResolver(url, client(pace=pace(), attempts=1)) for url in urls)


@dataclass(eq=False)
class Resolvers:
    """Recursive resolvers, asked in turn until a resolver answers. Thread-safe.

    If no resolver answers, `addresses` and `invented` return nothing, and every other question
    raises `DnsUnavailable`. If this host has no resolver configured, every question raises
    `DnsUnavailable`. Names are A-labels without a final dot.
    """

    #: Address and port of each resolver; the system's resolvers if empty.
    endpoints: Sequence[tuple[str, int]]
    #: How long to wait for one answer.
    answer_within: timedelta
    #: Resolvers asked after `endpoints`.
    over_https: Sequence[HttpsResolver] = ()
    _: KW_ONLY
    #: `False`: ask only `over_https`.
    plain: bool = True
    #: Path of the system's resolver configuration.
    system: str = RESOLV_CONF

    def __post_init__(self) -> None:
        for address, _ in self.endpoints:
            if not dns.inet.is_address(address):
                raise errors.ConfigError(
                    Text("the resolver {address} is not an IP address", address=repr(address)),
                    hint=Text("write addresses in [dns].resolvers, for example 223.5.5.5"),
                )

    def alias(self, name: str) -> str | None:
        """Return the target of the name's CNAME, without following further CNAMEs; `None` without a
        CNAME.
        """
        # dnspython's own `canonical_name` would follow the whole chain, and fail if the servers at
        # the end of the chain do not answer.
        records = self._records(name, dns.rdatatype.CNAME)
        return name_in_text(records[0].target) if records else None

    def zone_of(self, name: str) -> str:
        """Return the zone that holds a name. Raises `ZoneNotFound` if the closest zone is a
        top-level domain or the root.
        """
        with self._translating_errors(name):
            try:
                zone = name_in_text(
                    dns.resolver.zone_for_name(to_name(name), resolver=self._resolver)
                )
            except dns.resolver.NoRootSOA:
                raise _not_delegated(name) from None
        # For an unregistered domain, or a domain on hold, the answer is the registry's zone.
        if "." not in zone:
            raise _not_delegated(name)
        return zone

    def name_servers(self, zone: str) -> tuple[str, ...]:
        """Return the hosts of the zone's NS records. Raises `ZoneNotFound` without any."""
        records = self._records(zone, dns.rdatatype.NS)
        if not records:
            raise _not_delegated(zone)
        return tuple(sorted({name_in_text(record.target) for record in records}))

    def caa(self, name: str) -> tuple[CaaRecord, ...]:
        """Return the CAA records at this name, or at the end of its aliases (RFC 8659 §3)."""
        return tuple(
            CaaRecord(record.flags, _text(record.tag).lower(), _text(record.value))
            for record in self._records(name, dns.rdatatype.CAA)
        )

    def txt(self, name: str) -> tuple[str, ...]:
        """Return the TXT values at this name, or at the end of its aliases, strings joined."""
        records = self._records(name, dns.rdatatype.TXT)
        return tuple(_text(b"".join(record.strings)) for record in records)

    def invalid_signatures(self, name: str) -> InvalidSignatures | None:
        """Return a value if resolvers answer only when asked to skip DNSSEC checks (RFC 4035
        §3.2.2), and `None` if resolvers answer anyway. Raises `DnsUnavailable` if resolvers never
        answer.
        """
        try:
            self._records(name, dns.rdatatype.SOA)
        except errors.DnsUnavailable:
            unchecked = copy(self._resolver)
            unchecked.set_flags(dns.flags.RD | dns.flags.CD)
            unchecked.use_edns(0, dns.flags.DO, PAYLOAD)
            with self._translating_errors(name):
                try:
                    answer = unchecked.resolve(
                        to_name(name), dns.rdatatype.SOA, raise_on_no_answer=False
                    )
                    responses = [answer.response]
                except dns.resolver.NXDOMAIN as missing:
                    by_name = missing.responses()  # type: ignore[no-untyped-call]  # dnspython leaves it untyped
                    responses = list(by_name.values())
            ends = [
                datetime.fromtimestamp(record.expiration, UTC)
                for response in responses
                for records in (*response.answer, *response.authority)
                if records.rdtype == dns.rdatatype.RRSIG
                for record in records
            ]
            return InvalidSignatures(min(ends, default=None))
        return None

    def apart(self) -> list[Resolvers]:
        """Return a `Resolvers` for each resolver over plain DNS. Without plain DNS, return only
        this object, which then asks the resolvers over HTTPS.
        """
        endpoints = self._plain_endpoints()
        return [Resolvers([endpoint], self.answer_within) for endpoint in endpoints] or [self]

    def addresses(self, host: str) -> tuple[str, ...]:
        """Return the IPv4 and IPv6 addresses of a host; empty if resolvers fail."""
        addresses: list[str] = []
        for rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            try:
                answer = self._resolver.resolve(to_name(host), rdtype)
            except dns.resolver.LifetimeTimeout:
                break  # asking for AAAA would only wait as long again
            except dns.exception.DNSException:
                continue  # broken servers fail only at AAAA
            addresses += [record.address for record in answer]
        return tuple(dict.fromkeys(addresses))

    def invented(self) -> dict[str, list[str]]:
        """Ask each resolver for a name that does not exist. Return the made-up addresses, by
        resolver; a resolver without a made-up address is left out.
        """
        invented: dict[str, list[str]] = {}
        for label, server in self._servers.items():
            alone = copy(self._resolver)
            alone.nameservers, alone.lifetime = [server], alone.timeout
            with suppress(dns.exception.DNSException):
                answer = alone.resolve(f"certferry-{secrets.token_hex(8)}.com.", dns.rdatatype.A)
                invented[label] = [record.address for record in answer]
        return invented

    @cached_property
    def _servers(self) -> dict[str, dns.nameserver.Nameserver]:
        """The resolvers, by label in messages."""
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
        """Turn dnspython's errors into `DnsError`."""
        try:
            yield
        except dns.resolver.LifetimeTimeout as exc:
            sentence = Text("no resolver answered the query for {name}: {troubles}")
            message = sentence.filled(name=name, troubles=self._troubles(exc))
            raise errors.DnsUnavailable(message, hint=_NAME_RESOLVERS) from exc
        except dns.resolver.NoNameservers as exc:
            raise _refused(self._troubles(exc), name) from exc
        except (
            dns.exception.DNSException
        ) as exc:  # for example a DNAME that makes the name too long
            raise _refused([verbatim(type(exc).__name__)], name) from exc

    def _troubles(self, exc: dns.exception.DNSException) -> list[Text]:
        """Return how each resolver failed to answer."""
        whys = {server: _why(trouble) for server, _, _, trouble, _ in exc.kwargs["errors"]}
        return [
            Text("{resolver} ({why})", resolver=label, why=whys.get(str(server), NO_ANSWER))
            for label, server in self._servers.items()
        ]


class DnsLookup(Resolvers):
    """Resolvers for a host with restricted DNS. For a zone, its name servers and an address, the
    resolvers over HTTPS are asked as well if the plain resolvers find nothing or make up addresses.
    """

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
        """See `Resolvers.addresses`. If the plain resolvers give no address, or a made-up address,
        ask over HTTPS.
        """
        addresses = super().addresses(host)
        made_up = made_up_among(addresses)
        if (addresses and not made_up) or not self.over_https:
            return addresses
        if made_up:
            sentence = Text(
                "a proxy on this host answers DNS with made-up addresses ({addresses} for "
                "{host}); other resolvers are asked over HTTPS"
            )
            _log.warning(sentence.filled(host=host, addresses=made_up))
        return self._elsewhere.addresses(host) or addresses

    def _not_denied(
        self, question: Callable[[str], _T], elsewhere: Callable[[str], _T], name: str
    ) -> _T:
        """If the plain resolvers find no zone for a name, and there are resolvers over HTTPS, ask
        `elsewhere`.

        A company's resolvers may know only the company's names.
        """
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
    """Return the made-up addresses, sorted. A loopback address counts as real, for tests on hosts
    without internet.
    """
    return sorted(address for address in set(addresses) if is_made_up(address, at_home=True))


def system_resolvers(path: str = RESOLV_CONF) -> list[tuple[str, int]]:
    """Return this host's configured resolvers. Raises `DnsUnavailable` without any."""
    try:
        return [(str(server), DNS_PORT) for server in dns.resolver.Resolver(path).nameservers]
    except dns.resolver.NoResolverConfiguration as exc:
        raise errors.DnsUnavailable(
            Text("this host has no DNS resolver configured"), hint=_NAME_RESOLVERS
        ) from exc


def to_name(text: str) -> dns.name.Name:
    """Return a name for dnspython. Raises `DnsRejected` if DNS forbids the name."""
    try:
        return dns.name.from_text(text, dns.name.root)
    except dns.exception.DNSException as exc:
        raise errors.DnsRejected(
            Text("{name} is too long or malformed for a DNS query", name=text)
        ) from exc


def name_in_text(name: dns.name.Name) -> str:
    """Return a name in lower case without the final dot; empty for the root."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _text(raw: bytes) -> str:
    """Decode UTF-8; a replacement character stands for each malformed byte."""
    return raw.decode(errors="replace")


def _not_delegated(name: str) -> errors.ZoneNotFound:
    return errors.ZoneNotFound(
        Text("no zone in the public DNS holds {name}", name=name),
        hint=Text(
            "check that the domain is registered and that its name servers are set at the registrar"
        ),
        retry=errors.Retry.LATER,
    )


def _refused(troubles: list[Text], name: str) -> errors.DnsUnavailable:
    return errors.DnsUnavailable(
        Text("no resolver could look up {name}: {troubles}", name=name, troubles=troubles),
        hint=Text("check the delegation of the domain, or set other resolvers in [dns].resolvers"),
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
