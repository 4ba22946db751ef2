"""The GitHub Action: its files by GitHub's schemas, and its steps in the demo's world."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import subprocess
import sys
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import pytest

from certferry import __version__
from certferry.config.load import load
from certferry.wiring.settings import ADAPTERS
from certferry_sandbox.world import World
from release import version
from release.papers import notes_of
from tests.acceptance.diskless import Runner
from tests.acceptance.host import Host, certificate
from tests.deploy.job import ACTION, STEPS, Job, read
from tests.house.tree import ROOT
from tests.support.programs import needs
from tests.support.tiers import thorough

TEMPLATE = ROOT / "deploy" / "github"
WORKFLOW = TEMPLATE / ".github" / "workflows" / "certferry.yml"
BRIEFLY = "--wait 5"
"""A scheduled run tries again minutes after a failure."""
IN_ORDER, FAILED, USAGE, LATER = 0, 1, 2, 75
INSTALLS = "Install certferry by hash"
SCRIPTS = {step["name"]: step["run"] for step in STEPS if "run" in step}

# --- The files


@pytest.mark.parametrize(
    ("schema", "file"), [("actions", ROOT / "action.yml"), ("workflows", WORKFLOW)]
)
def test_files_fit_the_schemas_of_github(schema: str, file: Path) -> None:
    """An unknown word is noticed before a runner reads the file."""
    words = ["--builtin-schema", f"vendor.github-{schema}", str(file)]

    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *words],
        capture_output=True,
        text=True,
        check=False,
    )

    assert IN_ORDER == done.returncode, done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_input_is_part_of_a_script(name: str) -> None:
    """An input reaches a step as a variable; in the text of a script it would be executed."""
    assert "${{" not in SCRIPTS[name]


@needs("shellcheck")
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_pass_shellcheck(name: str) -> None:
    """Words are split, expanded and ignored only on purpose."""
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "-"],
        input=SCRIPTS[name],
        capture_output=True,
        text=True,
        check=False,
    )

    assert IN_ORDER == done.returncode, done.stdout


def test_actions_of_others_are_pinned_by_the_hash_of_a_commit() -> None:
    """A tag can be moved, the hash of a commit cannot. Our own action is named by its version."""
    used = [step["uses"] for step in STEPS if "uses" in step]
    [job] = read(WORKFLOW)["jobs"].values()
    used += [step["uses"] for step in job["steps"] if "uses" in step]

    assert 3 == len(used)
    own = [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)]
    assert [f"certferry/certferry@v{__version__}"] == own


def test_template_runs_twice_a_day_without_overlap() -> None:
    """The minutes are odd, the job may only read, and two secrets are enough."""
    workflow = read(WORKFLOW)
    minutes = [schedule["cron"].split()[0] for schedule in workflow["on"]["schedule"]]

    assert 2 == len({int(minute) % 30 for minute in minutes} - {0})
    assert {"schedule", "workflow_dispatch"} == set(workflow["on"])
    assert {"contents": "read"} == workflow["permissions"]
    assert {"group": "certferry", "cancel-in-progress": False} == workflow["concurrency"]
    named = re.findall(r"\$\{\{ secrets\.(\w+) \}\}", WORKFLOW.read_text(encoding="utf-8"))
    assert ["CERTFERRY_ACCOUNTS", "CERTFERRY_KEY"] == named
    [job] = workflow["jobs"].values()
    assert set(job["steps"][-1]["with"]) <= set(ACTION["inputs"])


# --- Results of a run: green, late, red


def test_edges_that_serve_are_a_green_job(job: Job, name: str) -> None:
    """The summary has the verdict and a row for each certificate. The second run changes nothing,
    and its summary is in the chosen language.
    """
    first, second = job.run(), job.run(lang="zh")

    assert IN_ORDER == first.code, first.log
    assert "## ✅ certferry: Everything is as declared." in first.summary
    row = rf"^\| {re.escape(name)} \| in order \| issue, deploy {name}, verify {name} \|$"
    assert re.search(row, first.summary, re.MULTILINE), first.summary
    assert "in_order" == first.result
    assert json.loads(second.report)["ok"] is True
    assert "## ✅ certferry: 一切与声明相符。" in second.summary
    assert f"| {name} | 正常 | 无事可做 |" in second.summary
    assert [] == [*first.annotations("error"), *first.annotations("warning")]


def test_edge_that_does_not_serve_is_a_red_job(job: Job, host: Host, name: str) -> None:
    """The job fails with certferry's code, and its page has the domain and a hint."""
    host.rewrite("[verify]", "[verify]\ntimeout = 1")
    host.world.qiniu.hold(name)
    ended = job.run(args=BRIEFLY)
    host.world.qiniu.release(name)

    assert FAILED == ended.code
    assert "## ❌ certferry: Something failed" in ended.summary
    assert "### What needs you" in ended.summary
    problem, last = ended.annotations("error")
    assert f"{name}: qiniu has not finished its change since" in problem
    assert "what to do: " in problem
    assert "certferry ended with exit code 1" == last
    assert "failed" == ended.result


