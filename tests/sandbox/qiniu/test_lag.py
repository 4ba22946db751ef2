"""The Qiniu stand-in where its lists and reads lag behind what was written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import OK, Client, Clock, code, refusal

WWW = "www.example.com"
LAG = 2


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[QiniuService]:
    """Run a stand-in whose changes take a second."""
    with calls.service(clock, processing_time=timedelta(seconds=1)) as running:
        yield running


def test_the_list_of_certificates(clock: Clock, stand_in: QiniuService, client: Client) -> None:
    """An upload appears late and vanishes late, while the service itself knows better."""

    def listed() -> list[str]:
        return [item["certid"] for item in client.certificates().json()["certs"] or []]

    stand_in.certificates.list_lag = timedelta(seconds=LAG)
    cert_id = client.upload(calls.issue(WWW)).json()["certID"]
    clock.advance(LAG - 0.1)
    assert [] == listed()
    clock.advance(0.1)
    assert [cert_id] == listed()

    assert OK == code(client.delete(cert_id))
    clock.advance(LAG - 0.1)
    assert [cert_id] == listed()
    assert refusal(400401) == code(client.delete(cert_id))
    clock.advance(0.1)
    assert [] == listed()


def test_the_list_of_domains(clock: Clock, stand_in: QiniuService, client: Client) -> None:
    """A domain appears late, and so does the state of its changes."""

    def listed() -> list[tuple[str, str]]:
        found = client.domains().json()["domains"]
        return [(item["protocol"], item["operatingState"]) for item in found]

    stand_in.domains.list_lag = timedelta(seconds=LAG)
    stand_in.add_domain(WWW)
    assert [] == listed()
    clock.advance(LAG)
    assert [("http", "success")] == listed()

    client.sslize(WWW, calls.seed(stand_in, [WWW]))
    shown = []
    for _ in range(4):
        shown += listed()
        clock.advance(1)
    before, during, after = ("http", "success"), ("http", "processing"), ("https", "success")
    assert [before, before, during, after] == shown


def test_a_read_of_a_domain(clock: Clock, stand_in: QiniuService, client: Client) -> None:
    """Old state and old certificate for a while; a second change is refused all the same."""
    old, new = (calls.seed(stand_in, [WWW]) for _ in range(2))
    stand_in.add_domain(WWW, https=old)
    stand_in.domains.read_lag = timedelta(seconds=LAG)
    client.httpsconf(WWW, new)

    assert refusal(400030) == code(client.httpsconf(WWW, new))
    shown = []
    for _ in range(4):
        found = client.domain(WWW).json()
        shown.append((found["https"]["certId"], found["operatingState"]))
        clock.advance(1)
    assert [(old, "success"), (old, "success"), (old, "processing"), (new, "success")] == shown
