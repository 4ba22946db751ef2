"""Runs as pages: started by a form, followed live, and read afterwards, with real runs in the
world.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import requests

from certferry.console.following import ASK_EVERY, AT_ONCE, MOST_OF_ONE, Feeds
from certferry.console.run_results import SHOWN_IN_ORDER, SHOWN_PROBLEMS, report_view
from certferry.console.runs import STATES, row_of
from certferry.console.runs_in_progress import present_work
from certferry.core.access import Role, User, digest_of_secret
from certferry.core.observed.stored_runs import (
    RunEvent,
    RunKind,
    RunReport,
    RunSource,
    RunState,
    StoredRun,
)
from certferry.ports.run_store import RunStore
from certferry.ports.state import StateStore
from certferry.present.language import Voice
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.settings import load_checked
from certferry_sandbox.testing.memory_state import MemoryState
from tests.acceptance.host import Host
from tests.console.machine import SECRET, Machine, console_of, fields_of, served_to
from tests.console.serving import ANNA, console
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
VIEWER = User("bob", Role.VIEWER, NOON)
HOSTILE = '"><script>alert(1)</script>\u202e'


@pytest.fixture
def machine(host: Host) -> Iterator[Machine]:
    """The console of a machine before the first run."""
    with console_of(host) as served:
        yield served


@dataclass(frozen=True)
class Message:
    """A server-sent event."""

    event: str
    data: str
    number: int | None


def messages(answer: requests.Response) -> Iterator[Message]:
    """Read server-sent events as a browser does (HTML Standard)."""
    fields: dict[str, list[str]] = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if line and not line.startswith(":"):
            key, _, value = line.partition(": ")
            fields.setdefault(key, []).append(value)
        elif not line and "data" in fields:
            number = int(fields["id"][0]) if "id" in fields else None
            yield Message(fields["event"][0], "\n".join(fields["data"]), number)
            fields = {}


def follow(machine: Machine, page: str, *, last: int | None = None) -> requests.Response:
    """Open the stream of a run. `last` is the number of the last event the reader has."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    return machine.ask("GET", f"{page}/events", headers=headers, stream=True)


# --- a run in the world


def test_form_starts_a_run_followed_to_the_end(machine: Machine) -> None:
    """The stream has each event once, in order. Afterwards, the run's page, the list and the API
    show the run.
    """
    fields = fields_of(machine.get("/runs").text, "Sync all certificates now")
    page = machine.post("/runs", kind="sync", **fields).headers["Location"]

    with follow(machine, page) as answer:
        seen = list(messages(answer))

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert "no" == answer.headers["X-Accel-Buffering"]
    assert "begun" == seen[0].event
    assert "ended" == seen[-1].event
    numbers = [message.number for message in seen if message.event == "event"]
    assert [*range(1, len(numbers) + 1)] == numbers

    whole = machine.get(page).text
    assert "Finished; nothing needs attention" in whole
    assert all(message.data.strip() in whole for message in seen if message.event == "event")
    assert "served by every address that answers" in whole
    assert f'href="{page}"' in machine.get("/runs").text
    document = machine.get(f"/api/v1{page}").json()
    assert (["anna", "console", "done"]) == [document[key] for key in ("who", "from", "state")]
    assert numbers == [event["number"] for event in document["events"]]
    assert document["report"]["ok"]
    assert (1, 1) == (document["done"], document["count"])
    assert "1 changed" in whole.partition("<main")[2]
    assert any(
        "certificate done" in message.data for message in seen if message.event == "progress"
    )


def test_form_sent_twice_starts_a_single_run(machine: Machine) -> None:
    """A repeated form leads to the same run, even after the end of the run."""
    fields = {"kind": "sync", "request": "once"}

    pages = {machine.run(**fields) for _ in range(3)}

    assert 1 == len(pages)
    assert 1 == len(machine.state.stored_runs(10))
    assert machine.run(kind="sync", request="another") not in pages


def test_rehearsal_of_a_certificate_before_its_renewal(tmp_path: Path) -> None:
    """The field `renew` counts for rehearsals only, so a sync never renews early."""
    with console(tmp_path) as served:
        served.add_user("anna")
        browser = served.logged_in()
        for kind in ("rehearse", "sync"):
            for fields in ({}, {"renew": "1"}):
                assert 303 == served.post(browser, "/runs", kind=kind, **fields).status_code

    assert [False, True, False, False] == served.began.early


