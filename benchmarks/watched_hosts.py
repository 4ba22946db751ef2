"""The time of a look at 200 watched hosts, and at 100 silent hosts beside them.

Probe and handshakes are real, on loopback. Each host answers after a second, as a host on another
continent does. A silent host accepts connections, and never answers the handshake.

The program prints the seconds and the processor time, and fails if 200 hosts take longer than 20
seconds, if silent hosts delay the others, or if the look exceeds its bound.

Usage: `python -m benchmarks.watched_hosts`, for about three minutes.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from certferry.adapters.probe.tls import TlsProbe
from certferry.core.network import Host
from certferry.reconcile.host_look import LONGEST, Asked, HostLook
from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.edges import Edges

LIVING, SILENT = 200, 100
MOST_SECONDS = 20
LATENCY = 1.0
LAST_HOST = timedelta(seconds=40)
"""The longest time for the last host: two time-outs for an address, and twice the host."""


def now() -> datetime:
    """Return the time of the machine."""
    return datetime.now(UTC)


def main() -> int:
    """Measure both looks, and return the exit code."""
    certificate = Authority("Harbour").issue(
        ["*.example.com"], now() - timedelta(days=1), now() + timedelta(days=60)
    )

    def serving(_: str, __: datetime) -> Issued:
        time.sleep(LATENCY)
        return certificate

    addresses = {f"127.0.1.{number}": timedelta(0) for number in range(1, LIVING + 1)}
    with ExitStack() as world:
        edges = world.enter_context(Edges(serving, addresses, clock=now))
        living = [
            Host(f"h{number}.example.com", edges.port, address)
            for number, address in enumerate(addresses)
        ]
        silent = []
        for number in range(SILENT):
            server = socket.create_server((f"127.0.2.{number + 1}", 0))
            world.enter_context(server)
            silent.append(Host(*server.getsockname()[:2]))
        alone, _ = measured("200 hosts that answer", living)
        both, answered = measured("and 100 silent hosts, asked in turn with them", silent + living)
    is_right = (
        alone <= MOST_SECONDS
        and answered == LIVING
        and both <= (LONGEST + LAST_HOST).total_seconds()
    )
    return 0 if is_right else 1


def measured(what: str, hosts: Sequence[Host]) -> tuple[float, int]:
    """Look at hosts, print the times, and return the seconds and the number of answers."""
    probe = TlsProbe([], now, pause=lambda _: None)
    asked = [Asked(host, "shop", timedelta(days=14), probe) for host in hosts]
    began, worked = time.monotonic(), time.process_time()
    looks = HostLook({}, "here", lambda _: None, now).look(asked)
    seconds, work = time.monotonic() - began, time.process_time() - worked
    answered = sum(not look.is_silent for look in looks)
    sys.stdout.write(
        f"{what}: {seconds:.1f} s, {work:.1f} s of the processor,"
        f" {answered} answers, {len(hosts) - len(looks)} left for the next look\n"
    )
    return seconds, answered


if __name__ == "__main__":
    sys.exit(main())
