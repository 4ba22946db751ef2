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

# --- A signal at any moment of a process's life ends the process quietly: 130, and no traceback


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
COMMANDS = {"help": ["--help"], "history": ["--config", "certferry.toml", "history"]}
MOMENTS = 40
"""The number of moments in a life; the gate tries the first, the last and some between."""

QUIET = {"", "stopped\n", "\n"}
DEADLINE = 60.0  # seconds


def begun(directory: Path, command: list[str]) -> subprocess.Popen[str]:
    """Start the program unmeasured: coverage would handle signals before certferry's first line."""
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
    """Measure a process's life from its first line on; return also the exit code and the stderr."""
    with begun(directory, command) as process:
        while not catches(process, signal.SIGTERM) and process.poll() is None:
            os.sched_yield()
        since = time.monotonic()
        _, stderr = process.communicate(timeout=DEADLINE)
        return time.monotonic() - since, process.returncode, stderr


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a configuration that declares no certificate."""
    tmp_path.joinpath("certferry.toml").write_text('[state]\nurl = "sqlite:///state.db"\n')
    return tmp_path


LIVES = [
    (name, how, moment) for moment in range(MOMENTS + 1) for how in SIGNALS for name in COMMANDS
]


@pytest.mark.parametrize(("name", "how", "moment"), sampled(LIVES, 3))
def test_stop_between_the_first_line_and_the_last(
    directory: Path, name: str, how: signal.Signals, moment: int
) -> None:
    """The process ends with 130 and reports only the stop; a faster process ends as usual."""
    life, code, own = lived_for(directory, COMMANDS[name])

    with begun(directory, COMMANDS[name]) as process:
        while not catches(process, signal.SIGTERM):
            os.sched_yield()
        end = time.monotonic() + life * moment / MOMENTS
        while time.monotonic() < end:
            os.sched_yield()
        process.send_signal(how)
        _, stderr = process.communicate(timeout=DEADLINE)

    assert (process.returncode, stderr) in {(Exit.STOPPED, quiet) for quiet in QUIET} | {
        (code, own)
    }


@pytest.mark.parametrize("milliseconds", sampled(range(30), 3))
def test_stop_before_the_first_line(directory: Path, milliseconds: int) -> None:
    """Before the interpreter runs certferry, the system ends the process, as quietly (143 in a
    shell).
    """
    with begun(directory, COMMANDS["help"]) as process:
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=DEADLINE)

    assert "" == stderr
    assert process.returncode in {-signal.SIGTERM, Exit.STOPPED, 0}


# --- After a kill at each request in turn, the next run finishes the job


RUNNER = Path(__file__).with_name("killed.py")
SHARES = 4
"""The number of parallel tests that share the positions."""
RANDOM_KILLS, IN_A_ROW, RANDOM_SHARES = 300, 5, 15
IN_THE_GATE = 3
"""The positions of the first share in the gate: the first, a position in the middle, and a position
at the end.
"""


@pytest.fixture(scope="module")
def own_world() -> Iterator[World]:
    """Start a separate, fast world for the module."""
    with World(pace=Pace(nameserver_lags=(0.0, 0.0)), nonce_reject=0) as started:
        yield started


class KilledHost:
    """A machine in the world, with its own lineage, domain and state."""

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
        """Run `certferry sync`, killed after a number of requests; 0 lets the run live."""
        return run(self._command(kill_after), env=self._environment)

    def _command(self, kill_after: int) -> list[str]:
        runner = [sys.executable, str(RUNNER), str(kill_after), str(self.log)]
        return [*runner, "--config", str(self.config), "sync", "--json"]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.world.environment}

    def sync_killed_after(self, seconds: float) -> None:
        """Run `certferry sync`, and kill the run after a time, unless the run has ended."""
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
def test_killed_after_every_request(own_world: World, tmp_path: Path, share: int) -> None:
    """After a kill at any request the next run ends with one certificate, one upload and no
    challenge record.
    """
    undisturbed = KilledHost(own_world, tmp_path, f"calm{share}")
    first = undisturbed.sync()
    assert 0 == first.returncode, first.stderr
    requests = len(undisturbed.log.read_text().splitlines())
    assert requests > 20

    for position in sampled(range(1 + share, requests + 1, SHARES), IN_THE_GATE):
        host = KilledHost(own_world, tmp_path, f"k{position}")
        killed = host.sync(kill_after=position)
        assert killed.returncode in {-signal.SIGKILL, 0}, killed.stderr

        finished = host.sync()

        assert 0 == finished.returncode, (position, finished.stdout, finished.stderr)
        report = json.loads(finished.stdout)
        assert report["ok"], position
        assert 1 == host.requests("/finalize-order/"), position
        assert 1 == len(host.uploads), position
        assert [] == host.challenges, position
        served = own_world.qiniu.bound(host.domain)
        assert served is not None, position


@thorough
@pytest.mark.parametrize("share", range(RANDOM_SHARES))
def test_killed_at_random_moments(own_world: World, tmp_path: Path, share: int) -> None:
    """After several kills in a row, three hundred in all, the next run ends with one upload and no
    challenge record. A failure can be repeated with the printed seed.
    """
    undisturbed = KilledHost(own_world, tmp_path, f"unhurried{share}")
    begun = time.monotonic()
    assert 0 == undisturbed.sync().returncode
    usual = time.monotonic() - begun

    for number in range(RANDOM_KILLS // RANDOM_SHARES // IN_A_ROW):
        seed = f"{share}/{number}/{os.urandom(4).hex()}"
        moments = random.Random(seed)  # noqa: S311 - when a test kills is no secret
        host = KilledHost(own_world, tmp_path, f"r{share}-{number}")
        for _ in range(IN_A_ROW):
            host.sync_killed_after(moments.uniform(0, usual))

        finished = host.sync()

        assert 0 == finished.returncode, (seed, finished.stdout, finished.stderr)
        assert json.loads(finished.stdout)["ok"], seed
        assert 1 == len(host.uploads), seed
        assert [] == host.challenges, seed
        assert own_world.qiniu.bound(host.domain) is not None, seed


# --- A stop while a service hangs: the run ends within five seconds, in order


PROMISED = 5.0  # seconds
ENDING_SIGNALS = [signal.SIGTERM, signal.SIGINT]


@contextmanager
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """Accept connections and answer nothing; the event tells that a client has connected."""
    connected, over = threading.Event(), threading.Event()
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while not over.is_set():
                connections.append(listener.accept()[0])
                connected.set()

        thread = threading.Thread(target=accept)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}", connected
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()
            for connection in connections:
                connection.close()


def seconds_to_end(process: Popen[str], how: signal.Signals) -> float:
    """Signal the process, and measure the time until its end."""
    begun = time.monotonic()
    process.send_signal(how)
    process.communicate(timeout=DEADLINE)
    return time.monotonic() - begun


def must_be_free(host: Host, name: str) -> None:
    """Assert that the lineage's lease is free."""
    with host.remembering() as store:
        store.release(store.acquire(name, datetime.now(UTC)))


