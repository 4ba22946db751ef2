"""Qiniu's refusals and broken answers: kind of error, message, and retries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from certferry.adapters.qiniu.errors import CODES, MEANINGS, QiniuFailure
from certferry.adapters.qiniu.qiniu_client import QiniuClient
from certferry.adapters.qiniu.records import HttpsConf, UploadBody
from certferry.errors import (
    CopyGone,
    DeployError,
    Retry,
    TargetAccessDenied,
    TargetBusy,
    TargetInUse,
    TargetRejected,
    TargetUnavailable,
)
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.account import (
    REQUEST_ID,
    SHORT,
    WWW,
    QiniuAccount,
    bundle,
    open_account,
    refusal,
)
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY, START

CONF = HttpsConf("694d196ee691b4be3e838346", force_https=False, http2_enable=False)


@pytest.fixture
def account() -> Iterator[QiniuAccount]:
    with open_account() as opened:
        opened.service.add_domain(WWW)
        yield opened


def _failure(call: Callable[[], object]) -> QiniuFailure:
    with pytest.raises(QiniuFailure) as caught:
        call()
    shown = (
        f"{caught.value!r} {caught.value.error!r} {caught.value.error} {caught.value.error.hint}"
    )
    for secret in (ACCESS_KEY, SECRET_KEY, "PRIVATE KEY"):
        assert secret not in shown
    return caught.value


def _status_of(code: int) -> int:
    return code // 1000 if code > 999 else code


# The facts about each relevant code: docs/facts/qiniu.md §4.5, §5.4, §5.6, §5.7, §9.
KINDS: dict[type[DeployError], list[int]] = {
    TargetBusy: [400013, 400030],
    TargetInUse: [400611, 400911],
    CopyGone: [400401],
    TargetAccessDenied: [401000],
    TargetUnavailable: [500000, 500215, 500219],
    TargetRejected: [
        *(405, 612, 400000, 400001, 400020, 400021, 400031, 400045, 400062, 400129, 400302),
        *(400309, 400317, 400319, 400402),
        *(400320, 400321, 400322, 400323, 400324, 400325, 400326, 400327, 400328, 400329, 400338),
        *(400348, 400397, 400400, 400407, 400500, 400514, 400515, 400722, 400910, 400932),
        *(403023, 404001, 404904, 404905, 404906, 404907, 404908, 404910, 404923, 500233, 500923),
    ],
}


@pytest.mark.parametrize(
    ("kind", "code"), [(kind, code) for kind, codes in KINDS.items() for code in codes]
)
def test_code_of_the_page_of_facts(
    kind: type[DeployError], code: int, account: QiniuAccount, client: QiniuClient
) -> None:
    """The error has the right kind, the code, the server's message and X-Reqid; the call is sent
    once.
    """
    account.service.api.faults.add(refusal(_status_of(code), code, "正在处理"), on="PUT *")

    failure = _failure(lambda: client.httpsconf(WWW, CONF))

    error = failure.error
    assert kind is type(error)
    assert code == failure.code
    assert f"{code} 正在处理" in str(error)
    assert f"X-Reqid {REQUEST_ID}" in str(error.hint)
    assert 1 == account.count("PUT *")
    assert (kind is TargetUnavailable) is failure.maybe_done


def test_every_code_with_a_meaning_is_tested() -> None:
    """An untested line of the table could have any meaning."""
    assert set() == set(MEANINGS) - {code for codes in KINDS.values() for code in codes}


@pytest.mark.parametrize("code", sorted(MEANINGS))
def test_meaning_has_advice(code: int, account: QiniuAccount, client: QiniuClient) -> None:
    """The message has plain words; the hint has advice before the X-Reqid."""
    account.service.api.faults.add(refusal(_status_of(code), code), on="PUT *")

    error = _failure(lambda: client.httpsconf(WWW, CONF)).error

    assert MEANINGS[code].words in str(error)
    assert str(error.hint).startswith(str(CODES[str(code)].advice))


def test_advice_for_a_certificate_of_another_client() -> None:
    """The client of the certificate is unknown here, and `--renew` alone does not help with another
    client.
    """
    advice = {code: meaning.advice for code, meaning in MEANINGS.items()}
    ours = {code for code, text in advice.items() if re.search(r"--renew|\[acme\]", text)}

    pair = {400324, 400328}
    assert pair | {400045, 400319, 400322, 400327, 400329, 400348, 400514, 500233} == ours
    assert [] == [code for code in ours if "the certificate's client" not in advice[code]]


@pytest.mark.parametrize(
    ("kind", "retry"),
    [
        (TargetBusy, Retry.LATER),
        (TargetInUse, Retry.LATER),
        (TargetUnavailable, Retry.LATER),
        (TargetAccessDenied, Retry.NEVER),
        (TargetRejected, Retry.NEVER),
        (CopyGone, Retry.NEVER),
    ],
)
def test_retry_of_each_kind(
    kind: type[DeployError], retry: Retry, account: QiniuAccount, client: QiniuClient
) -> None:
    """A busy or unavailable target and a used copy allow a retry; refused keys and certificates do
    not.
    """
    code = KINDS[kind][0]
    account.service.api.faults.add(refusal(_status_of(code), code), on="PUT *")

    assert retry == _failure(lambda: client.httpsconf(WWW, CONF)).error.retry


@pytest.mark.parametrize(
    "body", [{}, {"code": 200}, {"code": 0}, {"code": 200, "error": "success"}]
)
def test_successful_answers(
    body: dict[str, object], account: QiniuAccount, client: QiniuClient
) -> None:
    """A 2xx status succeeds with a code of 0, 200 or none, whatever the message."""
    account.service.api.faults.add(Fault.status(200, json.dumps(body).encode()), on="PUT *")

    client.httpsconf(WWW, CONF)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"ok"])
def test_success_with_an_unexpected_body(
    body: bytes, account: QiniuAccount, client: QiniuClient
) -> None:
    """A write with status 200 succeeds with any body."""
    account.service.api.faults.add(Fault.status(200, body), on="PUT *")

    client.httpsconf(WWW, CONF)


def test_success_status_with_an_error_code(account: QiniuAccount, client: QiniuClient) -> None:
    """Status 200 with code 400030 is a failure."""
    account.service.api.faults.add(refusal(200, 400030), on="PUT *")

    assert TargetBusy is type(_failure(lambda: client.httpsconf(WWW, CONF)).error)


def test_code_without_a_number(account: QiniuAccount, client: QiniuClient) -> None:
    """The error reports the status instead of the unusable code."""
    body = b'{"code":"E1","error":{"message":"x"}}'
    account.service.api.faults.add(Fault.status(400, body), on="PUT *")

    failure = _failure(lambda: client.httpsconf(WWW, CONF))

    assert "Qiniu refused the change of www.example.com (400)" == str(failure.error)
    assert (400, None) == (failure.code, failure.error.hint)


@pytest.mark.parametrize("keys", [("wrong", SECRET_KEY), (ACCESS_KEY, "wrong")])
def test_wrong_keys(keys: tuple[str, str], account: QiniuAccount) -> None:
    """The error names the tried hosts and ways, and the hint explains how to check the keys."""
    client = account.client(access_key=keys[0], secret=keys[1])

    failure = _failure(client.list_certificates)

    service = account.service
    fusion, api = (url.removeprefix("http://") for url in (service.fusion_url, service.api_url))
    assert (
        "Qiniu does not accept access_key and secret_key"
        f" (401 bad token; tried: {fusion} (QBox), {api} (QBox), {api} (Qiniu))"
    ) == str(failure.error)
    assert TargetAccessDenied is type(failure.error)
    assert "密钥管理" in str(failure.error.hint)
    assert "X-Reqid" in str(failure.error.hint)
    assert "wrong" not in f"{failure.error} {failure.error.hint}"
    assert 3 == account.count("*")


@pytest.mark.parametrize("code", [401001, 401002])
def test_signature_refused_with_a_code(
    code: int, account: QiniuAccount, client: QiniuClient
) -> None:
    """The code adds nothing to status 401: the other scheme is tried, and the first answer is
    reported.
    """
    account.service.api.faults.add(refusal(401, code, "no"), on="PUT *", times=2)

    error = _failure(lambda: client.httpsconf(WWW, CONF)).error

    assert TargetAccessDenied is type(error)
    assert f"{code} no; tried" in str(error)
    assert 2 == account.count("PUT *")


def test_keys_of_a_sub_account(account: QiniuAccount) -> None:
    """The hint for a key that begins with IAM- names missing permissions."""
    account.service.add_iam_key("IAM-test", SECRET_KEY, owner=ACCESS_KEY)
    account.service.api.faults.add(refusal(403, None, "access denied"))
    client = account.client(access_key="IAM-test")

    failure = _failure(client.list_domains)

    assert "sub-account" in str(failure.error.hint)
    assert TargetAccessDenied is type(failure.error)
    assert 1 == account.count("*")


@pytest.mark.parametrize(
    "fault",
    [Fault.too_many(), refusal(403, 403024), refusal(429, 403024), refusal(400, 400039)],
    ids=["429", "403024", "429 403024", "400039"],
)
def test_too_many_requests(fault: Fault, account: QiniuAccount, client: QiniuClient) -> None:
    """The call is repeated a few times, even a write, then left to a later run."""
    account.service.api.faults.add(fault, on="PUT *", times=None)

    failure = _failure(lambda: client.httpsconf(WWW, CONF))

    assert TargetUnavailable is type(failure.error)
    assert "is limiting requests" in str(failure.error)
    assert Retry.LATER == failure.error.retry
    assert not failure.maybe_done
    assert 4 == account.count("PUT *")


def test_long_rate_limit(account: QiniuAccount, client: QiniuClient) -> None:
    """A long Retry-After becomes the moment of the retry."""
    account.service.api.faults.add(Fault.too_many(3600))

    failure = _failure(client.list_domains)

    assert Retry.at(START + timedelta(hours=1)) == failure.error.retry
    assert 1 == account.count("*")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.reset_before(), "closed the connection without an answer"),
        (Fault.reset_after(), "closed the connection without an answer"),
        (Fault.truncated(), "ended early"),
        (Fault.html(502), "answered with a web page (status 502)"),
        (
            refusal(503, None, "busy"),
            "Qiniu returned a server error for the list of domains (503 busy)",
        ),
        (Fault.status(200, b"{"), "certferry cannot read"),
        (Fault.status(200, b"\xff"), "certferry cannot read"),
        (Fault.status(200, b"[" * 100_000), "certferry cannot read"),
        (Fault.status(200, b'{"domains":{"name":7}}'), "got `object` - at `$.domains`"),
    ],
)
def test_broken_answer(
    fault: Fault, words: str, account: QiniuAccount, client: QiniuClient
) -> None:
    """Each kind of broken answer gives a single sentence and allows a retry."""
    account.service.api.faults.add(fault, times=None)

    failure = _failure(client.list_domains)

    assert TargetUnavailable is type(failure.error)
    assert words in str(failure.error)
    assert failure.error.hint


def test_missing_answer(account: QiniuAccount) -> None:
    """A read is repeated after its time-out; a write may still take effect, and is not repeated."""
    account.timeouts = SHORT
    account.service.api.faults.add(Fault.delay(10), on="PUT *")
    account.service.api.faults.add(Fault.delay(10), on="GET *")

    account.client().list_domains()
    failure = _failure(lambda: account.client().httpsconf(WWW, CONF))

    assert "did not answer within" in str(failure.error)
    assert failure.maybe_done
    assert (2, 1) == (account.count("GET *"), account.count("PUT *"))


@pytest.mark.parametrize(
    ("fault", "maybe_done"),
    [
        (Fault.reset_before(), True),
        (Fault.reset_after(), True),
        (Fault.truncated(), True),
        (Fault.html(504), True),
        (refusal(500, 500000), True),
        (Fault.status(200, b"{}"), True),
        (Fault.status(200, b'{"certID":""}'), True),
        (Fault.status(200, b'{"certID":"' + b"M" * 80 + b'"}'), True),
        (Fault.html(403), False),
        (refusal(302, None, "moved"), False),
    ],
)
def test_doubt_about_a_write(
    fault: Fault, maybe_done: object, account: QiniuAccount, client: QiniuClient
) -> None:
    """An upload without a readable answer may have taken effect, and is sent once."""
    made = bundle(WWW)
    upload = UploadBody("certferry-x", WWW, made.fullchain_pem, made.privkey_pem.reveal())
    account.service.fusion.faults.add(fault, on="POST *", times=None)

    failure = _failure(lambda: client.upload_certificate(upload))

    assert maybe_done is failure.maybe_done
    assert 1 == account.count("POST *")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("no " * 500, "no " * 333 + "…"),
        ("two\nlines", "two lines"),
        ("bad input: -----BEGIN PRIVATE KEY-----\nabc", "bad input: •••"),
    ],
)
def test_quoted_message_of_the_server(
    words: str, shown: str, account: QiniuAccount, client: QiniuClient
) -> None:
    """The quotation is a single line of limited length, without private keys."""
    account.service.api.faults.add(refusal(400, 400000, words), on="PUT *")

    failure = _failure(lambda: client.httpsconf(WWW, CONF))

    assert str(failure.error).endswith(f"(400000 {shown})")
