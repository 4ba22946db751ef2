"""What a command that waits for slow services shows from its first second on, on a terminal."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry_sandbox.faults import Fault
from certferry_sandbox.world import World, demonstration
from tests.cli.terminals import Terminal
from tests.support.command import run_here
from tests.support.tiers import sampled


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    """The demo's world, in which these commands only look."""
    with demonstration() as started:
        yield started


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The shared world, whose services answer before and after."""
    yield shared_world
    shared_world.qiniu.api.faults.clear()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Hold answers back; they come once it is set, at the latest when the test ends."""
    held = threading.Event()
    yield held
    held.set()


class Desk:
    """An operator at a terminal, while Qiniu answers nothing."""

    def __init__(self, world: World, directory: Path, gate: threading.Event) -> None:
        self.environ = os.environ | world.environment
        self.config = world.write_files(directory)
        text = self.config.read_text()
        second = text[text.index("[[certificates]]") :].replace('name = "img"', 'name = "pics"')
        assert 'name = "pics"' in second
        second = second.replace('"pics"', '"pics"\nkey_type = "rsa2048"')  # no copy by mistake
        self.config.write_text(text + "\n" + second)
        world.qiniu.api.faults.add(Fault.held_until(gate), on="GET /domain*", times=None)

    def command(self, *words: str) -> list[str]:
        """The command as the system runs it."""
        return [sys.executable, "-m", "certferry", "--config", str(self.config), *words]

    def sits_at(self, *words: str, columns: int, language: str = "C.UTF-8") -> Terminal:
        """Run a command on a terminal of this width."""
        environ = self.environ | {"LANG": language}
        return Terminal(self.command(*words), columns=columns, environ=environ)


def in_one_line(screen: str) -> str:
    """Undo the breaks of a narrow terminal."""
    return "".join(screen.split())


def ends_with(*words: str) -> Exit:
    """Give the exit code of a look: none of the certificates has been issued."""
    return Exit.FAILED if "status" in words else Exit.OK


@pytest.mark.parametrize(
    ("command", "columns"), sampled(list(product(["plan", "status"], [40, 80, 120])), 2)
)
def test_a_slow_service_is_named_from_the_first_second(
    world: World, tmp_path: Path, gate: threading.Event, command: str, columns: int
) -> None:
    """What is asked of whom, how many are done, and that nothing goes on after Ctrl-C; once the
    answer is there, only that is left on the screen.
    """
    desk = Desk(world, tmp_path, gate)

    with desk.sits_at(command, columns=columns) as terminal:
        terminal.until(lambda screen: "img:askingqiniuforitsdomains" in in_one_line(screen))
        shown = terminal.until(lambda screen: "0of2done" in in_one_line(screen))
        gate.set()
        assert ends_with(command) == terminal.end()

    assert "Ctrl-Cstops" in in_one_line(shown)
    assert "next run" not in " ".join(shown.split())
    assert "asking" not in terminal.screen.text
    assert "img" in terminal.screen.text
    if command == "status":
        assert "no run is recorded yet" in terminal.screen.text


def test_it_is_said_in_chinese_and_fits(
    world: World, tmp_path: Path, gate: threading.Event
) -> None:
    """Wide characters take two cells each."""
    desk = Desk(world, tmp_path, gate)

    with desk.sits_at("status", columns=40, language="zh_CN.UTF-8") as terminal:
        terminal.until(lambda screen: "img:正在向qiniu查询域名" in in_one_line(screen))
        terminal.until(lambda screen: "已完成0/2" in in_one_line(screen))
        widest = terminal.screen.widest
        gate.set()
        assert ends_with("status") == terminal.end()

    assert 20 < widest <= 40


@pytest.mark.parametrize("words", [("plan",), ("status",), ("plan", "--json"), ("-q", "status")])
def test_without_a_terminal_a_look_prints_its_answer_alone(
    world: World, tmp_path: Path, gate: threading.Event, words: tuple[str, ...]
) -> None:
    """In a pipe and for programs nothing is said on the way."""
    desk = Desk(world, tmp_path, gate)
    gate.set()

    result = run_here(["--config", str(desk.config), *words], desk.environ)

    assert (ends_with(*words), "") == (result.code, result.err)
    if "--json" in words:
        assert 2 == len(json.loads(result.out)["certificates"])


@pytest.mark.parametrize("words", sampled([("status", "--json"), ("-q", "status")], 1))
def test_on_a_terminal_too_a_program_and_a_quiet_run_get_the_answer_alone(
    world: World, tmp_path: Path, gate: threading.Event, words: tuple[str, ...]
) -> None:
    """No cursor is moved."""
    desk = Desk(world, tmp_path, gate)
    gate.set()

    with desk.sits_at(*words, columns=80) as terminal:
        assert ends_with(*words) == terminal.end()

    assert "asking" not in terminal.screen.raw
    assert "\x1b[?25l" not in terminal.screen.raw
