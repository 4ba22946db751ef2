"""The runs that are under way, while another process looks which of them are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from certferry.adapters.state.database import Upgrade, migrate
from certferry.adapters.state.leases import HostState, LeaseLocks
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.sqlite import SqliteDatabase
from tests.adapters.state.child_program import NOW

Opened = Callable[[LeaseLocks], HostState]


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
def opened(path: Path) -> Iterator[Opened]:
    """Open a state, as each process does for itself."""
    path.touch()
    sealing = Sealing(path.with_name("secret.key"))
    with ExitStack() as all_of_them:

        def another(locks: LeaseLocks) -> HostState:
            database = SqliteDatabase(path)
            migrate(database, Upgrade("localhost", sealing.proof_of))
            database.use_write_ahead_log()
            return all_of_them.enter_context(
                closing(HostState(database, sealing, locks, "localhost"))
            )

        yield another


def test_run_that_ends_while_another_process_looks(opened: Opened, tmp_path: Path) -> None:
    """It has ended, and nothing is told of it."""
    running = opened(LeaseLocks(tmp_path))
    run = running.begin_run(NOW)

    looking = opened(Watched(tmp_path, before=lambda: running.end_run(run)))

    assert () == looking.unended_runs()


def test_run_that_begins_while_another_process_looks(opened: Opened, tmp_path: Path) -> None:
    """That has the lock of a run that was killed for a moment. The run is kept all the same."""
    locks = LeaseLocks(tmp_path)
    killed = opened(locks)
    number = killed.begin_run(NOW).number
    killed.close()
    looking = locks.take(f"\0run {number}")
    assert looking is not None

    begun = opened(Watched(tmp_path, after=looking.close))
    begun.begin_run(NOW)
    begun.begin_run(NOW)

    assert () == begun.unended_runs()
