"""What the tables need of a database, whichever it is.

Their SQL is the same for every database. What only one has stays behind this: how it is opened and
kept private, what its errors mean, how a script of the schema is taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

Column = str | int | None
Row = tuple[Any, ...]


class Cursor(Protocol):
    """What a query found."""

    def fetchone(self) -> Any:
        """Give the next row, `None` after the last."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Give the rows."""
        ...


class Connection(Protocol):
    """What a transaction works with. Values stand as `?` in a query."""

    def execute(self, query: str, values: Sequence[Column] = ..., /) -> Cursor:
        """Ask, or change something."""
        ...


class Database(Protocol):
    """A database of one state. It may be used from several threads at once; within a transaction
    of the same thread, `rows` reads in it. Raises `StateError` and nothing foreign.
    """

    @property
    def place(self) -> Path | str:
        """How messages name it; no password is in it."""
        ...

    @property
    def dialect(self) -> str:
        """What stands in the name of the schema's files that only this database takes."""
        ...

    def rows(self, query: str, *values: Column) -> list[Row]:
        """Read. Takes no lock that a writer would have to wait for."""
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Read several times at one moment: what others write meanwhile is not seen."""
        ...

    def transaction(self, *, serializable: bool = False) -> AbstractContextManager[Connection]:
        """Write: all of it has happened when the block ends, nothing when it raises. With
        `serializable`, what the block has read is still true when it writes.
        """
        ...

    def tables(self) -> set[str]:
        """Give the names of what it holds."""
        ...

    def statements(self, script: str) -> Iterator[str]:
        """Take a script apart."""
        ...

    def close(self) -> None:
        """Close the connections of every thread. Nothing is asked afterwards."""
        ...
