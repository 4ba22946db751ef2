"""Problem documents and library exceptions, translated into certferry's errors."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import josepy.errors
import pytest
import requests
from acme import errors, messages
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.acme import problems as advice
from certferry.adapters.acme.problems import Refused, as_error, moment_of, translating_errors
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    IssuanceError,
    OrderFailed,
    RateLimited,
    Retry,
)
from tests.adapters.acme.proxy import ERROR

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def subclasses(base: type[Exception]) -> Iterator[type[Exception]]:
    yield base
    for child in base.__subclasses__():
        yield from subclasses(child)


FOREIGN = sorted(
    {
        *subclasses(errors.Error),
        *subclasses(josepy.errors.Error),
        *subclasses(requests.RequestException),
    }
    - {Refused},
    key=lambda cls: (cls.__module__, cls.__qualname__),
)


def answer(status: int, body: bytes = b"") -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.request = requests.Request("POST", "https://ca.example").prepare()
    response.raw = io.BytesIO(body)
    return response


PROBLEM = messages.Error.from_json({"type": f"{ERROR}caa", "detail": "no"})

# Exceptions whose constructors need more than a message.
MADE: dict[type[Exception], Callable[[], Exception]] = {
    errors.ARIError: lambda: errors.ARIError("later", NOW),
    errors.BadNonce: lambda: errors.BadNonce("nonce", ValueError("odd")),
    errors.ConflictError: lambda: errors.ConflictError("https://ca.example/1"),
    errors.IssuanceError: lambda: errors.IssuanceError(PROBLEM),
    errors.MissingNonce: lambda: errors.MissingNonce(answer(200)),
    errors.PollError: lambda: errors.PollError(set(), {}),
    errors.ValidationError: lambda: errors.ValidationError([]),
    josepy.errors.UnrecognizedTypeError: lambda: josepy.errors.UnrecognizedTypeError("x", {}),
    messages.Error: lambda: PROBLEM,
    requests.JSONDecodeError: lambda: requests.JSONDecodeError("odd", "{", 0),
}


def exception_of(cls: type[Exception]) -> Exception:
    return MADE.get(cls, lambda: cls("something foreign"))()


def refused(kind: str, detail: str = "what the CA says", **more: object) -> Refused:
    document = {"type": f"{ERROR}{kind}", "detail": detail, **more}
    return Refused.from_response(answer(403, json.dumps(document).encode()))


@pytest.mark.parametrize("cls", FOREIGN, ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_exception_of_a_library_becomes_ours(cls: type[Exception]) -> None:
    """Every exception class of acme, josepy and requests has a translation."""
    with pytest.raises(IssuanceError), translating_errors(lambda: NOW):
        raise exception_of(cls)


def test_all_exceptions_of_the_library_are_translated() -> None:
    """The classes above include every exception that acme defines."""
    defined = {
        cls
        for module in (errors, messages)
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Exception)
    }

    assert defined <= {*FOREIGN, josepy.errors.DeserializationError}


def test_certferrys_own_errors_stay_the_same() -> None:
    """An error of certferry's needs no translation."""
    ours = RateLimited("later")
    with pytest.raises(RateLimited) as raised, translating_errors(lambda: NOW):
        raise ours

    assert ours is raised.value


