"""The text and the document of `certferry plan`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from textwrap import dedent

import pytest

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import Change
from certferry.core.planning.plan import (
    Action,
    NotReady,
    Plan,
    PlanFinding,
    Rollout,
    TimedOut,
    Weight,
    When,
)
from certferry.core.reasons import Reason, ReasonCode, Waiting
from certferry.errors import CertificateError, TargetRejected, TargetStuck
from certferry.present import documents, plan_text
from certferry.present.language import Voice
from certferry.text import Text
from certferry.values import replace
from tests.cli import values
from tests.cli.values import DRIFTED, HTTPS_OFF, IMG, NEW, OLD, plan, rollout


def shown(*plans: Plan) -> str:
    return values.text_of(list(plan_text.lines(plans, Voice())))


def test_plan_of_a_renewal() -> None:
    """The headline has the reason, each step its action, and the last line the counts."""
    whole = plan(rollout(), issue=values.issue(), retirements=(values.retire(),))

    assert dedent("""\
        img: renewal due (29 days left of 90 days)
          issue    img.example.com, *.img.example.com
          deploy   qiniu → img.example.com
                   certificate  0123456789ab → …
          verify   img.example.com
          retire   certferry-img-0123456789abcdef0123 at qiniu

        1 certificate to issue, 1 deployment, 1 to retire. Nothing was changed; run `certferry sync`.
        """) == shown(whole)  # noqa: E501 - a transcript is as wide as it is


def test_certificate_of_another_client_is_counted_as_imported() -> None:
    """An operator with another client must not read about an order."""
    adopted = replace(values.issue(), action=Action.ADOPT)
    imported = plan(rollout(), issue=adopted)

    counts = shown(imported, replace(imported, lineage="static"), plan(issue=values.issue()))

    assert (
        "1 certificate to issue, 2 certificates to import, 2 deployments. Nothing was changed; run "
        "`certferry sync`."
    ) == counts.splitlines()[-1]
    assert "\n1 certificate to import, 1 deployment. " in shown(imported)
    assert "  import   img.example.com" in shown(imported)


def test_removal_that_is_tried_again() -> None:
    """The plan shows the removal, since the target may accept this time; `plan --check` stays
    silent.
    """
    step = replace(values.retire_unmanaged("7a", "left over", None), again=True)
    again = plan(retirements=(step,))

    assert dedent("""\
        img: retire = "all-unused"; kept if anything uses it
          retire   left over at qiniu (7a) (tried again; kept if still in use)

        1 to try again. Nothing was changed.
        """) == shown(again)
    assert Exit.OK is exits.of_plans([again], check=True)
    document = documents.rendered(documents.of_plans([again]), Voice())
    assert 0 == document["changes"]
    assert '"again": true' in json.dumps(document)


def test_entry_without_effect_is_reported() -> None:
    """The entry is reported beside a settled plan and beside pending steps, and is no change."""
    error = TargetRejected(Text("`exclude` has x.cn"), hint=Text("correct it"))
    remarks = (PlanFinding.of(Weight.UNMATCHED, error, "qiniu"),)

    settled, pending = plan(findings=remarks), plan(rollout(), findings=remarks)

    assert dedent("""\
        img: as declared
          in vain  qiniu: `exclude` has x.cn
                   hint: correct it

        Nothing to do: 1 certificate is as declared.
        """) == shown(settled)
    assert "  in vain  qiniu: `exclude` has x.cn" in shown(pending)
    assert Exit.OK is exits.of_plans([settled], check=True)
    assert "`exclude` has x.cn" in json.dumps(
        documents.rendered(documents.of_plans([settled]), Voice())
    )


def test_problem_of_a_certificate_has_no_target() -> None:
    """A lineage may have the same name as an account."""
    error = CertificateError(Text("x.pem: cannot be read"))
    obstructed = plan(findings=(PlanFinding.of(Weight.BLOCKED, error),), lineage="qiniu")

    assert "\n  blocked  x.pem: cannot be read\n" in shown(obstructed)
    assert '"target": null' in json.dumps(
        documents.rendered(documents.of_plans([obstructed]), Voice())
    )


def test_several_certificates_are_counted_in_the_plural() -> None:
    """Numbers agree with their nouns; a reason beyond the headline is shown at its step."""
    first = plan(
        rollout(),
        rollout("a.img.example.com", HTTPS_OFF, (Change("certificate", None, None),)),
        issue=values.issue(),
    )
    second = replace(first, lineage="static", issue=values.issue("static.example.com"))

    assert dedent("""\
        img: renewal due (29 days left of 90 days)
          issue    img.example.com, *.img.example.com
          deploy   qiniu → img.example.com
                   certificate  0123456789ab → …
          verify   img.example.com
          deploy   qiniu → a.img.example.com (HTTPS is off → will be turned on)
                   certificate  — → …
          verify   a.img.example.com

        static: renewal due (29 days left of 90 days)
          issue    static.example.com
          deploy   qiniu → img.example.com
                   certificate  0123456789ab → …
          verify   img.example.com
          deploy   qiniu → a.img.example.com (HTTPS is off → will be turned on)
                   certificate  — → …
          verify   a.img.example.com

        2 certificates to issue, 4 deployments. Nothing was changed; run `certferry sync`.
        """) == shown(first, second)


def test_changed_settings_are_listed() -> None:
    """Each setting has its value before and after, in columns."""
    changes = (
        Change("force_https", "false", "true"),
        Change("tls_versions", "TLSv1.0, TLSv1.2", "TLSv1.2, TLSv1.3"),
    )

    assert dedent("""\
        img: settings differ from the file
          deploy   qiniu → img.example.com
                   force_https   false → true
                   tls_versions  TLSv1.0, TLSv1.2 → TLSv1.2, TLSv1.3
          verify   img.example.com

        1 deployment. Nothing was changed; run `certferry sync`.
        """) == shown(plan(rollout(reason=DRIFTED, changes=changes)))


def test_certificate_on_its_way_is_counted_as_a_domain_to_verify() -> None:
    """The plan has no other step."""
    assert dedent("""\
        img: not yet seen at every address
          verify   img.example.com (waiting: 1 of 2 addresses do not serve it yet)

        1 domain to verify. Nothing was changed; run `certferry sync`.
        """) == shown(plan(values.look()))


def test_an_old_copy_alone_is_retired() -> None:
    """A plan may consist of retirements alone."""
    assert dedent("""\
        img: superseded
          retire   certferry-img-0123456789abcdef0123 at qiniu

        1 to retire. Nothing was changed; run `certferry sync`.
        """) == shown(plan(retirements=(values.retire(),)))


def test_unmanaged_certificate_is_listed_with_its_days() -> None:
    """Label and id are both shown, since labels may be missing or equal."""
    left = (timedelta(days=9, hours=1), None, timedelta(days=-3))
    steps = tuple(
        values.retire_unmanaged(f"{number}f", label, days)
        for number, (label, days) in enumerate(zip(("by hand", "", "old"), left, strict=True))
    )

    assert dedent("""\
        img: retire = "all-unused"; kept if anything uses it
          retire   by hand at qiniu (0f, 9 days left)
          retire   — at qiniu (1f)
          retire   old at qiniu (2f, expired)

        3 to retire. Nothing was changed; run `certferry sync`.
        """) == shown(plan(retirements=steps))


def test_document_has_the_end_of_a_copy() -> None:
    """The moment and the whole days, for our own copies and for others."""
    step = values.retire_unmanaged("5f3c", "by hand", timedelta(days=9, hours=1))

    document = json.loads(
        json.dumps(documents.rendered(documents.of_plans([plan(retirements=(step,))]), Voice()))
    )

    [step_document] = document["certificates"][0]["steps"]
    assert ("by hand", "2026-12-03T13:00:00Z", 9) == (
        step_document["label"],
        step_document["not_after"],
        step_document["days_left"],
    )


def test_a_source_domain_is_distinguished() -> None:
    """A source domain has its kind behind its name; a CDN domain is the usual case."""
    steps = values.rollout().steps
    source = Rollout("qiniu", IMG, tuple(replace(step, kind=Kind("kodo")) for step in steps))

    whole = shown(plan(source))

    assert "  deploy   qiniu → img.example.com (kodo)" in whole
    assert "  verify   img.example.com (kodo)" in whole


def test_refusals_and_obstacles_are_reported_with_their_hints() -> None:
    """Each refusal has its hint, and the last line does not advise `sync`."""
    stuck = plan(findings=(values.too_short(), values.frozen(), values.frozen(None)))

    assert (
        dedent("""\
        img: cannot be done as configured
          refused  qiniu → img.example.com: 6 days left, but qiniu accepts only certificates with at least 30 days left
                   hint: use a CA whose certificates live longer
          blocked  qiniu → a.img.example.com: frozen at the CDN
                   hint: unfreeze it in the console
          blocked  qiniu: frozen at the CDN
                   hint: unfreeze it in the console

        1 refused, 2 blocked. Nothing was changed.
        """)  # noqa: E501 - a transcript is as wide as it is
        == shown(stuck)
    )


def test_possible_steps_are_planned_beside_obstacles() -> None:
    """The obstacle of a domain does not hide another's deployment."""
    assert dedent("""\
        img: renewal due (29 days left of 90 days)
          issue    img.example.com, *.img.example.com
          deploy   qiniu → img.example.com
                   certificate  0123456789ab → …
          verify   img.example.com
          blocked  qiniu → a.img.example.com: frozen at the CDN
                   hint: unfreeze it in the console

        1 certificate to issue, 1 deployment, 1 blocked. Nothing was changed; first resolve the blocked steps.
        """) == shown(plan(rollout(), issue=values.issue(), findings=(values.frozen(),)))  # noqa: E501 - a transcript is as wide as it is


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "No certificate is declared; `certferry add DOMAIN` declares one.\n"),
        (1, "Nothing to do: 1 certificate is as declared.\n"),
        (3, "Nothing to do: 3 certificates are as declared.\n"),
    ],
)
def test_an_empty_plan_says_that_everything_is_as_declared(count: int, expected: str) -> None:
    """An empty plan is a single sentence for any number of certificates."""
    assert expected == shown(*[plan()] * count)


