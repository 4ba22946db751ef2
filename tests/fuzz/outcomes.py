"""The possible outcomes of a port: a value, or an error of certferry."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hypothesis import HealthCheck, settings

from certferry.errors import CertferryError
from tests.support.tiers import examples

over_sockets = settings(
    max_examples=examples(120, 16),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
in_memory = settings(over_sockets, max_examples=examples(400, 16))


def only_ours(*calls: Callable[[], object]) -> None:
    """Make each call. Errors other than certferry's own end the test."""
    for call in calls:
        with contextlib.suppress(CertferryError):
            call()
