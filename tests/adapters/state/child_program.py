"""Programs that tests run in a child process: `child_program.py PROGRAM FOLDER`."""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from certferry.adapters.state.connect import connect
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.observed.stored_runs import RunEvent, RunKind, RunSource, StoredRun
from certferry.errors import LeaseHeld, StateError
from certferry.ports.state import AcmeAccount, AcmeOrder, StateStore
from certferry.text import Text
from certferry_sandbox.testing.certificates import make_bundle, make_key

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIRECTORY = "https://ca.test/directory"
NOBODY = 65534
BLOCK = 4096
PLENTY = 1000


def send(message: Any) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 - the parent reads this line


def wait() -> None:
    sys.stdin.readline()


def opened(folder: Path) -> StateStore:
    """Open the state of a folder, as the fixture does."""
    return connect(folder / "state.db", folder / "secret.key")


def bundle(number: int = 1) -> CertificateBundle:
    return make_bundle(f"v{number}.example.com", not_before=NOW)


def take_lease(folder: Path) -> None:
    """Race for the lease of a lineage; the winner keeps the lease."""
    send("ready")
    wait()
    store = opened(folder)
    try:
        send(store.acquire("img", NOW).token)
    except LeaseHeld:
        send(None)
    wait()


def take_lease_and_start_a_program(folder: Path) -> None:
    """Hold a lease, and start a program that outlives the holder."""
    opened(folder).acquire("img", NOW)
    program = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
    send(program.pid)
    wait()


def begin_a_run(folder: Path) -> None:
    """Begin a run, and report one event."""
    store = opened(folder)
    number = store.begin_run(NOW).number
    run = StoredRun("a", RunKind.SYNC, RunSource.SCHEDULE, "root", store.host, NOW, number=number)
    store.save_run_begin(run)
    store.append_run_events("a", [RunEvent(1, NOW, "img", "issue", Text("issues"))])
    send(number)
    wait()


def register(folder: Path) -> None:
    """Race with a new account key, in a state that does not exist yet."""
    account = AcmeAccount(DIRECTORY, make_key())
    send("ready")
    wait()
    store = opened(folder)
    send(store.save_account(account).key_pem.reveal())
    store.close()


def write(folder: Path) -> None:
    """Write an order, then its version, again and again; announce each write beforehand."""
    store = opened(folder)
    lease = store.acquire("img", NOW)
    for number in itertools.count(len(store.versions("img")) + 1):
        names = (f"v{number}.example.com",)
        send("order")
        store.save_order(
            lease, AcmeOrder("img", DIRECTORY, f"order/{number}", names, make_key(), created_at=NOW)
        )
        send("version")
        store.save_version(lease, bundle(number), NOW)


def run_out_of_allowed_size(folder: Path) -> None:
    """Write up to a limit on the size of files, then once without the limit."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit() -> None:
        size = (folder / "state.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))

    _write_around(folder, limit, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, unlimited))


def run_out_of_disk(folder: Path) -> None:
    """Write on a disk that another program has filled, then once after space is free again."""
    filler = folder / "filler"

    def fill() -> None:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            for _ in range(PLENTY):
                file.write(b"\0" * BLOCK)

    _write_around(folder, fill, filler.unlink)
    fill()
    try:
        opened(folder)
    except StateError as error:
        send([error.code, str(error), str(error.hint)])


def look(folder: Path) -> None:
    """Open the state as a reading command does, and read from the state."""
    try:
        with closing(connect(folder / "state.db", folder / "secret.key", reads_only=True)) as store:
            send(sorted(store.versions_in_use()))
    except StateError as error:
        send([error.code, str(error), str(error.hint)])


def _write_around(folder: Path, fill: Callable[[], None], make_room: Callable[[], None]) -> None:
    store = opened(folder)
    lease = store.acquire("img", NOW)
    store.save_version(lease, bundle(1), NOW)
    fill()
    try:
        for number in itertools.count(2):
            store.save_version(lease, bundle(number), NOW)
    except StateError as error:
        stored = len(store.versions("img"))
        send([error.code, str(error), str(error.hint), error.retry.allowed, stored, number - 1])
    make_room()
    send(store.save_version(lease, bundle(number), NOW).number)
    store.close()


def open_as_somebody_else(folder: Path) -> None:
    """Open the state without permission: root becomes another user first."""
    with tempfile.TemporaryDirectory() as elsewhere:
        # Import all modules first: another user may be unable to read certferry's files.
        opened(Path(elsewhere)).close()
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        opened(folder)
    except StateError as error:
        send([error.code, str(error), str(error.hint)])
    os.seteuid(os.getuid())


PROGRAMS = {
    program.__name__: program
    for program in (
        take_lease,
        take_lease_and_start_a_program,
        begin_a_run,
        register,
        write,
        run_out_of_allowed_size,
        run_out_of_disk,
        look,
        open_as_somebody_else,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
