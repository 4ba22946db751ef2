"""Writing the operator's own files."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.config.env_files import read_env_file
from certferry.config.write import (
    drafted,
    drafted_copy,
    with_assignments,
    write_private,
)
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.whole_file import free_copy
from tests.another_user import as_root, given_away


def mode(path: Path) -> int:
    """Give the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_file_is_its_owners_alone_whatever_was_there(tmp_path: Path) -> None:
    """A file that every user could read is replaced by one that its owner alone can."""
    path = tmp_path / "certferry.toml"
    path.write_text("old")
    path.chmod(0o644)
    held = path.open()

    write_private(path, "new")

    assert ("new", 0o600) == (path.read_text(), mode(path))
    assert "old" == held.read()
    held.close()
    assert [path] == list(tmp_path.iterdir())


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """A name that is a directory keeps its place; no part of a file stays beside it."""
    (tmp_path / "certferry.toml").mkdir()

    with pytest.raises(ConfigError, match="cannot be written"):
        write_private(tmp_path / "certferry.toml", "new")

    assert ["certferry.toml"] == [path.name for path in tmp_path.iterdir()]


@as_root
def test_directory_of_another_user(tmp_path: Path) -> None:
    """What root wrote there, root would not read: it is told, and another place asked for."""
    given_away(tmp_path)

    with pytest.raises(ConfigError) as caught:
        write_private(tmp_path / "certferry.toml", "new")

    assert (f"{tmp_path}/certferry.toml lies in {tmp_path}, which belongs to nobody") == str(
        caught.value.message
    )
    assert str(caught.value.hint).endswith(
        "name another place with --output FILE; nothing was changed"
    )
    assert [] == list(tmp_path.iterdir())


def test_copies_do_not_replace_one_another(tmp_path: Path) -> None:
    """The first copy is the original, and stays."""
    path = tmp_path / "certferry.toml"
    path.write_text("first")
    first, second = kept_copy(path), kept_copy(path, then="second")

    assert ("certferry.toml.bak", "certferry.toml.bak.2") == (first.name, second.name)
    assert ("first", "second") == (first.read_text(), second.read_text())
    assert 0o600 == mode(first)


def kept_copy(path: Path, then: str | None = None) -> Path:
    """Copy a file, which holds something else by then; give the copy."""
    if then is not None:
        path.write_text(then)
    copy = free_copy(path)
    with drafted_copy(path, copy) as draft:
        draft.put()
    return copy


def test_draft_that_is_not_put_leaves_what_was_there(tmp_path: Path) -> None:
    """It lies beside the file for a while, whole; then nothing stays of it."""
    path = tmp_path / "certferry.toml"
    path.write_text("old")

    with drafted(path, b"new") as draft:
        assert (b"new", 0o600) == (draft.draft.read_bytes(), mode(draft.draft))

    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    """The file may be kept elsewhere, under version control for one."""
    kept, path = tmp_path / "repository" / "ferry.toml", tmp_path / "certferry.toml"
    kept.parent.mkdir()
    kept.write_text("old")
    path.symlink_to("repository/ferry.toml")

    write_private(path, "new")

    assert path.is_symlink()
    assert ("new", 0o600) == (kept.read_text(), mode(kept))
    assert [kept] == list(kept.parent.iterdir())


@pytest.mark.parametrize("place", ["/proc/certferry.toml", "{tmp}/file/certferry.toml"])
def test_place_that_takes_nothing_is_found_before_anything_is_done(
    tmp_path: Path, place: str
) -> None:
    """For every user, root as well."""
    (tmp_path / "file").touch()

    with (
        pytest.raises(ConfigError, match="cannot be written") as caught,
        drafted(Path(place.format(tmp=tmp_path)), b""),
    ):
        pytest.fail("it was taken")

    assert "nothing was changed" in str(caught.value.hint)


KEY = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


@given(value=KEY)
def test_key_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    """Whatever characters it has, certferry reads the same key from the line."""
    path = tmp_path_factory.mktemp("keys") / "certferry.env"

    write_private(path, with_assignments(path, {"DP_Key": Secret(value)}))

    found = read_env_file(path)
    assert ({"DP_Key": value}, ()) == (dict(found.values), found.mistakes)


@pytest.mark.parametrize("value", ["plain", "it's", 'a"b$c`d\\e', 'it\'s $HOME "and" `more`'])
def test_a_shell_reads_the_same(tmp_path: Path, value: str) -> None:
    """The file may be sourced, as the recipes do."""
    path = tmp_path / "certferry.env"
    path.write_text(with_assignments(path, {"DP_Key": Secret(value)}))

    script = '. "$1"; printf %s "$DP_Key"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", path], capture_output=True, text=True, check=True
    )

    assert value == done.stdout


def test_what_an_environment_file_has_stays(tmp_path: Path) -> None:
    """New keys stand below, on lines of their own."""
    path = tmp_path / "certferry.env"
    path.write_text("# mine\nOTHER='x'")
    path.chmod(0o600)

    text = with_assignments(path, {"DP_Id": Secret("1")})

    assert "# mine\nOTHER='x'\nDP_Id=1\n" == text


def test_key_with_a_line_end_is_refused(tmp_path: Path) -> None:
    """It would become another assignment."""
    with pytest.raises(ConfigError, match="cannot be printed"):
        with_assignments(tmp_path / "certferry.env", {"DP_Id": Secret("1\nPATH=/tmp")})
