"""Fixtures of the reconciler's tests."""

from __future__ import annotations

import pytest

from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG


@pytest.fixture
def world() -> ModelWorld:
    """Return a CDN with one domain without HTTPS."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    return world
