"""What every implementation of a port must pass: classes of tests, to inherit from."""

from __future__ import annotations

import pkgutil

import pytest

# A failing contract shows the values it compared, also in the tests of other people's adapters.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)
