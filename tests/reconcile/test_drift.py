"""Drift: changes of another tool, and changes that have not arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.assessment.status import Standing, status_of
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredHttps,
    DriftPolicy,
    HttpsSettings,
    OnFailure,
)
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry.core.planning.plan import Action, Weight
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.reasons import ReasonCode
from certferry.errors import CertferryError
from certferry.ports.probe import NONE_NAMED, Named, Probe
from certferry.reconcile.by_hand import withdraw_by_hand
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from tests.reconcile.model import IMMORTAL, ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER, outcome
from tests.support.tiers import examples

# # --- Another tool's change at a verified domain is repaired, reported or ignored; and two tools
# that fight over a domain


LEFT = [DriftPolicy.WARN, DriftPolicy.IGNORE]
HTTP2 = DesiredHttps(http2=True)


def desired(
    world: ModelWorld, drift: DriftPolicy, https: DesiredHttps | None = None
) -> DesiredCertificate:
    """Declare one domain with a policy for drift."""
    declared = world.desired(IMG, https=https)
    (deployment,) = declared.deployments
    return replace(declared, deployments=(replace(deployment, drift=drift),))


def synced_world(drift: DriftPolicy, https: DesiredHttps | None = None) -> ModelWorld:
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    world.run(desired(world, drift, https))
    world.pass_time(timedelta(hours=1))
    return world


def run(world: ModelWorld, wanted: DesiredCertificate) -> LineageReport:
    report = world.run(wanted)
    assert report is not None
    return report


def lines(world: ModelWorld) -> list[str]:
    """Return the drift events of the history, oldest first."""
    entries = reversed(world.state.history("img", 100))
    return [entry.event for entry in entries if entry.event.startswith("drift")]


def test_certificate_that_another_tool_bound_is_replaced() -> None:
    """The history names the foreign certificate and the repair; the run reports an undone
    change.
    """
    world = synced_world(DriftPolicy.REPAIR)
    ours = world.cdn.bound_to(IMG)
    theirs = world.cdn.put_foreign(IMG)
    world.cdn.set_by_others(IMG, theirs)

    report = run(world, desired(world, DriftPolicy.REPAIR))

    assert report.ok
    assert ours == world.cdn.bound_to(IMG)
    done = outcome(report, Action.DEPLOY, IMG)
    assert "bound: another tool's change is undone" == str(done.detail)
    assert ["drift found"] == lines(world)
    (found,) = (e for e in world.state.history("img", 100) if e.event == "drift found")
    assert theirs in str(found.facts["found"])


@pytest.mark.parametrize("policy", LEFT)
def test_certificate_that_another_tool_bound_is_left(policy: DriftPolicy) -> None:
    """The run succeeds without a write, and the history names the foreign certificate once."""
    world = synced_world(policy)
    theirs = world.cdn.put_foreign(IMG)
    world.cdn.set_by_others(IMG, theirs)
    writes = world.cdn.writes

    for _ in range(3):
        report = run(world, desired(world, policy))
        assert report.ok
        (outcome,) = report.having(Outcome.UNCHANGED)
        assert "changed outside certferry" in str(outcome.detail)
        assert (outcome.hint is None) is (policy is DriftPolicy.IGNORE)

    assert theirs == world.cdn.bound_to(IMG)
    assert writes == world.cdn.writes
    assert ["drift found"] == lines(world)
    plan = world.plan(desired(world, policy))
    assert plan.is_settled
    assert [policy] == [drifted.policy for drifted in plan.drifts]


@pytest.mark.parametrize("begins", [True, False])
def test_drift_that_another_run_has_written_down_meanwhile(begins: bool) -> None:  # noqa: FBT001 - a case
    """Only the first run reports the drift: the history has one entry."""
    world = synced_world(DriftPolicy.WARN)
    ours, theirs = world.cdn.bound_to(IMG), world.cdn.put_foreign(IMG)
    wanted = desired(world, DriftPolicy.WARN)
    world.cdn.set_by_others(IMG, theirs)
    if not begins:
        run(world, wanted)
        world.cdn.set_by_others(IMG, ours)
    ports = world.ports("late")
    world.alive.add("late")
    late = LineageReconciler(wanted, replace(ports, probe=Meanwhile(ports.probe, world, wanted)))

    world.pass_to_the_end(late)

    assert (["drift found"] if begins else ["drift found", "drift over"]) == lines(world)


class Meanwhile:
    """A `Probe` with another run during its look."""

    def __init__(self, probe: Probe, world: ModelWorld, wanted: DesiredCertificate) -> None:
        self._probe = probe
        self._world = world
        self._wanted = wanted

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> Mapping[str, tuple[Served, ...]]:
        found = self._probe.served(domains, named)
        self._world.run(self._wanted)
        return found

    def served_by(self, hosts: Sequence[Host]) -> Mapping[Host, tuple[Served, ...]]:
        return self._probe.served_by(hosts)


def test_drift_that_its_maker_undid_is_over() -> None:
    """Later drift of the same kind is reported again."""
    world = synced_world(DriftPolicy.WARN)
    ours, theirs = world.cdn.bound_to(IMG), world.cdn.put_foreign(IMG)
    wanted = desired(world, DriftPolicy.WARN)

    for bound in (theirs, ours, theirs):
        world.cdn.set_by_others(IMG, bound)
        world.pass_time(timedelta(hours=1))
        run(world, wanted)

    assert ["drift found", "drift over", "drift found"] == lines(world)


@pytest.mark.parametrize("policy", LEFT)
def test_https_switched_off_by_another_tool_stays_off(policy: DriftPolicy) -> None:
    """A policy other than repair switches nothing on again."""
    world = synced_world(policy)
    world.cdn.set_by_others(IMG, None)

    assert run(world, desired(world, policy)).ok
    assert world.cdn.bound_to(IMG) is None


@pytest.mark.parametrize("policy", LEFT)
def test_renewal_leaves_a_setting_that_another_tool_changed(policy: DriftPolicy) -> None:
    """The new certificate is bound with the observed value of the setting."""
    world = synced_world(policy, HTTP2)
    world.cdn.set_by_others(IMG, world.cdn.bound_to(IMG), HttpsSettings(http2=False))
    world.pass_time(timedelta(days=61))

    assert run(world, desired(world, policy, HTTP2)).ok

    assert 2 == world.issuer.issued
    assert world.cdn.settings(IMG).http2 is False


def test_renewal_does_not_replace_what_another_tool_bound() -> None:
    """The certificate is renewed nevertheless: the operator may want it back any day."""
    world = synced_world(DriftPolicy.WARN)
    theirs = world.cdn.put_foreign(IMG)
    world.cdn.set_by_others(IMG, theirs)
    world.pass_time(timedelta(days=61))

    assert run(world, desired(world, DriftPolicy.WARN)).ok

    assert 2 == world.issuer.issued
    assert theirs == world.cdn.bound_to(IMG)
    world.pass_time(timedelta(days=30))
    assert world.plan(desired(world, DriftPolicy.WARN)).is_settled  # the expired copy stays, untold


def test_setting_of_an_edited_file_is_no_drift() -> None:
    """A new setting of the file is applied under every drift policy."""
    world = synced_world(DriftPolicy.WARN)

    assert run(world, desired(world, DriftPolicy.WARN, HTTP2)).ok

    assert world.cdn.settings(IMG).http2 is True
    assert [] == lines(world)


def test_next_change_of_the_file_is_not_called_a_repair() -> None:
    """The other tool's change was undone and reported before."""
    world = synced_world(DriftPolicy.REPAIR)
    world.cdn.set_by_others(IMG, world.cdn.put_foreign(IMG))
    run(world, desired(world, DriftPolicy.REPAIR))
    world.pass_time(timedelta(hours=1))

    report = run(world, desired(world, DriftPolicy.REPAIR, HTTP2))

    assert "bound" == str(outcome(report, Action.DEPLOY, IMG).detail)


