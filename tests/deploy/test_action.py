"""The GitHub Action: its files fit GitHub's schemas, and its steps run in the demo's world."""

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
"""A scheduled run tries again what failed, after minutes."""
IN_ORDER, FAILED, USAGE, LATER = 0, 1, 2, 75
INSTALLS = "Install certferry by hash"
SCRIPTS = {step["name"]: step["run"] for step in STEPS if "run" in step}

# --- The files


@pytest.mark.parametrize(
    ("schema", "file"), [("actions", ROOT / "action.yml"), ("workflows", WORKFLOW)]
)
def test_files_fit_the_schemas_of_github(schema: str, file: Path) -> None:
    """A word that GitHub does not know is found before a runner finds it."""
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
    """An input reaches a step as a variable: in the script's text it would be run."""
    assert "${{" not in SCRIPTS[name]


@needs("shellcheck")
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_pass_shellcheck(name: str) -> None:
    """Nothing is split, expanded or ignored that was not meant to be."""
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "-"],
        input=SCRIPTS[name],
        capture_output=True,
        text=True,
        check=False,
    )

    assert IN_ORDER == done.returncode, done.stdout


def test_everything_of_others_is_pinned_by_its_hash() -> None:
    """Of actions the hash of a commit, which no tag can be moved from; our own by its version."""
    used = [step["uses"] for step in STEPS if "uses" in step]
    [job] = read(WORKFLOW)["jobs"].values()
    used += [step["uses"] for step in job["steps"] if "uses" in step]

    assert 3 == len(used)
    own = [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one)]
    assert [f"certferry/certferry@v{__version__}"] == own


def test_the_template_runs_twice_a_day_and_never_two_at_once() -> None:
    """At odd minutes, with the right to read alone, from two secrets."""
    workflow = read(WORKFLOW)
    minutes = [one["cron"].split()[0] for one in workflow["on"]["schedule"]]

    assert 2 == len({int(minute) % 30 for minute in minutes} - {0})
    assert {"schedule", "workflow_dispatch"} == set(workflow["on"])
    assert {"contents": "read"} == workflow["permissions"]
    assert {"group": "certferry", "cancel-in-progress": False} == workflow["concurrency"]
    named = re.findall(r"\$\{\{ secrets\.(\w+) \}\}", WORKFLOW.read_text(encoding="utf-8"))
    assert ["CERTFERRY_ACCOUNTS", "CERTFERRY_KEY"] == named
    [job] = workflow["jobs"].values()
    assert set(job["steps"][-1]["with"]) <= set(ACTION["inputs"])


# --- A run: green, late, red


def test_edges_that_serve_are_a_green_job(job: Job, name: str) -> None:
    """The summary has the verdict and a row for each certificate; the second run changes nothing,
    and says it in the language that is asked for.
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
    """The job fails with certferry's code, and its page says which domain, and what to do."""
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
    """The next run goes on; nothing has failed."""
    host.world.qiniu.hold(name)
    ended = job.run(args="--no-wait")
    host.world.qiniu.release(name)

    assert IN_ORDER == ended.code
    assert "## ⏳ certferry: In progress" in ended.summary
    assert ["In progress: the next run goes on. Nothing is wrong so far."] == ended.annotations(
        "warning"
    )


def test_state_that_does_not_answer_is_a_red_job(job: Job, host: Host) -> None:
    """A job that is green while nothing is observed would hide the end of a certificate."""
    written = f'url = "sqlite:///{host.state}"'
    url = "postgresql://certferry@127.0.0.1:9/certferry?sslmode=disable"
    key = b64encode(secrets.token_bytes(32)).decode()
    host.rewrite(written, f'url = "{url}"\nkey = "{key}"')

    ended = job.run()

    assert LATER == ended.code, ended.log
    assert "No run was made." in ended.summary
    assert ended.annotations("error")


