"""The program of the GitHub Action: `look` warns of what stops schedules or loses a state, and says
what to install; `run` runs certferry, and writes the job's summary. The standard library alone:
`look` runs before anything is installed. Inputs are environment variables (`action.yml`).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

IN_ORDER, USAGE, LATER = 0, 2, 75
"""docs/reference/exit-codes.md: of what certferry returns, these are treated apart."""

QUIET = timedelta(days=45)
"""GitHub stops the schedules of a public repository after 60 days without activity
(docs.github.com/actions/reference/events-that-trigger-workflows, "schedule", 2026-11)."""

NEEDS = {"s3": "s3", "postgresql": "postgresql", "postgres": "postgresql"}
"""The extra that a state needs, by the scheme of its URL."""

ELSEWHERE = {"lease_held", "lease_lost", "state_overtaken"}
"""Codes of errors that mean that another run is at work, so that this one has nothing to do."""

SHORTEST_SECRET = 4
"""Shorter values are not masked: they stand in many words of a log."""

OTHERS_CODE = {"pull_request", "pull_request_target"}
_RELEASE = re.compile(r"(?P<version>[0-9][0-9a-z.]*)\s+(?P<hash>sha256:[0-9a-f]{64})")
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
_CONCURRENCY = re.compile(r"^\s*concurrency\s*:", re.MULTILINE)
_CACHE = re.compile(r"\bactions/cache(/[a-z]+)?@")
_KEY = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_SAFE = re.compile(r"[^\w\s.,:;/=+-]|_")

VERDICTS = {
    "in_order": "Everything is as declared.",
    "waiting": "In progress: the next run goes on. Nothing is wrong so far.",
    "failed": "Something failed: an edge does not serve what it should, or a step went wrong.",
    "refused": "Refused for safety: carrying it out would have done harm.",
    "stopped": "Stopped before its end; the next run goes on.",
    "error": "No run was made.",
}


class Refused(Exception):
    """What keeps the job from running, as a sentence and what fills it."""

    def __init__(self, sentence: str, **values: object) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.values = values


class Job:
    """The job that the action runs in: its variables, and where it reads what is said."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.is_chinese = environ.get("SAID_IN", "").startswith("zh")
        words = Path(__file__).with_name("zh.json").read_text(encoding="utf-8")
        self._chinese = json.loads(words) if self.is_chinese else {}
        self.workspace = Path(environ["GITHUB_WORKSPACE"])
        self.config = self.workspace / environ["CONFIG"]

    def say(self, sentence: str, **values: object) -> str:
        """Return a sentence in the language of the job."""
        return str(self._chinese.get(sentence, sentence)).format(**values)

    def annotate(self, kind: str, sentence: str) -> None:
        """Show a sentence on the job's page; `kind` is `error` or `warning`."""
        command(f"{kind} title=certferry", sentence)

    def output(self, name: str, value: str) -> None:
        """Set an output of the step; the value is one line."""
        with Path(self.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
            file.write(f"{name}={' '.join(value.split())}\n")

    @property
    def event(self) -> Mapping[str, Any]:
        """What GitHub says of the event; of a schedule, not always of the repository."""
        path = self.environ.get("GITHUB_EVENT_PATH")
        return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}

    @property
    def workflow(self) -> str:
        """The text of the workflow's file, or nothing where it is not checked out."""
        named = self.environ.get("GITHUB_WORKFLOW_REF", "").partition("@")[0]
        path = self.workspace / Path(*named.split("/")[2:])
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def command(words: str, data: str = "") -> None:
    """Send the runner a command, as a line of the log (docs.github.com/actions/reference/
    workflow-commands, 2026-11).
    """
    escaped = data.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::{words}::{escaped}", flush=True)  # noqa: T201 - a command to the runner is printed


# --- Before anything is installed


def look(job: Job, now: datetime) -> int:
    """Warn of what stops schedules or loses the state; set `extras` and `release` for the step that
    installs. Raises `Refused`.
    """
    if job.environ.get("GITHUB_EVENT_NAME") in OTHERS_CODE:
        raise Refused("certferry does not run for a pull request: its code is not yours yet")
    scheme = scheme_of(job)
    repository = job.event.get("repository") or {}
    is_cached = _CACHE.search(job.workflow) is not None
    if scheme == "sqlite" and not is_cached and is_hosted(job):
        raise Refused(
            "the state is a file on this runner and ends with it, and each run would order every"
            " certificate again: write a bucket or PostgreSQL as `url` of [state]"
            " (docs/how-to/github-actions.md)"
        )
    for sentence in warnings(job, repository, now, is_cached=is_cached):
        job.annotate("warning", sentence)
    job.output("extras", job.environ.get("EXTRAS") or NEEDS.get(scheme, ""))
    job.output("release", release_of(job))
    return IN_ORDER


