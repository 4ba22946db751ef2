"""The log and the display of the command over several runs."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from certferry.cli.exits import Exit
from certferry.present.layout import width
from certferry_sandbox.faults import Fault
from certferry_sandbox.world import DOMAINS, World, demonstration
from tests.cli.terminals import Terminal
from tests.support.command import run_here
from tests.support.tiers import long, sampled, thorough

# --- The log of the command, from a first run to a run without work


class LoggedHost:
    """A machine in the world with a log, whose locale is Chinese by default."""

    def __init__(self, world: World, directory: Path, *certificates: str) -> None:
        self._world = world
        self._config = world.write_files(directory, *certificates)
        self.log = directory / "certferry.log"

    def log_of(self, *words: str, **environ: str) -> tuple[int, str]:
        """Run the command, and return the exit code and the new text of the log."""
        before = self.log.read_text() if self.log.exists() else ""
        options = ("--config", str(self._config), "--log-file", str(self.log))
        locale = {"LC_ALL": "zh_CN.UTF-8"} | environ
        ended = run_here([*options, *words], os.environ | self._world.environment | locale)
        return ended.code, self.log.read_text().removeprefix(before)

    def sentences_of(self, *words: str, **environ: str) -> list[str]:
        """Run the command, and return the lines between the first and the last new line, without
        the time.
        """
        rows = self.log_of(*words, **environ)[1].splitlines()
        return [row.partition("] ")[2] for row in rows[1:-1]]

    def entries_of(self, *words: str, **environ: str) -> list[dict[str, Any]]:
        rows = self.log_of("--log-format", "json", *words, **environ)[1].splitlines()
        return [json.loads(row) for row in rows[1:-1]]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with demonstration() as started:
        yield started


def test_the_log_shows_the_whole_story_in_chinese(world: World, tmp_path: Path) -> None:
    """The log has a quiet first run, a run without work, a run with wrong keys and a run with `-v`,
    and no secret.
    """
    host = LoggedHost(world, tmp_path)

    def sync(*options: str, **environ: str) -> tuple[int, str]:
        return host.log_of(*options, "sync", **environ)

    code, first = sync("-q")
    assert Exit.OK == code
    rows = [row.partition("] ")[2] for row in first.splitlines()]
    assert rows[0].endswith(": sync 开始")
    assert "运行结束，退出码 0" == rows[-1]
    assert any(row.startswith("img: 签发 完成: 有效期至 ") for row in rows)
    assert "img: 部署 完成: qiniu → img.example.com: 已绑定" in rows
    assert "img: 验证 完成: img.example.com: 所有能连上的节点都已换上该证书" in rows
    assert all(
        re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \S", row) for row in first.splitlines()
    )

    code, second = sync("-q")
    assert Exit.OK == code
    assert "] img: 证书未变更,跳过同步\n" in second
    assert "签发" not in second

    code, failed = sync("-q", "--log-format", "json", QINIU_SECRET_KEY="planted-secret")
    lines = [json.loads(row) for row in failed.splitlines()]
    assert Exit.FAILED == code
    assert ["run.started", "deploy.failed", "run.ended"] == [line["event"] for line in lines]
    assert "密钥" in lines[1]["hint"]

    sync("-v", "--lang", "en", QINIU_ACCESS_KEY="planted-key", DP_Key="planted-token")

    everything = host.log.read_text()
    secrets = {"QINIU_SECRET_KEY", "DP_Key", "QINIU_ACCESS_KEY"} & set(world.environment)
    assert secrets
    assert not [name for name in secrets if world.environment[name] in everything]
    assert "planted" not in everything
    assert "PRIVATE KEY" not in everything


FILES = """
[[certificates]]
name = "site"
names = ["site.example.com"]
dns = "dnspod"
[[certificates.deploy]]
to = "files"
directory = "ssl"
reload = "{reload}"
"""


def test_output_of_a_reload_is_in_the_log_of_a_quiet_run(world: World, tmp_path: Path) -> None:
    """As in a scheduled run, without -v, the log has each line after the program's name, for
    success and failure, without secrets of the environment. The hint leads to the log.
    """
    reload = tmp_path / "reload"
    reload.write_text("#!/bin/sh\necho hello-out; echo hello-err >&2\nenv\ntest -e ready\n")
    reload.chmod(0o755)
    host = LoggedHost(world, tmp_path, FILES.format(reload="./reload"))

    failed = host.sentences_of("-q", "sync")

    output = [f"{reload}: hello-out", f"{reload}: hello-err"]
    assert output == [line for line in failed if line in output]
    (outcome,) = [line for line in failed if line.startswith("site: 部署 失败: ")]
    assert "--log-file" in outcome

    (tmp_path / "ready").touch()
    entries = host.entries_of("-q", "--lang", "en", "sync")

    first, second, *_ = (entry for entry in entries if entry["event"] == "program.output")
    assert ("info", str(reload), "hello-out") == (
        first["level"], first["program"], first["detail"],
    )  # fmt: skip
    assert "hello-err" == second["detail"]
    assert "deploy.done" in [entry["event"] for entry in entries]
    assert not [secret for secret in world.secrets() if secret in host.log.read_text()]


WRONG = {"QINIU_SECRET_KEY": "planted-secret"}


@thorough
def test_errors_of_plan_and_status_are_in_the_log(world: World, tmp_path: Path) -> None:
    """With a wrong key the log has the reason, in both languages, and as JSON with the same
    events.
    """
    host = LoggedHost(world, tmp_path)

    (planned,) = host.sentences_of("plan", **WRONG)
    (in_english,) = host.sentences_of("--lang", "en", "plan", **WRONG)
    (entry,) = host.entries_of("plan", **WRONG)

    assert planned.startswith("img: 受阻: qiniu")
    assert "（提示：" in planned
    assert in_english.startswith("img: blocked: qiniu")
    assert ("plan.blocked", "error", "img", "qiniu", "blocked") == (
        entry["event"], entry["level"], entry["lineage"], entry["target"], entry["outcome"],
    )  # fmt: skip
    assert entry["code"]
    assert "密钥" in entry["hint"]

    standing = host.sentences_of("status", **WRONG)
    entries = host.entries_of("--lang", "en", "status", **WRONG)

    assert standing
    assert all(line.startswith("img: 未知: qiniu → ") for line in standing)
    assert [("status.unknown", "error")] * len(standing) == [
        (entry["event"], entry["level"]) for entry in entries
    ]
    assert "planted" not in host.log.read_text()


def test_plan_without_errors_adds_nothing_to_the_log(world: World, tmp_path: Path) -> None:
    """Pending work is no event."""
    assert [] == LoggedHost(world, tmp_path).sentences_of("plan")


@thorough
def test_export_is_in_the_log(world: World, tmp_path: Path) -> None:
    """The entry has the certificate and the files, and nothing of their content."""
    host = LoggedHost(world, tmp_path, FILES.format(reload="true"))
    host.log_of("sync")

    (line,) = host.sentences_of("export", "site", "--dir", str(tmp_path / "out"))
    (entry,) = host.entries_of("export", "site", "--dir", str(tmp_path / "out"))

    names = ("cert.pem", "chain.pem", "fullchain.pem", "privkey.pem")
    files = [str(tmp_path / "out" / name) for name in names]
    assert "site: 已写入：" + "、".join(files) == line
    assert ("export.done", "site", "done") == (entry["event"], entry["lineage"], entry["outcome"])
    assert files == entry["files"]
    assert 64 == len(entry["fingerprint"])
    assert "BEGIN" not in host.log.read_text()


# --- The command in a world on loopback, from the first plan to the export, partly at a terminal


@pytest.fixture
def story_world() -> Iterator[World]:
    """Yield the demo's world, with a domain that serves another owner's certificate, and a domain
    without HTTPS.
    """
    with demonstration() as started:
        yield started


class Operator:
    """An operator with a configuration who types commands."""

    def __init__(self, story_world: World, directory: Path) -> None:
        self.environ = os.environ | story_world.environment
        self.config = story_world.write_files(directory)

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run a command without a terminal, and return the exit code and both outputs."""
        ended = run_here(["--config", str(self.config), *words], self.environ)
        return ended.code, _masked(ended.out), _masked(ended.err)

    def run_as_json(self, *words: str) -> tuple[int, Any]:
        """Run a command with `--json`, and return the exit code and the document."""
        code, out, err = self.run(*words, "--json")
        assert "error" not in err
        return code, json.loads(out)

    def at_terminal(self, *words: str, columns: int) -> Terminal:
        command = [sys.executable, "-m", "certferry", "--config", str(self.config), *words]
        return Terminal(command, columns=columns, environ=self.environ)


