"""The steps of a plan, and steps that are never planned."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import Version, label_of
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    HttpsSettings,
    Kind,
    Retirement,
)
from certferry.core.observed.observation import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    Served,
    TargetRules,
)
from certferry.core.planning.plan import Action, Deploy, Retire, Verify, Weight
from certferry.core.planning.planner import make_plan
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import seen_at
from certferry.core.planning.safety import without_refused
from certferry.core.planning.timing import Times
from certferry.core.reasons import ReasonCode
from certferry.errors import DeployError, Problem, TargetRejected
from certferry.text import Text
from certferry.values import replace
from tests.core.strategies import LINEAGE, NOW, certificate, situations, version

Situation = tuple[DesiredCertificate, Observation]

CURRENT = certificate("aa" * 32)
PREVIOUS = certificate("bb" * 32, not_before=NOW - timedelta(days=70))
OLDEST = certificate("cc" * 32, not_before=NOW - timedelta(days=80))


def copy_of(number: int, fingerprint: str) -> RemoteCertificate:
    return RemoteCertificate(
        f"id-{number}", label_of(LINEAGE, fingerprint), fingerprint, NOW + timedelta(days=50)
    )


def declared(**deployment: object) -> DesiredCertificate:
    """Return a certificate with a single name and a single deployment."""
    return DesiredCertificate(
        lineage=LINEAGE,
        names=("img.example.com",),
        dns="dnspod",
        deployments=(replace(DesiredDeployment("qiniu"), **deployment),),  # type: ignore[arg-type]  # a test's shorthand
    )


def world(
    *versions: Version,
    bound: str | None = "id-3",
    state: DomainState = DomainState.READY,
    served: str | None = "aa" * 32,
    https: HttpsSettings | None = None,
    remotes: tuple[RemoteCertificate, ...] = (),
) -> Observation:
    domain = ObservedDomain(
        "img.example.com",
        Kind.CDN,
        state,
        bound,
        https or HttpsSettings(),
        DeployError("verify https crt fail"),
    )
    answers = (Served("192.0.2.1", served, valid=True, silent=served is None),)
    target = ObservedTarget(
        "qiniu",
        TargetRules(timedelta(days=30)),
        (domain,),
        remotes or tuple(copy_of(v.number, v.certificate.fingerprint) for v in versions),
        {"img.example.com": answers},
    )
    return Observation(versions, (target,))


@given(situations(), st.sampled_from(Issuing))
def test_any_situation_plans_the_same_twice(situation: Situation, issuing: Issuing) -> None:
    """A plan depends on the declaration, the world and the moment alone."""
    desired, observed = situation

    assert make_plan(desired, observed, Times.at(NOW), issuing) == make_plan(
        desired, observed, Times.at(NOW), issuing
    )


@given(situations(), st.sampled_from(Issuing))
def test_every_domain_is_reported_once(situation: Situation, issuing: Issuing) -> None:
    """Each domain of a readable target is exactly once a rollout, unchanged, or an obstacle."""
    desired, observed = situation

    plan = make_plan(desired, observed, Times.at(NOW), issuing)

    reported = [rollout.domain for rollout in plan.rollouts]
    reported += [domain for _, domain in plan.unchanged]
    reported += [obstacle.domain for obstacle in plan.having(Weight.BLOCKED) if obstacle.domain]
    there = [domain.domain for target in observed.targets for domain in target.domains]
    assert sorted(there) == sorted(reported)


@given(situations(), st.sampled_from(Issuing))
def test_current_and_previous_are_never_retired(situation: Situation, issuing: Issuing) -> None:
    """The certificate in force stays, and the previous certificate stays until its end."""
    desired, observed = situation

    plan = make_plan(desired, observed, Times.at(NOW), issuing)

    needed = {v.certificate.fingerprint for v in observed.versions[:1]}
    needed |= {
        v.certificate.fingerprint
        for v in observed.versions[1:2]
        if plan.issue is None and v.certificate.not_after > NOW
    }
    retired = {step.remote_id for step in plan.retirements}
    remotes = [remote for target in observed.targets for remote in target.remotes]
    expired = {
        v.certificate.fingerprint for v in observed.versions if v.certificate.not_after <= NOW
    }
    guarded = {
        r.remote_id for r in remotes if r.fingerprint in needed and r.fingerprint not in expired
    }
    assert not guarded & retired


@given(situations())
def test_only_our_copies_are_retired(situation: Situation) -> None:
    """A plan removes only copies that are proven ours."""
    desired, observed = situation

    plan = make_plan(desired, observed, Times.at(NOW))

    ours = {remote.remote_id for target in observed.targets for remote in target.remotes}
    assert {step.remote_id for step in plan.retirements} <= ours


@given(situations())
def test_every_deploy_is_verified(situation: Situation) -> None:
    """Each deployment is followed by a verification."""
    desired, observed = situation

    plan = make_plan(desired, observed, Times.at(NOW))

    for rollout in plan.rollouts:
        assert isinstance(rollout.steps[-1], Verify)


@given(situations())
def test_safety_only_takes_away(situation: Situation) -> None:
    """Every rollout that safety allows was planned, and every refused rollout has a hint."""
    desired, observed = situation
    plan = make_plan(desired, observed, Times.at(NOW))

    safe = without_refused(plan, desired, observed, NOW)

    assert set(safe.rollouts) <= set(plan.rollouts)
    refused = {(refusal.target, refusal.domain) for refusal in safe.having(Weight.REFUSED)}
    gone = {(r.target, r.domain) for r in set(plan.rollouts) - set(safe.rollouts)}
    assert gone == refused
    assert all(str(refusal.problem.hint) for refusal in safe.having(Weight.REFUSED))


@given(situations())
def test_certificate_that_passes_safety_is_fit(situation: Situation) -> None:
    """An allowed deployment is covered, and has the life that the target asks for or is uploaded
    already.
    """
    desired, observed = situation
    safe = without_refused(make_plan(desired, observed, Times.at(NOW)), desired, observed, NOW)

    for rollout in safe.rollouts:
        if rollout.deploy is None or safe.issue is not None or observed.current is None:
            continue
        current = observed.current.certificate
        target, _ = observed.locate(rollout.target, rollout.domain)
        uploaded = target.remote_of(current.fingerprint) is not None
        assert uploaded or current.remaining(NOW) >= target.rules.min_remaining


def test_first_plan_issues_and_rolls_out() -> None:
    """The first plan issues, then deploys and verifies, and gives the reason."""
    plan = make_plan(declared(), world(bound=None), Times.at(NOW))

    assert [Action.ISSUE, Action.DEPLOY, Action.VERIFY] == [step.action for step in plan.steps]
    assert plan.issue is not None
    assert ReasonCode.MISSING == plan.issue.reason.code


def test_served_certificate_leaves_an_empty_plan() -> None:
    """A certificate that is bound and served by every address needs no step."""
    plan = make_plan(declared(), world(version(3, CURRENT)), Times.at(NOW))

    assert plan.is_settled
    assert (("qiniu", "img.example.com"),) == plan.unchanged


@pytest.mark.parametrize(
    ("observed", "code"),
    [
        (world(version(3, CURRENT), bound=None), ReasonCode.HTTPS_OFF),
        (world(version(3, CURRENT), bound="theirs"), ReasonCode.SERVES_FOREIGN),
        (
            world(version(3, CURRENT), version(2, PREVIOUS), bound="id-2"),
            ReasonCode.SERVES_PREVIOUS,
        ),
        (
            world(version(3, CURRENT), bound="theirs", state=DomainState.FAILED),
            ReasonCode.CHANGE_FAILED,
        ),
    ],
)
def test_each_difference_has_its_reason_to_deploy(observed: Observation, code: ReasonCode) -> None:
    """A domain with another certificate bound is deployed to, with the reason."""
    plan = make_plan(declared(), observed, Times.at(NOW))

    deploy = plan.rollouts[0].deploy
    assert deploy is not None
    assert code == deploy.reason.code
    assert "certificate" == deploy.changes[0].setting


def test_drifted_settings_are_deployed_with_their_differences() -> None:
    """A setting in the file is planned if it differs; other settings stay."""
    observed = world(version(3, CURRENT), https=HttpsSettings(force_https=False, http2=True))

    plan = make_plan(declared(https=DesiredHttps(force_https=True)), observed, Times.at(NOW))

    deploy = plan.rollouts[0].deploy
    assert isinstance(deploy, Deploy)
    assert ReasonCode.SETTINGS_DRIFTED == deploy.reason.code
    assert [("force_https", "false", "true")] == [
        (change.setting, change.was, change.becomes) for change in deploy.changes
    ]


def test_tls_versions_in_another_order_are_equal() -> None:
    """Reported or stored versions are compared as a set."""
    wanted = declared(https=DesiredHttps(tls_versions=("TLSv1.3", "TLSv1.2")))
    reported = HttpsSettings(tls_versions=("TLSv1.2", "TLSv1.3"))

    assert make_plan(wanted, world(version(3, CURRENT), https=reported), Times.at(NOW)).is_settled


def test_setting_that_is_not_reported_is_deployed_without_the_certificate() -> None:
    """The planner does not know the setting's value; the bound and served certificate stays."""
    wanted = declared(https=DesiredHttps(tls_versions=("TLSv1.2",)))

    plan = make_plan(wanted, world(version(3, CURRENT)), Times.at(NOW))

    assert plan.issue is None
    assert [Action.DEPLOY, Action.VERIFY] == [step.action for step in plan.steps]
    deploy = plan.rollouts[0].deploy
    assert deploy is not None
    assert [("tls_versions", "unknown", "TLSv1.2")] == [
        (change.setting, change.was, change.becomes) for change in deploy.changes
    ]


