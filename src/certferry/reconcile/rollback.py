"""Watch edges that worked, and withdraw a certificate that they refuse: the next look binds the
previous one there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from certferry.core.certificates.lineage import Withdrawal
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.rollbacks import all_work, with_refusal
from certferry.core.planning.steps import Action, Deploy, Rollback, Verify
from certferry.core.waiting import wait_for
from certferry.errors import (
    VerificationError,
)
from certferry.reconcile.visit import Visit
from certferry.text import Text

_RETURNING = Text("the previous certificate is bound again")


def roll_back(step: Rollback, visit: Visit) -> Iterator[StepOutcome]:
    """Withdraw a certificate that edges refuse, tell so loudly, and have the lineage looked at
    again at once.
    """
    visit.renew_lease()
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
    yield StepOutcome.of(Action.ROLLBACK, error, Outcome.FAILED, *place)
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


def with_handshakes(step: Deploy, record: RolloutRecord, visit: Visit) -> RolloutRecord:
    """Add whether all addresses complete handshakes before the change, which a rollback has to
    know: one that refuses them already is no news afterwards. It is kept at once: after the
    change, a run that follows a killed one cannot tell.
    """
    if record.worked_before:
        return record
    served = visit.doors.probe.look([step.domain]).get(step.domain, ())
    if all_work(served):
        record = replace(record, worked_before=True)
        visit.doors.state.save_rollout(record)
    return record


def note_refusal(step: Verify, record: RolloutRecord, visit: Visit) -> None:
    """Write down since when edges that worked before refuse the certificate."""
    target, domain = visit.observed.locate(step.target, step.domain)
    after = with_refusal(record, domain, target.served.get(step.domain, ()), visit.now)
    if after != record:
        visit.doors.state.replace_rollout(record, after)
