"""The runs that are under way, while another process looks which of them are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from certferry.adapters.state.database import migrate, read_migrations
from certferry.adapters.state.leases import LeaseLocks
from certferry.adapters.state.runs import Runs
from certferry.adapters.state.sqlite import SqliteDatabase
from tests.adapters.state.child_program import NOW


class Watched(LeaseLocks):
    """Locks of a process to which something happens when it takes the first one."""

    def __init__(
        self,
        directory: Path,
        before: Callable[[], object] = str,
        after: Callable[[], object] = str,
    ) -> None:
        super().__init__(directory)
        self._before, self._after = [before], [after]

    def take(self, lineage: str) -> ExitStack | None:
        """Take it, and let that happen."""
        while self._before:
            self._before.pop()()
        taken = super().take(lineage)
        while self._after:
            self._after.pop()()
        return taken


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], SqliteDatabase]]:
    """Open the database of a state, as each process does for itself."""
    path.touch()
    with ExitStack() as all_of_them:

        def another() -> SqliteDatabase:
            database = all_of_them.enter_context(closing(SqliteDatabase(path)))
            migrate(database, read_migrations("sqlite"))
            database.use_write_ahead_log()
            return database

        yield another


def test_run_that_ends_while_another_process_looks(
    opened: Callable[[], SqliteDatabase], tmp_path: Path
) -> None:
    """It has ended, and nothing is told of it."""
    running = Runs(opened(), LeaseLocks(tmp_path))
    run = running.begin_run(NOW)

    looking = Runs(opened(), Watched(tmp_path, before=lambda: running.end_run(run)))

    assert () == looking.unended_runs()


def test_run_that_begins_while_another_process_looks(
    opened: Callable[[], SqliteDatabase], tmp_path: Path
) -> None:
    """That has the lock of a run that was killed for a moment. The run is kept all the same."""
    locks = LeaseLocks(tmp_path)
    killed = Runs(opened(), locks)
    number = killed.begin_run(NOW).number
    killed.close()
    looking = locks.take(f"\0run {number}")
    assert looking is not None

    with closing(Runs(opened(), Watched(tmp_path, after=looking.close))) as begun:
        begun.begin_run(NOW)
        begun.begin_run(NOW)

        assert () == begun.unended_runs()
