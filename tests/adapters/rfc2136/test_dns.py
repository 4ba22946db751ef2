"""Dynamic updates at a real BIND, and each failure of an update."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import dns.rcode
import pytest

from certferry.adapters.rfc2136.dns import Algorithm, Settings, connect
from certferry.core.discovery.inventory import FoundZone
from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    ZoneNotFound,
)
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.contracts.dns import OURS, THEIRS, VALUE
from tests.adapters.rfc2136.account import at, connected
from tests.adapters.rfc2136.scripted_server import Scripted, Turn, scripted
from tests.support.bind import KEY_NAME, LIMITED, SECRET, Bind
from tests.support.ports import HOST

NAME = "_acme-challenge.img.example.com"
LATEST = 5.0  # in seconds, with room for a busy machine
ALLOWED = "_acme-challenge.host.limited.example"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


def test_zone_is_the_longest_that_the_server_has(bind: Bind) -> None:
    """The server is asked for the zone of a name; a list of zones is unavailable."""
    assert FoundZone("example.com") == at(bind).zone_of(NAME)
    assert FoundZone("sub.example.com") == at(bind).zone_of("_acme-challenge.a.b.sub.example.com")
    assert at(bind).zones() is None


def test_record_goes_into_the_longest_zone(bind: Bind) -> None:
    """A record in the parent zone would be invisible to resolvers."""
    name = "_acme-challenge.sub.example.com"

    at(bind).add_txt(name, VALUE)

    assert [VALUE] == bind.values(name)
    assert at(bind).remove_txt(name, VALUE, None)


def test_delegated_name_is_reported(bind: Bind) -> None:
    """The server would accept the record, and resolvers would ask another server."""
    with pytest.raises(ZoneNotFound, match=r"delegates away\.example\.com") as reported:
        at(bind).add_txt("_acme-challenge.img.away.example.com", VALUE)

    assert "primary of away.example.com" in str(reported.value.hint)


def test_zones_may_be_declared(bind: Bind) -> None:
    """A name outside the declared zones is refused, and a declared zone that the server lacks is
    reported.
    """
    provider = at(bind, zones=("Sub.example.com.", "example.org"))

    here, missing = provider.zones() or ()
    assert FoundZone("sub.example.com") == here
    assert "not authoritative" in str(missing.problem)
    with pytest.raises(ZoneNotFound, match=NAME):
        provider.add_txt(NAME, VALUE)
    with pytest.raises(DnsRejected, match="not authoritative"):
        provider.add_txt("_acme-challenge.example.org", VALUE)
    with pytest.raises(DnsRejected, match=r"for xn--fsqu00a\.xn--fiqs8s"):
        at(bind, zones=("例子.中国",)).add_txt("_acme-challenge.xn--fsqu00a.xn--fiqs8s", VALUE)


def test_only_the_declared_zone_of_the_name_is_queried(server: Scripted) -> None:
    """A key for a hundred zones would otherwise send a hundred queries for each name."""
    queries = itertools.count()
    server.drops = lambda: next(queries) < 0
    zones = ("example.com", *(f"{number}.example.org" for number in range(9)))

    assert FoundZone("example.com") == connected(server.address, zones=zones).zone_of(NAME)
    assert 1 == next(queries)


def test_names_do_not_wait_for_one_another(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent server costs a run a single time-out for all its certificates."""
    together, addresses_of = threading.Barrier(2), socket.getaddrinfo

    def addresses_for_both(*args: Any, **kwargs: Any) -> Any:
        together.wait(20)
        return addresses_of(*args, **kwargs)

    provider = connected(server.address)
    monkeypatch.setattr(socket, "getaddrinfo", addresses_for_both)

    with ThreadPoolExecutor(2) as threads:
        names = (NAME, "_acme-challenge.www.example.com")
        removed = threads.map(lambda name: provider.remove_txt(name, VALUE, None), names)
        assert [False, False] == list(removed)


def test_other_records_keep_their_time_to_live(bind: Bind) -> None:
    """The values of a name share a time to live (RFC 2181 §5.2), and certferry leaves it
    unchanged.
    """
    bind.put("example.com", NAME, "TXT", THEIRS, ttl=7200)

    at(bind).add_txt(NAME, OURS)
    assert 7200 == bind.ttl(NAME)

    at(bind).remove_txt(NAME, OURS, OURS)
    assert [THEIRS] == bind.values(NAME)


