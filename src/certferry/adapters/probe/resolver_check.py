"""What resolvers say: the addresses of a domain, whether they are honest, and where they say that
domains are.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import dns.exception
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.certificates.names import base_name, is_wildcard
from certferry.core.findings import Code, error, warning
from certferry.core.network import is_made_up
from certferry.problem import Problem, Severity
from certferry.text import Text

AT_ONCE = 16
"""Domains."""

_LET_PASS = Text(
    "let DNS pass by the proxy or filter on this host or in its network, or name resolvers that it"
    " leaves alone under [dns] and [verify], such as 223.5.5.5"
)
_NAME_SOME = Text("name resolvers that answer, such as 223.5.5.5, under [dns] and [verify]")
_NO_RESOLVER = Problem(
    EdgeProblemCode.NO_RESOLVER,
    Text("this machine names no resolver"),
    Text("set `resolvers` under [verify] or [dns]"),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the resolvers said together: addresses in order, and what went wrong where."""

    found: tuple[str, ...]
    problems: tuple[Problem, ...]


def resolve(
    domain: str, resolvers: Sequence[tuple[str, int]], answer_within: timedelta
) -> Addresses:
    """Ask every resolver (host, port) for A and AAAA, all at once; none given means the system's.

    CNAMEs are followed by the resolver. `answer_within` is for one question, retries included.
    """
    try:
        asked = resolvers_at(resolvers, answer_within)
    except dns.resolver.NoResolverConfiguration:
        return Addresses((), (_NO_RESOLVER,))
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda resolver: _ask_both(resolver, domain), asked))
    return Addresses(
        found=tuple(sorted({address for found, _ in answers for address in found})),
        problems=tuple(problem for _, problem in answers if problem is not None),
    )


def _ask_both(resolver: dns.resolver.Resolver, domain: str) -> tuple[list[str], Problem | None]:
    """Ask for A, then AAAA; after the first trouble the other is not asked for."""
    found, problem = _ask(resolver, domain, "A")
    if problem is not None:
        return found, problem
    others, problem = _ask(resolver, domain, "AAAA")
    return found + others, problem


def resolvers_at(
    places: Sequence[tuple[str, int]], answer_within: timedelta
) -> list[dns.resolver.Resolver]:
    """Return each resolver (host, port) by itself; none given means the system's together. Raises
    `NoResolverConfiguration` where the system has none.
    """
    asked = [dns.resolver.Resolver(configure=False) for _ in places] or [dns.resolver.Resolver()]
    for resolver, (host, port) in zip(asked, places, strict=False):
        resolver.nameservers = [host]
        resolver.port = port
    for resolver in asked:
        resolver.lifetime = answer_within.total_seconds()
    return asked


def _ask(
    resolver: dns.resolver.Resolver, domain: str, kind: str
) -> tuple[list[str], Problem | None]:
    try:
        answer = resolver.resolve(domain, kind, search=False)
    except dns.resolver.NoAnswer:
        return [], None
    except dns.resolver.NXDOMAIN:
        said = Text("{domain} does not exist in DNS", domain=domain)
        hint = Text(
            "check the spelling; a new name needs the CNAME that the CDN names for the domain"
        )
        return [], Problem(EdgeProblemCode.NOT_IN_DNS, said, hint)
    except (dns.exception.DNSException, OSError):
        servers = [str(server) for server in resolver.nameservers]
        said = Text("the resolver {resolver} does not answer", resolver=servers)
        hint = Text("`resolvers` under [verify] names those that are asked")
        return [], Problem(EdgeProblemCode.RESOLVER_SILENT, said, hint)
    return [record.to_text() for record in answer], None


def without_address(host: str) -> Problem:
    """Return that a name exists, and has neither an IPv4 nor an IPv6 address."""
    return Problem(
        EdgeProblemCode.NO_ADDRESS,
        Text("{domain} has no address", domain=host),
        Text("give it the CNAME that the CDN names for the domain"),
    )


def host_of(domain: str) -> str:
    """Return the host that is asked for: for a wildcard, a label of ours."""
    return f"certferry-probe.{base_name(domain)}" if is_wildcard(domain) else domain


