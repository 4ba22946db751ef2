"""Write the page of all codes, in each language: what each means, and what to do.

`scripts/reference` runs this. The words are in `codes.toml` beside it, and those of `doctor` on its
own page; exit code and retry are the code's own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from certferry.cli import exits
from certferry.errors import CertferryError, Reported, RunEnded
from certferry.wiring.adapters import BrokenAdapter
from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "reference" / "codes.md"
DOCTOR = ROOT / "docs" / "reference" / "doctor.md"
WORDS = Path(__file__).with_name("codes.toml")
ERRORS = ("runs", "state", "issuance", "dns", "targets")
"""The sections whose codes are those of `certferry.errors`."""
_LISTED = re.compile(r"^\| (`[a-z_`、, ]+) \|[^|]*\|([^|]*)\|([^|]*)\|$", re.MULTILINE)

Meaning = tuple[str, str]
"""Cause and fix."""


@dataclass(frozen=True)
class Words:
    """What the page says in one language, beside the meanings."""

    language: str
    title: str
    intro: str
    sections: Mapping[str, str]
    columns: tuple[str, ...]
    again: str
    nothing: str


ENGLISH = Words(
    language="en",
    title="# Codes: what each means, and what to do",
    intro="""\
[中文](codes.zh-CN.md)

<!-- Made by ./scripts/reference; edit tests/house/codes.toml and doctor.md, not this page. -->

A code is stable: it stands in `--json`, in the log as a document, and in what channels are sent.
`certferry help CODE` prints its line. *Exit* is the exit code of a command that ends with it before
it has a result; in `sync`, a step that fails makes the run exit 1. A run started by hand tries
everything again; *again* marks what scheduled runs try again by themselves. Packages of other
authors may bring codes of their own.""",
    sections={
        "runs": "## The run",
        "state": "## The state",
        "issuance": "## Issuance",
        "dns": "## DNS",
        "targets": "## Targets",
        "reasons": "## Why something is done, or refused",
        "edges": "## What is wrong at an edge",
        "messages": "## In messages",
        "check": "## What `check` says",
        "doctor": "## What `doctor` finds",
    },
    columns=("code", "exit", "cause", "what to do"),
    again=", again",
    nothing="Nothing.",
)
CHINESE = Words(
    language="zh",
    title="# 代码：含义与处理办法",
    intro="""\
[English](codes.md)

<!-- ./scripts/reference 生成本页；请修改 tests/house/codes.toml 和 doctor.zh-CN.md。 -->

代码不会改变：它出现在 `--json`、JSON 格式的日志和通知中。`certferry help CODE` 打印其中一行。
“退出码”指命令还没有结果就因此结束时的退出码；`sync` 中某一步失败时，整个运行以 1 退出。
手动运行总会重试；标有“会重试”的，计划任务也会自动重试。第三方软件包可能有自己的代码。""",
    sections={
        "runs": "## 运行",
        "state": "## 状态",
        "issuance": "## 签发",
        "dns": "## DNS",
        "targets": "## 部署目标",
        "reasons": "## 执行或拒绝的原因",
        "edges": "## 边缘节点上的问题",
        "messages": "## 通知中的代码",
        "check": "## `check` 的结果",
        "doctor": "## `doctor` 的发现",
    },
    columns=("代码", "退出码", "原因", "处理办法"),
    again="，会重试",
    nothing="无需处理。",
)


def pages() -> dict[Path, str]:
    return {PAGE: page(ENGLISH), PAGE.with_suffix(".zh-CN.md"): page(CHINESE)}


def page(words: Words) -> str:
    parts = [words.title, words.intro]
    for section, heading in words.sections.items():
        found = _of_doctor(words) if section == "doctor" else meanings(words.language)[section]
        parts += [heading, "\n".join(_rows(section, found, words))]
    return "\n\n".join(parts) + "\n"


@cache
def meanings(language: str) -> dict[str, dict[str, Meaning]]:
    """Return cause and fix of each code, by section."""
    written = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    return {
        section: {code: tuple(said[language]) for code, said in sorted(codes.items())}
        for section, codes in written.items()
    }


def errors() -> dict[str, type[Reported]]:
    """Return every class of error that there is here, by its code, and what ends a run."""
    found: list[type[Reported]] = [CertferryError, BrokenAdapter, *RunEnded.__subclasses__()]
    for one in found:
        found += [kind for kind in one.__subclasses__() if kind not in found]
    return {one.code: one for one in found if one.__module__.startswith("certferry.")}


def _rows(section: str, found: Mapping[str, Meaning], words: Words) -> Iterator[str]:
    code, exit_code, *others = words.columns
    columns = (code, exit_code, *others) if section in ERRORS else (code, *others)
    yield _row(columns)
    yield _row(("---",) * len(columns))
    for name, meaning in found.items():
        exits_ = (_exit(name, words),) if section in ERRORS else ()
        yield _row((f"`{name}`", *exits_, *meaning))


def _exit(code: str, words: Words) -> str:
    kind = errors().get(code)
    if kind is None:  # what the command line itself complains of
        return str(int(exits.Exit.USAGE if code == "usage" else exits.Exit.FAILED))
    again = words.again if kind.default_retry.allowed else ""
    return f"{int(exits.of_error(kind('')))}{again}"


def _of_doctor(words: Words) -> dict[str, Meaning]:
    path = DOCTOR if words.language == "en" else DOCTOR.with_suffix(".zh-CN.md")
    return {
        code: (cause.strip(), fix.strip() or words.nothing)
        for listed, cause, fix in _LISTED.findall(path.read_text(encoding="utf-8"))
        for code in re.findall(r"[a-z_]+", listed)
    }


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
