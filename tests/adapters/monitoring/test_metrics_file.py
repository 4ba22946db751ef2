"""The metrics file, in a directory of another user."""

from __future__ import annotations

from pathlib import Path

from certferry.adapters.monitoring.metrics_file import write_metrics
from tests.another_user import as_root, given_away


@as_root
def test_directory_is_a_link_of_another_user(tmp_path: Path) -> None:
    """A link of another user may lead anywhere, so the write is refused and reported."""
    others, theirs = tmp_path / "others", tmp_path / "theirs"
    others.mkdir()
    (others / "a.prom").write_text("another's")
    theirs.mkdir()
    (theirs / "link").symlink_to(others)
    for path in (theirs / "link", theirs):
        given_away(path)

    missed = write_metrics(theirs / "link" / "a.prom", "up 1\n")

    assert missed is not None
    assert f"{theirs}/link is a symbolic link that nobody can change" == str(missed.message)
    assert "another's" == (others / "a.prom").read_text()


@as_root
def test_directory_of_another_user(tmp_path: Path) -> None:
    """Debian's directory belongs to its collector: all users can read the file, and a link in place
    of the file is replaced.
    """
    target, theirs = tmp_path / "kept", tmp_path / "theirs"
    target.write_text("another's")
    theirs.mkdir()
    (theirs / "a.prom").symlink_to(target)
    for path in (theirs / "a.prom", theirs):
        given_away(path)

    assert write_metrics(theirs / "a.prom", "up 1\n") is None

    assert ("another's", "up 1\n") == (target.read_text(), (theirs / "a.prom").read_text())
    assert not (theirs / "a.prom").is_symlink()
    assert 0o644 == (theirs / "a.prom").stat().st_mode & 0o777
    assert ["a.prom"] == [path.name for path in theirs.iterdir()]