def scheme_of(job: Job) -> str:
    """Return where the state is: the scheme of its URL. Raises `Refused`."""
    try:
        state = tomllib.loads(job.config.read_text(encoding="utf-8")).get("state", {})
    except FileNotFoundError:
        sentence = (
            "there is no {config}: name the file in `config`, and check the repository out first"
        )
        raise Refused(sentence, config=job.environ["CONFIG"]) from None
    except (OSError, ValueError) as wrong:
        raise Refused("{config}: {problem}", config=job.environ["CONFIG"], problem=wrong) from None
    url = state.get("url") if isinstance(state, dict) else None
    return str(url or "sqlite:").partition(":")[0]


def is_hosted(job: Job) -> bool:
    """Return whether the machine is GitHub's, and gone after the job."""
    return job.environ.get("RUNNER_ENVIRONMENT") == "github-hosted"


def warnings(
    job: Job, repository: Mapping[str, Any], now: datetime, *, is_cached: bool
) -> Iterator[str]:
    """Yield what will stop the schedule, or shows the state to others, one sentence each."""
    days = quiet_days(job.workspace, now)
    if days > QUIET.days and not repository.get("private"):
        yield job.say(
            "the last commit is {days} days old: GitHub stops the schedules of a public repository"
            " after 60 days without activity, and then nothing renews; commit something, or press"
            " *Enable workflow*",
            days=days,
        )
    if repository.get("fork"):
        yield job.say(
            "this repository is a fork: GitHub leaves its schedules off until you enable them on"
            " the page Actions, and it has none of the original's secrets"
        )
    if is_cached and not repository.get("private"):
        yield job.say(
            "this repository is public and the workflow has actions/cache: a pull request's run"
            " can read what is cached, so keep no state and no key there, but in a bucket"
        )
    if job.workflow and not _CONCURRENCY.search(job.workflow):
        yield job.say(
            "the workflow has no `concurrency`: two runs may overlap, and one of them ends without"
            " having done anything; add `concurrency: {{group: certferry, cancel-in-progress:"
            " false}}`"
        )


