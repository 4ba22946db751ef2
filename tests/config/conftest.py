"""Fixtures that load a configuration from an empty directory, or collect the lines of a refusal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from certferry.config.load import load
from certferry.config.mistakes import Mistake
from certferry.config.model import AccountTable, Settings
from certferry.config.secrets import Resolve
from certferry.errors import ConfigError
from certferry.wiring.settings import InstalledAdapters

FILE = Path("certferry.toml")

Load = Callable[..., Settings]
Refusal = Callable[..., list[str]]


class Unchecked(InstalledAdapters):
    """Adapters that accept the settings of every account, and have the real rules for
    deployments.
    """

    def check(self, account: AccountTable, group: str, resolve: Resolve) -> None:
        """Accept the account."""

    def unknown_types(self, accounts: Iterable[AccountTable]) -> Sequence[Mistake]:
        """Accept every type."""
        del accounts
        return ()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty current directory, so that messages have short file names, as for
    operators.
    """
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def loaded(folder: Path) -> Load:
    """Write a configuration and load the file. Other keywords are environment variables."""

    def write_and_load(text: str, *, mode: int = 0o600, **environ: str) -> Settings:
        FILE.write_text(text, encoding="utf-8")
        FILE.chmod(mode)
        return load(FILE, {**os.environ, **environ}, Unchecked())

    return write_and_load


@pytest.fixture
def refusal(loaded: Load) -> Refusal:
    """Write a refused configuration, and return the lines of the message."""

    def lines(text: str, *, mode: int = 0o600, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(text, mode=mode, **environ)
        return str(caught.value.message).splitlines()

    return lines
