"""A world that the tests of the console share, and a machine in it."""

from __future__ import annotations

from tests.acceptance.conftest import (  # noqa: F401 - fixtures, found here by their names
    host,
    name,
    new_name,
    one_world,
    shared_world,
    world,
)
