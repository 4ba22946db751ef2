"""The pages of reference and their tables agree with the code, in both languages."""

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

# --- The generated pages are up to date; the page of the adapters follows their settings


OURS = [
    (family, name)
    for family in (*FAMILIES.values(), CHANNELS)
    for name in installed().names(family)
    if installed().find(family, name).is_ours
]


def test_the_generated_pages_are_up_to_date() -> None:
    """A change of a setting, of a code or of the README's configuration changes its page."""
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
def test_every_setting_of_ours_is_described(family: Family, name: str) -> None:
    """`init` and the page print the description, and each key has a single one."""
    described = installed().find(family, name)
    settings = described.adapter.Settings
    by_variable = {variable.key for variable in described.adapter.ENVIRONMENT}
    described_keys = set(meanings(settings))

    assert set() == by_variable & described_keys
    assert set(may_be_written(settings)) == by_variable | described_keys
    assert {f.name for f in dataclasses.fields(described.options)} == set(
        meanings(described.options)
    )


# --- The page of the codes has every code of the sources, with cause and fix


LANGUAGES = ("en", "zh")
ROW = re.compile(r"^\| `([a-z_]+)` \|(.*)\|$", re.MULTILINE)
IN_MESSAGES = {
    "certificate_not_ordered",
    "channel_refused",
    "heartbeat_missed",
    "host_away",
    "logs_not_read",
    "metrics_missed",
    "test",
    Outcome.FAILED,
    Outcome.REFUSED,
    *(set(Topic) - {Topic.TROUBLE, Topic.RECOVERED}),  # other topics have codes of their own
}
WRITTEN = re.compile(
    r"""(?:"code": |\bcode=|(?:Problem|_warning)\(\s*|^MISSED = |^REFUSED = )"""
    r'"([a-z_]+)"',
    re.MULTILINE,
)


def of(section: str) -> set[str]:
    """Return the codes of a section, the same in both languages."""
    english, chinese = (code_meanings(language)[section] for language in LANGUAGES)
    assert set(english) == set(chinese)
    return set(english)


def test_every_error_is_listed_once() -> None:
    """Each class has a code; the command line has three more."""
    listed = [code for section in ERRORS for code in code_meanings("en")[section]]

    assert sorted([*errors(), "usage", "system", "unexpected"]) == sorted(listed)


def test_every_other_code_is_listed() -> None:
    """Codes without a use are left out."""
    assert {str(code) for code in ReasonCode} == of("reasons")
    assert {str(code) for code in EdgeProblemCode} == of("edges")
    assert {str(code) for code in IN_MESSAGES} == of("messages")


def test_every_literal_code_of_the_sources_is_listed() -> None:
    """Such a code has neither a class nor a list of its own."""
    listed_codes = {code for section in code_meanings("en").values() for code in section} | set(
        Code
    )
    literal_codes = {
        code for path in modules() for code in WRITTEN.findall(path.read_text(encoding="utf-8"))
    }

    assert {"usage", "channel_refused", "heartbeat_missed", "drifted"} <= literal_codes
    assert set() == literal_codes - listed_codes


@pytest.mark.parametrize(
    "path", [CODES.with_suffix(suffix) for suffix in SUFFIX.values()], ids=relative
)
def test_every_code_has_cause_and_fix(path: Path) -> None:
    """Codes of `doctor` are included, in both languages."""
    rows: Mapping[str, str] = dict(ROW.findall(all_pages()[path]))

    assert set(Code) <= set(rows)
    assert [] == [code for code, row in rows.items() if not all(map(str.strip, row.split("|")))]


# --- Each code of `doctor` has its tests


def test_each_code_has_a_test() -> None:
    """The test has the name from the sources, or the printed code."""
    tests = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__)
    ]
    words = "\n".join(tests)

    unmet = [code for code in Code if f"Code.{code.name}" not in words and f'"{code}"' not in words]

    assert [] == unmet


# --- The page of `certferry watch` has every code for programs


