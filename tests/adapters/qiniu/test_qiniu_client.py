"""The Qiniu client over real HTTP with a strict stand-in: calls, lists, hosts, rates."""

from __future__ import annotations

import base64
import itertools
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.cdn.lists import MOST_PAGES
from certferry.adapters.http.exchange import Request
from certferry.adapters.qiniu.errors import QiniuFailure
from certferry.adapters.qiniu.qiniu_client import QiniuClient
from certferry.adapters.qiniu.records import (
    CertificateRecord,
    DomainItem,
    HttpsConf,
    HttpsRecord,
    UploadBody,
)
from certferry.adapters.qiniu.wire import Hosts
from certferry_sandbox import httpd
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.account import WWW, QiniuAccount, bundle, open_account
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY, START


def _upload(*names: str, name: str = "certferry-test") -> UploadBody:
    made = bundle(*names)
    return UploadBody(
        name, made.certificate.names[0], made.fullchain_pem, made.privkey_pem.reveal()
    )


def _conf(
    cert_id: str,
    *,
    force: bool = False,
    http2: bool = False,
    versions: tuple[str, ...] | None = None,
) -> HttpsConf:
    return HttpsConf(cert_id, force, http2, versions)


def test_upload_is_compact_json_in_utf_8(account: QiniuAccount, client: QiniuClient) -> None:
    """The signed bytes are sent: compact, unescaped, with the exact content type."""
    upload = _upload(WWW, name="证书")

    client.upload_certificate(upload)

    [upload_request] = account.service.requests("POST /sslcert")
    expected = {"name": "证书", "common_name": WWW, "ca": upload.ca, "pri": upload.pri}
    compact = json.dumps(expected, ensure_ascii=False, separators=(",", ":"))
    assert compact.encode() == upload_request.body
    assert "application/json" == upload_request.headers["Content-Type"]


def test_empty_account(client: QiniuClient) -> None:
    """`certs: null` is an empty list."""
    assert [] == client.list_certificates()
    assert [] == client.list_domains()
    assert [] == client.list_buckets()


def test_certificate_is_never_read_back(account: QiniuAccount, client: QiniuClient) -> None:
    """`GET /sslcert/<id>` would return the private key, so certferry never calls it."""
    client.upload_certificate(_upload(WWW))
    client.list_certificates()

    assert 0 == account.count("GET /sslcert/*")


@pytest.mark.parametrize("count", [199, 200, 201, 450])
def test_long_list_of_certificates(count: int, account: QiniuAccount, client: QiniuClient) -> None:
    """Every page is read and each certificate appears once, even if the last page is null."""
    issued = qiniu_calls.issue(WWW)
    ids = [account.service.add_certificate(issued, f"old-{n}") for n in range(count)]

    assert ids == [record.certid for record in client.list_certificates()]
    assert count // 200 + 1 == account.count("GET /sslcert")


def test_long_list_of_domains(account: QiniuAccount, client: QiniuClient) -> None:
    """A little more than a thousand domains come in two pages."""
    names = [f"d{n}.example.com" for n in range(1003)]
    for name in names:
        account.service.add_domain(name)

    assert names == [item.name for item in client.list_domains()]
    assert 2 == account.count("GET /domain")


def test_marker_that_does_not_advance(account: QiniuAccount, client: QiniuClient) -> None:
    """Entries after the marker are invisible, so the list is an error: half an account could pass
    for the whole.
    """
    issued = qiniu_calls.issue(WWW)
    for number in range(3):
        account.service.add_certificate(issued, f"old-{number}")
    account.service.certificates.pager.advances = False
    account.service.add_domain(WWW)
    account.service.domains.pager.advances = False

    for read, list_name in (
        (client.list_certificates, "the list of certificates"),
        (client.list_domains, "the list of domains"),
    ):
        with pytest.raises(QiniuFailure, match=f"{list_name} at Qiniu never ends"):
            read()
    assert 2 == account.count("GET /sslcert") == account.count("GET /domain")


def test_empty_page_with_a_marker(account: QiniuAccount, client: QiniuClient) -> None:
    """The list continues at the marker."""
    ours = account.service.add_certificate(qiniu_calls.issue(WWW), "ours")
    first = base64.b64encode(b"0").decode()
    body = {"certs": None, "marker": first}
    account.service.fusion.faults.add(Fault.status(200, json.dumps(body).encode()))

    assert [ours] == [record.certid for record in client.list_certificates()]
    assert 2 == account.count("GET /sslcert")