def test_new_record_lives_for_a_minute(bind: Bind) -> None:
    """A record at an empty name has a time to live of a minute."""
    at(bind).add_txt(NAME, OURS)

    assert 60 == bind.ttl(NAME)


def test_cname_at_the_name_is_reported(bind: Bind) -> None:
    """BIND answers an update of a CNAME with NOERROR and ignores the update (RFC 2136 §3.4.2.2)."""
    bind.put("example.com", NAME, "CNAME", "elsewhere.example.net.")

    with pytest.raises(DnsRejected, match=r"CNAME to elsewhere\.example\.net"):
        at(bind).add_txt(NAME, VALUE)
    assert not at(bind).remove_txt(NAME, VALUE, None)


def test_key_may_be_limited_to_one_name(bind: Bind) -> None:
    """A refused change of another name has a hint about the policy."""
    provider = at(bind, key_name=LIMITED, algorithm=Algorithm.SHA512)

    handle = provider.add_txt(ALLOWED, VALUE)
    with pytest.raises(DnsAccessDenied, match="REFUSED") as reported:
        provider.add_txt("_acme-challenge.other.limited.example", VALUE)

    assert "update-policy" in str(reported.value.hint)
    assert provider.remove_txt(ALLOWED, VALUE, handle)
    assert [] == bind.values(ALLOWED)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"key_name": "unknown."}, "BADKEY"),
        ({"algorithm": Algorithm.SHA512}, "BADKEY"),
        ({"key_secret": Secret("MDEyMzQ1Njc4OWFiY2RlZg==")}, "BADSIG"),
    ],
)
def test_unknown_key_is_reported(bind: Bind, changed: dict[str, Any], code: str) -> None:
    """The hint names a program that shows the server's keys; the secret stays hidden."""
    with pytest.raises(DnsAccessDenied, match=f"{NAME}.*{code}") as reported:
        at(bind, **changed).add_txt(NAME, VALUE)

    assert "named-checkconf" in str(reported.value.hint)
    assert "MDEy" not in f"{reported.value} {reported.value.hint}"


@pytest.mark.parametrize("late", [timedelta(minutes=20), -timedelta(minutes=20)])
def test_wrong_clock_is_reported(
    bind: Bind, monkeypatch: pytest.MonkeyPatch, late: timedelta
) -> None:
    """The hint names the clock, and `clock_ahead` the difference. dnspython signs by the system's
    clock.
    """
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() - late.total_seconds())
    provider = at(bind, now=lambda: datetime.fromtimestamp(time.time(), UTC))

    with pytest.raises(DnsUnavailable, match="BADTIME") as reported:
        provider.add_txt(NAME, VALUE)
    ahead = provider.clock_ahead()

    assert "clocks" in str(reported.value.hint)
    assert ahead is not None
    assert abs(late - ahead) < timedelta(seconds=30)


def test_right_clock_is_reported(bind: Bind, server: Scripted) -> None:
    """The time comes from the signature; the clock of an unsigned answer is unknown."""
    ahead = at(bind).clock_ahead()
    server.signs = False

    assert ahead is not None
    assert abs(ahead) < timedelta(seconds=30)
    assert connected(server.address).clock_ahead() is None


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (dns.rcode.REFUSED, DnsAccessDenied, "primary"),
        (dns.rcode.NOTZONE, DnsRejected, "`zones`"),
        (dns.rcode.NOTIMP, DnsRejected, "dynamic updates"),
        (dns.rcode.FORMERR, DnsRejected, "dynamic updates"),
        (dns.rcode.SERVFAIL, DnsUnavailable, "journal"),
        (dns.rcode.YXDOMAIN, DnsRejected, "log"),
    ],
)
@pytest.mark.parametrize("signs", [True, False])
def test_refusal_of_an_update_says_what_to_do(
    server: Scripted, code: dns.rcode.Rcode, kind: type[DnsError], advice: str, *, signs: bool
) -> None:
    """The hint fits the code with and without a signature: a server may refuse before it reads the
    key.
    """
    server.update = code
    server.signs_updates = signs

    with pytest.raises(kind, match=f"{NAME}.*{dns.rcode.to_text(code)}") as reported:
        connected(server.address).add_txt(NAME, VALUE)

    assert advice in str(reported.value.hint)


