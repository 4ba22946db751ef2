"""Access to the Qiniu stand-in: signatures, dates, hosts and schemes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import qiniu
import requests
from hypothesis import given
from hypothesis import strategies as st
from qiniu.http import qn_http_client
from qiniu.services.cdn.manager import DomainManager

from certferry.values import replace
from certferry_sandbox.httpd import Headers, Request
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.qiniu.signing import Accounts, Scheme, string_to_sign
from tests.house.tree import ROOT
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY, Client, Clock

FILE = Path(__file__).parents[2] / "data" / "qiniu-sign-vectors.json"
VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text())["vectors"]
PUBLISHED: list[dict[str, Any]] = json.loads(FILE.read_text())["published_vectors_verified"]
VECTORS_DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BAD_TOKEN = {"error": "bad token"}

every_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])


def request_of(vector: dict[str, Any], **changed: Any) -> Request:
    """Return the request of a vector, with some fields changed afterwards."""
    path, _, query = vector["path_and_query"].partition("?")
    fields = [("Host", vector["host"]), ("Authorization", vector["authorization"])]
    if vector["content_type"] is not None:
        fields.append(("Content-Type", vector["content_type"]))
    fields += vector["x_qiniu_headers"].items()
    body = (vector["body"] or "").encode()
    request = Request(vector["method"], path, query, Headers(fields), body)
    return replace(request, **changed)


def accounts(vector: dict[str, Any]) -> Accounts:
    accounts_of_vector = Accounts()
    accounts_of_vector.add(vector["access_key"], vector["secret_key"])
    return accounts_of_vector


def with_header(request: Request, name: str, value: str) -> Request:
    other_fields = [(n, v) for n, v in request.headers.fields if n.lower() != name.lower()]
    return replace(request, headers=Headers([*other_fields, (name, value)]))


def must_be_refused(vector: dict[str, Any], *changed: Request) -> None:
    """Raise `AssertionError` if any of these requests passes for the vector's."""
    for request in changed:
        with pytest.raises(Refused, match="bad token"):
            accounts(vector).caller(request, VECTORS_DATE)


@every_vector
def test_vector_is_accepted(vector: dict[str, Any]) -> None:
    """Each request of the official SDK has the same bytes to sign, and is accepted."""
    request = request_of(vector)

    assert vector["string_to_sign"].encode() == string_to_sign(Scheme(vector["scheme"]), request)
    caller = accounts(vector).caller(request, VECTORS_DATE)
    assert (vector["access_key"], vector["scheme"]) == (caller.access_key, caller.scheme)


@every_vector
def test_signature_with_a_wrong_letter(vector: dict[str, Any]) -> None:
    """Every letter of the signature counts, its padding included."""
    authorization = vector["authorization"]
    first_letter = authorization.index(":") + 1
    other = "B" if authorization[first_letter] == "A" else "A"
    wrong = [
        authorization[:first_letter] + other + authorization[first_letter + 1 :],
        authorization.rstrip("="),
        authorization + "=",
    ]

    must_be_refused(vector, *(with_header(request_of(vector), "Authorization", w) for w in wrong))


@given(vector=st.sampled_from(VECTORS), part=st.sampled_from(["path", "query"]), extra=st.data())
def test_changed_target(vector: dict[str, Any], part: str, extra: st.DataObject) -> None:
    """Path and query are covered by both schemes."""
    request = request_of(vector)
    added = extra.draw(st.text(st.sampled_from("/&=a%20"), min_size=1, max_size=3))

    must_be_refused(vector, replace(request, **{part: getattr(request, part) + added}))


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v["scheme"] == "Qiniu"], ids=lambda vector: vector["id"]
)
def test_qiniu_scheme_covers_method_host_and_headers(vector: dict[str, Any]) -> None:
    """A change on the way invalidates the signature."""
    request = request_of(vector)
    changed = [
        replace(request, method="PATCH"),
        with_header(request, "Host", "other.example.test"),
        with_header(request, "Content-Type", "text/plain"),
        with_header(request, "X-Qiniu-More", "1"),
    ]
    if vector["content_type"] not in (None, "application/octet-stream"):
        changed.append(replace(request, body=request.body + b" "))

    must_be_refused(vector, *changed)


