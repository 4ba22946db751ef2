"""The workflows of this repository: jobs that build have no rights, and jobs with rights only
publish built files of a tag.
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
    """An unknown word is noticed before a tag is pushed."""
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
    """Each job declares its own rights."""
    assert {} == WORKFLOWS[name]["permissions"]
    assert all("permissions" in job for job in WORKFLOWS[name]["jobs"].values())


@every_workflow
def test_code_of_a_pull_request_never_runs_with_rights(name: str) -> None:
    """A workflow started by a pull request may only read, and has no secrets."""
    events = set(WORKFLOWS[name]["on"])

    assert not events & {"pull_request_target", "workflow_run", "issue_comment"}
    if "pull_request" in events:
        assert all(READING == job["permissions"] for job in WORKFLOWS[name]["jobs"].values())


@every_workflow
def test_actions_of_others_are_pinned_by_the_hash_of_a_commit(name: str) -> None:
    """A tag can be moved; our own workflow comes from the same commit."""
    used = [step["uses"] for step in steps_of(name) if "uses" in step]
    used += [job["uses"] for job in WORKFLOWS[name]["jobs"].values() if "uses" in job]
    text = (FOLDER / f"{name}.yml").read_text(encoding="utf-8")

    ours = [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)]
    assert set(ours) <= {"./.github/workflows/test.yml"}
    versions = re.findall(r"uses: \S+@[0-9a-f]{40} # v[\d.]+$", text, re.MULTILINE)
    assert len(used) - len(ours) == len(versions)


@every_workflow
def test_checkout_leaves_no_token_behind(name: str) -> None:
    """Code that is built could read the token."""
    checkouts = [step for step in steps_of(name) if "checkout@" in step.get("uses", "")]

    assert all(False is step["with"]["persist-credentials"] for step in checkouts)


@every_workflow
def test_no_name_of_others_is_part_of_a_script(name: str) -> None:
    """The name of a tag or branch in the text of a script would be executed."""
    assert [] == [step for step in steps_of(name) if "${{" in step.get("run", "")]


@needs("shellcheck")
@every_workflow
def test_scripts_of_workflows_pass_shellcheck(name: str) -> None:
    """Words are split, expanded and ignored only on purpose."""
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
    """Branches, pull requests and people release nothing."""
    assert {"push": {"tags": ["v*"]}} == WORKFLOWS["release"]["on"]


def test_jobs_that_build_have_no_rights() -> None:
    """Jobs that run the repository's code may only read it, without environment or token."""
    running = [job for job in RELEASE.values() if "checkout@" in str(job) or "uses" in job]

    assert 2 == len(running)
    for job in running:
        assert READING == job["permissions"]
        assert "environment" not in job
        assert "token" not in str(job)
    assert "test" == RELEASE["build"]["needs"]


def test_jobs_with_rights_build_nothing() -> None:
    """Such a job takes the artefacts of the building job, behind an environment, without a
    checkout.
    """
    publishing = {name: job for name, job in RELEASE.items() if "environment" in job}

    assert {"pypi", "github", "image"} == set(publishing)
    for job in publishing.values():
        assert job["steps"][0]["uses"].startswith("actions/download-artifact@")
        assert "build" in job["needs"]
        assert "scripts/" not in str(job["steps"])


def test_pypi_is_given_no_secret() -> None:
    """PyPI trusts this workflow by name; each file has an attestation."""
    job = RELEASE["pypi"]

    assert {"id-token": "write"} == job["permissions"]
    upload = job["steps"][-1]
    assert upload["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert {"packages-dir": "python/", "attestations": True} == upload["with"]
    assert "secrets." not in (FOLDER / "release.yml").read_text(encoding="utf-8")


def test_commits_run_the_gate_of_a_checkout() -> None:
    """A commit runs `.ci/run` alone."""
    runs = [step["run"] for step in steps_of("test") if "run" in step]

    assert ["./.ci/run"] == runs


def test_tag_publishes_the_site() -> None:
    """The site is built by the usual command for the address of the repository's Pages. The job
    that may publish builds nothing, and needs no secret.
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