def test_secondary_server_is_reported(server: Scripted) -> None:
    """The signed answer proves the key, so the error names the zone's primary."""
    server.update = dns.rcode.NOTAUTH

    with pytest.raises(ZoneNotFound, match=f"{NAME}.*NOTAUTH") as reported:
        connected(server.address).add_txt(NAME, VALUE)

    assert "primary of the zone" in str(reported.value.hint)


@pytest.mark.parametrize("to", ["question", "update"])
def test_refusal_without_a_signature_is_of_the_key(server: Scripted, to: str) -> None:
    """Knot and PowerDNS answer NOTAUTH in cases of BIND's BADKEY, BADSIG and BADTIME."""
    setattr(server, to, dns.rcode.NOTAUTH)
    server.signs, server.signs_updates = to == "update", False

    with pytest.raises(DnsAccessDenied, match=f"{NAME}.*{KEY_NAME}.*NOTAUTH") as reported:
        connected(server.address).add_txt(NAME, VALUE)

    assert "`key_secret`" in str(reported.value.hint)
    assert "clock" in str(reported.value.hint)


def test_ignored_update_is_reported(server: Scripted) -> None:
    """An accepted update is read back."""
    with pytest.raises(DnsUnavailable, match=f"{NAME}.*does not show it"):
        connected(server.address).add_txt(NAME, VALUE)


@pytest.mark.parametrize(
    ("code", "kind"), [(dns.rcode.SERVFAIL, DnsUnavailable), (dns.rcode.FORMERR, DnsRejected)]
)
def test_failed_search_for_the_zone_is_reported(
    server: Scripted, code: dns.rcode.Rcode, kind: type[DnsError]
) -> None:
    """The parent zone is no substitute: the zone itself may exist."""
    server.question = code

    with pytest.raises(kind, match=dns.rcode.to_text(code)):
        connected(server.address).add_txt(NAME, VALUE)


def test_unreadable_records_are_reported(server: Scripted) -> None:
    """Reading records may need a permission of its own."""
    provider = connected(server.address)
    provider.remove_txt(NAME, VALUE, None)
    server.question = dns.rcode.REFUSED

    with pytest.raises(DnsAccessDenied, match="REFUSED"):
        provider.remove_txt(NAME, VALUE, None)


@pytest.mark.parametrize("signed", ["neither", "with another key"])
def test_answer_without_our_signature_is_not_trusted(server: Scripted, signed: str) -> None:
    """Any machine on the path could have sent the answer."""
    if signed == "neither":
        server.signs = False
    else:
        server.turn = lambda wire: wire[:-7] + bytes([wire[-7] ^ 1]) + wire[-6:]

    with pytest.raises(DnsUnavailable, match="lacks the signature"):
        connected(server.address).add_txt(NAME, VALUE)


def test_absence_without_our_signature_is_not_trusted(server: Scripted) -> None:
    """A forged answer would leave a record in the zone that certferry takes for removed."""
    server.signs, server.question = False, dns.rcode.NXDOMAIN

    with pytest.raises(DnsUnavailable, match="lacks the signature"):
        connected(server.address).remove_txt(NAME, VALUE, None)


@pytest.mark.parametrize("turn", [lambda wire: wire[:20], lambda wire: b"\0\0" + wire[2:]])
def test_unreadable_answer_is_reported(server: Scripted, turn: Turn) -> None:
    """The answer is cut short or belongs to another question."""
    server.turn = turn

    with pytest.raises(DnsUnavailable, match=r"unreadable answer|another question"):
        connected(server.address).add_txt(NAME, VALUE)
    with pytest.raises(DnsUnavailable, match=r"unreadable answer|another question"):
        connected(server.address).clock_ahead()


def test_silent_server_is_reported() -> None:
    """The error comes after the time-out and a second try."""
    with socket.create_server((HOST, 0)) as silent:
        address = f"{HOST}:{silent.getsockname()[1]}"
        with pytest.raises(DnsUnavailable, match=f"{NAME}.*{address}.*no answer") as reported:
            connected(address, timeout=timedelta(seconds=0.1)).add_txt(NAME, VALUE)

    assert "TCP" in str(reported.value.hint)


