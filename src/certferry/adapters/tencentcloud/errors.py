"""The codes of Tencent Cloud's services, and the errors made from failed calls.

`DNS_CODES` explains the codes of DNSPod (docs/facts/dnspod.md §2.3). `MEANINGS` explains the codes
of the CDN, EdgeOne and the store of certificates (docs/facts/tencentcloud.md §5). To explain a
further code, add a line to `MEANINGS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from certferry import errors
from certferry.adapters.cdn.refusals import CodedFailure, Meaning, Refusal
from certferry.adapters.dns import answers
from certferry.adapters.tencentcloud.account import CALLED
from certferry.adapters.tencentcloud.tc3 import TOO_MANY
from certferry.core.certificates.certificate import short
from certferry.ports.adapter import CodeMeaning
from certferry.text import Text

BROKEN = "InternalError"
FULL = "InvalidParameter.CertificatesNumberExceeded"
NOT_OPENED = "ResourceNotFound.CdnUserNotExists"
NO_ROLE = "FailedOperation.RoleNotFoundAuthorization"
IN_USE = "FailedOperation.BoundResources"
NO_SUCH_CERTIFICATE = "FailedOperation.CertificateNotFound"

POLICY = (
    '{"version":"2.0","statement":[{"effect":"allow","resource":["*"],"action":['
    '"cdn:DescribeDomainsConfig","cdn:ModifyDomainConfig","cdn:UpdateDomainConfig",'
    '"teo:DescribeZones","teo:DescribeAccelerationDomains","teo:ModifyHostsCertificate",'
    '"ssl:UploadCertificate","ssl:DescribeCertificates","ssl:DeleteCertificate",'
    '"ssl:DescribeDeleteCertificatesTaskResult"]}]}'
)
"""The rights that certferry needs beside those for DNS (docs/facts/tencentcloud.md §1.2)."""
GRANT = Text(
    "give the key's user this policy at console.cloud.tencent.com/cam (Policies → Create by policy"
    " syntax): {policy}",
    policy=POLICY,
)

_CHECK_KEYS = Text(
    "compare `secret_id` and `secret_key` with the keys at console.cloud.tencent.com/cam/capi. A"
    " DNSPod token (a number and 32 digits) belongs in an account of type dnspod"
)
_POLICY = Text(
    "give the key's user the policy QcloudDNSPodFullAccess at console.cloud.tencent.com/cam"
)
_PLAN = Text("the domain's DNSPod plan is used up: remove records, or choose another plan")
_VERIFY = Text("the account is not verified yet: verify the account at console.cloud.tencent.com")
_ELSEWHERE = Text("set `dns` of the certificate to the account that has the domain")

_WRONG_CHECK_KEYS = (
    "AuthFailure",
    "InvalidParameter.InvalidSecretId",
    "InvalidParameter.LoginTokenIdError",
    "InvalidParameter.LoginTokenNotExists",
    "InvalidParameter.LoginTokenValidateFailed",
    "FailedOperation.LoginFailed",
)
_NOT_VERIFIED = (
    "InvalidParameter.UnrealNameUser",
    "FailedOperation.NotRealNamedUser",
    "InvalidParameter.EmailNotVerified",
    "InvalidParameter.MobileNotVerified",
)
_NO_ZONE = (
    "InvalidParameterValue.DomainNotExists",
    "InvalidParameter.DomainInvalid",
    "InvalidParameter.DomainIdInvalid",
    "ResourceNotFound.NoDataOfDomain",
    "OperationDenied.NoPermissionToOperateDomain",
    "OperationDenied.DomainOwnerAllowedOnly",
    "FailedOperation.NotDomainOwner",
)
DNS_CODES = answers.Codes(
    Text("{about}: Tencent Cloud answered {action} with {code}: {words} (request {request})"),
    Text("check the domain at console.dnspod.cn"),
    denied={
        **dict.fromkeys(_WRONG_CHECK_KEYS, _CHECK_KEYS),
        **dict.fromkeys(("UnauthorizedOperation", "AuthFailure.UnauthorizedOperation"), _POLICY),
        "AuthFailure.TokenFailure": Text(
            "a temporary key does not work here: create a permanent key"
        ),
        "AuthFailure.SecretIdNotFound": Text(
            "{check}. For a key of the international site (IKID…), set `api` to"
            " https://dnspod.intl.tencentcloudapi.com",
            check=_CHECK_KEYS,
        ),
        "InvalidParameter.RequestIpLimited": Text(
            "this host's address is not on the key's list of allowed addresses: add the address"
        ),
        "LimitExceeded.FailedLoginLimitExceeded": Text(
            "correct the keys, then leave the account alone for an hour"
        ),
        "InvalidParameter.AccountIsBanned": Text(
            "the account is banned: ask Tencent Cloud's support"
        ),
    },
    rejected={
        **dict.fromkeys(_NOT_VERIFIED, _VERIFY),
        "AuthFailure.SignatureExpire": Text(
            "this host's clock is wrong by more than five minutes: set it, for example with"
            " `timedatectl set-ntp true`"
        ),
        "FailedOperation.DomainIsLocked": Text(
            "the domain is locked: unlock the domain at console.dnspod.cn"
        ),
        "FailedOperation.DomainIsSpam": Text("DNSPod has banned the domain: ask DNSPod's support"),
        "LimitExceeded": _PLAN,
    },
    unavailable={
        "RequestLimitExceeded": answers.TOO_MANY_CALLS,
        "FailedOperation.FrequencyLimit": answers.LATER,
        "InvalidParameter.OperationIsTooFrequent": answers.LATER,
        BROKEN: answers.LATER,
    },
    no_zone=dict.fromkeys(_NO_ZONE, _ELSEWHERE),
)


_CONSOLE = Text("check the domain in Tencent Cloud's console")
_BUSY = Meaning(
    "an earlier change of the domain is still in progress",
    "a later run continues from here",
    errors.TargetBusy,
)
_GONE = Meaning(
    "the certificate is no longer in the store of certificates",
    "another program removed the certificate; the next run uploads it again",
    errors.CopyGone,
)
_NO_DOMAIN = Meaning(
    "the account has no such domain",
    "add the domain in Tencent Cloud's console, or correct `domains`",
)
_OTHER_OWNER = Meaning(
    "the domain belongs to another account", "use the keys of the account that has the domain"
)
_OFFLINE = Meaning(
    "the domain or its zone is switched off",
    "switch it on in Tencent Cloud's console, or remove the domain from `domains`",
)
_LOCKED = Meaning(
    "the domain is locked",
    "Tencent Cloud's console may show the reason; else ask Tencent Cloud's support",
)
_NO_ICP = Meaning(
    "the domain has no ICP filing",
    "domains served in mainland China require an ICP filing: file the domain, or choose another"
    " region",
)
_DEBT = Meaning(
    "the service is suspended, because of a debt or an ended plan",
    "check the account's balance and plans in Tencent Cloud's console",
)
_UNVERIFIED = Meaning(
    "the account's owner is not verified",
    "complete the verification (实名认证) in Tencent Cloud's console",
)
_MOVED = Meaning(
    "the CDN's domains were moved to EdgeOne, or are being moved",
    'once the domain is at EdgeOne, certferry finds it there: remove `kind`, or set kind = "eo"',
)
_PAIR = Meaning(
    "certificate and private key cannot be read, or do not belong together",
    "later runs send the same pair again, at growing intervals; if Tencent Cloud refuses the pair"
    " each time, use a new pair: `certferry sync --renew {lineage}`, or have the certificate's"
    " client issue it",
)
_CHAIN = Meaning(
    "the certificate chain is not accepted",
    "the chain has to hold the issuer certificates in order, without a root: ask Tencent Cloud's"
    " support which chain is accepted",
)
_NOT_COVERED = Meaning(
    "the certificate does not cover the domain",
    "add the domain to `names`; a wildcard reaches one label deep",
)
_EXPIRED = Meaning(
    "too little of the certificate's life is left",
    "issue a new certificate: `certferry sync --renew {lineage}`, or have the certificate's client"
    " issue it",
)
_IN_USE = Meaning(
    "something still uses the certificate",
    "normal until all of the certificate's domains have another; a later run tries again",
    errors.TargetInUse,
)
_NO_ROLE = Meaning(
    "Tencent Cloud may not look whether anything uses the certificate",
    "grant the service role SSL_QCSLinkedRoleInReplaceLoadCertificate in the console of SSL"
    " certificates; without the role certferry removes the certificate after its end",
    errors.TargetInUse,
)
_THERE_ALREADY = Meaning(
    "the certificate is deployed there already, or the instance has another name",
    "a message of Tencent Cloud's deployment through the store of certificates, which certferry"
    " does not use: another program made the call",
)

MEANINGS: dict[str, Meaning] = {
    FULL: Meaning(
        "the account's certificate quota is full",
        "remove unused certificates in the console of SSL certificates, or raise the quota",
    ),
    NOT_OPENED: Meaning(
        "the CDN is not activated in the account",
        'activate the CDN in Tencent Cloud\'s console, or set kind = "eo"',
    ),
    "InvalidParameter.AccessPortOpenedHttps": Meaning(
        "port 443 of the domain is closed", "open port 443 of the domain in the console"
    ),
    "InvalidParameter.InvalidCertInfo": Meaning(
        "the host takes one certificate of each kind of key",
        "check the certificates of the host in the console of EdgeOne",
    ),
    "InvalidParameterValue": Meaning(
        "a value is not accepted",
        "EdgeOne's call takes no wildcard host; check the domain in Tencent Cloud's console",
    ),
    "FailedOperation.ModifyFailed": Meaning(
        "the change failed without a reason",
        "nothing to do: a later run tries again",
        errors.TargetUnavailable,
    ),
    "FailedOperation.CertificateHostResourceTypeInvalid": Meaning(
        "the deployment does not know the kind of resource",
        "`ecdn` is no kind of its own any more: another program made the call, and should send"
        " `cdn`",
    ),
    "FailedOperation.CertificateDeployHasPendingRecord": Meaning(
        "an earlier deployment through the store of certificates is in progress",
        "nothing to do: a later run tries again",
    ),
    "UnauthorizedOperation.CdnUserInvalidCredential": Meaning(
        "the CDN cannot check the keys",
        "nothing to do: a later run tries again",
        errors.TargetUnavailable,
    ),
}
_SAME = (
    (
        _BUSY,
        """ResourceInUse.CdnOpInProgress OperationDenied.DomainStatusUnstable
        OperationDenied.ResourceLockedTemporary OperationDenied.L7HostInProcessStatus
        InvalidParameter.ZoneIsGrayPublishing""",
    ),
    (
        _GONE,
        """InvalidParameter.CdnCertInfoNotFound FailedOperation.SslCertNotFound
        ResourceUnavailable.CertNotFound""",
    ),
    (
        _NO_DOMAIN,
        """ResourceNotFound.CdnHostNotExists ResourceNotFound.EcdnDomainNotExists
        ResourceNotFound.ZoneNotFound ResourceUnavailable.ZoneNotFound
        ResourceUnavailable.HostNotFound ResourceUnavailable.DomainNotFound
        InvalidParameter.ZoneNotFound InvalidParameter.HostNotFound""",
    ),
    (
        _OTHER_OWNER,
        "UnauthorizedOperation.CdnHostIsOwnedByOther UnauthorizedOperation.CdnHostIsUsedByOther",
    ),
    (
        _OFFLINE,
        """InvalidParameter.CdnHostInvalidStatus InvalidParameter.CDNStatusInvalidDomain
        OperationDenied.ErrZoneIsAlreadyPaused OperationDenied.ZoneNotActive
        FailedOperation.InvalidZoneStatus""",
    ),
    (
        _LOCKED,
        """ResourceUnavailable.CdnHostIsLocked ResourceUnavailable.CdnHostIsMalicious
        InvalidParameter.CdnHostHasSpecialConfig OperationDenied.ConfigLocked
        OperationDenied.VersionControlLocked OperationDenied.DomainIsBlocked
        OperationDenied.ComplianceForbidden""",
    ),
    (_NO_ICP, "ResourceUnavailable.CdnHostNoIcp OperationDenied.DomainNoICP"),
    (
        _DEBT,
        """UnauthorizedOperation.CdnUserIsIsolated UnauthorizedOperation.CdnUserIsSuspended
        UnauthorizedOperation.CdnInvalidUserStatus OperationDenied.PlanHasBeenExpired
        OperationDenied.PlanHasBeenIsolated""",
    ),
    (
        _UNVERIFIED,
        """UnauthorizedOperation.CdnUserAuthFail UnauthorizedOperation.CdnUserAuthWait
        FailedOperation.NoRealNameAuth""",
    ),
    (
        _MOVED,
        """OperationDenied.ProductUpgraded OperationDenied.ProductUpdating
        OperationDenied.UserMigrating InvalidParameter.CdnHostExistsInEdgeOne""",
    ),
    (
        _PAIR,
        """FailedOperation.CertificateParseError FailedOperation.CertificateMismatch
        FailedOperation.CertificateMatchError FailedOperation.CertificateInvalid
        InvalidParameter.MissMatchPrivateKey InvalidParameter.CdnCertNotPem
        InvalidParameter.SslCertMatchError InvalidParameter.SslCertParseError
        InvalidParameter.InvalidHttpsCertInfo""",
    ),
    (
        _CHAIN,
        """FailedOperation.CertificateChainError InvalidParameter.SslCertChainError
        InvalidParameter.WithCaAttr""",
    ),
    (_NOT_COVERED, "InvalidParameter.CertNotMatchDomain"),
    (_EXPIRED, "InvalidParameter.CertToExpire FailedOperation.CertificateHasExpired"),
    (_IN_USE, "FailedOperation.DeleteResourceFailed"),
    (
        _THERE_ALREADY,
        """FailedOperation.CertificateDeployInstanceEmpty
        FailedOperation.CertificateNotDeployInstance""",
    ),
)
"""Further codes of a meaning, separated by blanks."""
MEANINGS |= {code: meaning for meaning, codes in _SAME for code in codes.split()}
MEANINGS |= {NO_SUCH_CERTIFICATE: _GONE, IN_USE: _IN_USE, NO_ROLE: _NO_ROLE}

_NO_RIGHT = (
    "UnauthorizedOperation",
    "AuthFailure.UnauthorizedOperation",
    "FailedOperation.AuthError",
    "FailedOperation.CAMAuthorizedFail",
)
_OTHER_SITE = "token usage region"
"""Words of a refusal for a key of the other site (docs/facts/tencentcloud.md §1.3)."""
_TO_INTERNATIONAL = Text(
    "{check}. For a key of the international site (IKID…), add to the account:"
    ' cdn = "https://cdn.intl.tencentcloudapi.com",'
    ' ssl = "https://ssl.intl.tencentcloudapi.com",'
    ' teo = "https://teo.intl.tencentcloudapi.com"',
    check=_CHECK_KEYS,
)
_TO_MAINLAND = Text(
    "for a key of the mainland's site (AKID…), remove `cdn`, `ssl` and `teo` of the account;"
    " {check}",
    check=_CHECK_KEYS,
)

CODES: Mapping[str, CodeMeaning] = {
    **DNS_CODES.meanings,
    **dict.fromkeys(
        _NO_RIGHT,
        CodeMeaning(
            Text("{dns}, for DNS; for domains {places}", dns=_POLICY, places=GRANT),
            Text("the key's user lacks a right"),
        ),
    ),
    **{code: meaning.explained for code, meaning in MEANINGS.items()},
}
"""Advice on Tencent Cloud's codes (`ports.adapter.Adapter`)."""


