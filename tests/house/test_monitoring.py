"""The rules and the dashboard for operators, by Prometheus' own tool."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from certferry.core.assessment.health import (
    CRITICAL_SHARE,
    UPLOAD_CRITICAL,
    WARNING_SHARE,
)
from certferry.present.check_text import NAMES
from tests.house.tree import ROOT
from tests.support.programs import program_path
from tests.support.tiers import thorough

FOLDER = ROOT / "docs" / "monitoring"
RULES, TESTS = FOLDER / "alerts.yml", FOLDER / "alerts_test.yml"
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"\bcertferry_[a-z_]+")
VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")


def promtool(*words: str, within: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program_path("promtool"), *words], cwd=within, capture_output=True, text=True, check=False
    )


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_prometheus_takes_the_rules() -> None:
    """Every one of them."""
    checked = promtool("check", "rules", RULES.name)

    assert 0 == checked.returncode, checked.stderr
    assert f"SUCCESS: {RULES.read_text().count('- alert:')} rules found" in checked.stdout


@thorough
def test_the_rules_alert_when_they_are_to() -> None:
    """And not before: of 90 and of 45 days, before an upload's deadline, without runs. In the gate
    the guide's own command says so, in tests/acceptance/test_guides.py.
    """
    tested = promtool("test", "rules", TESTS.name)

    assert 0 == tested.returncode, tested.stdout + tested.stderr


def test_every_alert_has_its_test() -> None:
    """None is declared that no test of the rules names."""
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert alerts == set(re.findall(r"alertname: (\w+)", TESTS.read_text()))


A_LIFE, A_CDN, RUNS, CLOCK = "of 90 days", "at a CDN", "runs that", "a clock"
OTHER_NUMBERS = [
    (RUNS, "36 *", "38 *"), (RUNS, "26 *", "30 *"),
    (A_CDN, "/ 4)", "/ 5)"), (A_LIFE, "/ 12", "/ 13"), (A_LIFE, "/ 6)", "/ 5)"),
    (A_CDN, "13h", "20h"), (A_CDN, "== 0)", "== 1)"), (CLOCK, "> 3600", "> 1e9"),
]  # fmt: skip
"""The test of the rules that fails, what a rule says, and what it is made to say."""


@pytest.mark.parametrize(
    ("name", "written", "instead"),
    [OTHER_NUMBERS[0], *(pytest.param(*one, marks=thorough) for one in OTHER_NUMBERS[1:])],
)
def test_the_tests_of_the_rules_can_fail(
    name: str, written: str, instead: str, tmp_path: Path
) -> None:
    """With any other number in a rule, one of them does."""
    text = RULES.read_text()
    assert written in text
    tests = YAML(typ="safe", pure=True).load(TESTS)
    tests["tests"] = [test for test in tests["tests"] if name in test["name"]]
    (tmp_path / TESTS.name).write_text(json.dumps(tests))  # which is YAML, too
    asked = ("test", "rules", TESTS.name)

    (tmp_path / RULES.name).write_text(text)
    assert 0 == promtool(*asked, within=tmp_path).returncode
    (tmp_path / RULES.name).write_text(text.replace(written, instead))
    assert 0 != promtool(*asked, within=tmp_path).returncode


def test_the_rules_have_the_shares_of_check() -> None:
    """Prometheus alerts at the moment at which `certferry check` does."""
    rules = re.split(r"- alert: ", RULES.read_text())
    by_name = {rule.partition("\n")[0]: rule for rule in rules[1:]}

    assert f"/ {WARNING_SHARE})" in by_name["CertferryCertificateEndsSoon"]
    assert f"/ {CRITICAL_SHARE}\n" in by_name["CertferryCertificateEndsVerySoon"]
    assert f"/ {UPLOAD_CRITICAL})" in by_name["CertferryUploadDeadline"]


def test_rules_and_dashboard_know_only_what_is_written() -> None:
    """No metric that a run does not write, and of those each is used somewhere."""
    asked = set(METRIC.findall(RULES.read_text()))
    shown = {name for one in expressions() for name in METRIC.findall(one)}

    assert set() == (asked | shown) - set(NAMES)
    assert {"certferry_build_info"} == set(NAMES) - asked - shown


def test_prometheus_takes_the_dashboards_expressions(tmp_path: Path) -> None:
    """As rules, with something in the place of each variable that Grafana fills in."""
    rules = [
        {"record": f"panel:{number}", "expr": VARIABLE.sub("web1", one)}
        for number, one in enumerate(expressions())
    ]
    groups: dict[str, Any] = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "rules.yml").write_text(json.dumps(groups))  # YAML has all of JSON

    checked = promtool("check", "rules", "rules.yml", within=tmp_path)

    assert 0 == checked.returncode, checked.stderr


def test_the_dashboard_is_whole() -> None:
    """Its panels have their own places and numbers, and every variable is one of its own."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    }
    assert sum(p["gridPos"]["w"] * p["gridPos"]["h"] for p in panels) == len(places)
    assert all(x < 24 for x, _ in places)  # the columns of Grafana
    known = {one["name"] for one in DASHBOARD["templating"]["list"]}
    used = {a or b for a, b in VARIABLE.findall(json.dumps(DASHBOARD))} - {"__all"}
    assert used <= known
