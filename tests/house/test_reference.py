"""The pages of reference and their tables are what the code says, in both languages."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path

import pytest

from benchmarks import fleet
from benchmarks.run_cost import MOST
from benchmarks.scale import CERTIFICATES, needed
from certferry.adapters.qiniu.target import MIN_REMAINING_DAYS
from certferry.config.bind import may_be_written, meanings
from certferry.core.assessment.notices import Topic
from certferry.core.certificates.certificate import renew_at
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.findings import Code
from certferry.core.observed.observation import TargetRules
from certferry.core.planning.report import Outcome
from certferry.core.reasons import ReasonCode
from certferry.ports import adapter
from certferry.ports.adapter import Adapter
from certferry.wiring.adapters import CHANNELS, FAMILIES, Described, Family, installed
from tests.core.strategies import certificate
from tests.house.reference import ADAPTERS, CODES, ERRORS, SUFFIX, all_pages, code_meanings, errors
from tests.house.tree import ROOT, modules, relative

# --- The pages that are made are as they would be made now; that of the adapters is what their
# settings say, in each language


OURS = [
    (family, name)
    for family in (*FAMILIES.values(), CHANNELS)
    for name in installed().names(family)
    if installed().find(family, name).is_ours
]


def test_the_pages_are_as_they_are_made() -> None:
    """A change of a setting, of a code or of the README's configuration comes with them."""
    stale = [
        relative(path)
        for path, text in all_pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]

    assert [] == stale, "run ./scripts/reference"


@pytest.mark.parametrize("suffix", SUFFIX.values())
def test_every_name_of_an_adapter_is_on_the_page(suffix: str) -> None:
    """Authors of packages read the page; the wiring reads the names of an adapter's module."""
    optional = re.findall(r'getattr\(self\.adapter, "(\w+)"', inspect.getsource(Described))
    required = [name for name in vars(Adapter) if not name.startswith("_")]

    page = ADAPTERS.with_suffix(suffix).read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page.rpartition("\n## ")[2], re.MULTILINE)

    assert {*required, *optional} == set(listed)
    assert set() == {name for name in optional if f"`{name}" not in (adapter.__doc__ or "")}


@pytest.mark.parametrize(("family", "name"), OURS, ids=[name for _, name in OURS])
def test_every_setting_of_ours_says_what_it_means(family: Family, name: str) -> None:
    """In words for people: `init` and the page have no others. Each key is said once."""
    described = installed().find(family, name)
    settings = described.adapter.Settings
    by_variable = {variable.key for variable in described.adapter.ENVIRONMENT}
    said = set(meanings(settings))

    assert set() == by_variable & said
    assert set(may_be_written(settings)) == by_variable | said
    assert {f.name for f in dataclasses.fields(described.options)} == set(
        meanings(described.options)
    )


# --- The page of the codes has every code that the sources can print, with its cause and its
# fix


LANGUAGES = ("en", "zh")
ROW = re.compile(r"^\| `([a-z_]+)` \|(.*)\|$", re.MULTILINE)
IN_MESSAGES = {
    "channel_refused",
    "heartbeat_missed",
    "host_away",
    "metrics_missed",
    "test",
    Outcome.FAILED,
    Outcome.REFUSED,
    *(set(Topic) - {Topic.TROUBLE, Topic.RECOVERED}),  # these are about something else
}
WRITTEN = re.compile(
    r"""(?:"code": |\bcode=|(?:Problem|_warning)\(\s*|^MISSED = |^REFUSED = )"""
    r'"([a-z_]+)"',
    re.MULTILINE,
)


def of(section: str) -> set[str]:
    """Return the codes of a section, which both languages have."""
    english, chinese = (code_meanings(language)[section] for language in LANGUAGES)
    assert set(english) == set(chinese)
    return set(english)


def test_every_error_is_there_once() -> None:
    """Each class has a code; the command line has three more."""
    listed = [code for section in ERRORS for code in code_meanings("en")[section]]

    assert sorted([*errors(), "usage", "system", "unexpected"]) == sorted(listed)


