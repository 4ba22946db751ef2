"""The Qiniu stand-in as a whole: Qiniu's own SDK as a client, limits, faults, the journal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import qiniu
import requests
from qiniu.http import qn_http_client
from qiniu.services.cdn.manager import DomainManager

from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, OK, SECRET_KEY, Client, Clock, code, issue

WWW = "www.example.com"


@pytest.fixture
def sdk_session() -> Iterator[None]:
    """Close the connections that Qiniu's SDK keeps open."""
    yield
    qn_http_client.session.close()


def test_official_sdk_does_the_whole_job(sdk_session: None) -> None:
    """Its DomainManager uploads, binds, reads and deletes at api.qiniu.com, as it always has."""
    with calls.service(Clock(), strict=False, processing_time=timedelta(0)) as stand_in:
        old = calls.seed(stand_in, [WWW])
        stand_in.add_domain(WWW, https=old)
        manager = DomainManager(qiniu.Auth(ACCESS_KEY, SECRET_KEY))
        manager.server = stand_in.api_url
        issued = issue(WWW)

        uploaded, info = manager.create_sslcert(
            "sdk", WWW, issued.privkey_pem, issued.fullchain_pem
        )
        assert 200 == info.status_code
        bound, info = manager.put_httpsconf(WWW, uploaded["certID"], forceHttps=True)
        assert (200, 200) == (info.status_code, bound["code"])
        domain, _ = manager.get_domain(WWW)
        assert (uploaded["certID"], True) == (
            domain["https"]["certId"],
            domain["https"]["forceHttps"],
        )


def test_official_sdk_signs_for_the_strict_hosts(sdk_session: None) -> None:
    """Under the documents of 2026: QBox for certificates on fusion, Qiniu with its date on api."""
    with calls.service() as stand_in:  # the SDK dates its requests by the real clock
        stand_in.add_domain(WWW)
        certificates = DomainManager(qiniu.Auth(ACCESS_KEY, SECRET_KEY))
        certificates.server = stand_in.fusion_url
        issued = issue(WWW, start=datetime.now(UTC) - timedelta(days=1))
        mac = qiniu.QiniuMacAuth(ACCESS_KEY, SECRET_KEY)

        uploaded, _ = certificates.create_sslcert(
            "sdk", WWW, issued.privkey_pem, issued.fullchain_pem
        )
        assert [uploaded["certID"]] == [stored.id for stored in stand_in.certificates.stored()]
        domain, info = qn_http_client.get(
            f"{stand_in.api_url}/domain/{WWW}",
            auth=qiniu.auth.QiniuMacRequestsAuth(mac),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert (200, WWW) == (info.status_code, domain["name"])
        assert ["X-Qiniu-Date"] == [
            name
            for name in stand_in.requests(f"GET /domain/{WWW}")[0].headers
            if name.startswith("X-Qiniu")
        ]


@pytest.mark.parametrize("status", [403, 429])
def test_rate_limit(client: Client, stand_in: QiniuService, clock: Clock, status: int) -> None:
    """So many per second, account and host; more is 403024, as 403 or 429."""
    stand_in.rate_limit.per_second = 2
    stand_in.rate_limit.status = 403 if status == 403 else 429
    stand_in.add_account("other-key", "other-secret")

    assert [200, 200] == [client.domains().status_code for _ in range(2)]
    assert (status, 403024) == code(client.domains())
    assert OK == code(client.certificates())
    assert 200 == Client(stand_in, "other-key", "other-secret").domains().status_code
    clock.advance(1)
    assert 200 == client.domains().status_code


def test_lost_answer_to_an_upload(client: Client, stand_in: QiniuService) -> None:
    """Reset after the work: the certificate is there, although the client cannot know."""
    stand_in.fusion.faults.add(Fault.reset_after(), on="POST /sslcert")
    with pytest.raises(requests.ConnectionError):
        client.upload(issue(), "lost")

    assert ["lost"] == [stored.name for stored in stand_in.certificates.stored()]


def test_lost_request(client: Client, stand_in: QiniuService) -> None:
    """Reset before the work: nothing has happened."""
    stand_in.fusion.faults.add(Fault.reset_before(), on="POST /sslcert")
    with pytest.raises(requests.ConnectionError):
        client.upload(issue(), "lost")

    assert [] == stand_in.certificates.stored()


def test_faults_hit_one_host(client: Client, stand_in: QiniuService) -> None:
    """A page from a broken gateway in front of api leaves fusion alone."""
    stand_in.api.faults.add(Fault.html(), times=None)

    assert 502 == client.domains().status_code
    assert OK == code(client.certificates())


def test_writes_are_counted_over_all_hosts(client: Client, stand_in: QiniuService) -> None:
    """Reads are no writes; refused writes are."""
    client.domains()
    client.certificates()
    assert [] == stand_in.writes()

    cert_id = client.upload(issue()).json()["certID"]
    client.sslize(WWW, cert_id)
    client.delete(cert_id)
    assert [
        f"PUT /domain/{WWW}/sslize",
        "POST /sslcert",
        f"DELETE /sslcert/{cert_id}",
    ] == [request.label for request in stand_in.writes()]
    assert ["GET /domain"] == [request.label for request in stand_in.requests("GET /domain*")]
    assert (1, 3, 0) == (
        len(stand_in.api.writes()),
        len(stand_in.fusion.requests("* /sslcert*")),
        len(stand_in.uc.journal),
    )


def test_every_answer_has_another_request_id(client: Client) -> None:
    """X-Reqid comes with success and refusal alike."""
    answers = [client.domains(), client.domain(WWW), client.certificates(), client.delete("x")]

    assert 4 == len({answer.headers["X-Reqid"] for answer in answers})


def test_many_at_once() -> None:
    """Stand-ins do not get in each other's way, and end twice without complaint."""
    with calls.service() as first, calls.service() as second:
        assert 2 == len({first.api_url, second.api_url})
        first.stop()
        assert 200 == Client(second).domains().status_code
    first.stop()
