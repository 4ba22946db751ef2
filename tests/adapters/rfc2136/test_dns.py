"""Dynamic updates at a real BIND, and what may go wrong with them."""

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
LATEST = 5.0  # seconds, with room for a busy machine
ALLOWED = "_acme-challenge.host.limited.example"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


def test_zone_is_the_longest_that_the_server_has(bind: Bind) -> None:
    """By its own word, without a list."""
    assert FoundZone("example.com") == at(bind).zone_of(NAME)
    assert FoundZone("sub.example.com") == at(bind).zone_of("_acme-challenge.a.b.sub.example.com")
    assert at(bind).zones() is None


def test_record_goes_into_the_longest_zone(bind: Bind) -> None:
    """What was put into the one above it would be seen by no resolver."""
    name = "_acme-challenge.sub.example.com"

    at(bind).add_txt(name, VALUE)

    assert [VALUE] == bind.values(name)
    assert at(bind).remove_txt(name, VALUE, None)


def test_name_that_is_delegated_away_is_reported(bind: Bind) -> None:
    """The server would take the record, and no resolver would see it."""
    with pytest.raises(ZoneNotFound, match=r"delegates away\.example\.com") as reported:
        at(bind).add_txt("_acme-challenge.img.away.example.com", VALUE)

    assert "primary of away.example.com" in str(reported.value.hint)


def test_zones_may_be_declared(bind: Bind) -> None:
    """Then no other is written into, and one that the server lacks is reported."""
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


def test_declared_zones_that_do_not_hold_the_name_are_not_asked_for(server: Scripted) -> None:
    """A key for a hundred zones would otherwise ask a hundred times for each name."""
    asked = itertools.count()
    server.drops = lambda: next(asked) < 0
    zones = ("example.com", *(f"{number}.example.org" for number in range(9)))

    assert FoundZone("example.com") == connected(server.address, zones=zones).zone_of(NAME)
    assert 1 == next(asked)


def test_names_do_not_wait_for_one_another(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is silent costs a run one time-out, and not one for each certificate."""
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
    """One name's values have one, and it is not ours to change (RFC 2181 §5.2)."""
    bind.put("example.com", NAME, "TXT", THEIRS, ttl=7200)

    at(bind).add_txt(NAME, OURS)
    assert 7200 == bind.ttl(NAME)

    at(bind).remove_txt(NAME, OURS, OURS)
    assert [THEIRS] == bind.values(NAME)


def test_record_of_ours_is_kept_for_a_minute(bind: Bind) -> None:
    """By resolvers, where nothing else is at the name."""
    at(bind).add_txt(NAME, OURS)

    assert 60 == bind.ttl(NAME)


def test_cname_at_the_name_is_reported(bind: Bind) -> None:
    """BIND says NOERROR to the update and ignores it (RFC 2136 §3.4.2.2)."""
    bind.put("example.com", NAME, "CNAME", "elsewhere.example.net.")

    with pytest.raises(DnsRejected, match=r"CNAME to elsewhere\.example\.net"):
        at(bind).add_txt(NAME, VALUE)
    assert not at(bind).remove_txt(NAME, VALUE, None)


def test_key_may_be_limited_to_one_name(bind: Bind) -> None:
    """What it may not change is reported with what to grant."""
    provider = at(bind, key_name=LIMITED, algorithm=Algorithm.SHA512)

    handle = provider.add_txt(ALLOWED, VALUE)
    with pytest.raises(DnsAccessDenied, match="REFUSED") as reported:
        provider.add_txt("_acme-challenge.other.limited.example", VALUE)

    assert "update-policy" in str(reported.value.hint)
    assert provider.remove_txt(ALLOWED, VALUE, handle)
    assert [] == bind.values(ALLOWED)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"key_name": "unknown."}, "BADKEY"),
        ({"algorithm": Algorithm.SHA512}, "BADKEY"),
        ({"key_secret": Secret("MDEyMzQ1Njc4OWFiY2RlZg==")}, "BADSIG"),
    ],
)
def test_key_that_is_not_the_servers_is_reported(
    bind: Bind, changed: dict[str, Any], said: str
) -> None:
    """With what to compare; the secret is not shown."""
    with pytest.raises(DnsAccessDenied, match=f"{NAME}.*{said}") as reported:
        at(bind, **changed).add_txt(NAME, VALUE)

    assert "named-checkconf" in str(reported.value.hint)
    assert "MDEy" not in f"{reported.value} {reported.value.hint}"


