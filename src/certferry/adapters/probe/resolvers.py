"""The resolvers that the edges are found through: what they say, and whether it is true."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
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
from certferry.errors import Problem, Severity
from certferry.text import Text

AT_ONCE = 16  # domains

_LET_PASS = Text(
    "let DNS pass by the proxy or filter on this host or in its network, or name resolvers that it"
    " leaves alone under [dns] and [verify], such as 223.5.5.5"
)
_NAME_SOME = Text("name resolvers that answer, such as 223.5.5.5, under [dns] and [verify]")


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the resolvers said together: addresses in order, or at least one problem."""

    found: tuple[str, ...]
    problems: tuple[Problem, ...] = ()


def resolve(
    domain: str, resolvers: Sequence[tuple[str, int]], answer_within: timedelta
) -> Addresses:
    """Ask every resolver (host, port), or the system's, for A and AAAA, all at once.

    `answer_within` is for one question, retries included.
    """
    try:
        asked = resolvers_at(resolvers, answer_within)
    except dns.resolver.NoResolverConfiguration:
        message = Text("this machine names no resolver")
        hint = Text("set `resolvers` under [verify] or [dns]")
        return Addresses((), (Problem(EdgeProblemCode.NO_RESOLVER, message, hint),))
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda resolver: _ask(resolver, domain), asked))
    found = tuple(sorted({address for found, _ in answers for address in found}))
    problems = tuple(problem for _, problem in answers if problem is not None)
    if found or problems:
        return Addresses(found, problems)
    message = Text("{domain} has no address", domain=domain)
    hint = Text("give it the CNAME that the CDN names for the domain")
    return Addresses((), (Problem(EdgeProblemCode.NO_ADDRESS, message, hint),))


def probed_name(domain: str) -> str:
    """Return the name by which a domain is looked up: of a wildcard, one under a label of ours."""
    return f"certferry-probe.{base_name(domain)}" if is_wildcard(domain) else domain


def resolvers_at(
    places: Sequence[tuple[str, int]], answer_within: timedelta
) -> list[dns.resolver.Resolver]:
    """Return each resolver, or the system's together. Raises `NoResolverConfiguration` for none."""
    asked = [dns.resolver.Resolver(configure=False) for _ in places] or [dns.resolver.Resolver()]
    for resolver, (host, port) in zip(asked, places, strict=False):
        resolver.nameservers = [host]
        resolver.port = port
    for resolver in asked:
        resolver.lifetime = answer_within.total_seconds()
    return asked


def _ask(resolver: dns.resolver.Resolver, domain: str) -> tuple[list[str], Problem | None]:
    """Ask for A, then AAAA; after the first trouble the other is not asked for."""
    found: list[str] = []
    for kind in ("A", "AAAA"):
        try:
            answer = resolver.resolve(domain, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            message = Text("{domain} does not exist in DNS", domain=domain)
            hint = Text(
                "check the spelling; a new name needs the CNAME that the CDN names for the domain"
            )
            return found, Problem(EdgeProblemCode.NOT_IN_DNS, message, hint)
        except (dns.exception.DNSException, OSError):
            servers = [str(server) for server in resolver.nameservers]
            message = Text("the resolver {resolver} does not answer", resolver=servers)
            hint = Text("`resolvers` under [verify] names those that are asked")
            return found, Problem(EdgeProblemCode.RESOLVER_SILENT, message, hint)
        found += [record.to_text() for record in answer]
    return found, None


class ResolverCheck:
    """Checks some resolvers, or the system's; in a world `at_home` loopback addresses are true."""

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
        host = probed_name(domain)
        answers = [answer for answer in (_answer(one, host) for one in self._asked) if answer]
        if not answers:  # `honesty` reports silent resolvers
            return []
        addresses = {address for one in answers for address in one.addresses}
        made_up = sorted(one for one in addresses if is_made_up(one, at_home=self._at_home))
        if made_up:
            it = Text("the resolvers say that {domain} is at {addresses}, which stands for no host")
            message = it.filled(domain=domain, addresses=made_up)
            return [error(Code.ADDRESS_MADE_UP, domain, message, _LET_PASS)]
        if any(cname in one.chain for one in answers) or addresses & self._addresses(cname):
            return []
        chain = next((one.chain for one in answers if one.chain), ())
        return [_elsewhere(domain, cname, chain, sorted(addresses))]

    def _addresses(self, host: str) -> set[str]:
        """Return a name's addresses, which a provider may write in the place of a CNAME."""
        found = (_answer(resolver, host) for resolver in self._asked)
        return {address for one in found if one is not None for address in one.addresses}


@dataclass(frozen=True, slots=True)
class _Answer:
    """Where a name leads: its aliases in order, and the addresses at their end."""

    chain: tuple[str, ...]
    addresses: tuple[str, ...]


def _answer(resolver: dns.resolver.Resolver, host: str) -> _Answer | None:
    """Ask for a host's address; `None` where no usable answer comes."""
    try:
        message: Any = resolver.resolve(host, "A", search=False, raise_on_no_answer=False).response
    except dns.resolver.NXDOMAIN as missing:
        message = next(iter(missing.kwargs["responses"].values()))
    except (dns.exception.DNSException, OSError):
        return None
    # Records of another class than IN have other fields.
    found = [one for one in message.answer if one.rdclass == dns.rdataclass.IN]
    aliases = (one for records in found if records.rdtype == dns.rdatatype.CNAME for one in records)
    hosts = (one for records in found if records.rdtype == dns.rdatatype.A for one in records)
    chain = tuple(str(record.target).rstrip(".").lower() for record in aliases)
    return _Answer(chain, tuple(record.address for record in hosts))


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
    said = Text("the resolver {resolver} says that a name which does not exist is at {addresses}")
    message = said.filled(resolver=where, addresses=addresses)
    return error(Code.RESOLVER_INVENTS, where, message, _LET_PASS)


def _elsewhere(domain: str, cname: str, chain: Sequence[str], addresses: Sequence[str]) -> Problem:
    """Report a domain that leads elsewhere, perhaps to a service in between, or nowhere."""
    fix = Text("set a CNAME of {domain} to {cname}, or remove the domain at the target")
    fix = fix.filled(domain=domain, cname=cname)
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
