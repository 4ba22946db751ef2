"""The state in a bucket, for machines without a disk: a SQLite database in memory, stored as
generations. A generation is an object, created once and never changed.

1. A run reads the newest generation and works in memory.
2. Before each call to any service (`ports.state.must_still_hold`), the run stores a new generation
   if rows have changed that must not be lost.
3. At the end, the run stores all other changes.

If two runs start from the same generation, only the first can create the next generation, and the
second run ends. The second run has written to no service yet: a run takes a lineage's lease before
the first such call, and the taken lease must itself be stored first.

A run that reads a generation with another run's leases takes these leases over, as after a kill.
The other run then ends before its next call that depends on a write.

An object is a line of JSON, followed by the database: compressed, encrypted with AES-GCM, and bound
to the line. The line has the number, the bucket and prefix, a check of the key, and the SHA-256 of
the previous object. Therefore certferry refuses a generation that was changed, renamed, or copied
from another state with the same key. A deletion of the newest generations is not noticed, because a
run knows only the bucket.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from contextvars import Context
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from certferry import errors
from certferry.adapters.state import database as databases
from certferry.adapters.state.columns import Value
from certferry.adapters.state.leases import HostState, LeaseLocks
from certferry.adapters.state.sealing import Sealing, key_of
from certferry.adapters.state.sqlite import InMemory, empty
from certferry.adapters.state.store import must_be_in_use
from certferry.core.observed.records import BegunRun
from certferry.core.redaction import Secret
from certferry.ports.objects import ObjectStore
from certferry.ports.state import Lease
from certferry.text import Text

T = TypeVar("T")

KEPT = 30
"""How many generations are kept, for an operator who needs an older state."""

_SPARE = 20
"""How many generations beyond `KEPT` may gather before a run deletes the oldest, because deleting
costs a request."""

LONGEST_RUN = timedelta(hours=6)
"""How long a run without a stored end counts as at work on another machine, because a bucket has no
other sign of a dead run. A job of GitHub Actions ends after six hours
(docs.github.com/actions/reference/limits, 2026-11)."""

_NONCE_BYTES = 12  # NIST SP 800-38D §8.2
_NUMBERED = re.compile(r"[0-9]{10}")
_CHANGE = re.compile(r"\s*(INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)", re.IGNORECASE)

MAY_BE_LOST = frozenset(
    [
        "account_note",
        "begun_run",
        "channel",
        "console_guess",
        "console_token",
        "console_user",
        "console_user_link",
        "console_user_session",
        "declaration",
        "found_certificate",  # the next look reads the list again
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
        "watched_domain",
        "watched_host",
    ]
)
"""Tables that may lose changes. The loss costs a few requests, a line of history, or a repeated
message. Changes to all other tables are stored before the next call to any service."""


class Generation(Struct, frozen=True):
    """A stored state."""

    number: int
    #: The SHA-256 of the object, repeated in the next generation.
    digest: str
    #: The SQLite database.
    content: bytes


class Generations:
    """The generations (stored versions of a state) in a bucket, each encrypted with a key."""

    def __init__(self, objects: ObjectStore, key: Path | Secret) -> None:
        self.objects = objects
        self.key = key
        raw = key_of(key)
        self._cipher = AESGCM(raw)
        self._check = hmac.digest(raw, b"certferry generation", "sha256")[:8].hex()
        # Without the scheme: a bucket may be reached by two APIs.
        self._where = objects.place.partition("://")[2]

    def numbers(self) -> list[int]:
        """Return the numbers of all generations, the newest last."""
        return sorted(int(name) for name in self.objects.names() if _NUMBERED.fullmatch(name))

    def read(self, number: int) -> Generation:
        """Return a generation. Raises `ConfigError` for a changed object, for another key, and for
        a generation of another place.
        """
        stored = self.objects.read(_name(number))
        line, _, sealed = stored.partition(b"\n")
        facts = _facts_of(line)
        if facts.get("key", self._check) != self._check:
            raise errors.ConfigError(
                Text("the state in {place} was sealed with another key", place=self.objects.place),
                hint=Text("set `key` of [state] to that other key; nothing was changed"),
            )
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            content = zlib.decompress(self._cipher.decrypt(nonce, rest, line))
        except (InvalidTag, ValueError, zlib.error):
            raise self._refused(number) from None
        if facts.get("number") != number:
            raise self._refused(number)
        if (where := facts.get("place", self._where)) != self._where:
            raise errors.ConfigError(
                Text(
                    "generation {number} in {place} belongs to the state in {other}",
                    number=number,
                    place=self.objects.place,
                    other=where,
                ),
                hint=Text(
                    "a copy can be read only at its original place; to move a state use"
                    " `certferry state move`"
                ),
            )
        return Generation(number, digest_of_object(stored), content)

    def sealed(self, number: int, before: str, content: bytes) -> bytes:
        """Return the object of a generation; `before` is the previous generation's digest."""
        facts = {
            "certferry": 1,
            "number": number,
            "place": self._where,
            "key": self._check,
            "before": before,
        }
        line = json.dumps(facts).encode()
        nonce = os.urandom(_NONCE_BYTES)
        return line + b"\n" + nonce + self._cipher.encrypt(nonce, zlib.compress(content), line)

    def create(self, number: int, stored: bytes) -> str:
        """Store the object of a generation, unless an object has this number already. Return the
        digest of the object that now has the number.
        """
        if not self.objects.create(_name(number), stored):
            stored = self.objects.read(_name(number))
        return digest_of_object(stored)

    def damage(self) -> Iterator[errors.Reported]:
        """Yield an error for a public bucket, for each gap among the newest `KEPT` generations, and
        for each replaced generation. A replaced generation has another digest than the next
        generation says.
        """
        numbers = self.numbers()
        try:
            for number in numbers[-1:]:
                self._must_be_private(_name(number))
        except errors.ConfigError as public:
            yield public
        # Gaps before the kept generations are normal: an interrupted deletion leaves some.
        kept = numbers[-KEPT:]
        for earlier, later in pairwise(kept):
            if later - earlier > 1:
                yield self._missing(earlier, later)
        named_by_next = None
        for number in reversed(numbers):
            stored = self.objects.read(_name(number))
            if named_by_next is not None and named_by_next != digest_of_object(stored):
                yield self._replaced(number)
            facts = _facts_of(stored.partition(b"\n")[0])
            named_by_next = facts.get("before") if number - 1 in numbers else None

    def remove_oldest(self, numbers: Sequence[int]) -> None:
        """Delete all generations except the newest `KEPT`."""
        self.objects.remove([_name(number) for number in numbers[:-KEPT]])

    def must_be_fit(self) -> None:
        """Raise `ConfigError` for a public bucket, and for a bucket in which a request to create an
        object overwrites an existing object. The check creates an object, and deletes the object
        again.
        """
        name = f"probe-{os.urandom(8).hex()}"
        place = self.objects.place
        with ExitStack() as trying:
            self.objects.create(name, b"certferry tries whether an object can be overwritten")
            trying.callback(self.objects.remove, [name])
            if self.objects.create(name, os.urandom(16)):
                raise errors.ConfigError(
                    Text(
                        "{place} overwrites objects that certferry creates only if absent",
                        place=place,
                    ),
                    hint=Text(
                        "two runs would overwrite each other's state there; use a bucket of a"
                        " service with conditional writes"
                    ),
                )
            self._must_be_private(name)

    def _must_be_private(self, name: str) -> None:
        """Raise `ConfigError` if anyone can read an object without a signature."""
        if self.objects.may_anybody_read(name):
            raise errors.ConfigError(
                Text(
                    "{place} is public: anyone can read it without a key", place=self.objects.place
                ),
                hint=Text("make the bucket private; the state needs a bucket of its own"),
            )

    def _refused(self, number: int) -> errors.ConfigError:
        return errors.ConfigError(
            Text(
                "generation {number} in {place} is not as certferry stored it",
                number=number,
                place=self.objects.place,
            ),
            hint=Text(
                "find out who writes there; after you delete the object, the next run continues"
                " from the generation before"
            ),
        )

    def _missing(self, earlier: int, later: int) -> errors.StateError:
        message = Text("{place} has the generations {earlier} and {later}, but none in between")
        return errors.StateError(
            message.filled(place=self.objects.place, earlier=earlier, later=later),
            hint=Text(
                "find out who deletes there; a run continues from the newest generation, which is"
                " complete"
            ),
        )

    def _replaced(self, number: int) -> errors.StateError:
        message = Text("the generation after {number} in {place} was made from a different one")
        return errors.StateError(
            message.filled(number=number, place=self.objects.place),
            hint=Text("find out who writes there besides certferry"),
        )


