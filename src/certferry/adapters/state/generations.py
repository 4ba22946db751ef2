"""The state in a bucket, for machines without a disk: a SQLite database in memory, of which each
generation is an object that is created once and never changed.

A run reads the newest generation and works in memory. What must not be lost is stored as the next
generation before the next call to anybody (`ports.state.must_still_hold`); what may be lost, at the
end. Of two runs that read the same generation one creates the next, and the other ends: it has done
nothing that this state does not know, since each first call of a lineage follows its lease, which is
such a write.

An object is a line of JSON (its number, and the SHA-256 of the object before it) and the database,
compressed and sealed with AES-GCM; the line is bound to it. So a generation that was changed, or put
under another's name, is refused. That the newest ones were deleted nobody can see who knows only the
bucket.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certferry.adapters.state import database as databases
from certferry.adapters.state.columns import Value
from certferry.adapters.state.leases import HostState, LeaseLocks
from certferry.adapters.state.sealing import Sealing, key_of
from certferry.adapters.state.sqlite import InMemory, empty
from certferry.adapters.state.store import must_be_in_use
from certferry.core.secret import Secret
from certferry.errors import ConfigError, StateError, StateOvertaken
from certferry.ports.objects import ObjectStore
from certferry.ports.state import Lease
from certferry.text import Text

T = TypeVar("T")

KEPT = 30
"""How many generations stay, for an operator who wants an older one."""

_SPARE = 20
"""How many more there may be before the oldest are deleted: deleting costs a request."""

_NONCE_BYTES = 12  # NIST SP 800-38D §8.2
_NUMBERED = re.compile(r"[0-9]{10}")
_CHANGE = re.compile(r"\s*(INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)", re.IGNORECASE)

MAY_BE_LOST = frozenset(
    [
        "account_note",
        "begun_run",
        "channel",
        "declaration",
        "history",
        "history_head",
        "host",
        "host_declaration",
        "last_run",
        "notice",
        "pace",
        "run",
        "run_event",
        "run_report",
        "sighting",
        "told",
    ]
)
"""Tables whose loss costs a few requests, or a line of history. What is in any other table is stored
before the next call to anybody."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A state as it was stored: the `digest` is that of its object, by which the next one names it."""

    number: int
    digest: str
    content: bytes


class Generations:
    """The generations in a bucket, sealed with a key."""

    def __init__(self, objects: ObjectStore, key: Secret) -> None:
        self.objects = objects
        self._cipher = AESGCM(key_of(key))

    def numbers(self) -> list[int]:
        """Return the numbers of all generations, the newest last."""
        return sorted(int(name) for name in self.objects.names() if _NUMBERED.fullmatch(name))

    def read(self, number: int) -> Generation:
        """Return a generation. Raises `StateError` for one that is not as it was stored."""
        stored = self.objects.read(_name(number))
        line, _, sealed = stored.partition(b"\n")
        try:
            facts = json.loads(line)
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            content = zlib.decompress(self._cipher.decrypt(nonce, rest, line))
            is_own = facts["number"] == number
        except (InvalidTag, ValueError, KeyError, TypeError, zlib.error):
            raise self._refused(number) from None
        if not is_own:
            raise self._refused(number)
        return Generation(number, digest_of(stored), content)

    def sealed(self, number: int, before: str, content: bytes) -> bytes:
        """Return the object of a generation that follows the one with the digest `before`."""
        line = json.dumps({"certferry": 1, "number": number, "before": before}).encode()
        nonce = os.urandom(_NONCE_BYTES)
        return line + b"\n" + nonce + self._cipher.encrypt(nonce, zlib.compress(content), line)

    def create(self, number: int, stored: bytes) -> str:
        """Store the object of a generation; return the digest of the one that is there then."""
        if not self.objects.create(_name(number), stored):
            stored = self.objects.read(_name(number))
        return digest_of(stored)

    def overtaken(self) -> StateOvertaken:
        """Return the error for a run that another one has overtaken."""
        return StateOvertaken(
            Text("another run has stored the state in {place}", place=self.objects.place),
            hint=Text("that run goes on; run this one again when it has ended"),
        )

    def before(self, number: int) -> str:
        """Return the digest of the generation before, as one says. Raises as `read`."""
        line = self.objects.read(_name(number)).partition(b"\n")[0]
        return str(json.loads(line)["before"])

    def remove_oldest(self, numbers: Sequence[int]) -> None:
        """Delete those beyond the ones that stay."""
        self.objects.remove([_name(number) for number in numbers[:-KEPT]])

    def must_be_fit(self) -> None:
        """Raise `ConfigError` for a bucket that overwrites what it was to create only, or that
        anybody may read. It is tried once, with an object that is deleted again.
        """
        name = f"probe-{os.urandom(8).hex()}"
        place = self.objects.place
        self.objects.create(name, b"certferry tries whether an object can be overwritten")
        try:
            if self.objects.create(name, os.urandom(16)):
                raise ConfigError(
                    Text("{place} overwrites objects that are to be created only", place=place),
                    hint=Text(
                        "two runs would overwrite each other's state there; use a bucket of a"
                        " service that honours it"
                    ),
                )
            if self.objects.may_anybody_read(name):
                raise ConfigError(
                    Text("anybody may read what is in {place}", place=place),
                    hint=Text("make the bucket private; the state needs one of its own"),
                )
        finally:
            self.objects.remove([name])

    def _refused(self, number: int) -> StateError:
        return StateError(
            Text(
                "generation {number} in {place} is not as certferry stored it, or was stored with"
                " another key",
                number=number,
                place=self.objects.place,
            ),
            hint=Text(
                "give `key` of [state] the one that it was made with; if the object was damaged,"
                " delete it: the next run goes on from the one before"
            ),
        )


