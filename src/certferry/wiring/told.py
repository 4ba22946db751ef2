"""Make a run and tell operators how it ended; a channel that fails does not fail the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from certferry.core.report import SyncReport
from certferry.errors import CertferryError, Interrupted, LeaseHeld, LeaseLost, StateError
from certferry.ports.notifier import Answered, Sent
from certferry.text import Text

_log = logging.getLogger(__name__)

_NO_TROUBLE = (Interrupted, LeaseHeld, LeaseLost, StateError)
"""Errors that end a run and are not told: the operator stopped it, another run is at work, or the
state cannot be written."""


class _Channels(Protocol):
    """Listens to the end of a run: the channels, or the notices alone."""

    def tell(self, report: SyncReport) -> Mapping[str, Answered]:
        """Tell how a run ended."""
        ...

    def tell_failure(self, error: CertferryError) -> Mapping[str, Answered]:
        """Tell what ended a run before it had a report."""
        ...


def telling(channels: _Channels, run: Callable[[], SyncReport], state: Path) -> SyncReport:
    """Make a run, and tell what it has left. An error is told where there is a `state` already: the
    first run of all has an operator before it.
    """
    try:
        report = run()
    except CertferryError as error:
        if state.exists() and not isinstance(error, _NO_TROUBLE):
            _tell(partial(channels.tell_failure, error))
        raise
    if report.complete:
        _tell(partial(channels.tell, report))
    return report


def tell_failure(channels: _Channels, error: CertferryError) -> None:
    """Tell what ended a run."""
    _tell(partial(channels.tell_failure, error))


def _tell(tell: Callable[[], Mapping[str, Answered]]) -> None:
    try:
        answers = tell()
    except CertferryError as error:
        _log.warning(
            Text(
                "certferry could not record this run, and notified no channel: {problem}",
                problem=error.message,
            )
        )
        return
    for name, answer in answers.items():
        if not isinstance(answer, Sent):
            _log.warning(Text("notify {channel}: {problem}", channel=name, problem=answer.problem))
