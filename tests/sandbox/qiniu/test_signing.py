"""Who may call the Qiniu stand-in: signatures, dates, hosts and schemes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import qiniu
import requests
from hypothesis import given
from hypothesis import strategies as st

from certferry_sandbox.httpd import Headers, Request
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.qiniu.signing import Accounts, Scheme, sign, string_to_sign
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY, Client, Clock

FILE = Path(__file__).parents[2] / "data" / "qiniu-sign-vectors.json"
VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text())["vectors"]
PUBLISHED: list[dict[str, Any]] = json.loads(FILE.read_text())["published_vectors_verified"]
VECTORS_DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BAD_TOKEN = {"error": "bad token"}

every_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])


def request_of(vector: dict[str, Any], **changed: Any) -> Request:
    """Build the request that a vector describes, with some fields changed afterwards."""
    path, _, query = vector["path_and_query"].partition("?")
    fields = [("Host", vector["host"]), ("Authorization", vector["authorization"])]
    if vector["content_type"] is not None:
        fields.append(("Content-Type", vector["content_type"]))
    fields += vector["x_qiniu_headers"].items()
    body = (vector["body"] or "").encode()
    request = Request(vector["method"], path, query, Headers(fields), body)
    return replace(request, **changed)


def accounts(vector: dict[str, Any]) -> Accounts:
    """Know the vector's key."""
    known = Accounts()
    known.add(vector["access_key"], vector["secret_key"])
    return known


def with_header(request: Request, name: str, value: str) -> Request:
    """Set a header of a request in place of those with this name."""
    kept = [(n, v) for n, v in request.headers.fields if n.lower() != name.lower()]
    return replace(request, headers=Headers([*kept, (name, value)]))


@every_vector
def test_vector_is_accepted(vector: dict[str, Any]) -> None:
    """Each request signed by the official SDK is understood byte by byte and let in."""
    request = request_of(vector)

    assert vector["string_to_sign"].encode() == string_to_sign(Scheme(vector["scheme"]), request)
    caller = accounts(vector).caller(request, VECTORS_DATE)
    assert (vector["access_key"], vector["scheme"]) == (caller.access_key, caller.scheme)


@pytest.mark.parametrize("vector", PUBLISHED, ids=lambda vector: vector["source"])
def test_published_vector_is_reproduced(vector: dict[str, Any]) -> None:
    """The HMAC and its encoding are those that Qiniu publishes."""
    signature = sign(vector["secret_key"].encode(), vector["string_to_sign"].encode())

    assert vector["token"] == f"{vector['access_key']}:{signature}"


@every_vector
def test_signature_wrong_by_one_letter_is_refused(vector: dict[str, Any]) -> None:
    """No letter of the signature may differ, nor its padding be left out."""
    known, authorization = accounts(vector), vector["authorization"]
    first_letter = authorization.index(":") + 1
    other = "B" if authorization[first_letter] == "A" else "A"
    wrong = [
        authorization[:first_letter] + other + authorization[first_letter + 1 :],
        authorization.rstrip("="),
        authorization + "=",
    ]

    for value in wrong:
        with pytest.raises(Refused, match="bad token"):
            known.caller(with_header(request_of(vector), "Authorization", value), VECTORS_DATE)


@given(vector=st.sampled_from(VECTORS), part=st.sampled_from(["path", "query"]), extra=st.data())
def test_changed_target_is_refused(vector: dict[str, Any], part: str, extra: st.DataObject) -> None:
    """Path and query are covered by both schemes."""
    request = request_of(vector)
    added = extra.draw(st.text(st.sampled_from("/&=a%20"), min_size=1, max_size=3))
    changed = replace(request, **{part: getattr(request, part) + added})

    with pytest.raises(Refused, match="bad token"):
        accounts(vector).caller(changed, VECTORS_DATE)


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v["scheme"] == "Qiniu"], ids=lambda vector: vector["id"]
)
def test_qiniu_scheme_covers_method_host_and_headers(vector: dict[str, Any]) -> None:
    """What the Qiniu scheme signs cannot be changed on the way."""
    request, known = request_of(vector), accounts(vector)
    changed = [
        replace(request, method="PATCH"),
        with_header(request, "Host", "other.example.test"),
        with_header(request, "Content-Type", "text/plain"),
        with_header(request, "X-Qiniu-More", "1"),
    ]
    if vector["content_type"] not in (None, "application/octet-stream"):
        changed.append(replace(request, body=request.body + b" "))

    for other in changed:
        with pytest.raises(Refused, match="bad token"):
            known.caller(other, VECTORS_DATE)


