"""Channels of other authors' packages: found and connected like certferry's own, and harmless to a
run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry.config.load import load
from certferry.config.model import Settings
from certferry.errors import ConfigError
from certferry.ports.notifier import Answered, RefusedForGood, Sent
from certferry.wiring.channels import Channels, check
from certferry.wiring.notifications import salvaged
from certferry.wiring.settings import InstalledAdapters
from certferry_sandbox.testing.memory_state import MemoryState
from tests.support.runs import AtOnce
from tests.wiring.packages import Packages

NOTIFY_GROUP = "certferry.notify"
SECRET = "do-not-show-me-4711"
HORN = """
from dataclasses import dataclass

from certferry.core.redaction import Secret
from certferry.ports.notifier import Sent

SERVICE = "Horn"
ENVIRONMENT = ()


@dataclass(frozen=True)
class Settings:
    token: Secret
    loudness: int = 3


class Horn:
    def __init__(self, token):
        self.token = token

    def send(self, message):
        {body}


def connect(settings, context):
    return Horn(settings.token)
"""


def horn(body: str = "return Sent()") -> str:
    return HORN.replace("{body}", body)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    monkeypatch.syspath_prepend(tmp_path)
    yield Packages(tmp_path)
    for name in [name for name in sys.modules if name.startswith("horn_")]:
        del sys.modules[name]


def settings(folder: Path, table: str) -> Settings:
    path = folder / "certferry.toml"
    path.write_text(f"[notify.ops]\n{table}\n")
    path.chmod(0o600)
    return load(path, os.environ)


def tried(packages: Packages, folder: Path, table: str) -> Answered:
    state = MemoryState()
    channels = Channels(
        settings(folder, table), lambda: state, run=AtOnce(), language="en", table=packages.table()
    )
    return channels.try_out(["ops"])["ops"]


def test_a_channel_of_a_package(packages: Packages, tmp_path: Path) -> None:
    """The name of its entry point is a type."""
    packages.install("certferry-horn", "horn_good", horn(), horn=NOTIFY_GROUP)
    table = f'type = "horn"\ntoken = "{SECRET}"'

    check(settings(tmp_path, table), packages.table())

    assert Sent() == tried(packages, tmp_path, table)


@pytest.mark.parametrize(
    "body", ["raise RuntimeError(self.token.reveal())", "return None", "return self.token.reveal()"]
)
def test_a_channel_with_a_mistake(packages: Packages, tmp_path: Path, body: str) -> None:
    """The error is reported for the channel, and shows no secret."""
    packages.install("certferry-horn", "horn_bad", horn(body), horn=NOTIFY_GROUP)

    answered = tried(packages, tmp_path, f'type = "horn"\ntoken = "{SECRET}"')

    assert isinstance(answered, RefusedForGood)
    assert "the channel's adapter failed" in str(answered.problem)
    assert SECRET not in str(answered.problem)


def test_a_package_that_cannot_be_imported(packages: Packages, tmp_path: Path) -> None:
    """The file is read; the error of the channel is reported on sending."""
    packages.install("certferry-horn", "horn_broken", "import no_such_horn", horn=NOTIFY_GROUP)

    check(settings(tmp_path, 'type = "horn"'), packages.table())
    answered = tried(packages, tmp_path, 'type = "horn"')

    assert isinstance(answered, RefusedForGood)
    assert "certferry-horn" in str(answered.problem)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('type = "hron"', "is not a channel of notifications; did you mean horn?"),
        ('type = "dingding"', "is not a channel of notifications; did you mean dingtalk?"),
        ('type = "weixin"', "is not a channel of notifications; did you mean wecom?"),
        ('type = "horn"', "token: missing"),
        ('type = "horn"\ntoken = "x"\nloudness = "very"', "loudness"),
        ('type = "horn"\ntoken = "x"\nvolume = 3', "unknown key"),
    ],
)
def test_mistake_in_the_table_of_a_channel(
    packages: Packages, tmp_path: Path, table: str, problem: str
) -> None:
    """The error comes while reading the file, with its place; secrets are read later."""
    packages.install("certferry-horn", "horn_strict", horn(), horn=NOTIFY_GROUP)

    with pytest.raises(ConfigError) as wrong:
        check(settings(tmp_path, table), packages.table())

    assert problem in str(wrong.value)
    assert "[notify.ops]" in str(wrong.value)
    check(settings(tmp_path, 'type = "horn"\ntoken = "env:NO_SUCH_TOKEN"'), packages.table())


def test_mistake_of_a_channel_is_reported_with_the_others(
    packages: Packages, tmp_path: Path
) -> None:
    """All errors of a file are reported at once."""
    packages.install("certferry-horn", "horn_late", horn(), horn=NOTIFY_GROUP)
    path = tmp_path / "certferry.toml"
    path.write_text('[acme]\nemial = "ops@example.com"\n[notify.ops]\ntype = "hron"\n')

    with pytest.raises(ConfigError) as wrong:
        load(path, {}, InstalledAdapters(packages.table))

    assert "did you mean email?" in str(wrong.value)
    assert "did you mean horn?" in str(wrong.value)


def test_settings_that_the_adapter_refuses_on_connecting(tmp_path: Path) -> None:
    """The error has the table, and hides the address."""
    channels = Channels(
        settings(tmp_path, 'type = "webhook"\nurl = "http://hooks.example.com/0b9f6d"'),
        MemoryState,
        run=AtOnce(),
        language="en",
    )

    answered = channels.try_out(["ops"])["ops"]

    assert isinstance(answered, RefusedForGood)
    assert "[notify.ops]" in str(answered.problem)
    assert "hooks" not in str(answered.problem)


@pytest.mark.parametrize(
    ("declared", "speaking"),
    [
        ("", set()),
        ("ONLY_SENDS = False", set()),
        ("ONLY_SENDS = 'yes'", set()),
        ("ONLY_SENDS = True", {"ops"}),
    ],
)
def test_a_file_that_other_users_can_write(
    packages: Packages, tmp_path: Path, declared: str, speaking: set[str]
) -> None:
    """From such a file a package's channel is used only if the package declares that the channel
    only sends. From a file of the owner's alone every channel is used.
    """
    packages.install("certferry-horn", "horn_open", f"{horn()}\n{declared}\n", horn=NOTIFY_GROUP)
    path = tmp_path / "certferry.toml"
    path.write_text('wrong = 1\n[notify.ops]\ntype = "horn"\ntoken = "t"\n')

    def channels(mode: int) -> set[str]:
        path.chmod(mode)
        contents = salvaged(path, {"HOME": str(tmp_path)}, packages.table())
        assert contents is not None
        return set(contents[0].channels)

    assert speaking == channels(0o666)
    assert {"ops"} == channels(0o600)


def test_channel_of_an_unknown_package_in_a_file_that_others_can_write(
    packages: Packages, tmp_path: Path
) -> None:
    """The channel stays silent, and no module is searched for."""
    path = tmp_path / "certferry.toml"
    path.write_text('wrong = 1\n[notify.ops]\ntype = "horn_of_nobody"\ntoken = "t"\n')
    path.chmod(0o666)

    contents = salvaged(path, {"HOME": str(tmp_path)}, packages.table())

    assert contents is not None
    assert {} == contents[0].channels
