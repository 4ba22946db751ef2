"""What is wrong at an edge, in our words: real handshakes with chains and servers of every kind."""

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
from certferry.core.discovery.watched import Host
from certferry.core.observed.observation import Served
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.zones import Zones
from tests.adapters.probe.edge import serving
from tests.adapters.probe.made_chains import Ca, Made, made
from tests.adapters.probe.odd_edge import FAR_END, replacing

HOST = "img.example.com"
NOW = datetime.now(UTC).replace(microsecond=0)  # handshakes are judged by it, and nothing waits
DAY = timedelta(days=1)
CA = Ca("Example", NOW)
OTHER = Ca("(STAGING) Pretend", NOW)
PAST = Ca("Past", NOW, intermediate_ends=-10 * DAY)
MENDED = Ca("Mended", NOW)


class Looking:
    """A zone whose names point at loopback, and a probe that trusts two roots."""

    def __init__(self, zones: Zones, dns: DnsService, folder: Path) -> None:
        self.zones = zones
        self.dns = dns
        self.roots = folder / "roots.pem"
        self.roots.write_text(
            "".join(
                certificate_pem(one.certificate)
                for one in (CA.root, PAST.root, MENDED.root, MENDED.intermediate)
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
def looking(tmp_path: Path) -> Iterator[Looking]:
    """A resolver for `example.com`."""
    zones = Zones()
    servers = [NameServer(zones, "ns1.example.com", "127.0.0.2")]
    zones.add_zone("example.com", ["ns1.example.com"])
    with DnsService(zones, servers, Resolver(zones, servers, "127.0.0.1")) as dns:
        yield Looking(zones, dns, tmp_path)


def expired_copy(ca: Ca) -> Made:
    """A CA's intermediate as it stood in chains before it was renewed with the same key."""
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


def self_signed() -> str:
    """A certificate of no CA."""
    return made(HOST, NOW - DAY, NOW + DAY, hosts=[HOST]).pem()


CHAINS: dict[str, tuple[Callable[[], str], EdgeProblemCode, str]] = {
    "expired": (
        lambda: CA.leaf(HOST, left=-10 * DAY - timedelta(hours=1)).pem(CA.intermediate),
        EdgeProblemCode.EXPIRED,
        "the certificate expired 10 days ago",
    ),
    "expired, and of another name, and without issuers": (
        lambda: CA.leaf("other.example.org", left=-10 * DAY).pem(),
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
    "self-signed": (self_signed, EdgeProblemCode.SELF_SIGNED, "the certificate is self-signed"),
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
def test_a_chain_that_clients_refuse_is_reported_in_our_words(
    looking: Looking, tmp_path: Path, kind: str
) -> None:
    """Each fault has its code, its sentence and advice; the plainest is reported first."""
    pem, code, message = CHAINS[kind]

    with serving(pem(), tmp_path) as place:
        (seen,) = looking.look(place)

    assert seen.problem is not None
    assert (code, message) == (seen.problem.code, str(seen.problem.message))
    assert seen.problem.hint is not None
    assert seen.answered
    assert not seen.valid


def test_a_chain_that_clients_accept_shows_itself(looking: Looking, tmp_path: Path) -> None:
    """Names, issuer, dates and fingerprints of what is presented, leaf first, in its order."""
    leaf = CA.leaf("IMG.example.com", "192.0.2.1")

    with serving(leaf.pem(CA.root, CA.intermediate), tmp_path) as place:
        (seen,) = looking.look(place)

    assert seen.valid
    assert seen.problem is None
    assert ("Example E7", ("img.example.com", "192.0.2.1")) == (
        seen.chain[0].issuer,
        seen.chain[0].names,
    )
    assert ["IMG.example.com", "Example Root", "Example E7"] == [one.subject for one in seen.chain]
    assert (seen.fingerprint, seen.not_after) == (seen.chain[0].fingerprint, NOW + 60 * DAY)


def test_an_expired_issuer_beside_a_valid_one_is_no_matter(
    looking: Looking, tmp_path: Path
) -> None:
    """Clients find their way by the valid one; so they do behind what signed the leaf."""
    chain = MENDED.leaf(HOST).pem(expired_copy(MENDED), MENDED.intermediate)

    with serving(chain, tmp_path) as place:
        (seen,) = looking.look(place)

    assert seen.valid


def test_long_chains_are_read_no_further_than_needed(looking: Looking, tmp_path: Path) -> None:
    """A hostile edge presents a hundred issuers of the same name: the answer comes all the same."""
    crowd = [
        made("Example E7", NOW - DAY, NOW + DAY, issuer=OTHER.root, is_ca=True) for _ in range(40)
    ]

    with serving(CA.leaf(HOST).pem(*crowd), tmp_path) as place:
        (seen,) = looking.look(place)

    assert seen.problem is not None
    assert EdgeProblemCode.CHAIN_INCOMPLETE is seen.problem.code
    assert len(seen.chain) < len(crowd)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_looked_at_itself(looking: Looking, tmp_path: Path, host: str) -> None:
    """No resolver is asked, and the certificate has to name the address."""
    must_have(host)
    named, other = CA.leaf(host, HOST), CA.leaf(HOST)

    with serving(named.pem(CA.intermediate), tmp_path, host) as place:
        (right,) = looking.look(place, host)
    with serving(other.pem(CA.intermediate), tmp_path, host) as place:
        (wrong,) = looking.look(place, host)

    assert (True, host) == (right.valid, right.address)
    assert wrong.problem is not None
    assert EdgeProblemCode.NAME_NOT_COVERED is wrong.problem.code


def test_ipv6_addresses_are_looked_at_too(looking: Looking, tmp_path: Path) -> None:
    """A and AAAA, each with its own handshake: here only IPv6 has the right certificate."""
    must_have("::1")
    good, bad = CA.leaf(HOST), CA.leaf("other.example.org")
    (tmp_path / "bad").mkdir()

    with serving(good.pem(CA.intermediate), tmp_path, "::1") as (_, port):
        looking.zones.seed(HOST, "A", "127.0.61.1")
        with serving(bad.pem(CA.intermediate), tmp_path / "bad", "127.0.61.1", port):
            seen = looking.look(("::1", port))

    assert {"::1": True, "127.0.61.1": False} == {one.address: one.valid for one in seen}


def must_have(address: str) -> None:
    """Skip where this machine has no such address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.create_server((address, 0), family=family):
            pass
    except OSError:
        pytest.skip(f"this host has no {address}")


@contextmanager
def answering(answer: bytes, *, abruptly: bool = False) -> Iterator[tuple[str, int]]:
    """Listen, say that to the first guest who has spoken, and close the connection."""

    def host() -> None:
        guest, _ = server.accept()
        with guest:
            if abruptly:
                # RST instead of FIN (socket(7), SO_LINGER)
                linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            guest.recv(4096)
            with suppress(OSError):
                guest.sendall(answer)

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
def test_a_handshake_that_fails_is_reported_in_our_words(looking: Looking, kind: str) -> None:
    """What the address said instead, without the TLS library's words."""
    answer, code, message, silent = ANSWERS[kind]

    with answering(answer) as place:
        (seen,) = looking.look(place)

    assert seen.problem is not None
    assert (code, message, silent) == (seen.problem.code, str(seen.problem.message), seen.silent)
    assert seen.problem.hint is not None


def test_a_connection_that_is_reset_is_reported(looking: Looking) -> None:
    """A firewall does that to names that it does not like; the address itself said nothing."""
    with answering(b"", abruptly=True) as place:
        (seen,) = looking.look(place)

    assert seen.problem is not None
    assert (EdgeProblemCode.CLOSED, True) == (seen.problem.code, seen.silent)


def test_a_port_that_is_closed_is_reported(looking: Looking) -> None:
    """Nothing listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()

    (seen,) = looking.look(place)

    assert seen.problem is not None
    assert (EdgeProblemCode.REFUSED, True) == (seen.problem.code, seen.silent)


def test_an_address_that_keeps_silent_is_reported() -> None:
    """The connection is taken, and nothing is said."""
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
def test_what_the_system_says_of_a_connection_is_distinguished(
    number: int,
    address: str,
    code: EdgeProblemCode,
    silent: bool,  # noqa: FBT001 - pytest names it
) -> None:
    """What this machine lacks says nothing about the address; a network without a way there is no
    IPv6 only where the address is one.
    """
    reported = not_connected(OSError(number, os.strerror(number)), address)

    assert (code, silent) == (reported.problem.code, reported.silent)
    assert reported.problem.hint is not None


def test_a_handshake_that_fails_on_our_side_names_no_alert() -> None:
    """OpenSSL's own word for it is for its developers."""
    error = ssl.SSLError(1, "[SSL: BAD_SIGNATURE] bad signature (_ssl.c:1000)")
    error.reason = "BAD_SIGNATURE"

    reported = refused_handshake(error)

    assert EdgeProblemCode.HANDSHAKE_FAILED is reported.problem.code
    assert "the handshake failed" == str(reported)


def test_what_cannot_be_read_of_a_valid_chain_changes_no_judgement(
    looking: Looking, tmp_path: Path
) -> None:
    """An issuer that is not needed ends on no day of a calendar: no browser looks at it."""
    needless = made("Odd", NOW - DAY, FAR_END, is_ca=True).certificate
    der = replacing(b"20550101000000Z", b"00000101000000Z")(needless.public_bytes(Encoding.DER))
    pem = CA.leaf(HOST).pem(CA.intermediate)
    end = pem.rindex("-----BEGIN PRIVATE KEY")

    with serving(pem[:end] + ssl.DER_cert_to_PEM_cert(der) + pem[end:], tmp_path) as place:
        (seen,) = looking.look(place)

    assert (True, None, ()) == (seen.valid, seen.problem, seen.chain)
    assert NOW + 60 * DAY == seen.not_after


def test_names_that_have_no_address_are_distinguished(looking: Looking) -> None:
    """Not in DNS, and in DNS without an address."""
    looking.zones.seed("empty.example.com", "TXT", "no address here")

    (missing,) = looking.look(("", 443), "nowhere.example.com")
    (empty,) = looking.look(("", 443), "empty.example.com")

    assert missing.problem is not None
    assert empty.problem is not None
    assert [EdgeProblemCode.NOT_IN_DNS, EdgeProblemCode.NO_ADDRESS] == [
        missing.problem.code,
        empty.problem.code,
    ]


def test_hosts_have_their_own_ports(looking: Looking, tmp_path: Path) -> None:
    """The same name at two ports is two hosts."""
    (tmp_path / "second").mkdir()
    looking.zones.seed(HOST, "A", "127.0.0.1")
    first, second = CA.leaf(HOST), CA.leaf(HOST)

    with (
        serving(first.pem(CA.intermediate), tmp_path) as (_, one),
        serving(second.pem(CA.intermediate), tmp_path / "second") as (_, two),
    ):
        seen = looking.probe().served_by([Host(HOST, one), Host(HOST, two)])

    assert [fingerprint_of(first), fingerprint_of(second)] == [
        address.fingerprint for host in (one, two) for address in seen[Host(HOST, host)]
    ]


def fingerprint_of(leaf: Made) -> str:
    return leaf.certificate.fingerprint(hashes.SHA256()).hex()
