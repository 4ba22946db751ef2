"""Qiniu's signatures, and the form of settings that its servers accept."""

from __future__ import annotations

import json
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import qiniu
from hypothesis import given
from hypothesis import strategies as st
from qiniu.auth import QiniuMacAuth, QiniuMacRequestsAuth, RequestsAuth

from certferry.adapters.cdn.caches import LIST_AGE
from certferry.adapters.http.exchange import Request
from certferry.adapters.qiniu.target import Qiniu
from certferry.adapters.qiniu.wire import (
    FORM,
    QiniuKeys,
    qbox_message,
    qiniu_message,
    sign_qbox,
    sign_qiniu,
    token,
)
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.observed.observation import ObservedDomain
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.drift import setting_changes
from certferry.core.redaction import Secret
from certferry.errors import TargetRejected
from certferry.ports.target import Scope
from certferry.values import replace
from tests.adapters.qiniu.account import WWW, QiniuAccount, refusal
from tests.sandbox import qiniu_calls

# --- Qiniu's signatures against published and computed vectors, and the vendor's SDK


VECTORS = json.loads(
    (Path(__file__).parents[2] / "data/qiniu-sign-vectors.json").read_text("utf-8")
)
COMPUTED: list[dict[str, Any]] = VECTORS["vectors"]
PUBLISHED: list[dict[str, Any]] = VECTORS["published_vectors_verified"]

KEYS = QiniuKeys(Secret("ak"), Secret("sk"))


def _keys(vector: dict[str, Any]) -> QiniuKeys:
    return QiniuKeys(Secret(vector["access_key"]), Secret(vector["secret_key"]))


def test_number_of_vectors() -> None:
    """A file without its vectors would prove nothing."""
    assert 64 == len(COMPUTED) + len(PUBLISHED)


@pytest.mark.parametrize("vector", COMPUTED, ids=lambda vector: vector["id"])
def test_computed_vector(vector: dict[str, Any]) -> None:
    """Message and Authorization equal the vector's, byte for byte."""
    body = None if vector["body"] is None else vector["body"].encode()
    headers = dict(vector["x_qiniu_headers"])
    if vector["content_type"] is not None:
        headers["Content-Type"] = vector["content_type"]

    message = (
        qbox_message(vector["url"], headers, body)
        if vector["scheme"] == "QBox"
        else qiniu_message(vector["method"], vector["url"], headers, body)
    )

    assert vector["string_to_sign"].encode() == message
    assert vector["authorization"] == f"{vector['scheme']} {token(_keys(vector), message)}"


@pytest.mark.parametrize("vector", PUBLISHED, ids=lambda vector: vector["source"])
def test_published_vector(vector: dict[str, Any]) -> None:
    """The token of a published message equals the published token."""
    assert vector["token"] == token(_keys(vector), vector["string_to_sign"].encode())


# --- Against the vendor's SDK ---------------------------------------------------------------

words = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
hosts = st.one_of(words.map(lambda word: f"{word}.example.com"), st.just("127.0.0.1:18080"))
segments = st.text(string.ascii_letters + string.digits + ".-_~", min_size=1, max_size=12)
paths = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))
queries = st.text(string.ascii_letters + string.digits + "=&%+-_", max_size=20)
urls = st.builds(
    lambda host, path, query: f"https://{host}{path}" + (f"?{query}" if query else ""),
    hosts,
    paths,
    queries,
)
content_types = st.sampled_from(
    ["", "application/json", FORM, "application/octet-stream", "text/plain"]
)
bodies = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
qiniu_headers = st.dictionaries(
    words.map(lambda word: f"X-Qiniu-{word.capitalize()}"), words, max_size=3
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE"])


@given(url=urls, content_type=content_types, body=bodies)
def test_qbox_equals_the_sdk(url: str, content_type: str, body: str) -> None:
    """`qiniu.Auth.token_of_request` gives the same token for every request."""
    headers = {"Content-Type": content_type} if content_type else {}

    ours = token(KEYS, qbox_message(url, headers, body.encode()))

    assert qiniu.Auth("ak", "sk").token_of_request(url, body, content_type) == ours


@given(method=methods, url=urls, content_type=content_types, body=bodies, extra=qiniu_headers)
def test_qiniu_equals_the_sdk(
    method: str, url: str, content_type: str, body: str, extra: dict[str, str]
) -> None:
    """`QiniuMacAuth.token_of_request` gives the same token for every request."""
    headers = {**extra, "X-Qiniu-": "too short", "x-qiniu-lower": "unseen"}
    if content_type:
        headers["Content-Type"] = content_type
    sdk = QiniuMacAuth("ak", "sk")

    ours = token(KEYS, qiniu_message(method, url, headers, body.encode()))

    theirs = sdk.token_of_request(
        method, None, url, sdk.qiniu_headers(headers), content_type or None, body
    )
    assert theirs == ours


class Prepared:
    """The parts of a prepared request that the SDK's hooks for `requests` read."""

    def __init__(self, request: Request) -> None:
        self.method = request.method
        self.url = request.url
        self.headers = {k: v for k, v in request.headers.items() if k != "Authorization"}
        self.body = request.body


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "https://api.qiniu.com/domain?marker=&limit=1000"),
        Request("DELETE", "https://api.qiniu.com/sslcert/694d196ee691b4be3e838346"),
        Request(
            "PUT",
            "https://api.qiniu.com/domain/.example.com/httpsconf",
            {"Content-Type": "application/json"},
            b'{"certId":"694d196ee691b4be3e838346"}',
        ),
    ],
    ids=lambda request: request.method,
)
def test_signed_request_equals_the_sdks(request_: Request) -> None:
    """Headers and token equal those of the SDK."""
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ours = sign_qiniu(request_, KEYS, now)

    prepared = Prepared(ours)
    theirs = QiniuMacRequestsAuth(QiniuMacAuth("ak", "sk", disable_qiniu_timestamp_signature=True))(
        prepared
    )

    assert "20260102T030405Z" == ours.headers["X-Qiniu-Date"]
    assert theirs.headers == ours.headers
    plain = Prepared(sign_qbox(request_, KEYS))
    assert (
        RequestsAuth(qiniu.Auth("ak", "sk"))(plain).headers["Authorization"]
        == (sign_qbox(request_, KEYS).headers["Authorization"])
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.qiniu.com:443/x", "api.qiniu.com"),
        ("http://127.0.0.1:80/x", "127.0.0.1"),
        ("http://127.0.0.1:443/x", "127.0.0.1:443"),
        ("https://API.qiniu.com/x", "api.qiniu.com"),
    ],
)
def test_signed_host_equals_the_header(url: str, host: str) -> None:
    """The scheme's default port is absent in the Host header and in the signature."""
    assert f"Host: {host}\n".encode() in qiniu_message("GET", url, {}, None)


def test_repr_of_keys() -> None:
    """The repr has neither key."""
    assert "sk-of-mine" not in repr(QiniuKeys(Secret("ak-of-mine"), Secret("sk-of-mine")))


# --- TLS versions at Qiniu: the server's form is detected once, without drift


VERSIONS = ("TLSv1.2", "TLSv1.3")
DESIRED = DesiredHttps(force_https=True, http2=True, tls_versions=VERSIONS)


def seed(account: QiniuAccount) -> str:
    """Add a certificate, and return its id."""
    return qiniu_calls.seed(account.service, [WWW])


def observed_domain(target: Qiniu, name: str = WWW) -> ObservedDomain:
    [domain] = target.observe(Scope("img", (name,), (name,), Kind.AUTO, ())).domains
    return domain


def sent_versions(account: QiniuAccount) -> list[Any]:
    """Return the versions in every change request, as sent."""
    bodies = (json.loads(request.body) for request in account.service.requests("PUT *"))
    return [body.get("tlsVersions") for body in bodies]


def test_server_that_accepts_an_array(account: QiniuAccount, target: Qiniu) -> None:
    """The usual form is sent first, and accepted."""
    account.service.add_domain(WWW)

    target.bind(WWW, Kind.CDN, seed(account), DESIRED)

    assert [list(VERSIONS)] == sent_versions(account)
    assert HttpsSettings(True, True, VERSIONS) == observed_domain(target).https  # noqa: FBT003 - as reported


