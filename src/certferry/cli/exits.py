"""Every exit code, and what decides it.

0 in order · 1 something failed · 2 usage or configuration · 3 refused for safety · 4 changes
pending (`plan --check`) · 75 still in progress or locked by another run, try again later ·
130 stopped by Ctrl-C or a signal to end · 141 the output has no reader any more.

Where several are true, the first of 130, 1, 3, 75 and 4 wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

import click

from certferry.errors import (
    ConfigError,
    DatabaseUnavailable,
    Interrupted,
    LeaseHeld,
    LeaseLost,
    PlanRefused,
)

if TYPE_CHECKING:  # the core loads the crypto library, which `--help` must not
    from certferry.core.assessment.health import Recorded
    from certferry.core.assessment.status import LineageStatus
    from certferry.core.discovery.watched import HostLook
    from certferry.core.planning.plan import Plan
    from certferry.core.planning.report import SyncReport
    from certferry.problem import Problem


class Exit(IntEnum):
    """What a run answers its caller."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    PENDING = 4
    TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h
    STOPPED = 130  # 128 + SIGINT, as shells count
    NO_READER = 141  # 128 + SIGPIPE, as shells count


def of_error(error: BaseException) -> Exit:
    """Judge what ended a command before it had a result."""
    match error:
        case ConfigError() | click.UsageError():
            return Exit.USAGE
        case PlanRefused():
            return Exit.REFUSED
        case LeaseHeld() | LeaseLost() | DatabaseUnavailable():
            return Exit.TRY_LATER
        case Interrupted():
            return Exit.STOPPED
        case _:
            return Exit.FAILED


def of_report(report: SyncReport) -> Exit:
    """Judge a sync: by its worst outcome."""
    from certferry.core.planning.report import Result, of_run

    codes = {
        Result.IN_ORDER: Exit.OK,
        Result.WAITING: Exit.TRY_LATER,
        Result.FAILED: Exit.FAILED,
        Result.REFUSED: Exit.REFUSED,
        Result.STOPPED: Exit.STOPPED,
    }
    return codes[of_run(report)]


def of_hook(report: SyncReport) -> Exit:
    """Judge a sync that another ACME client began. It reports every code but 0 as a
    failure of the renewal; what is on its way, or waits for another run, is none.
    """
    code = of_report(report)
    return Exit.OK if code is Exit.TRY_LATER else code


def of_plans(plans: Sequence[Plan], *, check: bool) -> Exit:
    """Judge plans: by what stands in their way, then, if asked, by whether anything is pending.
    What `sync` would refuse is refused here too, and what it would only find stuck is a failure.
    """
    from certferry.core.planning.plan import Weight

    errors = [finding.error for plan in plans for finding in plan.having(Weight.BLOCKED)]
    refused = [error for error in errors if isinstance(error, PlanRefused)]
    if len(errors) > len(refused) or any(plan.timed_out for plan in plans):
        return Exit.FAILED
    if refused or any(plan.having(Weight.REFUSED) for plan in plans):
        return Exit.REFUSED
    if check and not all(plan.is_empty and plan.issue_later is None for plan in plans):
        return Exit.PENDING
    return Exit.OK


def of_statuses(statuses: Sequence[LineageStatus], recorded: Recorded) -> Exit:
    """Judge what stands: what needs a person is a failure; so is a state that cannot be used."""
    from certferry.core.assessment.status import are_in_order

    return Exit.OK if are_in_order(statuses, recorded) else Exit.FAILED


def of_problems(problems: Sequence[Problem]) -> Exit:
    """Judge what `doctor` found, or what could not be looked at: an error is a failure, and nothing
    else. What keys may not see is a warning.
    """
    return Exit.FAILED if any(one.is_error for one in problems) else Exit.OK


def of_looks(looks: Sequence[HostLook]) -> Exit:
    """Judge what hosts serve: every address presents a valid certificate, or it is a failure."""
    return Exit.OK if all(look.ok for look in looks) else Exit.FAILED
