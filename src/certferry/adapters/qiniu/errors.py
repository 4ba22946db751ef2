"""Turn failed calls to Qiniu into errors with a sentence, a hint, and Qiniu's id of the request
(X-Reqid).

`MEANINGS` explains the listed codes. An answer with any other code is explained by the HTTP status
(docs/facts/qiniu.md §3). To explain a further code, add a line:

    400999: Meaning("what Qiniu means", "what to do", errors.TargetRejected),
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus

from msgspec import Struct

from certferry import errors
from certferry.adapters.cdn.failure import LATER, NETWORK, OTHER_PROGRAM, SET_CLOCK, CallFailure
from certferry.adapters.cdn.refusals import Meaning
from certferry.adapters.http import exchange, http_client
from certferry.adapters.qiniu import wire
from certferry.core.redaction import quoted
from certferry.ports.adapter import Answer, CodeMeaning
from certferry.text import Text

CALLED = Text("Qiniu")
"""The service's name for people."""

UNCHANGED = 400910
ACCOUNT_FULL = 400500
HTTPS_IS_OFF = frozenset({400302, 400})  # with a code, or as a bare status
NO_SUCH_CERTIFICATE = frozenset({400401, 404001})  # 404001 is for any resource (§4.4)
NO_SUCH_DOMAIN = frozenset({612, 404001})  # for a write, and for a read
WRONG_DOMAIN_TYPE = 403  # "domaintype is not allowed", sent without a code (§6.5)


_TOO_SHORT = Meaning(
    "too little of the certificate's life is left",
    "Qiniu requires about 30 days; issue a new certificate: `certferry sync --renew {lineage}`,"
    " or have the certificate's client issue it",
)
NO_DOMAIN = Meaning(
    "the domain is not a CDN domain of the account",
    "add the domain in Qiniu's console under CDN, or correct `domains`",
)