def test_qbox_covers_a_form_and_no_json() -> None:
    """Under QBox a changed JSON body goes unnoticed, a changed form does not."""
    by_id = {vector["id"]: vector for vector in VECTORS}
    json_body, form_body = by_id["upload-cert/qbox"], by_id["rule/qbox-form-body-is-signed"]

    unnoticed = accounts(json_body).caller(request_of(json_body, body=b"{}"), VECTORS_DATE)

    assert "ak" == unnoticed.access_key
    with pytest.raises(Refused, match="bad token"):
        accounts(form_body).caller(request_of(form_body, body=b"a=2&b=2"), VECTORS_DATE)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Qiniu",
        "Qiniu no-colon",
        "qiniu {token}",
        "Bearer {token}",
        "Qiniu  {token}",
        "Qiniu {token} ",
        "QBox {token}",
        "Qiniu nobody:{signature}",
    ],
)
def test_malformed_authorization_is_refused(authorization: str) -> None:
    """One scheme, spelled right, one space, a known key, one token."""
    vector = next(v for v in VECTORS if v["id"] == "get-domain/qiniu-date")
    token = vector["token"]
    value = authorization.format(token=token, signature=token.partition(":")[2])

    with pytest.raises(Refused, match="bad token"):
        accounts(vector).caller(
            with_header(request_of(vector), "Authorization", value), VECTORS_DATE
        )


@pytest.fixture
def strict(clock: Clock) -> Iterator[QiniuService]:
    """Run a stand-in that follows the documents of 2026."""
    with calls.service(clock) as running:
        yield running


@pytest.fixture
def lenient(clock: Clock) -> Iterator[QiniuService]:
    """Run a stand-in that follows what has been seen to work."""
    with calls.service(clock, strict=False) as running:
        yield running


@pytest.mark.parametrize("seconds", [0, 900, -900])
def test_date_within_the_window_is_accepted(
    strict: QiniuService, clock: Clock, seconds: float
) -> None:
    """Fifteen minutes either way are allowed."""
    date = clock.now + timedelta(seconds=seconds)
    answer = Client(strict).qiniu("GET", strict.api_url + "/domain", date=date)

    assert 200 == answer.status_code


@pytest.mark.parametrize("seconds", [901, -901, 86400])
def test_date_outside_the_window_is_403(strict: QiniuService, clock: Clock, seconds: float) -> None:
    """A well signed request with a wrong clock is not a bad token but forbidden."""
    date = clock.now + timedelta(seconds=seconds)
    answer = Client(strict).qiniu("GET", strict.api_url + "/domain", date=date)

    assert (403, {"error": "request time is too skewed"}) == (answer.status_code, answer.json())


def test_date_that_is_none_is_403(strict: QiniuService) -> None:
    """A signed X-Qiniu-Date has to be a date."""
    url, host = strict.api_url + "/domain", urlsplit(strict.api_url).netloc
    token = qiniu.QiniuMacAuth(ACCESS_KEY, SECRET_KEY).token_of_request(
        "GET", host, url, "X-Qiniu-Date: today"
    )
    answer = calls.send(
        "GET", url, headers={"Authorization": f"Qiniu {token}", "X-Qiniu-Date": "today"}
    )

    assert 403 == answer.status_code


def test_date_may_be_left_out(strict: QiniuService) -> None:
    """The date is optional."""
    assert 200 == Client(strict).domains().status_code


def test_lower_case_header_is_the_same_header(strict: QiniuService, clock: Clock) -> None:
    """Qiniu's server sees canonical names, so a lower-case date counts, and must be signed."""
    url, host = strict.api_url + "/domain", urlsplit(strict.api_url).netloc
    date = clock.now.strftime("%Y%m%dT%H%M%SZ")
    mac = qiniu.QiniuMacAuth(ACCESS_KEY, SECRET_KEY)
    signed = mac.token_of_request("GET", host, url, f"X-Qiniu-Date: {date}")
    unsigned = mac.token_of_request("GET", host, url, "")

    statuses = [
        calls.send(
            "GET", url, headers={"Authorization": f"Qiniu {token}", "x-qiniu-date": date}
        ).status_code
        for token in (signed, unsigned)
    ]
    assert [200, 401] == statuses