def test_settled_certificates_are_left_out() -> None:
    """Among many certificates only those with steps are listed."""
    assert "static" not in shown(plan(values.look()), plan(lineage="static"))


def test_document_of_a_plan_has_the_promised_keys() -> None:
    """`--json` gives the plan of docs/reference/json.md: every step, its reason and its diff."""
    whole = plan(
        rollout(), issue=values.issue(), retirements=(values.retire(),), findings=(values.frozen(),)
    )

    document = json.loads(
        json.dumps(documents.rendered(documents.of_plans([whole, plan()]), Voice()))
    )

    assert {"changes", "digest", "certificates"} == set(document)
    assert 4 == document["changes"]
    first, second = document["certificates"]
    keys = {
        "name",
        "names",
        "steps",
        "refusals",
        "obstacles",
        "notices",
        "drifts",
        "rolled_back",
        "ceded",
        "retire_later",
        "held_back",
    }
    assert keys == set(first)
    assert None is first["held_back"]
    assert [] == second["steps"]
    issue, deploy, verify, retire = first["steps"]
    for step in first["steps"]:
        assert {"action", "target", "domain", "reason", "diff"} <= set(step)
        assert {"code", "message"} == set(step["reason"])
    assert ("issue", None, None) == (issue["action"], issue["target"], issue["domain"])
    assert ("deploy", "qiniu", "img.example.com") == tuple(
        deploy[key] for key in ("action", "target", "domain")
    )
    assert {"certificate": {"before": OLD, "after": None, "remote_id": "5f3c"}} == deploy["diff"]
    assert ("verify", {}) == (verify["action"], verify["diff"])
    assert ("retire", None, "5f3c") == (retire["action"], retire["domain"], retire["remote_id"])
    assert (None, None) == (retire["not_after"], retire["days_left"])
    assert ("auto", "auto") == (deploy["kind"], verify["kind"])
    assert {"code": "renewal_due", "message": "renewal due (29 days left of 90 days)"} == issue[
        "reason"
    ]