def test_mistake_in_the_file_is_a_red_job(job: Job, host: Host) -> None:
    """With the sentence that names the key."""
    host.rewrite("[verify]", "[verify]\ntimeuot = 1")

    ended = job.run()

    assert USAGE == ended.code
    assert "timeuot" in ended.summary
    assert "error" == ended.result


def test_keys_reach_certferry_alone_and_no_log(job: Job, host: Host) -> None:
    """Each value is masked before anything else is printed; the log holds it nowhere else."""
    ended = job.run()

    masks = [f"::add-mask::{value}" for value in job.keys.values()]
    assert masks == [line for line in ended.log.splitlines() if line.startswith("::add-mask")]
    rest = "\n".join(line for line in ended.log.splitlines() if line not in masks)
    for secret in host.world.secrets():
        assert secret not in rest + ended.summary
        assert secret not in ended.report


def test_line_of_the_keys_that_is_none(job: Job) -> None:
    """Its number is named, and not what stands there."""
    ended = job.run(keys="A=1\nhunter2-secret")

    assert USAGE == ended.code
    assert ["`keys`, line 2, is not NAME=value"] == ended.annotations("error")
    assert "hunter2" not in ended.log


@pytest.mark.parametrize(
    "value", ['"', "'", '"hunter2', '"hunter2"secret"', "'hunter2's'", '"hunter2" secret']
)
def test_quotation_mark_of_the_keys_without_its_pair(job: Job, value: str) -> None:
    """The line is named, and nothing of the value is in the log, also as no traceback."""
    ended = job.run(keys=f"A='1'\nB=two words\nC={value}")

    said = "the value does not end with the quotation mark that it begins with"
    assert USAGE == ended.code
    assert [f"`keys`, line 3: {said}"] == ended.annotations("error")
    assert "hunter2" not in ended.log
    assert "Traceback" not in ended.log


def test_quotation_mark_of_args_without_its_pair(job: Job) -> None:
    """In the words of the job, as for any other input."""
    ended = job.run(args='--wait "5', lang="zh")

    assert USAGE == ended.code
    assert ["`args` 中有一个引号没有配对"] == ended.annotations("error")
    assert "Traceback" not in ended.log


@pytest.mark.parametrize("names", [["args", "extras", "lang"], ["config"], ["version"], ["keys"]])
def test_input_is_never_run(job: Job, names: list[str]) -> None:
    """It is a word of certferry's command line, whatever a shell would do with it."""
    job.run(**dict.fromkeys(names, "; touch made; $(touch made) `touch made`"))

    assert not [*job.folder.rglob("made")]


def test_what_services_say_is_no_markup(job: Job, host: Host, name: str) -> None:
    """Neither for the summary nor for the runner, whose commands are lines of the log."""
    host.world.qiniu.fail_next(name, "<img src=x>|[a](b)\n::set-env name=PATH::/tmp")

    ended = job.run(args=BRIEFLY)

    assert FAILED == ended.code
    assert not re.search(r"[<>\[\]]", ended.summary.partition("What needs you")[2])
    stopped = re.search(r"^::stop-commands::(\w+)$.*^::\1::$", ended.log, re.DOTALL | re.MULTILINE)
    assert stopped is not None
    outside = ended.log.replace(stopped[0], "")
    assert not re.search(r"^::set-env", outside, re.MULTILINE)


def test_next_job_goes_on_from_the_bucket(world: World, tmp_path: Path, name: str) -> None:
    """On a machine of GitHub's, which is empty each time: the second job has nothing to do."""
    runner = Runner(world, tmp_path, certificate(name))
    keys = world.environment | runner.variables
    jobs = [
        Job(tmp_path, runner.config, keys, environment="github-hosted").run(args=BRIEFLY)
        for _ in range(2)
    ]

    assert [IN_ORDER, IN_ORDER] == [job.code for job in jobs], jobs
    assert f"issue, deploy {name}, verify {name}" in jobs[0].summary
    assert f"| {name} | in order | nothing to do |" in jobs[1].summary


# --- What stops schedules, or loses a state