def test_bound_certificate_that_is_not_served_is_verified() -> None:
    """The answers of the addresses decide, whatever the target says."""
    plan = make_plan(declared(), world(version(3, CURRENT), served="bb" * 32), Times.at(NOW))

    assert [Action.VERIFY] == [step.action for step in plan.steps]


def test_processing_domain_is_not_done_even_when_served() -> None:
    """A change in progress may still fail, so the domain is observed again."""
    plan = make_plan(
        declared(), world(version(3, CURRENT), state=DomainState.PROCESSING), Times.at(NOW)
    )

    assert [Action.VERIFY] == [step.action for step in plan.steps]


def test_older_superseded_copies_are_retired() -> None:
    """The previous version stays for a rollback; older versions are retired."""
    observed = world(version(3, CURRENT), version(2, PREVIOUS), version(1, OLDEST))

    plan = make_plan(declared(), observed, Times.at(NOW))

    assert ["id-1"] == [step.remote_id for step in plan.retirements]


def test_expired_previous_copy_is_retired() -> None:
    """An expired certificate is useless for a rollback."""
    expired = certificate("bb" * 32, not_before=NOW - timedelta(days=100))

    plan = make_plan(declared(), world(version(3, CURRENT), version(2, expired)), Times.at(NOW))

    assert ["id-2"] == [step.remote_id for step in plan.retirements]