def test_moment_and_reason_of_a_step() -> None:
    """A step is due now, after a moment, or in a later run, with the reason that `sync` would find
    as well.
    """
    until = datetime(2026, 11, 24, 12, 2, tzinfo=UTC)
    error = TargetRejected(Text("it took too long"), hint=Text("look at it"))
    waits = Waiting(Text("the target is at work"), until - timedelta(minutes=2), until)
    moments: list[When] = [None, waits, TimedOut(error), NotReady()]
    deploy, *_ = rollout().steps
    plans = [plan(Rollout("qiniu", IMG, (replace(deploy, when=when),))) for when in moments]

    document = json.loads(json.dumps(documents.rendered(documents.of_plans(plans), Voice())))
    words = shown(*plans)

    now, waiting, failed, spent = (c["steps"][0] for c in document["certificates"])
    assert ("now", "blocked") == (now["due"], spent["due"])
    assert None is spent["problem"]
    assert ("waiting", "the target is at work") == (waiting["due"], waiting["waits_for"])
    assert until == datetime.fromisoformat(waiting["until"])
    assert ("blocked", "it took too long") == (failed["due"], failed["problem"]["message"])
    assert "(waiting: the target is at work)" in words
    assert "(waited too long: it took too long)" in words


def test_stuck_change_is_counted_separately() -> None:
    """`sync` would send no request, so the count does not advise `sync`. The exit code is the same
    as for `sync`.
    """
    error = TargetStuck(Text("it took too long"), hint=Text("send the ticket"))
    deploy, verify = rollout().steps
    stuck = plan(Rollout("qiniu", IMG, (replace(deploy, when=TimedOut(error)), verify)))

    alone, beside = shown(stuck).splitlines(), shown(stuck, plan(rollout()))
    with_old_copy = shown(replace(stuck, retirements=(values.retire(),)))

    assert "1 stuck. Nothing was changed." == alone[-1]
    assert "           hint: send the ticket" in alone
    assert "1 to retire, 1 stuck. Nothing was changed." == with_old_copy.splitlines()[-1]
    assert "1 deployment, 1 stuck. Nothing was changed; run `certferry sync`." in beside
    assert Exit.FAILED is exits.of_plans([stuck], check=True)


