"""Look at names as a CA will: what CAA says of them, and whether DNSSEC holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial

from certferry.adapters.acme.resolvers import Resolvers
from certferry.core import dns_persist
from certferry.core.caa import Applicant, CaaRecord, Refusal, allowed_by, why_forbidden
from certferry.core.findings import Code, Finding, Severity, error, of_error, warning
from certferry.core.identifiers import base_name, is_wildcard
from certferry.errors import DnsError
from certferry.text import Text

AT_ONCE = 16
"""Names; unbounded bursts lose packets (docs/facts/libraries.md §2)."""

_MANY = 4096
"""Names above the names whose records are kept: they share most of them."""

_FORBIDDEN = {
    Refusal.OTHER_CA: Text("the CAA records at {at} let {allowed} issue, and not {ca}"),
    Refusal.OTHER_METHOD: Text(
        "the CAA records at {at} let {ca} issue by other kinds of proof only (validationmethods)"
    ),
    Refusal.OTHER_ACCOUNT: Text(
        "the CAA records at {at} let {ca} issue for another account only (accounturi)"
    ),
    Refusal.UNKNOWN_TAG: Text(
        "a CAA record at {at} is marked as critical, and of a kind that no CA knows"
    ),
}
_FIXES = {
    Refusal.OTHER_CA: Text(
        'add the record `{at}. CAA 0 {tag} "{ca}"`, or set `directory` under [acme] to a CA that'
        " is named there"
    ),
    Refusal.OTHER_METHOD: Text('add "{method}" to validationmethods of that record'),
    Refusal.OTHER_ACCOUNT: Text("set accounturi of that record to {account}, or take it out"),
    Refusal.UNKNOWN_TAG: Text("remove that record, or its flag 128"),
}


class NamesLook:
    """Looks at names through the resolvers that a run asks. Raises nothing for what it meets.

    Those that are `standing`, without `*.`, are proven by dns-persist-01.
    """

    def __init__(
        self,
        resolvers: Resolvers,
        applicant: Applicant,
        standing: frozenset[str] = frozenset(),
    ) -> None:
        self._resolvers = resolvers
        self._applicant = applicant
        self._standing = standing
        self._caa = lru_cache(_MANY)(resolvers.caa)

    def look(self, names: Iterable[str]) -> list[Finding]:
        """Return what would keep the CA from issuing for these names."""
        names = list(dict.fromkeys(names))
        bases = list(dict.fromkeys(map(base_name, names)))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            broken = pool.map(self._signatures, bases)
            bogus = {finding.subject: finding for found in broken for finding in found}
            asked = [name for name in names if base_name(name) not in bogus]
            caa = [finding for found in pool.map(self._authorized, asked) for finding in found]
        return [*bogus.values(), *caa]

    def forbidden(self, names: Iterable[str]) -> list[Finding]:
        """Return the CAA records alone that surely keep the CA from issuing."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(lambda name: list(self._authorized(name)), names))
        return [one for of_name in found for one in of_name if one.code is Code.CAA_FORBIDS]

    def _signatures(self, name: str) -> list[Finding]:
        """Ask each resolver: one that checks no signatures hides what another shows.

        CAs do check them: docs/facts/letsencrypt.md §4.1.
        """
        bogus = partial(_is_bogus, name)
        if not any(map(bogus, self._resolvers.apart())):
            return []
        message = Text(
            "the DNSSEC signatures of {name} do not hold, and CAs check them since March 2026",
            name=name,
        )
        fix = Text(
            "compare the DS record at the registrar with the keys of the zone, or take the DS"
            " record away; it is usually left over from an earlier DNS provider"
        )
        return [error(Code.DNSSEC_BROKEN, name, message, fix)]

    def _authorized(self, name: str) -> Iterator[Finding]:
        try:
            at, records = self._in_force(base_name(name))
        except DnsError as problem:
            yield of_error(Code.CAA_UNREADABLE, name, problem, Severity.WARNING)
            return
        if not records:
            return
        if not self._applicant.identities:
            yield _not_judged(name, at, records)
            return
        applicant = self._applicant
        if base_name(name) in self._standing:
            applicant = replace(applicant, method=dns_persist.METHOD)
        refusal = why_forbidden(name, records, applicant)
        if refusal is not None:
            yield _forbidden(name, at, records, refusal, applicant)

    def _in_force(self, name: str) -> tuple[str, tuple[CaaRecord, ...]]:
        """Climb to the first name that has any records, and give both (RFC 8659 §3)."""
        while name:
            records = self._caa(name)
            if records:
                return name, records
            _, _, name = name.partition(".")
        return name, ()


def _forbidden(
    name: str, at: str, records: tuple[CaaRecord, ...], refusal: Refusal, applicant: Applicant
) -> Finding:
    has_wild = any(record.tag == "issuewild" for record in records)
    places = {
        "at": at,
        "allowed": list(allowed_by(records)) or Text("no CA"),
        "ca": min(applicant.identities),
        "tag": "issuewild" if is_wildcard(name) and has_wild else "issue",
        "account": applicant.account_url,
        "method": applicant.method,
    }
    message, fix = (table[refusal].filled(**places) for table in (_FORBIDDEN, _FIXES))
    return error(Code.CAA_FORBIDS, name, message, fix)


def _is_bogus(name: str, resolver: Resolvers) -> bool:
    try:
        return resolver.is_bogus(name)
    except DnsError:  # silent resolvers are told by themselves
        return False


def _not_judged(name: str, at: str, records: tuple[CaaRecord, ...]) -> Finding:
    message = Text(
        "the CAA records at {at} let {allowed} issue, and the CA does not say what it is called"
        " there",
        at=at,
        allowed=list(allowed_by(records)) or Text("no CA"),
    )
    fix = Text("compare them with what the CA's documents say of CAA")
    return warning(Code.CAA_NOT_JUDGED, name, message, fix)
