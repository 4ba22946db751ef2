"""The command line: usage, exit codes, broken streams, and interrupted runs."""

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
    """Run the command as a process, without a terminal, for tests of the start of a process."""
    return subprocess.run(
        [*CERTFERRY, *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def stderr_of(*arguments: str) -> tuple[int, str]:
    """Run the command in this process, and return the exit code and stderr."""
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
def test_wrong_command_line_ends_with_usage(arguments: list[str], error: str, hint: str) -> None:
    """The output is one error and one hint, in certferry's own words."""
    assert (Exit.USAGE, f"error: {error}\n\nhint: {hint}\n") == stderr_of(*arguments)


def test_unknown_word_leads_to_the_help() -> None:
    """For a word that resembles no command the hint has the help instead of a guess."""
    for word in ("frobnicate", "destroy"):
        _, words = stderr_of(word)

        assert f"error: no such command: {word}\n\nhint: run `certferry --help`\n" == words


def test_missing_choice_in_chinese() -> None:
    """The sentence has no English full stop."""
    _, words = stderr_of("--lang", "cn", "revoke", "img")

    assert words.startswith("错误：缺少选项 '--reason'；可选：unspecified, ")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("30m", 1800), ("1h", 3600), ("0", 0)])
def test_time_limit_with_and_without_a_unit(text: str, seconds: int) -> None:
    """A time limit is a number of seconds, or a number with a unit."""
    assert seconds == Seconds(0, 86400).convert(text, None, None)


def test_command_line_without_a_command() -> None:
    """The output is the help."""
    code, words = stderr_of()

    assert Exit.USAGE == code
    assert words.startswith("Usage: certferry [OPTIONS] COMMAND [ARGS]...\n")
    assert all(name in words for name in COMMANDS)


def test_help_lists_commands_in_groups() -> None:
    """Each command is in one group, frequent commands come first, and examples end the help."""
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
def test_help_of_a_command_begins_with_the_sentence_of_the_table(name: str) -> None:
    """The table of commands and the help of a command have the same sentence."""
    group = Commands(name="certferry")
    command = group.get_command(click.Context(group), name)

    assert command is not None
    assert COMMANDS[name] == str(command.help).partition("\n\n")[0].replace("\n", " ").strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_short_option_for_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`-h` prints the same as `--help`."""
    assert Exit.OK == run([name, "--help"], TestConsole().console)
    long = capsys.readouterr().out
    assert Exit.OK == run([name, "-h"], TestConsole().console)

    assert long == capsys.readouterr().out
    assert long.startswith(f"Usage: certferry {name} ")


@pytest.mark.parametrize("command", ["plan", "sync", "status"])
def test_command_without_a_configuration(command: str, tmp_path: Path) -> None:
    """The exit code is 2, and the error has the places of a configuration and a hint."""
    result = run_here([command], os.environ, tmp_path)

    assert (Exit.USAGE, "") == (result.code, result.out)
    assert (
        "error: there is no configuration file; certferry looked for certferry.toml" in result.err
    )
    assert "\n\nhint: " in result.err


def test_name_without_a_configuration(tmp_path: Path) -> None:
    """The error has a line for each of the four variables."""
    result = run_here(["sync", "img.example.com"], os.environ, tmp_path)

    assert Exit.USAGE == result.code
    first, *others = result.err.partition("\n\n")[0].splitlines()
    assert first.startswith("error: DP_Id / DNSPOD_API_KEY: ")
    assert [
        "DP_Key / DNSPOD_API_KEY",
        "QINIU_ACCESS_KEY / QINIU_AK",
        "QINIU_SECRET_KEY / QINIU_SK",
    ] == [row.removeprefix("       ").partition(": ")[0] for row in others]


def test_error_as_json(tmp_path: Path) -> None:
    """With `--json` the error is on stdout for programs, and on stderr for people."""
    result = run_here(["--config", str(tmp_path / "none.toml"), "plan", "--json"], os.environ)

    document = json.loads(result.out)
    assert {"error"} == set(document)
    assert {"code", "message", "hint"} == set(document["error"])
    assert "config" == document["error"]["code"]
    assert result.err.startswith("error: ")
    assert Exit.USAGE == result.code


def test_usage_error_as_json() -> None:
    """A program with a wrong option gets JSON as well."""
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
def silent_service() -> Iterator[socket.socket]:
    """Yield a service that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, silent_service: socket.socket) -> Path:
    place = f"127.0.0.1:{silent_service.getsockname()[1]}"
    path = tmp_path / "certferry.toml"
    text = CONFIG.format(state=tmp_path / "state.db", place=place, url=f"http://{place}")
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("name", "hint"),
    [("statik", "did you mean static? known: img, static"), ("zzz", "known: img, static")],
)
@pytest.mark.parametrize("command", ["plan", "sync", "status"])
def test_unknown_certificate_ends_with_usage(
    command: str, name: str, hint: str, config: Path
) -> None:
    """The hint has the nearest declared name."""
    code, words = stderr_of("--config", str(config), command, name)

    assert (Exit.USAGE, f"error: there is no certificate called {name}\n\nhint: {hint}\n") == (
        code,
        words,
    )