def test_third_repair_within_a_day_is_refused() -> None:
    """The refusal names the fight and the moment of the next repair; a day later the run repairs
    again.
    """
    world = synced_world(DriftPolicy.REPAIR)
    wanted = desired(world, DriftPolicy.REPAIR)
    theirs = world.cdn.put_foreign(IMG)
    for _ in range(2):
        world.cdn.set_by_others(IMG, theirs)
        assert run(world, wanted).ok
        world.pass_time(timedelta(hours=1))
    world.cdn.set_by_others(IMG, theirs)

    report = run(world, wanted)

    (refused,) = report.having(Outcome.REFUSED)
    assert "another tool" in str(refused.detail)
    assert theirs == world.cdn.bound_to(IMG)
    (refusal,) = world.plan(wanted).having(Weight.REFUSED)
    assert refusal.problem.code == ReasonCode.FOUGHT_OVER
    world.pass_time(timedelta(days=1))
    assert run(world, wanted).ok
    assert theirs != world.cdn.bound_to(IMG)


@settings(max_examples=examples(60))
@given(
    hours=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    off=st.booleans(),
    kills=st.lists(st.integers(0, 60), max_size=3),
)
def test_repair_of_drift_ends(hours: list[int], off: bool, kills: list[int]) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Another tool and kills act at any moment: a domain is repaired at most twice within
    any day.
    """
    world = synced_world(DriftPolicy.REPAIR)
    wanted = desired(world, DriftPolicy.REPAIR)
    theirs = None if off else world.cdn.put_foreign(IMG)
    accepted = []
    for pause in hours:
        world.cdn.set_by_others(IMG, theirs)
        for position in kills:
            writes = world.cdn.writes
            world.run(wanted, kill_after=position)
            accepted += [world.clock] * (world.cdn.writes - writes)
        writes = world.cdn.writes
        world.run(wanted)
        accepted += [world.clock] * (world.cdn.writes - writes)
        world.pass_time(timedelta(hours=pause))

    hour = timedelta(hours=1)  # a run that waits ends that much after what it wrote
    for first, third in zip(accepted, accepted[2:], strict=False):
        assert third - first >= timedelta(days=1) - hour


def test_status_reports_drift() -> None:
    """The domain stands as drifted, and its row names the bound certificate."""
    world = synced_world(DriftPolicy.WARN)
    theirs = world.cdn.put_foreign(IMG)
    world.cdn.set_by_others(IMG, theirs)
    wanted = desired(world, DriftPolicy.WARN)

    (domain,) = status_of(wanted, observe(wanted, world.ports("look")), world.clock).domains

    assert domain.standing is Standing.DRIFTED
    assert theirs in str(domain.problem)
    assert Action.DEPLOY not in {step.action for step in world.plan(wanted).steps}


@pytest.mark.parametrize("policy", DriftPolicy)
def test_newer_certificate_of_ours_is_no_change_of_another_tool(policy: DriftPolicy) -> None:
    """A state restored from a dump lacks certferry's later bindings: plan, run, status and history
    say so without a write.
    """
    world = synced_world(policy)
    newer = make_bundle(*desired(world, policy).names, not_before=world.clock)
    label = label_of("img", newer.certificate.fingerprint)
    world.cdn.set_by_others(IMG, world.cdn.put(label, newer))
    wanted, writes = desired(world, policy), world.cdn.writes

    plan, report = world.plan(wanted), run(world, wanted)
    (domain,) = status_of(wanted, observe(wanted, world.ports("look")), world.clock).domains

    assert [ReasonCode.STATE_OLDER] == [one.problem.code for one in plan.findings]
    assert [ReasonCode.STATE_OLDER] == [one.reason for one in report.having(Outcome.REFUSED)]
    assert ((), [], writes) == (plan.drifts, lines(world), world.cdn.writes)
    assert Standing.UNKNOWN is domain.standing
    assert domain.problem is not None
    assert ReasonCode.STATE_OLDER.value == domain.problem.code


# # --- Drift during a change, during a renewal, or while the target is busy


@pytest.mark.parametrize("policy", LEFT)
def test_setting_that_is_left_stays_so_after_a_renewal(policy: DriftPolicy) -> None:
    """The new certificate is bound and seen, and no later run restores the setting."""
    world = synced_world(policy, HTTP2)
    before = world.cdn.bound_to(IMG)
    world.cdn.set_by_others(IMG, before, HttpsSettings(http2=False))
    world.pass_time(timedelta(days=61))

    for _ in range(3):
        assert run(world, desired(world, policy, HTTP2)).ok
        assert world.cdn.settings(IMG).http2 is False
        assert before != world.cdn.bound_to(IMG)
        world.pass_time(timedelta(days=1))

    (record,) = world.state.remembered("img").rollouts
    assert record.verified_at is not None
    assert () == record.repairs
    assert 2 == world.issuer.issued


@pytest.mark.parametrize("policy", LEFT)
def test_certificate_that_another_tool_is_about_to_bind_is_left(policy: DriftPolicy) -> None:
    """A pass during the other tool's change keeps the domain's record of earlier success."""
    world = synced_world(policy)
    theirs = world.cdn.put_foreign(IMG)
    world.cdn.begin_by_others(IMG, theirs)

    for _ in range(2):
        assert run(world, desired(world, policy)).ok
        assert theirs == world.cdn.bound_to(IMG)
        world.pass_time(timedelta(days=1))

    assert ["drift found"] == lines(world)


def test_tools_that_fight_are_noticed_though_each_look_meets_a_change() -> None:
    """The third repair within a day is refused, also after repairs that began as a wait."""
    world = synced_world(DriftPolicy.REPAIR)
    theirs = world.cdn.put_foreign(IMG)
    refused = []
    for _ in range(4):
        world.cdn.begin_by_others(IMG, theirs)
        refused.append(bool(run(world, desired(world, DriftPolicy.REPAIR)).having(Outcome.REFUSED)))
        world.pass_time(timedelta(hours=1))

    assert [False, False, True, True] == refused


def test_repair_that_a_busy_target_puts_off_is_counted_once() -> None:
    """A busy target takes no write: the repair is reported once, and is no fight."""
    world = synced_world(DriftPolicy.REPAIR)
    ours = world.cdn.bound_to(IMG)
    world.cdn.set_by_others(IMG, world.cdn.put_foreign(IMG))
    world.cdn.touch(IMG)
    world.cdn.hide_changes(IMG, 30)

    assert run(world, desired(world, DriftPolicy.REPAIR)).ok

    assert ours == world.cdn.bound_to(IMG)
    assert ["drift found"] == lines(world)
    (record,) = world.state.remembered("img").rollouts
    assert 1 == len(record.repairs)


# # --- The law under other tools' changes, broken edges and rollbacks by hand


Deed = Callable[[ModelWorld, DesiredCertificate], object]


def run_model(position: int, *, renew: bool) -> Deed:
    """Run, killed after a number of calls."""
    return lambda world, desired: world.run(desired, kill_after=position, renew=renew)


def wait(hours: int) -> Deed:
    return lambda world, _: world.pass_time(timedelta(hours=hours))


def bind(domain: str) -> Deed:
    """Let another tool bind its certificate at once."""
    return lambda world, _: world.cdn.set_by_others(domain, world.cdn.put_foreign(domain))


def begin(domain: str) -> Deed:
    """Let another tool begin to bind its certificate."""
    return lambda world, _: world.cdn.begin_by_others(domain, world.cdn.put_foreign(domain))


def switch_off(domain: str) -> Deed:
    return lambda world, _: world.cdn.set_by_others(domain, None)


def set_http2(domain: str) -> Deed:
    off = HttpsSettings(http2=False)
    return lambda world, _: world.cdn.set_by_others(domain, world.cdn.bound_to(domain), off)


def break_edges(world: ModelWorld, _: DesiredCertificate) -> None:
    world.cdn.breaks_new = True


def go_back(world: ModelWorld, desired: DesiredCertificate) -> None:
    """Roll back by hand, if possible."""
    world.alive.add("hand")
    with suppress(CertferryError):
        withdraw_by_hand(world.ports("hand"), desired)
    world.alive.discard("hand")


some_domain = st.sampled_from([IMG, OTHER])
deeds: st.SearchStrategy[Deed] = st.one_of(
    st.builds(run_model, st.integers(0, 150) | st.just(IMMORTAL), renew=st.booleans()),
    st.sampled_from([1, 24, 24 * 16, 24 * 61]).map(wait),
    *(some_domain.map(deed) for deed in (bind, begin, switch_off, set_http2)),
    st.sampled_from([break_edges, go_back]),
)


@settings(max_examples=examples(40))
@given(
    done=st.lists(deeds, min_size=3, max_size=12),
    drift=st.sampled_from(DriftPolicy),
    minutes=st.sampled_from([0, 10, 50, 90]),
)
def test_whatever_others_do_it_comes_to_rest(
    done: list[Deed], drift: DriftPolicy, minutes: int
) -> None:
    """No served certificate is removed, no withdrawn certificate stays bound, and after some quiet
    days nothing is left to plan or write.
    """
    world = ModelWorld(processing=timedelta(minutes=minutes))
    for name in (IMG, OTHER):
        world.cdn.add_domain(name)
    desired = world.desired(https=DesiredHttps(http2=True))
    (deployment,) = desired.deployments
    deployment = replace(deployment, drift=drift, on_failure=OnFailure.ROLLBACK)
    desired = replace(desired, deployments=(deployment,))
    for deed in done:
        deed(world, desired)
        assert [] == world.cdn.broken
    world.cdn.breaks_new = False
    world.run(desired, renew=True)

    for _ in range(4):
        world.pass_time(timedelta(days=1))
        world.run(desired)

    plan = world.plan(desired)
    assert plan.is_settled
    assert [] == world.cdn.broken
    uploads = {u.remote_id: u.fingerprint for u in world.state.uploads("img", "qiniu")}
    for withdrawal in world.state.remembered("img").withdrawals:
        bound = world.cdn.bound_to(withdrawal.domain) or ""
        assert withdrawal.fingerprint != uploads.get(bound)
    writes = world.cdn.writes
    world.run(desired)
    assert writes == world.cdn.writes
