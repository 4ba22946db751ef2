"""What SECURITY.md promises is shown by tests that are there."""

from __future__ import annotations

import re

from tests.house.named_tests import missing_tests, named_tests
from tests.house.tree import ROOT


def promises() -> list[str]:
    """Give each promise, with the tests behind it."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promised = text.partition("\n## What is promised\n")[2].partition("\n## ")[0]
    return re.findall(r"^- .*(?:\n  .*)*", promised, re.MULTILINE)


def test_the_tests_behind_the_promises_are_there() -> None:
    """A test that was renamed takes its promise along."""
    assert promises()
    assert [] == [test for promise in promises() for test in missing_tests(promise)]


def test_every_promise_names_its_test() -> None:
    """What no test shows is not promised."""
    assert [] == [promise for promise in promises() if not named_tests(promise)]
