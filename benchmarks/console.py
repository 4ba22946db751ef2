"""The cost of the console with 1,000 certificates and 4,000 domains.

A real `certferry serve` over a real state answers requests over HTTP and of Chromium. Measured are
each page's median on the server (at most 50 ms) and its size (at most 150 kB), with `/healthz` in
the same rounds as the measure of the machine; the first readable screen in Chromium (at most 0.5
s); the share of a core for 20 viewers of an idle run (at most 10 %); memory after 10,000 requests
and 100 runs (at most 150 MB). The benchmark fails if a limit is exceeded.

The measurement takes three to six minutes on two cores, most of them for requests and runs.
Progress is on stderr, figures are on stdout.

Usage: `python -m benchmarks.console [--certificates N] [--rounds N] [--requests N] [--runs N]`.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from playwright.sync_api import Browser, StorageState

from certferry.adapters.state.connect import connect
from certferry.core.assessment.sightings import Sighting
from certferry.core.observed.records import HistoryEntry
from certferry.core.observed.stored_runs import RunKind, RunSource, StoredRun
from certferry.ports.state import StateStore
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.world import CERTIFICATE, World, demonstration
from tests.browser.chromium import running_chromium
from tests.browser.console_process import ConsoleProcess, serving
from tests.support.ports import free_port

DOMAINS_OF_EACH = 4
PAGES = (
    "/",
    "/certificates",
    "/certificates?q=img1",
    "/certificates/img7.example.com",
    "/plan",
    "/runs",
    "/history",
    "/discover",
    "/doctor",
    "/accounts",
    "/channels",
    "/hosts",
    "/account",
)
MEASURE = "/healthz"
LONGEST_LOOK = 30.0  # seconds for a page's observations in the background

LONGEST_PAGE = 50.0  # milliseconds
LARGEST_PAGE = 150_000  # bytes
FIRST_SCREEN = 0.5  # seconds
IDLE = 0.10  # of a core
MEMORY = 150.0  # MB

VIEWERS = 20
WATCHED = 20.0  # seconds
EACH = 1000  # requests
_TICK = os.sysconf("SC_CLK_TCK")
_OBSERVING = re.compile(rb'aria-busy="true"|hx-trigger="(every 2s|load)')
_CSRF = re.compile(r'name="csrf"\s+value="([^"]+)"')
_REQUEST = re.compile(r'name="request"\s+value="([^"]+)"')


def say(words: str) -> None:
    """Print on stderr the next part of the measurement."""
    print(words, file=sys.stderr, flush=True)


# --- The certificates


def names_of(count: int) -> list[str]:
    """Return the lineages."""
    return [f"img{number}.example.com" for number in range(count)]


def domains_of(name: str) -> list[str]:
    """Return the domains of a certificate."""
    return [name, *(f"{part}.{name}" for part in "abc"[: DOMAINS_OF_EACH - 1])]


def tables(count: int) -> str:
    """Return the certificates of the configuration, the demo's certificate included."""
    declared = (
        f'[[certificates]]\nnames = ["{name}", "*.{name}"]\ndns = "dnspod"\n'
        f'[[certificates.deploy]]\nto = "qiniu"\ndomains = {domains_of(name)}\n'.replace("'", '"')
        for name in names_of(count)
    )
    return CERTIFICATE + "".join(declared)


def furnish(state: StateStore, count: int) -> None:
    """Store certificates of every age, their sightings and their history; every fiftieth is not
    served.
    """
    now = datetime.now(UTC)
    sightings = []
    for number, name in enumerate(names_of(count)):
        begin = now - timedelta(days=number % 59)
        bundle = make_bundle(name, f"*.{name}", not_before=begin)
        fingerprint = bundle.certificate.fingerprint
        lease = state.acquire(name, now)
        state.save_version(lease, bundle, begin)
        state.release(lease)
        facts = {"fingerprint": fingerprint}
        state.append_history(HistoryEntry(begin, name, "issued", "ops", facts))
        sightings += [
            Sighting(name, "qiniu", domain, number % 50 != 0, begin, fingerprint)
            for domain in domains_of(name)
        ]
    state.update_sightings(lambda _: tuple(sightings))
    state.save_run(now, succeeded=True)


