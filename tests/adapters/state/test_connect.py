"""Opening a state by its URL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.core.observed.records import HistoryEntry
from certferry.errors import ConfigError, StateError
from tests.adapters.state.child_program import NOW
from tests.another_user import as_root, given_away

ENTRY = HistoryEntry(NOW, "img", "issued", "root")


@pytest.mark.parametrize(
    "url",
    [lambda path: path, str, "sqlite:///{}".format],
    ids=["path", "text", "URL"],
)
def test_ways_to_name_a_state(
    path: Path, key_file: Path, url: Callable[[Path], str | Path]
) -> None:
    """A path, as the configuration gives it, and a URL lead to the same database."""
    with closing(connect(path, key_file)) as store:
        store.append_history(ENTRY)

    with closing(connect(url(path), key_file)) as store:
        assert (ENTRY,) == store.history("img", 1)


def test_path_of_a_url_may_be_relative(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind three slashes it begins where the process stands."""
    monkeypatch.chdir(tmp_path)

    connect("sqlite:///below/state.db", key_file).close()

    assert (tmp_path / "below" / "state.db").is_file()


@pytest.mark.parametrize("beginning", ["oracle://", "sqlite://", "SQLite:///"])
def test_url_that_leads_to_no_state(tmp_path: Path, key_file: Path, beginning: str) -> None:
    """Its beginning is named, without what may be a password, and nothing is made."""
    with pytest.raises(ConfigError, match=f"^there is no state at {beginning}$") as refused:
        connect(f"{beginning}certferry:secret@host/state", key_file)

    assert "sqlite:////var/lib/certferry/state.db" in str(refused.value.hint)
    assert [] == list(tmp_path.iterdir())


def refused(path: Path) -> tuple[str, str]:
    """Give why a state is not opened, and the advice."""
    with pytest.raises(StateError) as caught:
        connect(path, path.with_name("secret.key"))
    return str(caught.value.message), str(caught.value.hint)


def test_state_that_others_can_write(tmp_path: Path) -> None:
    """What it holds is uploaded, deployed and removed by: it is not opened."""
    path = tmp_path / "state.db"
    connect(path, tmp_path / "secret.key").close()
    path.chmod(0o666)

    assert (
        f"{path} can be changed by every user (mode 0666)",
        f"run: chmod go-w {path}",
    ) == refused(path)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("made", [True, False])
def test_state_in_a_directory_that_others_can_write(
    tmp_path: Path, mode: int, *, made: bool
) -> None:
    """Others could put SQLite's files beside it, which it would believe."""
    path = tmp_path / "open" / "state.db"
    path.parent.mkdir()
    if made:
        connect(path, tmp_path / "secret.key").close()
    there = sorted(path.parent.iterdir())
    path.parent.chmod(mode)

    said, _ = refused(path)

    assert f"{path.parent} can be changed by every user (mode {mode:04o})" == said
    assert there == sorted(path.parent.iterdir())


def test_state_behind_a_link_to_where_others_can_write(tmp_path: Path) -> None:
    """Where it leads to counts."""
    (tmp_path / "open").mkdir()
    connect(tmp_path / "open" / "state.db", tmp_path / "secret.key").close()
    (tmp_path / "state.db").symlink_to("open/state.db")
    (tmp_path / "open").chmod(0o777)

    said, _ = refused(tmp_path / "state.db")

    assert "where every user can replace it" in said


@as_root
def test_state_of_another_user(tmp_path: Path) -> None:
    """Root goes by none but its own, and makes nothing there that would lock its user out."""
    path = tmp_path / "state.db"
    connect(path, tmp_path / "secret.key").close()
    given_away(path)
    there = sorted(tmp_path.iterdir())

    said, hint = refused(path)

    assert f"{path} belongs to nobody, who could change it" == said
    advice = f"run it as its owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    assert advice == hint
    assert there == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("lineage", ["../../out", "/out", ".."])
def test_lineage_that_is_called_like_a_path(tmp_path: Path, lineage: str) -> None:
    """Its lock lies beside the state, whatever an earlier version let it be called."""
    folder = tmp_path / "a" / "b"
    with closing(connect(folder / "state.db", folder / "secret.key")) as store:
        store.release(store.acquire(lineage, NOW))

    assert 1 == len(list((folder / "state.db-leases").iterdir()))
    assert [tmp_path / "a"] == list(tmp_path.iterdir())
    assert [folder] == list((tmp_path / "a").iterdir())