def test_wrong_secret_is_401_with_a_request_id(strict: QiniuService) -> None:
    """A bad token is answered for in Qiniu's words, and each answer has its X-Reqid."""
    answers = [Client(strict, secret_key="wrong").domains() for _ in range(2)]

    assert [(401, BAD_TOKEN)] * 2 == [(a.status_code, a.json()) for a in answers]
    assert 2 == len({answer.headers["X-Reqid"] for answer in answers})


def test_bad_token_of_kodo_is_named(strict: QiniuService) -> None:
    """The uc host adds an error_code."""
    answer = Client(strict, access_key="nobody").qiniu("GET", strict.uc_url + "/buckets")

    assert BAD_TOKEN | {"error_code": "BadToken"} == answer.json()


def test_body_changed_after_signing_is_refused(strict: QiniuService) -> None:
    """The bytes sent must be the bytes signed."""
    url = strict.api_url + "/domain/www.example.com/httpsconf"
    token = qiniu.QiniuMacAuth(ACCESS_KEY, SECRET_KEY).token_of_request(
        "PUT", urlsplit(url).netloc, url, "", calls.JSON, '{"certId":"a"}'
    )
    answer = calls.send(
        "PUT",
        url,
        b'{"certId": "a"}',
        {"Authorization": f"Qiniu {token}", "Content-Type": calls.JSON},
    )

    assert 401 == answer.status_code


def test_signature_for_another_host_is_refused(strict: QiniuService) -> None:
    """The Host line is the wire's, with its port."""
    url = strict.api_url + "/domain"
    token = qiniu.QiniuMacAuth(ACCESS_KEY, SECRET_KEY).token_of_request(
        "GET", "api.qiniu.com", url, ""
    )

    assert 401 == calls.send("GET", url, headers={"Authorization": f"Qiniu {token}"}).status_code


@pytest.mark.parametrize(
    ("host", "path", "scheme", "strict_status", "lenient_status"),
    [
        ("fusion", "/sslcert", "qbox", 200, 200),
        ("fusion", "/sslcert", "qiniu", 401, 401),
        ("api", "/sslcert", "qbox", 404, 200),
        ("api", "/sslcert", "qiniu", 404, 200),
        ("api", "/domain", "qiniu", 200, 200),
        ("api", "/domain", "qbox", 401, 200),
        ("fusion", "/domain", "qbox", 404, 404),
        ("fusion", "/domain", "qiniu", 404, 404),
        ("api", "/cert/bindings", "qiniu", 404, 200),
        ("api", "/cert/bindings", "qbox", 404, 200),
        ("uc", "/cert/bindings", "qiniu", 200, 200),
        ("uc", "/cert/bindings", "qbox", 401, 401),
        ("uc", "/buckets", "qiniu", 200, 200),
        ("uc", "/buckets", "qbox", 401, 200),
        ("api", "/buckets", "qiniu", 404, 404),
        ("api", "/domain/www.example.com/nonsense", "qiniu", 404, 404),
    ],
)
def test_host_and_scheme(
    strict: QiniuService,
    lenient: QiniuService,
    host: str,
    path: str,
    scheme: str,
    strict_status: int,
    lenient_status: int,
) -> None:
    """The wrong host is 404, the wrong scheme 401; lenient, api takes both schemes for all."""

    def status(service: QiniuService) -> int:
        url = getattr(service, f"{host}_url") + path
        answer: requests.Response = getattr(Client(service), scheme)("GET", url)
        return answer.status_code

    assert (strict_status, lenient_status) == (status(strict), status(lenient))


def test_unsigned_probe_learns_nothing(strict: QiniuService) -> None:
    """A path that does not exist is 401 to a stranger and 404 only to a caller."""
    url = strict.api_url + "/nonsense"

    assert 401 == calls.send("GET", url).status_code
    assert 404 == Client(strict).qiniu("GET", url).status_code
