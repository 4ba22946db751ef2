"""Opening a state by its URL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.core.report import HistoryEntry
from certferry.errors import ConfigError
from tests.adapters.state.child_program import NOW

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
