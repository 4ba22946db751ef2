"""A state for tests: the real state over SQLite in memory, with a key and locks in memory."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack, cast

from certferry.adapters.state.leases import HostState, LeaseLocks
from certferry.adapters.state.sealing import KEY_BYTES, Sealing
from certferry.adapters.state.sqlite import InMemory, empty
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.observed.records import Remembered

NOWHERE = Path("memory")

A = TypeVarTuple("A")
T = TypeVar("T")


class MemoryState(HostState):
    """A `StateStore` of a process; `seen_by` returns the store of another process, possibly on
    another host.

    `is_alive` says whether the holder of a wanted lease still runs. A test ends a process with
    `False`: other processes then take its leases over at once.
    """

    def __init__(
        self,
        is_alive: Callable[[str], bool] = lambda _: True,
        process: str = "this process",
        shared: _Shared | None = None,
        host: str = "localhost",
    ) -> None:
        self._shared = shared or _Shared(is_alive)
        self._shared.processes[process] = self
        locks = _Locks(self._shared, process)
        super().__init__(self._shared.database, self._shared.key, locks, host)
        self._known: dict[object, tuple[object, Any]] = {}

    def seen_by(self, process: str, host: str = "localhost") -> MemoryState:
        """Return the store of another process with the same state."""
        known = self._shared.processes.get(process)
        return known or MemoryState(process=process, shared=self._shared, host=host)

    def lose_key(self) -> None:
        """Replace the key that seals the state by another key."""
        self._shared.key.value = secrets.token_bytes(KEY_BYTES)

    def write(self, query: str, *values: str | int | None) -> None:
        """Change rows as another program would."""
        self._shared.database.run(lambda transaction: transaction.execute(query, *values))

    def read(self, query: str) -> list[dict[str, Any]]:
        """Read rows as another program would."""
        return [dict(row) for row in self._shared.database.rows(query)]

    def remembered(self, lineage: str) -> Remembered:
        """See `VersionStore.remembered`."""
        return self._kept(super().remembered, lineage)

    def bundle(self, lineage: str, number: int) -> CertificateBundle:
        """See `VersionStore.bundle`."""
        return self._kept(super().bundle, lineage, number)

    def _kept(self, read: Callable[[Unpack[A]], T], *asked: *A) -> T:
        """Return a cached value, read again only after a change: a waiting run reads hundreds of
        times.
        """
        [row] = self._shared.database.rows("SELECT total_changes() AS changes")
        moment = (row["changes"], self._shared.key.value)
        at, answer = self._known.get(asked) or (None, None)
        if answer is None or at != moment:
            answer = read(*asked)
            self._known[asked] = moment, answer
        return cast("T", answer)

    def close(self) -> None:
        """Release the leases of this process; the rows stay for the other processes."""
        self.release_locks()


class _Key(Sealing):
    """Seals with a key in memory, without a file."""

    def __init__(self) -> None:
        super().__init__(NOWHERE)
        self.value = secrets.token_bytes(KEY_BYTES)

    def _key(self) -> bytes:
        return self.value

    def _make_key(self) -> None:
        """Make no key: the key exists from the start."""


@dataclass(slots=True)
class _Shared:
    """The data shared by all processes with a state, and the holder of each lock."""

    is_alive: Callable[[str], bool]
    database: InMemory = field(default_factory=lambda: InMemory(NOWHERE, empty("localhost")))
    key: _Key = field(default_factory=_Key)
    processes: dict[str, MemoryState] = field(default_factory=dict)
    holders: dict[str, tuple[str, object]] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)


class _Locks(LeaseLocks):
    """The locks of a process, which end with the process."""

    def __init__(self, shared: _Shared, process: str) -> None:
        self._shared = shared
        self._process = process

    def take(self, lineage: str) -> ExitStack | None:
        """See `LeaseLocks.take`."""
        taken, shared = (self._process, object()), self._shared
        with shared.guard:
            holder = shared.holders.get(lineage)
            if holder is not None and shared.is_alive(holder[0]):
                return None
            shared.holders[lineage] = taken

        def let_go() -> None:
            with shared.guard:
                if shared.holders.get(lineage) is taken:
                    del shared.holders[lineage]

        lock = ExitStack()
        lock.callback(let_go)
        return lock