def test_returning_reader_gets_the_missed_events(machine: Machine) -> None:
    """The stream begins after the last event the reader has."""
    page = machine.run(kind="sync")
    last = machine.state.run_events(page.removeprefix("/runs/"))[-1].number
    assert last > 1

    for had in (0, 1, last - 1, last, last + 7):
        with follow(machine, page, last=had) as answer:
            numbers = [message.number for message in messages(answer) if message.number is not None]
        assert [*range(had + 1, last + 1)] == numbers


@pytest.mark.parametrize("last", ["x", "-1", "9" * 50, "%EF%BC%91"])
def test_reader_with_an_invalid_number_gets_all_events(machine: Machine, last: str) -> None:
    """If the client's number is invalid, the stream begins with the first event."""
    page = machine.run(kind="sync")

    answer = machine.get(f"{page}/events?after={last}")

    assert "id: 1\n" in answer.content.decode()


def test_run_from_a_terminal_has_a_page(host: Host) -> None:
    """The page has the events and the report, and names the command line as the source."""
    host.run("sync")

    with console_of(host) as machine:
        (run,) = machine.state.stored_runs(10)
        page = machine.get(f"/runs/{run.id}").text
        listed = machine.get("/runs").text

    assert "command line" in page
    assert "command line" in listed
    assert "served by every address that answers" in page
    assert run.who in listed


def test_failed_run_shows_the_reason(machine: Machine, name: str) -> None:
    """The page has the reason and a hint."""
    page = machine.get(machine.run(kind="rollback", names=name)).text

    assert "Finished; something needs attention" in page
    assert "failed" in page
    assert "hint: " in page


def test_only_a_run_of_this_process_is_stopped(machine: Machine, stored: Stored) -> None:
    """The run stops at a safe point. The console refuses to stop an ended run, and a run of another
    process.
    """
    page = machine.post("/runs", kind="sync").headers["Location"]
    assert page == machine.post(f"{page}/stop").headers["Location"]
    machine.runner.wait_for(page.removeprefix("/runs/"))
    assert "Stopped before the end" in machine.get(page).text

    assert "has ended" in machine.post(f"{page}/stop", 409).text
    assert "has ended" in stored.machine.post(f"/runs/{stored.add_living().id}/stop", 409).text
    machine.post("/runs/none/stop", 404)


def test_wrong_names_start_no_run(machine: Machine) -> None:
    """An unknown certificate is refused, and so are a renewal and a rollback without names."""
    for kind, names in (("sync", ["other.example.net"]), ("renew", []), ("rollback", [])):
        fields = {"kind": kind, "names": names}
        machine.post("/runs", 400, **fields)

    assert () == machine.state.stored_runs(10)


# --- refusals


def test_viewer_starts_no_run(host: Host) -> None:
    """The console hides the button from a viewer, and refuses to start or stop a run."""
    with console_of(host, VIEWER) as machine:
        assert "Sync all certificates now" not in machine.get("/runs").text
        machine.post("/runs", 403, kind="sync")
        machine.post("/runs/x/stop", 403)
        assert () == machine.state.stored_runs(10)


@pytest.mark.parametrize("fields", [{}, {"kind": ""}, {"kind": "revoke"}])
def test_form_without_a_kind_starts_no_run(machine: Machine, fields: dict[str, str]) -> None:
    """A missing, empty or unknown kind is refused."""
    machine.post("/runs", 400, **fields)

    assert () == machine.state.stored_runs(10)


@pytest.mark.parametrize("path", ["/runs/none", "/runs/none/events", "/runs/%2e%2e"])
def test_unknown_run_is_not_found(machine: Machine, path: str) -> None:
    """The page and the stream of an unknown run are answered with 404."""
    machine.get(path, 404)


# --- stored runs, without a world


