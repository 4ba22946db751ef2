"""The file of metrics, in a directory that belongs to the user who reads it."""

from __future__ import annotations

from pathlib import Path

from certferry.adapters.monitoring.metrics_file import write_metrics
from tests.another_user import as_root, given_away


@as_root
def test_directory_that_is_a_link_of_another_users(tmp_path: Path) -> None:
    """It leads root to another's files by now: nothing is written there, and it is reported."""
    others, theirs = tmp_path / "others", tmp_path / "theirs"
    others.mkdir()
    (others / "a.prom").write_text("another's")
    theirs.mkdir()
    (theirs / "link").symlink_to(others)
    for each in (theirs / "link", theirs):
        given_away(each)

    missed = write_metrics(theirs / "link" / "a.prom", "up 1\n")

    assert missed is not None
    assert f"{theirs}/link is a symbolic link that nobody can change" == str(missed.message)
    assert "another's" == (others / "a.prom").read_text()


@as_root
def test_directory_of_another_users(tmp_path: Path) -> None:
    """As Debian's is its collector's: the file is there for all to read, and a link in its place is
    gone, not followed.
    """
    kept, theirs = tmp_path / "kept", tmp_path / "theirs"
    kept.write_text("another's")
    theirs.mkdir()
    (theirs / "a.prom").symlink_to(kept)
    for each in (theirs / "a.prom", theirs):
        given_away(each)

    assert write_metrics(theirs / "a.prom", "up 1\n") is None

    assert ("another's", "up 1\n") == (kept.read_text(), (theirs / "a.prom").read_text())
    assert not (theirs / "a.prom").is_symlink()
    assert 0o644 == (theirs / "a.prom").stat().st_mode & 0o777
    assert ["a.prom"] == [each.name for each in theirs.iterdir()]
