"""What a look at everything a run relies on has found: each thing with its weight and its fix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from certferry.errors import (
    CaUnavailable,
    CertferryError,
    ClockWrong,
    DnsAccessDenied,
    DnsUnavailable,
    TargetAccessDenied,
    TargetUnavailable,
)
from certferry.text import Text


class Severity(StrEnum):
    """How much a finding weighs: a run fails of it, may fail of it, or only has to know it."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(StrEnum):
    """What certferry itself finds, in stable words for programs (docs/reference/doctor.md)."""

    # the machine
    CLOCK_OFF = "clock_off"
    FILE_OPEN = "file_open"
    STATE_UNUSABLE = "state_unusable"
    SEAL_BROKEN = "seal_broken"
    BACK_UP = "back_up"
    STATE_MISSING = "state_missing"
    NONE_DECLARED = "none_declared"
    UNDECLARED = "undeclared"
    SCHEDULE = "schedule"
    SCHEDULE_MISSING = "schedule_missing"
    SCHEDULE_TO_DO = "schedule_to_do"
    NOBODY_TOLD = "nobody_told"
    LAST_RUN = "last_run"
    LAST_CHANGE = "last_change"
    LAST_TRY_FAILED = "last_try_failed"
    # the accounts
    KEYS_REFUSED = "keys_refused"
    CALL_REFUSED = "call_refused"
    SUB_ACCOUNT_KEY = "sub_account_key"
    UNREACHABLE = "unreachable"
    WAYS = "ways"
    CERTIFICATES_KEPT = "certificates_kept"
    ZONE_MISSING = "zone_missing"
    ZONE_BLOCKED = "zone_blocked"
    # the public DNS
    DELEGATED_ELSEWHERE = "delegated_elsewhere"
    NOT_DELEGATED = "not_delegated"
    ALIAS_BROKEN = "alias_broken"
    ALIAS_BY_WILDCARD = "alias_by_wildcard"
    CAA_FORBIDS = "caa_forbids"
    CAA_UNREADABLE = "caa_unreadable"
    CAA_NOT_JUDGED = "caa_not_judged"
    DNSSEC_BROKEN = "dnssec_broken"
    DNS_PERSIST = "dns_persist"
    DNS_PERSIST_ENDS = "dns_persist_ends"
    DNS_PERSIST_MISSING = "dns_persist_missing"
    DNS_PERSIST_WRONG = "dns_persist_wrong"
    DNS_PERSIST_NOT_OFFERED = "dns_persist_not_offered"
    RESOLVER_INVENTS = "resolver_invents"
    RESOLVER_SILENT = "resolver_silent"
    ADDRESS_MADE_UP = "address_made_up"
    # the domains
    NOT_POINTED = "not_pointed"
    POINTED_ELSEWHERE = "pointed_elsewhere"
    DOMAIN_UNUSABLE = "domain_unusable"
    DOMAIN_FAILED = "domain_failed"
    DOMAIN_STUCK = "domain_stuck"
    TARGET_UNREAD = "target_unread"
    # the certificates
    FILES_UNUSABLE = "files_unusable"
    NAMES_TWICE = "names_twice"
    CHAIN_INCOMPLETE = "chain_incomplete"
    KEY_MISMATCH = "key_mismatch"
    EXPIRED = "expired"
    ISSUER_EXPIRED = "issuer_expired"
    COMMON_NAME_MISSING = "common_name_missing"
    LIFETIME_TOO_SHORT = "lifetime_too_short"
    LIFETIME_TIGHT = "lifetime_tight"
    # the look itself
    NOT_LOOKED_AT = "not_looked_at"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `subject` is what it is about: an account, a domain, a file. `fix`
    is what to do; where it is only to be known, there is none.

    A package's own adapter may bring codes of its own.
    """

    severity: Severity
    code: str
    subject: str
    message: Text
    fix: Text | None = None


_OF_THE_WHOLE = frozenset({Code.CLOCK_OFF, Code.KEYS_REFUSED, Code.UNREACHABLE})

_CODES: tuple[tuple[type[CertferryError], Code], ...] = (
    (ClockWrong, Code.CLOCK_OFF),
    (TargetAccessDenied, Code.KEYS_REFUSED),
    (DnsAccessDenied, Code.KEYS_REFUSED),
    (TargetUnavailable, Code.UNREACHABLE),
    (DnsUnavailable, Code.UNREACHABLE),
    (CaUnavailable, Code.UNREACHABLE),
)


def error(code: str, subject: str, message: Text, fix: Text | None) -> Finding:
    """Return what a run fails of."""
    return Finding(Severity.ERROR, code, subject, message, fix)


def warning(code: str, subject: str, message: Text, fix: Text | None) -> Finding:
    """Return what a run may fail of, now or later."""
    return Finding(Severity.WARNING, code, subject, message, fix)


def info(code: str, subject: str, message: Text) -> Finding:
    """Return what is in order, and to be known."""
    return Finding(Severity.INFO, code, subject, message)


def of_error(
    code: str, subject: str, problem: CertferryError, severity: Severity = Severity.ERROR
) -> Finding:
    """Return an error of certferry's as a finding: its hint is the fix."""
    return Finding(severity, code, subject, problem.message, problem.hint)


def of_refusal(subject: str, problem: CertferryError) -> Finding:
    """Return what kept an account, or a CA, from being looked at."""
    code = next((code for kind, code in _CODES if isinstance(problem, kind)), Code.NOT_LOOKED_AT)
    return of_error(code, subject, problem)


def are_in_order(findings: Iterable[Finding]) -> bool:
    """Tell whether there is no error among the findings."""
    return all(one.severity is not Severity.ERROR for one in findings)


def heaviest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings, errors first, and of the same weight in their order. What two looks have
    found is told once, though the service named another request to each; what is wrong with an
    account as a whole, by its first finding.
    """
    weights = list(Severity)
    once: dict[tuple[str, str, Text | None], Finding] = {}
    for finding in findings:
        message = None if finding.code in _OF_THE_WHOLE else finding.message
        once.setdefault((finding.code, finding.subject, message), finding)
    return tuple(sorted(once.values(), key=lambda one: weights.index(one.severity)))