@dataclass(frozen=True)
class Stored:
    """A console over a state with runs written by a test."""

    machine: Machine
    state: StateStore

    def add(self, nth: int, **more: Any) -> StoredRun:
        """Store the beginning of a run. `more` has fields of `StoredRun`."""
        began, source = NOON + timedelta(minutes=nth), RunSource.SCHEDULE
        run = StoredRun(f"run-{nth:04}", RunKind.SYNC, source, "root@web-1", "web-1", began)
        run = replace(run, **more)
        self.state.save_run_begin(run)
        return run

    def add_living(self) -> StoredRun:
        """Store the beginning of a run of this process."""
        return self.add(1, number=self.state.begin_run(NOON).number, host=self.state.host)


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """A console of a machine with a single declared certificate."""
    config = tmp_path / "certferry.toml"
    config.touch(0o600)
    config.write_text(
        f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n'
        '[[certificates]]\nname = "img"\nnames = ["img.example.com"]\n'
        'dns = "dnspod"\n[accounts.dnspod]\nid = "1"\nkey = "x"\n'
    )
    with served_to(load_checked(config, {}), ANNA) as machine:
        yield Stored(machine, machine.state)


def test_killed_run_is_shown_as_interrupted(stored: Stored) -> None:
    """The page and the list show the run as interrupted, and the stream ends."""
    run = stored.add(1, number=4711)

    assert "Interrupted, because its process ended" in stored.machine.get(f"/runs/{run.id}").text
    assert "event: ended" in stored.machine.get(f"/runs/{run.id}/events").text
    assert "interrupted" in stored.machine.get("/runs").text


def test_runs_are_listed_by_pages_and_filters(stored: Stored) -> None:
    """Runs are listed newest first, and the links to other pages keep the filter. A run for all
    certificates matches every certificate.
    """
    for number in range(60):
        host_, names = ("web-1", ()) if number % 2 else ("web-2", ("img",))
        run = stored.add(number, host=host_, names=names)
        stored.state.save_run_end(run.id, RunState.DONE, NOON + timedelta(days=1), None)

    def listed(path: str) -> list[str]:
        page = stored.machine.get(path).text
        return [part.split('"')[0] for part in page.split('href="/runs/')[1:]]

    first = stored.machine.get("/runs").text.partition("<main")[2]
    older = first.split('href="/runs?')[1].split('"')[0].replace("&amp;", "&")
    newest_first = [f"run-{number:04}" for number in reversed(range(60))]
    assert newest_first == listed("/runs") + listed(f"/runs?{older}")
    assert newest_first[1::2] == listed("/runs?host=web-2")
    assert newest_first[:50] == listed("/runs?name=img")
    assert newest_first[::2] == listed("/runs?name=other")
    assert [] == listed("/runs?who=anna")
    assert "No runs match the filter." in stored.machine.get("/runs?who=anna").text


def test_every_event_of_a_long_run_can_be_read(stored: Stored) -> None:
    """The page begins with the latest events. Links lead back to the first event, and forth
    again.
    """
    run, every = stored.add(1), [*range(1, 251)]
    words = Text("here")
    events = [RunEvent(number, NOON, "img", "activity", words) for number in every]
    stored.state.append_run_events(run.id, events)

    def read(rel: str, path: str) -> list[list[int]]:
        page = stored.machine.get(path).text
        pages = [[int(number) for number in re.findall(r'data-number="(\d+)"', page)]]
        for link in re.findall(rf'<a rel="{rel}" href="([^"]+)"', page):
            pages += read(rel, link)
        return pages

    back, forth = read("prev", f"/runs/{run.id}"), read("next", f"/runs/{run.id}?after=0")
    assert every[-100:] == back[0]
    assert set(every) == {number for page in back for number in page}
    assert every == [number for page in forth for number in page]


def test_foreign_words_are_escaped(stored: Stored) -> None:
    """Pages and the stream escape names, hosts and the words of services."""
    run = stored.add(1, who=HOSTILE, names=(HOSTILE,), plan=HOSTILE)
    words = Text("{words}", words=HOSTILE)
    event = RunEvent(1, NOON, HOSTILE, HOSTILE, words, HOSTILE, HOSTILE, HOSTILE)
    stored.state.append_run_events(run.id, [event])
    keys = ("action", "target", "domain", "label", "outcome", "detail", "hint")
    step = dict.fromkeys(keys, HOSTILE)
    report = {"certificates": [{"name": HOSTILE, "result": HOSTILE, "steps": [step]}]}
    stored.state.save_run_end(run.id, RunState.DONE, NOON, RunReport(report))

    for path in ("/runs", f"/runs/{run.id}", f"/runs/{run.id}/events"):
        page = stored.machine.get(path).content.decode()
        assert "alert(1)" in page
        assert "<script>alert" not in page
        assert "\u202e" not in page


