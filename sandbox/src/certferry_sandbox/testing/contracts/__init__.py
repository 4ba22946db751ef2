"""The contracts of ports: classes of tests, for the tests of each implementation to inherit."""

from __future__ import annotations

import pkgutil

import pytest

# A failing contract then shows the compared values, also in the tests of adapters elsewhere.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)
