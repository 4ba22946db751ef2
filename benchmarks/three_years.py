"""Three years of a host with certferry, on a virtual clock.

Counted are issued certificates, calls and messages; measured are the shortest times before the end
of a certificate, and before the last moment at which a CDN takes the certificate. certferry decides
as usual: two scheduled runs a day with their later tries, plans, pauses, budget, renewal
information, rollouts, notifications. The CAs, the DNS account, the CDN and the clock are simulated,
and the same each time. Trouble begins once a year, at the run at which a renewal is due. The
program prints the tables of `docs/explanation/three-years.md`.

Usage: `python -m benchmarks.three_years [--life NAME …] [--scenario NUMBER …] [--years N]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from benchmarks.three_years_world import (
    QINIU,
    SERVER,
    Fault,
    Measured,
    Place,
    Trouble,
    World,
)

YEARS = 3.0
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
COLUMNS = (
    "what is wrong, once a year",
    "certificates",
    "orders",
    "questions when to renew",
    "DNS calls",
    "target calls",
    "changes there",
    "closest to expiry",
    "closest to the upload deadline",
    "problems told",
    "messages",
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of trouble, with or without a second CA."""

    name: str
    fault: Fault | None = None
    falls_back: bool = False


def _clock(offset: timedelta) -> Fault:
    return Fault(Trouble.CLOCK, 2 * DAY, offset)


SCENARIOS = (
    Scenario("nothing"),
    Scenario("the CA is down for a week", Fault(Trouble.CA, 7 * DAY)),
    Scenario(
        "the CA is down for a week, with `fallback`", Fault(Trouble.CA, 7 * DAY), falls_back=True
    ),
    Scenario("the DNS service is down for three days", Fault(Trouble.DNS, 3 * DAY)),
    Scenario("the target refuses the keys for five days", Fault(Trouble.TARGET, 5 * DAY)),
    Scenario("the target takes no certificate for ten days", Fault(Trouble.UPLOAD, 10 * DAY)),
    Scenario("the machine is off for a week", Fault(Trouble.HOST_OFF, 7 * DAY)),
    Scenario("the clock is an hour behind for two days", _clock(-HOUR)),
    Scenario("the clock is a day ahead for two days", _clock(DAY)),
    Scenario("the clock is a year ahead for two days", _clock(365 * DAY)),
    Scenario("the clock is twenty years behind for two days", _clock(-20 * 365 * DAY)),
)


@dataclass(frozen=True, slots=True)
class Life:
    """The lifetime of certificates, by the moment of their issue, and the place of their
    deployment.
    """

    title: str
    lifetime: Callable[[datetime], timedelta]
    place: Place = QINIU


def as_planned(now: datetime) -> timedelta:
    """Return the lifetime of Let's Encrypt's certificates (letsencrypt.org, 2026-10-07): the year
    2028 is announced, and its month taken here as the second.
    """
    if now < datetime(2027, 2, 10, tzinfo=UTC):
        return 90 * DAY
    return (64 if now < datetime(2028, 2, 1, tzinfo=UTC) else 45) * DAY


def _ninety(_: datetime) -> timedelta:
    return 90 * DAY


def _sixty_four(_: datetime) -> timedelta:
    return 64 * DAY


def _forty_five(_: datetime) -> timedelta:
    return 45 * DAY


def _short(_: datetime) -> timedelta:
    return 160 * HOUR


LIVES = {
    "planned": Life("As Let's Encrypt plans: 90, then 64, then 45 days; Qiniu", as_planned),
    "90": Life("90 days; Qiniu", _ninety),
    "64": Life("64 days; Qiniu", _sixty_four),
    "45": Life("45 days; Qiniu", _forty_five),
    "6": Life("160 hours (`shortlived`); a server, since Qiniu takes none", _short, SERVER),
}


def measure(life: str, number: int, years: float) -> Measured:
    """Simulate a scenario, by its number."""
    scenario, lives = SCENARIOS[number], LIVES[life]
    world = World(
        lives.lifetime,
        place=lives.place,
        fault=scenario.fault,
        falls_back=scenario.falls_back,
    )
    return world.live(years)


def cells(number: int, measured: Measured) -> tuple[str, ...]:
    """Return the row of a scenario."""
    calls = measured.calls
    counts = [measured.issued, calls["orders"], calls["questions"], calls["dns"]]
    counts += [calls["target"], calls["changes"]]
    distances = (measured.expiry, measured.upload)
    return (
        SCENARIOS[number].name,
        *map(str, counts),
        *map(in_days, distances),
        str(measured.problems),
        str(measured.messages),
    )


def in_days(left: timedelta | None) -> str:
    """Return a distance as days and hours, with a minus if too late."""
    if left is None:
        return "–"
    hours = int(abs(left) / HOUR)
    sign = "−" if left < timedelta(0) else ""
    return f"{sign}{hours // 24} d {hours % 24} h"


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Return the lines of a table in Markdown."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"| --- {'| ---: ' * (len(COLUMNS) - 1)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--life", nargs="+", choices=LIVES, default=list(LIVES))
    every = range(len(SCENARIOS))
    parser.add_argument("--scenario", nargs="+", type=int, choices=every, default=list(every))
    parser.add_argument("--years", type=float, default=YEARS)
    arguments = parser.parse_args()
    numbers: list[int] = arguments.scenario
    with ProcessPoolExecutor() as pool:
        for life in arguments.life:
            measurements = pool.map(
                measure,
                [life] * len(numbers),
                numbers,
                [arguments.years] * len(numbers),
            )
            rows = list(map(cells, numbers, measurements))
            print(f"### {LIVES[life].title}", "", *table(rows), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
