"""A job of GitHub Actions: each step of `action.yml`, run by bash as a runner does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.house.tree import ROOT

LONGEST = 100  # seconds
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""The command of `shell: bash` (docs.github.com/actions/reference/workflow-syntax, 2026-11)."""

_EXPRESSION = re.compile(r"\$\{\{ (.+?) \}\}")


def read(path: Path) -> Any:
    """Return the single document of a YAML file, in which `on` is a word (YAML 1.2)."""
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


ACTION = read(ROOT / "action.yml")
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]


@dataclass(frozen=True)
class Ended:
    """The end of a job: its code, its log, its summary, its outputs."""

    code: int
    log: str
    summary: str
    outputs: Mapping[str, str]

    @property
    def result(self) -> str:
        """The output `result`."""
        return self.outputs["steps.run.outputs.result"]

    @property
    def report(self) -> str:
        """The contents of the file named by the output `report`."""
        return Path(self.outputs["steps.run.outputs.report"]).read_text(encoding="utf-8")

    def annotations(self, kind: str) -> list[str]:
        """Return the annotations on the job's page, without the title."""
        lines: list[str] = re.findall(rf"^::{kind} title=certferry::(.*)$", self.log, re.MULTILINE)
        return lines


@dataclass
class Job:
    """A job whose repository has a configuration; `keys` are its only secret."""

    folder: Path
    config: Path
    keys: Mapping[str, str]
    event_name: str = "schedule"
    event: dict[str, Any] = field(default_factory=dict)
    environment: str = "self-hosted"
    workflow: str = "concurrency: {group: certferry}\n"

    def commit(self, age: timedelta) -> None:
        """Create the repository, with a commit of this age."""
        date = (datetime.now(UTC) - age).isoformat()
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        for words in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "first")):
            subprocess.run(
                ["git", "-C", str(self.config.parent), *words],
                check=True,
                env={**os.environ, "GIT_COMMITTER_DATE": date},
            )

    def run(self, *, until: str | None = None, **inputs: str) -> Ended:
        """Carry out the steps with the certferry of this checkout, up to the first failure or to
        the step named `until`.
        """
        given = {
            name: definition.get("default", "") for name, definition in ACTION["inputs"].items()
        }
        given |= {
            "config": self.config.name,
            "installed": "true",
            "keys": "\n".join(f"{name}={value}" for name, value in self.keys.items()),
            **inputs,
        }
        known_values = {f"inputs.{name}": value for name, value in given.items()}
        logs, code, files = [], 0, self._files()
        for step in STEPS:
            if step["name"] == until:
                break
            if "uses" in step or not _holds(step.get("if", ""), known_values):
                continue
            variables = {
                name: _filled(value, known_values) for name, value in step.get("env", {}).items()
            }
            done = subprocess.run(
                [*SHELL, "-c", step["run"]],
                cwd=self.config.parent,
                env=self._environ(files) | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LONGEST,
                check=False,
            )
            logs.append(done.stdout)
            for line in files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition("=")
                known_values[f"steps.{step['id']}.outputs.{name}"] = value
            files["GITHUB_OUTPUT"].write_text("")
            if code := done.returncode:
                break
        summary = files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
        return Ended(code, "".join(logs), summary, known_values)

    def _files(self) -> dict[str, Path]:
        runner = self.folder / "runner"
        shutil.rmtree(runner, ignore_errors=True)
        runner.mkdir()
        files = {
            name: runner / name.lower()
            for name in ("GITHUB_EVENT_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        }
        for file in files.values():
            file.touch()
        files["GITHUB_EVENT_PATH"].write_text(json.dumps(self.event))
        (self.config.parent / "w.yml").write_text(self.workflow)
        return files

    def _environ(self, files: Mapping[str, Path]) -> dict[str, str]:
        return {
            "HOME": os.environ["HOME"],
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_EVENT_NAME": self.event_name,
            "GITHUB_WORKFLOW_REF": "ann/certs/w.yml@refs/heads/main",
            "GITHUB_WORKSPACE": str(self.config.parent),
            "RUNNER_ENVIRONMENT": self.environment,
            "RUNNER_TEMP": str(self.folder / "runner"),
        } | {name: str(path) for name, path in files.items()}


def _holds(condition: str, known_values: Mapping[str, str]) -> bool:
    """Return whether a step runs: its condition, if any, compares with `!=`."""
    name, compared, word = condition.partition(" != ")
    return not compared or known_values[name] != word.strip("'")


def _filled(text: str, known_values: Mapping[str, str]) -> str:
    """Fill expressions of the form `NAME` or `NAME || 'word'`, for outputs that may be unset."""

    def value(expression: re.Match[str]) -> str:
        name, _, default = expression[1].partition(" || ")
        return known_values.get(name, "") or default.strip("'")

    return _EXPRESSION.sub(value, text)
