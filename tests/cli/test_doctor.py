"""How `certferry doctor` tells what it found, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from textwrap import dedent

import pytest

from certferry.cli.doctor import show_findings
from certferry.cli.exits import Exit
from certferry.cli.options import Front
from certferry.core.findings import error, info, warning
from certferry.present.console import Verbosity
from certferry.problem import Problem
from certferry.text import Text
from tests.cli.consoles import TestConsole

ERROR = error(
    "zone_missing",
    "x.notmine.org",
    Text("x.notmine.org: no zone of the account holds it"),
    Text("add the domain to the account"),
)
WARNING = warning("schedule_missing", "schedule", Text("no daily run is installed"), None)
INFO = info("ways", "qiniu", Text("the keys are accepted\x1b[2J"))


def shown(
    findings: Sequence[Problem], *, as_json: bool = False, quiet: bool = False
) -> tuple[Exit, TestConsole]:
    """Give the exit code, and what was written."""
    console = TestConsole()
    verbosity = Verbosity.QUIET if quiet else Verbosity.NORMAL
    return show_findings(
        findings, Front(console.console, None, verbosity), as_json=as_json
    ), console


def test_each_finding_has_its_code_and_its_fix() -> None:
    """The subject is named once; words from outside move no cursor. An error is a failure."""
    code, console = shown([ERROR, WARNING, INFO])

    assert (
        dedent("""\
        error: x.notmine.org: no zone of the account holds it [zone_missing]
          fix: add the domain to the account
        warning: schedule: no daily run is installed [schedule_missing]
        info: qiniu: the keys are accepted\N{REPLACEMENT CHARACTER}[2J [ways]

        1 error, 1 warning. Nothing was changed.
        """)
        == console.out
    )
    assert Exit.FAILED == code


@pytest.mark.parametrize(
    ("findings", "conclusion"),
    [
        ([], "Everything that a run relies on is in order. Nothing was changed.\n"),
        ([INFO], "\n\nEverything that a run relies on is in order. Nothing was changed.\n"),
        ([WARNING, WARNING], "\n\n2 warnings. Nothing was changed.\n"),
    ],
)
def test_without_an_error_all_is_in_order(findings: list[Problem], conclusion: str) -> None:
    """Warnings end with 0."""
    code, console = shown(findings)

    assert console.out.endswith(conclusion)
    assert Exit.OK == code


def test_quiet_run_tells_errors_alone() -> None:
    """On stderr; of anything else, nothing."""
    code, console = shown([ERROR, WARNING, INFO], quiet=True)

    assert "" == console.out
    assert 2 == len(console.err.splitlines())
    assert Exit.FAILED == code
    assert (Exit.OK, "") == (shown([WARNING], quiet=True)[0], shown([WARNING], quiet=True)[1].err)


def test_document_is_that_of_the_contract() -> None:
    """What has no fix has null."""
    code, console = shown([ERROR, WARNING], as_json=True)

    assert {
        "ok": False,
        "findings": [
            {
                "severity": "error",
                "code": "zone_missing",
                "subject": "x.notmine.org",
                "message": "x.notmine.org: no zone of the account holds it",
                "fix": "add the domain to the account",
            },
            {
                "severity": "warning",
                "code": "schedule_missing",
                "subject": "schedule",
                "message": "no daily run is installed",
                "fix": None,
            },
        ],
    } == json.loads(console.out)
    assert Exit.FAILED == code
    assert json.loads(shown([INFO], as_json=True)[1].out)["ok"]
