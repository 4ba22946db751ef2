"""Turn a CA's refusals (RFC 8555 §6.7), and requests without an answer, into certferry's errors."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Self
from urllib.parse import urlsplit

import requests
from acme import errors, messages
from josepy.errors import Error as JoseError

from certferry.adapters.http.bounds import TooLong, TooSlow, UnknownProxy
from certferry.core.redaction import quoted, quoted_code
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    IssuanceError,
    OrderFailed,
    RateLimited,
    Retry,
    system_words,
)
from certferry.text import Text, verbatim

FOREIGN = (errors.Error, JoseError, requests.RequestException)
"""The exceptions raised on purpose by the libraries behind the ACME adapter."""

_OF_PROOFS = ("caa", "connection", "dns", "dnssec", "incorrectResponse", "tls", "unknownHost")
_ERRORS: dict[str, type[IssuanceError]] = {
    **dict.fromkeys(_OF_PROOFS, AuthorizationFailed),
    **dict.fromkeys(("badNonce", "orderNotReady", "serverInternal"), CaUnavailable),
    "rateLimited": RateLimited,
}
"""Kind of problem → error. Every other kind is about order, request or account: `OrderFailed`."""

MOST_PARTS = 10  # sub-problems read from one problem

_PASSING = {"accountDoesNotExist", "alreadyReplaced"}
"""Kinds of problems that the next run may avoid, because the run makes another request."""


class Refused(errors.ClientError):
    """A refused request, with the answer's HTTP status, problem document and Retry-After."""

    def __init__(
        self, status: int, problem: messages.Error | None, retry_after: str | None = None
    ) -> None:
        self.status = status
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(status, problem)

    @classmethod
    def from_response(cls, response: requests.Response) -> Self:
        """Read a refusal; `problem` is `None` if the body is not a problem document."""
        return cls(
            response.status_code, _read_problem(response), response.headers.get("Retry-After")
        )

    @property
    def kind(self) -> str:
        """The problem's type without ACME's prefix; empty without a problem document."""
        return "" if self.problem is None else kind_of(self.problem)

    @property
    def is_final(self) -> bool:
        """Whether the CA will refuse the same request again, whatever the time or load."""
        return (
            self.status < HTTPStatus.INTERNAL_SERVER_ERROR
            and self.status != HTTPStatus.TOO_MANY_REQUESTS
            and self.kind not in {"badNonce", "rateLimited", "serverInternal"}
        )


@contextlib.contextmanager
def translating_errors(now: Callable[[], datetime]) -> Iterator[None]:
    """Turn the libraries' exceptions in the block into `IssuanceError`."""
    try:
        yield
    except FOREIGN as foreign:
        raise as_error(foreign, now()) from foreign


def as_error(foreign: Exception, now: datetime) -> IssuanceError:
    """Return the `IssuanceError` for an exception of the libraries."""
    if isinstance(foreign, Refused):
        return _refused_request(foreign, now)
    if isinstance(foreign, messages.Error):
        return refused_order(foreign)
    if isinstance(foreign, requests.exceptions.InvalidJSONError):
        return not_acme(quoted(foreign))
    if isinstance(foreign, requests.RequestException):
        return _not_reached(foreign)
    return not_acme(quoted(str(foreign) or type(foreign).__name__))


def refused_order(problem: messages.Error, retry: Retry | None = None) -> IssuanceError:
    """Return the error for a refused order or request.

    The kind of a compound problem is the kind of its first sub-problem.
    """
    parts = _parts(problem)
    kind = kind_of(parts[0] if parts and kind_of(problem) == "compound" else problem)
    error = _ERRORS.get(kind, OrderFailed)
    return error(
        _MESSAGES[error].filled(problem=in_words(problem)),
        hint=_first(FOR_REQUESTS, problem),
        retry=Retry.LATER if retry is None and kind in _PASSING else retry,
    )


def refused_proofs(failed: Sequence[tuple[str, messages.Error | None]]) -> AuthorizationFailed:
    """Return the error for one or more names with refused proofs."""
    sentence = Text("the CA does not accept the proof for {name}")
    explained = Text("the CA does not accept the proof for {name}: {problem}")
    sentences = [
        sentence.filled(name=name)
        if problem is None
        else explained.filled(name=name, problem=in_words(problem))
        for name, problem in failed
    ]
    hints = (_first(FOR_PROOFS, problem) for _, problem in failed if problem)
    hint, names = next(filter(None, hints), None), tuple(name for name, _ in failed)
    return AuthorizationFailed(_joined(sentences), hint=hint, names=names)


def not_acme(problem: str | Text) -> CaUnavailable:
    """Return the error for a malformed answer."""
    return CaUnavailable(
        Text("certferry does not understand the CA's answer: {what}", what=problem),
        hint=Text("check that `directory` under [acme] is the address of an ACME directory"),
    )


def kind_of(problem: messages.Error) -> str:
    """Return the problem's type without ACME's prefix, such as `rateLimited`."""
    return str(problem.typ).removeprefix(messages.ERROR_PREFIX)


