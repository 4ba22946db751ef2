"""Error codes of Tencent Cloud's API 3.0 for DNSPod: what each means for the operator.

The codes are those of docs/facts/dnspod.md §2.3 and of the vendor's SDK (3.1.195).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certferry.errors import (
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    ZoneNotFound,
)
from certferry.ports.adapter import CodeMeaning
from certferry.text import Quoted, Text

DONE = ""
EXISTS = "InvalidParameter.DomainRecordExist"
GONE = frozenset({"InvalidParameter.RecordIdInvalid", "ResourceNotFound.NoDataOfRecord"})
EMPTY = frozenset({"ResourceNotFound.NoDataOfRecord", "ResourceNotFound.NoDataOfDomain"})
TTL_REFUSED = "LimitExceeded.RecordTtlLimit"
TOO_MANY = "RequestLimitExceeded"
BROKEN = "InternalError"


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered: the error's code and words, both empty where there is none; the id of the
    request, and the rest of the answer.
    """

    action: str
    code: str
    message: Quoted
    request_id: str = ""
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_denied(self) -> bool:
        """Whether the key was refused, so that nothing more may be sent with it."""
        return self.code != CLOCK and _advice(self.code, _DENIED) is not None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the call may have been carried out all the same."""
        return _is_of(self.code, BROKEN)


_KEY = Text(
    "compare `secret_id` and `secret_key` with the keys at console.cloud.tencent.com/cam/capi. A"
    " DNSPod token (a number and 32 digits) is no such key: it belongs to an account of type dnspod"
)
_POLICY = Text(
    "give the key's user the policy QcloudDNSPodFullAccess at console.cloud.tencent.com/cam"
)
_PLAN = Text("the domain's DNSPod plan does not allow it: free some, or choose another plan")
_VERIFY = Text("the account is not verified yet: do that at console.cloud.tencent.com")
_ELSEWHERE = Text("name the account that has the domain as `dns` of the certificate")
_LOOK = Text("look at the domain at console.dnspod.cn")
_LATER = Text("try again in some minutes")

CLOCK = "AuthFailure.SignatureExpire"

_DENIED: dict[str, Text] = {
    "AuthFailure.TokenFailure": Text("a temporary key does not work here: make a lasting one"),
    "AuthFailure.UnauthorizedOperation": _POLICY,
    "AuthFailure.SecretIdNotFound": Text(
        "{check}. A key of the international site (IKID…) needs its address as `api`,"
        " https://dnspod.intl.tencentcloudapi.com",
        check=_KEY,
    ),
    "AuthFailure": _KEY,
    "UnauthorizedOperation": _POLICY,
    "InvalidParameter.InvalidSecretId": _KEY,
    "InvalidParameter.LoginTokenIdError": _KEY,
    "InvalidParameter.LoginTokenNotExists": _KEY,
    "InvalidParameter.LoginTokenValidateFailed": _KEY,
    "FailedOperation.LoginFailed": _KEY,
    "InvalidParameter.RequestIpLimited": Text(
        "this host's address is not on the key's list of allowed addresses: add it there"
    ),
    "LimitExceeded.FailedLoginLimitExceeded": Text(
        "leave the account alone for an hour, and correct the keys before that"
    ),
    "InvalidParameter.AccountIsBanned": Text("the account is banned: ask Tencent Cloud's support"),
}

_NO_ZONE = (
    "InvalidParameterValue.DomainNotExists",
    "InvalidParameter.DomainInvalid",
    "InvalidParameter.DomainIdInvalid",
    "ResourceNotFound.NoDataOfDomain",
    "OperationDenied.NoPermissionToOperateDomain",
    "OperationDenied.DomainOwnerAllowedOnly",
    "FailedOperation.NotDomainOwner",
)

_UNAVAILABLE: dict[str, Text] = {
    TOO_MANY: Text("the account has made too many calls: let it rest for some minutes"),
    "FailedOperation.FrequencyLimit": _LATER,
    "InvalidParameter.OperationIsTooFrequent": _LATER,
    BROKEN: _LATER,
}

_REJECTED: dict[str, Text] = {
    CLOCK: Text(
        "this machine's clock is wrong by more than five minutes: set it, for instance with"
        " `timedatectl set-ntp true`"
    ),
    "InvalidParameter.UnrealNameUser": _VERIFY,
    "FailedOperation.NotRealNamedUser": _VERIFY,
    "InvalidParameter.EmailNotVerified": _VERIFY,
    "InvalidParameter.MobileNotVerified": _VERIFY,
    "FailedOperation.DomainIsLocked": Text("the domain is locked: unlock it at console.dnspod.cn"),
    "FailedOperation.DomainIsSpam": Text("DNSPod has banned the domain: ask its support"),
    "LimitExceeded": _PLAN,
}


CODES: Mapping[str, CodeMeaning] = {
    code: CodeMeaning(advice)
    for table in (dict.fromkeys(_NO_ZONE, _ELSEWHERE), _DENIED, _UNAVAILABLE, _REJECTED)
    for code, advice in table.items()
}
"""What is known of the service's codes."""


def error_of(reply: Reply, about: str | Text) -> DnsError:
    """Give the error that a code stands for; `about` is the name that was worked on."""
    message = Text(
        "{about}: Tencent Cloud answered {action} with {code}: {words} (request {request})",
        about=about,
        action=reply.action,
        code=reply.code,
        words=reply.message,
        request=reply.request_id or "-",
    )
    if reply.is_denied:
        return DnsAccessDenied(message, hint=_advice(reply.code, _DENIED))
    if reply.code in _NO_ZONE:
        return ZoneNotFound(message, hint=_ELSEWHERE)
    later = _advice(reply.code, _UNAVAILABLE)
    if later is not None:
        return DnsUnavailable(message, hint=later)
    return DnsRejected(message, hint=_advice(reply.code, _REJECTED) or _LOOK)


def _advice(code: str, hints: Mapping[str, Text]) -> Text | None:
    """Give the hint for a code, or for the family that it is of."""
    return next((hint for known, hint in hints.items() if _is_of(code, known)), None)


def _is_of(code: str, family: str) -> bool:
    return code == family or code.startswith(f"{family}.")
