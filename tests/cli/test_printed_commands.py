"""Commands in messages: a shell reads the right words, for any name of a file."""

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


def message_of(act: Callable[[], object]) -> str:
    with pytest.raises(CertferryError) as caught:
        act()
    return f"{caught.value.message}\n{caught.value.hint or ''}"


def command(words: str, program: str) -> list[str]:
    """Return the command of a program at the end of a message, as a shell reads the command."""
    _, start, end = words.strip().rpartition(f"{program} ")
    return shlex.split((start + end).partition("\n")[0])


def test_command_to_make_a_directory(folder: Path) -> None:
    """The command is for the directory of a log, and of a configuration."""
    missing = folder / "none"

    log = message_of(LogFile(missing / "log").try_out)
    config = message_of(lambda: must_be_free(missing / "certferry.toml", force=False))

    assert ["mkdir", "-p", str(missing)] == command(log, "mkdir")
    assert ["mkdir", "-p", str(missing)] == command(config, "mkdir")


def test_command_to_make_a_file_private(folder: Path) -> None:
    """The command is for a file of a secret, for the key of a state, and for a configuration with a
    secret.
    """
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
        assert ["chmod", "600", str(path)] == command(message_of(act), "chmod")
    console = TestConsole()
    run(["--config", str(config), "plan"], console.console)
    assert ["chmod", "600", str(config)] == command(console.err.partition("\n\n")[0], "chmod")


def test_command_to_plan_with_a_new_configuration(folder: Path) -> None:
    """The next steps of `init` have the path of the configuration."""
    path = folder / "certferry.toml"
    voice = Voice()
    name_file(path, voice)
    following = next_steps(has_channel=True, has_heartbeat=True, voice=voice)

    _, line, *_ = map(plain, following)

    assert ["certferry", "--config", str(path), "plan"] == shlex.split(line)[:4]


def test_commands_with_the_path_of_the_configuration(folder: Path) -> None:
    """A command in a message has the path of the configuration if the command reads a
    configuration; `certferry` in other words stays unchanged.
    """
    path, voice = folder / "certferry.toml", Voice()
    voice.read_by(path)

    named = {name for name in COMMANDS if "--config" in voice.say(Text(f"run: certferry {name} x"))}

    assert COMMANDS.keys() - {"init", "completion", "help", *IN_THE_SANDBOX} == named
    assert "certferry writes" == voice.say(Text("certferry writes"))


def test_path_of_a_configuration_in_a_usual_place() -> None:
    """A message omits only the usual place of every user: readers have other current
    directories.
    """
    hint = Text("run: certferry sync")
    [*_, everywhere] = usual_places({"HOME": "/root"})

    assert everywhere == EVERYWHERE
    for file in (None, EVERYWHERE):
        assert "run: certferry sync" == voice_beside(file, "en").say(hint)
    elsewhere = voice_beside(Path("/srv/a b/certferry.toml"), "zh")
    assert "certferry --config '/srv/a b/certferry.toml' sync" in elsewhere.say(hint)
