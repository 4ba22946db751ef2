"""Problems at an edge: real handshakes with chains and servers of every kind."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certferry.adapters.probe.tls import (
    NoHandshake,
    TlsProbe,
    not_connected,
    refused_handshake,
    served_chain,
)
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.certificates.pem import certificate_pem
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.zones import Zones
from tests.adapters.probe.edge import serving
from tests.adapters.probe.made_chains import Ca, Made, made
from tests.adapters.probe.odd_edge import FAR_END, replacing

HOST = "img.example.com"
NOW = datetime.now(UTC).replace(
    microsecond=0
)  # the time of every check, which takes place without waits
DAY = timedelta(days=1)
CA = Ca("Example", NOW)
OTHER = Ca("(STAGING) Pretend", NOW)
PAST = Ca("Past", NOW, intermediate_ends=-10 * DAY)
MENDED = Ca("Mended", NOW)


class Observer:
    """A zone whose names point at loopback, and a probe that trusts several roots."""

    def __init__(self, zones: Zones, dns: DnsService, folder: Path) -> None:
        self.zones = zones
        self.dns = dns
        self.roots = folder / "roots.pem"
        self.roots.write_text(
            "".join(
                certificate_pem(made.certificate)
                for made in (CA.root, PAST.root, MENDED.root, MENDED.intermediate)
            )
        )

    def look(self, place: tuple[str, int], host: str = HOST) -> tuple[Served, ...]:
        address, port = place
        if host == HOST:
            self.zones.seed(host, "AAAA" if ":" in address else "A", address)
        return self.probe().served_by([Host(host, port)])[Host(host, port)]

    def probe(self) -> TlsProbe:
        resolvers = [(self.dns.resolver.address, self.dns.port)]
        return TlsProbe(resolvers, lambda: NOW, pause=lambda _: None, ca_bundle=self.roots)


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[Observer]:
    """A resolver for `example.com`."""
    zones = Zones()
    servers = [NameServer(zones, "ns1.example.com", "127.0.0.2")]
    zones.add_zone("example.com", ["ns1.example.com"])
    with DnsService(zones, servers, Resolver(zones, servers, "127.0.0.1")) as dns:
        yield Observer(zones, dns, tmp_path)


def expired_copy(ca: Ca) -> Made:
    """Return a CA's intermediate from before its renewal with the same key."""
    return made(
        "Mended E7",
        NOW - 400 * DAY,
        NOW - 10 * DAY,
        issuer=ca.root,
        is_ca=True,
        key=ca.intermediate.key,
    )


def without_server_key_usage() -> str:
    return CA.leaf(HOST, for_servers=False).pem(CA.intermediate)


def self_signed_leaf() -> str:
    """Return the PEM text of a certificate without a CA."""
    return made(HOST, NOW - DAY, NOW + DAY, hosts=[HOST]).pem()


CHAINS: dict[str, tuple[Callable[[], str], EdgeProblemCode, str]] = {
    "expired": (
        lambda: CA.leaf(HOST, remaining=-10 * DAY - timedelta(hours=1)).pem(CA.intermediate),
        EdgeProblemCode.EXPIRED,
        "the certificate expired 10 days ago",
    ),
    "expired, and of another name, and without issuers": (
        lambda: CA.leaf("other.example.org", remaining=-10 * DAY).pem(),
        EdgeProblemCode.EXPIRED,
        "the certificate expired 10 days ago",
    ),
    "not yet valid": (
        lambda: CA.leaf(HOST, age=-2 * DAY).pem(CA.intermediate),
        EdgeProblemCode.NOT_YET_VALID,
        f"the certificate is valid only from {NOW + 2 * DAY:%Y-%m-%d %H:%M} UTC",
    ),
    "another name": (
        lambda: CA.leaf("other.example.org", "*.img.example.com").pem(CA.intermediate),
        EdgeProblemCode.NAME_NOT_COVERED,
        "the certificate is for other.example.org, *.img.example.com",
    ),
    "many other names": (
        lambda: CA.leaf("a.example.org", "b.example.org", "c.example.org", "d.example.org").pem(),
        EdgeProblemCode.NAME_NOT_COVERED,
        "the certificate is for a.example.org, b.example.org, c.example.org, and 1 more",
    ),
    "no name": (
        lambda: CA.leaf().pem(CA.intermediate),
        EdgeProblemCode.NAME_NOT_COVERED,
        "the certificate contains no host name",
    ),
    "self-signed": (
        self_signed_leaf,
        EdgeProblemCode.SELF_SIGNED,
        "the certificate is self-signed",
    ),
    "no issuer": (
        lambda: CA.leaf(HOST).pem(),
        EdgeProblemCode.CHAIN_INCOMPLETE,
        "the chain lacks the issuer Example E7",
    ),
    "issuer of another chain": (
        lambda: CA.leaf(HOST).pem(OTHER.intermediate),
        EdgeProblemCode.CHAIN_INCOMPLETE,
        "the chain lacks the issuer Example E7",
    ),
    "staging": (
        lambda: OTHER.leaf(HOST).pem(OTHER.intermediate),
        EdgeProblemCode.UNTRUSTED_ISSUER,
        "the issuer (STAGING) Pretend Root is not trusted (a staging CA?)",
    ),
    "staging, with its root, in another order": (
        lambda: OTHER.leaf(HOST).pem(OTHER.root, OTHER.intermediate),
        EdgeProblemCode.UNTRUSTED_ISSUER,
        "the issuer (STAGING) Pretend Root is not trusted (a staging CA?)",
    ),
    "expired issuer": (
        lambda: PAST.leaf(HOST).pem(PAST.intermediate),
        EdgeProblemCode.ISSUER_EXPIRED,
        "the issuer Past E7 expired 10 days ago",
    ),
    "expired issuer, of which this machine trusts a newer one": (
        lambda: MENDED.leaf(HOST).pem(expired_copy(MENDED)),
        EdgeProblemCode.ISSUER_EXPIRED,
        "the issuer Mended E7 expired 10 days ago",
    ),
    "not for servers": (
        without_server_key_usage,
        EdgeProblemCode.NOT_ACCEPTED,
        "clients do not accept the certificate: its key, signature or extensions",
    ),
}


