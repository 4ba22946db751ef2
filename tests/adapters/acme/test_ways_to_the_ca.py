"""Which way requests go to a directory: the proxy of its own, and IPv6."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import pytest
import trustme

from certferry.adapters.acme.ca_account import AcmeCaAccount
from certferry.adapters.acme.examination import look_at_directory
from certferry.adapters.acme.propagation import Propagation
from certferry.adapters.acme.resolvers import Resolvers, at_urls
from certferry.adapters.probe.tls import TlsProbe
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.observed.observation import Served
from certferry.errors import CaUnavailable
from certferry_sandbox.nameserver.daemon import DnsDaemon, HttpsDns, Reply, Transport
from certferry_sandbox.nameserver.service import NameServer, Resolver
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.name_servers import ANSWER_WITHIN
from tests.adapters.http.peers import peer, tunnel
from tests.adapters.probe.edge import serving
from tests.adapters.probe.test_problems import must_have

NOWHERE = "http://127.0.0.1:9"
V6 = "::1"
ZONE, HOST = "six.test", "ns1.six.test"


@contextmanager
def counting_proxy() -> Iterator[tuple[str, list[str]]]:
    """Run a proxy; give its URL and to where it was asked for a way."""
    asked: list[str] = []

    def counted(connection: socket.socket) -> None:
        asked.extend(connection.recv(2**12, socket.MSG_PEEK).decode().split()[1:2])
        tunnel(connection)

    with peer(counted) as host:
        yield f"http://{host}", asked


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"])
def test_directory_with_a_proxy_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """All that is asked of the CA goes through it, whatever the environment says."""
    monkeypatch.setenv(variable, "127.0.0.1" if variable == "NO_PROXY" else NOWHERE)
    url, bundle = bench.proxy.directory_url, bench.settings().ca_bundle
    ways: dict[str, Any] = {"ca_bundle": bundle, "pause": bench.clock.pause, "now": bench.clock.now}
    with counting_proxy() as (proxy, asked):
        issued = bench.issue(issuer=bench.issuer(proxy=proxy))
        count = len(asked)
        assert AcmeCaAccount(url, bench.state, proxy=proxy, **ways).look() is not None
        assert look_at_directory(url, proxy=proxy, **ways).ahead is not None

    assert issued.key_matches
    host = bench.proxy.url.removeprefix("https://")
    assert {host} == set(asked)
    assert count + 2 == len(asked)


def test_proxy_of_a_directory_that_is_not_there(bench: Bench) -> None:
    """The hint names the setting."""
    with pytest.raises(CaUnavailable) as failure:
        bench.issue(issuer=bench.issuer(proxy=NOWHERE))

    assert "`proxy` under [acme]" in str(failure.value.hint)
    assert [] == bench.proxy.requests()


class OneServer:
    """A name server and a resolver at one address, as a question desires recursion or not."""

    def __init__(self, zones: Zones) -> None:
        self.server = NameServer(zones, HOST, V6)
        self.resolver = Resolver(zones, [self.server], V6)

    def handle(self, wire: bytes, transport: Transport) -> Reply | None:
        """Answer one message."""
        recursive = dns.message.from_wire(wire).flags & dns.flags.RD
        return (self.resolver if recursive else self.server).handle(wire, transport)


@contextmanager
def only_v6(zones: Zones) -> Iterator[tuple[OneServer, int]]:
    """Serve a zone at an IPv6 address alone; give the server and its port."""
    zones.add_zone(ZONE, [HOST])
    for name in (HOST, ZONE):
        zones.seed(name, "AAAA", V6)
    server = OneServer(zones)
    daemon = DnsDaemon({V6: server.handle}).start()
    try:
        yield server, daemon.port
    finally:
        daemon.stop()


def test_host_that_has_ipv6_alone(pebble: Pebble, zones: Zones, tmp_path: Path) -> None:
    """CA, name servers, resolvers and edges are reached at their IPv6 addresses."""
    must_have(V6)
    bench = Bench(pebble, zones, tmp_path, V6)
    with only_v6(zones) as (_, port), bench.proxy:
        bench.looks = Propagation(
            resolvers=[(V6, port)],
            port=port,
            timeout=timedelta(seconds=30),
            pause=bench.clock.pause,
            now=bench.clock.now,
            answer_within=ANSWER_WITHIN,
        )
        issued = bench.issue(ZONE)
        seen = looked_at(issued, [(V6, port)], pebble, tmp_path)

    assert bench.proxy.requests("POST /finalize-order/*")
    assert (V6, issued.certificate.fingerprint, True) == (
        seen.address,
        seen.fingerprint,
        seen.valid,
    )


def looked_at(
    issued: CertificateBundle, resolvers: list[tuple[str, int]], pebble: Pebble, folder: Path
) -> Served:
    """Serve a certificate at the IPv6 address, and look at it."""
    (folder / "roots.pem").write_bytes(pebble.root_pem())
    pem = issued.fullchain_pem + issued.privkey_pem.reveal()
    with serving(pem, folder, V6) as (_, port):
        probe = TlsProbe(
            resolvers,
            lambda: datetime.now(UTC),
            pause=lambda _: None,
            port=port,
            ca_bundle=folder / "roots.pem",
            answer_within=ANSWER_WITHIN,
        )
        [seen] = probe.served([ZONE])[ZONE]
    return seen


def test_resolver_over_https_at_an_ipv6_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate may be for that as well."""
    must_have(V6)
    trust, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.issue_cert(V6).configure_cert(context)
    trust.cert_pem.write_to_path(tmp_path / "doh.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "doh.pem"))
    with only_v6(Zones()) as (server, _), HttpsDns(server.handle, context, host=V6) as doh:
        over_https = at_urls((doh.question_url,), ANSWER_WITHIN, lambda _: None)
        found = Resolvers((), ANSWER_WITHIN, over_https, plain=False).addresses(HOST)

    assert (V6,) == found
