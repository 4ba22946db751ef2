"""Whom a file that is wrong names still, whatever is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certferry.config.load import Salvaged, salvage
from tests.support.tiers import examples

WHOLE = """\
env_files = ["keys.env"]
[state]
url = "sqlite:////var/lib/certferry/state.db"
[acme]
email = "ops@example.com"
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
[notify.ops]
type = "bark"
key = "env:BARK"
on = ["trouble", "renewed"]
[notify.night]
type = "telegram"
key = "k"
chat = "c"
[heartbeat]
url = "env:HEARTBEAT_URL"
[metrics]
file = "certferry.prom"
"""


def salvaged(path: Path, content: str | bytes, mode: int = 0o600) -> Salvaged:
    """Write the file, and read whom to tell."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    found = salvage(path, {"HOME": "/"})
    assert found is not None
    return found


@pytest.mark.parametrize(
    "content",
    [
        WHOLE.replace("names", "nams"),
        WHOLE.replace('email = "ops', "email = ops"),
        WHOLE.replace("[acme]", "[acme"),
        WHOLE.replace("[acme]", "[acme]\n[acme]"),
        WHOLE.replace("ops@", "\u8fd0\u7ef4@").encode("gbk"),
    ],
    ids=["a key", "no quote", "no bracket", "a table twice", "not UTF-8"],
)
def test_channels_and_heartbeat_are_read_around_a_mistake(
    tmp_path: Path, content: str | bytes
) -> None:
    """With the state, and with nothing else."""
    found = salvaged(tmp_path / "c.toml", content)

    assert (True, True) == (found.is_trusted, found.has_state)
    assert ["ops", "night"] == list(found.settings.channels)
    assert found.settings.monitoring.heartbeat is not None
    assert Path("/var/lib/certferry/state.db") == found.settings.state.path
    assert (None, ()) == (found.settings.monitoring.metrics, found.settings.certificates)


@pytest.mark.parametrize(
    "wrong",
    [
        "[state]\nurl = 3",
        '[state]\nurl = "mysql://x"',
        '[state]\nulr = "sqlite:///x"',
        '[state]\nurl = "sqlite:///x',
        '[sate]\nurl = "sqlite:///x"',
        '[state\nurl = "sqlite:///x"',
    ],
)
def test_a_state_that_is_written_wrongly_is_none(tmp_path: Path, wrong: str) -> None:
    """The usual place may be that of another file."""
    content = WHOLE.replace('[state]\nurl = "sqlite:////var/lib/certferry/state.db"', wrong)

    found = salvaged(tmp_path / "c.toml", content)

    assert not found.has_state
    assert not found.settings.state.path.exists()


def test_without_a_state_the_usual_one_is_meant(tmp_path: Path) -> None:
    """As it is when the file is read."""
    content = WHOLE.replace('[state]\nurl = "sqlite:////var/lib/certferry/state.db"', "")

    found = salvaged(tmp_path / "c.toml", content.replace("names", "nams"))

    assert found.has_state
    assert "state.db" == found.settings.state.path.name


def test_of_two_mistakes_neither_hides_the_other(tmp_path: Path) -> None:
    """Beside a table that is not TOML, what is misspelt in another is left out."""
    content = WHOLE.replace('email = "', 'email = {"').replace(
        "[heartbeat]\nurl", "[heartbeat]\nulr"
    )

    found = salvaged(tmp_path / "c.toml", content)

    assert ["ops", "night"] == list(found.settings.channels)
    assert found.settings.monitoring.heartbeat is None


def test_a_table_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    """What stands before it is whole."""
    found = salvaged(tmp_path / "c.toml", WHOLE[: WHOLE.index('chat = "c"') + len('chat = "')])

    assert ["ops"] == list(found.settings.channels)


def test_of_a_file_that_others_may_write_the_state_is_not_taken(tmp_path: Path) -> None:
    """They could name any database."""
    found = salvaged(tmp_path / "c.toml", WHOLE, 0o666)

    assert (False, False) == (found.is_trusted, found.has_state)
    assert not found.settings.state.path.exists()


def test_what_is_no_file_names_no_one(tmp_path: Path) -> None:
    """Nor is a writer waited for."""
    os.mkfifo(tmp_path / "pipe", 0o666)
    for path in (tmp_path, tmp_path / "gone", tmp_path / "pipe"):
        assert salvage(path, {"HOME": "/"}) is None


@settings(max_examples=examples(400), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.binary(max_size=8))
def test_whatever_is_wrong_nothing_else_goes_wrong(
    tmp_path: Path, one: int, other: int, instead: bytes
) -> None:
    """A piece of the file is something else, and reading it raises nothing."""
    first, last = sorted((one, other))
    content = WHOLE[:first].encode() + instead + WHOLE[last:].encode()

    assert salvaged(tmp_path / "c.toml", content).settings.certificates is not None