def test_change_that_goes_on_is_a_green_job_with_a_warning(job: Job, host: Host, name: str) -> None:
    """The next run continues, so the job has not failed."""
    host.world.qiniu.hold(name)
    ended = job.run(args="--no-wait")
    host.world.qiniu.release(name)

    assert IN_ORDER == ended.code
    assert "## ⏳ certferry: In progress" in ended.summary
    assert ["In progress: the next run goes on. Nothing is wrong so far."] == ended.annotations(
        "warning"
    )


def test_state_that_does_not_answer_is_a_red_job(job: Job, host: Host) -> None:
    """A green job without observations would hide the end of a certificate."""
    sqlite_line = f'url = "sqlite:///{host.state}"'
    url = "postgresql://certferry@127.0.0.1:9/certferry?sslmode=disable"
    key = b64encode(secrets.token_bytes(32)).decode()
    host.rewrite(sqlite_line, f'url = "{url}"\nkey = "{key}"')

    ended = job.run()

    assert LATER == ended.code, ended.log
    assert "No run was made." in ended.summary
    assert ended.annotations("error")


def test_mistake_in_the_file_is_a_red_job(job: Job, host: Host) -> None:
    """The sentence names the key."""
    host.rewrite("[verify]", "[verify]\ntimeuot = 1")

    ended = job.run()

    assert USAGE == ended.code
    assert "timeuot" in ended.summary
    assert "error" == ended.result


def test_keys_reach_certferry_alone_and_no_log(job: Job, host: Host) -> None:
    """Each value is masked before any other output, and the log has the value nowhere else."""
    ended = job.run()

    masks = [f"::add-mask::{value}" for value in job.keys.values()]
    assert masks == [line for line in ended.log.splitlines() if line.startswith("::add-mask")]
    other_lines = "\n".join(line for line in ended.log.splitlines() if line not in masks)
    for secret in host.world.secrets():
        assert secret not in other_lines + ended.summary
        assert secret not in ended.report


def test_malformed_line_of_the_keys(job: Job) -> None:
    """The error has the number of the line, without its contents."""
    ended = job.run(keys="A=1\nhunter2-secret")

    assert USAGE == ended.code
    assert ["`keys`, line 2, is not NAME=value"] == ended.annotations("error")
    assert "hunter2" not in ended.log


@pytest.mark.parametrize(
    "value", ['"', "'", '"hunter2', '"hunter2"secret"', "'hunter2's'", '"hunter2" secret']
)
def test_quotation_mark_of_the_keys_without_its_pair(job: Job, value: str) -> None:
    """The error names the line; the log has neither the value nor a traceback."""
    ended = job.run(keys=f"A='1'\nB=two words\nC={value}")

    sentence = "the value does not end with the quotation mark that it begins with"
    assert USAGE == ended.code
    assert [f"`keys`, line 3: {sentence}"] == ended.annotations("error")
    assert "hunter2" not in ended.log
    assert "Traceback" not in ended.log


