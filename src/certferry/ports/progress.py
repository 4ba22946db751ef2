"""The door to whoever follows a run while it goes on."""

from __future__ import annotations

from collections.abc import Callable

from certferry.core.report import Event

Progress = Callable[[Event], None]
"""Called from the thread that does the work; must return at once and never raise."""

Pause = Callable[[float], None]
"""Wait this many seconds; raises `Interrupted` as soon as the run is stopped, once in each thread:
what is waited for after that belongs to putting things in order.
"""


def nobody(event: Event) -> None:
    """Follow nothing."""
    del event
