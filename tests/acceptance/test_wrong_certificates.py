"""A gateway before the CA that hands out another certificate than the one that was ordered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.testing.certificates import make_bundle
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host
from tests.adapters.acme.ports import Clock
from tests.adapters.acme.proxy import Proxy

FAILED = 1
EVIL = "evil.example.net"


@pytest.fixture
def gateway(host: Host) -> Iterator[Proxy]:
    """A gateway that the machine takes for the CA; at first it passes everything on."""
    with Proxy(host.world.pebble) as proxy:
        host.rewrite(host.world.pebble.directory_url, proxy.directory_url)
        proxy.authority.cert_pem.write_to_path(host.directory / "directory-ca.pem")
        yield proxy


def with_another(request: Request, response: Response) -> Response:
    """Give a certificate for another owner's names."""
    if not request.path.startswith("/certZ/"):
        return response
    evil = make_bundle(EVIL, not_before=Clock().now())
    return replace(response, body=evil.fullchain_pem.encode())


def test_certificate_for_another_name(host: Host, name: str, gateway: Proxy) -> None:
    """It reaches neither the state nor the CDN, is told as the CA's mistake, and costs one order a
    day; asked for by hand, another is ordered at once.
    """
    gateway.rewrite = with_another

    first, second = host.run("-q", "sync"), host.run("sync", "--json")

    assert FAILED == first.code
    assert f"the CA gave a certificate that was not ordered: it is for {EVIL}" in str(first)
    assert "nothing was kept or deployed" in first.complaint.hint
    assert FAILED == second.code
    assert 1 == gateway.finalized
    (lineage,) = json.loads(second.out)["certificates"]
    assert None is lineage["fingerprint"]
    (told,) = (step for step in lineage["steps"] if step["action"] == "look")
    assert "nothing is ordered before" in told["detail"]
    assert told["retry_at"] is not None
    assert_nothing_written(second.left)
    assert [] == host.fingerprints(name)

    gateway.rewrite = lambda _, response: response
    assert 0 == host.run("-q", "sync", "--renew", "--all").code
    assert 2 == gateway.finalized
    assert 1 == len(set(host.fingerprints(name)))
