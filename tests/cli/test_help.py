"""The help of every command, and what shells complete."""

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

# --- The help of every command is in the reader's language, whole, on a wide and a narrow
# screen


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
        "TLS",
        "TXT",
        "bash",
        "certbot",
        "certferry",
        "completion",
    ),
    *("cron", "crontab", "fish", "lego", "port", "qiniu", "shell", "sync", "systemd", "text"),
    *("unit", "value", "zsh"),
    *("config", "help", "notify"),  # in a command of more words than a row
    *("API", "Ctrl-C", "PATH", "SIGHUP", "SIGTERM", "unix"),
}
"""Words that are the same in both languages."""


def pages(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Return every command that has a help, and what is typed for it."""
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            for name in command.list_commands(ctx):
                part = command.get_command(ctx, name)
                assert part is not None
                yield from pages(part, *path, name)


PAGES = dict(pages(program))


def english(page: str, command: click.Command) -> list[tuple[str, list[str]]]:
    """Return the rows of a help with words of no Chinese sentence, and these words."""
    allowed = NAMES | metavars(command)
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            listed = {name: command.get_command(ctx, name) for name in command.list_commands(ctx)}
        allowed |= set(listed).union(*(metavars(one) for one in listed.values() if one))
    rows = [(row, re.findall(r"[A-Za-z][\w'-]+", TYPED.sub(" ", row))) for row in page.splitlines()]
    return [(row, rest) for row, words in rows if (rest := [w for w in words if w not in allowed])]


def metavars(command: click.Command) -> set[str]:
    """Return what a command calls its values: only what was given a name, none of click's types."""
    written = " ".join(parameter.metavar or "" for parameter in command.params)
    return set(re.findall(r"[A-Za-z][\w'-]+", written))


def test_every_page_is_found() -> None:
    """The parts of a group have pages, too."""
    assert {(), ("sync",), ("schedule", "install")} <= set(PAGES)


@pytest.mark.parametrize("columns", [80, 52])
@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_a_help_in_chinese_has_no_english_sentence(
    path: tuple[str, ...],
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the width, all that is no name and not typed is translated."""
    monkeypatch.setenv("COLUMNS", str(columns))

    assert Exit.OK == run(["--lang", "zh", *path, "--help"], TestConsole().console)

    page = capsys.readouterr().out
    typed = page.replace(" ".join(("certferry", *path)), "", 1)
    for example in EXAMPLES:
        typed = typed.replace(f"\n  {example}  ", "\n")
    assert [] == english(typed, PAGES[path])
    if path != ("completion",):  # its commands stay as they are to be typed
        assert max(map(width, page.splitlines())) <= columns


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_every_value_of_an_option_has_a_name(path: tuple[str, ...]) -> None:
    """What click would write in its place, such as INTEGER RANGE, is no word of ours."""
    nameless = [
        parameter.name
        for parameter in PAGES[path].params
        if parameter.metavar is None and not getattr(parameter, "is_flag", False)
    ]

    assert [] == nameless


def test_a_group_lists_whole_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    """None ends in dots where the screen does."""
    assert Exit.OK == run(["schedule", "--help"], TestConsole().console)

    listed = capsys.readouterr().out.partition("\nCommands:\n")[2]
    sentence = (
        "Write one line into your crontab, or a service and a timer: one run at a random time at"
    )
    assert sentence in " ".join(listed.split())
    assert "..." not in listed


def test_one_option_means_something_else_in_each_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What `schedule remove --systemd` does is said there, and not what `install` does with it."""
    assert Exit.OK == run(["schedule", "remove", "--help"], TestConsole().console)

    said = " ".join(capsys.readouterr().out.split())
    assert "--systemd Remove only the systemd units." in said
    assert "instead of a crontab line" not in said


@pytest.mark.parametrize("language", [None, "de"])
def test_a_command_runs_in_the_environment_it_was_started_in(
    language: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Click speaks Chinese by the process's LANGUAGE; programs that a command starts do not."""
    monkeypatch.delenv("LANGUAGE", raising=False)
    if language is not None:
        monkeypatch.setenv("LANGUAGE", language)
    seen = []

    @click.command()
    @click.option("--number", type=int, required=True)
    def command(number: int) -> int:
        del number
        seen.append((os.environ.get("LANGUAGE"), gettext.textdomain()))
        return Exit.OK

    before = (language, gettext.textdomain())
    console = TestConsole()
    chinese = console.console.with_voice(voice_in("zh"))

    assert Exit.OK == run_command(command, "x", ["--number", "1"], chinese)
    assert Exit.USAGE == run_command(command, "x", [], chinese)

    assert "错误：缺少选项 '--number'" in console.err
    assert [before] == seen
    assert before == (os.environ.get("LANGUAGE"), gettext.textdomain())


def test_what_asked_the_program_itself_for_help_changes_no_language(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Click keeps the option that it made first, which would stay in English."""
    with click.Context(program) as ctx:
        assert program.get_help_option(ctx) is not None

    assert Exit.OK == run(["--lang", "zh", "--help"], TestConsole().console)

    assert "Show this message and exit" not in capsys.readouterr().out


# --- Shell completion: scripts that shells accept, and answers to what they ask


def script(shell: str) -> str:
    return subprocess.run(
        [*forks.COMMAND, "completion", shell], capture_output=True, text=True, check=True
    ).stdout


def offered(words: str, cwd: Path) -> list[str]:
    asked = {
        "_CERTFERRY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    result = forks.run(forks.COMMAND, cwd=cwd, env=os.environ | asked)
    assert (0, "") == (result.returncode, result.stderr)
    return [row.partition(",")[2] for row in result.stdout.splitlines() if row]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    """The script asks certferry itself."""
    assert f"_CERTFERRY_COMPLETE={shell}_complete" in script(shell)


def test_fish_shows_whole_sentences() -> None:
    """Not only as far as their first comma, where click's script ends them."""
    assert 'string split --max 1 "," $completion' in script("fish")


def test_the_script_works_in_a_real_bash(tmp_path: Path) -> None:
    """A shell that sources the script offers the commands."""
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


def test_commands_and_options_are_offered(tmp_path: Path) -> None:
    """What begins with what was typed, and nothing else."""
    assert list(COMMANDS) == offered("certferry ", tmp_path)
    assert [] == offered("certferry frobnicate x", tmp_path)
    assert ["--renew", "--rehearse"] == offered("certferry sync --r", tmp_path)
    assert ["--config"] == offered("certferry --c", tmp_path)
    assert ["bash", "zsh", "fish"] == offered("certferry completion ", tmp_path)


def test_declared_certificates_are_offered(tmp_path: Path) -> None:
    """NAMEs come from the configuration; where that is wrong, a shell reads nothing."""
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


def test_what_is_offered_is_explained_in_the_readers_language() -> None:
    """Shells that show what a word is for show what the help says, whole."""
    asked = {"_CERTFERRY_COMPLETE": "fish_complete", "LC_ALL": "zh_CN.UTF-8"}

    offered = [
        subprocess.run(
            forks.COMMAND,
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
        "plain,--rehearse	只在 CA 的测试环境试签发。",
    ] == offered[1]
    assert ["plain,plan\t显示 sync 将执行的操作及原因。"] == offered[2]
