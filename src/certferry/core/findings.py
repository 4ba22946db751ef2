"""The findings of `doctor`: codes, and functions that make problems."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from certferry import errors
from certferry.errors import Problem, Severity
from certferry.text import Text


class Code(StrEnum):
    """The codes of findings, stable words for programs (docs/reference/doctor.md)."""

    # the machine
    CLOCK_OFF = "clock_off"
    HOST_NAME_TWICE = "host_name_twice"
    FILE_OPEN = "file_open"
    STATE_UNUSABLE = "state_unusable"
    DATABASE_UNAVAILABLE = errors.DatabaseUnavailable.code
    SEAL_BROKEN = "seal_broken"
    HISTORY_BROKEN = "history_broken"
    BACK_UP = "back_up"
    STATE_MISSING = "state_missing"
    NONE_DECLARED = "none_declared"
    UNDECLARED = "undeclared"
    SCHEDULE = "schedule"
    SCHEDULE_MISSING = "schedule_missing"
    SCHEDULE_TO_DO = "schedule_to_do"
    NO_CHANNEL = "nobody_told"
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
    LINE_NOT_DEFAULT = "line_not_default"
    # the public DNS
    DELEGATED_ELSEWHERE = "delegated_elsewhere"
    NOT_DELEGATED = "not_delegated"
    NAME_SERVER_SILENT = "name_server_silent"
    ALIAS_BROKEN = "alias_broken"
    ALIAS_BY_WILDCARD = "alias_by_wildcard"
    CAA_FORBIDS = "caa_forbids"
    CAA_UNREADABLE = "caa_unreadable"
    CAA_NOT_JUDGED = "caa_not_judged"
    CAA_OPEN = "caa_open"
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
    HOST_UNKNOWN = "host_unknown"
    CHAIN_INCOMPLETE = "chain_incomplete"
    KEY_MISMATCH = "key_mismatch"
    EXPIRED = "expired"
    ISSUER_EXPIRED = "issuer_expired"
    COMMON_NAME_MISSING = "common_name_missing"
    LIFETIME_TOO_SHORT = "lifetime_too_short"
    LIFETIME_TIGHT = "lifetime_tight"
    # the examination itself
    NOT_LOOKED_AT = "not_looked_at"


_OF_THE_WHOLE = frozenset({Code.CLOCK_OFF, Code.KEYS_REFUSED, Code.UNREACHABLE})
"""The codes of problems of a whole account or CA: several calls fail for the same reason."""

_CODES: tuple[tuple[type[errors.CertferryError], Code], ...] = (
    (errors.ClockWrong, Code.CLOCK_OFF),
    (errors.TargetRightMissing, Code.CALL_REFUSED),  # before the class above
    (errors.TargetAccessDenied, Code.KEYS_REFUSED),
    (errors.DnsAccessDenied, Code.KEYS_REFUSED),
    (errors.TargetUnavailable, Code.UNREACHABLE),
    (errors.DnsUnavailable, Code.UNREACHABLE),
    (errors.CaUnavailable, Code.UNREACHABLE),
)


def error(code: str, subject: str, message: Text, fix: Text | None) -> Problem:
    """Return a problem that makes a run fail."""
    return Problem(code, message, fix, Severity.ERROR, subject)


def warning(code: str, subject: str, message: Text, fix: Text | None) -> Problem:
    """Return a problem that may make a run fail, now or later."""
    return Problem(code, message, fix, Severity.WARNING, subject)


def info(code: str, subject: str, message: Text) -> Problem:
    """Return a fact worth knowing that needs no fix."""
    return Problem(code, message, None, Severity.NOTICE, subject)


def of_refusal(subject: str, refusal: errors.CertferryError) -> Problem:
    """Return the problem for an error that prevented the examination of an account or a CA. The
    code is from `_CODES`, or `NOT_LOOKED_AT` for any other error.
    """
    code = next((code for kind, code in _CODES if isinstance(refusal, kind)), Code.NOT_LOOKED_AT)
    return refusal.problem(subject, code=code)


_AS_OBSERVED = frozenset({Code.DOMAIN_FAILED, Code.DOMAIN_UNUSABLE})
"""The codes for a target's own report that a domain is unusable, or that a change failed."""


def heaviest_first(findings: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the findings without duplicates, the worst first.

    A code of `_OF_THE_WHOLE` is returned once for a subject, whatever the messages. A failed try
    from the history is left out if a target reports the same subject as failed or unusable.
    """
    once: dict[tuple[str, str, Text | None], Problem] = {}
    every = tuple(findings)
    observed = {finding.subject for finding in every if finding.code in _AS_OBSERVED}
    for finding in every:
        if finding.code == Code.LAST_TRY_FAILED and finding.subject in observed:
            continue
        message = None if finding.code in _OF_THE_WHOLE else finding.message
        once.setdefault((finding.code, finding.subject, message), finding)
    return tuple(sorted(once.values(), key=lambda finding: -finding.severity.rank))