def in_words(problem: messages.Error) -> Text:
    """Return a problem in the CA's own words, with the first `MOST_PARTS` sub-problems (RFC 8555
    §6.7.1).
    """
    return _joined([_in_words(problem), *map(_in_words, _parts(problem))])


def _in_words(problem: messages.Error) -> Text:
    detail = problem.detail or problem.title or problem.description
    sentence = Text(
        "{detail} ({kind})",
        detail=quoted(detail) if detail else Text("no details"),
        kind=quoted_code(kind_of(problem)) or Text("no code"),
    )
    if problem.identifier is None:
        return sentence
    return Text("{name}: {problem}", name=quoted(problem.identifier.value), problem=sentence)


def _parts(problem: messages.Error) -> Sequence[messages.Error]:
    """Return at most `MOST_PARTS` sub-problems."""
    return (problem.subproblems or ())[:MOST_PARTS]


def is_untrusted(failure: BaseException) -> bool:
    """Return whether the CA's own certificate is untrusted, rather than the connection broken."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(failure))


def moment_of(retry_after: str | None, now: datetime) -> datetime | None:
    """Return the moment in a Retry-After header: seconds or an HTTP date (RFC 9110 §10.2.3).
    Return `None` for an absent or unreadable header.
    """
    if retry_after is None:
        return None
    try:
        if retry_after.strip().isdecimal():
            return now + timedelta(seconds=int(retry_after))
        return parsedate_to_datetime(retry_after).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


_MESSAGES: dict[type[IssuanceError], Text] = {
    AuthorizationFailed: Text("the CA does not accept the proof: {problem}"),
    CaUnavailable: Text("the CA failed: {problem}"),
    OrderFailed: Text("the CA refused: {problem}"),
    RateLimited: Text("the CA asks certferry to retry later: {problem}"),
}


def _refused_request(refused: Refused, now: datetime) -> IssuanceError:
    moment = moment_of(refused.retry_after, now)
    retry = None if moment is None else Retry.at(moment)
    status = str(refused.status)
    with contextlib.suppress(ValueError):
        status = f"{refused.status} {HTTPStatus(refused.status).phrase}"
    error: type[IssuanceError] = CaUnavailable
    if refused.status == HTTPStatus.TOO_MANY_REQUESTS or refused.kind == "rateLimited":
        error = RateLimited
    elif refused.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return refused_order(refused.problem, retry) if refused.problem else not_acme(status)
    message = _MESSAGES[error].filled(problem=in_words(refused.problem or _problem("HTTP", status)))
    hint = _BUSY if error is CaUnavailable else _RATE
    if error is RateLimited and moment is not None:
        hint = Text(
            "run `certferry sync` again after {moment}; use a staging directory for test "
            "certificates",
            moment=moment,
        )
    return error(message, hint=hint, retry=retry)


def _not_reached(failure: requests.RequestException) -> CaUnavailable:
    sentence = Text("the CA could not be reached: {host}: {cause}")
    message = sentence.filled(host=_host_of(failure), cause=_innermost(failure))
    return CaUnavailable(message, hint=for_transport(failure))


def _host_of(failure: BaseException) -> str:
    """Return the host of the failed request, with the port if the address names a port; `—` if the
    host is unknown.
    """
    for cause in _causes(failure):
        request = cause.request if isinstance(cause, requests.RequestException) else None
        if request is not None and request.url:
            return urlsplit(request.url).netloc.rpartition("@")[2]
    return "—"


def _innermost(failure: BaseException) -> Text:
    """Return the message of the innermost cause with a message. The outer exceptions only repeat
    the cause in other words.
    """
    if isinstance(failure, TooSlow | TooLong):
        return verbatim(str(failure))
    if isinstance(failure, UnknownProxy):
        sentence = Text(
            "the environment sets a kind of proxy that certferry does not support: {kind}"
        )
        return sentence.filled(kind=str(failure))
    causes = list(_causes(failure))
    spoken = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    if spoken:
        return system_words(spoken[-1])
    return verbatim(quoted(str(causes[-1]) or type(causes[-1]).__name__))


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """Yield a failure and its causes; an earlier refusal by the CA does not count as a cause."""
    yield failure
    cause = failure.__cause__ or failure.__context__
    while cause is not None and not isinstance(cause, errors.Error):
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first(hints: dict[str, Text], problem: messages.Error) -> Text | None:
    """Return the hint for the kind of the problem, or else for the kind of the first sub-problem
    with a hint; `None` if no kind has a hint.
    """
    kinds = map(kind_of, (problem, *_parts(problem)))
    return next((hints[kind] for kind in kinds if kind in hints), None)


def _joined(sentences: Sequence[Text]) -> Text:
    joined, *others = sentences
    for sentence in others:
        joined = Text("{before}; {next}", before=joined, next=sentence)
    return joined


def _read_problem(response: requests.Response) -> messages.Error | None:
    """Read a problem document; return `None` unless the body is a JSON object. If the library
    cannot read the object, keep only type and detail.
    """
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    problem: messages.Error
    try:
        problem = messages.Error.from_json(document)
    except (JoseError, TypeError, AttributeError, RecursionError):
        problem = _problem(str(document.get("type")), str(document.get("detail")))
    terms = response.links.get("terms-of-service", {}).get("url")
    asks_to_act = kind_of(problem) == "userActionRequired"
    # The library drops the page on which the operator must act (RFC 8555 §7.3.3).
    page = document.get("instance") or (terms if asks_to_act else None)
    if page is not None:
        problem = problem.update(detail=f"{problem.detail or ''} {page}".strip())
    return problem


def _problem(kind: str, detail: str) -> messages.Error:
    problem: messages.Error = messages.Error.from_json({"type": kind, "detail": detail})
    return problem


_CAA = Text(
    "a CAA record of the name, or of a parent, allows only other CAs: add a record for the CA "
    '(for Let\'s Encrypt: 0 issue "letsencrypt.org"), or remove the record'
)
_DNS = Text(
    "the CA could not look the name up: check that the domain is delegated to the name servers "
    "that hold the zone, and that DNSSEC is either correct or off"
)
_REACH = Text(
    "the CA could not reach the name servers: check that they answer from anywhere in the world"
)
_RATE = Text(
    "run `certferry sync` again when the CA allows it; use a staging directory for test "
    "certificates"
)
_BUSY = Text("the problem is temporary: run `certferry sync` again later to continue")
_CONTACT = Text("correct `email` under [acme], or leave it out")
_EAB = Text(
    "the CA requires an external account binding: set `eab_kid` and `eab_hmac_key` under [acme] "
    "to the values on the CA's customer page"
)
_NAME = Text(
    "the CA's policy does not allow the name: check the spelling and that the suffix is public, "
    "or remove the name from `names`"
)
_PROTOCOL = Text("please report the error, with the output of `certferry -v sync`")

_FOR_BOTH = {
    "caa": _CAA,
    "connection": _REACH,
    "dns": _DNS,
    "dnssec": _DNS,
    "rateLimited": _RATE,
    "rejectedIdentifier": _NAME,
    "serverInternal": _BUSY,
}

FOR_PROOFS: dict[str, Text] = {
    **_FOR_BOTH,
    "incorrectResponse": Text(
        "the CA saw another TXT value: check for a CNAME at the challenge name, and for a name "
        "server with an outdated zone"
    ),
    "tls": _REACH,
    "unauthorized": Text(
        "the CA did not see the TXT value: check that the account in `dns` holds the zone to "
        "which the domain is delegated, and that all name servers of the zone show the value"
    ),
    "unknownHost": _DNS,
}
"""Hints by kind, for problems while validating a name."""

FOR_REQUESTS: dict[str, Text] = {
    **_FOR_BOTH,
    **dict.fromkeys(("badPublicKey", "badSignatureAlgorithm", "malformed"), _PROTOCOL),
    **dict.fromkeys(("invalidContact", "invalidEmail", "unsupportedContact"), _CONTACT),
    "accountDoesNotExist": Text("run `certferry sync` again: a new account is then registered"),
    "alreadyReplaced": Text(
        "the certificate already has a successor at the CA: run `certferry sync` again to order "
        "a new certificate"
    ),
    "badCSR": Text(
        "the CA does not accept the key or the combination of names: try another `key_type`, or "
        "fewer names"
    ),
    "badNonce": _BUSY,
    "externalAccountRequired": _EAB,
    "invalidProfile": Text(
        "set `profile` under [acme] to a profile from the CA's directory, or remove `profile`"
    ),
    "orderNotReady": _BUSY,
    "unauthorized": Text(
        "the CA does not allow the account to do this: check the account's state at the CA, and "
        "with an external account binding also `eab_kid` and `eab_hmac_key`"
    ),
    "unsupportedIdentifier": Text(
        "the CA issues only for host names, or not for wildcards: remove the name from `names`"
    ),
    "userActionRequired": Text(
        "open the page that the CA names and follow it (usually: accept new terms), then run "
        "`certferry sync` again"
    ),
}
"""Hints by kind, for problems with an order, a request or the account."""


def for_transport(failure: requests.RequestException) -> Text:
    """Return the hint for a request without an answer."""
    if is_untrusted(failure):
        return Text(
            "the TLS certificate of the CA's directory is not trusted: for a private CA set "
            "`ca_bundle` under [acme]; otherwise a gateway may be intercepting the connection"
        )
    if isinstance(failure, UnknownProxy):
        return Text(
            "certferry does not support SOCKS proxies: set HTTPS_PROXY to the proxy's"
            " http:// address, or add the CA's host to NO_PROXY"
        )
    if isinstance(failure, requests.exceptions.ProxyError):
        return Text(
            "check the proxy in `proxy` under [acme], or in HTTPS_PROXY (hosts in NO_PROXY "
            "bypass the proxy)"
        )
    if isinstance(failure, ValueError):
        return Text("`directory` under [acme] must be an https address")
    return Text(
        "check the network and `directory` under [acme]; the next `certferry sync` continues "
        "from here"
    )