class ResolverCheck:
    """Checks some resolvers, the system's where none is given. In a world that is `at_home`,
    on loopback as a whole, loopback addresses are true. Raises nothing for what it meets.
    """

    def __init__(
        self,
        resolvers: Sequence[tuple[str, int]],
        answer_within: timedelta,
        *,
        at_home: bool = False,
    ) -> None:
        try:
            self._asked = resolvers_at(resolvers, answer_within)
        except dns.resolver.NoResolverConfiguration:
            self._asked = []
        self._at_home = at_home

    def honesty(self) -> list[Problem]:
        """Ask each resolver for a name that does not exist; if none answers, that is an error."""
        if not self._asked:
            message = Text("this host has no DNS resolver configured")
            return [error(Code.RESOLVER_SILENT, "resolv.conf", message, _NAME_SOME)]
        with ThreadPoolExecutor(len(self._asked)) as pool:
            heard = list(pool.map(_ask_for_nothing, self._asked))
        are_silent = all(one is not None and one.code == Code.RESOLVER_SILENT for one in heard)
        weight = Severity.ERROR if are_silent else Severity.WARNING
        return [
            replace(one, severity=weight) if one.code == Code.RESOLVER_SILENT else one
            for one in heard
            if one is not None
        ]

    def domains(self, cnames: Mapping[str, str]) -> list[Problem]:
        """Check that each domain leads to its CNAME."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(self._domain, cnames, cnames.values())
            return [finding for findings in found for finding in findings]

    def _domain(self, domain: str, cname: str) -> list[Problem]:
        host = host_of(domain)
        answers = [answer for answer in (_answer(one, host) for one in self._asked) if answer]
        if not answers:  # `honesty` reports silent resolvers
            return []
        home = self._at_home
        made_up = sorted(
            {a for one in answers for a in one.addresses if is_made_up(a, at_home=home)}
        )
        if made_up:
            return [_invented(domain, made_up)]
        addresses = {address for one in answers for address in one.addresses}
        if any(cname in one.chain for one in answers) or addresses & self._addresses(cname):
            return []
        chain = next((one.chain for one in answers if one.chain), ())
        return [_elsewhere(domain, cname, chain, sorted(addresses))]

    def _addresses(self, host: str) -> set[str]:
        """Return a name's addresses, which a provider may write in the place of a CNAME."""
        found = (_answer(resolver, host) for resolver in self._asked)
        return {address for one in found if one is not None for address in one.addresses}


class _Answer:
    """Where a name leads: its aliases in order, and the addresses at their end."""

    def __init__(self, message: Any) -> None:
        aliases = _of_type(message, dns.rdatatype.CNAME)
        self.chain = tuple(str(record.target).rstrip(".").lower() for record in aliases)
        self.addresses: tuple[str, ...] = tuple(
            record.address for record in _of_type(message, dns.rdatatype.A)
        )


def _of_type(message: Any, rdtype: dns.rdatatype.RdataType) -> Iterator[Any]:
    """Return an answer's records of one type. Those of another class than IN have other fields."""
    for records in message.answer:
        if records.rdclass == dns.rdataclass.IN and records.rdtype == rdtype:
            yield from records


def _answer(resolver: dns.resolver.Resolver, host: str) -> _Answer | None:
    """Ask for a host's address; `None` where no usable answer comes."""
    try:
        found = resolver.resolve(host, "A", search=False, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN as missing:
        return _Answer(next(iter(missing.kwargs["responses"].values())))
    except (dns.exception.DNSException, OSError):
        return None
    return _Answer(found.response)


def _ask_for_nothing(resolver: dns.resolver.Resolver) -> Problem | None:
    """Ask for a name of 16 random digits, which has not been registered."""
    where = ", ".join(str(server) for server in resolver.nameservers)
    try:
        found = resolver.resolve(f"certferry-{secrets.token_hex(8)}.com", "A", search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    except (dns.exception.DNSException, OSError):
        message = Text("the resolver {resolver} does not answer", resolver=where)
        return warning(Code.RESOLVER_SILENT, where, message, _NAME_SOME)
    addresses = [record.to_text() for record in found]
    message = Text(
        "the resolver {resolver} says that a name which does not exist is at {addresses}",
        resolver=where,
        addresses=addresses,
    )
    return error(Code.RESOLVER_INVENTS, where, message, _LET_PASS)


def _invented(domain: str, addresses: Sequence[str]) -> Problem:
    message = Text(
        "the resolvers say that {domain} is at {addresses}, which stands for no host",
        domain=domain,
        addresses=addresses,
    )
    return error(Code.ADDRESS_MADE_UP, domain, message, _LET_PASS)


def _elsewhere(domain: str, cname: str, chain: Sequence[str], addresses: Sequence[str]) -> Problem:
    """A domain without any address is served by none; where it leads elsewhere, that may be a
    service in between which leads to the target from other places.
    """
    fix = Text(
        "set a CNAME of {domain} to {cname}, or remove the domain at the target",
        domain=domain,
        cname=cname,
    )
    if not chain and not addresses:
        message = Text("{domain} has no address in the public DNS", domain=domain)
        return error(Code.NOT_POINTED, domain, message, fix)
    message = Text(
        "{domain} leads to {found}, and not to {cname}: its visitors may not be served by the"
        " target",
        domain=domain,
        found=list(chain[-1:]) or list(addresses),
        cname=cname,
    )
    return warning(Code.POINTED_ELSEWHERE, domain, message, fix)