@pytest.mark.parametrize("late", [timedelta(minutes=20), -timedelta(minutes=20)])
def test_clock_that_is_wrong_is_reported(
    bind: Bind, monkeypatch: pytest.MonkeyPatch, late: timedelta
) -> None:
    """And how far, when it is asked for. dnspython signs by the system's clock."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() - late.total_seconds())
    provider = at(bind, now=lambda: datetime.fromtimestamp(time.time(), UTC))

    with pytest.raises(DnsUnavailable, match="BADTIME") as reported:
        provider.add_txt(NAME, VALUE)
    ahead = provider.clock_ahead()

    assert "clocks" in str(reported.value.hint)
    assert ahead is not None
    assert abs(late - ahead) < timedelta(seconds=30)


def test_clock_that_is_right_is_reported(bind: Bind, server: Scripted) -> None:
    """By the signature; a server that does not sign tells nothing."""
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
    """Also where the server refuses before it looks at the key."""
    server.update = code
    server.signs_updates = signs

    with pytest.raises(kind, match=f"{NAME}.*{dns.rcode.to_text(code)}") as reported:
        connected(server.address).add_txt(NAME, VALUE)

    assert advice in str(reported.value.hint)


def test_server_that_is_not_the_primary_is_reported(server: Scripted) -> None:
    """Its answer is signed, so that the key is the right one."""
    server.update = dns.rcode.NOTAUTH

    with pytest.raises(ZoneNotFound, match=f"{NAME}.*NOTAUTH") as reported:
        connected(server.address).add_txt(NAME, VALUE)

    assert "primary of the zone" in str(reported.value.hint)


@pytest.mark.parametrize("to", ["question", "update"])
def test_refusal_without_a_signature_is_of_the_key(server: Scripted, to: str) -> None:
    """Knot and PowerDNS say NOTAUTH where BIND says BADKEY, BADSIG or BADTIME."""
    setattr(server, to, dns.rcode.NOTAUTH)
    server.signs, server.signs_updates = to == "update", False

    with pytest.raises(DnsAccessDenied, match=f"{NAME}.*{KEY_NAME}.*NOTAUTH") as reported:
        connected(server.address).add_txt(NAME, VALUE)

    assert "`key_secret`" in str(reported.value.hint)
    assert "clock" in str(reported.value.hint)


def test_update_that_is_ignored_is_reported(server: Scripted) -> None:
    """What was accepted is read back."""
    with pytest.raises(DnsUnavailable, match=f"{NAME}.*does not show it"):
        connected(server.address).add_txt(NAME, VALUE)


@pytest.mark.parametrize(
    ("code", "kind"), [(dns.rcode.SERVFAIL, DnsUnavailable), (dns.rcode.FORMERR, DnsRejected)]
)
def test_zone_that_cannot_be_looked_for_is_reported(
    server: Scripted, code: dns.rcode.Rcode, kind: type[DnsError]
) -> None:
    """The zone above is not taken in its place: the one looked for may be there."""
    server.question = code

    with pytest.raises(kind, match=dns.rcode.to_text(code)):
        connected(server.address).add_txt(NAME, VALUE)


def test_records_that_may_not_be_read_are_reported(server: Scripted) -> None:
    """The key may need a permission for that as well."""
    provider = connected(server.address)
    provider.remove_txt(NAME, VALUE, None)
    server.question = dns.rcode.REFUSED

    with pytest.raises(DnsAccessDenied, match="REFUSED"):
        provider.remove_txt(NAME, VALUE, None)


@pytest.mark.parametrize("signed", ["neither", "with another key"])
def test_answer_without_our_signature_is_not_trusted(server: Scripted, signed: str) -> None:
    """Any machine on the way could have sent it."""
    if signed == "neither":
        server.signs = False
    else:
        server.turn = lambda wire: wire[:-7] + bytes([wire[-7] ^ 1]) + wire[-6:]

    with pytest.raises(DnsUnavailable, match="lacks the signature"):
        connected(server.address).add_txt(NAME, VALUE)


def test_absence_without_our_signature_is_not_trusted(server: Scripted) -> None:
    """A record would be left in the zone, as one that is gone."""
    server.signs, server.question = False, dns.rcode.NXDOMAIN

    with pytest.raises(DnsUnavailable, match="lacks the signature"):
        connected(server.address).remove_txt(NAME, VALUE, None)


@pytest.mark.parametrize("turn", [lambda wire: wire[:20], lambda wire: b"\0\0" + wire[2:]])
def test_answer_that_is_none_is_reported(server: Scripted, turn: Turn) -> None:
    """Cut short, or to another question."""
    server.turn = turn

    with pytest.raises(DnsUnavailable, match=r"unreadable answer|another question"):
        connected(server.address).add_txt(NAME, VALUE)
    with pytest.raises(DnsUnavailable, match=r"unreadable answer|another question"):
        connected(server.address).clock_ahead()


def test_server_that_is_silent_is_reported() -> None:
    """After the time-out, and one more try."""
    with socket.create_server((HOST, 0)) as silent:
        address = f"{HOST}:{silent.getsockname()[1]}"
        with pytest.raises(DnsUnavailable, match=f"{NAME}.*{address}.*no answer") as reported:
            connected(address, timeout=timedelta(seconds=0.1)).add_txt(NAME, VALUE)

    assert "TCP" in str(reported.value.hint)


def test_slow_answer_is_given_up_in_time_although_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that sends single bytes holds an exchange for the time-out, by no clock that an
    administrator sets.
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


def test_server_with_many_addresses_that_are_silent_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them together have three times the time-out: who answers for its name decides how many
    there are.
    """
    with socket.create_server((HOST, 0), backlog=0) as full, ExitStack() as waiting:
        # Linux drops what comes while the queue is full (listen(2)), and leaves it unanswered.
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