WATCH_PAGES = sorted((ROOT / "docs" / "reference").glob("watch*.md"))


@pytest.mark.parametrize("page", WATCH_PAGES, ids=lambda page: page.name)
def test_every_code_of_an_edge_is_on_the_page(page: Path) -> None:
    """The page has each code once, and no other."""
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
    """Return all numbers of a row: number words are words in both languages."""
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
    """Each heading has the same number of rows, so that rows can be compared in pairs."""
    english, chinese = ([len(table) for table in tables(page)] for page in (ENGLISH, CHINESE))

    assert english == chinese
    assert len(ROWS) == sum(english) > 200


@pytest.mark.parametrize("facts_of", [numbers, marks], ids=["numbers", "marks"])
def test_rows_say_the_same(facts_of: Callable[[str], list[str]]) -> None:
    """Codes, periods and limits agree, and so do the marks of the reasons."""
    assert [] == [row for row in ROWS if facts_of(row[0]) != facts_of(row[1])]


def test_rows_name_the_same() -> None:
    """States, calls and settings in a Chinese row are in the English row as well."""
    other = [
        (name, english)
        for english, chinese in ROWS
        for name in NAME.findall(chinese)
        if f"`{name}`" not in english
    ]

    assert [] == other


def test_every_rule_has_a_mark() -> None:
    """The page explains three marks."""
    for page, heading in ((ENGLISH, "Mark and source"), (CHINESE, "标记与来源")):
        marked = [table for table in tables(page) if heading in table[0]]
        assert len(marked) > 8
        assert [] == [row for table in marked for row in table[2:] if not marks(row)]


# --- The table of lifetimes in Qiniu's reference pages follows the core


RULES = TargetRules(timedelta(days=MIN_REMAINING_DAYS))
HOURS = 160
"""The lifetime of certificates of six days (Let's Encrypt's profiles page, 2026-07-14)."""

LIVES = {90: timedelta(days=90), 64: timedelta(days=64), 45: timedelta(days=45)}
_ROW = re.compile(r"^\| (\d+) \| (\d+) \| (\d+|—) \| (\d+|—) \|", re.MULTILINE)


def row(days: int, lifetime: timedelta) -> tuple[str, ...]:
    """Return the core's decisions: the age at a renewal, the time for uploads, and the remaining
    time.
    """
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


# --- The page about a hundred thousand certificates has the tables of its commands


SCALE_ENGLISH, SCALE_CHINESE = (
    (ROOT / "docs" / "explanation" / f"scale{language}.md").read_text(encoding="utf-8")
    for language in ("", ".zh-CN")
)
SCALE_ROW = re.compile(r"^\| .*\|$", re.MULTILINE)
NUMBERS = re.compile(r"\d[\d,.]*")


def test_page_has_the_computed_tables() -> None:
    """A changed limit, share or promise changes the page."""
    lines = [*needed(CERTIFICATES), *fleet.needed(fleet.CERTIFICATES, fleet.FLEET)]

    assert [] == [line for line in lines if line and line not in SCALE_ENGLISH.splitlines()]


def test_page_has_the_cost_of_every_kind_of_run() -> None:
    """The numbers stay within the limits that a test of the whole command checks."""
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in SCALE_ROW.findall(SCALE_ENGLISH)
    ]
    costs = {row[0]: row[1:4] for row in rows if row[0] in MOST and len(row) == 5}

    assert MOST.keys() == costs.keys()
    for kind_of_run, most in MOST.items():
        for counted, promised in zip(
            costs[kind_of_run], (most.ca, most.dns, most.cdn), strict=True
        ):
            assert int(counted) <= promised


def test_both_languages_have_the_same_numbers() -> None:
    """The tables are compared row by row."""
    english, chinese = (
        [NUMBERS.findall(row) for row in SCALE_ROW.findall(page)]
        for page in (SCALE_ENGLISH, SCALE_CHINESE)
    )
    assert english == chinese