def test_empty_pages_without_an_end() -> None:
    """Empty pages are given up long before a list of many pages."""
    pages = itertools.count(1)

    def answer(request: httpd.Request) -> httpd.Response:
        del request
        return httpd.Response.json({"certs": [], "marker": f"m{next(pages)}"})

    with httpd.HttpService(answer) as server:
        client = QiniuAccount(qiniu_calls.service()).client(hosts=Hosts(*([server.url] * 3)))

        with pytest.raises(QiniuFailure, match="never ends"):
            client.list_certificates()

    assert next(pages) < MOST_PAGES / 10


def test_entry_of_a_domain(account: QiniuAccount, client: QiniuClient) -> None:
    """A domain's entry has name, type, product and CNAME."""
    account.service.add_domain(WWW)

    [item] = client.list_domains()

    assert (WWW, "normal", "cdn", f"{WWW}.qiniudns.com") == (
        item.name,
        item.type,
        item.product,
        item.cname,
    )


def hubs_of(answer: Callable[[httpd.Request], httpd.Response]) -> list[str]:
    """List the hubs and the domains of a hub at a service with these answers."""
    with httpd.HttpService(answer) as server:
        hosts = Hosts(server.url, server.url, server.url, pili=server.url)
        client = QiniuAccount(qiniu_calls.service()).client(hosts=hosts)
        hubs = client.list_hubs()
        return [*hubs, *(record.domain for record in client.list_live_domains("show"))]


def test_lists_of_pili_with_a_marker() -> None:
    """Markers of Pili are undocumented: a given marker continues the list, and a repeated marker is
    an error.
    """

    def answer(request: httpd.Request, *, goes_on: bool) -> httpd.Response:
        is_first = not request.query
        entry = "one.example" if is_first or not goes_on else "two.example"
        marker = "next" if is_first or not goes_on else ""
        if request.path == "/v2/hubs":
            return httpd.Response.json({"items": [{"name": entry}], "marker": marker})
        return httpd.Response.json({"domains": [{"domain": entry}], "marker": marker})

    names = ["one.example", "two.example"]
    assert [*names, *names] == hubs_of(partial(answer, goes_on=True))
    with pytest.raises(QiniuFailure, match="the list of hubs at Qiniu never ends"):
        hubs_of(partial(answer, goes_on=False))


ODD_CERTIFICATES = [
    {},
    {"certid": None},
    {"certid": 7},
    {"certid": "x", "not_before": "soon"},
    {"certid": "x", "name": ["a"]},
    {"certid": "x", "dnsnames": [None]},
    "x",
    None,
]