@pytest.mark.parametrize("kind", CHAINS)
def test_refused_chain_is_reported(observer: Observer, tmp_path: Path, kind: str) -> None:
    """Each fault has a code, a message and advice; the plainest fault is reported first."""
    pem, code, message = CHAINS[kind]

    with serving(pem(), tmp_path) as place:
        (served,) = observer.look(place)

    assert served.problem is not None
    assert (code, message) == (served.problem.code, str(served.problem.message))
    assert served.problem.hint is not None
    assert served.answered
    assert not served.valid


def test_accepted_chain_is_described(observer: Observer, tmp_path: Path) -> None:
    """Names, issuer, dates and fingerprints are those of the presented chain, in its order."""
    leaf = CA.leaf("IMG.example.com", "192.0.2.1")

    with serving(leaf.pem(CA.root, CA.intermediate), tmp_path) as place:
        (served,) = observer.look(place)

    assert served.valid
    assert served.problem is None
    assert ("Example E7", ("img.example.com", "192.0.2.1")) == (
        served.chain[0].issuer,
        served.chain[0].names,
    )
    assert ["IMG.example.com", "Example Root", "Example E7"] == [
        certificate.subject for certificate in served.chain
    ]
    assert (served.fingerprint, served.not_after) == (served.chain[0].fingerprint, NOW + 60 * DAY)


def test_expired_issuer_beside_a_valid_issuer_is_accepted(
    observer: Observer, tmp_path: Path
) -> None:
    """Clients build the path over the valid issuer."""
    chain = MENDED.leaf(HOST).pem(expired_copy(MENDED), MENDED.intermediate)

    with serving(chain, tmp_path) as place:
        (served,) = observer.look(place)

    assert served.valid


def test_reading_of_long_chains_is_limited(observer: Observer, tmp_path: Path) -> None:
    """A hostile edge may present many issuers of the same name, and the check still ends."""
    issuers = [
        made("Example E7", NOW - DAY, NOW + DAY, issuer=OTHER.root, is_ca=True) for _ in range(40)
    ]

    with serving(CA.leaf(HOST).pem(*issuers), tmp_path) as place:
        (served,) = observer.look(place)

    assert served.problem is not None
    assert EdgeProblemCode.CHAIN_INCOMPLETE is served.problem.code
    assert len(served.chain) < len(issuers)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_as_host(observer: Observer, tmp_path: Path, host: str) -> None:
    """An address needs no resolver, and the certificate has to contain the address."""
    must_have(host)
    named, other = CA.leaf(host, HOST), CA.leaf(HOST)

    with serving(named.pem(CA.intermediate), tmp_path, host) as place:
        (right,) = observer.look(place, host)
    with serving(other.pem(CA.intermediate), tmp_path, host) as place:
        (wrong,) = observer.look(place, host)

    assert (True, host) == (right.valid, right.address)
    assert wrong.problem is not None
    assert EdgeProblemCode.NAME_NOT_COVERED is wrong.problem.code


