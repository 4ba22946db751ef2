"""Several hosts with one state in PostgreSQL, and the harm to their runs: each run is a process
that is killed, frozen past its leases or cut off from the database at a random moment.
"""

from __future__ import annotations

import json
import os
import random
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from certferry.adapters.state.connect import connect
from certferry_sandbox.dnspod.service import WRITES
from certferry_sandbox.httpd import WRITING_METHODS
from certferry_sandbox.world import World
from tests.acceptance import fleet_host
from tests.acceptance.host import certificate
from tests.support.postgresql import KEY, Postgresql

ROOT = Path(__file__).parents[2]
HOSTS = ("web-1", "web-2", "web-3", "web-4")
LEASE = timedelta(seconds=3)
FROZEN = LEASE * 1.4
LIFE = (0.2, 4.0)
"""The earliest and the latest moment of a harm, in seconds after the start of a run."""
LONGEST_QUIET = 200
"""The longest duration of an undisturbed run, in seconds."""

KILL, FREEZE, CUT, STOP = "kill", "freeze", "cut", "stop"
HARMS = (KILL,) * 14 + (FREEZE,) * 3 + (CUT,) * 2 + (STOP,)
"""The harms; the repetitions are the weights."""

ACME_WRITES = ("/order-plz", "/finalize-order/", "/chalZ/")


@dataclass(frozen=True, slots=True)
class Noted:
    """A line of a host's diary (`fleet_host.Diary`)."""

    process: int
    thread: int
    at: float
    kind: str
    about: str

    @property
    def writes(self) -> bool:
        """Return whether the line is a request that changes the CA, the CDN or the DNS service."""
        if self.about.startswith("https://"):  # the CA: all requests are POST
            return any(path in self.about for path in ACME_WRITES)
        is_dnspod = self.about.rpartition("/")[2] in WRITES
        return is_dnspod or (self.kind in WRITING_METHODS and not _DNSPOD.search(self.about))


_DNSPOD = re.compile(r"/[A-Z][a-z]+\.[A-Z][a-z]+$")


@dataclass(frozen=True, slots=True)
class Freeze:
    """The time in which a process stood still, longer than its leases last."""

    process: int
    begun: float
    ended: float


