"""A run that is told to end while something hangs: it ends within five seconds, in order."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from subprocess import Popen

import pytest

from certferry.cli.exits import Exit
from certferry.errors import LeaseHeld
from certferry_sandbox.faults import Fault
from tests.acceptance.footprint import challenges
from tests.acceptance.host import Host
from tests.support.tiers import sampled
from tests.support.waiting import eventually

PROMISED = 5.0  # seconds
DEADLINE = 60.0  # seconds, for what must come before
SIGNALS = [signal.SIGTERM, signal.SIGINT]


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
    """Tell the process to end, and measure."""
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
    ("command", "how"), sampled(list(product(["sync", "plan", "status"], SIGNALS)), 2)
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


@pytest.mark.parametrize("how", sampled(SIGNALS, 1))
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


@pytest.mark.parametrize("how", sampled(SIGNALS, 1))
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


@pytest.mark.parametrize("how", sampled(SIGNALS, 1))
def test_name_server_that_hangs(host: Host, how: signal.Signals) -> None:
    """A resolver that loses every question holds up no end."""
    resolver = host.world.dns.resolver
    before = len(resolver.queries)
    resolver.down()
    with host.begin("sync") as process:
        assert eventually(lambda: len(resolver.queries) > before)
        assert seconds_to_end(process, how) < PROMISED

    assert Exit.STOPPED == process.returncode
