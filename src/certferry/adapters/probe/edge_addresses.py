"""Find the addresses of edges through resolvers, and check whether the resolvers' answers are
genuine.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import dns.exception
import dns.rdataclass
import dns.rdatatype
import dns.resolver
from msgspec import Struct

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.certificates.names import base_name, is_wildcard
from certferry.core.findings import Code, error, warning
from certferry.core.network import is_made_up
from certferry.errors import Problem, Severity
from certferry.text import Text
from certferry.values import replace

AT_ONCE = 16  # domains checked in parallel

_LET_PASS = Text(
    "let DNS bypass the proxy or filter on this host or in its network, or set `resolvers` under "
    "[dns] and [verify] to resolvers that the proxy leaves alone, for example 223.5.5.5"
)
_NAME_SOME = Text(
    "set `resolvers` under [dns] and [verify] to resolvers that answer, for example 223.5.5.5"
)


class Addresses(Struct, frozen=True):
    """The merged answers of all resolvers: at least one address or one problem."""

    #: The addresses, sorted.
    found: tuple[str, ...]
    #: The failures of resolvers, or the lack of an address.
    problems: tuple[Problem, ...] = ()


def resolve(
    domain: str, resolvers: Sequence[tuple[str, int]], answer_within: timedelta
) -> Addresses:
    """Ask all `resolvers` (host and port) in parallel for a domain's A and AAAA records, and return
    the merged answers. If `resolvers` is empty, ask the system's resolvers.

    `answer_within` is the time limit for a single question, retries included.
    """
    try:
        asked = resolvers_at(resolvers, answer_within)
    except dns.resolver.NoResolverConfiguration:
        message = Text("this host has no resolver configured")
        hint = Text("set `resolvers` under [verify] or [dns]")
        return Addresses((), (Problem(EdgeProblemCode.NO_RESOLVER, message, hint),))
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda resolver: _ask(resolver, domain), asked))
    merged = tuple(sorted({address for addresses, _ in answers for address in addresses}))
    problems = tuple(problem for _, problem in answers if problem is not None)
    if merged or problems:
        return Addresses(merged, problems)
    message = Text("{domain} has no address", domain=domain)
    hint = Text("set a CNAME of the domain to the name shown by the CDN")
    return Addresses((), (Problem(EdgeProblemCode.NO_ADDRESS, message, hint),))


def probed_name(domain: str) -> str:
    """Return the name to look up for a domain; for a wildcard, a name below the wildcard."""
    return f"certferry-probe.{base_name(domain)}" if is_wildcard(domain) else domain


def resolvers_at(
    places: Sequence[tuple[str, int]], answer_within: timedelta
) -> list[dns.resolver.Resolver]:
    """Return a dnspython resolver for each host and port in `places`. If `places` is empty, return
    a single resolver that asks the system's name servers.

    Raises `NoResolverConfiguration` if the system has no name server.
    """
    asked = [dns.resolver.Resolver(configure=False) for _ in places] or [dns.resolver.Resolver()]
    for resolver, (host, port) in zip(asked, places, strict=False):
        resolver.nameservers = [host]
        resolver.port = port
    for resolver in asked:
        resolver.lifetime = answer_within.total_seconds()
    return asked


def _ask(resolver: dns.resolver.Resolver, domain: str) -> tuple[list[str], Problem | None]:
    """Ask for A records, then for AAAA records. Return the addresses, and the problem if a question
    failed. After a failed question for A, don't ask for AAAA.
    """
    addresses: list[str] = []
    for kind in ("A", "AAAA"):
        try:
            answer = resolver.resolve(domain, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            message = Text("{domain} does not exist in DNS", domain=domain)
            hint = Text(
                "check the spelling; a new domain needs a CNAME to the name shown by the CDN"
            )
            return addresses, Problem(EdgeProblemCode.NOT_IN_DNS, message, hint)
        except (dns.exception.DNSException, OSError):
            servers = [str(server) for server in resolver.nameservers]
            message = Text("the resolver {resolver} does not answer", resolver=servers)
            hint = Text(
                "correct `resolvers` under [verify]: certferry asks the resolvers listed there"
            )
            return addresses, Problem(EdgeProblemCode.RESOLVER_SILENT, message, hint)
        addresses += [record.to_text() for record in answer]
    return addresses, None


class ResolverCheck:
    """Checks the given resolvers, or else the system's resolvers.

    `at_home`: loopback addresses count as real, as in tests on a host without internet.
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
        """Ask each resolver for a name that does not exist, and return the problems. Silence of all
        resolvers is an error, silence of some is a warning.
        """
        if not self._asked:
            message = Text("this host has no DNS resolver configured")
            return [error(Code.RESOLVER_SILENT, "resolv.conf", message, _NAME_SOME)]
        with ThreadPoolExecutor(len(self._asked)) as pool:
            problems = list(pool.map(_ask_for_nothing, self._asked))
        are_silent = all(p is not None and p.code == Code.RESOLVER_SILENT for p in problems)
        weight = Severity.ERROR if are_silent else Severity.WARNING
        return [
            replace(problem, severity=weight) if problem.code == Code.RESOLVER_SILENT else problem
            for problem in problems
            if problem is not None
        ]

    def domains(self, cnames: Mapping[str, str]) -> list[Problem]:
        """Return a problem for each domain with made-up addresses, and for each domain that does
        not lead to the target: neither the domain's CNAMEs nor its addresses fit `cnames`, which
        has the target's name for each domain.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            by_domain = pool.map(self._domain, cnames, cnames.values())
            return [finding for findings in by_domain for finding in findings]

    def _domain(self, domain: str, cname: str) -> list[Problem]:
        host = probed_name(domain)
        answers = [
            answer for answer in (_answer(resolver, host) for resolver in self._asked) if answer
        ]
        if not answers:  # `honesty` reports silent resolvers
            return []
        addresses = {address for answer in answers for address in answer.addresses}
        made_up = sorted(a for a in addresses if is_made_up(a, at_home=self._at_home))
        if made_up:
            sentence = Text(
                "the resolvers give {addresses} for {domain}, which is no host's address"
            )
            message = sentence.filled(domain=domain, addresses=made_up)
            return [error(Code.ADDRESS_MADE_UP, domain, message, _LET_PASS)]
        if any(cname in answer.chain for answer in answers) or addresses & self._addresses(cname):
            return []
        chain = next((answer.chain for answer in answers if answer.chain), ())
        return [_elsewhere(domain, cname, chain, sorted(addresses))]

    def _addresses(self, host: str) -> set[str]:
        """Return the addresses of the target's name. Some DNS providers answer with the target's
        addresses in place of a CNAME.
        """
        answers = (_answer(resolver, host) for resolver in self._asked)
        return {a for answer in answers if answer is not None for a in answer.addresses}


class _Answer(Struct, frozen=True):
    """A resolver's answer for a name."""

    #: The targets of CNAMEs, in order.
    chain: tuple[str, ...]
    #: The addresses at the end of the chain.
    addresses: tuple[str, ...]