def test_quiet_repository_is_warned_of(job: Job) -> None:
    """From 45 days on; GitHub stops its schedule after 60, unless it is private."""
    job.commit(timedelta(days=46))
    assert [] == warnings(job, config="none.toml")
    [warning] = warnings(job)
    assert "the last commit is 46 days old" in warning

    job.event = {"repository": {"private": True}}
    assert [] == warnings(job)


def test_young_repository_is_not_warned_of(job: Job) -> None:
    """Up to then."""
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
    """One sentence for each, and none without reason."""
    job.event = {"repository": {"private": private, "fork": fork}}
    job.workflow = workflow

    found = warnings(job)

    assert len(warned) == len(found)
    assert all(word in one for word, one in zip(warned, found, strict=True))


def warnings(job: Job, **inputs: str) -> list[str]:
    """Return what the job's page warns of before anything is installed."""
    return job.run(until=INSTALLS, **inputs).annotations("warning")


def test_state_on_a_machine_of_githubs_is_refused(job: Job) -> None:
    """Each run would order every certificate again; nothing is sent anywhere."""
    job.environment = "github-hosted"

    ended = job.run()

    assert USAGE == ended.code
    assert ["the state is a file on this runner"] == [
        one[:34] for one in ended.annotations("error")
    ]


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
def test_pull_request_is_refused(job: Job, event: str) -> None:
    """Its code is another person's: no key is used, nothing is installed."""
    job.event_name = event

    ended = job.run()

    assert USAGE == ended.code
    assert ["certferry does not run for a pull request: its code is not yours yet"] == (
        ended.annotations("error")
    )


def test_file_that_is_not_there(job: Job) -> None:
    """The sentence names it."""
    ended = job.run(config="certs.toml", lang="zh")

    assert USAGE == ended.code
    assert "找不到 certs.toml" in ended.annotations("error")[0]


# --- What is installed


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
    """What the state needs is installed unasked."""
    job.config.write_text(f'[state]\nurl = "{url}"\n')

    assert extras == looked(job)["extras"]


def test_other_release_comes_by_its_hash(job: Job, tmp_path: Path) -> None:
    """As the notes of that release have it. Without one it is refused; this one's own version needs
    none. What is to be installed with it can be said.
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
    """Return what the step that installs is given."""
    outputs = job.run(until=INSTALLS, **inputs).outputs
    return {name: outputs[f"steps.look.outputs.{name}"] for name in ("extras", "release")}


@thorough
@pytest.mark.timeout(600)
def test_the_steps_install_certferry_and_run_it(job: Job) -> None:
    """From the action's own checkout, each library by its hash."""
    ended = job.run(installed="false")

    if "Could not find a version" in ended.log:
        pytest.skip("no package registry can be reached")
    assert IN_ORDER == ended.code, ended.log
    assert f"certferry {version.current()} is in" in ended.log


# --- Words


def test_every_sentence_has_its_chinese() -> None:
    """And each Chinese one an English one that is said, with the same things filled in."""
    chinese = json.loads((TEMPLATE / "zh.json").read_text(encoding="utf-8"))
    program = (TEMPLATE / "action.py").read_text(encoding="utf-8")
    joined = re.sub(r'"\n\s+"', "", program)

    results = {"in order", "waiting", "failed", "refused", "stopped", "elsewhere"}
    assert set() == {
        one
        for one in set(chinese) - results
        if not re.search(f"[\"']{re.escape(one)}[\"']", joined)
    }
    said = re.findall(r'(?:say|Refused)\(\s*"([^"]+)"', joined)
    assert set() == set(said) - set(chinese)
    for english, other in chinese.items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", other))


def test_the_configuration_of_the_template_loads(tmp_path: Path) -> None:
    """As it is written."""
    config = tmp_path / "certferry.toml"
    written = (TEMPLATE / "certferry.toml").read_text(encoding="utf-8")
    config.write_text(written)

    assert load(config, {"HOME": str(tmp_path)}, ADAPTERS).certificates
