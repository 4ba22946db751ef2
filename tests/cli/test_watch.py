"""`certferry watch`: the output about hosts, and the accepted notations of hosts."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.cli.exits import Exit
from certferry.cli.watch import Watch, hosts_meant
from certferry.config.watch import host_of
from certferry.core.certificates.chain import EdgeProblemCode, Presented
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry.errors import ConfigError, Problem
from certferry.ports.probe import NONE_NAMED, Named
from certferry.text import Text
from tests.cli.consoles import TestConsole
from tests.cli.values import IMG, NEW, NOON, OLD

# --- The output about hosts, for one observation and for several


DAY = timedelta(days=1)
E7 = Presented("e7" * 32, "E7", "ISRG Root X1", (), NOON - 300 * DAY, NOON + 300 * DAY)
GOOD = Served(
    "192.0.2.1",
    NEW,
    valid=True,
    not_after=NOON + timedelta(days=58, hours=1),
    chain=(
        Presented(NEW, IMG, "E7", (IMG,), NOON - 30 * DAY, NOON + timedelta(days=58, hours=1)),
        E7,
    ),
)
OLDER = Served(
    "192.0.2.2",
    OLD,
    valid=True,
    not_after=NOON + 20 * DAY,
    chain=(Presented(OLD, IMG, "E7", (IMG,), NOON - 70 * DAY, NOON + 20 * DAY), E7),
)
FOREIGN = Served(
    "192.0.2.2",
    OLD,
    valid=False,
    problem=Problem(
        EdgeProblemCode.NAME_NOT_COVERED,
        Text("the certificate is for\n{name}", name="other.example.com\x1b[2J"),
        Text("bind another"),
    ),
    not_after=NOON + timedelta(days=3),
)
ENDED = Served(
    "192.0.2.4",
    NEW,
    valid=False,
    problem=Problem(EdgeProblemCode.EXPIRED, Text("the certificate expired 2 days ago")),
    not_after=NOON - 2 * DAY,
)
REFUSING = Served(
    "192.0.2.3",
    None,
    valid=False,
    problem=Problem(EdgeProblemCode.HANDSHAKE_FAILED, Text("the handshake failed")),
)
SILENT = Served(
    "2001:db8::1",
    None,
    valid=False,
    problem=Problem(EdgeProblemCode.TIMED_OUT, Text("no answer")),
    silent=True,
)
NOWHERE = Served(
    "",
    None,
    valid=False,
    problem=Problem(EdgeProblemCode.NOT_IN_DNS, Text("gone.example.com: does not exist")),
    silent=True,
)

Hosts = Mapping[str, tuple[Served, ...]]


class Edges:
    """A `Probe` whose answers are given, for each observation in turn."""

    def __init__(self, *observations: Hosts) -> None:
        self._looks = list(observations)

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> dict[str, tuple[Served, ...]]:
        hosts = self._looks[0] if len(self._looks) == 1 else self._looks.pop(0)
        return {domain: hosts[domain] for domain in domains}

    def served_by(self, hosts: Sequence[Host]) -> dict[Host, tuple[Served, ...]]:
        served_by_name = self.served([host.name for host in hosts])
        return {host: served_by_name[host.name] for host in hosts}


def watched(
    hosts: Hosts, *, as_json: bool = False, ends_within: timedelta | None = None
) -> tuple[Exit, TestConsole]:
    console = TestConsole()
    places = [Host(host) for host in hosts]
    watch = Watch(Edges(hosts), places, console.console, lambda: NOON, ends_within, as_json=as_json)
    return watch.once(), console


def followed(*observations: Hosts, as_json: bool = False) -> str:
    """Return the output of successive observations, until Ctrl-C."""
    console = TestConsole()
    places = [Host(host) for host in observations[0]]
    watch = Watch(Edges(*observations), places, console.console, lambda: NOON, as_json=as_json)
    pauses = iter(observations[1:])

    def pause(seconds: float) -> None:
        assert 60 == seconds
        if next(pauses, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch.follow(pause, 60)
    return console.out


def test_row_of_each_address() -> None:
    """A row has the served certificate, its validity and its end; problems follow below.

    Text from outside stays in its column, and moves no cursor.
    """
    code, console = watched(
        {IMG: (GOOD, FOREIGN, REFUSING, ENDED, SILENT), "gone.example.com": (NOWHERE,)}
    )

    assert (
        dedent("""\
        HOST              ADDRESS      FINGERPRINT   CHAIN  VALID  UNTIL       LEFT
        img.example.com   192.0.2.1    fedcba987654  E7     yes    2027-01-21  58 days
        img.example.com   192.0.2.2    0123456789ab  —      no     2026-11-27  3 days
        img.example.com   192.0.2.3    —             —      no     —           —
        img.example.com   192.0.2.4    fedcba987654  —      no     2026-11-22  expired
        img.example.com   2001:db8::1  —             —      —      —           —
        gone.example.com  —            —             —      —      —           —

        img.example.com 192.0.2.2: the certificate is for
                                   other.example.com\N{REPLACEMENT CHARACTER}[2J
        img.example.com 192.0.2.3: the handshake failed
        img.example.com 192.0.2.4: the certificate expired 2 days ago
        img.example.com 2001:db8::1: no answer
        img.example.com: 1 of 3 addresses serve another certificate (expires 2026-11-27 12:00 UTC)
        gone.example.com: does not exist
        hint: bind another
        hint: a change at a CDN takes 8 to 15 minutes, sometimes hours: check again with --follow. \
If the error persists, ask the CDN's support about these addresses
        """)
        == console.out
    )
    assert Exit.FAILED == code


def test_hosts_in_order_end_with_zero() -> None:
    """Every address presents a valid certificate, including an older certificate with time left."""
    code, console = watched({IMG: (GOOD, OLDER)})

    sentence = "1 of 2 addresses serve an older certificate (expires 2026-12-14 12:00 UTC)"
    assert f"\n{IMG}: {sentence}\n" in console.out
    assert Exit.OK == code


def test_certificate_that_expires_soon() -> None:
    """With `--expiring DAYS` a certificate that expires within the days is a failure, for
    monitoring.
    """
    code, console = watched({IMG: (GOOD,)}, ends_within=60 * DAY)

    assert f"{IMG}: the certificate ends in 58 days\n" in console.out
    assert Exit.FAILED == code
    assert Exit.OK == watched({IMG: (GOOD,)}, ends_within=58 * DAY)[0]


def test_document_of_a_watch() -> None:
    """`--json` has whole fingerprints and moments, the chain, and problems with their codes."""
    code, console = watched({IMG: (GOOD, SILENT)}, as_json=True)

    assert Exit.FAILED == code
    assert {
        "ok": False,
        "at": "2026-11-24T12:00:00Z",
        "hosts": [
            {
                "host": IMG,
                "port": 443,
                "ok": False,
                "addresses": [
                    {
                        "address": "192.0.2.1",
                        "fingerprint": NEW,
                        "ok": True,
                        "not_after": "2027-01-21T13:00:00Z",
                        "problem": None,
                        "not_before": "2026-10-25T12:00:00Z",
                        "days_left": 58,
                        "names": [IMG],
                        "issuer": "E7",
                        "chain": [
                            {
                                "subject": "E7",
                                "issuer": "ISRG Root X1",
                                "fingerprint": "e7" * 32,
                                "not_after": "2027-09-20T12:00:00Z",
                            }
                        ],
                    },
                    {
                        "address": "2001:db8::1",
                        "fingerprint": None,
                        "ok": False,
                        "not_after": None,
                        "problem": {
                            "code": "timed_out",
                            "message": "no answer",
                            "hint": None,
                        },
                        "not_before": None,
                        "days_left": None,
                        "names": None,
                        "issuer": None,
                        "chain": [],
                    },
                ],
                "problems": [],
            }
        ],
    } == json.loads(console.out)


def test_different_certificates_in_the_document() -> None:
    """The problem has the addresses, and its severity."""
    _, console = watched({IMG: (GOOD, OLDER)}, as_json=True)

    (host,) = json.loads(console.out)["hosts"]
    (problem,) = host["problems"]
    assert ("warning", "older_certificate", ["192.0.2.2"]) == (
        problem["severity"],
        problem["code"],
        problem["addresses"],
    )
    assert "--follow" in problem["hint"]
    assert host["ok"]


def test_following_prints_changes() -> None:
    """The first observation is a table; each later change is a line, and no change prints
    nothing.
    """
    arrived = Served("192.0.2.2", NEW, valid=True, not_after=GOOD.not_after, chain=GOOD.chain)
    out = followed(
        {IMG: (GOOD, OLDER)},
        {IMG: (GOOD, OLDER)},
        {IMG: (GOOD, arrived)},
        {IMG: (GOOD, SILENT)},
        {IMG: (SILENT,)},
    )

    table, _, lines = out.partition("the CDN's support about these addresses\n")
    assert "HOST" in table
    assert (
        dedent(f"""\
        2026-11-24 12:00 UTC {IMG} 192.0.2.2: serves {NEW[:12]} (expires 2027-01-21 13:00 UTC), \
before {OLD[:12]}
        2026-11-24 12:00 UTC {IMG}: the addresses of the host are in order again
        2026-11-24 12:00 UTC {IMG} 2001:db8::1: no answer
        """)
        == lines
    )


def test_following_prints_a_recovered_address() -> None:
    """The line has the served certificate, and no earlier certificate if the address served
    none.
    """
    out = followed({IMG: (REFUSING,)}, {IMG: (Served("192.0.2.3", NEW, valid=True),)})

    assert f"192.0.2.3: serves {NEW[:12]} (expires at an unknown time)\n" in out


def test_following_as_json() -> None:
    """Each host has a line at first, then each changed host."""
    other = "a.example.com"
    out = followed({IMG: (GOOD,), other: (GOOD,)}, {IMG: (GOOD,), other: (SILENT,)}, as_json=True)

    documents = [json.loads(line) for line in out.splitlines()]
    assert [(IMG, True), (other, True), (other, False)] == [
        (document["host"], document["ok"]) for document in documents
    ]
    assert {"2026-11-24T12:00:00Z"} == {document["at"] for document in documents}


# --- Notations of hosts: typed, pasted, and in files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("img.example.com", Host("img.example.com", 443)),
        ("IMG.Example.com.", Host("img.example.com", 443)),
        ("图片.example.com", Host("xn--wcsw84d.example.com", 443)),
        ("img.example.com:8443", Host("img.example.com", 8443)),
        ("https://img.example.com", Host("img.example.com", 443)),
        ("HTTPS://img.example.com:8443/a/b?c=d#e", Host("img.example.com", 8443)),
        ("http://user:word@img.example.com/x", Host("img.example.com", 443)),
        ("img.example.com/logo.png", Host("img.example.com", 443)),
        ("192.0.2.1", Host("192.0.2.1", 443)),
        ("192.0.2.1:8443", Host("192.0.2.1", 8443)),
        ("[2001:DB8::1]", Host("2001:db8::1", 443)),
        ("https://[2001:db8::1]:8443/", Host("2001:db8::1", 8443)),
        ("2001:db8::1", Host("2001:db8::1", 443)),
    ],
)
def test_notations_of_a_host(text: str, expected: Host) -> None:
    """Capitals, final dots, Chinese names, ports, addresses and pasted URLs are accepted."""
    assert expected == host_of(text, 443)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("*.example.com", "*.example.com stands for many hosts", "www.example.com"),
        ("https://", "'https://' is not a domain name", "a URL"),
        ("img", "'img' is not a domain name", "img.example.com:8443"),
        ("img.example.com:", "has no port", "img.example.com:8443"),
        ("img.example.com:0", "has no port", "img.example.com:8443"),
        ("img.example.com:65536", "has no port", "img.example.com:8443"),
        ("img.example.com:https", "has no port", "img.example.com:8443"),
        ("img.example.com:\N{ARABIC-INDIC DIGIT FOUR}43", "has no port", "8443"),
        ("[2001:db8::1", "is not a host", "in brackets"),
        ("fe80:::1", "is not a host", "in brackets"),
        ("[img.example.com]x", "is not a domain name", "img.example.com"),
    ],
)
def test_wrong_host_has_a_hint(text: str, message: str, hint: str) -> None:
    """The message has the given text, and the hint a correct notation."""
    with pytest.raises(ConfigError) as caught:
        host_of(text, 443)

    assert message in str(caught.value)
    assert hint in str(caught.value.hint)


@given(st.text())
def test_any_text_is_a_host_or_an_error(text: str) -> None:
    """No other exception is raised, and the printed form of a host is the same host."""
    try:
        host = host_of(text, 443)
    except ConfigError:
        return

    assert host == host_of(str(host), 443)


def test_file_of_hosts(tmp_path: Path) -> None:
    """Comments, empty lines and a byte order mark are skipped, and duplicates are removed."""
    file = tmp_path / "hosts.txt"
    file.write_text(
        "\ufeff# our hosts\r\nimg.example.com\r\n\r\n  a.example.com:8443 # the other port\n"
        "https://a.example.com/#top\nIMG.example.com\n",
        encoding="utf-8",
    )

    hosts = hosts_meant(["first.example.com", "img.example.com:444"], str(file), 444)

    assert [
        Host("first.example.com", 444),
        Host("img.example.com", 444),
        Host("a.example.com", 8443),
        Host("a.example.com", 444),
    ] == hosts


def test_hosts_from_standard_input() -> None:
    """`-` stands for the input of a pipe."""
    streamed = io.TextIOWrapper(io.BytesIO(b"img.example.com\n"))
    with mock.patch.object(sys, "stdin", streamed):
        assert [Host("img.example.com")] == hosts_meant([], "-", 443)


def test_wrong_lines_of_a_file_are_reported_together(tmp_path: Path) -> None:
    """The message has every wrong line with the line's number, so that a long file needs one
    correction.
    """
    file = tmp_path / "hosts.txt"
    file.write_text("img.example.com\nimg\n\n*.example.com\nb.example.com:x\n")

    with pytest.raises(ConfigError) as caught:
        hosts_meant([], str(file), 443)

    lines = str(caught.value).splitlines()
    assert [f"{file}:{number}:" for number in (2, 4, 5)] == [line.split(" ")[0] for line in lines]


def test_wrong_arguments_are_reported_together() -> None:
    """The message has every wrong argument."""
    with pytest.raises(ConfigError) as caught:
        hosts_meant(["img", "img.example.com", "b.example.com:x"], None, 443)

    assert 2 == len(str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# none\n\n", "contains no host"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (None, "No such"),
    ],
)
def test_file_without_hosts_is_an_error(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """An observation of nothing would look like success."""
    file = tmp_path / "hosts.txt"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        hosts_meant([], str(file), 443)

    assert message in str(caught.value)
    assert str(file) in str(caught.value)
