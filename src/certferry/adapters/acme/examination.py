"""Checks of names, zones and resolvers for `doctor`. The check of CAA records also precedes an
order.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache

import dns.message
import dns.rcode
import dns.rdatatype
from msgspec import Struct

from certferry.adapters.acme.propagation import (
    SILENT,
    DnsPropagation,
    Propagation,
    account_at,
    explained,
    finder_of,
)
from certferry.adapters.acme.resolvers import HttpsResolver, InvalidSignatures, Resolvers, Unheard
from certferry.core import dns_persist
from certferry.core.certificates.names import base_name, challenge_name, is_wildcard
from certferry.core.findings import Code, error, warning
from certferry.core.network import (
    DNS_01,
    Applicant,
    CaaRecord,
    CaaRefusal,
    allowed_by,
    limiting_value,
    names_an_account,
    why_forbidden,
)
from certferry.errors import DnsError, DnsRejected, DnsUnavailable, Problem, Severity, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.examination import Delegated
from certferry.text import Text, verbatim
from certferry.values import replace

AT_ONCE = 16
"""Names checked at once; unbounded bursts lose packets (docs/facts/libraries.md §2)."""

_MANY = 4096
"""The most names with cached CAA records: names of certificates share most of their parents."""

_FORBIDDEN = {
    CaaRefusal.OTHER_CA: Text("the CAA records at {at} allow {allowed} to issue, but not {ca}"),
    CaaRefusal.OTHER_METHOD: Text(
        "the CAA records at {at} allow {ca} to issue only by other methods (validationmethods)"
    ),
    CaaRefusal.OTHER_ACCOUNT: Text(
        "the CAA records at {at} allow {ca} to issue only for another account (accounturi)"
    ),
    CaaRefusal.UNKNOWN_TAG: Text(
        "a CAA record at {at} is marked critical, and no CA knows its type"
    ),
}
_FIXES = {
    CaaRefusal.OTHER_CA: Text(
        'add the record `{at}. CAA 0 {tag} "{ca}"`, or set `directory` under [acme] to a CA '
        "listed there"
    ),
    CaaRefusal.OTHER_METHOD: Text('add "{method}" to validationmethods of the record'),
    CaaRefusal.OTHER_ACCOUNT: Text(
        "set accounturi of the record to {account}, or remove accounturi"
    ),
    CaaRefusal.UNKNOWN_TAG: Text("remove the record, or its flag 128"),
}

_OTHERS_ANSWER = Text(
    "have these name servers fixed, or remove them from the NS records of {zone}: an order waits "
    "{time} for them, then continues if the other name servers and the resolvers show the "
    "challenge"
)
_NONE_ANSWERS = Text(
    "allow this host to send to port 53, UDP and TCP, at any address, or check the name servers: "
    "while no name server answers, an order relies on resolvers over HTTPS"
)


@dataclass(frozen=True)
class NamesLook:
    """Examines the CAA records and DNSSEC of names."""

    #: Asked for CAA records, and for the validity of signatures.
    resolvers: Resolvers
    #: The CA's names in CAA records, and the account that orders.
    applicant: Applicant
    #: Names, without `*.`, proven by a permanent record (dns-persist-01).
    standing: frozenset[str] = frozenset()

    @cached_property
    def _caa(self) -> Callable[[str], tuple[CaaRecord, ...]]:
        return lru_cache(_MANY)(self.resolvers.caa)

    def look(self, names: Iterable[str]) -> list[Problem]:
        """Check DNSSEC signatures and CAA records. Return a problem for each name with invalid
        signatures; for the other names, return the problems with the CAA records.
        """
        names = list(dict.fromkeys(names))
        bases = list(dict.fromkeys(map(base_name, names)))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            broken = pool.map(self._signatures, bases)
            bogus = {finding.subject: finding for findings in broken for finding in findings}
            asked = [name for name in names if base_name(name) not in bogus]
            caa = [
                finding for findings in pool.map(self._authorized, asked) for finding in findings
            ]
        return [*bogus.values(), *caa]

    def forbidden(self, names: Iterable[str]) -> list[Problem]:
        """Return a problem for each name whose CAA records forbid the CA to issue."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            by_name = list(pool.map(lambda name: list(self._authorized(name)), names))
        return [
            finding
            for findings in by_name
            for finding in findings
            if finding.code is Code.CAA_FORBIDS
        ]

    def open_to_others(self, domains: Iterable[str], *, by_records: bool) -> Iterator[Problem]:
        """Yield, for each domain whose CAA records name no account, the record that keeps other
        accounts from certificates. `by_records`: the file allows dns-persist-01 beside dns-01. A
        domain without an answer is left out: `look` reports the failure.
        """
        methods = (DNS_01, dns_persist.METHOD) if by_records else (DNS_01,)
        value = limiting_value(self.applicant, methods)
        if value is None:
            return
        for domain in domains:
            with suppress(DnsError):
                if not names_an_account(self._in_force(domain)[1]):
                    message = Text(
                        "any account at any CA that the CAA records allow can order certificates "
                        "for {domain}",
                        domain=domain,
                    )
                    fix = Text(
                        "to allow this account only, set the record "
                        '`{domain}. CAA 0 issue "{value}"`; first add a record for each CA of '
                        "`fallback`, and for each CA that issues for {domain} to your CDNs and "
                        "other tools",
                        domain=domain,
                        value=value,
                    )
                    yield Problem(Code.CAA_OPEN, message, fix, Severity.NOTICE, domain)

    def _signatures(self, name: str) -> list[Problem]:
        """Return a problem if any resolver finds the DNSSEC signatures of a name invalid. Each
        resolver is asked, because some resolvers ignore signatures. CAs check the signatures
        (docs/facts/letsencrypt.md §4.1).
        """
        resolvers = self.resolvers.apart()
        refused = next(filter(None, (_invalid(name, resolver) for resolver in resolvers)), None)
        if refused is None:
            return []
        message = Text(
            "the DNSSEC signatures of {name} are invalid, and CAs have checked DNSSEC since "
            "March 2026",
            name=name,
        )
        fix = Text(
            "compare the DS record at the registrar with the keys of the zone, or remove the DS "
            "record; usually an earlier DNS provider left it"
        )
        if refused.first_end is not None:
            message = Text("{problem}; the first signature ends at {moment}").filled(
                problem=message, moment=refused.first_end
            )
            fix = Text(
                "if the end has passed, let the DNS provider sign the zone again; else {fix}",
                fix=fix,
            )
        return [error(Code.DNSSEC_BROKEN, name, message, fix)]

    def _authorized(self, name: str) -> Iterator[Problem]:
        try:
            at, records = self._in_force(base_name(name))
        except DnsError as problem:
            yield problem.problem(name, Severity.WARNING, Code.CAA_UNREADABLE)
            return
        if not records:
            return
        applicant = self.applicant
        if not applicant.identities:
            message = Text(
                "the CAA records at {at} allow {allowed} to issue, and the CA does not publish "
                "its CAA name",
                at=at,
                allowed=_allowed(records),
            )
            fix = Text("compare the CAA records with the CA's documentation")
            yield warning(Code.CAA_NOT_JUDGED, name, message, fix)
            return
        if base_name(name) in self.standing:
            applicant = replace(applicant, method=dns_persist.METHOD)
        refusal = why_forbidden(name, records, applicant)
        if refusal is not None:
            yield _forbidden(name, at, records, refusal, applicant)

    def _in_force(self, name: str) -> tuple[str, tuple[CaaRecord, ...]]:
        """Return the CAA records that count for a name, and the name at which the records stand:
        the name itself or the closest parent with CAA records (RFC 8659 §3). Without any records,
        return an empty name and an empty tuple.
        """
        while name:
            records = self._caa(name)
            if records:
                return name, records
            _, _, name = name.partition(".")
        return name, ()