# --- The measurements


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure beside its limit."""

    figure: str
    value: float
    promised: float
    unit: str
    remark: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the figure is within the limit."""
        return self.value <= self.promised

    def __str__(self) -> str:
        mark = "  " if self.is_kept else "! "
        value = f"{self.value:8.2f} {self.unit}"
        promised = f"{self.promised:g} {self.unit}"
        return f"{mark}{self.figure:<44}{value:<14} of {promised}  {self.remark}"


@dataclass(frozen=True, slots=True)
class Process:
    """A process by its number, as Linux accounts for processes (proc(5))."""

    number: int

    def processor(self) -> float:
        """Return the seconds of the processor that the process took so far."""
        fields = Path(f"/proc/{self.number}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self) -> float:
        """Return the memory of the process, in MB."""
        status = Path(f"/proc/{self.number}/status").read_text()
        [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kilobytes) / 1024


def logged_in(console: ConsoleProcess, browser: Browser) -> requests.Session:
    """Return a session of an operator who logged in with a browser."""
    session = requests.Session()
    for cookie in console.log_in(browser, "bench")["cookies"]:
        session.cookies.set(cookie["name"], cookie["value"])
    return session


def pages(console: ConsoleProcess, session: requests.Session, rounds: int) -> Iterator[Measured]:
    """Measure each page, after its observations in the background."""
    times_of_pages: dict[str, list[float]] = {page: [] for page in (MEASURE, *PAGES)}
    say(f"observing what the pages need, at most {LONGEST_LOOK:.0f} s a page")
    sizes = {page: len(settled(console, session, page)) for page in PAGES}
    say(f"{rounds} rounds of {len(times_of_pages)} pages")
    for _ in range(rounds):
        for page, times in times_of_pages.items():
            started = time.perf_counter()
            session.get(console.url + page, timeout=60).raise_for_status()
            times.append(1000 * (time.perf_counter() - started))
    for page in PAGES:
        ratios = [
            of_page / bare
            for of_page, bare in zip(times_of_pages[page], times_of_pages[MEASURE], strict=True)
        ]
        remark = f"{statistics.median(ratios):5.1f} x {MEASURE}"
        yield Measured(page, statistics.median(times_of_pages[page]), LONGEST_PAGE, "ms", remark)
        yield Measured(f"{page}, its size", sizes[page] / 1000, LARGEST_PAGE / 1000, "kB")


def settled(console: ConsoleProcess, session: requests.Session, page: str) -> bytes:
    """Return a page without any pending observation."""
    deadline = time.monotonic() + LONGEST_LOOK
    while True:
        answer = session.get(console.url + page, timeout=60)
        answer.raise_for_status()
        if _OBSERVING.search(answer.content) is None or time.monotonic() > deadline:
            return answer.content
        time.sleep(0.5)


def first_screen(console: ConsoleProcess, browser: Browser, who: StorageState) -> Measured:
    """Measure the time from the click until the verdict is painted."""
    taken = []
    say("the first screen in Chromium, ten times")
    with browser.new_context(storage_state=who) as context:
        page = context.new_page()
        for _ in range(10):
            page.goto(console.url + "/")
            page.wait_for_selector("h1")
            taken.append(page.evaluate(_PAINTED) / 1000)
            page.goto("about:blank")
    return Measured("the first screen in Chromium", statistics.median(taken), FIRST_SCREEN, "s")


_PAINTED = """() => new Promise(done => new PerformanceObserver(
    list => done(list.getEntries()[0].startTime)).observe(
    {type: 'paint', buffered: true}))"""


def idle_viewers(console: ConsoleProcess, session: requests.Session, run: str) -> Measured:
    """Measure the process while people watch an idle run."""
    process = Process(console.number)
    say(f"{VIEWERS} viewers of a run in which nothing happens, {WATCHED:.0f} s")
    with ExitStack() as watching:
        for _ in range(VIEWERS):
            stream = session.get(f"{console.url}/runs/{run}/events", stream=True, timeout=60)
            stream.raise_for_status()
            watching.callback(stream.close)
        before, began = process.processor(), time.monotonic()
        time.sleep(WATCHED)
        share = (process.processor() - before) / (time.monotonic() - began)
    return Measured(f"{VIEWERS} viewers of a quiet run", 100 * share, 100 * IDLE, "%")


def worn(
    console: ConsoleProcess, session: requests.Session, count: int, runs: int
) -> Iterator[Measured]:
    """Measure the memory after many requests and runs."""
    process = Process(console.number)
    before = process.memory()
    for number in range(count):
        if not number % EACH:
            say(f"{number:,} of {count:,} requests")
        session.get(console.url + PAGES[number % len(PAGES)], timeout=60).raise_for_status()
        if runs and not number % max(count // runs, 1):
            if not number:
                say("the first run, which issues and deploys: about 30 s")
            began = time.monotonic()
            run_once(console, session)
            if not number:
                say(f"it took {time.monotonic() - began:.0f} s")
    remark = f"{before:.0f} MB before"
    yield Measured(
        f"memory after {count} requests, {runs} runs", process.memory(), MEMORY, "MB", remark
    )


def run_once(console: ConsoleProcess, session: requests.Session) -> None:
    """Start a run of the demo's certificate, and wait for its end."""
    form = session.get(console.url + "/runs", timeout=60).text
    fields = {"kind": "sync", "names": "img", "csrf": _CSRF.findall(form)[0]}
    fields["request"] = _REQUEST.findall(form)[0]
    begun = session.post(
        console.url + "/runs",
        fields,
        headers={"Origin": console.url},
        allow_redirects=False,
        timeout=60,
    )
    run = begun.headers["Location"].rpartition("/")[2]
    document = f"{console.url}/api/v1/runs/{run}"
    while session.get(document, timeout=60).json()["state"] == "running":
        time.sleep(0.05)


@contextmanager
def quiet_run(state: StateStore) -> Iterator[str]:
    """Keep an idle run in progress, for a `with` block."""
    begun = state.begin_run(state.now())
    run = StoredRun(
        "quiet-run",
        RunKind.SYNC,
        RunSource.COMMAND,
        "ops",
        "bench",
        state.now(),
        number=begun.number,
    )
    yield state.save_run_begin(run).id
    state.end_run(begun)


def measured(world: World, folder: Path, arguments: argparse.Namespace) -> Iterator[Measured]:
    """Run the console, and yield every figure."""
    config = world.write_files(folder, tables(arguments.certificates))
    with (
        closing(connect(folder / "state.db", folder / "secret.key")) as state,
        running_chromium() as browser,
        serving(config, world.environment, free_port()) as console,
    ):
        say(f"storing {arguments.certificates:,} certificates")
        furnish(state, arguments.certificates)
        who = console.log_in(browser, "browser")
        session = logged_in(console, browser)
        yield from pages(console, session, arguments.rounds)
        yield first_screen(console, browser, who)
        with quiet_run(state) as run:
            yield idle_viewers(console, session, run)
        yield from worn(console, session, arguments.requests, arguments.runs)


def main() -> int:
    """Print a line for each figure, and return whether a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--certificates", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=100)
    arguments = parser.parse_args()
    is_kept = True
    with tempfile.TemporaryDirectory() as directory, demonstration() as world:
        for figure in measured(world, Path(directory), arguments):
            print(figure, flush=True)
            is_kept = is_kept and figure.is_kept
    return int(not is_kept)


if __name__ == "__main__":
    sys.exit(main())
