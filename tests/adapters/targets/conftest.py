"""What the tests of the Qiniu target share: a strict stand-in, and the target on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry.adapters.targets.qiniu import Qiniu
from tests.adapters.qiniu_place import Place, open_place


@pytest.fixture
def place() -> Iterator[Place]:
    """Run a strict stand-in that resets what a change leaves out."""
    with open_place() as opened:
        yield opened


@pytest.fixture
def target(place: Place) -> Qiniu:
    """Give the target under test."""
    return place.target()