MEANINGS = {
    404001: NO_DOMAIN,
    405: Meaning(
        "the host does not offer the call",
        "remove `api`, `fusion` and `uc` of the account, so that the defaults apply",
    ),
    400013: Meaning(
        "the same change was already made",
        "the next run checks the domain again",
        errors.TargetBusy,
    ),
    400020: Meaning(
        "the domain has no ICP filing",
        "domains served in mainland China require an ICP filing: file the domain, or choose"
        " another region",
    ),
    400030: Meaning(
        "an earlier change of the domain is still in progress",
        "changes take 5 to 15 minutes, sometimes hours; a later run continues from here",
        errors.TargetBusy,
    ),
    400062: Meaning(
        "the domain already exists at Qiniu",
        "if the domain belongs to another account, use the keys of the other account, or ask"
        " Qiniu's support",
    ),
    400302: Meaning(
        "HTTPS has been switched off for the domain", "the next run switches HTTPS on again"
    ),
    400309: Meaning(
        "the domain's cache settings are missing",
        "save the domain's cache settings once in Qiniu's console; a later run continues from here",
    ),
    400317: Meaning(
        "the domain is not offline",
        "Qiniu makes the change only for a domain that is offline; check the domain in"
        " Qiniu's console",
    ),
    400320: Meaning(
        "the domain is offline",
        "bring the domain online in Qiniu's console, or remove the domain from `domains`",
    ),
    400321: Meaning(
        "the certificate is not valid yet", "compare this host's clock with the true time"
    ),
    400322: _TOO_SHORT,
    400323: Meaning(
        "the certificate chain cannot be verified",
        "Qiniu accepts only certificates of public CAs, with the issuer certificates after"
        " the leaf",
    ),
    400324: Meaning(
        "certificate and private key do not belong together",
        "later runs upload the same pair again, at growing intervals; if Qiniu refuses the pair"
        " each time, use a new pair: `certferry sync --renew {lineage}`, or have the"
        " certificate's client issue it",
    ),
    400326: Meaning(
        "the certificate does not cover the domain",
        "add the domain to `names`; a wildcard reaches one label deep, and the wildcard domain"
        " *.example.com needs *.example.com itself",
    ),
    400045: Meaning(
        "the private key is not accepted",
        "later runs upload the same pair again, at growing intervals; if Qiniu refuses the pair"
        " each time, use a new pair: `certferry sync --renew {lineage}`, or have the"
        " certificate's client issue it",
    ),
    400329: Meaning(
        "the certificate has expired",
        "issue a new certificate: `certferry sync --renew {lineage}`, or have the"
        " certificate's client issue it",
    ),
    400348: Meaning(
        "Qiniu does not accept the certificate's common name",
        'use a certificate profile with a common name: profile = "classic" under [acme], or the'
        " same in the certificate's client",
    ),
    400397: Meaning(
        "several domains share the domain's CNAME",
        "give the domain a CNAME of its own in Qiniu's console",
    ),
    400401: Meaning(
        "the certificate does not exist at Qiniu",
        "the certificate was removed at Qiniu; the next run uploads it again",
        errors.CopyGone,
    ),
    400402: Meaning(
        "the CA cannot issue for the name",
        "use a certificate of another CA, or ask Qiniu's support which CA is accepted for the name",
    ),
    ACCOUNT_FULL: Meaning(
        "the account's certificate quota is full",
        "remove unused certificates in Qiniu's console, or ask Qiniu's support to raise the quota",
    ),
    400319: Meaning(
        "the domain does not support elliptic-curve keys",
        'set `key_type = "rsa2048"` under [acme], and issue a new certificate: `certferry sync'
        " --renew {lineage}`; or have the certificate's client use an RSA key",
    ),
    400611: Meaning(
        "a CDN domain is still bound to the certificate",
        "normal until the domain's change has finished; a later run tries again",
        errors.TargetInUse,
    ),
    400407: Meaning(
        "the domain is locked against self-service",
        "ask Qiniu's support to lift the restriction, with the name of the domain",
    ),
    400911: Meaning(
        "a Kodo domain is bound to the certificate",
        "bind the Kodo domain to another certificate; a later run tries again",
        errors.TargetInUse,
    ),
    400932: Meaning(
        "the account has not proven that it owns the domain",
        "prove ownership in Qiniu's console, with the TXT record shown there",
    ),
    401000: Meaning(
        "the account's owner is not verified",
        "complete the verification (实名认证) in Qiniu's console",
        errors.TargetAccessDenied,
    ),
    403023: Meaning(
        "the domain belongs to another account", "use the keys of the account that has the domain"
    ),
    404904: Meaning(
        "the domain's CNAME does not point at Qiniu",
        "set the CNAME that Qiniu's console shows for the domain, and wait until resolvers show it",
    ),
    404906: Meaning(
        "the certificate cannot be read",
        "a fullchain is PEM text: the leaf first, then the issuer certificates",
    ),
    404908: Meaning(
        "the certificate belongs to another account",
        "use the keys of the account that uploaded the certificate",
    ),
    404923: Meaning(
        "HTTPS is not possible for a private bucket on the video platform",
        "change the domain's platform or source in Qiniu's console",
    ),
    500923: Meaning(
        "the domain is frozen",
        "Qiniu's console shows the reason (unpaid bill, ICP filing, content); resolve it first",
    ),
}

# Codes with the meaning of another code.
_SAME = {
    404001: (612,),
    400045: (400327,),
    400319: (400514,),
    400322: (500233,),
    400323: (400325, 400338),
    400324: (400328,),
    400407: (400722, 404905, 404910),
    404906: (404907,),
}
MEANINGS |= {code: MEANINGS[same] for same, codes in _SAME.items() for code in codes}
_TOO_SHORT_WORDS = "expire day should more than"  # without a code of its own (§4.6)