def test_qbox_covers_a_form_and_no_json() -> None:
    """Under QBox a changed JSON body goes unnoticed, a changed form does not."""
    by_id = {vector["id"]: vector for vector in VECTORS}
    json_body, form_body = by_id["upload-cert/qbox"], by_id["rule/qbox-form-body-is-signed"]

    unnoticed = accounts(json_body).caller(request_of(json_body, body=b"{}"), VECTORS_DATE)

    assert "ak" == unnoticed.access_key
    must_be_refused(form_body, request_of(form_body, body=b"a=2&b=2"))


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
def test_malformed_authorization(authorization: str) -> None:
    """The header has a scheme in its exact spelling, a space, and a token with a known key."""
    vector = next(v for v in VECTORS if v["id"] == "get-domain/qiniu-date")
    token = vector["token"]
    value = authorization.format(token=token, signature=token.partition(":")[2])

    must_be_refused(vector, with_header(request_of(vector), "Authorization", value))


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(0, 200), (900, 200), (-900, 200), (901, 403), (-901, 403), (86400, 403), (None, 200)],
)
def test_date_of_a_request(
    client: Client, stand_in: QiniuService, clock: Clock, seconds: float | None, status: int
) -> None:
    """Fifteen minutes either way are allowed, and so is a missing date; an older date has another
    error than a bad token.
    """
    date = None if seconds is None else clock.now + timedelta(seconds=seconds)
    answer = client.qiniu("GET", stand_in.api_url + "/domain", date=date)

    assert status == answer.status_code
    if status == 403:
        assert {"error": "request time is too skewed"} == answer.json()


@pytest.mark.parametrize(
    ("header", "signed_date", "sent_date", "status"),
    [
        ("X-Qiniu-Date", "today", "today", 403),
        ("x-qiniu-date", "%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%SZ", 200),
        ("x-qiniu-date", "", "%Y%m%dT%H%M%SZ", 401),
    ],
    ids=["no date", "signed in any case", "unsigned in any case"],
)
def test_date_header(
    stand_in: QiniuService, clock: Clock, header: str, signed_date: str, sent_date: str, status: int
) -> None:
    """The value must be a date, and must be signed, since Qiniu's server sees canonical names."""
    url, host = stand_in.api_url + "/domain", urlsplit(stand_in.api_url).netloc
    signed = signed_date and f"X-Qiniu-Date: {clock.now.strftime(signed_date)}"
    token = qiniu.QiniuMacAuth(ACCESS_KEY, SECRET_KEY).token_of_request("GET", host, url, signed)
    headers = {"Authorization": f"Qiniu {token}", header: clock.now.strftime(sent_date)}

    assert status == calls.send("GET", url, headers=headers).status_code


def test_bad_token_in_qinius_words(client: Client, stand_in: QiniuService) -> None:
    """The uc host adds an error_code, and each answer has its X-Reqid. A missing path gives the
    same answer, so a stranger learns no paths.
    """
    wrong = Client(stand_in, secret_key="wrong")
    answers = [wrong.domains() for _ in range(2)]
    nonsense = stand_in.api_url + "/nonsense"

    assert [(401, BAD_TOKEN)] * 2 == [(a.status_code, a.json()) for a in answers]
    assert 2 == len({answer.headers["X-Reqid"] for answer in answers})
    named = wrong.qiniu("GET", stand_in.uc_url + "/buckets").json()
    assert BAD_TOKEN | {"error_code": "BadToken"} == named
    assert 401 == calls.send("GET", nonsense).status_code
    assert 404 == client.qiniu("GET", nonsense).status_code


@pytest.mark.parametrize(
    ("signed_host", "signed_body"), [(None, '{"certId":"a"}'), ("api.qiniu.com", '{"certId": "a"}')]
)
def test_sent_request_must_equal_the_signed_request(
    stand_in: QiniuService, signed_host: str | None, signed_body: str
) -> None:
    """The bytes of the body and the Host with its port are compared."""
    url = stand_in.api_url + "/domain/www.example.com/httpsconf"
    token = qiniu.QiniuMacAuth(ACCESS_KEY, SECRET_KEY).token_of_request(
        "PUT", signed_host or urlsplit(url).netloc, url, "", calls.JSON, signed_body
    )
    headers = {"Authorization": f"Qiniu {token}", "Content-Type": calls.JSON}

    assert 401 == calls.send("PUT", url, b'{"certId": "a"}', headers).status_code


