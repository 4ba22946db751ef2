"""What `certferry watch` shows of hosts, and which hosts it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from textwrap import dedent

import pytest

from certferry.cli.exits import Exit
from certferry.cli.watch import show_looks
from certferry.core.observed import Served
from certferry.errors import ConfigError
from certferry.present.watch_text import host_name
from certferry.text import Text
from tests.cli.consoles import TestConsole
from tests.cli.values import IMG, NEW, NOON, OLD

GOOD = Served("192.0.2.1", NEW, valid=True, not_after=NOON + timedelta(days=58, hours=1))
FOREIGN = Served(
    "192.0.2.2",
    OLD,
    valid=False,
    problem=Text("the certificate is for\n{name}", name="other.example.com\x1b[2J"),
    not_after=NOON + timedelta(days=3),
)
REFUSING = Served("192.0.2.3", None, valid=False, problem=Text("handshake refused"))
SILENT = Served("2001:db8::1", None, valid=False, problem=Text("no answer"), silent=True)
NOWHERE = Served("", None, valid=False, problem=Text("does not exist in DNS"), silent=True)


class Edges:
    """A `Probe` of hosts whose addresses are given."""

    def __init__(self, hosts: Mapping[str, tuple[Served, ...]]) -> None:
        self._hosts = hosts

    def look(self, domains: Sequence[str]) -> dict[str, tuple[Served, ...]]:
        """See `ports.probe.Probe.look`."""
        return {domain: self._hosts[domain] for domain in domains}


def watched(
    hosts: Mapping[str, tuple[Served, ...]], *, as_json: bool = False
) -> tuple[Exit, TestConsole]:
    """Give the exit code and what was written."""
    console = TestConsole()
    return show_looks(
        Edges(hosts), list(hosts), 443, console.console, NOON, as_json=as_json
    ), console


def test_each_address_has_a_row() -> None:
    """What it serves, whether that is valid there, until when; what is wrong stands beside it.

    Words from outside stay in their column, and move no cursor.
    """
    code, console = watched(
        {IMG: (GOOD, FOREIGN, REFUSING, SILENT), "gone.example.com": (NOWHERE,)}
    )

    assert (
        dedent("""\
        HOST              ADDRESS      FINGERPRINT       VALID  UNTIL       LEFT
        img.example.com   192.0.2.1    fedcba9876543210  yes    2027-01-21  58 days
        img.example.com   192.0.2.2    0123456789abcdef  no     2026-11-27  3 days
        img.example.com   192.0.2.3    —                 no     —           —
        img.example.com   2001:db8::1  —                 —      —           —
        gone.example.com  —            —                 —      —           —

        img.example.com 192.0.2.2: the certificate is for
                                   other.example.com\N{REPLACEMENT CHARACTER}[2J
        img.example.com 192.0.2.3: handshake refused
        img.example.com 2001:db8::1: no answer
        gone.example.com: does not exist in DNS
        """)
        == console.out
    )
    assert Exit.FAILED == code


def test_hosts_in_order_are_zero() -> None:
    """Every address presents a valid certificate."""
    code, _ = watched({IMG: (GOOD,)})

    assert Exit.OK == code


def test_the_document_tells_every_address() -> None:
    """`--json` gives whole fingerprints and moments."""
    code, console = watched({IMG: (GOOD, SILENT)}, as_json=True)

    assert Exit.FAILED == code
    assert {
        "ok": False,
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
                    },
                    {
                        "address": "2001:db8::1",
                        "fingerprint": None,
                        "ok": False,
                        "not_after": None,
                        "problem": "no answer",
                    },
                ],
            }
        ],
    } == json.loads(console.out)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("img.example.com", "img.example.com"),
        ("IMG.Example.com.", "img.example.com"),
        ("图片.example.com", "xn--wcsw84d.example.com"),
    ],
)
def test_a_host_is_taken_as_a_person_writes_it(written: str, expected: str) -> None:
    """Capitals, final dots and Chinese names mean the same host."""
    assert expected == host_name(written)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("img.example.com:8443", "run `certferry watch --port 8443 img.example.com`"),
        ("*.example.com", "name one of them, such as www.example.com"),
        ("https://img.example.com/", "without https://"),
        ("192.0.2.1", "without https://"),
    ],
)
def test_what_is_no_host_is_refused_with_advice(written: str, hint: str) -> None:
    """The hint says what to type instead."""
    with pytest.raises(ConfigError) as caught:
        host_name(written)

    assert hint in str(caught.value.hint)