def quiet_days(workspace: Path, now: datetime) -> int:
    """Return how old the last commit is, in days; 0 where no commit is checked out, as in a
    container without git (actions/checkout takes an archive then).
    """
    words = ["git", "-C", str(workspace), "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 0
    if done.returncode or not done.stdout.strip().isdigit():
        return 0
    return (now - datetime.fromtimestamp(int(done.stdout), UTC)).days


def release_of(job: Job) -> str:
    """Return the line of a requirements file for another release than the one of this checkout;
    nothing for that one. Raises `Refused` where its hash is missing.
    """
    wanted = job.environ.get("VERSION", "").strip()
    package = Path(__file__).parents[2] / "src" / "certferry" / "__init__.py"
    [own] = _VERSION.findall(package.read_text(encoding="utf-8"))
    if wanted in {"", own}:
        return ""
    parts = _RELEASE.fullmatch(wanted)
    if parts is None:
        raise Refused(
            "`version` is {version}, and the action is of {own}: write `uses: …@v{version}`, or the"
            " hash of its wheel as well, `{version} sha256:…`",
            version=wanted.split()[0],
            own=own,
        )
    return f"certferry=={parts['version']} --hash={parts['hash']}"


# --- The run, and its summary


def run(job: Job) -> int:
    """Run certferry and return the job's exit code: certferry's, but 0 with a warning in place of
    75, if the next run goes on. Where none was made, as when the bucket does not answer, 75 stays:
    a job that is green while nothing is looked at hides the end of a certificate. Raises `Refused`.
    """
    try:
        added = shlex.split(job.environ.get("ARGS", ""))
    except ValueError:
        raise Refused("`args` has a quotation mark without its pair") from None
    words = [
        program(job),
        *("--config", str(job.config), "--lang", "zh" if job.is_chinese else "en"),
        *("sync", "--scheduled", "--json", *added),
    ]
    keys = dict(keys_of(job.environ.get("KEYS", "")))
    for value in (value for value in keys.values() if len(value) >= SHORTEST_SECRET):
        command("add-mask", value)
    report = Path(job.environ["RUNNER_TEMP"], "certferry-report.json")
    own = {"ARGS", "CONFIG", "INSTALLED", "KEYS", "PYTHON", "SAID_IN"}
    environ = {name: value for name, value in job.environ.items() if name not in own} | keys
    # What certferry prints may quote others, so none of it is a command to the runner.
    word = secrets.token_hex(16)
    command("stop-commands", word)
    with report.open("wb") as out:
        code = subprocess.run(words, stdout=out, env=environ, check=False).returncode
    command(word)
    document = document_of(report)
    result = str(document.get("result", "error"))
    job.output("result", result)
    job.output("report", str(report))
    with Path(job.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as summary:
        summary.write("\n".join(summary_of(document, code, job)) + "\n")
    error = document.get("error") or {}
    if code == LATER and (result == "waiting" or error.get("code") in ELSEWHERE):
        verdict = job.say(VERDICTS.get(result, VERDICTS["error"]))
        job.annotate("warning", error.get("message") or verdict)
        return IN_ORDER
    if code:
        for sentence in needs(document, job):
            job.annotate("error", sentence)
        job.annotate("error", job.say("certferry ended with exit code {code}", code=code))
    return code


def program(job: Job) -> str:
    """Return which certferry to run: that of this action, or the runner's. Raises `Refused`."""
    path = job.environ.get("PATH")
    if job.environ.get("INSTALLED") != "true":
        path = str(Path(job.environ["RUNNER_TEMP"], "certferry", "bin"))
    found = shutil.which("certferry", path=path)
    if found is None:
        raise Refused("there is no certferry on this runner; take `installed: true` away")
    return found


def keys_of(lines: str) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each line `NAME=value`, quoted or not. Raises `Refused`."""
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _KEY.fullmatch(line)
        # Neither sentence shows the line, which may be half a secret.
        if parts is None:
            raise Refused("`keys`, line {number}, is not NAME=value", number=number)
        value = parts[2].strip()
        if value[:1] in {"'", '"'}:
            try:
                [value] = shlex.split(value)
            except ValueError:
                raise Refused(
                    "`keys`, line {number}: the value does not end with the quotation mark that it"
                    " begins with",
                    number=number,
                ) from None
        yield parts[1], value


def document_of(report: Path) -> dict[str, Any]:
    """Return what certferry printed; nothing where it ended before."""
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def summary_of(document: Mapping[str, Any], code: int, job: Job) -> Iterator[str]:
    """Yield the lines of the job's summary, in Markdown: the verdict, the certificates, what needs
    the operator.
    """
    result = str(document.get("result", "error"))
    sign = "✅" if code == IN_ORDER else "⏳" if code == LATER else "❌"
    yield f"## {sign} certferry: {job.say(VERDICTS.get(result, VERDICTS['error']))}"
    if code not in {IN_ORDER, LATER}:
        yield f"\n{job.say('certferry ended with exit code {code}', code=code)}"
    if certificates := document.get("certificates"):
        heads = [job.say(head) for head in ("certificate", "result", "what was done")]
        yield f"\n| {' | '.join(heads)} |\n| --- | --- | --- |"
        for one in certificates:
            words = (one["name"], job.say(one["result"].replace("_", " ")), done_in(one, job))
            yield f"| {' | '.join(map(plain, words))} |"
    if needed := [*needs(document, job)]:
        yield f"\n### {job.say('What needs you')}\n"
        yield from (f"- {plain(sentence)}" for sentence in needed)


def done_in(certificate: Mapping[str, Any], job: Job) -> str:
    """Return what was done for a certificate, in the words of the report."""
    done = [step for step in certificate["steps"] if step["outcome"] == "done"]
    named = [" ".join(filter(None, (step["action"], step["domain"]))) for step in done]
    return ", ".join(named) or job.say("nothing to do")


def needs(document: Mapping[str, Any], job: Job) -> Iterator[str]:
    """Yield what needs the operator, with what to do, one sentence each."""
    for problem in filter(None, (document.get("error"), document.get("problem"))):
        yield with_hint(problem["message"], problem, job)
    for one in document.get("certificates", ()):
        for step in one["steps"]:
            if step["problem"] is not None and step["outcome"] in {"failed", "refused"}:
                where = " ".join(dict.fromkeys(filter(None, (one["name"], step["domain"]))))
                yield with_hint(f"{where}: {step['problem']['message']}", step["problem"], job)
    for one in document.get("undeclared", ()):
        yield with_hint(f"{one['name']}: {one['message']}", one, job)


def with_hint(said: str, problem: Mapping[str, Any], job: Job) -> str:
    """Return a sentence with the hint of its problem, if it has one."""
    hint = problem.get("hint")
    return f"{said} · {job.say('what to do: {hint}', hint=hint)}" if hint else said


def plain(words: str) -> str:
    """Return words that Markdown shows as they are: they may be a service's."""
    return _SAFE.sub(lambda found: f"&#{ord(found[0])};", " ".join(words.split()))


def main(environ: Mapping[str, str], arguments: list[str]) -> int:
    """Carry out `look` or `run`; return the exit code of the step."""
    job = Job(environ)
    try:
        if arguments == ["run"]:
            return run(job)
        return look(job, datetime.fromtimestamp(time.time(), UTC))
    except Refused as refused:
        job.annotate("error", job.say(refused.sentence, **refused.values))
        return USAGE


if __name__ == "__main__":
    sys.exit(main(os.environ, sys.argv[1:]))
