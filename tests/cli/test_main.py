"""The command line itself: usage, exit codes, streams that break, runs that are stopped."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent

import click
import pytest

from certferry import __version__
from certferry.cli import exits
from certferry.cli.commands import COMMANDS, EXAMPLES, GROUPS, Commands
from certferry.cli.exits import FAMILIAR, Exit, of_error
from certferry.cli.main import program, run
from certferry.cli.options import Seconds
from certferry.errors import DnsUnavailable, LeaseHeld
from certferry.present import documents
from certferry.present.language import Voice
from certferry.text import Text
from tests.cli import values
from tests.cli.consoles import TestConsole
from tests.cli.terminals import Terminal
from tests.support.command import run_here
from tests.support.tiers import sampled

CERTFERRY = [sys.executable, "-m", "certferry"]


def certferry(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process, without a terminal: where the start of it is the point."""
    return subprocess.run(
        [*CERTFERRY, *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def complained(*arguments: str) -> tuple[int, str]:
    """Run the command in this process; give its exit code and what went to stderr."""
    console = TestConsole(environ=os.environ)
    code = run(arguments, console.console)
    assert "" == console.out
    return code, console.err


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["snyc"], "no such command: snyc; did you mean `sync`?", "run `certferry --help`"),
        (["sync", "--renwe"], "no such option '--renwe'", "did you mean --renew?"),
        (
            ["sync", "-v"],
            "no such option '-v'",
            "write the option before the command: certferry -v … sync",
        ),
        (["plan", "--zzz"], "no such option '--zzz'", "run `certferry plan --help`"),
        (["-v", "-q", "sync"], "-v and -q exclude each other", "run `certferry --help`"),
        (
            ["sync", "--wait", "soon"],
            "invalid value for '--wait': 'soon' is not a whole number",
            "run `certferry sync --help`",
        ),
        (
            ["sync", "--wait", "9w"],
            "invalid value for '--wait': '9w' is not a whole number",
            "run `certferry sync --help`",
        ),
        (["--config"], "option '--config' requires an argument", "run `certferry --help`"),
        (["export", "img"], "missing option '--dir'", "run `certferry export --help`"),
        (
            ["completion", "ksh"],
            "invalid value for 'SHELL': 'ksh' is not one of 'bash', 'zsh', 'fish'",
            "run `certferry completion --help`",
        ),
    ],
)
def test_a_mistyped_command_line_is_two(arguments: list[str], error: str, hint: str) -> None:
    """One error and one hint, in our own voice."""
    assert (Exit.USAGE, f"error: {error}\n\nhint: {hint}\n") == complained(*arguments)


def test_an_unknown_word_like_no_command_leads_to_the_help() -> None:
    """Where nothing is like it, there is nothing to guess; the help lists what there is with what
    it does.
    """
    for word in ("frobnicate", "destroy"):
        _, words = complained(word)

        assert f"error: no such command: {word}\n\nhint: run `certferry --help`\n" == words


def test_a_choice_that_is_missing_is_one_sentence_in_chinese() -> None:
    """No full stop of English stands in it."""
    _, words = complained("--lang", "cn", "revoke", "img")

    assert words.startswith("错误：缺少选项 '--reason'；可选：unspecified, ")


@pytest.mark.parametrize(("written", "meant"), [("90", 90), ("30m", 1800), ("1h", 3600), ("0", 0)])
def test_a_wait_is_written_in_seconds_or_with_a_unit(written: str, meant: int) -> None:
    """As people say how long."""
    assert meant == Seconds(0, 86400).convert(written, None, None)


def test_no_command_at_all_is_answered_with_the_help() -> None:
    """Who types the bare name reads what there is."""
    code, words = complained()

    assert Exit.USAGE == code
    assert words.startswith("Usage: certferry [OPTIONS] COMMAND [ARGS]...\n")
    assert all(name in words for name in COMMANDS)


