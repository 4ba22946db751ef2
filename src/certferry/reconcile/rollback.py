"""Withdraw a certificate from domains, so that the next look binds the previous one there."""

from __future__ import annotations

from collections.abc import Iterator

from certferry.core.plan import Action, Rollback
from certferry.core.report import Outcome, StepOutcome
from certferry.core.rollbacks import Withdrawal
from certferry.core.waiting import wait_for
from certferry.errors import VerificationError
from certferry.reconcile.visit import Visit
from certferry.text import Text

_RETURNING = Text("the previous certificate is bound again")


def roll_back(step: Rollback, visit: Visit) -> Iterator[StepOutcome]:
    """Withdraw a certificate that edges refuse, tell so loudly, and have the lineage looked at
    again at once.
    """
    visit.held()
    withdraw(step, visit)
    error = VerificationError(
        Text("rolled back: {why}", why=step.reason.message),
        hint=Text(
            "the previous certificate is bound again, valid until {moment}; the new one is not"
            " tried here again. `certferry sync --renew {lineage}` issues another one",
            moment=step.previous_until,
            lineage=visit.lineage,
        ),
    )
    place = (step.target, step.domain)
    yield StepOutcome(Action.ROLLBACK, Outcome.FAILED, error.message, *place).failed(error)
    waiting = wait_for(_RETURNING, visit.now, visit.now)
    yield StepOutcome(Action.DEPLOY, Outcome.WAITING, _RETURNING, *place, waiting=waiting)


def withdraw(step: Rollback, visit: Visit, *, by_hand: bool = False) -> None:
    """Keep that a certificate is not to be bound to a domain again."""
    visit.doors.state.save_withdrawal(
        Withdrawal(
            visit.lineage, step.target, step.domain, step.fingerprint, visit.now, by_hand=by_hand
        )
    )
    visit.tell("rolled back", target=step.target, domain=step.domain, fingerprint=step.fingerprint)