def advice_on(code: int) -> Text:
    """Return the advice on a code in `MEANINGS`."""
    return MEANINGS[code].explained.advice


IAM_PREFIX = "IAM-"  # keys of sub-accounts (§2.4)
WRONG_CLOCK = timedelta(minutes=15)
"""How far a clock may be off; Qiniu refuses the requests of a worse clock (§2.3)."""


class QiniuFailure(CallFailure):
    """A failed call to Qiniu."""

    def __init__(
        self,
        error: errors.DeployError,
        *,
        code: int | None = None,
        reply: wire.QiniuReply | None = None,
        maybe_done: bool = False,
        contact: exchange.Contact | None = None,
        is_common: bool = False,
        is_passing: bool = False,
    ) -> None:
        super().__init__(
            error,
            maybe_done=maybe_done,
            contact=contact,
            is_common=is_common,
            is_passing=is_passing,
            is_full=code == ACCOUNT_FULL,
        )
        self.code = code
        self.status = None if reply is None else reply.status
        #: Qiniu's words, only for decisions: see `wire.QiniuReply.words`.
        self.words = "" if reply is None else reply.words


class Call(Struct, frozen=True):
    """The facts about a refused call, for sentences and advice."""

    asked: wire.ApiCall
    #: The host of the explained answer.
    host: str
    tried: tuple[wire.Endpoint, ...]
    #: Whether the access key belongs to a sub-account.
    with_iam_key: bool
    #: Whether Qiniu has accepted the same keys in this process.
    worked_before: bool
    #: Whether Qiniu has accepted the same keys for a call of the same group.
    is_proven: bool


_CHECK_KEYS = Text(
    "compare both keys with one pair in Qiniu's console (个人中心 → 密钥管理), check that the pair"
    " is enabled, and compare this host's clock with the true time"
)
_CHECK_IAM_KEYS = Text(
    "the access key belongs to a sub-account (IAM-…): allow it CDN, SSL certificates and Kodo in"
    " Qiniu's console, or use a key pair of the main account"
)
_CHECK_ACCOUNT = Text(
    "check in Qiniu's console the permissions of the keys and the state of the account; compare"
    " this host's clock with the true time"
)
_MAIN_KEYS = Text(
    "Qiniu's API for the certificates of Kodo source domains accepts only keys of the main"
    " account; keys of a sub-account (IAM) work for everything else: use a key pair of the main"
    " account"
)
_READ_ONLY = Text(
    "the keys can only read: allow them to change CDN domains and SSL certificates in Qiniu's"
    " console, or use a key pair of the main account"
)
_ALLOW_PILI = Text(
    "allow the keys to use Pili (直播云) in Qiniu's console, or use a key pair of the main account"
)
_OTHER_CALLS_WORK = Text(
    "Qiniu accepts the same keys for other calls: allow them the refused call in Qiniu's console,"
    " and compare the domain's name with the console"
)
_CLOCK_AHEAD = Text(
    "this host's clock is {amount} ahead of Qiniu's, so {host} refused {what} ({answer})"
)
_CLOCK_BEHIND = Text(
    "this host's clock is {amount} behind Qiniu's, so {host} refused {what} ({answer})"
)
_NOT_A_SOURCE = Text(
    'the domain is a CDN domain: set kind = "cdn", or remove `kind` so that certferry finds the'
    " kind"
)


CODES: Mapping[str, CodeMeaning] = {
    "401": CodeMeaning(_CHECK_KEYS, Text("access_key and secret_key are not accepted")),
    "403": CodeMeaning(_READ_ONLY, Text("access_key and secret_key lack the permission")),
    **dict.fromkeys(
        ("500", "502", "503", "504", "500000", "500215", "500219"),
        CodeMeaning(LATER, Text("Qiniu itself failed")),
    ),
    **{str(code): CodeMeaning(OTHER_PROGRAM) for code in (429, 573, *sorted(wire.TOO_MANY))},
    **{str(code): meaning.explained for code, meaning in MEANINGS.items()},
}
"""Advice on Qiniu's codes, and on statuses without a code (`ports.adapter.Adapter`)."""


