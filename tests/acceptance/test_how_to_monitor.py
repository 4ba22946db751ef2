"""The commands of the guide on monitoring, typed as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.host import Host
from tests.house.tree import ROOT
from tests.support.tiers import thorough

ENGLISH, CHINESE = (
    ROOT / "docs" / "how-to" / name for name in ("monitoring.md", "monitoring.zh-CN.md")
)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = "/var/lib/prometheus/node-exporter/certferry.prom"


def typed(guide: Path) -> list[tuple[str, list[str]]]:
    """Each command, with the lines of output that the guide shows below it."""
    found: list[tuple[str, list[str]]] = []
    for block in CONSOLE.findall(guide.read_text(encoding="utf-8")):
        for row in block.splitlines():
            if row.startswith("$ "):
                found.append((row.removeprefix("$ "), []))
            else:
                found[-1][1].append(row)
    return found


def shape(row: str) -> str:
    """A line without its numbers."""
    return re.sub(r"\d+", "9", row)


def test_both_languages_have_the_same_commands() -> None:
    """And show the same output: in the gate those of one are typed."""
    assert typed(ENGLISH) == typed(CHINESE)


@pytest.mark.parametrize(
    "guide", [ENGLISH, pytest.param(CHINESE, marks=thorough)], ids=lambda guide: guide.name
)
def test_every_command_of_the_guide_does_what_it_says(host: Host, name: str, guide: Path) -> None:
    """It exits 0, and prints what is shown but for the numbers."""
    file = host.directory / "certferry.prom"
    host.rewrite(f'name = "{name}"', 'name = "img"')
    host.config.write_text(f'{host.config.read_text()}\n[metrics]\nfile = "{file}"\n')
    assert 0 == host.run("sync").code
    commands = typed(guide)
    assert 9 == len(commands)

    for command, shown in commands:
        if command.startswith("certferry "):
            run = host.run(*shlex.split(command)[1:])
            code, out = run.code, run.out
        else:
            ended = subprocess.run(
                ["/bin/sh", "-c", command.replace(FILE, shlex.quote(str(file)))],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            code, out = ended.returncode, ended.stdout

        assert 0 == code, (command, out)
        if shown:
            assert [shape(row) for row in shown] == [shape(row) for row in out.splitlines()]