def test_quotation_mark_of_args_without_its_pair(job: Job) -> None:
    """The error is in the language of the job."""
    ended = job.run(args='--wait "5', lang="zh")

    assert USAGE == ended.code
    assert ["`args` 中有一个引号没有配对"] == ended.annotations("error")
    assert "Traceback" not in ended.log


@pytest.mark.parametrize("names", [["args", "extras", "lang"], ["config"], ["version"], ["keys"]])
def test_input_is_never_executed(job: Job, names: list[str]) -> None:
    """An input is a word of certferry's command line, with every sign that a shell would
    interpret.
    """
    job.run(**dict.fromkeys(names, "; touch made; $(touch made) `touch made`"))

    assert not [*job.folder.rglob("made")]


def test_words_of_services_are_no_markup(job: Job, host: Host, name: str) -> None:
    """Quoted words are harmless in the summary, and in the log, whose lines may be commands for the
    runner.
    """
    host.world.qiniu.fail_next(name, "<img src=x>|[a](b)\n::set-env name=PATH::/tmp")

    ended = job.run(args=BRIEFLY)

    assert FAILED == ended.code
    assert not re.search(r"[<>\[\]]", ended.summary.partition("What needs you")[2])
    stopped = re.search(r"^::stop-commands::(\w+)$.*^::\1::$", ended.log, re.DOTALL | re.MULTILINE)
    assert stopped is not None
    outside = ended.log.replace(stopped[0], "")
    assert not re.search(r"^::set-env", outside, re.MULTILINE)


def test_next_job_goes_on_from_the_bucket(world: World, tmp_path: Path, name: str) -> None:
    """GitHub's machine is empty each time; the second job still has no work."""
    runner = Runner(world, tmp_path, certificate(name))
    keys = world.environment | runner.variables
    jobs = [
        Job(tmp_path, runner.config, keys, environment="github-hosted").run(args=BRIEFLY)
        for _ in range(2)
    ]

    assert [IN_ORDER, IN_ORDER] == [job.code for job in jobs], jobs
    assert f"issue, deploy {name}, verify {name}" in jobs[0].summary
    assert f"| {name} | in order | nothing to do |" in jobs[1].summary


# --- Warnings about lost schedules and lost states


def test_quiet_repository_is_warned_of(job: Job) -> None:
    """The warning begins after 45 days: GitHub stops the schedule of a public repository after
    60.
    """
    job.commit(timedelta(days=46))
    assert [] == warnings(job, config="none.toml")
    [warning] = warnings(job)
    assert "the last commit is 46 days old" in warning

    job.event = {"repository": {"private": True}}
    assert [] == warnings(job)


def test_young_repository_is_not_warned_of(job: Job) -> None:
    """After 44 days there is no warning."""
    job.commit(timedelta(days=44))

    assert [] == warnings(job)


@pytest.mark.parametrize(
    ("private", "fork", "workflow", "warned"),
    [
        (True, True, "concurrency: certs", ["is a fork"]),
        (False, False, "concurrency: certs\nuses: actions/cache@v4", ["actions/cache"]),
        (True, False, "concurrency: certs\nuses: actions/cache@v4", []),
        (True, False, "jobs: {}", ["no `concurrency`"]),
        (False, True, "uses: actions/cache/save@v4", ["fork", "actions/cache", "concurrency"]),
    ],
)
def test_repository_that_loses_runs_or_shows_a_state(
    job: Job, *, private: bool, fork: bool, workflow: str, warned: list[str]
) -> None:
    """Each reason has a single sentence."""
    job.event = {"repository": {"private": private, "fork": fork}}
    job.workflow = workflow

    shown_warnings = warnings(job)

    assert len(warned) == len(shown_warnings)
    assert all(word in sentence for word, sentence in zip(warned, shown_warnings, strict=True))


def warnings(job: Job, **inputs: str) -> list[str]:
    """Return the warnings on the job's page before any installation."""
    return job.run(until=INSTALLS, **inputs).annotations("warning")


