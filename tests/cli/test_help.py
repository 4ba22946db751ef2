"""The help of every command, and the completions of shells."""

from __future__ import annotations

import gettext
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from certferry.cli.commands import COMMANDS, EXAMPLES
from certferry.cli.exits import Exit
from certferry.cli.main import program, run, run_command
from certferry.present.language import voice_in
from certferry.present.layout import width
from tests.cli.consoles import TestConsole
from tests.support import forks

# --- The help of commands: translated and complete, on a wide and a narrow screen


TYPED = re.compile(r"`[^`]*`|\[[a-z]+\]|(?<!\w)--?[a-z][\w-]*|[!-~]*[./~_][!-~]*")
"""Commands in backquotes, tables of the configuration, options, files and variables."""

NAMES = {
    *("Bearer", "Nagios", "OK", "UNKNOWN", "WARNING", "logrotate"),
    *(
        "ACME",
        "CA",
        "CAA",
        "CDN",
        "CERTFERRY",
        "CNAME",
        "CRITICAL",
        "DNS",
        "DNS-01",
        "DNSPod",
        "DNSSEC",
    ),
    *("Encrypt", "HTTPS", "JSON", "NS", "SQLite", "Schema"),
    *(
        "KEY",
        "Let's",
        "NAME",
        "Pebble",
        "SQLite",
        "SSH",
        "TLS",
        "TXT",
        "bash",
        "certbot",
        "certferry",
        "completion",
    ),
    *("cron", "crontab", "fish", "lego", "port", "qiniu", "shell", "sync", "systemd", "text"),
    *("unit", "value", "zsh"),
    *("config", "help", "notify"),  # parts of a command that is longer than a row
    *("API", "Ctrl-C", "PATH", "SIGHUP", "SIGTERM", "unix"),
}
"""Words that both languages share."""