def digest_of_object(stored: bytes) -> str:
    """Return the digest of an object, as the next generation stores the digest."""
    return hashlib.sha256(stored).hexdigest()


def _facts_of(line: bytes) -> dict[str, object]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return {}


def _name(number: int) -> str:
    return f"{number:010}"


class _NotingTransaction(databases.Transaction):
    """A transaction that notes whether anything was written (`is_change`), and whether a change was
    made that must not be lost (`is_urgent`).
    """

    def __init__(self, transaction: databases.Transaction) -> None:
        self._transaction = transaction
        self.is_change = self.is_urgent = False

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
        match = _CHANGE.match(query)
        change, table = ("", "") if match is None else (match[1].upper(), match[2])
        # The release of a lease may be lost, because the next run takes the lease over in any case.
        is_given_back = (change, table) == ("UPDATE", "lease")
        self.is_change = True
        self.is_urgent |= not (table in MAY_BE_LOST or is_given_back)


class BucketDatabase(InMemory):
    """See `Database`: a database in memory, stored in a bucket."""

    def __init__(self, generations: Generations, newest: Generation | None, host: str) -> None:
        self.generations = generations
        content = empty(host) if newest is None else newest.content
        super().__init__(Path(generations.objects.place), content)
        self._number = 0 if newest is None else newest.number
        self._before = "" if newest is None else newest.digest
        self._tried: set[str] = set()
        self._storing = threading.Lock()
        self._changes = self._urgent = 0  # counts of transactions
        self._stored = self._urgent_stored = 0
        self._overtaken_by: errors.Reported | None = None

    @property
    def place(self) -> Path | str:
        return self.generations.objects.place

    def run(self, function: Callable[[databases.Transaction], T]) -> T:
        noting: list[_NotingTransaction] = []

        def carry_out(transaction: databases.Transaction) -> T:
            noted = _NotingTransaction(transaction)
            noting[:] = [noted]
            return function(noted)

        result = super().run(carry_out)
        with self._guard:
            self._changes += noting[0].is_change
            self._urgent += noting[0].is_urgent
        return result

    change_schema = run

    def store(self, *, urgent_only: bool = False) -> None:
        """Store a generation if anything has changed since the last generation; with `urgent_only`,
        only if a change must not be lost.

        Raises `StateUnavailable`, `ConfigError`, `StateOvertaken` and `StateMoved`. After one of
        the last two, every later generation is refused with the same error.
        """
        if not self._has_to_store(urgent_only=urgent_only):
            return  # most calls end here, without waiting for another thread
        with self._storing:
            if not self._has_to_store(urgent_only=urgent_only):
                return
            with self._guard:
                changes, urgent = self._changes, self._urgent
            if self._overtaken_by is not None:
                raise self._overtaken_by
            # Store in a context without leases. Otherwise each request to the bucket would check
            # the lease, and the check would call this method again.
            Context().run(self._store)
            with self._guard:
                self._stored, self._urgent_stored = changes, urgent

    def _has_to_store(self, *, urgent_only: bool) -> bool:
        with self._guard:
            is_urgent = self._urgent != self._urgent_stored
            return is_urgent or (not urgent_only and self._changes != self._stored)

    def discard(self) -> None:
        """Count all unstored changes as stored, so the changes are never stored."""
        with self._guard:
            self._stored, self._urgent_stored = self._changes, self._urgent

    def _store(self) -> None:
        content, mine = self.content(), ""
        while mine != self._before or not mine:
            number = self._number + 1
            stored = self.generations.sealed(number, self._before, content)
            mine = digest_of_object(stored)
            self._tried.add(mine)
            present = self.generations.create(number, stored)
            if present not in self._tried:
                self._overtaken_by = self._overtaken()
                raise self._overtaken_by
            # An earlier try may have stored `present`, although the answer was lost. Continue from
            # `present`.
            self._number, self._before = number, present

    def _overtaken(self) -> errors.Reported:
        """Return the error to raise: the state was moved, or another run has stored the state."""
        newest = self.generations.read(self.generations.numbers()[-1])
        with closing(BucketDatabase(self.generations, newest, "")) as other:
            try:
                must_be_in_use(other, Sealing(self.generations.key))
            except errors.ConfigError as moved:
                return errors.StateMoved(moved.message, hint=moved.hint)
        return errors.StateOvertaken(
            Text("another run has stored the state in {place}", place=self.place),
            hint=Text("the other run continues; run again after it has ended"),
        )