def _masked(words: str) -> str:
    """Mask values that differ in every run: remote ids, digests and moments."""
    words = re.sub(r"(?<=certificate  )[0-9a-f]{12}\b", "remote-id", words)
    words = re.sub(r"(?<=--plan )[0-9a-f]{32}\b", "digest", words)
    words = re.sub(r"--config \S+\.toml", "--config FILE", words)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "some day", words)


@long
def test_all_commands_from_the_first_plan_to_the_export(story_world: World, tmp_path: Path) -> None:
    """Each command prints the right text on the right stream, with the right exit code."""
    operator = Operator(story_world, tmp_path)

    assert (
        Exit.PENDING,
        dedent("""\
        img: there is no certificate yet
          issue    img.example.com, *.img.example.com
          deploy   qiniu → img.example.com
                   certificate  remote-id → …
          verify   img.example.com
          deploy   qiniu → a.img.example.com (HTTPS is off → will be turned on)
                   certificate  — → …
          verify   a.img.example.com

        Exactly this plan: certferry --config FILE sync --plan digest
        1 certificate to issue, 2 deployments. Nothing was changed; run `certferry --config FILE\
 sync`.
        """),
        "",
    ) == operator.run("plan", "--check")

    with operator.at_terminal("sync", columns=40) as terminal:
        terminal.until(lambda screen: "at most" in " ".join(screen.split()), 40)
        assert Exit.OK == terminal.end(40)
    assert terminal.screen.text.startswith("img: done\n")
    assert "\n\n1 certificate: 5 done.\n" in terminal.screen.text
    assert terminal.screen.text.endswith("schedule install`\n  sets up automatic renewal.")
    # A command stays on one line, so that an operator can copy the command.
    rows = terminal.screen.text.splitlines()
    assert all(width(row) <= 40 for row in rows if not row.endswith("schedule install`"))

    assert (
        Exit.OK,
        dedent("""\
        img: unchanged
          verify   unchanged img.example.com: served by every address that answers
          verify   unchanged a.img.example.com: served by every address that answers

        Nothing changed: 1 certificate is as declared.
        """),
        "",
    ) == operator.run("sync")
    assert (Exit.OK, "", "") == operator.run("-q", "sync", "img")
    assert (Exit.OK, "Nothing to do: 1 certificate is as declared.\n", "") == operator.run(
        "plan", "--check"
    )

    code, status = operator.run_as_json("status")
    (certificate,) = status["certificates"]
    assert (Exit.OK, {"verified"}) == (code, {d["state"] for d in certificate["domains"]})
    assert all(edge["ok"] for domain in certificate["domains"] for edge in domain["served"])
    with operator.at_terminal("status", columns=40) as terminal:
        assert Exit.OK == terminal.end()
    assert terminal.screen.widest <= 40
    assert 2 == terminal.screen.text.count("    served   2 of 2")

    code, watched = operator.run_as_json("watch", *DOMAINS)
    fingerprints = {edge["fingerprint"] for host in watched["hosts"] for edge in host["addresses"]}
    assert (Exit.OK, {certificate["fingerprint"]}) == (code, fingerprints)

    code, report = operator.run_as_json("sync", "--renew", "--all", "--no-wait")
    assert (Exit.TRY_LATER, False) == (code, report["ok"])
    assert ["done", "waiting", "waiting"] == [
        step["outcome"] for step in report["certificates"][0]["steps"]
    ]

    code, out, _ = operator.run("history", "img", "--limit", "1")
    assert (Exit.OK, 1) == (code, len(out.splitlines()))

    code, out, _ = operator.run("export", "img", "--dir", str(tmp_path / "ssl"))
    assert (Exit.OK, 4) == (code, len(out.splitlines()))
    assert "PRIVATE KEY" in (tmp_path / "ssl" / "privkey.pem").read_text()

    operator.environ["QINIU_SECRET_KEY"] = "not-the-secret"
    code, out, err = operator.run("plan")
    assert (Exit.FAILED, "") == (code, err)
    assert re.search(r"blocked  qiniu: .*\n +hint: ", out)
    assert "not-the-secret" not in out


