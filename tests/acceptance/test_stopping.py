"""Runs that are stopped or killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from subprocess import Popen

import pytest

from certferry.cli.exits import Exit
from certferry.errors import LeaseHeld
from certferry_sandbox.faults import Fault
from certferry_sandbox.world import Pace, World
from tests.acceptance.host import Host
from tests.acceptance.requests_made import challenges
from tests.support.forks import run
from tests.support.tiers import long, sampled, thorough
from tests.support.waiting import eventually

# --- A signal at any moment of the process's life ends it quietly: 130, and no traceback


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
COMMANDS = {"help": ["--help"], "history": ["--config", "certferry.toml", "history"]}
MOMENTS = 40
"""Into how many moments a life is cut; the gate tries the first, the last and some between."""

QUIET = {"", "stopped\n", "\n"}
DEADLINE = 60.0  # seconds


def begun(directory: Path, command: list[str]) -> subprocess.Popen[str]:
    """Start the program. It is not measured: coverage handles signals before our first line."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    return subprocess.Popen(
        [sys.executable, "-m", "certferry", *command],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Return whether a process has a handler for a signal by now (proc(5), SigCgt)."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def lived_for(directory: Path, command: list[str]) -> tuple[float, int, str]:
    """Measure how long it lives from its first line on; return its own end, too."""
    with begun(directory, command) as process:
        while not catches(process, signal.SIGTERM) and process.poll() is None:
            os.sched_yield()
        since = time.monotonic()
        _, said = process.communicate(timeout=DEADLINE)
        return time.monotonic() - since, process.returncode, said


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a configuration that names no certificate."""
    tmp_path.joinpath("certferry.toml").write_text('[state]\nurl = "sqlite:///state.db"\n')
    return tmp_path


LIVES = [
    (name, how, moment) for moment in range(MOMENTS + 1) for how in SIGNALS for name in COMMANDS
]


@pytest.mark.parametrize(("name", "how", "moment"), sampled(LIVES, 3))
def test_from_its_first_line_to_its_last(
    directory: Path, name: str, how: signal.Signals, moment: int
) -> None:
    """It ends with 130 and says no more than that it stopped; or it was faster, and is whole."""
    life, code, own = lived_for(directory, COMMANDS[name])

    with begun(directory, COMMANDS[name]) as process:
        while not catches(process, signal.SIGTERM):
            os.sched_yield()
        end = time.monotonic() + life * moment / MOMENTS
        while time.monotonic() < end:
            os.sched_yield()
        process.send_signal(how)
        _, said = process.communicate(timeout=DEADLINE)

    assert (process.returncode, said) in {(Exit.STOPPED, quiet) for quiet in QUIET} | {(code, own)}


@pytest.mark.parametrize("milliseconds", sampled(range(30), 3))
def test_before_its_first_line(directory: Path, milliseconds: int) -> None:
    """Until the interpreter runs certferry, the system ends it (143 in a shell), as quietly."""
    with begun(directory, COMMANDS["help"]) as process:
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE)

    assert "" == said
    assert process.returncode in {-signal.SIGTERM, Exit.STOPPED, 0}


# --- Killed after every request in turn, the next run finishes the job


RUNNER = Path(__file__).with_name("killed.py")
SHARES = 4
"""The positions are shared out to so many tests, which run in parallel."""
RANDOM_KILLS, IN_A_ROW, RANDOM_SHARES = 300, 5, 15
IN_THE_GATE = 3
"""Of the first share: the first position, one in the middle, one at the end."""


@pytest.fixture(scope="module")
def kept_world() -> Iterator[World]:
    """A world in which nothing is slower than it must be, and a request is made once."""
    with World(pace=Pace(nameserver_lags=(0.0, 0.0)), nonce_reject=0) as started:
        yield started


class KilledHost:
    """A machine of its own in the world: one lineage, one domain, one state."""

    def __init__(self, world: World, directory: Path, name: str) -> None:
        self.world = world
        self.domain = f"{name}.example.com"
        self.directory = directory / name
        self.directory.mkdir()
        self.log = self.directory / "requests.log"
        world.add_http_domain(self.domain)
        self.config = world.write_files(self.directory, certificates="")
        quick = self.config.read_text().replace(
            "[accounts.dnspod]", "[accounts.dnspod]\nrequests_per_second = 50"
        )
        self.config.write_text(
            f'{quick}\n[[certificates]]\nnames = ["{self.domain}"]\ndns = "dnspod"\n'
            f'[[certificates.deploy]]\nto = "qiniu"\ndomains = ["{self.domain}"]\n'
        )

    def sync(self, kill_after: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `certferry sync`, killed after so many requests; 0 lets it live."""
        return run(self._command(kill_after), env=self._environment)

    def _command(self, kill_after: int) -> list[str]:
        runner = [sys.executable, str(RUNNER), str(kill_after), str(self.log)]
        return [*runner, "--config", str(self.config), "sync", "--json"]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.world.environment}

    def sync_killed_after(self, seconds: float) -> None:
        """Run `certferry sync`, and kill it when this time is over, unless it has ended."""
        with subprocess.Popen(
            self._command(0), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    def requests(self, ending: str) -> int:
        return sum(ending in line for line in self.log.read_text().splitlines())

    @property
    def uploads(self) -> list[str]:
        mark = f"certferry-{self.domain}"[: len("certferry-") + 24]
        return [c.name for c in self.world.qiniu.certificates.stored() if c.name.startswith(mark)]

    @property
    def challenges(self) -> list[str]:
        records = self.world.zones.records(name=f"_acme-challenge.{self.domain}", rtype="TXT")
        return [record.value for record in records]


@long
@pytest.mark.parametrize(
    "share", [0, *(pytest.param(each, marks=thorough) for each in range(1, SHARES))]
)
def test_killed_after_every_request(kept_world: World, tmp_path: Path, share: int) -> None:
    """Wherever it was killed, the next run ends with one certificate, one upload, no record."""
    calm = KilledHost(kept_world, tmp_path, f"calm{share}")
    first = calm.sync()
    assert 0 == first.returncode, first.stderr
    requests = len(calm.log.read_text().splitlines())
    assert requests > 20

    for position in sampled(range(1 + share, requests + 1, SHARES), IN_THE_GATE):
        host = KilledHost(kept_world, tmp_path, f"k{position}")
        killed = host.sync(kill_after=position)
        assert killed.returncode in {-signal.SIGKILL, 0}, killed.stderr

        finished = host.sync()

        assert 0 == finished.returncode, (position, finished.stdout, finished.stderr)
        report = json.loads(finished.stdout)
        assert report["ok"], position
        assert 1 == host.requests("/finalize-order/"), position
        assert 1 == len(host.uploads), position
        assert [] == host.challenges, position
        served = kept_world.qiniu.bound(host.domain)
        assert served is not None, position


@thorough
@pytest.mark.parametrize("share", range(RANDOM_SHARES))
def test_killed_at_random_moments(kept_world: World, tmp_path: Path, share: int) -> None:
    """Three hundred kills in all, several in a row: the next run that may live ends with one upload
    and no record. What went wrong can be tried again with the seed that is told.
    """
    calm = KilledHost(kept_world, tmp_path, f"unhurried{share}")
    begun = time.monotonic()
    assert 0 == calm.sync().returncode
    usual = time.monotonic() - begun

    for number in range(RANDOM_KILLS // RANDOM_SHARES // IN_A_ROW):
        seed = f"{share}/{number}/{os.urandom(4).hex()}"
        moments = random.Random(seed)  # noqa: S311 - when a test kills is no secret
        host = KilledHost(kept_world, tmp_path, f"r{share}-{number}")
        for _ in range(IN_A_ROW):
            host.sync_killed_after(moments.uniform(0, usual))

        finished = host.sync()

        assert 0 == finished.returncode, (seed, finished.stdout, finished.stderr)
        assert json.loads(finished.stdout)["ok"], seed
        assert 1 == len(host.uploads), seed
        assert [] == host.challenges, seed
        assert kept_world.qiniu.bound(host.domain) is not None, seed


# --- A run that is told to end while something hangs: it ends within five seconds, in order


PROMISED = 5.0  # seconds
ENDING_SIGNALS = [signal.SIGTERM, signal.SIGINT]


@contextmanager
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """Accept connections and never answer; the event says that there is one."""
    asked, over = threading.Event(), threading.Event()
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while not over.is_set():
                kept.append(listener.accept()[0])
                asked.set()

        thread = threading.Thread(target=accept)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}", asked
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()
            for connection in kept:
                connection.close()


def seconds_to_end(process: Popen[str], how: signal.Signals) -> float:
    """Signal the process, and measure until its end."""
    begun = time.monotonic()
    process.send_signal(how)
    process.communicate(timeout=DEADLINE)
    return time.monotonic() - begun


def must_be_free(host: Host, name: str) -> None:
    """No run holds the lineage's lease."""
    with host.remembering() as store:
        store.release(store.acquire(name, datetime.now(UTC)))


def is_free(host: Host, name: str) -> bool:
    """Whether no run holds the lineage's lease."""
    try:
        must_be_free(host, name)
    except LeaseHeld:
        return False
    return True


@pytest.mark.parametrize(
    ("command", "how"), sampled(list(product(["sync", "plan", "status"], ENDING_SIGNALS)), 2)
)
def test_service_that_hangs(host: Host, name: str, command: str, how: signal.Signals) -> None:
    """A run waits for no answer of a service that took the request and keeps silent."""
    with silent_server() as (url, asked):
        host.rewrite(host.world.qiniu.api.url, url)
        with host.begin(command) as process:
            assert asked.wait(DEADLINE)
            assert seconds_to_end(process, how) < PROMISED

    assert Exit.STOPPED == process.returncode
    must_be_free(host, name)


@pytest.mark.parametrize("how", sampled(ENDING_SIGNALS, 1))
def test_directory_that_hangs(host: Host, name: str, how: signal.Signals) -> None:
    """The CA's silence may last forty-five seconds, and does not."""
    with silent_server() as (url, asked):
        host.rewrite(host.world.pebble.directory_url, f"{url}/dir")
        with host.begin("sync") as process:
            assert asked.wait(DEADLINE)
            assert seconds_to_end(process, how) < PROMISED

    assert Exit.STOPPED == process.returncode
    must_be_free(host, name)


LATER = {
    "heartbeat": ("sync", '[heartbeat]\nurl = "{url}/check"\n'),
    "a channel by HTTP": ("notify test", '[notify.on]\ntype = "webhook"\nurl = "{url}/hook"\n'),
    "a channel by SMTP": (
        "notify test",
        (
            '[notify.on]\ntype = "email"\nurl = "smtp://{place}"\nfrom = "a@example.com"\n'
            'to = ["b@example.com"]\n'
        ),
    ),
    "a name server for updates": (
        "sync",
        (
            '[accounts.other]\ntype = "rfc2136"\nserver = "{place}"\nkey_name = "key."\n'
            'key_secret = "c2VjcmV0c2VjcmV0"\n'
        ),
    ),
    "a service by lexicon": (
        "sync",
        (
            '[accounts.other]\ntype = "lexicon"\nprovider = "powerdns"\npdns_server = "{url}"\n'
            'auth_token = "a-token-of-the-operators"\n'
        ),
    ),
}


@pytest.mark.parametrize("what", sampled(list(LATER), 3))
def test_whatever_else_hangs(host: Host, name: str, what: str) -> None:
    """Also what speaks no HTTP of ours, or in a thread of its own."""
    command, tables = LATER[what]
    with silent_server() as (url, asked):
        written = tables.format(url=url, place=url.removeprefix("http://"))
        host.config.write_text(f"{host.config.read_text()}\n{written}")
        if "[accounts.other]" in written:
            host.rewrite('dns = "dnspod"', 'dns = "other"')
        with host.begin(*command.split()) as process:
            assert asked.wait(DEADLINE)
            assert seconds_to_end(process, signal.SIGTERM) < PROMISED

    assert Exit.STOPPED == process.returncode
    must_be_free(host, name)


def test_scheduled_run_that_waits_for_its_next_try(host: Host, name: str) -> None:
    """It ends in its minute's pause, holds no lease there, and tells what has failed."""

    def tries() -> int:
        with host.remembering() as store:
            return store.remembered(name).issue_tries

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    host.rewrite(host.world.pebble.directory_url, f"https://127.0.0.1:{port}/dir")
    with host.begin("sync", "--scheduled") as process:
        assert eventually(lambda: host.state.exists() and tries() == 1 and is_free(host, name))
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=DEADLINE)
        assert time.monotonic() - begun < PROMISED

    assert Exit.STOPPED == process.returncode
    assert "the CA could not be reached" in out


