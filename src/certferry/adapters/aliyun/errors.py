"""The codes of Alibaba Cloud's services, and the errors made from failed calls.

`DNS_CODES` explains the codes of Alibaba Cloud DNS. `MEANINGS` explains the codes of CDN, DCDN and
the store of certificates (docs/facts/aliyun.md §4.2, §5). Both tables share the codes of the
gateway. To explain a further code, add a line to `MEANINGS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from certferry import errors
from certferry.adapters.aliyun.account import CALLED, TEMPORARY_KEY
from certferry.adapters.aliyun.rpc import RpcReply
from certferry.adapters.cdn.refusals import CodedFailure, Meaning, Refusal
from certferry.adapters.dns import answers
from certferry.adapters.http import exchange, http_client
from certferry.ports.adapter import Answer, CodeMeaning
from certferry.text import Text

IN_DOUBT = ("InternalError", "ServiceUnavailable", "UnKnownError")  # spelt as by the service
NO_HTTPS_DOMAIN = "NoHttpsDomain"
NO_SUCH_DOMAIN = frozenset({"InvalidDomain.NotFound", "InvalidDomainName"})
THERE_ALREADY = frozenset({"NameRepeat", "AlreadyExists.cert", "Certificate.Duplicated"})
FULL = frozenset({"CertQuotaCheckFailed", "InsufficientQuota"})
NOT_OPENED = frozenset({"CdnServiceNotFound", "DcdnServiceNotFound"})
NO_SUCH_CERTIFICATE = frozenset({"NotFound", "CertNotExist", "Certificate.NotFind"})

POLICY = (
    '{"Version":"1","Statement":[{"Effect":"Allow","Resource":"*","Action":["cdn:Describe*",'
    '"cdn:SetCdnDomainSSLCertificate","dcdn:Describe*","dcdn:SetDcdnDomainSSLCertificate",'
    '"yundun-cert:ListUserCertificateOrder","yundun-cert:UploadUserCertificate",'
    '"yundun-cert:DeleteUserCertificate"]}]}'
)
"""The rights that certferry needs beside the rights for DNS (docs/facts/aliyun.md §2)."""
GRANT = Text(
    "give the RAM user this policy at ram.console.aliyun.com (Policies → Create policy → JSON): "
    "{policy}",
    policy=POLICY,
)

_CHECK = Text(
    "compare `access_key_id` and `access_key_secret` with the AccessKeys of the RAM user at "
    "ram.console.aliyun.com; a secret is shown only at creation"
)
_PERMISSION = Text(
    "give the RAM user the permissions alidns:DescribeDomains, DescribeSubDomainRecords, "
    "DescribeDomainRecordInfo, AddDomainRecord and DeleteDomainRecord, or AliyunDNSFullAccess"
)
_LOOK = Text("check the domain at dns.console.aliyun.com")
_CLOCK = Text(
    "the clock of this host is off by more than 15 minutes: set the clock, then try again"
)
_PLAN = Text(
    "the domain's plan at Alibaba Cloud DNS is used up: remove records, or upgrade the plan"
)
_ACCOUNT = Text("check the account's notices at home.console.aliyun.com")
_FORBIDDEN = ("DomainExpired", "DomainLocked", "DomainType", "RecordLocked", "ProtectedDomain")

_KEYS_REFUSED: Mapping[str, Text] = {
    "InvalidAccessKeyId": Text(
        "the AccessKey does not exist or is disabled: {check}", check=_CHECK
    ),
    "SignatureDoesNotMatch": Text(
        "`access_key_secret` does not belong to `access_key_id`: {check}", check=_CHECK
    ),
    "IncompleteSignature": _CHECK,
    **dict.fromkeys(("MissingSecurityToken", "InvalidSecurityToken"), TEMPORARY_KEY),
    **dict.fromkeys(("Forbidden.RiskControl", "Forbidden.UserVerification"), _ACCOUNT),
}
_WRONG_CLOCK = ("IllegalTimestamp", "InvalidTimeStamp")
_NO_RIGHT = ("Forbidden", "NoPermission")
_NO_RIGHT_AT_PRODUCTS = (*_NO_RIGHT, "AccessDenied", "PermissionDenied")
_TOO_MANY = ("Throttling", "FlowControlError")

DNS_CODES = answers.Codes(
    Text("{about}: Alibaba Cloud DNS answered {action} with code {code}: {words}"),
    _LOOK,
    denied={**_KEYS_REFUSED, **dict.fromkeys(_NO_RIGHT, _PERMISSION)},
    rejected={
        **dict.fromkeys((f"Forbidden.{word}" for word in _FORBIDDEN), _LOOK),
        **dict.fromkeys(_WRONG_CLOCK, _CLOCK),
        "DomainRecordConflict": answers.EXCLUDED,
        "QuotaExceeded": _PLAN,
    },
    unavailable={
        "Throttling": answers.TOO_MANY_CALLS,  # and Throttling.User, Throttling.Api
        **dict.fromkeys(IN_DOUBT, answers.LATER),
    },
)


_OTHER_PAIR = (
    "later runs send the same pair again, at growing intervals; if Alibaba Cloud refuses the pair"
    " each time, use a new pair: `certferry sync --renew {lineage}`, or have the certificate's"
    " client issue it"
)
_NO_DOMAIN = Meaning(
    "the account has no such domain, or the domain is offline",
    "add the domain in the CDN or DCDN console, or correct `domains`; a wildcard domain is written"
    " .example.com",
)
_BAD_KEY = Meaning("the private key is not accepted", _OTHER_PAIR)
_BAD_CERTIFICATE = Meaning("the certificate cannot be read", _OTHER_PAIR)
_GONE = Meaning(
    "the certificate does not exist in the store of certificates",
    "the certificate was removed; the next run uploads it again. An account of the international"
    ' site needs cas = "https://cas.ap-southeast-1.aliyuncs.com"',
    errors.CopyGone,
)
_NOT_OPENED = Meaning(
    "the service is not opened for the account",
    "open the service in the console, or remove the deployment",
)
_THERE_ALREADY = Meaning(
    "the store has the certificate, or another certificate of this name, already",
    "certferry looks for the certificate by fingerprint and serial; if the error persists, another"
    " certificate in the store has certferry's name: rename it in the console",
)
_FULL = Meaning(
    "the account's certificate quota is full",
    "remove unused certificates in the console of the store, or raise the quota",
)
_PROTECTED = Meaning(
    "the domain is protected against changes", "lift the protection in the console"
)
_EXPIRED = Meaning(
    "the certificate is expired or revoked",
    "issue a new certificate: `certferry sync --renew {lineage}`, or have the certificate's client"
    " issue it",
)
_OFFLINE = Meaning(
    "the domain is offline",
    "bring the domain online in the console, or remove the domain from `domains`",
)

MEANINGS: dict[str, Meaning] = {
    "ServiceBusy": Meaning(
        "an earlier change of the domain is still in progress",
        "a later run continues from here",
        errors.TargetBusy,
    ),
    "InvalidDomain.NotFound": _NO_DOMAIN,
    "InvalidDomainName": _NO_DOMAIN,
    "InvalidDomain.Offline": _OFFLINE,
    "InvalidDomain.notOnline": _OFFLINE,
    "DomainInProtectedMode": _PROTECTED,
    "DomainInSafeMode": _PROTECTED,
    "IllegalOperation": Meaning(
        "the domain does not allow the change now", "check the domain in the console"
    ),
    "IllegalOperationDomain": Meaning(
        "the domain belongs to another account", "use the keys of the account that has the domain"
    ),
    "OperationDenied": Meaning(
        "the service is suspended", "check the account's balance and notices in the console"
    ),
    "SSLPub.MissingParameter": Meaning(
        "the call has no certificate",
        "an id was sent without the type of the certificate; report the error, because certferry"
        " always sends both",
    ),
    "SSLPri.MissingParameter": Meaning(
        "the call has no private key",
        "the store of certificates of this site does not have the id. An account of the"
        ' international site needs cas = "https://cas.ap-southeast-1.aliyuncs.com"',
    ),
    "InvalidSSLPub": _BAD_CERTIFICATE,
    "InvalidCertificate": _BAD_CERTIFICATE,
    "Decode.Error": _BAD_CERTIFICATE,
    "Certificate.FormatError": _BAD_CERTIFICATE,
    "InvalidSSLPri": _BAD_KEY,
    "Certificate.KeyNull": _BAD_KEY,
    "Certificate.MissMatch": Meaning(
        "certificate and private key do not belong together", _OTHER_PAIR
    ),
    "InvalidCertificate.TooLong": Meaning(
        "the certificate is too long", "use a chain with fewer certificates, or fewer names"
    ),
    "Certificate.StatusError": _EXPIRED,
    "Certificate.Expired": _EXPIRED,
    "CertificateExpired": _EXPIRED,
    "CertificateFormatException": _BAD_CERTIFICATE,
    "CertificateChainNotMatch": Meaning(
        "the certificate chain cannot be verified",
        "the issuer certificates have to follow the leaf, each after the certificate it signed",
    ),
    "CertName.MissingParameter": Meaning(
        "the call has no name for the certificate",
        "report the error, because certferry always sends a name",
    ),
    "CertNameAlreadyExists": _THERE_ALREADY,
    "CertificateContent.Duplicated": Meaning(
        "the certificate was sent before, and cannot be sent again",
        "give the RAM user rights for the store of certificates: `certferry help aliyun` shows the"
        " policy; certferry then sends a certificate once",
    ),
    "InvalidStatus.DeleteProtection": Meaning(
        "something uses the certificate", "a later run tries again", errors.TargetInUse
    ),
    "SetDomainCertificate.ParameterError": Meaning(
        "a parameter of the binding is wrong", "check the domain and the certificate in the console"
    ),
    NO_HTTPS_DOMAIN: Meaning(
        "no domain of the account has HTTPS", "nothing to do: certferry reads an empty list"
    ),
    "MissingStatus": Meaning(
        "the deployment service of the store asks for a status",
        "certferry binds through CDN and DCDN, which is free, and never through the paid deployment"
        " service: another program made the call",
    ),
    "InvalidCredentials": Meaning(
        "a program sent keys of two accounts, or none",
        "set `access_key_id` and `access_key_secret` of one RAM user",
        errors.TargetAccessDenied,
    ),
    "NeedVerifyDomainOwnership": Meaning(
        "the owner of the domain is not verified",
        "verify the domain in the console, with the TXT record shown there",
    ),
    **dict.fromkeys(sorted(NO_SUCH_CERTIFICATE), _GONE),
    **dict.fromkeys(sorted(NOT_OPENED), _NOT_OPENED),
    **dict.fromkeys(sorted(THERE_ALREADY), _THERE_ALREADY),
    **dict.fromkeys(sorted(FULL), _FULL),
}

CODES: Mapping[str, CodeMeaning] = {
    **DNS_CODES.meanings,
    **dict.fromkeys(
        _NO_RIGHT_AT_PRODUCTS,
        CodeMeaning(
            Text("for DNS: {dns}; for CDN and DCDN: {grant}", dns=_PERMISSION, grant=GRANT),
            Text("the AccessKey lacks a right"),
        ),
    ),
    **{code: meaning.explained for code, meaning in MEANINGS.items()},
}
"""Advice on Alibaba Cloud's codes (`ports.adapter.Adapter`)."""


