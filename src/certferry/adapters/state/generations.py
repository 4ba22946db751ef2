"""The state in a bucket, for machines without a disk: a SQLite database in memory, of which each
generation is an object that is created once and never changed.

A run reads the newest generation and works in memory. What must not be lost is stored as the next
generation before the next call to any service (`ports.state.must_still_hold`); what may be lost, at
the end. Of two runs that read the same generation one creates the next, and the other ends: it has
done nothing that this state does not know, since each first call of a lineage follows its lease,
which is such a write. A run that reads what another one has stored takes its leases over, as after
a kill; that other one ends before its next call that depends on a write.

An object is a line of JSON (its number, the bucket and prefix, a check of the key, and the SHA-256
of the object before it) and the database, compressed and sealed with AES-GCM; the line is bound to
it. So a generation that was changed, put under another's name, or comes from another state with the
same key is refused. That the newest ones were deleted cannot be seen by a run that knows only the
bucket.
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
from certferry.adapters.state.binding import upgrade_of
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
"""How many generations stay, for an operator who wants an older one."""

_SPARE = 20
"""How many more there may be before the oldest are deleted: deleting costs a request."""

LONGEST_RUN = timedelta(hours=6)
"""How long a run that has not stored its end may still be at work on another machine, whose end
cannot be seen from here: a job of GitHub Actions ends after six hours
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
"""Tables whose loss costs a few requests, a line of history, or a message that is sent again. What
is in any other table is stored before the next call to any service."""


class Generation(Struct, frozen=True):
    """A state as it was stored. The next one names it by the `digest` of its object."""

    number: int
    digest: str
    content: bytes


class Generations:
    """The generations in a bucket, sealed with a key."""

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
        """Return a generation. Raises `ConfigError` for one that is not as it was stored."""
        stored = self.objects.read(_name(number))
        line, _, sealed = stored.partition(b"\n")
        facts = _facts_of(line)
        if facts.get("key", self._check) != self._check:
            raise errors.ConfigError(
                Text("the state in {place} was stored with another key", place=self.objects.place),
                hint=Text("write that one as `key` of [state]; nothing was changed"),
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
                    "generation {number} in {place} is one of the state in {other}",
                    number=number,
                    place=self.objects.place,
                    other=where,
                ),
                hint=Text("a copy is read where it was made; `certferry state move` moves a state"),
            )
        return Generation(number, digest_of_object(stored), content)

    def sealed(self, number: int, before: str, content: bytes) -> bytes:
        """Return the object of a generation that follows the one with the digest `before`."""
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
        """Store the object of a generation; return the digest of the one that is there then."""
        if not self.objects.create(_name(number), stored):
            stored = self.objects.read(_name(number))
        return digest_of_object(stored)

    def damage(self) -> Iterator[errors.Reported]:
        """Follow the chain of the generations that are there, and return an error for each that is
        not the one which the next names, and for each gap; and whether they can be read without a
        signature.
        """
        numbers = self.numbers()
        try:
            for number in numbers[-1:]:
                self._must_be_private(_name(number))
        except errors.ConfigError as public:
            yield public
        # Before those that stay, a deletion that was cut short may have left some.
        kept = numbers[-KEPT:]
        for earlier, later in pairwise(kept):
            if later - earlier > 1:
                yield self._missing(earlier, later)
        named_by_next = None
        for number in reversed(numbers):
            stored = self.objects.read(_name(number))
            if named_by_next not in {None, digest_of_object(stored)}:
                yield self._replaced(number)
            facts = _facts_of(stored.partition(b"\n")[0])
            named_by_next = facts.get("before") if number - 1 in numbers else None

    def remove_oldest(self, numbers: Sequence[int]) -> None:
        """Delete those beyond the ones that stay."""
        self.objects.remove([_name(number) for number in numbers[:-KEPT]])

    def must_be_fit(self) -> None:
        """Raise `ConfigError` for a bucket that overwrites what it was to create only, or whose
        objects need no signature to be read. An object is made to try that, and deleted again.
        """
        name = f"probe-{os.urandom(8).hex()}"
        place = self.objects.place
        with ExitStack() as trying:
            self.objects.create(name, b"certferry tries whether an object can be overwritten")
            trying.callback(self.objects.remove, [name])
            if self.objects.create(name, os.urandom(16)):
                raise errors.ConfigError(
                    Text("{place} overwrites objects that are to be created only", place=place),
                    hint=Text(
                        "two runs would overwrite each other's state there; use a bucket of a"
                        " service that honours it"
                    ),
                )
            self._must_be_private(name)

    def _must_be_private(self, name: str) -> None:
        """Raise `ConfigError` where an object can be read without a signature."""
        if self.objects.may_anybody_read(name):
            raise errors.ConfigError(
                Text("{place} is public: it is read without a key", place=self.objects.place),
                hint=Text("make the bucket private; the state needs one of its own"),
            )

    def _refused(self, number: int) -> errors.ConfigError:
        return errors.ConfigError(
            Text(
                "generation {number} in {place} is not as certferry stored it",
                number=number,
                place=self.objects.place,
            ),
            hint=Text(
                "find out who writes there; when this object is deleted, the next run goes on from"
                " the generation before"
            ),
        )

    def _missing(self, earlier: int, later: int) -> errors.StateError:
        said = Text("{place} has the generations {earlier} and {later}, and none between them")
        return errors.StateError(
            said.filled(place=self.objects.place, earlier=earlier, later=later),
            hint=Text(
                "find out who deletes there; a run goes on from the newest one, which has"
                " everything"
            ),
        )

    def _replaced(self, number: int) -> errors.StateError:
        said = Text("generation {number} in {place} is not the one that the next was made from")
        return errors.StateError(
            said.filled(number=number, place=self.objects.place),
            hint=Text("find out who writes there besides certferry"),
        )