def test_twenty_readers_of_a_run_get_each_event(stored: Stored) -> None:
    """Each reader gets each event and the end."""
    run = stored.add_living()
    heard: list[int] = []

    def listen() -> None:
        with follow(stored.machine, f"/runs/{run.id}") as answer:
            heard.extend(
                message.number for message in messages(answer) if message.number is not None
            )

    readers = [threading.Thread(target=listen, daemon=True) for _ in range(20)]
    for reader in readers:
        reader.start()
    words = Text("here")
    stored.state.append_run_events(run.id, [RunEvent(1, NOON, "img", "activity", words)])
    stored.state.save_run_end(run.id, RunState.DONE, NOON, None)
    for reader in readers:
        reader.join(20)

    assert [1] * 20 == heard


def test_streams_of_a_viewer_are_limited(stored: Stored) -> None:
    """Above the limit, a viewer's oldest streams end. The other streams continue."""
    run = stored.add_living()
    with ExitStack() as stack:
        streams = []
        for _ in range(MOST_OF_ONE + 2):
            stream = messages(stack.enter_context(follow(stored.machine, f"/runs/{run.id}")))
            assert "begun" == next(stream).event
            streams.append(stream)
        assert [["ended"], ["ended"]] == [
            [message.event for message in stream] for stream in streams[:2]
        ]

        words = Text("here")
        stored.state.append_run_events(run.id, [RunEvent(1, NOON, "img", "activity", words)])
        assert ["event"] * MOST_OF_ONE == [next(stream).event for stream in streams[2:]]


def test_reader_far_behind_gets_every_event(stored: Stored) -> None:
    """Events older than the shared buffer are read from the state."""
    run, every = stored.add_living(), [*range(1, 2 * AT_ONCE + 2)]
    for begin in range(0, len(every), AT_ONCE):
        events = [
            RunEvent(number, NOON, "img", "activity", Text("here"))
            for number in every[begin:][:AT_ONCE]
        ]
        stored.state.append_run_events(run.id, events)
    with follow(stored.machine, f"/runs/{run.id}", last=len(every) - 1) as early:
        assert [None, len(every)] == [next(m).number for m in [messages(early)] * 2]
        stored.state.save_run_end(run.id, RunState.DONE, NOON, None)
        with follow(stored.machine, f"/runs/{run.id}") as late:
            numbers = [message.number for message in messages(late) if message.number is not None]

    assert every == numbers


def test_head_of_a_stream_is_answered_at_once(stored: Stored) -> None:
    """`HEAD` is answered at once, so a monitor does not wait for the end of the run."""
    run = stored.add_living()

    answer = stored.machine.ask("HEAD", f"/runs/{run.id}/events")

    assert 200 == answer.status_code
    assert answer.headers["Content-Type"].startswith("text/event-stream")


def test_stream_ends_with_the_process(stored: Stored) -> None:
    """A run in progress does not keep the console from ending."""
    run = stored.add_living()

    with follow(stored.machine, f"/runs/{run.id}") as answer:
        stream = messages(answer)
        assert "begun" == next(stream).event
        stored.machine.site.closing.set()
        assert [] == list(stream)


@dataclass
class Counted:
    """Runs that count the requests for events."""

    state: MemoryState
    asked: int = 0

    def stored_run(self, run: str) -> StoredRun | None:
        return self.state.stored_run(run)

    def run_events(self, run: str, after: int = 0, limit: int = 1000) -> tuple[RunEvent, ...]:
        self.asked += 1
        return self.state.run_events(run, after, limit)


