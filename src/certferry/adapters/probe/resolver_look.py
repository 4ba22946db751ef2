"""Check the resolvers that the edges are found through, and where they say that domains are."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dns.exception
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from certferry.adapters.probe.addresses import resolvers_at
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


class ResolverLook:
    """Looks through some resolvers, the system's where none is given. In a world that is `at_home`,
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
        host = f"certferry-probe.{base_name(domain)}" if is_wildcard(domain) else domain
        answers = [answer for answer in (_answer(one, host) for one in self._asked) if answer]
        if not answers:  # `honesty` reports silent resolvers
            return []
        made_up = sorted({a for one in answers for a in one.addresses if self._is_made_up(a)})
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

    def _is_made_up(self, address: str) -> bool:
        return is_made_up(address, at_home=self._at_home)


class _Answer:
    """Where a name leads: its aliases in order, and the addresses at their end."""

    def __init__(self, message: Any) -> None:
        self.chain: tuple[str, ...] = tuple(
            str(record.target).rstrip(".").lower()
            for record in _of_type(message, dns.rdatatype.CNAME)
        )
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
