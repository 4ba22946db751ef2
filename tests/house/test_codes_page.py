"""The page of the codes has every code that the sources can print, with its cause and its fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from certferry.core.assessment.notices import Topic
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.findings import Code
from certferry.core.planning.report import Outcome
from certferry.core.reasons import ReasonCode
from tests.house.codes_page import ERRORS, errors, meanings, pages
from tests.house.tree import modules, relative

LANGUAGES = ("en", "zh")
ROW = re.compile(r"^\| `([a-z_]+)` \|(.*)\|$", re.MULTILINE)
IN_MESSAGES = {
    "channel_refused",
    "heartbeat_missed",
    "metrics_missed",
    "test",
    Outcome.FAILED,
    Outcome.REFUSED,
    *(set(Topic) - {Topic.TROUBLE, Topic.RECOVERED}),  # these tell what else has happened
}
WRITTEN = re.compile(
    r"""(?:"code": |\bcode=|(?:Problem|_warning)\(\s*|^MISSED = |^REFUSED = )"""
    r'"([a-z_]+)"',
    re.MULTILINE,
)


def of(section: str) -> set[str]:
    """Give the codes of a section, which both languages have."""
    english, chinese = (meanings(language)[section] for language in LANGUAGES)
    assert set(english) == set(chinese)
    return set(english)


def test_every_error_is_there_once() -> None:
    """Each class has a code; the command line has three more."""
    listed = [code for section in ERRORS for code in meanings("en")[section]]

    assert sorted([*errors(), "usage", "system", "unexpected"]) == sorted(listed)


def test_every_other_code_is_there() -> None:
    """And no code that is not printed any more."""
    assert {str(code) for code in ReasonCode} == of("reasons")
    assert {str(code) for code in EdgeProblemCode} == of("edges")
    assert {str(code) for code in IN_MESSAGES} == of("messages")


def test_a_code_that_is_written_in_the_sources_is_there() -> None:
    """Where it has no class and no list of its own."""
    known = {code for section in meanings("en").values() for code in section} | set(Code)
    written = {
        code for path in modules() for code in WRITTEN.findall(path.read_text(encoding="utf-8"))
    }

    assert {"usage", "channel_refused", "heartbeat_missed", "drifted"} <= written
    assert set() == written - known


@pytest.mark.parametrize("path", pages(), ids=relative)
def test_every_code_has_cause_and_fix(path: Path) -> None:
    """Also those of `doctor`, in both languages."""
    rows: Mapping[str, str] = dict(ROW.findall(pages()[path]))

    assert set(Code) <= set(rows)
    assert [] == [code for code, row in rows.items() if not all(map(str.strip, row.split("|")))]