def test_renewal_keeps_the_certificate_in_force_for_a_rollback() -> None:
    """During an order the current certificate becomes the next fallback."""
    observed = world(version(2, PREVIOUS), version(1, OLDEST), bound="id-2")

    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.ALWAYS)

    assert plan.issue is not None
    assert ["id-1"] == [step.remote_id for step in plan.retirements]


def test_superseded_copy_of_another_owner_stays() -> None:
    """A service may return a copy that another program uploaded: certferry only binds the copy."""
    observed = world(version(3, CURRENT), version(2, PREVIOUS), version(1, OLDEST))
    [target] = observed.targets
    theirs = tuple(replace(remote, label="uploaded by hand") for remote in target.remotes)

    plan = make_plan(
        declared(), replace(observed, targets=(replace(target, remotes=theirs),)), Times.at(NOW)
    )

    assert () == plan.retirements


def test_retire_never() -> None:
    """`retire = never` keeps every copy."""
    observed = world(version(3, CURRENT), version(2, PREVIOUS), version(1, OLDEST))

    plan = make_plan(declared(retire=Retirement.NEVER), observed, Times.at(NOW))

    assert () == plan.retirements


def test_copy_that_the_target_reports_as_in_use_waits() -> None:
    """After a refused removal the next try comes later, and a likely refusal counts as no pending
    change.
    """
    busy = replace(copy_of(1, OLDEST.fingerprint), in_use_until=NOW + timedelta(hours=1))
    observed = world(
        version(3, CURRENT),
        version(2, PREVIOUS),
        version(1, OLDEST),
        remotes=(copy_of(3, CURRENT.fingerprint), busy),
    )

    now_and_later = [
        make_plan(declared(), observed, Times.at(NOW + timedelta(hours=h))) for h in (0, 2)
    ]

    assert [0, 1] == [len(plan.retirements) for plan in now_and_later]
    assert [(), ()] == [
        tuple(step for step in plan.pending if isinstance(step, Retire)) for plan in now_and_later
    ]


def test_two_deployments_to_an_account_retire_a_copy_once() -> None:
    """An account may have several deployments; each copy is removed once."""
    observed = world(version(3, CURRENT), version(2, PREVIOUS), version(1, OLDEST))
    twice = replace(declared(), deployments=declared().deployments * 2)

    plan = make_plan(twice, replace(observed, targets=observed.targets * 2), Times.at(NOW))

    assert ["id-1"] == [step.remote_id for step in plan.retirements]


def test_unreadable_target_and_empty_target_are_obstacles() -> None:
    """Both are reported, and other work goes on."""
    unreadable = ObservedTarget("qiniu", failure=TargetRejected("no"))
    empty = ObservedTarget("qiniu")
    for target in (unreadable, empty):
        plan = make_plan(declared(), Observation((version(3, CURRENT),), (target,)), Times.at(NOW))

        assert plan.is_empty
        assert not plan.is_settled
        assert 1 == len(plan.having(Weight.BLOCKED))


def test_plan_without_orders_deploys_the_existing_certificate() -> None:
    """An older certificate is still better than none."""
    due = certificate("aa" * 32, not_before=NOW - timedelta(days=65))
    observed = world(version(3, due), bound=None, remotes=(copy_of(3, due.fingerprint),))

    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.NEVER)

    assert plan.issue is None
    assert [Action.DEPLOY, Action.VERIFY] == [step.action for step in plan.steps]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("no_answer", "served by every address that answers; no answer from 192.0.2.2"),
        ("no_ipv6", "served by every address that answers"),
    ],
)
def test_silent_address_beside_serving_addresses_is_named(code: str, sentence: str) -> None:
    """An IPv6 address is left out if this host has no IPv6, since every run would name the
    address.
    """
    problem = Problem(code, Text("no answer"))
    silent = Served("192.0.2.2", None, valid=False, problem=problem, silent=True)

    assert sentence == str(seen_at([Served("192.0.2.1", "aa" * 32, valid=True), silent]))
