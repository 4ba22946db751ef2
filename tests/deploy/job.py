"""A job of GitHub Actions: the steps of `action.yml`, each run by bash as a runner runs it."""

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
"""What `shell: bash` means (docs.github.com/actions/reference/workflow-syntax, 2026-11)."""

_EXPRESSION = re.compile(r"\$\{\{ (.+?) \}\}")


def read(path: Path) -> Any:
    """Return the one document of a YAML file, in which `on` is a word (YAML 1.2)."""
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


ACTION = read(ROOT / "action.yml")
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]


@dataclass(frozen=True)
class Ended:
    """How a job ended: its code, its log, its summary, its outputs."""

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
        """What is in the file that the output `report` names."""
        return Path(self.outputs["steps.run.outputs.report"]).read_text(encoding="utf-8")

    def annotations(self, kind: str) -> list[str]:
        """Return what the job's page shows, without the title."""
        found: list[str] = re.findall(rf"^::{kind} title=certferry::(.*)$", self.log, re.MULTILINE)
        return found


@dataclass
class Job:
    """A job. Its repository holds a configuration; the variables of `keys` are its one secret."""

    folder: Path
    config: Path
    keys: Mapping[str, str]
    event_name: str = "schedule"
    event: dict[str, Any] = field(default_factory=dict)
    environment: str = "self-hosted"
    workflow: str = "concurrency: {group: certferry}\n"

    def commit(self, age: timedelta) -> None:
        """Make the repository, with one commit of this age."""
        date = (datetime.now(UTC) - age).isoformat()
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        for words in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "first")):
            subprocess.run(
                ["git", "-C", str(self.config.parent), *words],
                check=True,
                env={**os.environ, "GIT_COMMITTER_DATE": date},
            )

    def run(self, *, until: str | None = None, **inputs: str) -> Ended:
        """Carry out the steps with the certferry of this checkout: up to the first that fails, or
        the one named `until`, without it.
        """
        given = {name: one.get("default", "") for name, one in ACTION["inputs"].items()}
        given |= {
            "config": self.config.name,
            "installed": "true",
            "keys": "\n".join(f"{name}={value}" for name, value in self.keys.items()),
            **inputs,
        }
        found = {f"inputs.{name}": value for name, value in given.items()}
        logs, code, files = [], 0, self._files()
        for step in STEPS:
            if step["name"] == until:
                break
            if "uses" in step or not _holds(step.get("if", ""), found):
                continue
            variables = {name: _filled(value, found) for name, value in step.get("env", {}).items()}
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
                found[f"steps.{step['id']}.outputs.{name}"] = value
            files["GITHUB_OUTPUT"].write_text("")
            if code := done.returncode:
                break
        summary = files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
        return Ended(code, "".join(logs), summary, found)

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


def _holds(condition: str, found: Mapping[str, str]) -> bool:
    """Return whether a step is run: its condition compares with `!=`, if it has one."""
    name, compared, word = condition.partition(" != ")
    return not compared or found[name] != word.strip("'")


def _filled(text: str, found: Mapping[str, str]) -> str:
    """Fill expressions of the form `NAME` or `NAME || 'word'`, of outputs that may be unset."""

    def value(expression: re.Match[str]) -> str:
        name, _, default = expression[1].partition(" || ")
        return found.get(name, "") or default.strip("'")

    return _EXPRESSION.sub(value, text)
