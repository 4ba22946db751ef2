"""The log of the installed command, from the first run to the one that finds nothing to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.sandbox.world import World, demonstration


@pytest.fixture
def world() -> Iterator[World]:
    """The demo's world."""
    with demonstration() as started:
        yield started


def test_the_log_tells_the_whole_story_in_chinese(world: World, tmp_path: Path) -> None:
    """A quiet first run, a second one without work, wrong keys and `-v`: each is in the log, and no
    secret in any of it.
    """
    config, log = world.write_files(tmp_path), tmp_path / "certferry.log"

    def sync(*options: str, **environ: str) -> tuple[int, str]:
        before = log.read_text() if log.exists() else ""
        words = ["--config", str(config), "--log-file", str(log), *options, "sync"]
        result = subprocess.run(
            [sys.executable, "-m", "certferry", *words],
            env=os.environ | world.environment | {"LC_ALL": "zh_CN.UTF-8"} | environ,
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, log.read_text().removeprefix(before)

    code, first = sync("-q")
    assert Exit.OK == code
    rows = [row.partition("] ")[2] for row in first.splitlines()]
    assert rows[0].endswith(": sync 开始")
    assert "运行结束，退出码 0" == rows[-1]
    assert any(row.startswith("img: 签发 完成: 有效期至 ") for row in rows)
    assert "img: 部署 完成: qiniu → img.example.com: 已绑定" in rows
    assert "img: 验证 完成: img.example.com: 所有应答的地址均已出示该证书" in rows
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

    everything = log.read_text()
    secrets = {"QINIU_SECRET_KEY", "DP_Key", "QINIU_ACCESS_KEY"} & set(world.environment)
    assert secrets
    assert not [name for name in secrets if world.environment[name] in everything]
    assert "planted" not in everything
    assert "PRIVATE KEY" not in everything