def test_ipv4_and_ipv6_addresses_are_checked(observer: Observer, tmp_path: Path) -> None:
    """Each A and AAAA record gets its own handshake; only the IPv6 address is right here."""
    must_have("::1")
    good, bad = CA.leaf(HOST), CA.leaf("other.example.org")
    (tmp_path / "bad").mkdir()

    with serving(good.pem(CA.intermediate), tmp_path, "::1") as (_, port):
        observer.zones.seed(HOST, "A", "127.0.61.1")
        with serving(bad.pem(CA.intermediate), tmp_path / "bad", "127.0.61.1", port):
            served = observer.look(("::1", port))

    assert {"::1": True, "127.0.61.1": False} == {entry.address: entry.valid for entry in served}


def must_have(address: str) -> None:
    """Skip the test on a machine without the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.create_server((address, 0), family=family):
            pass
    except OSError:
        pytest.skip(f"this host has no {address}")


@contextmanager
def answering(answer: bytes, *, abruptly: bool = False) -> Iterator[tuple[str, int]]:
    """Listen, send an answer to the first client that has spoken, and close the connection."""

    def host() -> None:
        connection, _ = server.accept()
        with connection:
            if abruptly:
                # RST instead of FIN (socket(7), SO_LINGER)
                linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.recv(4096)
            with suppress(OSError):
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        thread = threading.Thread(target=host)
        thread.start()
        try:
            yield server.getsockname()
        finally:
            thread.join()


ALERT_INTERNAL_ERROR = bytes([21, 3, 3, 0, 2, 2, 80])  # RFC 8446 §6: fatal, internal_error
ALERT_PROTOCOL_VERSION = bytes([21, 3, 3, 0, 2, 2, 70])

ANSWERS = {
    "HTTP": (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        EdgeProblemCode.NO_TLS,
        "the address does not speak TLS at the port",
        False,
    ),
    "an alert": (
        ALERT_INTERNAL_ERROR,
        EdgeProblemCode.HANDSHAKE_FAILED,
        "the handshake failed (TLS alert internal_error)",
        False,
    ),
    "an alert of versions": (
        ALERT_PROTOCOL_VERSION,
        EdgeProblemCode.OLD_TLS,
        "the handshake failed: the address offers only outdated TLS versions",
        False,
    ),
    "nothing": (
        b"",
        EdgeProblemCode.HANDSHAKE_FAILED,
        "the handshake failed: the address closed the connection",
        False,
    ),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_failed_handshake_is_reported(observer: Observer, kind: str) -> None:
    """The message describes the answer in certferry's words."""
    answer, code, message, silent = ANSWERS[kind]

    with answering(answer) as place:
        (served,) = observer.look(place)

    assert served.problem is not None
    assert (code, message, silent) == (
        served.problem.code,
        str(served.problem.message),
        served.silent,
    )
    assert served.problem.hint is not None


def test_reset_connection_is_reported(observer: Observer) -> None:
    """A firewall may reset connections to forbidden names, so the address counts as silent."""
    with answering(b"", abruptly=True) as place:
        (served,) = observer.look(place)

    assert served.problem is not None
    assert (EdgeProblemCode.CLOSED, True) == (served.problem.code, served.silent)


def test_closed_port_is_reported(observer: Observer) -> None:
    """The port has no listening server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()

    (served,) = observer.look(place)

    assert served.problem is not None
    assert (EdgeProblemCode.REFUSED, True) == (served.problem.code, served.silent)


def test_silent_address_is_reported() -> None:
    """The address accepts the connection and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address, port = server.getsockname()
        with pytest.raises(NoHandshake) as caught:
            served_chain(address, port, HOST, within=1)

    assert (EdgeProblemCode.TIMED_OUT, True) == (caught.value.problem.code, caught.value.silent)
    assert "no answer within 1 seconds" == str(caught.value)


