"""The rules and the dashboard for operators, checked with Prometheus' own tool."""

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
    """Every rule is valid."""
    checked = promtool("check", "rules", RULES.name)

    assert 0 == checked.returncode, checked.stderr
    assert f"SUCCESS: {RULES.read_text().count('- alert:')} rules found" in checked.stdout


@thorough
def test_the_rules_alert_when_they_are_to() -> None:
    """An alert comes at the right moment and never before: for 90 and 45 days, before an upload's
    deadline, and without runs. In the gate the guide's own command is run, in
    tests/acceptance/test_guides.py.
    """
    tested = promtool("test", "rules", TESTS.name)

    assert 0 == tested.returncode, tested.stdout + tested.stderr


def test_every_alert_has_its_test() -> None:
    """The tests of the rules name every declared alert."""
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert alerts == set(re.findall(r"alertname: (\w+)", TESTS.read_text()))


A_LIFE, A_CDN, RUNS, CLOCK = "of 90 days", "at a CDN", "runs that", "a clock"
OTHER_NUMBERS = [
    (RUNS, "36 *", "38 *"), (RUNS, "26 *", "30 *"),
    (A_CDN, "/ 4)", "/ 5)"), (A_LIFE, "/ 12", "/ 13"), (A_LIFE, "/ 6)", "/ 5)"),
    (A_CDN, "13h", "20h"), (A_CDN, "== 0)", "== 1)"), (CLOCK, "> 3600", "> 1e9"),
]  # fmt: skip
"""The test of the rules that fails, the text of a rule, and its replacement."""


@pytest.mark.parametrize(
    ("name", "original", "instead"),
    [OTHER_NUMBERS[0], *(pytest.param(*change, marks=thorough) for change in OTHER_NUMBERS[1:])],
)
def test_the_tests_of_the_rules_can_fail(
    name: str, original: str, instead: str, tmp_path: Path
) -> None:
    """With any other number in a rule, a test fails."""
    text = RULES.read_text()
    assert original in text
    tests = YAML(typ="safe", pure=True).load(TESTS)
    tests["tests"] = [test for test in tests["tests"] if name in test["name"]]
    (tmp_path / TESTS.name).write_text(json.dumps(tests))  # JSON is YAML, too
    words = ("test", "rules", TESTS.name)

    (tmp_path / RULES.name).write_text(text)
    assert 0 == promtool(*words, within=tmp_path).returncode
    (tmp_path / RULES.name).write_text(text.replace(original, instead))
    assert 0 != promtool(*words, within=tmp_path).returncode


def test_the_rules_have_the_shares_of_check() -> None:
    """Prometheus alerts at the same moment as `certferry check`."""
    rules = re.split(r"- alert: ", RULES.read_text())
    by_name = {rule.partition("\n")[0]: rule for rule in rules[1:]}

    assert f"/ {WARNING_SHARE})" in by_name["CertferryCertificateEndsSoon"]
    assert f"/ {CRITICAL_SHARE}\n" in by_name["CertferryCertificateEndsVerySoon"]
    assert f"/ {UPLOAD_CRITICAL})" in by_name["CertferryUploadDeadline"]


def test_rules_and_dashboard_use_the_written_metrics() -> None:
    """Rules and dashboard use only metrics of a run, and each metric has a use."""
    in_rules = set(METRIC.findall(RULES.read_text()))
    shown = {name for expression in expressions() for name in METRIC.findall(expression)}

    assert set() == (in_rules | shown) - set(NAMES)
    assert {"certferry_build_info"} == set(NAMES) - in_rules - shown


def test_prometheus_takes_the_dashboards_expressions(tmp_path: Path) -> None:
    """The expressions are checked as rules, with a value for each variable that Grafana fills
    in.
    """
    rules = [
        {"record": f"panel:{number}", "expr": VARIABLE.sub("web1", expression)}
        for number, expression in enumerate(expressions())
    ]
    groups: dict[str, Any] = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "rules.yml").write_text(json.dumps(groups))  # YAML has all of JSON

    checked = promtool("check", "rules", "rules.yml", within=tmp_path)

    assert 0 == checked.returncode, checked.stderr


def test_the_dashboard_is_whole() -> None:
    """Panels have places and numbers of their own, and every variable is declared."""
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
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = {a or b for a, b in VARIABLE.findall(json.dumps(DASHBOARD))} - {"__all"}
    assert used <= variables
