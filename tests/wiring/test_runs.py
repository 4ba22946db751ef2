"""The row of a run: stored soon, with few writes, and without hindering the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from certferry.adapters.state.connect import connect
from certferry.config.load import load
from certferry.core.events import Activity, Begun, Event, LineageEnded, StepEnded
from certferry.core.observed.stored_runs import RunEvent, RunKind, RunReport, RunState
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.redaction import Secret
from certferry.errors import StateUnavailable
from certferry.ports.run_store import RunStore
from certferry.ports.state import StateStore
from certferry.reconcile.run import Run
from certferry.text import Text, verbatim
from certferry.wiring.run_row import SOON, RunOptions, RunWriter
from certferry.wiring.runner import RunInProgress
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
from certferry_sandbox.testing.interruptions import Altered, failing
from tests.reconcile.many_certificates import Counted
from tests.support.waiting import eventually

FULL = StateUnavailable(Text("the disk is full"))
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
LATEST = 0.5  # seconds


class GivenState(Workspace):
    """A workspace with a given state."""

    given: Any = None

    @property
    def state(self) -> StateStore:
        """The given state."""
        given_state: StateStore = self.given
        return given_state


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with closing(connect(tmp_path / "state.db", tmp_path / "secret.key")) as opened:
        yield opened


@pytest.fixture
def workspace(tmp_path: Path, store: StateStore) -> GivenState:
    path = tmp_path / "certferry.toml"
    path.write_text(f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n')
    path.chmod(0o600)
    made = GivenState(load(path, {}, ADAPTERS))
    made.given = store
    return made


def activity(subject: str) -> Event:
    return Activity("img", Text("{subject}", subject=subject), NOON)


def writer_of(workspace: Workspace) -> RunWriter:
    return RunWriter(workspace, RunOptions(), "anna@web-1")


def progress_of(store: StateStore, run: str) -> tuple[int | None, int | None]:
    stored = store.stored_run(run)
    assert stored is not None
    return stored.done, stored.count


def begun(writer: RunWriter) -> str:
    writer.try_to_begin()
    assert writer.stored is not None
    return writer.stored.id


def words_of(store: StateStore, run: str) -> list[str]:
    return [str(event.text) for event in store.run_events(run)]


def test_event_is_stored_during_the_run(workspace: GivenState, store: StateStore) -> None:
    """An event is stored within half a second, also after a pause."""
    writer = writer_of(workspace)
    run = begun(writer)
    for count in (1, 2):
        since = time.monotonic()
        writer.listener(activity(f"step {count}"))
        assert eventually(lambda: len(store.run_events(run)) == count)  # noqa: B023 - at once
        assert time.monotonic() - since < LATEST + 2  # two more for a busy machine

    writer.end(RunState.DONE)

    assert ["step 1", "step 2"] == words_of(store, run)
    assert (RunState.DONE, None) == (
        (stored := store.stored_run(run)) and stored.state,
        store.run_report(run),
    )


def test_many_events_are_few_writes(workspace: GivenState, store: StateStore) -> None:
    """Events from many threads are stored once, in the order of their numbers, with a write for
    each `SOON`. Unchanged steps and repeated sentences are left out.
    """
    counted = workspace.given = Counted(store)
    since = time.monotonic()
    writer = writer_of(workspace)
    run = begun(writer)

    def work(name: str) -> None:
        for count in range(100):
            writer.listener(activity(f"{name} {count}"))
            writer.listener(activity(f"{name} {count}"))
            unchanged = StepOutcome(Action.VERIFY, Outcome.UNCHANGED, Text("seen"), "cdn", name)
            writer.listener(StepEnded("img", unchanged))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c", "d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.end(RunState.DONE)

    events = store.run_events(run)
    assert [*range(1, len(events) + 1)] == [event.number for event in events]
    assert {f"{name} {count}" for name in "abcd" for count in range(100)} == {
        str(event.text) for event in events
    }
    last_write = 1  # at the end of the run
    assert counted.calls["append_run_events"] <= (time.monotonic() - since) / SOON + last_write


def test_certificates_that_are_done_are_counted(workspace: GivenState, store: StateStore) -> None:
    """The count is stored soon, also without an event of a certificate. A certificate that is tried
    again is no longer done.
    """
    writer = writer_of(workspace)
    run = begun(writer)

    def must_count(done: int, *events: Event) -> None:
        for event in events:
            writer.listener(event)
        assert eventually(lambda: progress_of(store, run) == (done, 2)), progress_of(store, run)

    must_count(0, Begun(2))
    must_count(2, LineageEnded("img"), LineageEnded("shop"))
    must_count(1, activity("failed; the next try is in a minute"), Begun(1))
    must_count(2, LineageEnded("img"))
    must_count(0, Begun(2))
    writer.end(RunState.DONE)


def test_run_without_work_stores_its_beginning_and_its_end(
    workspace: GivenState, store: StateStore
) -> None:
    """There is no write between them."""
    counted = workspace.given = Counted(store)
    work = RunInProgress(workspace, Run("anna"), RunOptions(RunKind.SYNC, is_whole=False))
    work.writer.try_to_begin()
    work.writer.end(RunState.DONE)

    rows = {name: count for name, count in counted.calls.items() if name in dir(RunStore)}
    assert {"save_run_begin": 1, "save_run_end": 1} == rows


def test_state_that_takes_no_events_for_a_while(workspace: GivenState, store: StateStore) -> None:
    """Refused events are stored together with later events."""
    taken: list[tuple[RunEvent, ...]] = []

    def append(run: str, events: tuple[RunEvent, ...]) -> None:
        if not taken:
            taken.append(events)
            raise FULL
        store.append_run_events(run, events)

    workspace.given = Altered(store, append_run_events=append)
    writer = writer_of(workspace)
    run = begun(writer)
    writer.listener(activity("lost at first"))
    assert eventually(lambda: bool(taken))
    writer.listener(activity("later"))
    writer.end(RunState.FAILED)

    assert ["lost at first", "later"] == words_of(store, run)


@pytest.mark.parametrize(
    "call", ["save_run_begin", "append_run_events", "save_run_end", "begin_run"]
)
def test_state_that_refuses_a_write_of_the_row(
    workspace: GivenState, store: StateStore, call: str
) -> None:
    """The run goes on without an error, and its number is free again."""
    workspace.given = Altered(store, **{call: failing(FULL)})
    writer = writer_of(workspace)
    writer.try_to_begin()
    writer.listener(activity("at work"))
    writer.end(RunState.DONE)

    assert () == store.unended_runs()
    assert not [host for host in store.hosts() if host.running_since]
    assert {RunState.DONE, RunState.DIED} >= {run.state for run in store.stored_runs(10)}


def test_refused_end_is_stored_later(workspace: GivenState, store: StateStore) -> None:
    """The stored row has the moment of the end, the report and the earlier events."""
    writer = RunWriter(workspace, RunOptions(), "anna@web-1", again=0.01)
    run = begun(writer)
    workspace.given = Altered(store, append_run_events=failing(FULL), save_run_end=failing(FULL))
    writer.listener(activity("at work"))
    before = store.now()
    writer.end(RunState.DONE, RunReport({"ok": True}))
    over = store.now()
    assert RunState.DIED is state_of(store, run)

    workspace.given = store

    assert eventually(lambda: state_of(store, run) is RunState.DONE)
    stored = store.stored_run(run)
    assert stored is not None
    assert stored.ended_at is not None
    assert before <= stored.ended_at <= over
    assert store.run_report(run) is not None
    assert ["at work"] == words_of(store, run)


def state_of(store: StateStore, run: str) -> RunState | None:
    stored = store.stored_run(run)
    return None if stored is None else stored.state


def test_no_secret_of_the_process_is_stored(workspace: GivenState, store: StateStore) -> None:
    """A secret is masked at any depth of a sentence."""
    key = Secret("0123456789abcdef-of-the-tests")
    writer = writer_of(workspace)
    run = begun(writer)
    sentence = Text("refused: {why}", why=[verbatim(f"key {key.reveal()} is wrong")])
    writer.listener(Activity("img", sentence, NOON))
    writer.end(RunState.DONE)

    [event] = store.run_events(run)
    assert key.reveal() not in repr(event.text.values) + str(event.text)
    assert "is wrong" in str(event.text)


def test_request_begins_a_single_row(workspace: GivenState, store: StateStore) -> None:
    """The second writer gets the row of the first, and leaves no run of its own."""
    first, second = writer_of(workspace), writer_of(workspace)

    run, again = first.begin("form-1"), second.begin("form-1")

    assert (run, None) == (again, second.stored)
    first.end(RunState.DONE)
    assert not [host for host in store.hosts() if host.running_since]