def _answer(resolver: dns.resolver.Resolver, host: str) -> _Answer | None:
    """Ask for a host's address; `None` without a usable answer."""
    try:
        message: Any = resolver.resolve(host, "A", search=False, raise_on_no_answer=False).response
    except dns.resolver.NXDOMAIN as missing:
        message = next(iter(missing.kwargs["responses"].values()))
    except (dns.exception.DNSException, OSError):
        return None
    # Records of another class than IN have other fields.
    rrsets = [rrset for rrset in message.answer if rrset.rdclass == dns.rdataclass.IN]
    aliases = (alias for rrset in rrsets if rrset.rdtype == dns.rdatatype.CNAME for alias in rrset)
    addresses = (record for rrset in rrsets if rrset.rdtype == dns.rdatatype.A for record in rrset)
    chain = tuple(str(record.target).rstrip(".").lower() for record in aliases)
    return _Answer(chain, tuple(record.address for record in addresses))


def _ask_for_nothing(resolver: dns.resolver.Resolver) -> Problem | None:
    """Ask for an unregistered name of random digits; return the problem, if any."""
    where = ", ".join(str(server) for server in resolver.nameservers)
    try:
        answer = resolver.resolve(f"certferry-{secrets.token_hex(8)}.com", "A", search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    except (dns.exception.DNSException, OSError):
        message = Text("the resolver {resolver} does not answer", resolver=where)
        return warning(Code.RESOLVER_SILENT, where, message, _NAME_SOME)
    addresses = [record.to_text() for record in answer]
    sentence = Text("the resolver {resolver} gives {addresses} for a name that does not exist")
    message = sentence.filled(resolver=where, addresses=addresses)
    return error(Code.RESOLVER_INVENTS, where, message, _LET_PASS)


def _elsewhere(domain: str, cname: str, chain: Sequence[str], addresses: Sequence[str]) -> Problem:
    """Return the problem of a domain that does not lead to the target: an error if the domain has
    no address, or a warning, because the domain may lead to a service in front of the target.
    """
    fix = Text("set a CNAME of {domain} to {cname}, or remove the domain at the target")
    fix = fix.filled(domain=domain, cname=cname)
    if not chain and not addresses:
        message = Text("{domain} has no address in the public DNS", domain=domain)
        return error(Code.NOT_POINTED, domain, message, fix)
    message = Text(
        "{domain} resolves to {found} instead of {cname}: the target may not serve the domain's "
        "visitors",
        domain=domain,
        found=list(chain[-1:]) or list(addresses),
        cname=cname,
    )
    return warning(Code.POINTED_ELSEWHERE, domain, message, fix)