@pytest.fixture
def lenient(clock: Clock) -> Iterator[QiniuService]:
    with calls.service(clock, strict=False) as running:
        yield running


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
        ("uc", "/v2/hubs", "qiniu", 404, 404),
        ("pili", "/v2/hubs", "qiniu", 200, 200),
        ("pili", "/v2/hubs", "qbox", 401, 401),
        ("pili", "/buckets", "qiniu", 404, 404),
        ("api", "/buckets", "qiniu", 404, 404),
        ("api", "/domain/www.example.com/nonsense", "qiniu", 404, 404),
    ],
)
def test_host_and_scheme(
    stand_in: QiniuService,
    lenient: QiniuService,
    host: str,
    path: str,
    scheme: str,
    strict_status: int,
    lenient_status: int,
) -> None:
    """The wrong host gives 404, the wrong scheme 401; a lenient api host takes both schemes for
    all.
    """

    def status(service: QiniuService) -> int:
        url = getattr(service, f"{host}_url") + path
        answer: requests.Response = getattr(Client(service), scheme)("GET", url)
        return answer.status_code

    assert (strict_status, lenient_status) == (status(stand_in), status(lenient))


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # the SDK's
@pytest.mark.parametrize("strict", [True, False])
def test_official_sdk_does_the_whole_job(*, strict: bool) -> None:
    """Its DomainManager uploads, binds and reads at api.qiniu.com as in the past. By the documents
    of 2026 the SDK uploads to fusion, and reads at api with its own signature and date.
    """
    www = "www.example.com"
    with calls.service(strict=strict, processing_time=timedelta(0)) as stand_in:
        stand_in.add_domain(www, https=calls.seed(stand_in, [www]))
        manager = DomainManager(qiniu.Auth(ACCESS_KEY, SECRET_KEY))
        manager.server = stand_in.fusion_url if strict else stand_in.api_url
        issued = calls.issue(www, start=datetime.now(UTC) - timedelta(days=1))
        uploaded, _ = manager.create_sslcert("sdk", www, issued.privkey_pem, issued.fullchain_pem)
        assert uploaded["certID"] in [stored.id for stored in stand_in.certificates.stored()]
        if strict:
            mac = qiniu.auth.QiniuMacRequestsAuth(qiniu.QiniuMacAuth(ACCESS_KEY, SECRET_KEY))
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            url = f"{stand_in.api_url}/domain/{www}"
            domain, _ = qn_http_client.get(url, auth=mac, headers=kind)
            assert "X-Qiniu-Date" in stand_in.requests(f"GET /domain/{www}")[0].headers
        else:
            manager.put_httpsconf(www, uploaded["certID"], forceHttps=True)
            domain, _ = manager.get_domain(www)
            assert uploaded["certID"] == domain["https"]["certId"]
        assert www == domain["name"]
    qn_http_client.session.close()


# --- Commands of the help, signed with curl and openssl alone

HELP = ROOT / "docs" / "help"
FUNCTION = re.compile(r"^\$ (ask\(\) \{\n.*?\n  \})$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ |\| `)(ask \S+ [^`\n]+)", re.MULTILINE)


def answer_to(command: str, stand_in: QiniuService) -> str:
    """Run a command of the help, with the stand-in's hosts instead of Qiniu's."""
    [function] = FUNCTION.findall((HELP / "ask-qiniu.md").read_text(encoding="utf-8"))
    typed = f"{function}\n{command}".replace("https://", "http://")
    for host, url in (("api", stand_in.api_url), ("uc", stand_in.uc_url)):
        typed = re.sub(rf"\b{host}\.qiniu\w*\.com", urlsplit(url).netloc, typed)
    environ = {
        "PATH": os.environ["PATH"],
        "QINIU_ACCESS_KEY": ACCESS_KEY,
        "QINIU_SECRET_KEY": SECRET_KEY,
        "no_proxy": "*",
    }
    done = subprocess.run(
        ["sh", "-ec", typed], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert "" == done.stderr
    return done.stdout


def test_every_command_of_the_help_is_answered(stand_in: QiniuService) -> None:
    """Each command of each page is sent to its host, and the answer has a request id."""
    stand_in.add_domain("img.example.com")
    stand_in.add_domain(".example.com")
    stand_in.add_bucket("BUCKET")
    stand_in.add_bucket_domain("files.example.com", "BUCKET")
    pages = [page.read_text(encoding="utf-8") for page in sorted(HELP.glob("*.md"))]
    commands = {command for page in pages for command in COMMAND.findall(page)}

    assert {"ask api.qiniu.com /domain/img.example.com", "ask uc.qiniuapi.com /buckets"} < commands
    for command in commands:
        answer = answer_to(command, stand_in)
        assert "200 OK" in answer.splitlines()[0], command
        assert "x-reqid: " in answer.lower()
    assert "files.example.com" in answer_to(
        "ask uc.qiniuapi.com '/v3/domains?tbl=BUCKET'", stand_in
    )
    assert "404001" in answer_to("ask api.qiniu.com /domain/files.example.com", stand_in)