def digest_of(stored: bytes) -> str:
    """Return by what the next generation names an object."""
    return hashlib.sha256(stored).hexdigest()


def _name(number: int) -> str:
    return f"{number:010}"


class _NotingTransaction(databases.Transaction):
    """A transaction of which is noted whether it changes what must not be lost."""

    def __init__(self, transaction: databases.Transaction) -> None:
        self._transaction = transaction
        self.is_urgent = False

    def rows(self, query: str, *values: Value) -> Sequence[databases.Row]:
        """See `Reader.rows`."""
        return self._transaction.rows(query, *values)

    def execute(self, query: str, *values: Value) -> None:
        """See `Transaction.execute`."""
        self._note(query)
        self._transaction.execute(query, *values)

    def execute_each(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        """See `Transaction.execute_each`."""
        self._note(query)
        self._transaction.execute_each(query, rows)

    def _note(self, query: str) -> None:
        found = _CHANGE.match(query)
        change, table = ("", "") if found is None else (found[1].upper(), found[2])
        # A lease that is given back may be lost: its holder has ended by then.
        is_given_back = (change, table) == ("UPDATE", "lease")
        self.is_urgent |= not (table in MAY_BE_LOST or is_given_back)


class BucketDatabase(InMemory):
    """See `Database`: in memory, and stored in a bucket."""

    def __init__(self, generations: Generations, newest: Generation | None, host: str) -> None:
        content = empty(host) if newest is None else newest.content
        super().__init__(Path(generations.objects.place), content)
        self._generations = generations
        self._number = 0 if newest is None else newest.number
        self._before = "" if newest is None else newest.digest
        self._tried: set[str] = set()
        self._storing = threading.Lock()
        self._changes = self._urgent = 0  # how many there were
        self._stored = self._urgent_stored = 0

    def run(self, function: Callable[[databases.Transaction], T]) -> T:
        """See `Database.run`."""
        noting: list[_NotingTransaction] = []

        def carry_out(transaction: databases.Transaction) -> T:
            noted = _NotingTransaction(transaction)
            noting[:] = [noted]
            return function(noted)

        result = super().run(carry_out)
        with self._guard:
            self._changes += 1
            self._urgent += noting[0].is_urgent
        return result

    change_schema = run

    def store(self, *, urgent_only: bool) -> None:
        """Store a generation, if anything has changed that it does not have. Raises
        `StateOvertaken`, for this and every later time, and `StateUnavailable`.
        """
        with self._storing:
            with self._guard:
                changes, urgent = self._changes, self._urgent
            if urgent == self._urgent_stored and (urgent_only or changes == self._stored):
                return
            # Its own requests need no lease, and would ask for this generation again.
            Context().run(self._store)
            self._stored, self._urgent_stored = changes, urgent

    def _store(self) -> None:
        content, mine = self.content(), ""
        while mine != self._before or not mine:
            number = self._number + 1
            stored = self._generations.sealed(number, self._before, content)
            mine = digest_of(stored)
            self._tried.add(mine)
            found = self._generations.create(number, stored)
            if found not in self._tried:
                raise self._generations.overtaken()
            # It may be one of an earlier try, whose answer was lost.
            self._number, self._before = number, found


class BucketState(HostState):
    """See `StateStore`: each run is on a machine of its own, and knows the bucket alone."""

    _database: BucketDatabase

    def __init__(
        self, database: BucketDatabase, sealing: Sealing, host: str, *, reads_only: bool
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="certferry-leases-")
        super().__init__(database, sealing, LeaseLocks(Path(self._folder.name)), host)
        self._reads_only = reads_only

    def must_hold(self, lease: Lease) -> None:
        """See `LeaseStore.must_hold`: what the next call depends on is stored first."""
        del lease
        self._database.store(urgent_only=True)

    def close(self) -> None:
        """See `StateStore.close`: what may be lost is stored now. Raises `StateError`."""
        try:
            if not self._reads_only:
                self._database.store(urgent_only=False)
        finally:
            super().close()
            self._folder.cleanup()


def connect(objects: ObjectStore, key: Secret, host: str, *, reads_only: bool) -> BucketState:
    """Open the state in a bucket; where there is none, the first run makes it, unless the caller
    `reads_only`. Raises as `adapters.state.connect.connect`.
    """
    generations = Generations(objects, key)
    numbers = generations.numbers()
    newest = generations.read(numbers[-1]) if numbers else None
    if newest is None and not reads_only:
        generations.must_be_fit()
    database = BucketDatabase(generations, newest, host)
    sealing = Sealing(key)
    try:
        databases.migrate(database, databases.Upgrade(host, sealing.proof_of))
        must_be_in_use(database)
        [row] = database.rows("SELECT name FROM host LIMIT 1")
    except BaseException:
        database.close()
        raise
    if len(numbers) > KEPT + _SPARE and not reads_only:
        generations.remove_oldest(numbers)
    return BucketState(database, sealing, row["name"], reads_only=reads_only)
