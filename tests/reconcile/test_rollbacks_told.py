"""What `status`, `plan` and `sync` say of a domain that went back to the previous certificate."""

from __future__ import annotations

import json
from datetime import timedelta

from certferry.core.assessment.status import status_of
from certferry.core.planning.report import SyncReport
from certferry.core.planning.steps import Action
from certferry.present import documents, plan_text, report_text
from certferry.present.language import Voice
from certferry.present.layout import plain
from certferry.reconcile.observe import observe
from certferry.text import Text
from tests.reconcile.one_lineage import IMG, outcome
from tests.reconcile.test_rollbacks import renewed, run


def test_status_tells_of_the_certificate_that_is_served() -> None:
    """Its end, and the moment from which a new one is issued in place of both: until then nothing
    is planned, and then something is.
    """
    world, wanted = renewed()
    run(world, wanted)
    new, previous = world.state.versions("img")

    status = status_of(wanted, observe(wanted, world.ports("looker")), world.clock)

    (domain,) = status.domains
    assert previous.certificate.not_after == status.until == domain.not_after
    assert new.certificate.not_after > previous.certificate.not_after
    assert domain.problem is not None
    assert "rolled_back" == domain.problem.code
    assert status.renew_at is not None
    world.pass_time(status.renew_at - world.clock - timedelta(minutes=1))
    assert world.plan(wanted).issue is None
    world.pass_time(timedelta(minutes=1))
    assert world.plan(wanted).issue is not None


def test_run_that_goes_back_says_until_when_the_previous_certificate_is_valid() -> None:
    """Who goes back sees how long that lasts; a newer certificate is bound as any other."""
    world, wanted = renewed()

    report = run(world, wanted)
    _, previous = world.state.versions("img")
    world.pass_time(timedelta(days=80))
    newer = run(world, wanted)

    assert (
        Text(
            "bound: the previous certificate, valid until {moment}",
            moment=previous.certificate.not_after,
        )
        == outcome(report, Action.DEPLOY, IMG).detail
    )
    assert "bound" == str(outcome(newer, Action.DEPLOY, IMG).detail)


def test_plan_and_run_say_what_is_left_on_the_previous_certificate() -> None:
    """Neither ends as if all were as the file says."""
    world, wanted = renewed()
    run(world, wanted)

    plan, report = world.plan(wanted), run(world, wanted)

    (back,) = plan.rolled_back
    assert ("qiniu", IMG) == (back.target, back.domain)
    said = "\n".join(map(plain, plan_text.lines([plan], Voice())))
    assert f"kept     qiniu → {IMG}: rolled back: the previous certificate is served" in said
    assert "1 rolled back. Nothing was changed." in said
    assert plan.is_settled
    (*_, last) = map(plain, report_text.lines(SyncReport((report,)), Voice()))
    assert "Nothing changed: 1 domain is left as it is, all else is as declared." == last
    document = json.loads(json.dumps(documents.of_plans([plan], Voice())))
    (written,) = document["certificates"]
    assert ["rolled_back"] == [one["reason"]["code"] for one in written["rolled_back"]]