def pages(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with a help, and the words to type."""
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            for name in command.list_commands(ctx):
                part = command.get_command(ctx, name)
                assert part is not None
                yield from pages(part, *path, name)


PAGES = dict(pages(program))


def english(page: str, command: click.Command) -> list[tuple[str, list[str]]]:
    """Return the rows of a help with words outside Chinese sentences, and these words."""
    allowed = NAMES | metavars(command)
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            listed = {name: command.get_command(ctx, name) for name in command.list_commands(ctx)}
        allowed |= set(listed).union(*(metavars(part) for part in listed.values() if part))
    rows = [(row, re.findall(r"[A-Za-z][\w'-]+", TYPED.sub(" ", row))) for row in page.splitlines()]
    return [
        (row, unknown) for row, words in rows if (unknown := [w for w in words if w not in allowed])
    ]


def metavars(command: click.Command) -> set[str]:
    """Return the names of a command's values, without the names of click's types."""
    named = " ".join(parameter.metavar or "" for parameter in command.params)
    return set(re.findall(r"[A-Za-z][\w'-]+", named))


def test_pages_include_commands_of_groups() -> None:
    """The commands of a group have pages, too."""
    assert {(), ("sync",), ("schedule", "install")} <= set(PAGES)


@pytest.mark.parametrize("columns", [80, 52])
@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_chinese_help_has_no_english_sentences(
    path: tuple[str, ...],
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At any width everything is translated except names and words to type."""
    monkeypatch.setenv("COLUMNS", str(columns))

    assert Exit.OK == run(["--lang", "zh", *path, "--help"], TestConsole().console)

    page = capsys.readouterr().out
    typed = page.replace(" ".join(("certferry", *path)), "", 1)
    for example in EXAMPLES:
        typed = typed.replace(f"\n  {example}  ", "\n")
    assert [] == english(typed, PAGES[path])
    if path != ("completion",):  # words to type are not wrapped
        assert max(map(width, page.splitlines())) <= columns


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_every_value_of_an_option_has_a_name(path: tuple[str, ...]) -> None:
    """A named value replaces click's own names of types, such as INTEGER RANGE."""
    nameless = [
        parameter.name
        for parameter in PAGES[path].params
        if parameter.metavar is None and not getattr(parameter, "is_flag", False)
    ]

    assert [] == nameless


def test_group_lists_whole_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence is wrapped at the edge of the screen instead of shortened."""
    assert Exit.OK == run(["schedule", "--help"], TestConsole().console)

    listed = capsys.readouterr().out.partition("\nCommands:\n")[2]
    sentence = (
        "Write one line into your crontab, or a service and a timer: one run at a random time at"
    )
    assert sentence in " ".join(listed.split())
    assert "..." not in listed


def test_option_with_a_meaning_in_each_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The help of `schedule remove --systemd` describes the removal, although `install` has the
    same option.
    """
    assert Exit.OK == run(["schedule", "remove", "--help"], TestConsole().console)

    page = " ".join(capsys.readouterr().out.split())
    assert "--systemd Remove only the systemd units." in page
    assert "instead of a crontab line" not in page


@pytest.mark.parametrize("language", [None, "de"])
def test_command_runs_in_the_original_environment(
    language: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Click reads the LANGUAGE of the process for Chinese messages; programs of a command get the
    original variable.
    """
    monkeypatch.delenv("LANGUAGE", raising=False)
    if language is not None:
        monkeypatch.setenv("LANGUAGE", language)
    environments = []

    @click.command()
    @click.option("--number", type=int, required=True)
    def command(number: int) -> int:
        del number
        environments.append((os.environ.get("LANGUAGE"), gettext.textdomain()))
        return Exit.OK

    before = (language, gettext.textdomain())
    console = TestConsole()
    chinese = console.console.with_voice(voice_in("zh"))

    assert Exit.OK == run_command(command, "x", ["--number", "1"], chinese)
    assert Exit.USAGE == run_command(command, "x", [], chinese)

    assert "错误：缺少选项 '--number'" in console.err
    assert [before] == environments
    assert before == (os.environ.get("LANGUAGE"), gettext.textdomain())


def test_help_option_does_not_keep_a_language(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The language of the help is right even if click has created the help option before, in
    English.
    """
    with click.Context(program) as ctx:
        assert program.get_help_option(ctx) is not None

    assert Exit.OK == run(["--lang", "zh", "--help"], TestConsole().console)

    assert "Show this message and exit" not in capsys.readouterr().out


# --- Completion of shells: scripts that shells accept, and the candidates


def script(shell: str) -> str:
    return subprocess.run(
        [*forks.COMMAND, "completion", shell], capture_output=True, text=True, check=True
    ).stdout


def offered(words: str, cwd: Path) -> list[str]:
    variables = {
        "_CERTFERRY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    result = forks.run(forks.COMMAND, cwd=cwd, env=os.environ | variables)
    assert (0, "") == (result.returncode, result.stderr)
    return [row.partition(",")[2] for row in result.stdout.splitlines() if row]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_of_each_shell(shell: str) -> None:
    """The script calls certferry for the candidates."""
    assert f"_CERTFERRY_COMPLETE={shell}_complete" in script(shell)


def test_descriptions_in_fish() -> None:
    """Fish shows whole descriptions, while click's own script ends at the first comma."""
    assert 'string split --max 1 "," $completion' in script("fish")


def test_script_in_a_real_bash(tmp_path: Path) -> None:
    """A shell that sources the script completes the commands."""
    bash = shutil.which("bash")
    assert bash is not None
    (tmp_path / "certferry").write_text(f'#!/bin/sh\nexec {" ".join(forks.COMMAND)} "$@"\n')
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


def test_completion_of_commands_and_options(tmp_path: Path) -> None:
    """The candidates are exactly the words with the typed beginning."""
    assert list(COMMANDS) == offered("certferry ", tmp_path)
    assert [] == offered("certferry frobnicate x", tmp_path)
    assert ["--renew", "--rehearse"] == offered("certferry sync --r", tmp_path)
    assert ["--config"] == offered("certferry --c", tmp_path)
    assert ["bash", "zsh", "fish"] == offered("certferry completion ", tmp_path)


def test_completion_of_certificates(tmp_path: Path) -> None:
    """The candidates come from the configuration; a wrong configuration gives no candidates."""
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

    assert ["img", "static.example.com"] == offered("certferry plan ", tmp_path)
    assert ["static.example.com"] == offered("certferry history s", tmp_path)
    assert ["img"] == offered("certferry --config certferry.toml export i", tmp_path)

    path.write_text("nonsense")

    assert [] == offered("certferry plan ", tmp_path)


def test_descriptions_of_candidates_are_translated() -> None:
    """Shells with descriptions show the whole text of the help."""
    variables = {"_CERTFERRY_COMPLETE": "fish_complete", "LC_ALL": "zh_CN.UTF-8"}

    offered = [
        subprocess.run(
            forks.COMMAND,
            env=os.environ | variables | {"COMP_WORDS": words, "COMP_CWORD": words.split(" ")[-1]},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout.splitlines()
        for words in ("certferry schedule ", "certferry sync --re", "certferry pla")
    ]

    assert "plain,show\t显示已安装的定时任务及下次运行时间。" in offered[0]
    assert [
        "plain,--renew\t无论是否应续期，都签发新证书。",
        "plain,--rehearse	只在 CA 的测试环境试签发。",
    ] == offered[1]
    assert ["plain,plan\t显示 sync 将执行的操作及原因。"] == offered[2]
