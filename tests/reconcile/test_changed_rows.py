"""A lineage with a row that another program wrote or changed, beside intact lineages."""

from __future__ import annotations

from certferry.core.assessment.health import Expected, checkup
from certferry.core.assessment.status import Standing
from certferry.core.planning.plan import Weight
from certferry.core.planning.report import Outcome
from certferry.errors import StateForeign
from certferry.reconcile.reads import plans_of, recorded, statuses_of
from certferry.reconcile.run import WaitLimit
from tests.reconcile.many_certificates import ManyCertificates, now

NEVER_RENEWED = "UPDATE version SET not_after = '8990-01-01T00:00:00.000000Z' WHERE lineage = ?"


def test_version_that_another_program_changed() -> None:
    """The lineage fails with a sentence and a hint, and the other lineages go on; plan, status and
    check report the row as well.
    """
    many = ManyCertificates(3)
    first, second, third = many.certificates
    reconciler = many.reconciler()
    assert reconciler.sync([first, second], WaitLimit()).has_succeeded
    many.state.write(NEVER_RENEWED, first.lineage)

    report = reconciler.sync(many.certificates, WaitLimit())

    foreign, *others = report.lineages
    [outcome] = foreign.outcomes
    assert (Outcome.FAILED, StateForeign.code) == (outcome.outcome, outcome.code)
    assert f"version 1 of {first.lineage}" in str(outcome.detail)
    assert "check who else can write to the database" in str(outcome.hint)
    assert [True, True] == [one.ok for one in others]
    assert many.state.versions(third.lineage)

    blocked, *planned = plans_of(reconciler.ports, many.certificates)
    assert [StateForeign] == [type(one.error) for one in blocked.having(Weight.BLOCKED)]
    assert () == tuple(one for plan in planned for one in plan.having(Weight.BLOCKED))

    stored = recorded(many.state)
    standings = [one.standing for one in statuses_of(reconciler.ports, many.certificates, stored)]
    assert [Standing.UNREADABLE, Standing.VALID, Standing.VALID] == standings

    expected = [Expected(desired.lineage) for desired in many.certificates]
    concerns = [
        (one.problem.code, one.subject.lineage) for one in checkup(expected, stored, now()).concerns
    ]
    assert (StateForeign.code, first.lineage) in concerns
    assert {first.lineage, ""} >= {lineage for _, lineage in concerns}