def test_twenty_readers_ask_the_state_as_often_as_a_single_reader() -> None:
    """A single task asks the state twice a second for all readers."""
    asked = []
    for readers in (1, 20):
        state = MemoryState()
        number = state.begin_run(NOON).number
        run = StoredRun("1", RunKind.SYNC, RunSource.API, "a", state.host, NOON, number=number)
        state.save_run_begin(run)
        counted = Counted(state)
        asyncio.run(_watched(Feeds(partial(_same, counted), lambda: False), run.id, readers))
        asked.append(counted.asked)

    assert asked[1] <= asked[0] + 1
    assert asked[1] <= 2 / ASK_EVERY + 2


def _same(runs: Counted) -> RunStore:
    return cast("RunStore", runs)


async def _watched(feeds: Feeds, run: str, readers: int) -> None:
    """Let this many readers wait for two seconds."""

    async def wait() -> None:
        async with feeds.watching(run, "anna") as feed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await feed.after(0)

    await asyncio.gather(*(wait() for _ in range(readers)))


@pytest.mark.parametrize("how", ["logged out", "removed", "of another role"])
def test_stream_ends_with_the_session_or_role(stored: Stored, how: str) -> None:
    """The stream checks the session before each event, and ends with the session or the role."""
    run, state = stored.add_living(), stored.state
    state.append_run_events(run.id, [RunEvent(1, NOON, "img", "activity", Text("before"))])

    with follow(stored.machine, f"/runs/{run.id}") as answer:
        stream = messages(answer)
        assert ["begun", "event", "progress"] == [next(stream).event for _ in range(3)]
        if how == "logged out":
            state.end_session(digest_of_secret(SECRET))
        elif how == "removed":
            state.remove_user(ANNA.name)
        else:
            state.change_role(ANNA.name, Role.VIEWER)
        state.append_run_events(run.id, [RunEvent(2, NOON, "img", "activity", Text("secret"))])

        assert [] == list(stream)


# --- runs in progress, at the top of every page


def progress_of(stored: Stored) -> StoredRun:
    """Store a run of all certificates in progress, with 12 of 42 done."""
    run = stored.add_living()
    waits, why = "verify.waiting", Text("waiting for the CDN to serve the new certificate")
    events = [
        RunEvent(1, NOON, "shop", "activity", Text("waiting for the CA")),
        RunEvent(2, NOON, "img", waits, why, "waiting", "qiniu", "m1.example.com"),
        RunEvent(4, NOON, "img", waits, why, "waiting", "qiniu", "m0.example.com"),
        RunEvent(3, NOON, "shop", "issue.done", Text("issued"), "done"),
    ]
    stored.state.append_run_events(run.id, sorted(events, key=lambda event: event.number))
    stored.state.save_run_progress(run.id, 12, 42)
    return run


@pytest.mark.parametrize("path", ["/", "/certificates/img", "/certificates", "/history"])
def test_run_in_progress_is_seen_from_every_page(stored: Stored, path: str) -> None:
    """Every page shows the person, the source, the host, the progress, and the present wait."""
    run = progress_of(stored)

    page = stored.machine.get(path).text
    top = page.partition('id="running"')[2].partition("</section>")[0]

    for words in (
        *(f'href="/runs/{run.id}"', "root@web-1 (schedule) on", stored.state.host),
        *("12 of 42 certificates done", "m0.example.com", "waiting for the CDN to serve"),
    ):
        assert words in top
    assert "waiting for the CA" not in top
    assert "and 1 more" in top
    assert "<span data-running>1</span>" in page.partition("<main")[0]


def test_pages_ask_for_runs_in_progress(stored: Stored) -> None:
    """The first page always asks for runs in progress. Other pages ask until the last run ends."""
    path = "/runs/in-progress?of=%2F&amp;name="
    assert f'hx-get="{path}" hx-trigger="every 30s"' in stored.machine.get("/").text
    assert "/runs/in-progress" not in stored.machine.get("/history").text

    run = progress_of(stored)
    part = _eventually_has(stored, "/runs/in-progress?of=/&name=", run.id)
    assert 'hx-trigger="every 5s"' in part
    assert "<html" not in part
    stored.state.save_run_end(run.id, RunState.DONE, NOON, None)
    assert eventually(lambda: run.id not in stored.machine.get("/").text.partition("</h1>")[0])


