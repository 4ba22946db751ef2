"""A visit that another run holds up: it has the lease of the lineage."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from certferry.core.report import Outcome, StepOutcome
from certferry.core.steps import Action
from certferry.core.waiting import wait_for
from certferry.errors import LeaseHeld, LeaseLost
from certferry.reconcile.doors import Doors
from certferry.text import Text


def held_up(error: LeaseHeld | LeaseLost, doors: Doors, since: datetime) -> StepOutcome:
    """Wait for the other run, but not for ever: every later run would come to wait as well, and
    a run that hangs would look like one at work. `since` is when the lease was first refused.
    """
    now, deadline = doors.now(), since + doors.verify_timeout
    told = StepOutcome(Action.LOOK, Outcome.WAITING, error.message)
    if now >= deadline:
        return told.failed(_hanging(error, doors))
    waiting = wait_for(error.message, since, now, deadline)
    return replace(told.failed(error), outcome=Outcome.WAITING, waiting=waiting)


def _hanging(error: LeaseHeld | LeaseLost, doors: Doors) -> LeaseHeld:
    return LeaseHeld(
        Text(
            "{held}; it did not end in the {time} that this run has waited",
            held=error.message,
            time=doors.verify_timeout,
        ),
        hint=Text("look for another `certferry` that hangs (`pgrep -a certferry`), and end it"),
    )
