"""What `certferry history` shows."""

from __future__ import annotations

from datetime import timedelta
from textwrap import dedent

from certferry.core.observed.records import HistoryEntry
from certferry.present import history_text
from certferry.present.language import Voice
from tests.cli import values
from tests.cli.values import NOON

ISSUED = HistoryEntry(
    NOON, "img", "issued", "root@edge", {"fingerprint": "fedc", "issuer": "Test Issuer"}
)
FAILED = HistoryEntry(
    NOON + timedelta(minutes=9),
    "static",
    "deploy failed",
    "root@edge",
    {"domain": "s.example.com", "problem": "it said\n\x1b[31mno"},
)


def test_each_event_is_one_line() -> None:
    """When, which certificate, what, who, and the facts; nothing from outside breaks a line."""
    assert dedent("""\
        2026-11-24 12:09 UTC  static  deploy failed  root@edge  s.example.com · it said �[31mno
        2026-11-24 12:00 UTC  img     issued         root@edge  fedc · issuer=Test Issuer
        """) == values.text_of(history_text.lines([FAILED, ISSUED], Voice()))


def test_where_what_and_which_stand_in_one_order() -> None:
    """The domain at its target, then ids in the one short form; the document has them whole."""
    facts = {"remote_id": "5f3c8e1b0d2a77aa", "target": "qiniu", "domain": "s.example.com"}
    entry = HistoryEntry(NOON, "img", "deployed", "root@edge", facts)

    (told,) = values.text_of(history_text.lines([entry], Voice())).splitlines()

    assert told.endswith("  root@edge  qiniu → s.example.com · 5f3c8e1b0d2a")
    assert facts == history_text.document([entry])["entries"][0]["facts"]  # type: ignore[index]  # a list of entries


def test_an_empty_history_says_so() -> None:
    """Silence would look like a failure."""
    assert "Nothing has happened yet.\n" == values.text_of(history_text.lines([], Voice()))


def test_the_document_holds_every_fact() -> None:
    """`--json` gives what was remembered, newest first."""
    assert {
        "at": "2026-11-24T12:00:00Z",
        "name": "img",
        "event": "issued",
        "who": "root@edge",
        "facts": {"fingerprint": "fedc", "issuer": "Test Issuer"},
    } == history_text.document([ISSUED])["entries"][0]  # type: ignore[index]  # a list of entries