def _eventually_has(stored: Stored, path: str, words: str) -> str:
    assert eventually(lambda: words in stored.machine.get(path).text)
    return stored.machine.get(path).text


def test_page_of_a_certificate_shows_its_own_runs(stored: Stored) -> None:
    """The page lists the certificate's own runs. The navigation counts all runs."""
    number = stored.state.begin_run(NOON).number
    for nth, names in enumerate([("other",), ("img", "other"), ()]):
        stored.add(nth, names=names, number=number, host=stored.state.host)

    page = stored.machine.get("/certificates/img").text
    top = page.partition('id="running"')[2].partition("</section>")[0]

    assert ["run-0002", "run-0001"] == re.findall(r'href="/runs/(run-\d+)"', top)
    assert "<span data-running>3</span>" in page


def test_many_runs_in_progress_leave_room_for_the_page(stored: Stored) -> None:
    """The page shows the newest runs, and counts the rest."""
    number = stored.state.begin_run(NOON).number
    for nth in range(8):
        stored.add(nth, number=number, host=stored.state.host)

    top = stored.machine.get("/").text.partition('id="running"')[2].partition("</section>")[0]

    assert ["run-0007", "run-0006", "run-0005"] == re.findall(r'href="/runs/(run-\d+)"', top)
    assert "and 5 more" in top


def test_run_in_progress_shows_its_progress(stored: Stored) -> None:
    """The run's page, the stream and the list show the progress. The run's page shows the progress
    only once.
    """
    run = progress_of(stored)

    page = stored.machine.get(f"/runs/{run.id}").text
    with follow(stored.machine, f"/runs/{run.id}") as answer:
        stream = messages(answer)
        streamed = next(message for message in stream if message.event == "progress")
        stored.state.save_run_progress(run.id, 13, 42)
        later = next(message for message in stream if message.event == "progress")

    assert 1 == page.count("12 of 42 certificates done")
    assert "12 of 42 certificates done" in streamed.data
    assert "13 of 42 certificates done" in later.data
    assert "data-seconds" in streamed.data
    assert "13 of 42 certificates done" in stored.machine.get("/runs").text
    assert "Run again" not in page


EVENTS = [
    RunEvent(1, NOON, "img", "activity", Text("waiting for the CA")),
    RunEvent(2, NOON, "img", "issue.done", Text("issued"), "done"),
    RunEvent(3, NOON, "img", "verify.waiting", Text("m0"), "waiting", "qiniu", "m0"),
    RunEvent(4, NOON, "img", "verify.waiting", Text("m1"), "waiting", "qiniu", "m1"),
    RunEvent(5, NOON, "img", "verify.done", Text("m1"), "done", "qiniu", "m1"),
    RunEvent(6, NOON, "img", "verify.failed", Text("m0"), "failed", "qiniu", "m0"),
]


@pytest.mark.parametrize(
    ("count", "numbers"), [(0, []), (1, [1]), (2, []), (3, [3]), (4, [4, 3]), (5, [3]), (6, [])]
)
def test_present_work_of_a_run(count: int, numbers: list[int]) -> None:
    """A step ends its own wait and the activity of its certificate. The waits of other domains
    continue, and the latest work comes first.
    """
    assert numbers == [event.number for event in present_work(EVENTS[:count])]


# --- the button "Run again"


def test_run_is_started_again_with_its_names(machine: Machine, name: str) -> None:
    """The button starts a single run for each page shown, with the same certificates."""
    page = machine.run(kind="sync", names=name)
    fields = fields_of(machine.get(page).text, "Run again")

    again = {machine.post(f"{page}/again", **fields).headers["Location"] for _ in range(2)}

    [path] = again
    assert page != path
    run = machine.state.stored_run(path.removeprefix("/runs/"))
    assert run is not None
    assert (RunKind.SYNC, (name,), "anna", RunSource.CONSOLE) == (
        *(run.kind, run.names, run.who, run.source),
    )
    machine.runner.wait_for(run.id)