def test_slow_answer_ends_in_time_although_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that sends single bytes holds an exchange until the time-out, which a monotonic
    clock measures.
    """
    readings = itertools.count(time.time(), -600)
    with socket.create_server((HOST, 0)) as listener, ThreadPoolExecutor() as threads:
        threads.submit(_drip, listener)
        address = f"{HOST}:{listener.getsockname()[1]}"
        monkeypatch.setattr(time, "time", lambda: next(readings))
        begun = time.monotonic()
        with pytest.raises(DnsUnavailable, match="no answer"):
            connected(address, timeout=timedelta(seconds=0.3)).add_txt(NAME, VALUE)
        lasted = time.monotonic() - begun

    assert lasted < LATEST


def _drip(listener: socket.socket) -> None:
    """Announce an answer of 1,000 bytes to two clients; send a byte every 50 ms."""
    for _ in range(2):
        client, _address = listener.accept()
        with client, suppress(OSError):
            client.settimeout(0.05)
            client.sendall(struct.pack("!H", 1000))
            while True:
                try:
                    if not client.recv(512):
                        break
                except TimeoutError:
                    client.sendall(b"\0")


def test_many_silent_addresses_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All addresses together get three times the time-out: another operator's DNS chooses their
    number.
    """
    with socket.create_server((HOST, 0), backlog=0) as full, ExitStack() as waiting:
        # Linux drops connection attempts while the queue is full (listen(2)), without an answer.
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(full.getsockname())
        place = (socket.AF_INET, socket.SOCK_STREAM, 0, "", full.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place] * 400)
        begun = time.monotonic()
        with pytest.raises(DnsUnavailable, match="no answer"):
            connected("ns.example.com", timeout=timedelta(seconds=0.1)).zone_of(NAME)

    assert time.monotonic() - begun < LATEST


def test_refused_connection_is_reported() -> None:
    """The error quotes the system."""
    with socket.create_server((HOST, 0)) as closed:
        address = f"{HOST}:{closed.getsockname()[1]}"

    with pytest.raises(DnsUnavailable, match=f"{address}.*refused"):
        connected(address).add_txt(NAME, VALUE)


def test_closed_connection_is_reported(server: Scripted) -> None:
    """The error comes after a second try."""
    server.drops = lambda: True

    with pytest.raises(DnsUnavailable, match="closed before an answer"):
        connected(server.address).add_txt(NAME, VALUE)


def test_update_is_repeated_after_a_lost_answer(server: Scripted) -> None:
    """An update is safe to repeat, because it states the wanted records."""
    lost = iter([True])
    server.drops = lambda: next(lost, False)

    assert not connected(server.address).remove_txt(NAME, VALUE, None)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("", "not a name server"),
        ("https://ns.example.com", "not a name server"),
        ("ns.example.com:domain", "not a name server"),
        ("ns.example.com:70000", "not a name server"),
        ("[::1", "not a name server"),
        ("ns..example.com", "not a name server"),
        (f"{'n' * 64}.example.com", "not a name server"),
    ],
)
def test_invalid_server_is_reported(server: str, message: str) -> None:
    """The error comes before any query."""
    with pytest.raises(ConfigError, match=message) as reported:
        connected(server)

    assert "192.0.2.1:53" in str(reported.value.hint)


@pytest.mark.parametrize(
    "server", ["ns1.example.com", "192.0.2.1:5353", "::1", "[::1]:53", "[::1]"]
)
def test_valid_servers(server: str) -> None:
    """A name or an address, with or without a port, possibly from the environment."""
    connected(server)
    connect(Settings(Secret(server), Secret(KEY_NAME), Secret(SECRET)), connected_with())


@pytest.mark.parametrize("name", ["", ".", 'key "certferry."', "a..b"])
def test_invalid_key_name_is_reported(name: str) -> None:
    """The error comes before any query."""
    with pytest.raises(ConfigError, match="`key_name`"):
        connected(HOST, key_name=name)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ('key "certferry." { algorithm hmac-sha256; secret "c2VjcmV0"; };', "whole key statement"),
        ("hmac-sha256:certferry.:c2VjcmV0", "nsupdate -y"),
        ("certferry:c2VjcmV0", "nsupdate -y"),
        ("certferry. IN KEY 512 3 165 c2VjcmV0", "DNSSEC"),
        ("not base64!", "not base64"),
        ("c2VjcmV0c", "not base64"),
        ("", "empty"),
    ],
)
def test_invalid_secret_is_explained(secret: str, message: str) -> None:
    """The error recognises the pasted text, and leaves the secret out."""
    with pytest.raises(ConfigError, match=message) as reported:
        connected(HOST, key_secret=Secret(secret))

    assert reported.value.hint is not None
    assert "c2VjcmV0" not in f"{reported.value} {reported.value.hint}"