def explain_failure(
    subject: Text, failure: exchange.HttpFailure, tried: Sequence[wire.Endpoint] = ()
) -> QiniuFailure:
    """Return the failure of a call without a usable answer."""
    problem = _with_endpoints(failure.problem, tried)
    message = Text("Qiniu does not answer about {what}: {problem}", what=subject, problem=problem)
    hint = _with_request_id(NETWORK, wire.request_id(failure.headers))
    error = errors.TargetUnavailable(message, hint=hint)
    return QiniuFailure(error, maybe_done=failure.maybe_done, contact=failure.contact)


def explain_nonsense(subject: Text, answer: Answer, problem: str) -> QiniuFailure:
    """Return the failure for a successful answer in an unreadable form.

    `maybe_done` is true, because Qiniu has probably carried out the call.
    """
    sentence = Text("certferry cannot read Qiniu's answer about {what}: {problem}")
    hint = _with_request_id(LATER, wire.read_reply(answer).request_id)
    error = errors.TargetUnavailable(
        sentence.filled(what=subject, problem=quoted(problem)), hint=hint
    )
    return QiniuFailure(error, maybe_done=True)


def explain_refusal(call: Call, answer: Answer, now: datetime) -> QiniuFailure:
    """Return the failure for an answer other than a success.

    The first explanation that fits counts: a known meaning of the code or the words, the rate
    limit, refused keys, an error of Qiniu's server. Any other answer is a `TargetRejected`.
    """
    reply = wire.read_reply(answer)
    code = reply.code or reply.status
    refused = Text("Qiniu refused {what} ({answer})")
    if reply.status == HTTPStatus.FORBIDDEN and "domaintype" in reply.words.lower():
        error = _error(errors.TargetRejected, refused, call, reply, _NOT_A_SOURCE)
        return QiniuFailure(error, code=WRONG_DOMAIN_TYPE)
    is_too_short = _TOO_SHORT_WORDS in reply.words.lower()
    meaning = MEANINGS.get(code) or (_TOO_SHORT if is_too_short else None)
    # Pili, the API of live domains, sends the code of a missing domain also for a missing hub.
    if meaning is NO_DOMAIN and call.asked.group is wire.CallGroup.LIVE:
        meaning = None
    if meaning is not None:
        sentence = Text("Qiniu refused {what}: {meaning} ({answer})")
        words, advice = meaning.explained.meaning, meaning.explained.advice
        error = _error(meaning.error, sentence, call, reply, advice, meaning=words)
        return QiniuFailure(error, code=code, reply=reply)
    if wire.too_many(answer):
        sentence = Text("Qiniu is limiting requests, among them {what} ({answer})")
        error = _error(errors.TargetUnavailable, sentence, call, reply, OTHER_PROGRAM)
        if (seconds := exchange.seconds_asked_for(answer)) is not None:
            error.retry = errors.Retry.at(now + timedelta(seconds=seconds))
        return QiniuFailure(error, code=reply.code, is_common=True)
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _denied(call, reply, answer, now)
    if http_client.is_server_error(answer):
        sentence = Text("Qiniu returned a server error for {what} ({answer})")
        error = _error(errors.TargetUnavailable, sentence, call, reply, LATER)
        return QiniuFailure(error, code=reply.code, reply=reply, maybe_done=True, is_passing=True)
    return QiniuFailure(
        _error(errors.TargetRejected, refused, call, reply, None), code=code, reply=reply
    )


