"""Putting a file in the place of another."""

from __future__ import annotations

import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certferry.whole_file import replace_file

OLD, NEW = b"what was there", b"new " * 1000


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Have the system take no more of a file than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_file_has_its_content_and_its_mode(tmp_path: Path, mode: int) -> None:
    """Whatever was in its place, and whatever mode that had; nothing lies beside it."""
    place = tmp_path / "file"
    place.write_bytes(OLD)
    place.chmod(0o777)

    replace_file(place, NEW, mode)

    assert (NEW, mode) == (place.read_bytes(), stat.S_IMODE(place.stat().st_mode))
    assert [place] == list(tmp_path.iterdir())


def test_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """It is replaced, and what it leads to stays."""
    place, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(OLD)
    place.symlink_to(other)

    replace_file(place, NEW)

    assert (OLD, NEW) == (other.read_bytes(), place.read_bytes())
    assert not place.is_symlink()


def test_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    """The old content stays whole, and no part of the new one is left."""
    place = tmp_path / "file"
    place.write_bytes(OLD)

    with files_no_longer_than(100), pytest.raises(OSError, match="File too large"):
        replace_file(place, NEW)

    assert OLD == place.read_bytes()
    assert [place] == list(tmp_path.iterdir())


def test_place_that_is_a_directory_stays(tmp_path: Path) -> None:
    """Nothing is left beside it."""
    place = tmp_path / "file"
    place.mkdir()

    with pytest.raises(IsADirectoryError):
        replace_file(place, NEW)

    assert [place] == list(tmp_path.iterdir())
