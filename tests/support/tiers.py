"""The two tiers of tests: the gate for every change, and all tests for a release.

`pytest.mark.thorough` excludes a test from the gate. `sampled` gives the gate some of many similar
places, such as the positions of a kill. `pytest.mark.long` lets a test of five seconds or more
begin before other tests.
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


LONG = 900.0 if THOROUGH else 300.0
"""The seconds that a long test may take: on two cores eight long tests begin side by side, and in
the thorough tier Python runs at half its speed.
"""


def allow_long(items: Sequence[pytest.Item]) -> None:
    """Let each long test without its own limit take `LONG` seconds."""
    for item in items:
        is_long = item.get_closest_marker("long") is not None
        if is_long and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG))


def long_ones_first(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests in an order in which each worker begins with long tests.

    xdist's worksteal first divides the tests into equal shares, so the long tests are at the
    beginnings of as many shares. A long test at the end would leave the other workers idle.
    """
    first = [item for item in items if item.get_closest_marker("long") is not None]
    others = iter([item for item in items if item.get_closest_marker("long") is None])
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        remaining = len(items) - len(ordered)
        share = first[worker::workers]
        share += itertools.islice(others, max(remaining // (workers - worker) - len(share), 0))
        ordered += share
    return [*ordered, *others]


def sampled(places: Sequence[T], samples: int = _SAMPLES) -> Sequence[T]:
    """Return all places, or in the gate `samples` places, evenly between the first and the last; a
    single sample is the first.
    """
    if THOROUGH or len(places) <= samples:
        return places
    if samples == 1:
        return places[:1]
    last = len(places) - 1
    return [places[round(last * n / (samples - 1))] for n in range(samples)]


def examples(count: int, share: int = 8) -> int:
    """Return the number of a property's examples: in the gate an eighth, or another share."""
    return count if THOROUGH else max(count // share, 5)


def spread(places: range, step: int) -> range:
    """Return all places, or in the gate every `step`th place, for kills at each call of a run with
    an unknown number of calls.
    """
    return places if THOROUGH else places[::step]
