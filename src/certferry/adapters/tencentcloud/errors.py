"""Error codes of Tencent Cloud's API 3.0 for DNSPod: what each means for the operator.

The codes are those of docs/facts/dnspod.md §2.3 and of the vendor's SDK (3.1.195).
"""

from __future__ import annotations

from certferry.adapters.dns.answers import Codes
from certferry.text import Text

EXISTS = "InvalidParameter.DomainRecordExist"
GONE = frozenset({"InvalidParameter.RecordIdInvalid", "ResourceNotFound.NoDataOfRecord"})
EMPTY = frozenset({"ResourceNotFound.NoDataOfRecord", "ResourceNotFound.NoDataOfDomain"})
TTL_REFUSED = "LimitExceeded.RecordTtlLimit"
TOO_MANY = "RequestLimitExceeded"
BROKEN = "InternalError"

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
    "AuthFailure.SignatureExpire": Text(
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

CODES = Codes(
    Text("{about}: Tencent Cloud answered {action} with {code}: {words} (request {request})"),
    _LOOK,
    _DENIED,
    _REJECTED,
    _UNAVAILABLE,
    dict.fromkeys(_NO_ZONE, _ELSEWHERE),
)