def _forbidden(
    name: str, at: str, records: tuple[CaaRecord, ...], refusal: CaaRefusal, applicant: Applicant
) -> Problem:
    has_wild = any(record.tag == "issuewild" for record in records)
    places = {
        "at": at,
        "allowed": _allowed(records),
        "ca": min(applicant.identities),
        "tag": "issuewild" if is_wildcard(name) and has_wild else "issue",
        "account": applicant.account_url,
        "method": applicant.method,
    }
    message, fix = (table[refusal].filled(**places) for table in (_FORBIDDEN, _FIXES))
    return error(Code.CAA_FORBIDS, name, message, fix)


def _allowed(records: tuple[CaaRecord, ...]) -> list[str] | Text:
    return list(allowed_by(records)) or Text("no CA")


def _invalid(name: str, resolver: Resolvers) -> InvalidSignatures | None:
    try:
        return resolver.invalid_signatures(name)
    except DnsError:  # silent resolvers are reported separately
        return None


class ZonesLook(Struct, frozen=True):
    """Examines the zones of one DNS account."""

    #: The account's label.
    account: str
    #: The account.
    dns: DnsProvider
    #: Finds the names for challenges, and the silent name servers.
    propagation: Propagation
    #: Asked for the delegation of the zones; `None`: the delegation is left unchecked.
    resolvers: Resolvers | None

    def look(self, names: Iterable[tuple[str, DnsProvider]]) -> list[Problem]:
        """Return the problems that keep this account from writing challenge records, or the public
        DNS from showing the records. Return an empty list if the account can neither list nor find
        zones.

        Each name comes with the provider of the name's certificate. Raises `DnsError` if the
        account cannot be asked.
        """
        find = finder_of(self.dns)
        if find is None:
            return []
        wanted = list(dict.fromkeys((challenge_name(name), dns) for name, dns in names))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            places = list(pool.map(self._place, (asked for asked, _ in wanted)))
        findings = [place for place in places if isinstance(place, Problem)]
        held: dict[str, str] = {}
        for (asked, prover), place in zip(wanted, places, strict=True):
            if isinstance(place, Problem):
                continue
            try:
                if account_at(prover, place) is self.dns:
                    held.setdefault(find(place).name, place)
                    findings += self._wildcard(asked) if place == asked else ()
            except DnsError as problem:
                findings.append(self._unwritable(asked, place, problem))
        served: list[str] = []
        for zone, place in held.items():
            wrong = list(self._delegation(zone, place))
            findings += wrong
            served += [] if wrong else [place]
        return [*findings, *self._silent(served)]

    def _silent(self, places: Sequence[str]) -> Iterator[Problem]:
        """Yield a warning for each zone with silent name servers, because orders wait for silent
        servers.
        """
        if not isinstance(self.propagation, DnsPropagation):
            return
        with suppress(DnsError):  # a resolver's error is reported separately
            for group in self.propagation.silent_servers(places):
                message = Text(
                    "no answer comes from {servers}, which should serve {zone}",
                    servers=list(group.hosts),
                    zone=group.zone,
                )
                fix = _OTHERS_ANSWER if group.others else _NONE_ANSWERS
                fix = fix.filled(time=SILENT, zone=group.zone)
                yield warning(Code.NAME_SERVER_SILENT, group.zone, message, fix)

    def _place(self, name: str) -> str | Problem:
        try:
            return self.propagation.follow(name)
        except DnsRejected as problem:
            return problem.problem(name, code=Code.ALIAS_BROKEN)
        except DnsError as problem:
            return problem.problem(name, Severity.WARNING, Code.NOT_LOOKED_AT)

    def _wildcard(self, asked: str) -> Iterator[Problem]:
        """Yield a notice if the CNAME shown at a challenge's name comes from a wildcard."""
        with suppress(DnsUnavailable):
            target = self.propagation.wildcard_alias(asked)
            if target is not None:
                sentence = Text("{name} shows a wildcard's CNAME to {target}")
                message = sentence.filled(target=target, name=asked)
                fix = Text(
                    "nothing to do: the wildcard stops applying as soon as the challenge is written"
                )
                yield Problem(Code.ALIAS_BY_WILDCARD, message, fix, Severity.NOTICE, asked)

    def _unwritable(self, asked: str, place: str, problem: DnsError) -> Problem:
        if not isinstance(problem, ZoneNotFound):
            return problem.problem(place, code=Code.ZONE_BLOCKED)
        with suppress(DnsUnavailable):  # a resolver's error; the zone's problem stands
            problem = explained(problem, asked, place, self.propagation)
        return problem.problem(place, code=Code.ZONE_MISSING)

    def _delegation(self, zone: str, place: str) -> Iterator[Problem]:
        """Yield a problem if public DNS does not ask the account's name servers about `place`."""
        if self.resolvers is None:
            return
        try:
            public = self.resolvers.zone_of(place)
            asked = self.resolvers.name_servers(public)
        except ZoneNotFound as problem:
            yield problem.problem(zone, code=Code.NOT_DELEGATED)
            return
        except DnsError as problem:
            yield problem.problem(zone, Severity.WARNING, Code.NOT_LOOKED_AT)
            return
        own = self.dns.name_servers(zone) if isinstance(self.dns, Delegated) else frozenset()
        if public == zone and not (own and own.isdisjoint(asked)):
            return
        message = Text(
            "the account {account} has the zone {zone}, but the public DNS asks other name"
            " servers about {place}: {asked}",
            account=self.account,
            zone=zone,
            place=place,
            asked=list(asked),
        )
        fix = Text("set `dns` of the certificate to the account whose name servers are listed here")
        if own:
            fix = Text(
                "set the domain's name servers at the registrar to {own}, or set `dns` of the "
                "certificate to the account with the other name servers",
                own=sorted(own),
            )
        yield error(Code.DELEGATED_ELSEWHERE, zone, message, fix)


