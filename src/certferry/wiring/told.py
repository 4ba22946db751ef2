"""A run whose end is told to operators, and that goes on as it did whatever becomes of that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from certferry.core.report import SyncReport
from certferry.errors import CertferryError, Interrupted, LeaseHeld, LeaseLost, StateError
from certferry.ports.notifier import Answered, Sent
from certferry.text import Text
from certferry.wiring.channels import Channels

_log = logging.getLogger(__name__)

_NO_TROUBLE = (Interrupted, LeaseHeld, LeaseLost, StateError)
"""What ends a run and is not told: it was stopped, another one is at work, or what was told cannot
be remembered."""


def telling(channels: Channels, run: Callable[[], SyncReport], state: Path) -> SyncReport:
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


def _tell(tell: Callable[[], Mapping[str, Answered]]) -> None:
    try:
        answers = tell()
    except CertferryError as error:
        _log.warning(
            Text(
                "certferry could not notify any channel of this run: {problem}",
                problem=error.message,
            )
        )
        return
    for name, answer in answers.items():
        if not isinstance(answer, Sent):
            _log.warning(Text("notify {channel}: {problem}", channel=name, problem=answer.problem))