# --- The display of a command that waits for slow services, at a terminal


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    """Yield the demo's world, which the commands only read."""
    with demonstration() as started:
        yield started


@pytest.fixture
def slow_world(shared_world: World) -> Iterator[World]:
    """Yield the shared world, and let its services answer again afterwards."""
    yield shared_world
    shared_world.qiniu.api.faults.clear()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Yield an event that releases held answers; the end of the test also sets the event."""
    released = threading.Event()
    yield released
    released.set()


class WaitingOperator:
    """An operator at a terminal, with a Qiniu that holds its answers."""

    def __init__(self, slow_world: World, directory: Path, gate: threading.Event) -> None:
        self.environ = os.environ | slow_world.environment
        self.config = slow_world.write_files(directory)
        text = self.config.read_text()
        second = text[text.index("[[certificates]]") :].replace('name = "img"', 'name = "pics"')
        assert 'name = "pics"' in second
        # A second declaration of the same names needs another type of key.
        second = second.replace('"pics"', '"pics"\nkey_type = "rsa2048"')
        self.config.write_text(text + "\n" + second)
        slow_world.qiniu.api.faults.add(Fault.held_until(gate), on="GET /domain*", times=None)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "certferry", "--config", str(self.config), *words]

    def at_terminal(self, *words: str, columns: int, language: str = "C.UTF-8") -> Terminal:
        environ = self.environ | {"LANG": language}
        return Terminal(self.command(*words), columns=columns, environ=environ)


def in_one_line(screen: str) -> str:
    return "".join(screen.split())


def ends_with(*words: str) -> Exit:
    """Return the exit code of a command without an issued certificate."""
    return Exit.FAILED if "status" in words else Exit.OK


@pytest.mark.parametrize(
    ("command", "columns"), sampled(list(product(["plan", "status"], [40, 80, 120])), 2)
)
def test_slow_service_is_named_from_the_first_second(
    slow_world: World, tmp_path: Path, gate: threading.Event, command: str, columns: int
) -> None:
    """The display has the question, the service, the progress, and the effect of Ctrl-C; after the
    answer only the result stays on the screen.
    """
    operator = WaitingOperator(slow_world, tmp_path, gate)

    with operator.at_terminal(command, columns=columns) as terminal:
        terminal.until(lambda screen: "img:askingqiniuforitsdomains" in in_one_line(screen))
        display = terminal.until(lambda screen: "0of2done" in in_one_line(screen))
        gate.set()
        assert ends_with(command) == terminal.end()

    assert "Ctrl-Cstops" in in_one_line(display)
    assert "next run" not in " ".join(display.split())
    assert "asking" not in terminal.screen.text
    assert "img" in terminal.screen.text
    if command == "status":
        assert "no run is recorded yet" in terminal.screen.text


def test_display_in_chinese_fits(slow_world: World, tmp_path: Path, gate: threading.Event) -> None:
    """Each wide character takes two cells."""
    operator = WaitingOperator(slow_world, tmp_path, gate)

    with operator.at_terminal("status", columns=40, language="zh_CN.UTF-8") as terminal:
        terminal.until(lambda screen: "img:正在向qiniu查询域名" in in_one_line(screen))
        terminal.until(lambda screen: "已完成0/2" in in_one_line(screen))
        widest = terminal.screen.widest
        gate.set()
        assert ends_with("status") == terminal.end()

    assert 20 < widest <= 40


@pytest.mark.parametrize("words", [("plan",), ("status",), ("plan", "--json"), ("-q", "status")])
def test_output_without_a_terminal_is_the_answer_alone(
    slow_world: World, tmp_path: Path, gate: threading.Event, words: tuple[str, ...]
) -> None:
    """A pipe and a program get no progress."""
    operator = WaitingOperator(slow_world, tmp_path, gate)
    gate.set()

    result = run_here(["--config", str(operator.config), *words], operator.environ)

    assert (ends_with(*words), "") == (result.code, result.err)
    if "--json" in words:
        assert 2 == len(json.loads(result.out)["certificates"])


@pytest.mark.parametrize("words", sampled([("status", "--json"), ("-q", "status")], 1))
def test_json_and_quiet_output_at_a_terminal_is_the_answer_alone(
    slow_world: World, tmp_path: Path, gate: threading.Event, words: tuple[str, ...]
) -> None:
    """The output moves no cursor."""
    operator = WaitingOperator(slow_world, tmp_path, gate)
    gate.set()

    with operator.at_terminal(*words, columns=80) as terminal:
        assert ends_with(*words) == terminal.end()

    assert "asking" not in terminal.screen.raw
    assert "\x1b[?25l" not in terminal.screen.raw
