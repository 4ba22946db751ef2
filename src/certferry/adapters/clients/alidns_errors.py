"""Alibaba Cloud DNS's error codes: what each means for the operator.

Documented: the codes of each call and those common to all (help.aliyun.com, "Error codes" of
Alibaba Cloud DNS, and those of the OpenAPI gateway). From clients: the codes of security tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certferry.errors import DnsAccessDenied, DnsError, DnsRejected, DnsUnavailable
from certferry.ports.adapter import CodeMeaning
from certferry.text import Quoted, Text

SERVICE = "Alibaba Cloud DNS"

DUPLICATE = "DomainRecordDuplicate"
GONE = frozenset({"DomainRecordNotBelongToUser", "InvalidRecordId.NotFound"})
THROTTLED = "Throttling"  # and Throttling.User, Throttling.Api

TEMPORARY_KEY = Text(
    "the key is a temporary one (STS.…) of a RAM role, which ends within hours: make an AccessKey "
    "of a RAM user at ram.console.aliyun.com, with the permission AliyunDNSFullAccess"
)
_CHECK = Text(
    "compare `access_key_id` and `access_key_secret` with the AccessKeys of the RAM user at "
    "ram.console.aliyun.com; a secret is shown only when it is made"
)
_PERMISSION = Text(
    "give the RAM user the permissions alidns:DescribeDomains, DescribeSubDomainRecords, "
    "DescribeDomainRecordInfo, AddDomainRecord and DeleteDomainRecord, or AliyunDNSFullAccess"
)
_LOOK = Text("look at the domain at dns.console.aliyun.com")
_CLOCK = Text("this machine's clock is off by more than 15 minutes: set it, then try again")
_PLAN = Text("the domain's plan at Alibaba Cloud DNS does not allow it: free some, or upgrade it")
_ACCOUNT = Text("look at the account's notices at home.console.aliyun.com")
LATER = Text("try again in some minutes")

# The longest beginning of a code counts: `Forbidden.RAM` before `Forbidden`.
_DENIED: dict[str, Text] = {
    "InvalidAccessKeyId": Text(
        "there is no such AccessKey, or it is disabled: {check}", check=_CHECK
    ),
    "SignatureDoesNotMatch": Text(
        "`access_key_secret` does not belong to `access_key_id`: {check}", check=_CHECK
    ),
    "IncompleteSignature": _CHECK,
    "MissingSecurityToken": TEMPORARY_KEY,
    "InvalidSecurityToken": TEMPORARY_KEY,
    "Forbidden": _PERMISSION,
    "NoPermission": _PERMISSION,
    "Forbidden.RiskControl": _ACCOUNT,
    "Forbidden.UserVerification": _ACCOUNT,
}

_REJECTED: dict[str, Text] = {
    "Forbidden.DomainExpired": _LOOK,
    "Forbidden.DomainLocked": _LOOK,
    "Forbidden.DomainType": _LOOK,
    "Forbidden.RecordLocked": _LOOK,
    "Forbidden.ProtectedDomain": _LOOK,
    "IllegalTimestamp": _CLOCK,
    "InvalidTimeStamp": _CLOCK,
    "DomainRecordConflict": Text(
        "another record at this name excludes it: remove that record, or let a CNAME there lead "
        "to a zone in which the challenge can be written"
    ),
    "QuotaExceeded": _PLAN,
}

_UNAVAILABLE: dict[str, Text] = {
    THROTTLED: Text("the account has made too many calls: let it rest for some minutes"),
    "InternalError": LATER,
    "ServiceUnavailable": LATER,
    "UnKnownError": LATER,  # their spelling
}


CODES: Mapping[str, CodeMeaning] = {
    code: CodeMeaning(advice)
    for table in (_DENIED, _REJECTED, _UNAVAILABLE)
    for code, advice in table.items()
}
"""What is known of the service's codes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered: `code` is empty for a success."""

    action: str
    code: str
    words: Quoted
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)


def is_in_doubt(code: str) -> bool:
    """Tell whether the service may have made the change all the same."""
    return code in {"InternalError", "ServiceUnavailable", "UnKnownError"}


def error_of(reply: Reply, about: str | Text) -> DnsError:
    """Give the error that a code stands for; `about` is the name that was worked on."""
    message = Text(
        "{about}: {service} answered {action} with code {code}: {words}",
        about=about,
        service=SERVICE,
        action=reply.action,
        code=reply.code,
        words=reply.words,
    )
    kinds: tuple[tuple[type[DnsError], dict[str, Text]], ...] = (
        (DnsAccessDenied, _DENIED),
        (DnsRejected, _REJECTED),
        (DnsUnavailable, _UNAVAILABLE),
    )
    known = {beginning: (kind, hint) for kind, table in kinds for beginning, hint in table.items()}
    beginning = max(filter(reply.code.startswith, known), key=len, default="")
    kind, hint = known.get(beginning, (DnsRejected, _LOOK))
    return kind(message, hint=hint)
