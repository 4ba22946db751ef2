"""The directory of lego."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from certferry.adapters.files.source import PemFileSource
from certferry.errors import ConfigError
from certferry.migration import lego
from certferry.migration.lego import default_home
from tests.migration.old_homes import LegoHome, issued, other_key

NAMES = ("*.img.example.com", "img.example.com")

read = partial(lego.read, source=PemFileSource())


@pytest.fixture
def home(tmp_path: Path) -> LegoHome:
    """An empty directory."""
    return LegoHome(tmp_path / ".lego")


def test_certificate_is_read(home: LegoHome) -> None:
    """One whose first name is a wildcard has a file name of its own making."""
    made = issued(*NAMES)
    crt = home.add(made, NAMES[0])

    [found] = read(home.path, home.path).certificates
    assert ("img.example.com", NAMES) == (found.lineage, found.names)
    assert made.fingerprint == found.bundle.certificate.fingerprint
    assert str(crt) == found.files.fullchain
    assert "--domains '*.img.example.com'" in found.stop


def test_damaged_entries_are_told_one_by_one(home: LegoHome) -> None:
    """Whatever is wrong with some, the others are read; of `--no-bundle` the chain is missing."""
    home.add(issued(*NAMES), NAMES[0])
    home.add(issued("a.example.com"), "a.example.com").write_text("-----BEGIN CERTIFICATE-----\n")
    home.add(issued("b.example.com"), "b.example.com", bundled=False)
    crt = home.add(issued("c.example.com"), "c.example.com")
    crt.with_suffix(".key").write_text(other_key())

    found = read(home.path, home.path)

    assert ["img.example.com"] == [one.lineage for one in found.certificates]
    problems = {entry.entry: str(entry.problem) for entry in found.unreadable}
    assert {"a.example.com.crt", "b.example.com.crt", "c.example.com.crt"} == set(problems)
    assert "the chain is incomplete" in problems["b.example.com.crt"]


def test_no_such_directory_is_an_error(tmp_path: Path) -> None:
    """A directory that is no lego's is told."""
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path, tmp_path)


def test_directory_is_where_lego_looks() -> None:
    """Beside whatever starts it, unless its variable says otherwise."""
    assert Path(".lego") == default_home({}, Path("/root"))
    assert Path("/l") == default_home({"LEGO_PATH": "/l"}, Path("/root"))
