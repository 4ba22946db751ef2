"""The two tiers: the gate, which every change passes, and all, which a release passes.

`pytest.mark.thorough` keeps a test out of the gate. Where a test asks the same of many places, such
as every position of a kill, `sampled` gives the gate some of them. `pytest.mark.long` has a test
that takes five seconds and more begin before the others.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

VARIABLE = "CERTFERRY_TEST_TIER"
THOROUGH = "thorough" == os.environ.get(VARIABLE)
thorough = pytest.mark.thorough
long = pytest.mark.long

_SAMPLES = 5

T = TypeVar("T")


LONG = 300.0
"""Seconds that a long test may take: on two cores, eight of them begin side by side."""


def allow_long(items: Sequence[pytest.Item]) -> None:
    """Let each long test without a limit of its own take `LONG` seconds."""
    for item in items:
        is_long = item.get_closest_marker("long") is not None
        if is_long and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG))


def long_ones_first(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests with the long ones at the beginnings of as many equal shares as there are
    workers: that is how xdist's worksteal deals them out at first. A long one that began last would
    leave the other workers idle.
    """
    first = [item for item in items if item.get_closest_marker("long") is not None]
    others = iter([item for item in items if item.get_closest_marker("long") is None])
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        left = len(items) - len(ordered)
        share = first[worker::workers]
        share += itertools.islice(others, max(left // (workers - worker) - len(share), 0))
        ordered += share
    return [*ordered, *others]


def sampled(places: Sequence[T], samples: int = _SAMPLES) -> Sequence[T]:
    """Return all places, or in the gate some that lie evenly between the first and the last; of one
    sample, the first.
    """
    if THOROUGH or len(places) <= samples:
        return places
    if samples == 1:
        return places[:1]
    last = len(places) - 1
    return [places[round(last * n / (samples - 1))] for n in range(samples)]


def examples(count: int, share: int = 8) -> int:
    """Return how many examples a property is tried on: in the gate an eighth, or another share."""
    return count if THOROUGH else max(count // share, 5)


def spread(places: range, step: int) -> range:
    """Return all places, or in the gate one of every `step`: where a run is killed at each call,
    and how many it makes is known at its end.
    """
    return places if THOROUGH else places[::step]