@pytest.mark.parametrize(
    ("more", "page"),
    [
        ({"kind": RunKind.RENEW, "names": ("img",)}, "/certificates/img/renew"),
        ({"kind": RunKind.ROLLBACK, "names": ("img",)}, "/certificates/img/rollback"),
        ({"plan": "ab" * 32, "names": ("img",)}, f"/plan?since={'ab' * 32}&amp;name=img"),
        ({"kind": RunKind.RENEW, "names": ("img", "shop")}, None),
    ],
)
def test_run_again_leads_to_the_page_of_the_effect(
    stored: Stored, more: dict[str, Any], page: str | None
) -> None:
    """For a renewal, a rollback and a confirmed plan, the button leads to the page of the
    effect.
    """
    run = stored.add(1, **more)
    stored.state.save_run_end(run.id, RunState.FAILED, NOON, None)

    shown = stored.machine.get(f"/runs/{run.id}").text

    assert f'action="/runs/{run.id}/again"' not in shown
    assert ("Run again…" in shown) == (page is not None)
    assert page is None or f'href="{page}"' in shown
    stored.machine.post(f"/runs/{run.id}/again", 409)
    assert 1 == len(stored.state.stored_runs(10))


def test_run_again_of_a_missing_certificate_is_refused(stored: Stored) -> None:
    """The refusal names the missing certificate."""
    run = stored.add(1, names=("gone",))
    stored.state.save_run_end(run.id, RunState.DONE, NOON, None)

    assert "gone" in stored.machine.post(f"/runs/{run.id}/again", 400).text
    stored.machine.post("/runs/none/again", 404)


def test_viewer_starts_no_run_again(host: Host) -> None:
    """A viewer gets the result without the button, and the console refuses a viewer's form."""
    host.run("sync")
    with console_of(host, VIEWER) as machine:
        [run] = machine.state.stored_runs(10)

        assert "Run again" not in machine.get(f"/runs/{run.id}").text
        machine.post(f"/runs/{run.id}/again", 403)
        assert 1 == len(machine.state.stored_runs(10))


def test_page_of_a_run_for_thousands_is_small(stored: Stored) -> None:
    """Problems come first, the other certificates are folded, and both have links to further
    pages.
    """
    run = stored.add(1, names=tuple(f"c{number}" for number in range(3000)))
    certificates = [
        certificate_of(
            f"c{number}", *("failed", *["failed"] * 100) if number < 1000 else ("in_order",)
        )
        for number in range(3000)
    ]
    report = RunReport({"certificates": certificates})
    stored.state.save_run_end(run.id, RunState.FAILED, NOON, report)

    page = stored.machine.get(f"/runs/{run.id}").text
    below = page.partition("<main")[2]

    assert len(page.encode()) < 200_000
    assert below.index("1000 failed, 2000 unchanged") < below.index("Needs attention")
    assert below.index("Needs attention") < below.index('<details id="in_order">')
    [problems, in_order] = re.findall(r'<a rel="next" href="([^"]+)"', page)
    assert ">c20</a>" in stored.machine.get(problems.replace("&amp;", "&")).text
    unfolded = stored.machine.get(in_order.replace("&amp;", "&")).text
    assert ">c1050</a>" in unfolded.partition('<details id="in_order" open>')[2]


def test_every_run_has_its_words() -> None:
    """Every state, kind and source has words on the page."""
    for state, kind, source in itertools.product(RunState, RunKind, RunSource):
        run = StoredRun("1", kind, source, "a", "h", NOON, state=state)
        assert STATES[state][1] == row_of(run).state
    assert report_view(None, Voice()).counts is None


def certificate_of(name: str, result: str, *outcomes: str) -> dict[str, Any]:
    """Return a certificate as the report of a run has certificates."""
    places = dict.fromkeys(("target", "domain", "label", "hint"))
    steps = [
        {**places, "action": "deploy", "outcome": outcome, "detail": f"{outcome} since noon"}
        for outcome in outcomes
    ]
    is_ok = result in {"in_order", "elsewhere"}
    return {"name": name, "ok": is_ok, "result": result, "steps": steps}