class AliyunFailure(CodedFailure):
    """A failed call to CDN, DCDN or the store of certificates."""

    service = CALLED
    asked = Text("the support of {service} will ask for RequestId {id}")
    request_id_form = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", re.ASCII)
    code_form = re.compile(r"[A-Z][A-Za-z]{1,39}(\.[A-Za-z]{2,40}){0,3}", re.ASCII)
    full = FULL


_CONSOLE = Text("check the domain and the certificate in the console")


def explain_refusal(what: Text, reply: RpcReply, answer: Answer, now: datetime) -> AliyunFailure:
    """Return the failure for a refusal. The known meaning of the code comes first, then refused
    keys, a missing right, the clock, the rate limit and server errors. Any other answer is a
    `TargetRejected`.
    """
    code, denied = reply.code, errors.TargetAccessDenied
    refusal = Refusal(what, code, reply.words, reply.request_id)
    if code in MEANINGS:
        # A certificate of the name may be the earlier upload, so the caller searches the store.
        return AliyunFailure.meant(refusal, MEANINGS[code], maybe_done=code in THERE_ALREADY)
    for family in answers.families(code):
        if family in _KEYS_REFUSED:
            return AliyunFailure.refused(refusal, _KEYS_REFUSED[family], denied, is_common=True)
        if family in _NO_RIGHT_AT_PRODUCTS:
            sentence = Text("the AccessKey lacks the right for {what} ({answer})")
            missing = errors.TargetRightMissing
            return AliyunFailure.refused(refusal, GRANT, missing, sentence)
        if family in _WRONG_CLOCK:
            return AliyunFailure.mistimed(refusal)
        if family in _TOO_MANY:
            failure = AliyunFailure.limited(refusal)
            if (seconds := exchange.seconds_asked_for(answer)) is not None:
                failure.error.retry = errors.Retry.at(now + timedelta(seconds=seconds))
            return failure
    if code in IN_DOUBT or http_client.is_server_error(answer):
        return AliyunFailure.broken(refusal)
    return AliyunFailure.refused(refusal, _CONSOLE)