@pytest.mark.parametrize("odd", ODD_CERTIFICATES, ids=str)
def test_invalid_certificate_is_skipped(
    odd: object, account: QiniuAccount, client: QiniuClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Other certificates are listed beside any entry of another program; numbers may be strings."""
    caplog.set_level(logging.DEBUG)
    ours = {"certid": "ours", "name": None, "dnsnames": None, "not_before": "1700000000"}
    body = {"certs": [odd, ours | {"not_after": 1800000000.0, "create_time": None}]}
    account.service.fusion.faults.add(Fault.status(200, json.dumps(body).encode()))

    listed = client.list_certificates()

    assert [CertificateRecord("ours", None, None, 1700000000, 1800000000)] == listed
    assert "an entry of a list is passed over" in caplog.text
    assert "soon" not in caplog.text


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"name": None},
        {"name": 7},
        {"name": "x", "type": 1},
        {"name": "../"},
        {"name": "a/../img.example.com"},
        {"name": "img.example.com?x=y"},
        3,
    ],
    ids=str,
)
def test_invalid_domain_is_skipped(odd: object, account: QiniuAccount, client: QiniuClient) -> None:
    """Other domains are listed, even without a type."""
    body = {"domains": [odd, {"name": WWW, "type": None}], "marker": None}
    account.service.api.faults.add(Fault.status(200, json.dumps(body).encode()))

    assert [DomainItem(WWW)] == client.list_domains()


def test_page_of_invalid_certificates(account: QiniuAccount, client: QiniuClient) -> None:
    """The list continues after invalid entries."""
    issued = qiniu_calls.issue(WWW)
    ours = account.service.add_certificate(issued, "ours")
    body = {"certs": [{"certid": 1}, {"certid": 2}], "marker": base64.b64encode(b"0").decode()}
    account.service.fusion.faults.add(Fault.status(200, json.dumps(body).encode()))

    assert [ours] == [record.certid for record in client.list_certificates()]


@given(marker=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_marker_is_returned_unchanged(marker: str) -> None:
    """The next signed request returns any marker unchanged to the server."""
    received: list[str] = []

    def answer(request: httpd.Request) -> httpd.Response:
        qiniu = qiniu_calls.service()
        qiniu.accounts.caller(request, START)
        received.append(request.query)
        first = not received[:-1]
        return httpd.Response.json(
            {"certs": [{"certid": "a" if first else "b"}], "marker": marker if first else ""}
        )

    with httpd.HttpService(answer) as server:
        client = QiniuAccount(qiniu_calls.service()).client(hosts=Hosts(*([server.url] * 3)))

        listed = client.list_certificates()

    assert ["a", "b"] == [record.certid for record in listed]
    assert [marker] == parse_qs(received[1])["marker"]


def test_list_without_an_end() -> None:
    """Half a list could pass for the whole, so the list is an error after very many pages."""
    pages = itertools.count(1)

    def answer(request: httpd.Request) -> httpd.Response:
        page = next(pages)
        return httpd.Response.json({"certs": [{"certid": f"c{page}"}], "marker": f"m{page}"})

    with httpd.HttpService(answer) as server:
        client = QiniuAccount(qiniu_calls.service()).client(hosts=Hosts(*([server.url] * 3)))

        with pytest.raises(QiniuFailure, match="never ends"):
            client.list_certificates()

    assert MOST_PAGES + 1 == next(pages)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ("TLSv1.2", ("TLSv1.2",)),
        ("TLSv1.3,TLSv1.2", ("TLSv1.2", "TLSv1.3")),
        ("TLSv1.2 TLSv1.3", ("TLSv1.2", "TLSv1.3")),
        ("", None),
        ((), None),
        (None, None),
    ],
)
def test_tls_versions_as_a_string(
    versions: str | tuple[str, ...] | None, expected: tuple[str, ...] | None
) -> None:
    """The documents have a string, and the server an array."""
    assert expected == HttpsRecord(tls_versions=versions).versions


def test_path_of_a_wildcard_domain(account: QiniuAccount, client: QiniuClient) -> None:
    """The path has `.example.com`, unescaped."""
    cert_id = client.upload_certificate(_upload("*.example.com"))
    account.service.add_domain(".example.com")

    client.sslize(".example.com", _conf(cert_id))

    assert ".example.com" == client.read_domain(".example.com").name
    assert 1 == account.count("PUT /domain/.example.com/sslize")


# --- Kodo -----------------------------------------------------------------------------------


def _schemes(requests: list[httpd.Request]) -> set[str]:
    return {request.headers["Authorization"].split(" ")[0] for request in requests}


def _use_everything(account: QiniuAccount, client: QiniuClient) -> None:
    account.service.add_domain(WWW)
    account.service.add_bucket("pictures")
    cert_id = client.upload_certificate(_upload(WWW))
    client.list_certificates()
    client.list_domains()
    client.sslize(WWW, _conf(cert_id))
    client.httpsconf(WWW, _conf(cert_id, force=True))
    client.read_domain(WWW)
    client.list_buckets()
    client.list_bucket_domains("pictures")
    spare = client.upload_certificate(_upload(WWW))
    client.delete_certificate(spare)


def test_documented_hosts_and_schemes(account: QiniuAccount, client: QiniuClient) -> None:
    """A stand-in as strict as the documents of 2026 accepts every call."""
    _use_everything(account, client)

    service = account.service
    assert {"QBox"} == _schemes(service.fusion.requests())
    assert {"Qiniu"} == _schemes(service.api.requests())
    assert {"Qiniu"} == _schemes(service.uc.requests())
    dates = {r.headers["X-Qiniu-Date"] for r in service.api.requests()}
    assert all(date.startswith("20260501T12") for date in dates)


def test_single_host_for_certificates_and_domains() -> None:
    """With `fusion` set to a lenient api host, everything works at the slower pace."""
    with open_account(strict=False) as account:
        hosts = Hosts(account.service.api_url, account.service.api_url, account.service.uc_url)

        _use_everything(account, account.client(hosts=hosts))

        assert {"QBox", "Qiniu"} == _schemes(account.service.api.requests())
        request_count = len(account.service.api.requests())
        assert (request_count - 1) / 5 == pytest.approx(account.time.clock(), abs=0.3)


def test_swapped_hosts(account: QiniuAccount) -> None:
    """A 404 without a code from every host suggests swapped addresses: the error names each
    host.
    """
    uc = account.service.uc_url
    host = uc.removeprefix("http://")

    with pytest.raises(QiniuFailure, match="404 not found") as caught:
        account.client(hosts=Hosts(uc, uc, uc)).list_certificates()

    assert f"tried: {host} (QBox), {host} (QBox), {host} (Qiniu)" in str(caught.value)
    assert not caught.value.error.retry.allowed


def test_requests_per_second(account: QiniuAccount, client: QiniuClient) -> None:
    """Ten requests a second to api and five to fusion stay below the service's limit."""
    account.service.add_domain(WWW)
    account.service.rate_limit.per_second = 10
    for _ in range(25):
        client.read_domain(WWW)
    assert pytest.approx(2.4) == account.time.clock()

    account.service.rate_limit.per_second = 5
    for _ in range(11):
        client.list_certificates()
    assert pytest.approx(2.4 + 2.0) == account.time.clock()

    assert {200} == {call.status for call in account.service.api.journal}
    assert {200} == {call.status for call in account.service.fusion.journal}


@pytest.mark.parametrize("status", [403, 429])
def test_rate_limit_of_another_program(
    status: int, account: QiniuAccount, client: QiniuClient
) -> None:
    """Another program uses the account's rate: each call is repeated, even a write."""
    account.service.add_domain(WWW)
    account.service.rate_limit.status = status  # type: ignore[assignment]  # one of the two
    account.service.rate_limit.per_second = 1

    for _ in range(3):
        client.read_domain(WWW)
    client.upload_certificate(_upload(WWW))
    client.upload_certificate(_upload(WWW))

    statuses = [call.status for call in account.service.api.journal]
    assert 3 == statuses.count(200)
    assert status in statuses
    assert 2 == len(account.service.certificates.stored())


def test_log_without_secrets(
    account: QiniuAccount, client: QiniuClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The log at its most detailed level has no key, token or private key."""
    caplog.set_level(logging.DEBUG)
    upload = _upload(WWW)
    account.service.fusion.faults.add(Fault.reset_before(), on="GET *")

    client.upload_certificate(upload)
    client.list_certificates()

    tokens = [r.headers["Authorization"] for r in account.service.requests()]
    assert "/sslcert" in caplog.text
    for secret in [SECRET_KEY, ACCESS_KEY, *upload.pri.splitlines(), *tokens]:
        assert secret not in caplog.text


def test_repr_of_an_upload() -> None:
    """The repr of an upload's body has neither key nor chain."""
    assert "UploadBody('certferry-test')" == repr(_upload(WWW))


def test_date_of_a_repeated_request(account: QiniuAccount, client: QiniuClient) -> None:
    """After a pause, the repeated request is signed with its own moment."""
    account.service.add_domain(WWW)
    account.service.api.faults.add(Fault.too_many(20))

    client.read_domain(WWW)

    first, second = (r.headers["X-Qiniu-Date"] for r in account.service.api.requests())
    assert ("20260501T120000Z", "20260501T120020Z") == (first, second)


def test_repr_of_a_request() -> None:
    """The repr of a request has method and address only."""
    assert "Request(method='GET', url='https://example.com/')" == repr(
        Request("GET", "https://example.com/", {"Authorization": SECRET_KEY})
    )


def test_old_date_is_refused(account: QiniuAccount) -> None:
    """A wrong clock gives a 403 with a hint about the clock."""
    late = account.client()
    account.service.accounts.date_skew = timedelta(seconds=-1)

    with pytest.raises(QiniuFailure, match="skewed") as caught:
        late.list_domains()

    assert "clock" in str(caught.value.error.hint)
