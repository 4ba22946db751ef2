"""The two tiers: the gate, which every change passes, and all, which a release passes.

`pytest.mark.thorough` keeps a test out of the gate. Where a test asks the same of many places, such
as every position of a kill, `sampled` gives the gate some of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

VARIABLE = "CERTFERRY_TEST_TIER"
THOROUGH = "thorough" == os.environ.get(VARIABLE)
thorough = pytest.mark.thorough

_SAMPLES = 8

T = TypeVar("T")


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


def examples(count: int, share: int = 4) -> int:
    """Return how many examples a property is tried on: in the gate a quarter, or another share."""
    return count if THOROUGH else max(count // share, 5)


def spread(places: range, step: int) -> range:
    """Return all places, or in the gate one of every `step`: where a run is killed at each call,
    and how many it makes is known at its end.
    """
    return places if THOROUGH else places[::step]
