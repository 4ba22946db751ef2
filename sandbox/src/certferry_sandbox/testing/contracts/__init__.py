"""The contracts of ports: classes of tests that the tests of each implementation inherit."""

from __future__ import annotations

import pkgutil

import pytest

# With rewritten asserts, a failed test shows the compared values, in foreign packages too.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)