_WORD = r"(?:[A-Z]{1,4}[a-z]{2,14}|Id|In|Ip|Is|No|Of|To|By|On|Op)"


class TencentFailure(CodedFailure):
    """A failed call to the CDN, EdgeOne or the store."""

    service = CALLED
    asked = Text("RequestId {id}")
    request_id_form = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
    # Words without digits, so a key is no code.
    code_form = re.compile(rf"(?=.{{1,80}}\Z){_WORD}+(?:\.{_WORD}+){{0,3}}[A-Z]{{0,4}}", re.ASCII)
    codes = frozenset(MEANINGS)
    full = frozenset({FULL})


def explain_refusal(refusal: Refusal) -> TencentFailure:
    """Return the failure for a refusal. The known meaning of the whole code comes first, then the
    rate, a missing right, refused keys and server errors. Any other answer is a `TargetRejected`.
    """
    code, denied = refusal.code, errors.TargetAccessDenied
    if (meaning := MEANINGS.get(code)) is not None:
        failure = TencentFailure.meant(refusal, meaning)
        failure.is_passing = failure.error.retry.allowed
        return failure
    if code.startswith(TOO_MANY):
        return TencentFailure.limited(refusal)
    families = tuple(answers.families(code))
    if _OTHER_SITE in refusal.words.lower() or "AuthFailure.SecretIdNotFound" in families:
        advice = _TO_MAINLAND if ".intl." in refusal.host else _TO_INTERNATIONAL
        return TencentFailure.refused(refusal, advice, denied, is_common=True)
    if any(family in _NO_RIGHT for family in families):
        sentence = Text("the key's user lacks the right for {what} ({answer})")
        return TencentFailure.refused(refusal, GRANT, errors.TargetRightMissing, sentence)
    if "AuthFailure.SignatureExpire" in families:
        return TencentFailure.mistimed(refusal)
    if "AuthFailure" in families:
        hints = (DNS_CODES.denied[family] for family in families if family in DNS_CODES.denied)
        return TencentFailure.refused(refusal, next(hints, _CHECK_KEYS), denied, is_common=True)
    if BROKEN in families or "FailedOperation.SystemError" in families:
        return TencentFailure.broken(refusal)
    return TencentFailure.refused(refusal, _CONSOLE)


def refused_removal(remote_id: str, code: str) -> TencentFailure:
    """Return the failure of a removal that ended with the meaning of a code."""
    what = Text("the removal of certificate {id}", id=short(remote_id))
    return explain_refusal(Refusal(what, code, "", ""))