def test_every_other_code_is_there() -> None:
    """And no code that is not printed any more."""
    assert {str(code) for code in ReasonCode} == of("reasons")
    assert {str(code) for code in EdgeProblemCode} == of("edges")
    assert {str(code) for code in IN_MESSAGES} == of("messages")


def test_a_code_that_is_written_in_the_sources_is_there() -> None:
    """Where it has no class and no list of its own."""
    known = {code for section in code_meanings("en").values() for code in section} | set(Code)
    written = {
        code for path in modules() for code in WRITTEN.findall(path.read_text(encoding="utf-8"))
    }

    assert {"usage", "channel_refused", "heartbeat_missed", "drifted"} <= written
    assert set() == written - known


@pytest.mark.parametrize("path", [CODES.with_suffix(one) for one in SUFFIX.values()], ids=relative)
def test_every_code_has_cause_and_fix(path: Path) -> None:
    """Also those of `doctor`, in both languages."""
    rows: Mapping[str, str] = dict(ROW.findall(all_pages()[path]))

    assert set(Code) <= set(rows)
    assert [] == [code for code, row in rows.items() if not all(map(str.strip, row.split("|")))]


# --- The page of `doctor` has every code, in both languages, and no other; each code has its
# tests


def test_each_code_is_met_by_a_test() -> None:
    """By its name in the sources, or as it is printed."""
    tests = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__)
    ]
    words = "\n".join(tests)

    unmet = [code for code in Code if f"Code.{code.name}" not in words and f'"{code}"' not in words]

    assert [] == unmet


# --- The page of `certferry watch` names every code that programs may meet


WATCH_PAGES = sorted((ROOT / "docs" / "reference").glob("watch*.md"))


@pytest.mark.parametrize("page", WATCH_PAGES, ids=lambda page: page.name)
def test_every_code_of_an_edge_is_on_the_page(page: Path) -> None:
    """Each once, and none that there is not."""
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", page.read_text(), re.MULTILINE)

    assert sorted(code.value for code in EdgeProblemCode) == sorted(rows)


# --- The rules at Qiniu are the same in both languages, row by row


ENGLISH, CHINESE = (
    (ROOT / "docs" / "reference" / f"qiniu{language}.md").read_text(encoding="utf-8")
    for language in ("", ".zh-CN")
)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:,\d{3})*")
NAME = re.compile(r"`([!-~ ]+)`")
MARKS = {"seen": "见过", "documented": "文档", "guessed": "推测"}
MARK = re.compile("|".join((*MARKS, *MARKS.values())))
SOURCES = re.compile(r"\(.*?\)|（.*?）")


def tables(page: str) -> list[list[str]]:
    return [table.splitlines() for table in TABLE.findall(page)]


def numbers(row: str) -> list[str]:
    """Return all numbers of a row: what is a word in one language is a word in the other."""
    return sorted(number.replace(",", "") for number in NUMBER.findall(row))


def marks(row: str) -> list[str]:
    """Return the marks of the last column, in Chinese, without their sources."""
    last = SOURCES.sub("", row.rstrip("| ").rpartition("|")[2])
    return [MARKS.get(mark, mark) for mark in MARK.findall(last)]


ROWS = [
    rows
    for english, chinese in zip(tables(ENGLISH), tables(CHINESE), strict=False)
    for rows in zip_longest(english, chinese, fillvalue="")
]


def test_both_pages_have_as_many_rows() -> None:
    """Under each heading, so that those beside one another are the same rule."""
    english, chinese = ([len(table) for table in tables(page)] for page in (ENGLISH, CHINESE))

    assert english == chinese
    assert len(ROWS) == sum(english) > 200


