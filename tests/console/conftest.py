"""Fixtures of the console's tests: a shared world, and a machine in the world."""

from __future__ import annotations

from tests.acceptance.conftest import (  # noqa: F401 - fixtures, found here by their names
    host,
    name,
    new_name,
    one_world,
    shared_world,
    world,
)
