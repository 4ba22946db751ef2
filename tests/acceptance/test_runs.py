"""Runs as rows: the user, the events and the result of each run; and runs that are bound to a
confirmed plan.
"""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from subprocess import Popen

import pytest

from certferry.core.observed.stored_runs import RunEvent, RunKind, RunSource, RunState, StoredRun
from certferry.present.documents import rendered
from certferry.present.language import voice_in
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.domains import HttpsConf
from certferry_sandbox.world import World
from tests.acceptance.host import Host
from tests.acceptance.requests_made import NO_REQUESTS
from tests.acceptance.test_stopping import DEADLINE, PROMISED, seconds_to_end
from tests.support.schemas import must_fit
from tests.support.waiting import eventually

IN_ORDER, FAILED, USAGE, PENDING, STOPPED = 0, 1, 2, 4, 130


def runs(host: Host) -> list[StoredRun]:
    """Return every run in the host's state, oldest first."""
    with host.remembering() as store:
        return list(reversed(store.stored_runs(100)))


def events_of(host: Host, run: StoredRun) -> tuple[RunEvent, ...]:
    with host.remembering() as store:
        return store.run_events(run.id)


def digest_of(host: Host, *names: str) -> str:
    document = host.run("plan", *names, "--json").document
    must_fit(document, "plan")
    return str(document["digest"])


# --- A row for each run


def test_every_run_is_a_row(host: Host, name: str) -> None:
    """The rows include the first run, which makes the state, a run without work, a scheduled run,
    an order by hand, a rehearsal and a rollback.
    """
    commands: Sequence[str] = (
        "sync --json",
        f"sync {name}",
        "sync --scheduled",
        f"sync --renew {name}",
        f"rollback {name}",
        "sync --rehearse",
    )
    host.rewrite("[acme]", f'[acme]\nstaging = "{host.world.pebble.directory_url}"')
    outs = [host.run(*command.split()) for command in commands]

    assert [IN_ORDER] * len(commands) == [run.code for run in outs]
    stored = runs(host)
    assert [RunState.DONE] * len(commands) == [run.state for run in stored]
    assert [
        (RunKind.SYNC, RunSource.COMMAND, ()),
        (RunKind.SYNC, RunSource.COMMAND, (name,)),
        (RunKind.SYNC, RunSource.SCHEDULE, ()),
        (RunKind.RENEW, RunSource.COMMAND, (name,)),
        (RunKind.ROLLBACK, RunSource.COMMAND, (name,)),
        (RunKind.REHEARSE, RunSource.COMMAND, ()),
    ] == [(run.kind, run.source, run.names) for run in stored]
    assert {True} == {run.ended_at is not None and run.ended_at >= run.started_at for run in stored}
    [entry, *_] = host.run("history", "--json").document["entries"]
    assert {entry["who"]} == {run.who for run in stored}

    ended = [event.event for event in events_of(host, stored[0]) if event.outcome == "done"]
    assert ["issue.done", "deploy.done", "verify.done"] == ended
    assert () == events_of(host, stored[1])
    with host.remembering() as store:
        report = store.run_report(stored[0].id)
    assert report is not None
    assert outs[0].document == rendered(report.document, voice_in("en"))
    must_fit(rendered(report.document, voice_in("zh")), "sync")


def test_printed_lines_are_the_stored_events(host: Host, name: str) -> None:
    """Each line of the progress is an event, in the same order."""
    run = host.run_apart("sync")

    [stored] = runs(host)
    events = events_of(host, stored)
    printed = [line for line in run.err.splitlines() if line.startswith(f"{name}: ")]
    assert len(printed) == len(events)
    for line, event in zip(printed, events, strict=True):
        assert name == event.lineage
        assert str(event.text) in line


def test_run_that_fails_is_stored_as_failed(host: Host) -> None:
    """The last event is the error: here an account with an unset variable."""
    host.run("sync")
    host.rewrite('secret_key = "', 'secret_key = "env:NOT_THERE" # "')

    assert USAGE == host.run("sync").code

    first, failed = runs(host)
    assert (RunState.DONE, RunState.FAILED) == (first.state, failed.state)
    [event] = events_of(host, failed)
    assert ("config", "failed") == (event.event, event.outcome)
    assert "NOT_THERE" in str(event.text)


def test_run_that_cannot_begin_is_stored_as_failed(host: Host, name: str) -> None:
    """A scheduled run with a wrong file is a row with the error, as long as the file names the
    state. A run for some certificates leaves no row, since an operator reads the error.
    """
    host.run("sync")
    host.rewrite("[[certificates]]", "[[certificates]]\nnmae = 1")

    assert [USAGE, USAGE] == [host.run("sync", *more).code for more in (["--scheduled"], [name])]

    _, failed = runs(host)
    assert (RunState.FAILED, RunSource.SCHEDULE) == (failed.state, failed.source)
    [event] = events_of(host, failed)
    assert "config" == event.event
    assert "nmae" in str(event.text)


def test_run_that_is_stopped(host: Host, name: str) -> None:
    """A signal stores the run as stopped, with its report and its last activity."""
    with at_its_upload(host) as process:
        assert seconds_to_end(process, signal.SIGTERM) < PROMISED

    [run] = runs(host)
    assert RunState.STOPPED is run.state
    with host.remembering() as store:
        report = store.run_report(run.id)
    assert report is not None
    assert not report.document["complete"]
    assert {name} == {event.lineage for event in events_of(host, run)}