def test_state_on_a_machine_of_githubs_is_refused(job: Job) -> None:
    """Each run would order every certificate again, so the job sends no request."""
    job.environment = "github-hosted"

    ended = job.run()

    assert USAGE == ended.code
    assert ["the state is a file on this runner"] == [
        annotation[:34] for annotation in ended.annotations("error")
    ]


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
def test_pull_request_is_refused(job: Job, event: str) -> None:
    """Its code comes from another person, so no key is used and no package is installed."""
    job.event_name = event

    ended = job.run()

    assert USAGE == ended.code
    assert ["certferry does not run for a pull request: its code is not yours yet"] == (
        ended.annotations("error")
    )


def test_missing_configuration_file(job: Job) -> None:
    """The sentence names the file."""
    ended = job.run(config="certs.toml", lang="zh")

    assert USAGE == ended.code
    assert "找不到 certs.toml" in ended.annotations("error")[0]


# --- Installed packages


@pytest.mark.parametrize(
    ("url", "extras"),
    [
        ("s3://certs/state", "s3"),
        ("kodo://certs/state", ""),
        ("postgresql://c@db/c", "postgresql"),
        ("sqlite:////var/lib/certferry/state.db", ""),
    ],
)
def test_extra_follows_from_the_state(job: Job, url: str, extras: str) -> None:
    """The libraries of the state are installed by default."""
    job.config.write_text(f'[state]\nurl = "{url}"\n')

    assert extras == looked(job)["extras"]


def test_other_release_comes_by_its_hash(job: Job, tmp_path: Path) -> None:
    """Its release notes have the hash, and a version without a hash is refused. The action's own
    version needs none. The operator may choose extras.
    """
    wheel = tmp_path / "certferry-0.0.9-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    [version] = re.findall(r'^ +version: "(.+)"$', notes_of(wheel, "- It."), re.MULTILINE)

    assert {"extras": "console", "release": ""} == looked(
        job, version=__version__, extras="console"
    )
    line = f"certferry==0.0.9 --hash=sha256:{hashlib.sha256(b'wheel').hexdigest()}"
    assert line == looked(job, version=version)["release"]
    [error] = job.run(version="0.0.9").annotations("error")
    assert f"the action is of {__version__}: write `uses: …@v0.0.9`" in error


def looked(job: Job, **inputs: str) -> dict[str, str]:
    """Return the inputs of the step that installs packages."""
    outputs = job.run(until=INSTALLS, **inputs).outputs
    return {name: outputs[f"steps.look.outputs.{name}"] for name in ("extras", "release")}


@thorough
@pytest.mark.timeout(600)
def test_steps_install_and_run_certferry(job: Job) -> None:
    """The action's own checkout is installed, each library by its hash."""
    ended = job.run(installed="false")

    if "Could not find a version" in ended.log:
        pytest.skip("no package registry can be reached")
    assert IN_ORDER == ended.code, ended.log
    assert f"certferry {version.current()} is in" in ended.log


# --- Sentences


def test_every_sentence_has_its_chinese() -> None:
    """Each Chinese sentence has an English one in use, with the same placeholders."""
    chinese = json.loads((TEMPLATE / "zh.json").read_text(encoding="utf-8"))
    program = (TEMPLATE / "action.py").read_text(encoding="utf-8")
    joined = re.sub(r'"\n\s+"', "", program)

    results = {"in order", "waiting", "failed", "refused", "stopped", "elsewhere"}
    assert set() == {
        english_sentence
        for english_sentence in set(chinese) - results
        if not re.search(f"[\"']{re.escape(english_sentence)}[\"']", joined)
    }
    used = re.findall(r'(?:say|Refused)\(\s*"([^"]+)"', joined)
    assert set() == set(used) - set(chinese)
    for english, other in chinese.items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", other))


def test_the_configuration_of_the_template_loads(tmp_path: Path) -> None:
    """The file is read unchanged."""
    config = tmp_path / "certferry.toml"
    template = (TEMPLATE / "certferry.toml").read_text(encoding="utf-8")
    config.write_text(template)

    assert load(config, {"HOME": str(tmp_path)}, ADAPTERS).certificates
