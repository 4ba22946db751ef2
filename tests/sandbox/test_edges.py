"""The edges of the stand-in's CDN: the certificate of each edge over time."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certferry_sandbox.edges import Edge
from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import OK, Client, Clock, authority, code, issue

WWW = "www.example.com"
LAG = 60.0
UNRECOGNIZED_NAME = r"(?i)unrecognized.name"
LAGS = {
    "127.0.0.2": timedelta(0),
    "127.0.0.3": timedelta(seconds=LAG),
    "127.0.0.4": timedelta(seconds=2 * LAG),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[QiniuService]:
    """Run a stand-in with three edges of different speed; processing takes ten seconds."""
    with calls.service(clock, edge_lags=LAGS, processing_time=timedelta(seconds=10)) as running:
        yield running


@pytest.fixture
def client(stand_in: QiniuService) -> Client:
    return Client(stand_in)


def shake_hands(
    edge: Edge, name: str | None, *, trust: str | None = None, version: ssl.TLSVersion | None = None
) -> str:
    """Return the fingerprint that an edge presents.

    With `trust` (a root as PEM) chain and name are verified.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=trust)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection((edge.address, edge.port), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex()


def shown(stand_in: QiniuService, name: str = WWW) -> list[str]:
    """Return for each edge the upload name of its certificate."""
    names = {stored.fingerprint: stored.name for stored in stand_in.certificates.stored()}
    return [names.get(shake_hands(edge, name), "gone") for edge in stand_in.edges]


def begin(stand_in: QiniuService, client: Client) -> str:
    """Bind a domain to `old`, and begin the change to `new`; return the old id."""
    old = calls.seed(stand_in, [WWW], "old")
    new = calls.seed(stand_in, [WWW], "new")
    stand_in.add_domain(WWW, https=old)
    assert OK == code(client.httpsconf(WWW, new))
    return old


def test_each_edge_follows_at_its_own_time(
    stand_in: QiniuService, client: Client, clock: Clock
) -> None:
    """During processing all present the old certificate; after success each presents the new
    certificate after its lag.
    """
    begin(stand_in, client)
    assert ["old", "old", "old"] == shown(stand_in)

    clock.advance(10)
    assert ["new", "old", "old"] == shown(stand_in)
    clock.advance(LAG - 0.001)
    assert ["new", "old", "old"] == shown(stand_in)
    clock.advance(0.001)
    assert ["new", "new", "old"] == shown(stand_in)
    clock.advance(LAG)
    assert ["new", "new", "new"] == shown(stand_in)


def test_stale_edge_never_follows(stand_in: QiniuService, client: Client, clock: Clock) -> None:
    """A stale edge presents its old certificate, even deleted, until it looks again."""
    old = begin(stand_in, client)
    stand_in.edges[0].stale = True
    clock.advance(3600)
    assert ["old", "new", "new"] == shown(stand_in)

    assert OK == code(client.delete(old))
    assert ["gone", "new", "new"] == shown(stand_in)
    assert stand_in.edges[0].stale
    stand_in.edges[0].stale = False
    assert ["new", "new", "new"] == shown(stand_in)


def test_edge_that_is_down_refuses_connections(stand_in: QiniuService) -> None:
    """Other edges go on, and the port stays reserved until the edge is up again."""
    stand_in.add_domain(WWW, https=calls.seed(stand_in, [WWW], "old"))
    edge, port = stand_in.edges[1], stand_in.edges.port
    shake_hands(edge, WWW)
    edge.down = True

    assert edge.down
    with pytest.raises(ConnectionRefusedError):
        shake_hands(edge, WWW)
    with contextlib.closing(socket.socket()) as intruder:
        intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            intruder.bind((edge.address, port))
    shake_hands(stand_in.edges[0], WWW)
    edge.down = True
    edge.down = False
    assert (False, port) == (edge.down, edge.port)
    assert ["old", "old", "old"] == shown(stand_in)


def test_wrong_chain_does_not_verify(stand_in: QiniuService) -> None:
    """The edge sends the leaf alone: a client with the root cannot build the chain, but sees the
    right leaf.
    """
    issued = issue(WWW, start=authority().root.not_valid_before_utc, days=36000)
    stand_in.add_domain(WWW, https=stand_in.add_certificate(issued, "good"))
    edge = stand_in.edges[0]
    edge.wrong_chain = True

    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(edge, WWW, trust=authority().root_pem)
    assert issued.fingerprint == shake_hands(edge, WWW)
    edge.wrong_chain = False
    assert issued.fingerprint == shake_hands(edge, WWW, trust=authority().root_pem)


@pytest.mark.parametrize("name", ["unknown.example.com", "http.example.com", None])
def test_name_without_certificate_gets_an_alert(stand_in: QiniuService, name: str | None) -> None:
    """An unknown name, an HTTP-only domain and a missing name give unrecognized_name."""
    stand_in.add_domain("http.example.com")

    with pytest.raises(ssl.SSLError, match=UNRECOGNIZED_NAME):
        shake_hands(stand_in.edges[0], name)


def test_wildcard_domain_answers_for_names_below(stand_in: QiniuService) -> None:
    """Names under `.example.com` are served, a pan child among them; a domain of its own goes
    first.
    """
    wildcard = calls.seed(stand_in, ["*.example.com"], "wildcard")
    stand_in.add_domain(".example.com", https=wildcard)
    stand_in.add_domain("pan.example.com", type="pan", parent=".example.com")
    stand_in.add_domain(WWW, https=calls.seed(stand_in, [WWW], "own"))

    assert {"wildcard"} == set(shown(stand_in, "img.example.com"))
    assert {"wildcard"} == set(shown(stand_in, "pan.example.com"))
    assert {"own"} == set(shown(stand_in))
    with pytest.raises(ssl.SSLError, match=UNRECOGNIZED_NAME):
        shake_hands(stand_in.edges[0], "example.com")


def test_stop_ends_idle_connections_at_once(clock: Clock) -> None:
    """Clients that stall at any point of a connection neither delay the end nor leave a socket."""
    stand_in = calls.service(clock).start()
    stand_in.add_domain(WWW, https=calls.seed(stand_in, [WWW]))
    edge = stand_in.edges[0]
    silent = socket.create_connection((edge.address, edge.port), timeout=5)
    half_way = socket.create_connection((edge.address, edge.port), timeout=5)
    half_way.sendall(b"\x16\x03\x01")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Accepted last, so that the edge has accepted the others as well.
    connected = context.wrap_socket(
        socket.create_connection((edge.address, edge.port), timeout=5), server_hostname=WWW
    )

    started = time.monotonic()
    stand_in.stop()
    for connection in (silent, half_way, connected):
        with contextlib.closing(connection), contextlib.suppress(ConnectionError):
            assert b"" == connection.recv(1)
    assert time.monotonic() - started < 2  # the edge's own timeout is five seconds
    with pytest.raises(RuntimeError, match="not running"):
        _ = stand_in.edges.port
    gc.collect()  # a leaked socket would warn here, and warnings are errors


def test_given_port_is_taken_or_refused(clock: Clock) -> None:
    """A given port is used; if any address has the port in use, the start fails cleanly."""
    with calls.service(clock, edge_lags={"127.0.0.3": timedelta(0)}) as holder:
        port = holder.edges.port
        unlucky = calls.service(clock, edge_lags=LAGS, edge_port=port)
        with pytest.raises(OSError, match="in use"):
            unlucky.start()
        with pytest.raises(RuntimeError, match="not running"):
            _ = unlucky.api_url
    with calls.service(clock, edge_lags=LAGS, edge_port=port) as lucky:
        assert port == lucky.edges.port