def test_server_that_is_not_there_is_reported() -> None:
    """With what the system says."""
    with socket.create_server((HOST, 0)) as closed:
        address = f"{HOST}:{closed.getsockname()[1]}"

    with pytest.raises(DnsUnavailable, match=f"{address}.*refused"):
        connected(address).add_txt(NAME, VALUE)


def test_server_that_hangs_up_is_reported(server: Scripted) -> None:
    """After one more try."""
    server.drops = lambda: True

    with pytest.raises(DnsUnavailable, match="closed before an answer"):
        connected(server.address).add_txt(NAME, VALUE)


def test_answer_that_was_lost_is_asked_for_again(server: Scripted) -> None:
    """An update may be repeated: it says what is to be there."""
    lost = iter([True])
    server.drops = lambda: next(lost, False)

    assert not connected(server.address).remove_txt(NAME, VALUE, None)


@pytest.mark.parametrize(
    ("server", "said"),
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
def test_server_that_can_be_none_is_reported(server: str, said: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match=said) as reported:
        connected(server)

    assert "192.0.2.1:53" in str(reported.value.hint)


@pytest.mark.parametrize(
    "server", ["ns1.example.com", "192.0.2.1:5353", "::1", "[::1]:53", "[::1]"]
)
def test_servers_may_be_written_like_this(server: str) -> None:
    """By name or address, with a port or without one; it may be kept in the environment."""
    connected(server)
    connect(Settings(Secret(server), Secret(KEY_NAME), Secret(SECRET)), connected_with())


@pytest.mark.parametrize("name", ["", ".", 'key "certferry."', "a..b"])
def test_key_name_that_can_be_none_is_reported(name: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match="`key_name`"):
        connected(HOST, key_name=name)


@pytest.mark.parametrize(
    ("secret", "said"),
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
def test_secret_that_can_be_none_is_explained(secret: str, said: str) -> None:
    """What was pasted in its place is named, and not shown."""
    with pytest.raises(ConfigError, match=said) as reported:
        connected(HOST, key_secret=Secret(secret))

    assert reported.value.hint is not None
    assert "c2VjcmV0" not in f"{reported.value} {reported.value.hint}"
