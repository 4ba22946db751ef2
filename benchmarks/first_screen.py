"""The cost of the console's first screen with 3,000 certificates, 1,000 of them in trouble.

Measured are the processor's time for a page (at most 50 ms) and the page's size (at most 100 kB),
with an almost empty page in the same rounds. The facts of all certificates are read at most once in
two seconds for all visitors; the time of a read is printed without a limit.

Usage: `python -m benchmarks.first_screen [--certificates N] [--troubled N] [--rounds N]`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp, Message

from certferry.console.app import pages_of
from certferry.console.site import Site
from certferry.console.snapshot import read_snapshot
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.errors import Problem
from certferry.ports.state import StateStore
from certferry.text import Text
from certferry_sandbox.testing.certificates import make_bundle
from tests.console.serving import AsVisitor
from tests.console.stored_site import DAY, NOW, domains_of, site_in, tables_of

PAGE, MEASURE = "/", "/account"
LONGEST = 50.0  # milliseconds of a core
LARGEST = 100_000  # bytes
CAUSES = 25


def troubles(count: int) -> tuple[Notice, ...]:
    """Return trouble of so many certificates, with `CAUSES` causes."""
    hint = Text("renew the certificate: `certferry sync --renew c0`, or read `certferry doctor`")
    message = Text("the target refuses the certificate, because another change has not ended yet")
    return tuple(
        Notice(
            Topic.TROUBLE,
            Subject(f"c{number}", "qiniu", f"d0.c{number}.example.com"),
            NOW - DAY,
            Problem(f"code{number % CAUSES}", message, hint),
            NOW + (number % 80) * DAY,
        )
        for number in range(count)
    )


def furnish(state: StateStore, count: int) -> None:
    """Store certificates of every age, and their sightings. Certificates of the same age share a
    bundle, because thousands of bundles take minutes.
    """
    made = {age: make_bundle("example.com", not_before=NOW - age * DAY) for age in range(59)}
    sightings = []
    for number in range(count):
        name, age = f"c{number}", number % 59
        lease = state.acquire(name, NOW)
        state.save_version(lease, made[age], NOW - age * DAY)
        state.release(lease)
        fingerprint = made[age].certificate.fingerprint
        sightings += [
            Sighting(name, "qiniu", domain, served=True, since=NOW, fingerprint=fingerprint)
            for domain in domains_of(number)
        ]
    state.update_sightings(lambda _: tuple(sightings))
    state.save_run(NOW, succeeded=True)


def answered(app: ASGIApp, path: str) -> bytes:
    """Return the body of a page, requested in this process."""
    body = bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        body.extend(message.get("body", b""))

    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [],
        "scheme": "http", "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip

    async def ask() -> None:
        await app(scope, receive, send)

    asyncio.run(ask())
    return bytes(body)


def milliseconds(app: ASGIApp, path: str) -> float:
    """Return the processor's time for a page."""
    began = time.process_time()
    answered(app, path)
    return 1000 * (time.process_time() - began)


def measured(site: Site, rounds: int) -> tuple[Sequence[float], Sequence[float], int]:
    """Return the times of the first screen and of the other page, and the first screen's size."""
    app = AsVisitor(pages_of(site))
    size = len(answered(app, PAGE))
    answered(app, MEASURE)
    screen, other = [], []
    for _ in range(rounds):
        site.stored.latest()
        screen.append(milliseconds(app, PAGE))
        other.append(milliseconds(app, MEASURE))
    return screen, other, size


def main() -> int:
    """Print the figures, and return whether a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--certificates", type=int, default=3000)
    parser.add_argument("--troubled", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    tables = tables_of(arguments.certificates)
    with tempfile.TemporaryDirectory() as folder, site_in(Path(folder), tables) as site:
        state = site.workspace().state
        print(f"storing {arguments.certificates:,} certificates", file=sys.stderr)
        furnish(state, arguments.certificates)
        state.update_notices(lambda _: troubles(arguments.troubled))
        screen, other, size = measured(site, arguments.rounds)
        began = time.process_time()
        read_snapshot(site.workspace())
        reading = 1000 * (time.process_time() - began)
    median = statistics.median(screen)
    ratio = statistics.median(
        of_screen / bare for of_screen, bare in zip(screen, other, strict=True)
    )
    print(f"first screen     {median:8.1f} ms of {LONGEST:g} ms   {ratio:5.1f} x {MEASURE}")
    print(f"its size         {size / 1000:8.1f} kB of {LARGEST / 1000:g} kB")
    print(f"reading anew     {reading:8.1f} ms, at most once in two seconds")
    return int(median > LONGEST or size > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