def _denied(call: Call, reply: wire.QiniuReply, answer: Answer, now: datetime) -> QiniuFailure:
    """Return the failure for a request with refused keys. If this host's clock is wrong, the
    failure blames the clock.

    If calls of the same group have worked before, a 401 concerns only the path of this call: Qiniu
    answers 401 for unknown paths (§1.3).
    """
    ahead = _wrong_clock(reply, answer, now)
    if ahead is not None:
        amount = timedelta(seconds=round(abs(ahead).total_seconds()))
        sentence = _CLOCK_AHEAD if ahead > timedelta(0) else _CLOCK_BEHIND
        error = _error(errors.ClockWrong, sentence, call, reply, SET_CLOCK, amount=amount)
        return QiniuFailure(error, is_common=True)
    # The sentence does not name the call, because every call with these keys fails.
    sentence = Text("Qiniu does not accept access_key and secret_key ({answer})")
    if call.is_proven or call.worked_before:
        sentence = Text("{host} does not accept access_key and secret_key for {what} ({answer})")
    if reply.status == HTTPStatus.FORBIDDEN:  # the keys may be right, and lack a permission
        sentence = Text("Qiniu refused {what} ({answer})")
    error = _error(errors.TargetAccessDenied, sentence, call, reply, _advice_on_keys(call, reply))
    is_this_path = call.is_proven and reply.status == HTTPStatus.UNAUTHORIZED
    return QiniuFailure(error, code=reply.code, is_common=not is_this_path)


def _wrong_clock(reply: wire.QiniuReply, answer: Answer, now: datetime) -> timedelta | None:
    """Return how far this machine's clock is ahead of Qiniu's clock; negative if behind. Return
    `None` if the clock does not explain the refusal.
    """
    theirs = http_client.ahead_of(answer.headers, now)
    if theirs is None:
        return None
    ahead = -theirs
    is_said = "skew" in reply.words.lower() and abs(ahead) > timedelta(seconds=1)
    return ahead if is_said or abs(ahead) > WRONG_CLOCK else None


def _advice_on_keys(call: Call, reply: wire.QiniuReply) -> Text:
    lacks_a_right = call.worked_before or call.with_iam_key
    if call.asked.group in wire.UNDOCUMENTED and lacks_a_right:
        return _MAIN_KEYS
    if call.asked.is_change and call.worked_before and reply.status == HTTPStatus.FORBIDDEN:
        return _READ_ONLY
    if call.is_proven and reply.status == HTTPStatus.UNAUTHORIZED:
        return _OTHER_CALLS_WORK
    if call.asked.group is wire.CallGroup.LIVE and lacks_a_right:
        return _ALLOW_PILI
    if call.with_iam_key:
        return _CHECK_IAM_KEYS
    return _CHECK_ACCOUNT if reply.status == HTTPStatus.FORBIDDEN else _CHECK_KEYS


def _error(
    kind: type[errors.DeployError],
    sentence: Text,
    call: Call,
    reply: wire.QiniuReply,
    advice: Text | None,
    **more: object,
) -> errors.DeployError:
    """Return the error of a call: the sentence filled with call, answer and tried endpoints."""
    outcome = Text("{number}", number=reply.number)
    if reply.words:
        outcome = Text("{number} {words}", number=reply.number, words=reply.shown)
    answer = _with_endpoints(outcome, call.tried)
    message = sentence.filled(host=call.host, what=call.asked.what, answer=answer, **more)
    return kind(message, hint=_with_request_id(advice, reply.request_id))


def _with_endpoints(outcome: Text, tried: Sequence[wire.Endpoint]) -> Text:
    if len(tried) <= 1:
        return outcome
    return Text("{said}; tried: {ways}", said=outcome, ways=[str(endpoint) for endpoint in tried])


def _with_request_id(advice: Text | None, request_id: str | None) -> Text | None:
    """Return the advice with the X-Reqid, if known: Qiniu's support asks for the X-Reqid first
    (§1.4).
    """
    if not request_id:
        return advice
    asked = Text("Qiniu's support will ask for X-Reqid {id}", id=request_id)
    return asked if advice is None else Text("{advice}; {asked}", advice=advice, asked=asked)