_NAME_ANOTHER = Text(
    "set `doh` under [dns] to a resolver that answers, for example https://223.5.5.5/dns-query, "
    "or check the proxy in between"
)


def look_at_resolvers(resolvers: Sequence[HttpsResolver]) -> Iterator[Problem]:
    """Ask each resolver for a name that does not exist. Never raises.

    Yield a problem for a resolver that does not answer, or that makes up addresses.
    """
    if not resolvers:
        return
    with ThreadPoolExecutor(len(resolvers)) as pool:
        yield from filter(None, pool.map(_look, resolvers))


def _look(resolver: HttpsResolver) -> Problem | None:
    query = dns.message.make_query(f"certferry-{secrets.token_hex(8)}.com.", dns.rdatatype.A)
    why: Text | None = None
    addresses: list[str] = []
    try:
        answer = resolver.ask(query)
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            why = verbatim(dns.rcode.to_text(answer.rcode()))
        address_sets = (rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A)
        addresses = [record.to_text() for records in address_sets for record in records]
    except Unheard as silence:
        why = silence.problem
    called = resolver.called
    if why is not None:
        message = Text("the resolver {resolver} does not answer: {why}", resolver=called, why=why)
        return warning(Code.RESOLVER_SILENT, called, message, _NAME_ANOTHER)
    if not addresses:
        return None
    sentence = Text("the resolver {resolver} gives {addresses} for a name that does not exist")
    message = sentence.filled(resolver=called, addresses=addresses)
    return error(Code.RESOLVER_INVENTS, called, message, _NAME_ANOTHER)