def digest_of_object(stored: bytes) -> str:
    """Return the digest by which the next generation names an object."""
    return hashlib.sha256(stored).hexdigest()


def _facts_of(line: bytes) -> dict[str, object]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return {}


def _name(number: int) -> str:
    return f"{number:010}"


class _NotingTransaction(databases.Transaction):
    """A transaction of which is noted whether it changes what must not be lost."""

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
        found = _CHANGE.match(query)
        change, table = ("", "") if found is None else (found[1].upper(), found[2])
        # A lease that is given back may be lost: its holder has ended by then.
        is_given_back = (change, table) == ("UPDATE", "lease")
        self.is_change = True
        self.is_urgent |= not (table in MAY_BE_LOST or is_given_back)


class BucketDatabase(InMemory):
    """See `Database`: in memory, and stored in a bucket."""

    def __init__(self, generations: Generations, newest: Generation | None, host: str) -> None:
        self.generations = generations
        content = empty(host) if newest is None else newest.content
        super().__init__(Path(generations.objects.place), content)
        self._number = 0 if newest is None else newest.number
        self._before = "" if newest is None else newest.digest
        self._tried: set[str] = set()
        self._storing = threading.Lock()
        self._changes = self._urgent = 0  # how many there were
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
        """Store a generation, if anything has changed that the last one does not have. Raises
        `StateOvertaken`, or `StateMoved`, for this and every later time, `StateUnavailable` and
        `ConfigError`.
        """
        if not self._has_to_store(urgent_only=urgent_only):
            return  # most calls: they wait for no other thread
        with self._storing:
            if not self._has_to_store(urgent_only=urgent_only):
                return
            with self._guard:
                changes, urgent = self._changes, self._urgent
            if self._overtaken_by is not None:
                raise self._overtaken_by
            # Its own requests need no lease, and would ask for this generation again.
            Context().run(self._store)
            with self._guard:
                self._stored, self._urgent_stored = changes, urgent

    def _has_to_store(self, *, urgent_only: bool) -> bool:
        with self._guard:
            is_urgent = self._urgent != self._urgent_stored
            return is_urgent or (not urgent_only and self._changes != self._stored)

    def discard(self) -> None:
        """Count as stored what has changed: its caller knows that it is not."""
        with self._guard:
            self._stored, self._urgent_stored = self._changes, self._urgent

    def _store(self) -> None:
        content, mine = self.content(), ""
        while mine != self._before or not mine:
            number = self._number + 1
            stored = self.generations.sealed(number, self._before, content)
            mine = digest_of_object(stored)
            self._tried.add(mine)
            found = self.generations.create(number, stored)
            if found not in self._tried:
                self._overtaken_by = self._overtaken()
                raise self._overtaken_by
            # It may be one of an earlier try, whose answer was lost.
            self._number, self._before = number, found

    def _overtaken(self) -> errors.Reported:
        """Return what the newest generation says: the state was moved, or another run goes on."""
        newest = self.generations.read(self.generations.numbers()[-1])
        with closing(BucketDatabase(self.generations, newest, "")) as other:
            try:
                must_be_in_use(other, Sealing(self.generations.key))
            except errors.ConfigError as moved:
                return errors.StateMoved(moved.message, hint=moved.hint)
        return errors.StateOvertaken(
            Text("another run has stored the state in {place}", place=self.place),
            hint=Text("that run goes on; run this one again when it has ended"),
        )


