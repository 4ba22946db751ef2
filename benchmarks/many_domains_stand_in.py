"""Qiniu's stand-in as a process of its own, started by `many_domains.py`.

Its memory stays out of certferry's. Its time comes from a file that the other process writes: a
double, in seconds since START. The first line of its output has its addresses; each line of input
is answered with the new requests by host, method and path, as JSON.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry_sandbox.qiniu.service import QiniuService

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEYS = ("benchmark-access-key", "benchmark-secret-key")
RATE = 10  # requests a second of an account that a host accepts (docs/facts/qiniu.md §9)
SECONDS = struct.Struct("<d")


def clock_in(path: Path) -> Callable[[], datetime]:
    """Return a clock that reads the time from a file."""
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), SECONDS.size)
    return lambda: START + timedelta(seconds=float(SECONDS.unpack(shared)[0]))


def main() -> None:
    """Serve until the input ends. Arguments: the clock's file, the trusted issuer's, the domains',
    and the seconds of a change.
    """
    clock, issuer, domains = (Path(argument) for argument in sys.argv[1:4])
    processing = timedelta(seconds=float(sys.argv[4]))
    service = QiniuService(clock=clock_in(clock), processing_time=processing)
    service.trust(issuer.read_text())
    service.add_account(*KEYS)
    service.rate_limit.per_second = RATE
    for name in domains.read_text().split():
        service.add_domain(name)
    with service:
        names = ("api", "fusion", "uc", "api_backup", "uc_backup", "pili")
        tell({name: getattr(service, f"{name}_url") for name in names})
        reported: Counter[str] = Counter()
        for _ in sys.stdin:
            all_of_them = Counter(kinds(service))
            tell(all_of_them - reported)
            reported = all_of_them


def kinds(service: QiniuService) -> Iterator[str]:
    """Yield the kind of each request; a refused request has its status."""
    for host in service.services:
        for call in host.journal:
            path = re.sub(r"/domain/[^/]+", "/domain/NAME", call.request.path)
            path = re.sub(r"/sslcert/.+", "/sslcert/ID", path)
            refused = "" if call.status == 200 else f" ({call.status})"  # noqa: PLR2004 - HTTP's OK
            yield f"{call.request.method} {path}{refused}"


def tell(document: object) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