@pytest.mark.parametrize("call", ["httpsconf", "sslize"])
def test_server_that_accepts_a_string(call: str, account: QiniuAccount, target: Qiniu) -> None:
    """After the server's complaint, the account gets strings only."""
    account.service.domains.tls_versions = "string"
    account.service.add_domain(WWW, https=seed(account) if call == "httpsconf" else None)

    for _ in range(2):
        target.bind(WWW, Kind.CDN, seed(account), DESIRED)

    joined = ",".join(VERSIONS)
    assert [list(VERSIONS), joined, joined] == sent_versions(account)
    assert call == account.service.requests("PUT *")[0].path.rpartition("/")[2]
    assert () == setting_changes(DESIRED, observed_domain(target))


def test_server_with_changed_forms(account: QiniuAccount, target: Qiniu) -> None:
    """After a complaint, the other form is tried, whichever was used before."""
    account.service.add_domain(WWW)
    account.service.domains.tls_versions = "string"
    target.bind(WWW, Kind.CDN, seed(account), DESIRED)
    account.service.domains.tls_versions = "array"

    target.bind(WWW, Kind.CDN, seed(account), DESIRED)

    joined = ",".join(VERSIONS)
    assert [list(VERSIONS), joined, joined, list(VERSIONS)] == sent_versions(account)


def test_unrelated_complaint(account: QiniuAccount, target: Qiniu) -> None:
    """A complaint about another field, without versions, or in other words does not change the
    form.
    """
    account.service.add_domain(WWW)
    cert_id = seed(account)
    about_a_flag = "json: cannot unmarshal string into Go struct field SslizeArgs.forceHttps"
    about_versions = "json: cannot unmarshal array into Go struct field SslizeArgs.tlsVersions"
    desired_settings = [
        (about_a_flag, DESIRED),
        (about_versions, DesiredHttps()),
        ("invalid tlsVersions", DESIRED),
    ]

    for words, wanted in desired_settings:
        account.service.api.faults.add(refusal(400, 400000, words), on="PUT *")
        with pytest.raises(TargetRejected, match=r"400000"):
            target.bind(WWW, Kind.CDN, cert_id, wanted)

    assert 3 == len(sent_versions(account))


def test_server_that_refuses_both_forms(account: QiniuAccount, target: Qiniu) -> None:
    """The second answer is reported, and the array stays the first form."""
    account.service.add_domain(WWW)
    words = "json: cannot unmarshal value into Go struct field SslizeArgs.tlsVersions"
    account.service.api.faults.add(refusal(400, 400000, words), on="PUT *", times=2)

    with pytest.raises(TargetRejected, match="unmarshal"):
        target.bind(WWW, Kind.CDN, seed(account), DESIRED)
    target.bind(WWW, Kind.CDN, seed(account), DESIRED)

    assert [list(VERSIONS), ",".join(VERSIONS), list(VERSIONS)] == sent_versions(account)


def test_unreported_versions(account: QiniuAccount, target: Qiniu) -> None:
    """The versions are sent with every change; without a record of them, they count as
    different.
    """
    account.service.domains.tls_versions = "untold"
    account.service.add_domain(WWW)

    target.bind(WWW, Kind.CDN, seed(account), DESIRED)

    assert [list(VERSIONS)] == sent_versions(account)
    observed = observed_domain(target)
    assert None is observed.https.tls_versions
    record = RolloutRecord("img", "qiniu", WWW, "3f", datetime.now(UTC), sent=DESIRED)
    assert () == setting_changes(DESIRED, replace(observed, last=record))
    [change] = setting_changes(DESIRED, observed)
    assert ("tls_versions", "unknown") == (change.setting, change.was)


def test_versions_reported_after_a_change(account: QiniuAccount, target: Qiniu) -> None:
    """The versions are unknown before a change, as desired after, and drift if others change
    them.
    """
    cert_id = seed(account)
    account.service.add_domain(WWW, https=cert_id)
    assert {"force_https": "false", "http2": "false", "tls_versions": "unknown"} == {
        change.setting: change.was for change in setting_changes(DESIRED, observed_domain(target))
    }

    target.bind(WWW, Kind.CDN, cert_id, DESIRED)
    assert () == setting_changes(DESIRED, observed_domain(target))

    qiniu_calls.Client(account.service).httpsconf(
        WWW, cert_id, forceHttps=True, http2Enable=True, tlsVersions=["TLSv1.0"]
    )
    account.time.pause(LIST_AGE)
    [change] = setting_changes(DESIRED, observed_domain(target))
    assert ("tls_versions", "TLSv1.0", "TLSv1.2, TLSv1.3") == (
        change.setting,
        change.was,
        change.becomes,
    )
