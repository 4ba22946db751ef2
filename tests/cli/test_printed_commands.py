"""Commands that messages print: a shell reads them as they are meant, whatever files are called."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from certferry.adapters.state.sealing import read_key
from certferry.cli.commands import COMMANDS, IN_THE_SANDBOX, name_file
from certferry.cli.init.files import must_be_free
from certferry.cli.init.text import next_steps
from certferry.cli.main import run
from certferry.config.files import read_file
from certferry.config.load import usual_places
from certferry.errors import CertferryError
from certferry.present.language import EVERYWHERE, Voice, voice_beside
from certferry.present.layout import plain
from certferry.present.run_log import LogFile
from certferry.text import Text
from tests.cli.consoles import TestConsole


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "it's 50% $HOME"
    path.mkdir()
    return path


def open_to_all(path: Path, content: str = "") -> Path:
    path.write_text(content)
    path.chmod(0o644)
    return path


def said(act: Callable[[], object]) -> str:
    with pytest.raises(CertferryError) as caught:
        act()
    return f"{caught.value.message}\n{caught.value.hint or ''}"


def command(words: str, program: str) -> list[str]:
    """Return the command of a program that a message ends with, as a shell reads it."""
    _, found, rest = words.strip().rpartition(f"{program} ")
    return shlex.split((found + rest).partition("\n")[0])


def test_a_directory_to_be_made(folder: Path) -> None:
    """For a log, and for a configuration."""
    missing = folder / "none"

    log = said(LogFile(missing / "log").try_out)
    config = said(lambda: must_be_free(missing / "certferry.toml", force=False))

    assert ["mkdir", "-p", str(missing)] == command(log, "mkdir")
    assert ["mkdir", "-p", str(missing)] == command(config, "mkdir")


def test_a_file_to_be_closed(folder: Path) -> None:
    """A secret's, the state's key, and a configuration with a secret in it."""
    path = open_to_all(folder / "key")
    config = open_to_all(
        folder / "certferry.toml",
        """
        [accounts.dnspod]
        id = "1"
        token = "HUNTER2"
        [[certificates]]
        names = ["img.example.com"]
        dns = "dnspod"
        """,
    )

    for act in (lambda: read_file(path, private=True), lambda: read_key(path)):
        assert ["chmod", "600", str(path)] == command(said(act), "chmod")
    console = TestConsole()
    run(["--config", str(config), "plan"], console.console)
    assert ["chmod", "600", str(config)] == command(console.err.partition("\n\n")[0], "chmod")


def test_a_configuration_to_be_planned(folder: Path) -> None:
    """What `init` ends with."""
    path = folder / "certferry.toml"
    voice = Voice()
    name_file(path, voice)
    following = next_steps(has_channel=True, has_heartbeat=True, voice=voice)

    _, line, *_ = map(plain, following)

    assert ["certferry", "--config", str(path), "plan"] == shlex.split(line)[:4]


def test_commands_that_read_the_file_are_those_of_the_program(folder: Path) -> None:
    """A command that is added has the file named, unless it reads none; `certferry` in other words
    stays as it is.
    """
    path, voice = folder / "certferry.toml", Voice()
    voice.read_by(path)

    named = {name for name in COMMANDS if "--config" in voice.say(Text(f"run: certferry {name} x"))}

    assert COMMANDS.keys() - {"init", "completion", "help", *IN_THE_SANDBOX} == named
    assert "certferry writes" == voice.say(Text("certferry writes"))


def test_file_that_every_command_finds() -> None:
    """A message names any other: its reader is in no directory of the run's."""
    said = Text("run: certferry sync")
    [*_, everywhere] = usual_places({"HOME": "/root"})

    assert everywhere == EVERYWHERE
    for file in (None, EVERYWHERE):
        assert "run: certferry sync" == voice_beside(file, "en").say(said)
    elsewhere = voice_beside(Path("/srv/a b/certferry.toml"), "zh")
    assert "certferry --config '/srv/a b/certferry.toml' sync" in elsewhere.say(said)
