"""`--renew`: never of all unasked; and certificates that another client makes: the operator is told
which client renews them.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry_sandbox.testing.certificates import make_bundle
from tests.cli.consoles import TestConsole
from tests.cli.terminals import Terminal

COMMANDS = pytest.mark.parametrize("command", ["sync", "plan"])
NOT_FOR_PICS = "`--renew` is not for pics: the client that makes it renews it"


FERRIED = """
[[certificates]]
name = "pics"
fullchain = "fullchain"
privkey = "privkey"
[[certificates.deploy]]
to = "files"
directory = "out"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A directory with a configuration: one certificate of certferry's own, which would need an
    account, and one that another client has made.
    """
    made = make_bundle("pics.example.com", not_before=datetime.now(UTC))
    (tmp_path / "fullchain").write_text(made.fullchain_pem)
    (tmp_path / "privkey").write_text(made.privkey_pem.reveal())
    (tmp_path / "certferry.toml").write_text(f"""
[accounts.dnspod]
id = "env:DP_Id"
token = "env:DP_Key"

[[certificates]]
name = "own"
names = ["own.example.com"]
dns = "dnspod"

{FERRIED}
""")
    (tmp_path / "ferried.toml").write_text(FERRIED)
    return tmp_path


def certferry(file: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command; give its exit code, stdout and stderr."""
    environ = {"HOME": str(file.parent), "XDG_DATA_HOME": str(file.parent / "data")}
    console = TestConsole(environ=environ)
    code = run(["--config", str(file), *arguments], console.console)
    return code, console.out, console.err


UNASKED = "`--renew` without NAME would order all 2 certificates anew, due or not"


@pytest.fixture
def two(machine: Path) -> Path:
    """A configuration with two certificates of certferry's own."""
    file = machine / "certferry.toml"
    other = '[[certificates]]\nnames = ["other.example.com"]\ndns = "dnspod"\n'
    file.write_text(file.read_text() + other)
    return file


def test_all_are_not_renewed_unasked(two: Path) -> None:
    """Without a terminal nothing is ordered before `--all` says so: CAs count what is ordered."""
    before = sorted(two.parent.iterdir())

    code, out, err = certferry(two, "sync", "--renew")

    assert (Exit.USAGE, "") == (code, out)
    assert f"error: {UNASKED}\n" in err
    assert "`certferry sync` renews what is due; `certferry sync --renew NAME` orders one" in err
    assert "`certferry sync --renew --all` every one" in err
    assert before == sorted(two.parent.iterdir())


@pytest.mark.parametrize("words", [["--renew", "--all"], ["--renew", "own"], ["--renew", "a.b.c"]])
def test_what_was_said_is_not_asked(two: Path, words: list[str]) -> None:
    """The run begins, and fails for the keys that it lacks here."""
    assert UNASKED not in certferry(two, "sync", *words)[2]


@pytest.mark.parametrize("words", [["--all"], ["--renew", "--all", "own"]])
def test_all_is_for_renew_without_a_name(two: Path, words: list[str]) -> None:
    """Anything else would be understood in two ways."""
    code, _, err = certferry(two, "sync", *words)

    assert Exit.USAGE == code
    assert "error: --all goes with --renew, and with no NAME\n" in err


def test_a_terminal_is_asked_before_all_are_renewed(two: Path) -> None:
    """With how many would be ordered; everything but a yes is a no."""
    command = [sys.executable, "-m", "certferry", "--config", str(two), "sync", "--renew"]

    with Terminal(command, environ={"CERTFERRY_LANG": "en"}) as terminal:
        terminal.until(lambda seen: "Order all 2 certificates anew, due or not? [y/N]" in seen)
        terminal.type("\n")
        assert Exit.OK == terminal.end()
    assert "Nothing was changed." in terminal.screen.text

    with Terminal(command, environ={"CERTFERRY_LANG": "en", "DP_Id": "", "DP_Key": ""}) as terminal:
        terminal.until(lambda seen: "[y/N]" in seen)
        terminal.type("y\n")
        assert Exit.USAGE == terminal.end()
    assert "DP_Id is not set" in terminal.screen.text

    with Terminal(command, environ={"CERTFERRY_LANG": "en"}) as terminal:
        terminal.until(lambda seen: "[y/N]" in seen)
        terminal.type("\x04")
        assert Exit.STOPPED == terminal.end()
    assert "hint: nothing was changed" in terminal.screen.text


@COMMANDS
@pytest.mark.parametrize("names", [["pics"], ["own", "pics"]])
def test_a_ferried_certificate_that_is_named(machine: Path, command: str, names: list[str]) -> None:
    """What was asked for cannot be done: a usage error, as for a name that is not known, with who
    can do it; and nothing is done.
    """
    before = sorted(machine.iterdir())

    found = certferry(machine / "certferry.toml", command, "--renew", *names)

    hint = "renew it with its own client; the next run deploys the files"
    assert (Exit.USAGE, "", f"error: {NOT_FOR_PICS}\n\nhint: {hint}\n") == found
    assert before == sorted(machine.iterdir())


@COMMANDS
def test_a_ferried_certificate_by_its_domain(machine: Path, command: str) -> None:
    """Its names are those in its files; where these cannot be read, it is found by its name."""
    code, out, _ = certferry(machine / "certferry.toml", command, "PICS.example.com")

    assert Exit.OK == code
    assert "pics" in out
    (machine / "fullchain").unlink()
    code, _, err = certferry(machine / "certferry.toml", command, "pics.example.com")
    assert Exit.USAGE == code
    assert "there is no certificate called pics.example.com, and none that covers it" in err


@COMMANDS
def test_ferried_certificates_among_all(machine: Path, command: str) -> None:
    """They are told of and treated as in any other run; nothing has failed."""
    code, out, err = certferry(machine / "ferried.toml", command, "--renew")

    assert Exit.OK == code
    assert f"{NOT_FOR_PICS}\n" == err[: len(NOT_FOR_PICS) + 1]
    assert "pics" in out
    assert (command == "sync") is (machine / "out" / "fullchain.pem").exists()


@COMMANDS
def test_ferried_certificates_among_all_are_not_wrong(machine: Path, command: str) -> None:
    """Told to be quiet, a run says nothing of them."""
    assert "" == certferry(machine / "ferried.toml", "-q", command, "--renew")[2]


@COMMANDS
def test_without_renew_a_ferried_certificate_is_one_like_any_other(
    machine: Path, command: str
) -> None:
    """Named or not."""
    code, _, err = certferry(machine / "ferried.toml", command, "pics")

    assert Exit.OK == code
    assert "--renew" not in err