class ThreadLocks(LeaseLocks):
    """Locks of the threads of one process: no other process has its database."""

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
    """See `StateStore`: each run is on a machine of its own, and knows the bucket alone. One that
    `reads_only` stores nothing that may be lost.
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
        """See `StateStore.reserve`: a generation for each request would cost more than it saves."""
        del account, name, interval, count
        return None

    def must_hold(self, lease: Lease) -> None:
        """See `LeaseStore.must_hold`: what the next call depends on is stored first. Raises
        `StateNotStored`, so that no step takes it for its own failure.
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
        """See `SqlState.key_changed`: the next generation is sealed with it."""
        self._database.generations = Generations(self._database.generations.objects, key)

    def _is_gone(self, run: BegunRun) -> bool:
        return super()._is_gone(run) and self.now() - run.began_at > LONGEST_RUN

    def close(self) -> None:
        """See `StateStore.close`: what may be lost is stored now. Raises `StateError`."""
        try:
            self.flush()
        finally:
            super().close()


def connect(
    objects: ObjectStore, key: Path | Secret, host: str, *, reads_only: bool
) -> BucketState:
    """See `connect.connect`; where there is no state, the first run makes it."""
    state, _ = _opened(objects, key, host, reads_only=reads_only)
    database, sealing = state.whole
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
        database, sealing = state.whole
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
    """Open the newest generation; return whether there is none, or it was brought up to date."""
    generations = Generations(objects, key)
    numbers = generations.numbers()
    newest = generations.read(numbers[-1]) if numbers else None
    if newest is None and not makes:
        raise errors.ConfigError(
            Text("there is no state at {path}", path=objects.place),
            hint=Text("the first `certferry sync` makes it, and so does `certferry state init`"),
        )
    if newest is None and not reads_only:
        generations.must_be_fit()
    if len(numbers) > KEPT + _SPARE and not reads_only:
        generations.remove_oldest(numbers)
    database, sealing = BucketDatabase(generations, newest, host), Sealing(key)
    try:
        is_changed = databases.migrate(database, upgrade_of(host, sealing))
        if reads_only:
            database.discard()
        [row] = database.rows("SELECT name FROM host LIMIT 1")
    except BaseException:
        database.close()
        raise
    state = BucketState(database, sealing, ThreadLocks(), row["name"], reads_only=reads_only)
    return state, is_changed or newest is None