def test_the_help_has_its_commands_in_groups() -> None:
    """Each command stands in one group, those of every day near the top; examples end the help."""
    grouped = [name for _, names in GROUPS for name in names]
    words = run_here(["--help"], {"CERTFERRY_LANG": "en"}).out

    assert sorted(COMMANDS) == sorted(grouped)
    assert grouped == re.findall(
        r"^  ([a-z-]+)  +[A-Z]", words.partition("\nDeclare")[2], re.MULTILINE
    )
    assert [str(heading) for heading, _ in GROUPS] + ["Examples"] == re.findall(
        r"^(\S.*):$", words.partition("Show this message and exit.")[2], re.MULTILINE
    )
    assert all(f"  {typed}  " in words.partition("\nExamples:\n")[2] for typed in EXAMPLES)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    """The help of a command begins with the sentence that the table has for it."""
    group = Commands(name="certferry")
    command = group.get_command(click.Context(group), name)

    assert command is not None
    assert COMMANDS[name] == str(command.help).partition("\n\n")[0].replace("\n", " ").strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`-h` is `--help`."""
    assert Exit.OK == run([name, "--help"], TestConsole().console)
    long = capsys.readouterr().out
    assert Exit.OK == run([name, "-h"], TestConsole().console)

    assert long == capsys.readouterr().out
    assert long.startswith(f"Usage: certferry {name} ")


@pytest.mark.parametrize("command", ["plan", "sync", "status"])
def test_a_command_without_configuration_says_where_it_looked(command: str, tmp_path: Path) -> None:
    """Nothing is there: exit 2, the places, and what to do."""
    result = run_here([command], os.environ, tmp_path)

    assert (Exit.USAGE, "") == (result.code, result.out)
    assert (
        "error: there is no configuration file; certferry looked for certferry.toml" in result.err
    )
    assert "\n\nhint: " in result.err


def test_a_name_without_a_file_asks_for_the_keys(tmp_path: Path) -> None:
    """All four variables are named at once, each in its own line."""
    result = run_here(["sync", "img.example.com"], os.environ, tmp_path)

    assert Exit.USAGE == result.code
    first, *others = result.err.partition("\n\n")[0].splitlines()
    assert first.startswith("error: DP_Id / DNSPOD_API_KEY: ")
    assert [
        "DP_Key / DNSPOD_API_KEY",
        "QINIU_ACCESS_KEY / QINIU_AK",
        "QINIU_SECRET_KEY / QINIU_SK",
    ] == [row.removeprefix("       ").partition(": ")[0] for row in others]


def test_an_error_is_a_document_too(tmp_path: Path) -> None:
    """With `--json` the error is on stdout for programs, and on stderr for people."""
    result = run_here(["--config", str(tmp_path / "none.toml"), "plan", "--json"], os.environ)

    document = json.loads(result.out)
    assert {"error"} == set(document)
    assert {"code", "message", "hint"} == set(document["error"])
    assert "config" == document["error"]["code"]
    assert result.err.startswith("error: ")
    assert Exit.USAGE == result.code


def test_a_usage_error_is_a_document_too() -> None:
    """A program that mistypes gets JSON as well."""
    result = certferry("plan", "--json", "--chek")

    assert {
        "error": {
            "code": "usage",
            "message": "no such option '--chek'",
            "hint": "did you mean --check?",
        }
    } == json.loads(result.stdout)


CONFIG = """
[state]
url = "sqlite:///{state}"

[acme]
directory = "https://{place}/dir"

[accounts.qiniu]
access_key = "env:QINIU_ACCESS_KEY"
secret_key = "env:QINIU_SECRET_KEY"
api = "{url}"
fusion = "{url}"
uc = "{url}"

[accounts.dnspod]
id = "env:DP_Id"
token = "env:DP_Key"
api = "{url}"

[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
[[certificates.deploy]]
to = "qiniu"

[[certificates]]
name = "static"
names = ["static.example.com"]
dns = "dnspod"
"""

KEYS = {"DP_Id": "1", "DP_Key": "k", "QINIU_ACCESS_KEY": "a", "QINIU_SECRET_KEY": "s"}


@pytest.fixture
def silence() -> Iterator[socket.socket]:
    """A service that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, silence: socket.socket) -> Path:
    place = f"127.0.0.1:{silence.getsockname()[1]}"
    path = tmp_path / "certferry.toml"
    written = CONFIG.format(state=tmp_path / "state.db", place=place, url=f"http://{place}")
    path.write_text(written)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("name", "hint"),
    [("statik", "did you mean static? known: img, static"), ("zzz", "known: img, static")],
)
@pytest.mark.parametrize("command", ["plan", "sync", "status"])
def test_an_unknown_certificate_is_two(command: str, name: str, hint: str, config: Path) -> None:
    """The nearest declared name is offered."""
    code, words = complained("--config", str(config), command, name)

    assert (Exit.USAGE, f"error: there is no certificate called {name}\n\nhint: {hint}\n") == (
        code,
        words,
    )


def test_a_missing_secret_is_two(config: Path) -> None:
    """What is not set is named, before anything is sent."""
    result = run_here(["--config", str(config), "plan"], os.environ)

    assert Exit.USAGE == result.code
    assert "QINIU_ACCESS_KEY" in result.err
    assert "DP_Key" in result.err