class Member:
    """A host of the fleet: its process begins a run on request."""

    def __init__(self, name: str, url: str, folder: Path, environ: dict[str, str]) -> None:
        self.name = name
        self.freezes: list[Freeze] = []
        self.unreadable = 0
        self.diary = folder / f"{name}.log"
        self.diary.touch()
        command = [sys.executable, "-m", "tests.acceptance.fleet_host"]
        arguments = [url, name, str(LEASE.total_seconds()), str(self.diary)]
        self._errors = (folder / f"{name}.err").open("w")
        self._process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        self._answers = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._answers.register(self._process.stdout, selectors.EVENT_READ)

    def begin(self, how: str, config: Path) -> int:
        """Begin a run, and return the number of its process."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{how} {config}\n".encode())
        return self._answer()

    def has_ended(self, within: float) -> bool:
        """Wait for the run's end for some seconds, and return whether the run has ended."""
        return bool(self._answers.select(within))

    def code(self) -> int:
        """Wait for the run's end, and return its exit code."""
        return self._answer()

    def kill(self, process: int) -> None:
        """Kill the run, if the run is still alive."""
        with suppress(ProcessLookupError):  # the run has just ended
            os.kill(process, signal.SIGKILL)
        self._answer()

    def freeze(self, process: int) -> None:
        """Stop the run for longer than its leases last."""
        begun = time.monotonic()
        with suppress(ProcessLookupError):  # the run has just ended
            os.kill(process, signal.SIGSTOP)
            time.sleep(FROZEN.total_seconds())
            self.freezes.append(Freeze(process, begun, time.monotonic()))
            os.kill(process, signal.SIGCONT)

    def _answer(self) -> int:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, (self.name, Path(self._errors.name).read_text())
        return int(answer)

    def noted(self) -> list[Noted]:
        """Read the diary."""
        lines = [json.loads(line) for line in self.diary.read_text().splitlines() if line]
        return [Noted(*line) for line in lines]

    def end(self) -> None:
        """End the process together with its run."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()
        self._answers.close()


class Fleet:
    """Hosts with the lineages of one configuration, in a world. `name` is part of every domain."""

    def __init__(
        self, world: World, server: Postgresql, folder: Path, name: str, lineages: int, seed: str
    ) -> None:
        self.world, self.server, self.seed = world, server, seed
        self.domains = [f"{name}-{number}.example.com" for number in range(lineages)]
        for domain in self.domains:
            world.add_http_domain(domain)
        self._folder = folder
        self._database = server.new_state()
        self._moments = random.Random(seed)  # noqa: S311 - when a test kills is no secret
        self.harmed: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._orders_before = world.pebble.log.count("POST /order-plz ")
        self._issued_before = world.pebble.log.count("Issued certificate serial ")
        self.members: list[Member] = []
        self.phase = 0

    def __enter__(self) -> Self:
        with ExitStack() as members:
            environ = {**os.environ, **self.world.environment, fleet_host.KEY: KEY.reveal()}
            for host in HOSTS:
                url = f"{self.server.url(self._database)}&application_name={host}"
                member = Member(host, url, self._folder, environ)
                members.callback(member.end)
                self.members.append(member)
            self._running = members.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()
        self.server.ask(f"DROP DATABASE {self._database} WITH (FORCE)")

    def declare(self) -> None:
        """Write the next declaration: each phase adds a name to each certificate."""
        self.phase += 1
        more = [f"{number}." for number in range(1, self.phase)]
        tables = [
            certificate(domain, *(part + domain for part in more), domains=(domain,))
            for domain in self.domains
        ]
        folder = self._folder / f"phase{self.phase}"
        folder.mkdir()
        self.config = self.world.write_files(folder, "".join(tables))
        text = self.config.read_text()
        self.config.write_text(
            text.replace("[accounts.dnspod]", "[accounts.dnspod]\nrequests_per_second = 50", 1)
        )

    def harm(self, count: int) -> None:
        """Have all hosts make runs and harm each run, until the number of harms is reached."""
        until = sum(self.harmed.values()) + count
        problems: list[BaseException] = []

        def work(member: Member) -> None:
            try:
                while sum(self.harmed.values()) < until and not problems:
                    self._one_life(member)
            except BaseException as problem:  # noqa: BLE001 - raised in the test's own thread
                problems.append(problem)

        threads = [threading.Thread(target=work, args=(member,)) for member in self.members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]

    def _one_life(self, member: Member) -> None:
        with self._guard:
            how, moment = self._moments.choice(HARMS), self._moments.uniform(*LIFE)
            later = self._moments.uniform(*LIFE)
            schedule = self._moments.choice((fleet_host.SCHEDULED, fleet_host.BY_HAND))
        process = member.begin(schedule, self.config)
        if member.has_ended(moment):
            member.code()  # the run ended before the harm
            return
        with self._guard:
            self.harmed[how] += 1
        match how:
            case "freeze":
                member.freeze(process)
            case "cut":
                self._cut_off(member)
            case "stop":
                with self._guard:
                    self.server.stop()
                    time.sleep(later / 6)
                    self.server.start()
        if how == KILL or not member.has_ended(later):
            member.kill(process)
        else:
            member.code()

    def _cut_off(self, member: Member) -> None:
        """End a host's connections, found by libpq's `application_name`."""
        of_host = f"pg_stat_activity WHERE application_name = '{member.name}'"
        with self._guard:  # keeps the server running meanwhile
            self.server.ask(f"SELECT pg_terminate_backend(pid) FROM {of_host}")  # noqa: S608 - a constant of this module

    def quiet(self) -> None:
        """Have a host make an undisturbed run, which finishes all work; another host's run then
        leaves the world unchanged.
        """
        for number, member in enumerate(self._moments.sample(self.members, 2)):
            before = self.writes
            member.begin(fleet_host.BY_HAND, self.config)
            assert member.has_ended(LONGEST_QUIET), (self.seed, self.problems_of(member))
            assert 0 == member.code(), (self.seed, self.problems_of(member))
            assert not number or before == self.writes, self.seed

    def problems_of(self, member: Member) -> list[Noted]:
        """Return the problems of a host's runs by its diary, for messages."""
        return [
            line
            for line in member.noted()
            if line.kind != "lease" and not line.about.startswith("http")
        ][-40:]

    # The results in the world.

    @property
    def writes(self) -> int:
        """Return the number of writes at the CDN and at the DNS service, plus the orders."""
        return len(self.world.qiniu.writes()) + len(self.world.dnspod.writes()) + self.orders

    @property
    def orders(self) -> int:
        """Return the number of orders at the CA."""
        return self.world.pebble.log.count("POST /order-plz ") - self._orders_before

    @property
    def issued(self) -> int:
        """Return the number of certificates that the CA has issued."""
        log = self.world.pebble.log
        return log.count("Issued certificate serial ") - self._issued_before

    def versions(self) -> dict[str, list[str]]:
        """Return the fingerprints of each lineage, oldest first."""
        with closing(connect(self.server.url(self._database), KEY, host="test")) as state:
            return {
                domain: [
                    version.certificate.fingerprint for version in reversed(state.versions(domain))
                ]
                for domain in self.domains
            }

    def uploads(self) -> Counter[str]:
        """Return how many times each certificate was uploaded."""
        stored = self.world.qiniu.certificates.ever_stored()
        return Counter(copy.fingerprint for copy in stored)

    def bound(self) -> dict[str, list[str]]:
        """Return the fingerprints of each domain's bindings, oldest first."""
        fingerprint_of = {
            copy.id: copy.fingerprint for copy in self.world.qiniu.certificates.ever_stored()
        }
        bindings: dict[str, list[str]] = {domain: [] for domain in self.domains}
        for call in self.world.qiniu.api.journal:
            _, _, domain, *operation = (*call.request.path.split("/"), "", "", "")
            if (
                call.status == 200
                and operation[0] in {"httpsconf", "sslize"}
                and domain in bindings
            ):
                bindings[domain].append(fingerprint_of[json.loads(call.request.body)["certId"]])
        return bindings

    def written_after_waking(self) -> list[Noted]:
        """Return the writes of frozen processes after the freeze, under leases from before the
        freeze.
        """
        return [line for member in self.members for line in written_after_waking(member)]


def written_after_waking(member: Member) -> list[Noted]:
    """Return the writes of a host's frozen runs after the freeze, by threads that have taken no new
    lease.
    """
    writes = []
    for freeze in member.freezes:
        leased: set[int] = set()
        for line in member.noted():
            if line.process == freeze.process and line.at > freeze.ended:
                if line.kind == "lease":
                    leased.add(line.thread)
                elif line.writes and line.thread not in leased:
                    writes.append(line)
    return writes
