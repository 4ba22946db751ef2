"""The workflows that GitHub runs for this repository: what is built has no rights, and what has
rights takes what was built, of a tag alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from tests.deploy.job import read
from tests.house.tree import ROOT
from tests.support.programs import needs

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: read(path) for path in FOLDER.glob("*.yml")}
RELEASE: dict[str, Any] = WORKFLOWS["release"]["jobs"]
READING = {"contents": "read"}

every_workflow = pytest.mark.parametrize("name", sorted(WORKFLOWS))


def steps_of(workflow: str) -> list[dict[str, Any]]:
    """Return the steps of all jobs of a workflow."""
    return [step for job in WORKFLOWS[workflow]["jobs"].values() for step in job.get("steps", [])]


@every_workflow
def test_workflow_fits_the_schema_of_github(name: str) -> None:
    """A word that GitHub does not know is found before a tag is pushed."""
    words = ["--builtin-schema", "vendor.github-workflows", str(FOLDER / f"{name}.yml")]

    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *words],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout


@every_workflow
def test_workflow_of_a_repository_has_no_rights_of_its_own(name: str) -> None:
    """Each job names the rights it has."""
    assert {} == WORKFLOWS[name]["permissions"]
    assert all("permissions" in job for job in WORKFLOWS[name]["jobs"].values())


@every_workflow
def test_code_of_a_pull_request_never_runs_with_rights(name: str) -> None:
    """Where a pull request starts a workflow, it may read; nowhere does it run with our secrets."""
    events = set(WORKFLOWS[name]["on"])

    assert not events & {"pull_request_target", "workflow_run", "issue_comment"}
    if "pull_request" in events:
        assert all(READING == job["permissions"] for job in WORKFLOWS[name]["jobs"].values())


@every_workflow
def test_actions_of_others_are_pinned_by_the_hash_of_a_commit(name: str) -> None:
    """A tag can be moved; our own workflow is that of the same commit."""
    used = [step["uses"] for step in steps_of(name) if "uses" in step]
    used += [job["uses"] for job in WORKFLOWS[name]["jobs"].values() if "uses" in job]
    text = (FOLDER / f"{name}.yml").read_text(encoding="utf-8")

    ours = [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one)]
    assert set(ours) <= {"./.github/workflows/test.yml"}
    versions = re.findall(r"uses: \S+@[0-9a-f]{40} # v[\d.]+$", text, re.MULTILINE)
    assert len(used) - len(ours) == len(versions)


@every_workflow
def test_a_checkout_leaves_no_token_behind(name: str) -> None:
    """What is built could read it."""
    checkouts = [step for step in steps_of(name) if "checkout@" in step.get("uses", "")]

    assert all(False is step["with"]["persist-credentials"] for step in checkouts)


@every_workflow
def test_no_name_of_others_is_part_of_a_script(name: str) -> None:
    """A tag's or a branch's name in a script's text would be run."""
    assert [] == [step for step in steps_of(name) if "${{" in step.get("run", "")]


@needs("shellcheck")
@every_workflow
def test_scripts_of_workflows_pass_shellcheck(name: str) -> None:
    """Nothing is split, expanded or ignored that was not meant to be."""
    for step in steps_of(name):
        if "run" in step:
            done = subprocess.run(
                ["shellcheck", "--shell=bash", "-"],
                input=step["run"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert 0 == done.returncode, done.stdout


def test_only_a_tag_releases() -> None:
    """No branch, no pull request, no hand."""
    assert {"push": {"tags": ["v*"]}} == WORKFLOWS["release"]["on"]


def test_what_is_built_has_no_rights() -> None:
    """The jobs that run the repository's code read it, and have no environment and no token."""
    running = [job for job in RELEASE.values() if "checkout@" in str(job) or "uses" in job]

    assert 2 == len(running)
    for job in running:
        assert READING == job["permissions"]
        assert "environment" not in job
        assert "token" not in str(job)
    assert "test" == RELEASE["build"]["needs"]


def test_what_has_rights_builds_nothing() -> None:
    """It takes the artefacts of the job that built them, behind an environment, and no checkout."""
    publishing = {name: job for name, job in RELEASE.items() if "environment" in job}

    assert {"pypi", "github", "image"} == set(publishing)
    for job in publishing.values():
        assert job["steps"][0]["uses"].startswith("actions/download-artifact@")
        assert "build" in job["needs"]
        assert "scripts/" not in str(job["steps"])


def test_pypi_is_given_no_secret() -> None:
    """It trusts this workflow by name; each file has an attestation."""
    job = RELEASE["pypi"]

    assert {"id-token": "write"} == job["permissions"]
    upload = job["steps"][-1]
    assert upload["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert {"packages-dir": "python/", "attestations": True} == upload["with"]
    assert "secrets." not in (FOLDER / "release.yml").read_text(encoding="utf-8")


def test_commits_pass_what_a_checkout_passes() -> None:
    """`.ci/run`, and nothing besides."""
    runs = [step["run"] for step in steps_of("test") if "run" in step]

    assert ["./.ci/run"] == runs


def test_a_tag_publishes_the_site() -> None:
    """By the command that anyone builds it with, for the address that the repository's Pages have;
    what has the right to publish builds nothing, and no secret is needed.
    """
    assert {"push": {"tags": ["v*"]}} == WORKFLOWS["site"]["on"]
    build, publish = (WORKFLOWS["site"]["jobs"][name] for name in ("build", "publish"))

    assert {"contents": "read", "pages": "read"} == build["permissions"]
    [command] = [step for step in build["steps"] if "run" in step]
    assert './scripts/site build/site "$ADDRESS"' == command["run"]
    assert {"ADDRESS": "${{ steps.pages.outputs.base_url }}"} == command["env"]
    assert {"path": "build/site"} == build["steps"][-1]["with"]
    assert {"id-token": "write", "pages": "write"} == publish["permissions"]
    assert "github-pages" == publish["environment"]["name"]
    assert ["actions/deploy-pages"] == [step["uses"].partition("@")[0] for step in publish["steps"]]
    assert "secrets." not in (FOLDER / "site.yml").read_text(encoding="utf-8")
