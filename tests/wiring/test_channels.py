"""Channels of other people's packages: found, bound and connected like certferry's own, and none of
their mistakes stops a run.
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
    """Its name is a type."""
    packages.install("certferry-horn", "horn_good", horn(), horn=NOTIFY_GROUP)
    table = f'type = "horn"\ntoken = "{SECRET}"'

    check(settings(tmp_path, table), packages.table())

    assert Sent() == tried(packages, tmp_path, table)


@pytest.mark.parametrize(
    "body", ["raise RuntimeError(self.token.reveal())", "return None", "return self.token.reveal()"]
)
def test_a_channel_with_a_mistake(packages: Packages, tmp_path: Path, body: str) -> None:
    """It is reported as that channel's, and shows no secret."""
    packages.install("certferry-horn", "horn_bad", horn(body), horn=NOTIFY_GROUP)

    answered = tried(packages, tmp_path, f'type = "horn"\ntoken = "{SECRET}"')

    assert isinstance(answered, RefusedForGood)
    assert "the channel's adapter failed" in str(answered.problem)
    assert SECRET not in str(answered.problem)


def test_a_package_that_cannot_be_imported(packages: Packages, tmp_path: Path) -> None:
    """The file is read all the same; the channel's fault is reported when it has to send."""
    packages.install("certferry-horn", "horn_broken", "import no_such_horn", horn=NOTIFY_GROUP)

    check(settings(tmp_path, 'type = "horn"'), packages.table())
    answered = tried(packages, tmp_path, 'type = "horn"')

    assert isinstance(answered, RefusedForGood)
    assert "certferry-horn" in str(answered.problem)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('type = "hron"', "is not a channel of notifications; did you mean horn?"),
        ('type = "dingding"', "is not a channel of notifications; did you mean dingtalk?"),
        ('type = "weixin"', "is not a channel of notifications; did you mean wecom?"),
        ('type = "horn"', "token: missing"),
        ('type = "horn"\ntoken = "x"\nloudness = "very"', "loudness"),
        ('type = "horn"\ntoken = "x"\nvolume = 3', "unknown key"),
    ],
)
def test_what_an_operator_wrote_wrong(
    packages: Packages, tmp_path: Path, table: str, said: str
) -> None:
    """It is reported when the file is read, with its place; secrets are not looked for then."""
    packages.install("certferry-horn", "horn_strict", horn(), horn=NOTIFY_GROUP)

    with pytest.raises(ConfigError) as wrong:
        check(settings(tmp_path, table), packages.table())

    assert said in str(wrong.value)
    assert "[notify.ops]" in str(wrong.value)
    check(settings(tmp_path, 'type = "horn"\ntoken = "env:NO_SUCH_TOKEN"'), packages.table())


def test_mistake_of_a_channel_is_reported_with_the_others(
    packages: Packages, tmp_path: Path
) -> None:
    """What is wrong with a file comes at once, wherever in it."""
    packages.install("certferry-horn", "horn_late", horn(), horn=NOTIFY_GROUP)
    path = tmp_path / "certferry.toml"
    path.write_text('[acme]\nemial = "ops@example.com"\n[notify.ops]\ntype = "hron"\n')

    with pytest.raises(ConfigError) as wrong:
        load(path, {}, InstalledAdapters(packages.table))

    assert "did you mean email?" in str(wrong.value)
    assert "did you mean horn?" in str(wrong.value)


def test_settings_that_the_adapter_refuses_when_it_connects(tmp_path: Path) -> None:
    """They are reported with the table, and without the address."""
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
    """A package's channel speaks from the file only if the package says that the channel only
    sends; a file of the owner's alone is another matter.
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


def test_a_channel_of_no_package_in_a_file_that_other_users_can_write(
    packages: Packages, tmp_path: Path
) -> None:
    """Silent, and no module is looked for."""
    path = tmp_path / "certferry.toml"
    path.write_text('wrong = 1\n[notify.ops]\ntype = "horn_of_nobody"\ntoken = "t"\n')
    path.chmod(0o666)

    contents = salvaged(path, {"HOME": str(tmp_path)}, packages.table())

    assert contents is not None
    assert {} == contents[0].channels
