"""The addresses of a domain, as the configured resolvers give them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import dns.exception
import dns.resolver

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.problem import Problem
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the resolvers said together: addresses in order, and what went wrong
    where.
    """

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
    found: list[str] = []
    problem: Problem | None = None
    for kind in ("A", "AAAA"):
        if problem is None:
            answer, problem = _ask(resolver, domain, kind)
            found += answer
    return found, problem


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
        return [], Problem(
            EdgeProblemCode.NOT_IN_DNS,
            Text("{domain} does not exist in DNS", domain=domain),
            Text(
                "check the spelling; a new name needs the CNAME that the CDN names for the domain"
            ),
        )
    except (dns.exception.DNSException, OSError):
        servers = [str(server) for server in resolver.nameservers]
        return [], Problem(
            EdgeProblemCode.RESOLVER_SILENT,
            Text("the resolver {resolver} does not answer", resolver=servers),
            Text("`resolvers` under [verify] names those that are asked"),
        )
    return [record.to_text() for record in answer], None


_NO_RESOLVER = Problem(
    EdgeProblemCode.NO_RESOLVER,
    Text("this machine names no resolver"),
    Text("set `resolvers` under [verify] or [dns]"),
)


def without_address(host: str) -> Problem:
    """Return that a name exists, and has neither an IPv4 nor an IPv6 address."""
    return Problem(
        EdgeProblemCode.NO_ADDRESS,
        Text("{domain} has no address", domain=host),
        Text("give it the CNAME that the CDN names for the domain"),
    )
