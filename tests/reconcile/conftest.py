"""What the tests of the engine share."""

from __future__ import annotations

import pytest

from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG


@pytest.fixture
def world() -> ModelWorld:
    """A CDN with one domain that has no HTTPS."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    return world