@pytest.mark.parametrize("number", sampled([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], 2))
def test_a_run_that_is_stopped_says_so(
    config: Path, silence: socket.socket, number: signal.Signals
) -> None:
    """Ctrl-C and a request to end give 130, tell what was left, and leave nothing running."""
    process = subprocess.Popen(
        [*CERTFERRY, "--config", str(config), "sync", "img"],
        env=os.environ | KEYS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    connection, _ = silence.accept()
    process.send_signal(number)
    connection.close()
    silence.close()

    out, err = process.communicate(timeout=30)

    assert f"Stopped. The next `certferry --config {config} sync` continues from here.\n" in out
    assert Exit.STOPPED == process.returncode
    assert "Traceback" not in err


def test_ctrl_c_outside_a_sync_is_quiet(config: Path, silence: socket.socket) -> None:
    """A look that is stopped says one word, and no more."""
    process = subprocess.Popen(
        [*CERTFERRY, "--config", str(config), "plan"],
        env=os.environ | KEYS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with silence.accept()[0] as connection:
        connection.recv(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert (Exit.STOPPED, "", "stopped\n") == (process.returncode, out, err)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`certferry … | head` ends quietly, as Unix tools do."""
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [*CERTFERRY, "completion", "bash"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)

    assert (Exit.NO_READER, b"") == (result.returncode, result.stderr)


@pytest.mark.parametrize("arguments", [["completion", "bash"], ["--help"], ["history"], ["-V"]])
def test_a_full_disk_under_stdout_is_reported(arguments: Sequence[str]) -> None:
    """What cannot be written is a failure with a name, not a traceback."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        result = subprocess.run(
            [*CERTFERRY, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert Exit.FAILED == result.returncode
    assert "error: the output cannot be written: No space left on device\n" == result.stderr


@pytest.mark.parametrize("argument", ["history", "--version"])
def test_closed_streams_are_no_error(argument: str) -> None:
    """Who closes stdout and stderr wants to hear nothing."""
    script = f"exec {' '.join(CERTFERRY)} {argument} >&- 2>&-"

    assert Exit.OK == subprocess.run(["sh", "-c", script], check=False).returncode


def test_a_version_that_nothing_reads() -> None:
    """As with every other command: reported by the exit code, and no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        result = subprocess.run(
            [*CERTFERRY, "--version"], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
        )

    assert (Exit.NO_READER, "") == (result.returncode, result.stderr)


def test_words_that_a_locale_cannot_write_become_escapes() -> None:
    """An old locale gets every line, and an error never becomes another error."""
    result = certferry("watch", "图片。", PYTHONIOENCODING="ascii", PYTHONUTF8="0")

    assert Exit.USAGE == result.returncode
    assert result.stderr.startswith("error: '\\u56fe\\u7247\\u3002' is not a domain name\n")


LOADED = """
import sys
from certferry.__main__ import main
code = main()
print("rich" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


def test_nothing_is_loaded_to_draw_with_where_nothing_is_drawn() -> None:
    """A table needs no display library, on a terminal or in a pipe; only a live display does."""
    command = [sys.executable, "-c", LOADED, "watch", "nothing.invalid"]
    piped = subprocess.run(command, capture_output=True, text=True, check=False)
    with Terminal(command) as terminal:
        assert Exit.FAILED == terminal.end()

    assert "False\n" == piped.stderr
    assert terminal.screen.text.endswith("\nFalse")
    assert "HOST" in terminal.screen.text


def test_an_unexpected_error_is_ours_and_hides_what_it_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mistake of ours is reported by its kind alone: its message could quote anything. The log of
    -v has the rest.
    """
    with caplog.at_level(logging.DEBUG, "certferry"):
        problem = exits.problem_of(KeyError("hunter2"))
    lines = list(Voice().end(problem))

    assert dedent("""\
        error: unexpected error (KeyError): a bug in certferry

        hint: run the command again with -v, and report the output
        """) == values.text_of(lines)
    assert Exit.FAILED == of_error(KeyError("hunter2"))
    assert "KeyError: 'hunter2'" in caplog.text


def test_a_file_that_the_system_refuses_is_named() -> None:
    """A problem with a file is not taken for one with the output."""
    problem = exits.problem_of(PermissionError(13, "Permission denied", "/etc/x"))

    assert "error: /etc/x: Permission denied\n" == values.text_of(list(Voice().end(problem)))


def test_an_error_reads_as_in_the_style_guide() -> None:
    """What happened to whom; further lines below it; then what to do next."""
    error = DnsUnavailable(
        Text("example.com: not seen\nmissing at {server}", server="ns2.example.net"),
        hint=Text("check the delegation\nand the firewall"),
    )
    lines = list(Voice().end(exits.problem_of(error)))

    assert dedent("""\
        error: example.com: not seen
               missing at ns2.example.net

        hint: check the delegation
              and the firewall
        """) == values.text_of(lines)


def test_a_held_lease_is_try_again_later() -> None:
    """Locked by another run is 75, with the code for programs."""
    error = LeaseHeld(Text("locked"))

    assert Exit.TRY_LATER == of_error(error)
    assert {"error": {"code": "lease_held", "message": "locked", "hint": None}} == (
        documents.rendered(documents.of_end(exits.problem_of(error)), Voice())
    )


def test_the_program_is_called_by_its_name() -> None:
    """However it is started, help and hints say `certferry`."""
    assert "Usage: certferry " in certferry("--help").stdout
    assert "program" == program.name


def test_a_crash_leaves_no_keys_on_the_disk() -> None:
    """The kernel writes no core file, whatever the shell allowed; a child may raise it again."""
    child = dedent("""
        import resource, sys
        from certferry.__main__ import main
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))
        sys.argv = ["certferry", "--help"]
        main()
        print("limits", *resource.getrlimit(resource.RLIMIT_CORE), most)
    """)
    done = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, timeout=60, check=True
    )

    words, soft, hard, most = done.stdout.splitlines()[-1].split()
    assert ("limits", "0", most) == (words, soft, hard)


def test_what_ends_a_librarys_thread_is_not_shown() -> None:
    """Python would print the traceback, with whatever it quotes."""
    child = dedent("""
        import sys, threading
        from certferry.__main__ import main
        sys.argv = ["certferry", "--help"]
        main()
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    """)
    done = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, timeout=60, check=True
    )

    assert "" == done.stderr


@pytest.mark.parametrize("words", [["renew"], ["renew", "img"], ["renew-all"], ["--renew"]])
def test_renew_leads_to_what_is_due(words: list[str]) -> None:
    """`certbot renew` renews what is due; the answer never leads to an order of everything."""
    console = TestConsole()

    assert Exit.USAGE == run(words, console.console)

    name = words[1] if len(words) > 1 else "NAME"
    assert "run `certferry sync`, which renews what is due" in console.err
    assert f"`certferry sync --renew {name}` orders one certificate now" in console.err


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--issue", "sync"),
        ("--install-cert", "export"),
        ("--installcert", "export"),
        ("--list", "status"),
    ],
)
def test_options_of_acme_sh_lead_on(option: str, command: str) -> None:
    """acme.sh's commands begin with two dashes."""
    console = TestConsole()

    assert Exit.USAGE == run([option, "-d", "img.example.com"], console.console)

    assert f"hint: run `certferry {command}`\n" in console.err


@pytest.mark.parametrize(("word", "command"), FAMILIAR.items())
def test_familiar_words_lead_on(word: str, command: str) -> None:
    """The words of other clients name the command that is meant here; none of them runs."""
    console = TestConsole()

    code = run([word, "img"], console.console)

    assert Exit.USAGE == code
    assert f"no such command: {word}; run `certferry {command}`" in console.err
    name, *more = command.split()
    assert name in {*COMMANDS, "--version"}
    assert not more or run_here([name, *more, "--help"], os.environ).code == Exit.OK


@pytest.mark.parametrize("command", ["sync", "plan"])
def test_dry_run_is_plan(command: str) -> None:
    """Wherever it is tried."""
    console = TestConsole()

    assert Exit.USAGE == run([command, "--dry-run"], console.console)
    hint = "`certferry plan` shows what a sync would change, and changes nothing itself"
    assert f"hint: {hint}" in console.err


def test_short_options_of_other_programs() -> None:
    """`-V` is the version, `-c` the file."""
    file = TestConsole()

    assert f"certferry {__version__}\n" == certferry("-V").stdout
    assert Exit.USAGE == run(["-c", "/no/such.toml", "plan"], file.console)
    assert "/no/such.toml" in file.err


def test_a_command_that_is_printed_has_the_file_that_was_named(tmp_path: Path) -> None:
    """A hint that leads to another command leads it to the same file; a help names none."""
    elsewhere, help_of_sync = tmp_path / "x.toml", run_here(["sync", "--help"], os.environ)

    _, words = complained("--config", str(elsewhere), "renew")
    _, without = complained("--config", "certferry.toml", "renew")
    explained = run_here(["--config", str(elsewhere), "sync", "--help"], os.environ)

    assert f"run `certferry --config {elsewhere} sync`, which renews" in words
    assert "run `certferry sync`, which renews" in without
    assert help_of_sync.out == explained.out
