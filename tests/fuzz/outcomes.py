"""What a port does with anything: it gives a value, or raises an error of certferry's."""

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
    """Make each call. Whatever else than certferry's own error gets out ends the test."""
    for call in calls:
        with contextlib.suppress(CertferryError):
            call()
