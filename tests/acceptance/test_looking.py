"""The commands that only look leave the machine as it was."""

from __future__ import annotations

import pytest

from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["plan"], 0),
        (["plan", "--check"], 4),
        (["status"], 0),
        (["history"], 0),
        (["export", "img.example.com", "--dir", "exported"], 1),
    ],
    ids=["plan", "check", "status", "history", "export"],
)
def test_no_state_is_made(host: Host, name: str, command: list[str], code: int) -> None:
    """Before the first sync there is nothing to remember: not even an empty state is made."""
    words = [name if word == "img.example.com" else word for word in command]
    before = sorted(host.directory.rglob("*"))

    run = host.run(*words)

    assert code == run.code, run
    assert_nothing_written(run.left)
    assert before == sorted(host.directory.rglob("*"))