def is_free(host: Host, name: str) -> bool:
    """Return whether the lineage's lease is free."""
    try:
        must_be_free(host, name)
    except LeaseHeld:
        return False
    return True


@pytest.mark.parametrize(
    ("command", "how"), sampled(list(product(["sync", "plan", "status"], ENDING_SIGNALS)), 2)
)
def test_service_that_hangs(host: Host, name: str, command: str, how: signal.Signals) -> None:
    """A stop ends the wait for a service that took the request and stays silent."""
    with silent_server() as (url, connected):
        host.rewrite(host.world.qiniu.api.url, url)
        with host.begin(command) as process:
            assert connected.wait(DEADLINE)
            assert seconds_to_end(process, how) < PROMISED

    assert Exit.STOPPED == process.returncode
    must_be_free(host, name)


@pytest.mark.parametrize("how", sampled(ENDING_SIGNALS, 1))
def test_directory_that_hangs(host: Host, name: str, how: signal.Signals) -> None:
    """The CA's silence could last forty-five seconds; a stop ends the wait."""
    with silent_server() as (url, connected):
        host.rewrite(host.world.pebble.directory_url, f"{url}/dir")
        with host.begin("sync") as process:
            assert connected.wait(DEADLINE)
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


@pytest.mark.parametrize("service", sampled(list(LATER), 3))
def test_whatever_else_hangs(host: Host, name: str, service: str) -> None:
    """A stop also ends the waits of other protocols and of separate threads."""
    command, tables = LATER[service]
    with silent_server() as (url, connected):
        filled = tables.format(url=url, place=url.removeprefix("http://"))
        host.config.write_text(f"{host.config.read_text()}\n{filled}")
        if "[accounts.other]" in filled:
            host.rewrite('dns = "dnspod"', 'dns = "other"')
        with host.begin(*command.split()) as process:
            assert connected.wait(DEADLINE)
            assert seconds_to_end(process, signal.SIGTERM) < PROMISED

    assert Exit.STOPPED == process.returncode
    must_be_free(host, name)


def test_scheduled_run_that_waits_for_its_next_try(host: Host, name: str) -> None:
    """The run ends in its minute's pause, leaves the lease free, and reports the failure."""

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
    """The state remembers the doubtful record, and the next run removes the record."""
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
    """A stop ends the wait for a resolver that loses every question."""
    resolver = host.world.dns.resolver
    before = len(resolver.queries)
    resolver.down()
    with host.begin("sync") as process:
        assert eventually(lambda: len(resolver.queries) > before)
        assert seconds_to_end(process, how) < PROMISED

    assert Exit.STOPPED == process.returncode
