"""Shell completion: scripts that shells accept, and answers to what they ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from certferry.cli.commands import COMMANDS

CERTFERRY = [sys.executable, "-m", "certferry"]


def script(shell: str) -> str:
    """Give the script of a shell."""
    return subprocess.run(
        [*CERTFERRY, "completion", shell], capture_output=True, text=True, check=True
    ).stdout


def asked(words: str, cwd: Path) -> list[str]:
    """Give what bash is offered for the last word of a line."""
    result = subprocess.run(
        CERTFERRY,
        cwd=cwd,
        env=os.environ
        | {
            "_CERTFERRY_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "" == result.stderr
    return [row.partition(",")[2] for row in result.stdout.splitlines() if row]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    """The script asks certferry itself."""
    assert f"_CERTFERRY_COMPLETE={shell}_complete" in script(shell)


def test_the_script_works_in_a_real_bash(tmp_path: Path) -> None:
    """A shell that sources the script offers the commands."""
    bash = shutil.which("bash")
    assert bash is not None
    (tmp_path / "certferry").write_text(f'#!/bin/sh\nexec {" ".join(CERTFERRY)} "$@"\n')
    (tmp_path / "certferry").chmod(0o755)
    lines = f"""
{script("bash")}
COMP_WORDS=(certferry s)
COMP_CWORD=1
_certferry_completion certferry
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    result = subprocess.run(
        [bash, "--norc"], input=lines, env=environ, capture_output=True, text=True, check=True
    )

    assert [name for name in COMMANDS if name.startswith("s")] == result.stdout.split()


def test_commands_and_options_are_offered(tmp_path: Path) -> None:
    """What begins with what was typed, and nothing else."""
    assert list(COMMANDS) == asked("certferry ", tmp_path)
    assert [] == asked("certferry frobnicate x", tmp_path)
    assert ["--renew", "--rehearse"] == asked("certferry sync --r", tmp_path)
    assert ["--config"] == asked("certferry --c", tmp_path)
    assert ["bash", "zsh", "fish"] == asked("certferry completion ", tmp_path)


def test_declared_certificates_are_offered(tmp_path: Path) -> None:
    """NAMEs come from the configuration; where that is wrong, a shell is told nothing."""
    path = tmp_path / "certferry.toml"
    path.write_text("""
[accounts.dnspod]
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
[[certificates]]
names = ["static.example.com"]
dns = "dnspod"
""")

    assert ["img", "static.example.com"] == asked("certferry plan ", tmp_path)
    assert ["static.example.com"] == asked("certferry history s", tmp_path)
    assert ["img"] == asked("certferry --config certferry.toml export i", tmp_path)

    path.write_text("nonsense")

    assert [] == asked("certferry plan ", tmp_path)


def test_what_is_offered_is_explained_in_the_readers_language() -> None:
    """Shells that show what a word is for show what the help says, whole."""
    asked = {"_CERTFERRY_COMPLETE": "fish_complete", "LC_ALL": "zh_CN.UTF-8"}

    offered = [
        subprocess.run(
            CERTFERRY,
            env=os.environ | asked | {"COMP_WORDS": words, "COMP_CWORD": words.split(" ")[-1]},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout.splitlines()
        for words in ("certferry schedule ", "certferry sync --re", "certferry pla")
    ]

    assert "plain,show\t显示已安装的定时任务及下次运行时间。" in offered[0]
    assert [
        "plain,--renew\t无论是否到期，都签发新证书。",
        "plain,--rehearse\t只在 CA 的测试环境试签发，不做任何更改。",
    ] == offered[1]
    assert ["plain,plan\t显示 sync 将执行的操作及原因。"] == offered[2]