def test_each_domain_has_its_own_reason() -> None:
    """A common list of reasons would not show which domain has which reason."""
    off = Reason(ReasonCode.HTTPS_OFF, Text("HTTPS is off → will be turned on"))
    foreign = Reason(ReasonCode.SERVES_FOREIGN, Text("another certificate is bound"))

    words = shown(plan(rollout(reason=off), rollout("a.img.example.com", reason=foreign)))

    assert "img: not as declared, for the reasons below" == words.splitlines()[0]
    assert "qiniu → img.example.com (HTTPS is off → will be turned on)" in words
    assert "qiniu → a.img.example.com (another certificate is bound)" in words


def test_document_has_refusals_and_obstacles() -> None:
    """Refusals and obstacles have a code, a sentence and a hint."""
    stuck = plan(findings=(values.too_short(), values.frozen()))

    document = json.loads(json.dumps(documents.rendered(documents.of_plans([stuck]), Voice())))

    (entry,) = document["certificates"]

    assert "too_little_life" == entry["refusals"][0]["reason"]["code"]
    assert {
        "target": "qiniu",
        "domain": "a.img.example.com",
        "error": {
            "code": "target_rejected",
            "message": "a.img.example.com: frozen at the CDN",
            "hint": "unfreeze it in the console",
        },
    } == entry["obstacles"][0]
    assert NEW not in json.dumps(entry)


def test_removals_of_later_runs_are_counted() -> None:
    """A run removes a limited number; the plan has the number of later removals."""
    whole = shown(plan(retirements=(values.retire(),), retire_later=(("qiniu", 3),)))

    assert "\n  retire   qiniu: certificates that later runs remove: 3\n" in whole