@pytest.mark.parametrize(
    ("well", "wrong"), [(0, 0), (1, 1), (60, 0), (60, 1), (1000, 3), (0, 1000), (2000, 1000)]
)
def test_every_certificate_of_a_report_is_on_a_single_page(well: int, wrong: int) -> None:
    """Each page has a limited number of certificates, and the counts include all pages."""
    document = {
        "certificates": [
            certificate_of(str(number), "in_order" if number < well else "failed")
            for number in range(well + wrong)
        ]
    }

    shown: list[str] = []
    for page in range(1, 102):
        view = report_view(document, Voice(), page, page)
        assert (wrong, well) == (view.problems.count, view.in_order.count)
        assert len(view.problems.certificates) <= SHOWN_PROBLEMS
        assert len(view.in_order.certificates) <= SHOWN_IN_ORDER
        for half in (view.problems, view.in_order):
            if half.number == page:
                shown += [result.name for result in half.certificates]

    assert sorted(map(str, range(well + wrong))) == sorted(shown)


def test_cause_of_several_certificates_is_shown_once(stored: Stored) -> None:
    """The cause has the first ten names, and the others are folded. A certificate with another
    problem keeps its own steps.
    """
    cause = {
        "code": "target_access_denied",
        "message": Text("the key is refused"),
        "hint": Text("see `certferry doctor`"),
        "name": None,
    }
    denied = {"code": "target_access_denied", "detail": "the key is refused"}
    names = [f"shop-{number:02}" for number in range(30)]
    certificates = [certificate_of(name, "failed", "failed", "unchanged") for name in names]
    for certificate in certificates:
        certificate["steps"][0] |= denied
    both = certificate_of("both", "failed", "failed", "failed")
    both["steps"][0] |= denied
    document = {
        "certificates": [*certificates, both],
        "causes": [{**cause, "certificates": [*names, "both"]}],
    }
    view = report_view(document, Voice())
    assert ["both"] == [result.name for result in view.problems.certificates]
    assert "31 failed" == Voice().say(view.counts or Text(""))

    run = stored.add(1)
    stored.state.save_run_end(run.id, RunState.FAILED, NOON, RunReport(document))
    page = stored.machine.get(f"/runs/{run.id}").text

    told = page.partition('class="note cause error"')[2].partition("</details>")[0]
    assert "31 certificates: the key is refused" in re.sub(r"<[^>]*>", "", told)
    assert 10 == told.partition("<summary")[0].count('href="/certificates/')
    assert "and 21 more" in told
    assert 'href="/doctor"' in told
    assert 2 == page.count("the key is refused")


def test_report_begins_with_the_worst_result() -> None:
    """Results are counted and listed worst first. Within a certificate, steps with a problem come
    first, and steps beyond the limit are counted.
    """
    document = {
        "certificates": [
            *(certificate_of(f"same-{number}", "in_order", "unchanged") for number in range(5)),
            certificate_of("new", "in_order", "unchanged", "done"),
            certificate_of("late", "waiting", "waiting"),
            certificate_of("away", "elsewhere", "elsewhere"),
            certificate_of("wrong", "failed", *["unchanged"] * 30, "done", "failed"),
        ],
        "problem": {"code": "x", "message": Text("the end was not stored"), "hint": None},
    }

    view = report_view(document, Voice())

    assert view.counts is not None
    counts = "1 failed, 1 waiting, 1 left to another host, 1 changed, 5 unchanged"
    assert counts == Voice().say(view.counts)
    assert ["wrong", "late"] == [result.name for result in view.problems.certificates]
    assert ["away", "new"] == [result.name for result in view.in_order.certificates[:2]]
    [wrong, _] = view.problems.certificates
    assert ["failed", "done"] == [step["outcome"] for step in wrong.steps[:2]]
    assert 32 == len(wrong.steps) + wrong.more
    assert "the end was not stored" == view.problem


def test_events_of_an_ended_run_are_folded(stored: Stored) -> None:
    """The results above already show the problems. A link to earlier events opens the fold."""
    run = stored.add(1)
    stored.state.append_run_events(run.id, [RunEvent(1, NOON, "img", "activity", Text("waiting"))])
    document = {"certificates": [certificate_of("img", "failed", "failed")]}
    stored.state.save_run_end(run.id, RunState.FAILED, NOON, RunReport(document))

    folded = stored.machine.get(f"/runs/{run.id}").text
    unfolded = stored.machine.get(f"/runs/{run.id}?after=0").text

    assert '<details><summary><h2 id="events">' in folded
    assert '<details open><summary><h2 id="events">' in unfolded
