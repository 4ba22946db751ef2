"""What the console's first screen costs with 3,000 certificates, 1,000 of them in trouble.

The processor's time for a page (at most 50 ms) and the page's size (at most 100 kB), as a multiple
of an almost empty page in the same rounds. The facts of all certificates are read at most once in
two seconds for all visitors; what that takes is printed beside, without a limit.

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
    """Store certificates of every age, and that their domains have them. The certificates of an age
    are one, because making thousands takes minutes.
    """
    made = {age: make_bundle("example.com", not_before=NOW - age * DAY) for age in range(59)}
    seen = []
    for number in range(count):
        name, age = f"c{number}", number % 59
        lease = state.acquire(name, NOW)
        state.save_version(lease, made[age], NOW - age * DAY)
        state.release(lease)
        fingerprint = made[age].certificate.fingerprint
        seen += [
            Sighting(name, "qiniu", domain, served=True, since=NOW, fingerprint=fingerprint)
            for domain in domains_of(number)
        ]
    state.update_sightings(lambda _: tuple(seen))
    state.save_run(NOW, succeeded=True)


def answered(app: ASGIApp, path: str) -> bytes:
    """Return the body of a page, asked for in this process."""
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
    """Print the figures, and say whether the promises are kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--certificates", type=int, default=3000)
    parser.add_argument("--troubled", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    tables = tables_of(asked.certificates)
    with tempfile.TemporaryDirectory() as folder, site_in(Path(folder), tables) as site:
        state = site.workspace().state
        print(f"storing {asked.certificates:,} certificates", file=sys.stderr)
        furnish(state, asked.certificates)
        state.update_notices(lambda _: troubles(asked.troubled))
        screen, other, size = measured(site, asked.rounds)
        began = time.process_time()
        read_snapshot(site.workspace())
        reading = 1000 * (time.process_time() - began)
    median = statistics.median(screen)
    ratio = statistics.median(one / bare for one, bare in zip(screen, other, strict=True))
    print(f"first screen     {median:8.1f} ms of {LONGEST:g} ms   {ratio:5.1f} x {MEASURE}")
    print(f"its size         {size / 1000:8.1f} kB of {LARGEST / 1000:g} kB")
    print(f"reading anew     {reading:8.1f} ms, at most once in two seconds")
    return int(median > LONGEST or size > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
