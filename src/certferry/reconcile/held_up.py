"""A visit that another run holds up: it has the lease of the lineage."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from certferry.core.due import VERIFY_TIMEOUT
from certferry.core.report import Outcome, StepOutcome
from certferry.core.steps import Action
from certferry.core.waiting import wait_for
from certferry.errors import LeaseHeld, LeaseLost
from certferry.reconcile.doors import Doors
from certferry.text import Text

AT_LEAST = VERIFY_TIMEOUT
"""How long another run is waited for, however short the time-out of domains is: with the lease it
orders a certificate and uploads it, and neither is timed by that.
"""


def held_up(error: LeaseHeld | LeaseLost, doors: Doors, since: datetime) -> StepOutcome:
    """Wait for the other run, but not for ever: every later run would come to wait as well, and
    a run that hangs would look like one at work. `since` is when the lease was first refused.
    """
    now, longest = doors.now(), max(doors.verify_timeout, AT_LEAST)
    deadline = since + longest
    told = StepOutcome(Action.LOOK, Outcome.WAITING, error.message)
    if now >= deadline:
        return told.failed(_hanging(error, longest))
    waiting = wait_for(error.message, since, now, deadline)
    return replace(told.failed(error), outcome=Outcome.WAITING, waiting=waiting)


def _hanging(error: LeaseHeld | LeaseLost, longest: timedelta) -> LeaseHeld:
    return LeaseHeld(
        Text(
            "{held}; it did not end in the {time} that this run has waited",
            held=error.message,
            time=longest,
        ),
        hint=Text("look for another `certferry` that hangs (`pgrep -a certferry`), and end it"),
    )
