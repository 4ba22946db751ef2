"""The addresses of a domain, as the configured resolvers give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dns.exception
import dns.resolver

from certferry.text import Text

TIMEOUT = 5.0
"""Seconds a resolver may take for one question, retries included."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the resolvers said together: addresses in the order they were first heard of, and what
    went wrong where.
    """

    found: tuple[str, ...]
    problems: tuple[Text, ...]


def resolve(domain: str, resolvers: Sequence[tuple[str, int]]) -> Addresses:
    """Ask every resolver (host, port) for A and AAAA; none given means the system's. CNAMEs are
    followed by the resolver.
    """
    found: dict[str, None] = {}
    problems: list[Text] = []
    for resolver in _resolvers(resolvers):
        for kind in ("A", "AAAA"):
            answer, problem = _ask(resolver, domain, kind)
            found.update(dict.fromkeys(answer))
            if problem is not None:
                problems.append(problem)
                break
    return Addresses(tuple(found), tuple(problems))


def _resolvers(addresses: Sequence[tuple[str, int]]) -> list[dns.resolver.Resolver]:
    if not addresses:
        return [dns.resolver.Resolver()]
    return [_resolver(host, port) for host, port in addresses]


def _resolver(host: str, port: int) -> dns.resolver.Resolver:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [host]
    resolver.port = port
    return resolver


def _ask(resolver: dns.resolver.Resolver, domain: str, kind: str) -> tuple[list[str], Text | None]:
    try:
        answer = resolver.resolve(domain, kind, lifetime=TIMEOUT, search=False)
    except dns.resolver.NoAnswer:
        return [], None
    except dns.resolver.NXDOMAIN:
        return [], Text("{domain} does not exist in DNS", domain=domain)
    except (dns.exception.DNSException, OSError):
        servers = [str(server) for server in resolver.nameservers]
        return [], Text("the resolver {resolver} does not answer", resolver=servers)
    return [record.to_text() for record in answer], None
