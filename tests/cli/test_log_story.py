"""The log of the command, from the first run to the one that finds nothing to do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certferry.cli.exits import Exit
from certferry_sandbox.world import World, demonstration
from tests.support.command import run_here
from tests.support.tiers import thorough


class LoggedHost:
    """A machine in the world that keeps a log, in Chinese where nothing else is said."""

    def __init__(self, world: World, directory: Path, *certificates: str) -> None:
        self._world = world
        self._config = world.write_files(directory, *certificates)
        self.log = directory / "certferry.log"

    def log_of(self, *words: str, **environ: str) -> tuple[int, str]:
        """Run the command, and give its exit code and what it added to the log."""
        before = self.log.read_text() if self.log.exists() else ""
        options = ("--config", str(self._config), "--log-file", str(self.log))
        speaking = {"LC_ALL": "zh_CN.UTF-8"} | environ
        ended = run_here([*options, *words], os.environ | self._world.environment | speaking)
        return ended.code, self.log.read_text().removeprefix(before)

    def sentences_of(self, *words: str, **environ: str) -> list[str]:
        """Run the command, and give the lines between its first and its last, without the time."""
        rows = self.log_of(*words, **environ)[1].splitlines()
        return [row.partition("] ")[2] for row in rows[1:-1]]

    def entries_of(self, *words: str, **environ: str) -> list[dict[str, Any]]:
        """The same as documents."""
        rows = self.log_of("--log-format", "json", *words, **environ)[1].splitlines()
        return [json.loads(row) for row in rows[1:-1]]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The demo's world."""
    with demonstration() as started:
        yield started


def test_the_log_tells_the_whole_story_in_chinese(world: World, tmp_path: Path) -> None:
    """A quiet first run, a second one without work, wrong keys and `-v`: each is in the log, and no
    secret in any of it.
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


def test_what_a_reload_says_is_in_the_log_of_a_quiet_run(world: World, tmp_path: Path) -> None:
    """As the schedule runs it, without -v: a line each, after the program's name, whether it ends
    well or not; no secret of the environment; and the hint leads there.
    """
    reload = tmp_path / "reload"
    reload.write_text("#!/bin/sh\necho hello-out; echo hello-err >&2\nenv\ntest -e ready\n")
    reload.chmod(0o755)
    host = LoggedHost(world, tmp_path, FILES.format(reload="./reload"))

    failed = host.sentences_of("-q", "sync")

    said = [f"{reload}: hello-out", f"{reload}: hello-err"]
    assert said == [line for line in failed if line in said]
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
def test_what_a_look_finds_wrong_is_in_the_log(world: World, tmp_path: Path) -> None:
    """With a wrong key `plan` and `status` tell why, and so does the log: in both languages, and
    as documents with the same events.
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


def test_a_look_that_finds_nothing_wrong_adds_nothing(world: World, tmp_path: Path) -> None:
    """What is merely to be done is no event."""
    assert [] == LoggedHost(world, tmp_path).sentences_of("plan")


@thorough
def test_an_export_is_in_the_log(world: World, tmp_path: Path) -> None:
    """Which files of which certificate, and nothing of what is in them."""
    host = LoggedHost(world, tmp_path, FILES.format(reload="true"))
    host.log_of("sync")

    (told,) = host.sentences_of("export", "site", "--dir", str(tmp_path / "out"))
    (entry,) = host.entries_of("export", "site", "--dir", str(tmp_path / "out"))

    names = ("cert.pem", "chain.pem", "fullchain.pem", "privkey.pem")
    files = [str(tmp_path / "out" / name) for name in names]
    assert "site: 已写入：" + "、".join(files) == told
    assert ("export.done", "site", "done") == (entry["event"], entry["lineage"], entry["outcome"])
    assert files == entry["files"]
    assert 64 == len(entry["fingerprint"])
    assert "BEGIN" not in host.log.read_text()
