"""What the settings and the disk say of certificates, for those who judge what is recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry.config.load import load
from certferry.core.assessment.health import Expected, Recorded
from certferry.core.assessment.sightings import Sighting
from certferry.wiring.recorded import expected
from certferry.wiring.settings import ADAPTERS

NOW = datetime(2026, 11, 26, tzinfo=UTC)
FILE = """
[accounts.qiniu]
access_key = "env:AK"
secret_key = "env:SK"
{more}
[accounts.dnspod]
id = "env:ID"
token = "env:TOKEN"
[accounts.gone]
type = "of-a-package-that-is-gone"
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
deploy = [{{ to = "qiniu" }}, {{ to = "files", directory = "{folder}" }}, {{ to = "gone" }}]
[[certificates]]
name = "static"
fullchain = "{folder}/nowhere/fullchain.pem"
privkey = "{folder}/key/below/a/file.pem"
deploy = [{{ to = "files", directory = "{folder}/static" }}]
"""


def read(tmp_path: Path, known: Recorded, more: str = "") -> dict[str, Expected]:
    """What is expected of the two certificates of a file."""
    config = tmp_path / "certferry.toml"
    config.write_text(FILE.format(more=more, folder=tmp_path / "ssl"))
    settings = load(config, {"HOME": str(tmp_path)}, ADAPTERS)
    return {one.lineage: one for one in expected(settings, known)}


@pytest.mark.parametrize(("more", "days"), [("", 30), ("min_remaining_days = 10", 10)])
def test_the_least_life_is_what_the_accounts_ask_for(tmp_path: Path, more: str, days: int) -> None:
    """The most that any target of it asks for; an account without an adapter asks for nothing."""
    found = read(tmp_path, Recorded(), more)

    assert timedelta(days=days) == found["img"].least_life
    assert timedelta(0) == found["static"].least_life
    assert (False, True) == (found["img"].is_imported, found["static"].is_imported)


def test_files_are_missed_where_they_were(tmp_path: Path) -> None:
    """Those of another client always, and what was delivered once it was."""
    (tmp_path / "ssl").mkdir()
    (tmp_path / "ssl" / "key").write_text("a file in the place of a directory")
    folder = str(tmp_path / "ssl")
    delivered = Sighting("img", "files", folder, served=True, since=NOW, fingerprint="ab" * 32)

    before = read(tmp_path, Recorded())
    after = read(tmp_path, Recorded(sightings=[delivered]))

    theirs = (f"{folder}/nowhere/fullchain.pem", f"{folder}/key/below/a/file.pem")
    assert ((), theirs) == (before["img"].gone, before["static"].gone)
    assert (f"{folder}/fullchain.pem", f"{folder}/privkey.pem") == after["img"].gone
    assert theirs == after["static"].gone


def test_what_may_not_be_looked_for_is_not_missed(tmp_path: Path) -> None:
    """A name that no file can have stands for a directory that this user may not enter."""
    (tmp_path / "ssl").mkdir()
    read(tmp_path, Recorded())
    config = tmp_path / "certferry.toml"
    config.write_text(config.read_text().replace("nowhere", "n" * 300))
    settings = load(config, {"HOME": str(tmp_path)}, ADAPTERS)

    [static] = [one for one in expected(settings, Recorded()) if one.lineage == "static"]

    assert [] == [path for path in static.gone if "nnn" in path]