KINDS = {
    "accountDoesNotExist": (OrderFailed, Retry.LATER),
    "alreadyReplaced": (OrderFailed, Retry.LATER),
    "badCSR": (OrderFailed, Retry.NEVER),
    "badNonce": (CaUnavailable, Retry.LATER),
    "badPublicKey": (OrderFailed, Retry.NEVER),
    "badSignatureAlgorithm": (OrderFailed, Retry.NEVER),
    "caa": (AuthorizationFailed, Retry.LATER),
    "connection": (AuthorizationFailed, Retry.LATER),
    "dns": (AuthorizationFailed, Retry.LATER),
    "dnssec": (AuthorizationFailed, Retry.LATER),
    "externalAccountRequired": (OrderFailed, Retry.NEVER),
    "invalidContact": (OrderFailed, Retry.NEVER),
    "invalidEmail": (OrderFailed, Retry.NEVER),
    "invalidProfile": (OrderFailed, Retry.NEVER),
    "malformed": (OrderFailed, Retry.NEVER),
    "orderNotReady": (CaUnavailable, Retry.LATER),
    "rateLimited": (RateLimited, Retry.LATER),
    "rejectedIdentifier": (OrderFailed, Retry.NEVER),
    "serverInternal": (CaUnavailable, Retry.LATER),
    "unauthorized": (OrderFailed, Retry.NEVER),
    "unsupportedContact": (OrderFailed, Retry.NEVER),
    "unsupportedIdentifier": (OrderFailed, Retry.NEVER),
    "userActionRequired": (OrderFailed, Retry.NEVER),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_problem_has_its_error_and_advice(kind: str) -> None:
    """The CA's words are shown in full, and a hint gives the remedy."""
    error = as_error(refused(kind), NOW)

    expected, retry = KINDS[kind]
    assert type(error) is expected
    assert str(error).endswith(f"what the CA says ({kind})")
    assert advice.FOR_REQUESTS[kind] == error.hint
    assert retry == error.retry


def test_rate_limit_has_the_time_of_the_next_run() -> None:
    """The operator has to run again; without a moment from the CA the hint gives no time."""
    document = messages.Error.from_json({"type": f"{ERROR}rateLimited", "detail": "too many"})
    moment = NOW + timedelta(hours=3)

    with_moment = as_error(Refused(429, document, "10800"), NOW)
    without_moment = as_error(Refused(429, document), NOW)

    assert Retry.at(moment) == with_moment.retry
    assert str(with_moment.hint).startswith(
        f"run `certferry sync` again after {moment:%Y-%m-%d %H:%M} UTC; "
    )
    assert str(without_moment.hint).startswith("run `certferry sync` again when the CA allows it; ")


def test_every_advice_is_tested() -> None:
    """The table above has every kind of problem with advice."""
    assert set(KINDS) == set(advice.FOR_REQUESTS)


def test_problem_of_an_unknown_kind_is_shown() -> None:
    """CAs have their own kinds of problems, for which the CA's words are the only advice."""
    error = as_error(refused("tooSpecial"), NOW)

    assert type(error) is OrderFailed
    assert str(error).endswith("what the CA says (tooSpecial)")
    assert error.hint is None


def test_first_part_decides_a_compound_problem() -> None:
    """The first part selects the error, and the message shows all parts."""
    parts = [
        {
            "type": f"{ERROR}rejectedIdentifier",
            "detail": "on a block list",
            "identifier": {"type": "dns", "value": "a.example.com"},
        },
        {"type": f"{ERROR}caa", "detail": "not allowed"},
    ]

    error = as_error(refused("compound", "two problems", subproblems=parts), NOW)

    assert type(error) is OrderFailed
    message = "two problems (compound); a.example.com: on a block list (rejectedIdentifier)"
    assert str(error).endswith(f"{message}; not allowed (caa)")
    assert advice.FOR_REQUESTS["rejectedIdentifier"] == error.hint


def test_problem_of_many_parts() -> None:
    """The message is limited to a readable number of parts, each shortened."""
    parts = [{"type": f"{ERROR}caa", "detail": "no " * 5000} for _ in range(5000)]

    error = as_error(refused("compound", "many problems", subproblems=parts), NOW)

    assert 10_000 < len(str(error)) < 11_000


def test_problem_that_quotes_the_request() -> None:
    """A possible key is hidden in the message, and the stored form omits the CA's words."""
    error = as_error(refused("malformed", "bad payload MIGHAgEAMBMGByqGSM49AgEGCCqGSM49"), NOW)

    assert "the CA refused: bad payload ••• (malformed)" == str(error)
    assert "the CA refused: … (malformed)" == str(error.lasting)


def test_page_for_the_operator_is_shown() -> None:
    """The problem's `instance` is the page to open (RFC 8555 §7.3.3)."""
    page = "https://ca.example/terms/2027"

    error = as_error(refused("userActionRequired", "terms have changed", instance=page), NOW)

    assert f"terms have changed {page} (userActionRequired)" in str(error)


@pytest.mark.parametrize(
    ("kind", "link", "page"),
    [
        (
            "userActionRequired",
            '<https://ca.test/tos>;rel="terms-of-service"',
            " https://ca.test/tos",
        ),
        ("userActionRequired", '<https://ca.test/dir>;rel="index"', ""),
        ("userActionRequired", ";;,<", ""),
        ("malformed", '<https://ca.test/tos>;rel="terms-of-service"', ""),
    ],
    ids=["changed terms", "no terms", "nonsense", "another problem"],
)
def test_changed_terms_are_shown(kind: str, link: str, page: str) -> None:
    """Without a page in the problem, the answer's link to the terms is shown (RFC 8555 §7.3.3)."""
    document = {"type": f"{ERROR}{kind}", "detail": "do it"}
    response = answer(403, json.dumps(document).encode())
    response.headers["Link"] = link

    assert f"do it{page} ({kind})" in str(as_error(Refused.from_response(response), NOW))


def test_problem_with_unknown_parts_keeps_its_words() -> None:
    """A new type of identifier must leave the message readable."""
    error = as_error(refused("caa", "no", identifier={"type": "onion", "value": "x"}), NOW)

    assert type(error) is AuthorizationFailed
    assert str(error).endswith("no (caa)")


def test_problem_without_a_detail_is_reported_with_its_kind() -> None:
    """The message has the kind even without details."""
    problem = messages.Error.from_json({"type": f"{ERROR}tooSpecial"})

    assert str(as_error(problem, NOW)).endswith("no details (tooSpecial)")


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'"no"', b""])
def test_refusal_without_a_problem_document_is_reported_with_its_status(body: bytes) -> None:
    """The answer probably comes from another server in front of the CA."""
    error = as_error(Refused.from_response(answer(418, body)), NOW)

    assert type(error) is CaUnavailable
    assert "418 I'm a Teapot" in str(error)


def test_unknown_status_is_reported() -> None:
    """Unregistered status codes have no reason phrase."""
    assert "(HTTP)" in str(as_error(Refused(599, None), NOW))


def test_context_of_an_exception_is_ignored() -> None:
    """A request after a refusal fails for its own reason."""
    failure = requests.ConnectionError("the line is dead")
    failure.__context__ = Refused(403, None)

    assert str(as_error(failure, NOW)).endswith("the line is dead")


@given(st.text() | st.integers().map(str))
def test_any_retry_after_is_read_or_ignored(header: str) -> None:
    """A malformed header leads to no failure."""
    moment = moment_of(header, NOW)

    assert moment is None or moment.tzinfo is not None


@given(st.integers(0, 10**6))
def test_retry_after_is_seconds_or_a_date(seconds: int) -> None:
    """Both forms give the same moment (RFC 9110 §10.2.3)."""
    moment = NOW + timedelta(seconds=seconds)
    date = moment.strftime("%a, %d %b %Y %H:%M:%S GMT")

    assert moment == moment_of(str(seconds), NOW) == moment_of(date, NOW)