def test_missing_secret_ends_with_usage(config: Path) -> None:
    """The error names the unset variables before the first request."""
    result = run_here(["--config", str(config), "plan"], os.environ)

    assert Exit.USAGE == result.code
    assert "QINIU_ACCESS_KEY" in result.err
    assert "DP_Key" in result.err


@pytest.mark.parametrize("number", sampled([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], 2))
def test_interrupted_run_ends_with_a_message(
    config: Path, silent_service: socket.socket, number: signal.Signals
) -> None:
    """Ctrl-C and other signals end a run with 130 and a message about the next run, and no process
    stays.
    """
    process = subprocess.Popen(
        [*CERTFERRY, "--config", str(config), "sync", "img"],
        env=os.environ | KEYS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    connection, _ = silent_service.accept()
    process.send_signal(number)
    connection.close()
    silent_service.close()

    out, err = process.communicate(timeout=30)

    assert f"Stopped. The next `certferry --config {config} sync` continues from here.\n" in out
    assert Exit.STOPPED == process.returncode
    assert "Traceback" not in err


def test_ctrl_c_outside_a_sync(config: Path, silent_service: socket.socket) -> None:
    """An interrupted command without changes prints one word."""
    process = subprocess.Popen(
        [*CERTFERRY, "--config", str(config), "plan"],
        env=os.environ | KEYS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with silent_service.accept()[0] as connection:
        connection.recv(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert (Exit.STOPPED, "", "stopped\n") == (process.returncode, out, err)


def test_reader_that_closes_the_pipe(tmp_path: Path) -> None:
    """`certferry … | head` ends quietly, as Unix tools do."""
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [*CERTFERRY, "completion", "bash"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)

    assert (Exit.NO_READER, b"") == (result.returncode, result.stderr)


@pytest.mark.parametrize("arguments", [["completion", "bash"], ["--help"], ["history"], ["-V"]])
def test_full_disk_behind_stdout(arguments: Sequence[str]) -> None:
    """The error has the system's words instead of a traceback."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        result = subprocess.run(
            [*CERTFERRY, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert Exit.FAILED == result.returncode
    assert "error: the output cannot be written: No space left on device\n" == result.stderr


@pytest.mark.parametrize("argument", ["history", "--version"])
def test_closed_streams(argument: str) -> None:
    """A process with closed streams ends in order."""
    script = f"exec {' '.join(CERTFERRY)} {argument} >&- 2>&-"

    assert Exit.OK == subprocess.run(["sh", "-c", script], check=False).returncode


def test_version_without_a_reader() -> None:
    """The exit code reports the closed pipe, as for every other command."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        result = subprocess.run(
            [*CERTFERRY, "--version"], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
        )

    assert (Exit.NO_READER, "") == (result.returncode, result.stderr)


def test_characters_outside_the_locale() -> None:
    """An old locale gets escapes, and an error stays the same error."""
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


def test_display_library_is_not_loaded_for_a_table() -> None:
    """A table needs no display library, at a terminal or in a pipe."""
    command = [sys.executable, "-c", LOADED, "watch", "nothing.invalid"]
    piped = subprocess.run(command, capture_output=True, text=True, check=False)
    with Terminal(command) as terminal:
        assert Exit.FAILED == terminal.end()

    assert "False\n" == piped.stderr
    assert terminal.screen.text.endswith("\nFalse")
    assert "HOST" in terminal.screen.text


def test_unexpected_error_hides_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bug is reported by the type of the error alone, because the message could quote anything.
    The log of -v has the whole error.
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


def test_refused_file_is_named() -> None:
    """The error has the path of the file."""
    problem = exits.problem_of(PermissionError(13, "Permission denied", "/etc/x"))

    assert "error: /etc/x: Permission denied\n" == values.text_of(list(Voice().end(problem)))


def test_layout_of_an_error() -> None:
    """The error comes first, further lines are indented, and the hint comes last."""
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


def test_lease_of_another_run_ends_with_try_later() -> None:
    """The exit code is 75, and the document has the code for programs."""
    error = LeaseHeld(Text("locked"))

    assert Exit.TRY_LATER == of_error(error)
    assert {"error": {"code": "lease_held", "message": "locked", "hint": None}} == (
        documents.rendered(documents.of_end(exits.problem_of(error)), Voice())
    )


def test_name_of_the_program() -> None:
    """Help and hints have the name `certferry` for any way to start the program."""
    assert "Usage: certferry " in certferry("--help").stdout
    assert "program" == program.name


def test_a_crash_leaves_no_keys_on_the_disk() -> None:
    """The kernel writes no core file under any limit of the shell; a child may raise the limit
    again.
    """
    child = dedent("""
        import resource, sys
        from certferry.__main__ import main
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))
        sys.argv = ["certferry", "--help"]
        main()
        print("limits", *resource.getrlimit(resource.RLIMIT_CORE), most)
    """)
    process = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, timeout=60, check=True
    )

    words, soft, hard, most = process.stdout.splitlines()[-1].split()
    assert ("limits", "0", most) == (words, soft, hard)


def test_ctrl_c_during_a_finalizer() -> None:
    """Python drops the interrupt of a finalizer. The command gets it again, even if the main thread
    waits for a lock by then.
    """
    child = dedent("""
        import os, signal, threading
        from certferry.cli.main import end_in_order

        class Closed:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGINT)
                sum(each for each in range(1000))

        end_in_order()
        Closed()
        lock = threading.Lock()
        lock.acquire()
        try:
            lock.acquire()
        except KeyboardInterrupt:
            print("stopped")
    """)
    process = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, timeout=60, check=False
    )

    assert (0, "stopped\n", "") == (process.returncode, process.stdout, process.stderr)