class ThreadLocks(LeaseLocks):
    """Locks between the threads of a process: a database in memory has a single process."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._guard = threading.Lock()

    def take(self, lineage: str) -> ExitStack | None:
        """See `LeaseLocks.take`."""
        with self._guard:
            if lineage in self._taken:
                return None
            self._taken.add(lineage)
        lock = ExitStack()
        lock.callback(self._taken.discard, lineage)
        return lock


class BucketState(HostState):
    """See `StateStore`: each run may be on another machine, and knows only the bucket. With
    `reads_only`, the run stores only changes that must not be lost.
    """

    _database: BucketDatabase

    def __init__(
        self,
        database: BucketDatabase,
        sealing: Sealing,
        locks: LeaseLocks,
        host: str,
        *,
        reads_only: bool = False,
    ) -> None:
        super().__init__(database, sealing, locks, host)
        self._reads_only = reads_only

    def reserve(self, account: str, name: str, interval: timedelta, count: int) -> timedelta | None:
        """See `StateStore.reserve`. Nothing is reserved: a stored generation for each request would
        cost more than requests that several machines send too fast.
        """
        del account, name, interval, count
        return None

    def must_hold(self, lease: Lease) -> None:
        """See `LeaseStore.must_hold`: first store all changes that the next call depends on. Raises
        `StateNotStored`, which ends the run rather than the step.
        """
        del lease
        try:
            self._database.store(urgent_only=True)
        except errors.CertferryError as problem:
            raise errors.StateNotStored(problem.message, hint=problem.hint) from problem

    def flush(self) -> None:
        try:
            self._database.store(urgent_only=self._reads_only)
        except errors.Reported:
            self._database.discard()
            raise

    def damage(self) -> tuple[errors.Reported, ...]:
        return (*super().damage(), *self._database.generations.damage())

    def key_changed(self, key: Secret) -> None:
        """See `SqlState.key_changed`: seal the next generation with `key`."""
        self._database.generations = Generations(self._database.generations.objects, key)

    def _is_gone(self, run: BegunRun) -> bool:
        return super()._is_gone(run) and self.now() - run.began_at > LONGEST_RUN

    def close(self) -> None:
        """See `StateStore.close`: store all remaining changes first. Raises `StateError`."""
        try:
            self.flush()
        finally:
            super().close()


def connect(
    objects: ObjectStore, key: Path | Secret, host: str, *, reads_only: bool
) -> BucketState:
    """See `connect.connect`; the first run makes the state."""
    state, _ = _opened(objects, key, host, reads_only=reads_only)
    database, sealing = state.database_and_sealing
    try:
        must_be_in_use(database, sealing)
    except BaseException:
        database.close()
        raise
    return state


def open_whole(objects: ObjectStore, key: Path | Secret, host: str) -> BucketState:
    """See `connect.open_whole`."""
    return _opened(objects, key, host, makes=False)[0]


def prepare(objects: ObjectStore, key: Path | Secret, host: str, *, init: bool) -> bool:
    """See `connect.prepare`."""
    state, is_changed = _opened(objects, key, host, makes=init)
    with closing(state):
        database, sealing = state.database_and_sealing
        must_be_in_use(database, sealing)
        if init and not state.is_sealed():
            database.run(sealing.begin)
            is_changed = True
    return is_changed


def _opened(
    objects: ObjectStore,
    key: Path | Secret,
    host: str,
    *,
    makes: bool = True,
    reads_only: bool = False,
) -> tuple[BucketState, bool]:
    """Open the newest generation, or an empty state in a bucket without one. Return the state, and
    whether the state is new or migrated.

    Unless `reads_only` is set, check a bucket without generations, and delete generations that are
    too old. Raises `ConfigError`, also for an absent state unless `makes` is set.
    """
    generations = Generations(objects, key)
    numbers = generations.numbers()
    newest = generations.read(numbers[-1]) if numbers else None
    if newest is None and not makes:
        raise errors.ConfigError(
            Text("there is no state at {path}", path=objects.place),
            hint=Text("the first `certferry sync` or `certferry state init` creates the state"),
        )
    if newest is None and not reads_only:
        generations.must_be_fit()
    if len(numbers) > KEPT + _SPARE and not reads_only:
        generations.remove_oldest(numbers)
    database, sealing = BucketDatabase(generations, newest, host), Sealing(key)
    try:
        is_changed = databases.migrate(database, host)
        if reads_only:
            database.discard()
        [row] = database.rows("SELECT name FROM host LIMIT 1")
    except BaseException:
        database.close()
        raise
    state = BucketState(database, sealing, ThreadLocks(), row["name"], reads_only=reads_only)
    return state, is_changed or newest is None