@pytest.mark.parametrize(
    ("number", "address", "code", "silent"),
    [
        (errno.ENETUNREACH, "2001:db8::1", EdgeProblemCode.NO_IPV6, True),
        (errno.EADDRNOTAVAIL, "2001:db8::1", EdgeProblemCode.NO_IPV6, True),
        (errno.ENETUNREACH, "192.0.2.1", EdgeProblemCode.UNREACHABLE, True),
        (errno.EHOSTUNREACH, "2001:db8::1", EdgeProblemCode.UNREACHABLE, True),
        (errno.EMFILE, "192.0.2.1", EdgeProblemCode.NOT_ASKED, False),
        (errno.ECONNREFUSED, "192.0.2.1", EdgeProblemCode.REFUSED, True),
        (errno.EPIPE, "192.0.2.1", EdgeProblemCode.CLOSED, True),
    ],
)
def test_system_errors_of_a_connection_are_distinguished(
    number: int,
    address: str,
    code: EdgeProblemCode,
    silent: bool,  # noqa: FBT001 - pytest passes the argument by name
) -> None:
    """Errors of this host leave the address unjudged, and an unreachable network means a lack of
    IPv6 only for IPv6 addresses.
    """
    reported = not_connected(OSError(number, os.strerror(number)), address)

    assert (code, silent) == (reported.problem.code, reported.silent)
    assert reported.problem.hint is not None


def test_local_handshake_error_names_no_alert() -> None:
    """OpenSSL's own reason is meant for developers."""
    error = ssl.SSLError(1, "[SSL: BAD_SIGNATURE] bad signature (_ssl.c:1000)")
    error.reason = "BAD_SIGNATURE"

    reported = refused_handshake(error)

    assert EdgeProblemCode.HANDSHAKE_FAILED is reported.problem.code
    assert "the handshake failed" == str(reported)


def test_unreadable_extra_certificate_leaves_the_chain_valid(
    observer: Observer, tmp_path: Path
) -> None:
    """An unnecessary issuer with an impossible end is ignored, as in browsers."""
    needless = made("Odd", NOW - DAY, FAR_END, is_ca=True).certificate
    der = replacing(b"20550101000000Z", b"00000101000000Z")(needless.public_bytes(Encoding.DER))
    pem = CA.leaf(HOST).pem(CA.intermediate)
    end = pem.rindex("-----BEGIN PRIVATE KEY")

    with serving(pem[:end] + ssl.DER_cert_to_PEM_cert(der) + pem[end:], tmp_path) as place:
        (served,) = observer.look(place)

    assert (True, None, ()) == (served.valid, served.problem, served.chain)
    assert NOW + 60 * DAY == served.not_after


def test_missing_name_and_missing_address_are_distinguished(observer: Observer) -> None:
    """A name may be absent from DNS, or present without an address."""
    observer.zones.seed("empty.example.com", "TXT", "no address here")

    (missing,) = observer.look(("", 443), "nowhere.example.com")
    (empty,) = observer.look(("", 443), "empty.example.com")

    assert missing.problem is not None
    assert empty.problem is not None
    assert [EdgeProblemCode.NOT_IN_DNS, EdgeProblemCode.NO_ADDRESS] == [
        missing.problem.code,
        empty.problem.code,
    ]


def test_hosts_have_their_own_ports(observer: Observer, tmp_path: Path) -> None:
    """The same name at two ports counts as two hosts."""
    (tmp_path / "second").mkdir()
    observer.zones.seed(HOST, "A", "127.0.0.1")
    first, second = CA.leaf(HOST), CA.leaf(HOST)

    with (
        serving(first.pem(CA.intermediate), tmp_path) as (_, first_port),
        serving(second.pem(CA.intermediate), tmp_path / "second") as (_, second_port),
    ):
        served = observer.probe().served_by([Host(HOST, first_port), Host(HOST, second_port)])

    assert [fingerprint_of(first), fingerprint_of(second)] == [
        address.fingerprint
        for host in (first_port, second_port)
        for address in served[Host(HOST, host)]
    ]


def test_host_with_an_address_is_asked_there_alone(observer: Observer, tmp_path: Path) -> None:
    """The addresses in DNS are not asked; the certificate must still be valid for the name."""
    observer.zones.seed(HOST, "A", "127.0.0.9")
    right, wrong = CA.leaf(HOST), CA.leaf("other.example.com")
    (tmp_path / "second").mkdir()

    with (
        serving(right.pem(CA.intermediate), tmp_path) as (address, first_port),
        serving(wrong.pem(CA.intermediate), tmp_path / "second") as (_, second_port),
    ):
        hosts = [Host(HOST, port, address) for port in (first_port, second_port)]
        served = observer.probe().served_by(hosts)

    [here], [other] = (served[host] for host in hosts)
    assert (address, fingerprint_of(right), True) == (here.address, here.fingerprint, here.valid)
    assert (address, fingerprint_of(wrong), False) == (
        other.address,
        other.fingerprint,
        other.valid,
    )


def fingerprint_of(leaf: Made) -> str:
    return leaf.certificate.fingerprint(hashes.SHA256()).hex()