@long
@pytest.mark.parametrize("how", sampled(ENDING_SIGNALS, 1))
def test_record_that_is_being_written(host: Host, name: str, how: signal.Signals) -> None:
    """Whether it was written is not known; it is written down, and the next run removes it."""
    dnspod = host.world.dnspod
    before = len(dnspod.http.requests("POST /Record.Create"))
    dnspod.faults.add(Fault.delay(8), on="POST /Record.Create")
    with host.begin("sync") as process:
        assert eventually(lambda: len(dnspod.http.requests("POST /Record.Create")) > before)
        assert seconds_to_end(process, how) < PROMISED

    assert Exit.STOPPED == process.returncode
    with host.remembering() as store:
        assert 1 == len(store.challenge_records(name))
    assert eventually(lambda: [f"_acme-challenge.{name}"] == challenges(host.world))

    assert 0 == host.run("sync").code
    assert [] == challenges(host.world)


@pytest.mark.parametrize("how", sampled(ENDING_SIGNALS, 1))
def test_name_server_that_hangs(host: Host, how: signal.Signals) -> None:
    """A resolver that loses every question holds up no end."""
    resolver = host.world.dns.resolver
    before = len(resolver.queries)
    resolver.down()
    with host.begin("sync") as process:
        assert eventually(lambda: len(resolver.queries) > before)
        assert seconds_to_end(process, how) < PROMISED

    assert Exit.STOPPED == process.returncode
