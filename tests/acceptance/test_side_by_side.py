"""Several runs on one state at once, as processes: each knows what another has just done."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from certferry.core.observed.records import HistoryEntry
from certferry_sandbox.world import World
from tests.acceptance.footprint import Footprint
from tests.acceptance.host import LONGEST_RUN, Host, certificate
from tests.support.tiers import THOROUGH

PROCESSES = 4
ROUNDS = 20 if THOROUGH else 2
SHARES = 4
"""The rounds are shared out to so many tests, which run in parallel."""
WHAT_MISLED = ("has not taken effect", "another tool", "drift found")


@pytest.fixture
def slow(world: World) -> Iterator[World]:
    """The world, in which a name server is behind: an order takes its time, under its lease."""
    behind = world.dns.servers[1]
    lag, behind.lag = behind.lag, 0.5
    yield world
    behind.lag = lag


@pytest.fixture
def host(slow: World, tmp_path: Path, new_name: Callable[[], str]) -> Host:
    """A machine whose certificate is served at two domains, and that waits ten seconds for one."""
    names = new_name(), new_name()
    for name in names:
        slow.add_http_domain(name)
    host = Host(slow, tmp_path, certificate(*names, name="img"))
    host.rewrite("[verify]", "[verify]\ntimeout = 10")
    assert 0 == host.run("sync").code
    return host


@pytest.mark.parametrize("share", range(SHARES if THOROUGH else 1))
def test_four_runs_at_once(host: Host, share: int) -> None:
    """One renews, and the others begin while it is at work. Each ends well and calls nothing drift;
    together they write to the CDN what one run would have written. What went wrong can be tried
    again with the seed that is told.
    """
    begun = time.monotonic()
    assert 0 == host.run("sync", "--renew", "img").code
    usual = time.monotonic() - begun
    for number in range(ROUNDS // (SHARES if THOROUGH else 1)):
        seed = f"{share}/{number}/{os.urandom(4).hex()}"
        moments = random.Random(seed)  # noqa: S311 - when a test begins a run is no secret
        before, told_before = Footprint.of(host.world), len(history(host))

        runs = at_once(host, sorted(moments.uniform(0, usual) for _ in range(PROCESSES - 1)))

        for code, out, err in runs:
            assert 0 == code, (seed, out, err)
            assert json.loads(out)["ok"], seed
            assert not [words for words in WHAT_MISLED if words in out + err], (seed, out, err)
        left = Footprint.of(host.world) - before
        events = Counter(entry.event for entry in history(host)[told_before:])
        assert {"issued": 1, "uploaded": 1, "deployed": 2, "verified": 2, "retired": 1} == events, (
            seed,
            runs,
        )
        assert (1, 4) == (left.qiniu_uploads, left.qiniu_writes), seed


def at_once(host: Host, moments: list[float]) -> list[tuple[int, str, str]]:
    """Renew, begin another run at each moment after that, and give what all ended with."""
    with ExitStack() as beside:
        first = beside.enter_context(host.begin("sync", "--renew", "img", "--json"))
        others, begun = [], time.monotonic()
        for moment in moments:
            with suppress(subprocess.TimeoutExpired):
                first.wait(max(begun + moment - time.monotonic(), 0))
            others.append(beside.enter_context(host.begin("sync", "--json")))
        ended = [(run, *run.communicate(timeout=LONGEST_RUN)) for run in (first, *others)]
        return [(run.returncode, out, err) for run, out, err in ended]


def history(host: Host) -> list[HistoryEntry]:
    """What has happened so far, oldest first."""
    with host.remembering() as store:
        return list(store.history("img", 10_000))[::-1]
