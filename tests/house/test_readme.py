"""The README speaks of the commands that exist, and of all of them."""

from __future__ import annotations

import re

import click
import pytest

from certferry.cli import main as front_desk
from tests.house.tree import ROOT

README = ROOT / "README.md"


def commands() -> set[str]:
    """Give the names of the command line's commands."""
    [group] = {value for value in vars(front_desk).values() if isinstance(value, click.Group)}
    with click.Context(group) as context:
        return set(group.list_commands(context))


def test_every_command_is_in_the_readme() -> None:
    """An operator finds each command in the README."""
    readme = README.read_text(encoding="utf-8")

    missing = {name for name in commands() if not re.search(rf"\bcertferry {name}\b", readme)}

    assert set() == missing


def test_the_readme_names_no_command_that_is_not_there() -> None:
    """What the README tells to type can be typed."""
    readme = README.read_text(encoding="utf-8")

    typed = set(re.findall(r"^(?:\$ )?certferry ([a-z]+)\b", readme, re.MULTILINE))

    assert typed
    assert typed <= commands()


@pytest.mark.parametrize("script", ["./scripts/demo", "./scripts/test"])
def test_the_readme_has_the_two_commands(script: str) -> None:
    """The demo and the tests are one command each, and both are in the README."""
    assert script in README.read_text(encoding="utf-8")
    assert (ROOT / script).exists()
