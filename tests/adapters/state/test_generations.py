"""A state in a bucket: a sequence of generations, each created once; the newest is the state."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certferry.adapters.state import generations
from certferry.adapters.state.connect import connect, open_whole, prepare
from certferry.adapters.state.generations import (
    KEPT,
    LONGEST_RUN,
    MAY_BE_LOST,
    BucketDatabase,
    BucketState,
    Generations,
)
from certferry.adapters.state.move import Address, rotate
from certferry.adapters.state.sealing import key_of, new_key
from certferry.core.certificates.certificate import KeyType
from certferry.core.observed.records import HistoryEntry
from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    DatabaseUnavailable,
    LeaseHeld,
    StateNotStored,
    StateOvertaken,
    StateTooNew,
    StateTooOld,
)
from certferry.ports.objects import not_readable
from certferry.ports.state import AcmeOrder, StateStore, holding, must_still_hold
from certferry.text import Text
from certferry_sandbox.testing.memory_objects import MemoryObjects

KEY = Secret(new_key())
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ORDER = AcmeOrder("img", "https://ca", "https://ca/1", ("a.b",), Secret("k"), NOW, KeyType.EC256)


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


def opened(objects: MemoryObjects, *, reads_only: bool = False, key: Secret = KEY) -> BucketState:
    return generations.connect(objects, key, "runner", reads_only=reads_only)


def numbers(objects: MemoryObjects) -> list[int]:
    return [int(name) for name in sorted(objects.objects)]


def note(state: StateStore, event: str) -> None:
    """Write a row that may be lost."""
    state.append_history(HistoryEntry(NOW, "img", event, "anna", {}))


def events(objects: MemoryObjects) -> list[str]:
    with closing(opened(objects, reads_only=True)) as state:
        return [entry.event for entry in state.history("img", 100)]


# --- The content and the moment of each generation


def test_writes_are_stored_before_dependent_calls(objects: MemoryObjects) -> None:
    """The first call under a lease stores the lease, and each further call the orders before;
    writes that may be lost wait for the end.
    """
    prepare(objects, KEY, init=True)
    with closing(opened(objects)) as state:
        lease = state.acquire("img", NOW)
        assert [1] == numbers(objects)
        with holding(state, lease):
            must_still_hold()
            assert [1, 2] == numbers(objects)
            note(state, "looked")
            must_still_hold()
            assert [1, 2] == numbers(objects)
            state.save_order(lease, ORDER)
            must_still_hold()
            assert [1, 2, 3] == numbers(objects)
        state.release(lease)
        must_still_hold()
        assert [1, 2, 3] == numbers(objects)
    assert [1, 2, 3, 4] == numbers(objects)
    assert ["looked"] == events(objects)


def test_run_without_changes_stores_no_generation(objects: MemoryObjects) -> None:
    """Two reads leave the bucket unchanged, even with a note that may be lost."""
    with closing(opened(objects)) as state:
        note(state, "begun")
    before = dict(objects.objects)

    with closing(opened(objects)) as state:
        assert 1 == len(state.history("img", 10))
    with closing(opened(objects, reads_only=True)) as reader:
        note(reader, "read")

    assert before == objects.objects


def test_every_table_is_classified(objects: MemoryObjects) -> None:
    """A table outside of `MAY_BE_LOST` is stored before the next call."""
    with closing(opened(objects)) as state:
        database, _ = state.database_and_sealing
        tables = {
            row["name"]
            for row in database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
        }
    stored = (
        "acme_account acme_order certferry_migration certferry_schema challenge_record failed_proof"
        " hold issuance issue_try lease moved own_digest rollout sealing sqlite_sequence upload"
        " version version_pem withdrawal"
    )
    assert tables >= MAY_BE_LOST
    assert {*stored.split()} >= tables - MAY_BE_LOST


def test_threads_that_write_at_once(objects: MemoryObjects) -> None:
    """Each thread's write is in the bucket before the thread's next call, and all writes are there
    at the end.
    """
    missing: list[str] = []

    def work(state: StateStore, lineage: str) -> None:
        lease = state.acquire(lineage, NOW)
        with holding(state, lease):
            for number in range(5):
                order = AcmeOrder(lineage, "d", f"u{number}", ("a.b",), Secret("k"), NOW)
                state.save_order(lease, order)
                must_still_hold()
                with closing(opened(objects, reads_only=True)) as reader:
                    order_in_bucket = reader.order(lineage)
                if order_in_bucket is None or order_in_bucket.url < order.url:
                    missing.append(f"{lineage} {number}")
        state.release(lease)

    with closing(opened(objects)) as state:
        threads = [threading.Thread(target=work, args=(state, f"l{n}")) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [] == missing
    with closing(opened(objects)) as state:
        assert ["u4"] * 6 == [order.url for n in range(6) if (order := state.order(f"l{n}"))]


def test_many_generations(objects: MemoryObjects) -> None:
    """The oldest generations are deleted, thirty stay, and their chain is intact."""
    for number in range(KEPT + generations._SPARE + 2):  # noqa: SLF001 - the number of spare generations
        with closing(opened(objects)) as state:
            note(state, str(number))
    assert KEPT + 1 == len(objects.objects)
    with closing(opened(objects, reads_only=True)) as state:
        assert () == state.damage()


# --- Two runs at once


def test_two_runs_from_the_same_generation(objects: MemoryObjects) -> None:
    """The first run continues; the second makes no call under its lease, and stores nothing."""
    with closing(opened(objects)) as first:
        note(first, "before")
    first, second = opened(objects), opened(objects)
    lease, other = first.acquire("img", NOW), second.acquire("img", NOW)
    with holding(first, lease):
        must_still_hold()
    with holding(second, other):
        for _ in range(2):
            with pytest.raises(StateOvertaken, match="another run has stored the state"):
                must_still_hold()
    calls = len(objects.calls)
    note(second, "in vain")
    with pytest.raises(StateOvertaken):
        second.close()
    assert calls == len(objects.calls)
    note(first, "after")
    first.close()
    assert ["after", "before"] == events(objects)


def test_later_run_takes_over(objects: MemoryObjects) -> None:
    """A second run takes over as after a kill; the first run ends before its next call that depends
    on a write.
    """
    earlier = opened(objects)
    lease = earlier.acquire("img", NOW)
    with holding(earlier, lease):
        must_still_hold()
        later = opened(objects)
        later_lease = later.acquire("img", NOW)
        with holding(later, later_lease):
            must_still_hold()
        must_still_hold()  # no write is waiting
        earlier.save_order(lease, ORDER)
        with pytest.raises(StateOvertaken):
            must_still_hold()
    later.close()
    with pytest.raises(StateOvertaken):
        earlier.close()


def test_first_runs_at_once(objects: MemoryObjects) -> None:
    """A single run makes the state."""
    states = [opened(objects) for _ in range(3)]
    for number, state in enumerate(states):
        note(state, str(number))
    states[1].close()
    for late in (states[0], states[2]):
        with pytest.raises(StateOvertaken):
            late.close()
    assert ["1"] == events(objects)


# --- A run that may continue elsewhere


def test_unended_run_is_reported_after_the_longest_run(
    objects: MemoryObjects,
) -> None:
    """Earlier, the run may continue elsewhere: no notice, and the state is neither moved nor
    rotated.
    """
    first = opened(objects)
    first.begin_run(first.now() - LONGEST_RUN + timedelta(minutes=5))
    first.flush()

    with closing(opened(objects, reads_only=True)) as reader:
        assert () == reader.unended_runs()
        assert [True] == [host.running_since is not None for host in reader.hosts()]
    with pytest.raises(LeaseHeld):
        rotate(Address(objects, KEY), Secret(new_key()), "runner", NOW)

    with closing(opened(objects)) as second:
        begun = second.begin_run(second.now() - LONGEST_RUN - timedelta(minutes=1))
        assert () == second.unended_runs()  # the run itself does not count
        assert 1 == begun.number
    with closing(opened(objects, reads_only=True)) as reader:
        assert 1 == len(reader.unended_runs())


# --- The bucket fails


def failing(call: str, failures: int) -> Callable[[str, str], None]:
    """Return a hook that fails so many times at this call to a bucket."""
    remaining = [failures]

    def fail(current_call: str, _: str) -> None:
        if current_call == call and remaining[0]:
            remaining[0] -= 1
            raise DatabaseUnavailable(Text("the bucket does not answer"))

    return fail


@pytest.mark.parametrize("when", ["before", "after"])
def test_failed_bucket_ends_the_run(objects: MemoryObjects, when: str) -> None:
    """The error is distinct from a failed step. The end of the run stores everything, whether or
    not the failed generation was created.
    """
    with closing(opened(objects)) as state:
        lease = state.acquire("img", NOW)
        with holding(state, lease):
            must_still_hold()
            setattr(objects, when, failing("create", 1))
            state.save_order(lease, ORDER)
            with pytest.raises(StateNotStored, match="the bucket does not answer"):
                must_still_hold()
        note(state, "ended")
    assert ["ended"] == events(objects)
    with closing(opened(objects)) as state:
        assert state.order("img") == ORDER
        assert () == state.damage()


def test_failure_to_store_the_end_is_reported_once(objects: MemoryObjects) -> None:
    """Closing is silent after `flush` has reported the error."""
    state = opened(objects)
    note(state, "done")
    objects.before = failing("create", 99)
    with pytest.raises(DatabaseUnavailable):
        state.flush()
    state.close()
    assert [] == numbers(objects)


# --- The content of the bucket


def test_bucket_is_probed_before_the_first_generation(objects: MemoryObjects) -> None:
    """The bucket is probed once, and the probe is removed."""
    for _ in range(2):
        with closing(opened(objects)) as state:
            note(state, "run")
    probes = [call for call, name in objects.calls if name.startswith("probe-")]
    assert ["create", "create", "anybody", "remove"] == probes
    assert [1, 2] == numbers(objects)


def test_bucket_that_overwrites(objects: MemoryObjects) -> None:
    """The bucket is refused before the first generation."""
    objects.overwrites = True
    with pytest.raises(ConfigError, match="overwrites objects that certferry creates only"):
        opened(objects)
    assert {} == objects.objects


def test_public_bucket(objects: MemoryObjects) -> None:
    """A public bucket is refused; the check reports a bucket that becomes public later."""
    objects.is_private = False
    with pytest.raises(ConfigError, match="is public"):
        opened(objects)
    assert {} == objects.objects

    objects.is_private = True
    with closing(opened(objects)) as state:
        note(state, "run")
    objects.is_private = False
    with closing(opened(objects, reads_only=True)) as state:
        assert ["memory://bucket is public: anyone can read it without a key"] == [
            str(error.message) for error in state.damage()
        ]


@pytest.fixture
def three(objects: MemoryObjects) -> MemoryObjects:
    """A bucket with three generations."""
    for number in (1, 2, 3):
        with closing(opened(objects)) as state:
            note(state, str(number))
    return objects


def test_generation_of_another_key(three: MemoryObjects) -> None:
    """The error differs from the error about a changed generation."""
    with pytest.raises(ConfigError, match="was sealed with another key"):
        opened(three, key=Secret(new_key()))


@pytest.mark.parametrize("length", [0, 10, 150, 400, -1])
def test_truncated_generation(three: MemoryObjects, length: int) -> None:
    """Truncation anywhere is an error; without the generation, the run continues from its
    predecessor.
    """
    name = max(three.objects)
    three.objects[name] = three.objects[name][:length]
    with pytest.raises(ConfigError, match="generation 3 in memory://bucket is not as"):
        opened(three)
    del three.objects[name]
    assert ["2", "1"] == events(three)


def test_older_generation_under_a_newer_number(three: MemoryObjects) -> None:
    """The number is sealed with the generation."""
    first, _, last = sorted(three.objects)
    three.objects[last] = three.objects[first]
    with pytest.raises(ConfigError, match="generation 3 in memory://bucket is not as"):
        opened(three)


def test_broken_chain(three: MemoryObjects) -> None:
    """The check names the generation whose successor was made from another generation."""
    with closing(opened(three, reads_only=True)) as state:
        assert () == state.damage()
    _, second, last = sorted(three.objects)
    third = three.objects.pop(last)
    del three.objects[second]
    with closing(opened(three)) as state:
        note(state, "another second")
    three.objects[last] = third
    with closing(opened(three, reads_only=True)) as state:
        [broken] = state.damage()
    assert "the generation after 2 in memory://bucket was made from a different one" == str(
        broken.message
    )


def test_gap_between_generations(three: MemoryObjects) -> None:
    """The check names the generations on both sides; a run continues from the newest."""
    _, second, _ = sorted(three.objects)
    del three.objects[second]
    with closing(opened(three)) as state:
        [gap] = state.damage()
        note(state, "4")
    assert "memory://bucket has the generations 1 and 3, but none in between" == str(gap.message)
    assert ["4", "3", "2", "1"] == events(three)


def test_interrupted_deletion_of_old_generations(objects: MemoryObjects) -> None:
    """A gap among the generations to delete is no damage."""
    for number in range(KEPT + 3):
        with closing(opened(objects)) as state:
            note(state, str(number))
    del objects.objects[sorted(objects.objects)[1]]
    with closing(opened(objects, reads_only=True)) as state:
        assert () == state.damage()


def test_exchanged_states_with_the_same_key(three: MemoryObjects) -> None:
    """A generation is bound to its bucket and prefix, but not to the API."""
    other = MemoryObjects("memory://bucket/other")
    other.objects = dict(three.objects)
    with pytest.raises(
        ConfigError, match="generation 3 in memory://bucket/other belongs to the state in bucket"
    ):
        opened(other)
    same = MemoryObjects("s3://bucket")
    same.objects = three.objects
    assert ["3", "2", "1"] == events(same)


def test_generation_without_a_place(three: MemoryObjects) -> None:
    """A generation of an earlier version is read; the next generation names the bucket."""
    bucket = Generations(three, KEY)
    newest = bucket.read(3)
    facts = json.dumps({"certferry": 1, "number": 3, "before": newest.digest}).encode()
    cipher, nonce = AESGCM(key_of(KEY)), bytes(12)
    sealed = cipher.encrypt(nonce, zlib.compress(newest.content), facts)
    three.objects[max(three.objects)] = facts + b"\n" + nonce + sealed
    with closing(opened(three)) as state:
        note(state, "4")
    assert b'"place": "bucket"' in three.objects[max(three.objects)]


@pytest.mark.parametrize("line", [b"[" * 100_000, b"[[]]", b"7", b'{"number": NaN}'])
def test_unreadable_first_line(three: MemoryObjects, line: bytes) -> None:
    """Opening refuses the generation like any changed generation; the check reports no damage of
    the chain.
    """
    name = max(three.objects)
    with closing(opened(three)) as state:
        three.objects[name] = line + b"\n" + three.objects[name].partition(b"\n")[2]
        assert () == state.damage()
    with pytest.raises(ConfigError, match="generation 3 in memory://bucket is not as"):
        opened(three)


def test_generation_listed_before_it_is_readable(three: MemoryObjects) -> None:
    """The error asks to wait."""

    def not_yet(call: str, name: str) -> None:
        if call == "read":
            raise not_readable(three.place, name)

    three.before = not_yet
    with pytest.raises(DatabaseUnavailable, match="lists 0000000003, but cannot return it"):
        opened(three)


def test_other_objects_in_the_bucket(three: MemoryObjects) -> None:
    """Other objects are neither read nor deleted."""
    three.objects |= {"readme.txt": b"hello", "12": b"", "probe-x": b""}
    with closing(opened(three)) as state:
        note(state, "4")
    assert ["4", "3", "2", "1"] == events(three)
    assert b"hello" == three.objects["readme.txt"]


# --- Schemas of other versions, a new key, `state init` and `state migrate`


def with_schema(objects: MemoryObjects, change: str) -> None:
    """Change the newest generation, as another release would have stored it."""
    bucket = Generations(objects, KEY)
    last = bucket.numbers()[-1]
    newest = bucket.read(last)
    with closing(BucketDatabase(bucket, newest, "runner")) as database:
        database.run(lambda transaction: transaction.execute(change))
        database.store()


def test_newer_schema(three: MemoryObjects) -> None:
    """Opening is refused, and the bucket stays unchanged."""
    with_schema(three, "INSERT INTO certferry_migration VALUES (999, '999_future')")
    before = dict(three.objects)
    with pytest.raises(StateTooNew, match="written by a newer certferry"):
        opened(three)
    assert before == three.objects


def test_schema_from_before_the_first_release(three: MemoryObjects) -> None:
    """Opening, migrating and reading refuse the state, and every object stays unchanged."""
    with_schema(three, "UPDATE certferry_migration SET number = 22")
    before = dict(three.objects)
    for open_it in (
        lambda: connect(three, KEY),
        lambda: connect(three, KEY, reads_only=True),
        lambda: prepare(three, KEY, init=False),
    ):
        with pytest.raises(StateTooOld, match="from before the first release: schema 22"):
            open_it()
    assert before == three.objects


def test_init(objects: MemoryObjects) -> None:
    """`init` makes the state once, sealed; before, migrating and moving are refused."""
    for ask in (lambda: prepare(objects, KEY, init=False), lambda: open_whole(objects, KEY)):
        with pytest.raises(ConfigError, match="there is no state at memory://bucket"):
            ask()
    assert prepare(objects, KEY, init=True)
    assert not prepare(objects, KEY, init=True)
    with closing(connect(objects, KEY)) as state:
        assert state.is_sealed()


def test_new_key(three: MemoryObjects) -> None:
    """The new key opens later generations; the old key opens older generations."""
    new = Secret(new_key())
    with closing(opened(three)) as state:
        state.save_order(state.acquire("img", NOW), ORDER)
    rotate(Address(three, KEY), new, "runner", NOW)

    with pytest.raises(ConfigError, match="sealed with another key"):
        opened(three)
    with closing(opened(three, key=new)) as state:
        assert state.order("img") == ORDER
        assert () == state.damage()
        assert () == state.unopened()
    del three.objects[max(three.objects)]
    with closing(opened(three)) as before:
        assert before.order("img") == ORDER