def test_error_in_a_thread_of_a_library() -> None:
    """The process prints no traceback, which could quote anything."""
    child = dedent("""
        import sys, threading
        from certferry.__main__ import main
        sys.argv = ["certferry", "--help"]
        main()
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    """)
    process = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, timeout=60, check=True
    )

    assert "" == process.stderr


@pytest.mark.parametrize("words", [["renew"], ["renew", "img"], ["renew-all"], ["--renew"]])
def test_renew_leads_to_due_certificates(words: list[str]) -> None:
    """`certbot renew` renews due certificates, so the hint has `sync`, and never an order of all
    certificates.
    """
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
def test_options_of_acme_sh_have_a_hint(option: str, command: str) -> None:
    """The commands of acme.sh begin with two dashes."""
    console = TestConsole()

    assert Exit.USAGE == run([option, "-d", "img.example.com"], console.console)

    assert f"hint: run `certferry {command}`\n" in console.err


@pytest.mark.parametrize(("word", "command"), FAMILIAR.items())
def test_commands_of_other_clients_have_a_hint(word: str, command: str) -> None:
    """The hint has certferry's own command, and nothing runs."""
    console = TestConsole()

    code = run([word, "img"], console.console)

    assert Exit.USAGE == code
    assert f"no such command: {word}; run `certferry {command}`" in console.err
    name, *more = command.split()
    assert name in {*COMMANDS, "--version"}
    assert not more or run_here([name, *more, "--help"], os.environ).code == Exit.OK


@pytest.mark.parametrize("command", ["sync", "plan"])
def test_dry_run_leads_to_plan(command: str) -> None:
    """The hint is the same for every command."""
    console = TestConsole()

    assert Exit.USAGE == run([command, "--dry-run"], console.console)
    hint = "`certferry plan` shows what a sync would change, and changes nothing itself"
    assert f"hint: {hint}" in console.err


def test_short_options_of_other_programs() -> None:
    """`-V` prints the version, and `-c` names the configuration."""
    file = TestConsole()

    assert f"certferry {__version__}\n" == certferry("-V").stdout
    assert Exit.USAGE == run(["-c", "/no/such.toml", "plan"], file.console)
    assert "/no/such.toml" in file.err


def test_printed_command_has_the_chosen_configuration(tmp_path: Path) -> None:
    """A hint's command has the chosen configuration; the help of a command does not."""
    elsewhere, help_of_sync = tmp_path / "x.toml", run_here(["sync", "--help"], os.environ)

    _, words = stderr_of("--config", str(elsewhere), "renew")
    _, without = stderr_of("--config", "certferry.toml", "renew")
    explained = run_here(["--config", str(elsewhere), "sync", "--help"], os.environ)

    assert f"run `certferry --config {elsewhere} sync`, which renews" in words
    assert "run `certferry sync`, which renews" in without
    assert help_of_sync.out == explained.out