@pytest.mark.parametrize("read", [numbers, marks], ids=["numbers", "marks"])
def test_rows_say_the_same(read: Callable[[str], list[str]]) -> None:
    """Codes, periods and limits; and how well each reason is known."""
    assert [] == [row for row in ROWS if read(row[0]) != read(row[1])]


def test_rows_name_the_same() -> None:
    """What is no word of Chinese stands in the English row as well: a state, a call, a setting."""
    other = [
        (name, english)
        for english, chinese in ROWS
        for name in NAME.findall(chinese)
        if f"`{name}`" not in english
    ]

    assert [] == other


def test_every_rule_has_a_mark() -> None:
    """One of the three that the page explains."""
    for page, heading in ((ENGLISH, "Mark and source"), (CHINESE, "标记与来源")):
        marked = [table for table in tables(page) if heading in table[0]]
        assert len(marked) > 8
        assert [] == [row for table in marked for row in table[2:] if not marks(row)]


# --- The table of lifetimes in Qiniu's reference pages says what the core decides


RULES = TargetRules(timedelta(days=MIN_REMAINING_DAYS))
HOURS = 160
"""How long certificates of six days live (Let's Encrypt's profiles page, 2026-07-14)."""

LIVES = {90: timedelta(days=90), 64: timedelta(days=64), 45: timedelta(days=45)}
_ROW = re.compile(r"^\| (\d+) \| (\d+) \| (\d+|—) \| (\d+|—) \|", re.MULTILINE)


def row(days: int, lifetime: timedelta) -> tuple[str, ...]:
    """What the core says: renewed after, uploadable for, and how long the old one serves then."""
    leaf = certificate(lifetime=lifetime)
    renewal = renew_at(leaf) - leaf.not_before
    window = RULES.upload_deadline(leaf) - leaf.not_before
    takes = window > timedelta(0)
    return (
        str(days),
        str(renewal.days),
        str(window.days) if takes else "—",
        str((lifetime - renewal).days) if takes else "—",
    )


@pytest.mark.parametrize("page", ["qiniu.md", "qiniu.zh-CN.md"])
def test_the_table_of_lifetimes_is_true(page: str) -> None:
    """For 90, 64, 45 and 6 days, in both languages."""
    text = (ROOT / "docs/reference" / page).read_text(encoding="utf-8")
    expected = [row(days, lifetime) for days, lifetime in LIVES.items()]
    expected.append(row(6, timedelta(hours=HOURS)))

    assert expected == _ROW.findall(text)


# --- The page about a hundred thousand certificates has the tables that its commands print


SCALE_ENGLISH, SCALE_CHINESE = (
    (ROOT / "docs" / "explanation" / f"scale{language}.md").read_text(encoding="utf-8")
    for language in ("", ".zh-CN")
)
SCALE_ROW = re.compile(r"^\| .*\|$", re.MULTILINE)
NUMBERS = re.compile(r"\d[\d,.]*")


def test_page_has_what_the_arithmetic_says() -> None:
    """By the rules that are in force: a changed limit, share or promise changes the page."""
    lines = [*needed(CERTIFICATES), *fleet.needed(fleet.CERTIFICATES, fleet.FLEET)]

    assert [] == [line for line in lines if line and line not in SCALE_ENGLISH.splitlines()]


def test_page_has_what_every_kind_of_run_costs() -> None:
    """At most what is promised, which a test of the whole command holds."""
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in SCALE_ROW.findall(SCALE_ENGLISH)
    ]
    costs = {row[0]: row[1:4] for row in rows if row[0] in MOST and len(row) == 5}

    assert MOST.keys() == costs.keys()
    for what, most in MOST.items():
        for counted, promised in zip(costs[what], (most.ca, most.dns, most.cdn), strict=True):
            assert int(counted) <= promised


def test_both_languages_have_the_same_numbers() -> None:
    """Row by row."""
    english, chinese = (
        [NUMBERS.findall(row) for row in SCALE_ROW.findall(page)]
        for page in (SCALE_ENGLISH, SCALE_CHINESE)
    )
    assert english == chinese