def test_run_that_is_killed(host: Host, name: str) -> None:
    """A killed run is shown as dead, with its progress until half a second before; the next run
    does not change the row.
    """
    with at_its_upload(host) as process:
        [run] = runs(host)
        assert RunState.RUNNING is run.state
        assert eventually(lambda: any(event.outcome == "done" for event in events_of(host, run)))
        process.kill()
        process.wait(DEADLINE)

    [run] = runs(host)
    assert (RunState.DIED, None) == (run.state, run.ended_at)
    assert IN_ORDER == host.run("sync").code
    assert [RunState.DIED, RunState.DONE] == [stored.state for stored in runs(host)]


@contextmanager
def at_its_upload(host: Host) -> Iterator[Popen[str]]:
    """Begin a run, for a `with` block during which Qiniu keeps the upload waiting."""
    services = host.world.qiniu.services

    def uploads() -> int:
        return sum(len(service.requests("POST /sslcert")) for service in services)

    before = uploads()
    for service in services:
        service.faults.add(Fault.delay(6), on="POST /sslcert")
    with host.begin("sync") as process:
        assert eventually(lambda: uploads() > before)
        yield process


def test_hook_is_a_run(host: Host, name: str) -> None:
    """The row names the client's hook as its source."""
    host.run("sync")
    assert IN_ORDER == host.run("hook", "qiniu").code

    assert (RunKind.SYNC, RunSource.HOOK, (name,)) == (
        (run := runs(host)[-1]).kind,
        run.source,
        run.names,
    )


def test_run_without_tables_for_runs(host: Host) -> None:
    """The run does its work although its row cannot be stored."""
    host.run("sync")
    with closing(sqlite3.connect(host.state)) as database:
        for table in ("run_report", "run_event", "run"):
            database.execute(f"DROP TABLE {table}")

    run = host.run("sync", "--renew", "--all")

    assert IN_ORDER == run.code, run.err


# --- The confirmed plan


def test_plan_that_was_shown_is_carried_out(host: Host, name: str) -> None:
    """The text and the document have the same digest; after the run the plan is empty."""
    shown = host.run("plan").out
    digest = digest_of(host)
    assert [digest, digest] == [digest_of(host), digest_of(host, name)]
    assert [f"sync --plan {digest}"] == re.findall("sync --plan .*", shown)

    run = host.run("sync", "--plan", digest)

    assert IN_ORDER == run.code, run.err
    assert [digest] == [stored.plan for stored in runs(host)]
    assert "--plan" not in host.run("plan").out
    assert 0 == host.run("plan", "--json").document["changes"]


def test_plan_that_has_changed_is_not_carried_out(world: World, host: Host, name: str) -> None:
    """The changed plan is printed, the run fails, and nothing is changed at any service; a run with
    the new digest succeeds.
    """
    digest = digest_of(host, name)
    host.rewrite(f'domains = ["{name}"]', f'domains = ["{name}"]\nforce_https = true')

    text = host.run("sync", name, "--plan", digest)
    document = host.run("sync", "--json", "--plan", digest)

    for run in (text, document):
        assert PENDING == run.code, run
        assert (0, 0) == (run.left.orders, run.left.qiniu_writes)
        assert "the plan differs from the confirmed plan" in run.err
    assert "issue" in text.out
    must_fit(document.document, "sync")
    assert "plan_changed" == document.document["error"]["code"]
    now = document.document["plan"]["digest"]
    assert digest != now
    if host.state.exists():
        assert {RunState.FAILED} == {run.state for run in runs(host)}
        assert {("plan_changed",)} == {
            tuple(event.event for event in events_of(host, run)) for run in runs(host)
        }
    assert IN_ORDER == host.run("sync", "--plan", now).code


def test_order_that_was_shown_is_made(host: Host, name: str) -> None:
    """`--renew` and `--plan` go together: the confirmed renewal is ordered once."""
    host.run("sync")
    document = host.run("plan", "--renew", name, "--json").document

    run = host.run("sync", "--renew", name, "--plan", document["digest"])

    assert (IN_ORDER, 1) == (run.code, run.left.orders), run.err
    assert PENDING == host.run("sync", name, "--plan", document["digest"]).code


def test_binding_that_only_the_edges_show(world: World, host: Host, name: str) -> None:
    """Another tool binds its certificate, and only the edges show the change. `plan` and `status`
    report the bound certificate, and the digest of the earlier plan is refused.
    """
    assert IN_ORDER == host.run("sync").code
    before, ours = digest_of(host), world.qiniu.domain(name).https.certificate
    foreign = world.qiniu.add_certificate(world.old_certificate(name), f"{name} by hand")
    [certificate] = [copy for copy in world.qiniu.certificates.stored() if copy.id == foreign]
    world.qiniu.change_in_console(name, HttpsConf(certificate), listed=False)

    planned, status = host.run("plan", "--json").document, host.run("status", "--json").document
    refused = host.run("sync", "--plan", before)

    [plan] = planned["certificates"]
    assert ["deploy", "verify"] == [step["action"] for step in plan["steps"]]
    [standing] = status["certificates"][0]["domains"]
    assert ("drifted", foreign) == (standing["state"], standing["remote_id"])
    assert (PENDING, 0) == (refused.code, refused.left.qiniu_writes)
    assert certificate == world.qiniu.domain(name).https.certificate
    assert IN_ORDER == host.run("sync", "--plan", planned["digest"]).code
    assert ours == world.qiniu.domain(name).https.certificate


@pytest.mark.parametrize(
    "words", ["latest", "0123", f"{'a' * 32} --scheduled", f"{'a' * 32} --rehearse"]
)
def test_malformed_digest(host: Host, words: str) -> None:
    """A wrong digest and an option that excludes a plan are refused with a single sentence; no
    service is asked.
    """
    run = host.run("-q", "sync", "--plan", *words.split())

    assert (USAGE, NO_REQUESTS) == (run.code, run.left)
    assert run.complaint.error
