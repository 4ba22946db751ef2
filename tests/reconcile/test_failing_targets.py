"""A target that is slow, busy, frozen or closed, that fails, or has lost a copy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.observed.observation import DomainState, ObservedTarget
from certferry.core.planning.plan import Action
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import LineageReport, Outcome
from certferry.errors import (
    CopyGone,
    TargetBusy,
    TargetRejected,
    TargetUnavailable,
    VerificationError,
)
from certferry.ports.target import DeployTarget, Scope
from certferry.reconcile.reconciler import LineageReconciler, RunRules
from certferry.text import LINEAGE, Text
from certferry.values import replace
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.reconcile.model import FALLEN, ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER, complete_run, one_pass, outcome


def test_read_that_lags_is_not_answered_by_a_second_write(world: ModelWorld) -> None:
    """The accepted change appears late; certferry asks for the change once."""
    world.cdn.hide_changes(IMG, 6)

    assert complete_run(world).ok
    assert 1 == world.cdn.writes


def test_failed_change_is_reported_and_tried_again_by_the_next_run(world: ModelWorld) -> None:
    """The target's description is the detail; the certificate is not issued again."""
    world.cdn.fail_next(IMG, "verify https crt fail")

    failed = outcome(complete_run(world), Action.DEPLOY, IMG)

    assert Outcome.FAILED is failed.outcome
    assert "verify https crt fail" == str(failed.detail)
    assert complete_run(world).ok
    assert (1, 1) == (world.issuer.issued, world.cdn.uploads)


def test_accepted_change_that_fails_is_a_failure_in_the_history(world: ModelWorld) -> None:
    """The history has the failed end of a deployment, once in a run with later passes."""
    world.cdn.add_domain(OTHER)
    world.cdn.fail_next(IMG, "verify https crt fail")

    complete_run(world)

    events = [
        (entry.event, str(entry.facts.get("problem")))
        for entry in world.state.history("img", 20)
        if entry.facts.get("domain") == IMG
    ]
    assert [("deploy failed", "verify https crt fail"), ("deployed", "None")] == events


class _Refuses:
    """A target that refuses the certificate: at once, or during an accepted change."""

    def __init__(self, cdn: MemoryCdn, at: str) -> None:
        self._cdn, self._at = cdn, at

    error = TargetRejected(
        Text("refused"), hint=Text("run `certferry sync --renew {lineage}`", lineage=LINEAGE)
    )

    def observe(self, scope: Scope) -> ObservedTarget:
        observed = self._cdn.observe(scope)
        if self._at == "upload":
            return observed
        failed = (
            replace(domain, state=DomainState.UNAVAILABLE, problem=self.error)
            for domain in observed.domains
        )
        return replace(observed, domains=tuple(failed))

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        del lineage, bundle
        raise self.error


@pytest.mark.parametrize("at", ["upload", "observe"])
def test_advice_of_a_target_names_the_certificate(world: ModelWorld, at: str) -> None:
    """An adapter does not know the certificate's name; a command without the name would
    renew all.
    """
    refusing = _Refuses(world.cdn, at)
    target = cast("DeployTarget", refusing)

    report = one_pass(world, targets={"qiniu": target})
    if at == "upload":
        result = outcome(report, Action.DEPLOY, IMG)
    else:
        result = next(step for step in report.outcomes if step.error is not None)

    assert "run `certferry sync --renew img`" == str(result.hint)
    assert "run `certferry sync --renew NAME`" == str(refusing.error.hint)


def test_failed_change_stops_only_its_domain(world: ModelWorld) -> None:
    """The other domain is served."""
    world.cdn.add_domain(OTHER)
    world.cdn.fail_next(IMG, "verify https crt fail")

    report = complete_run(world)

    assert Outcome.FAILED is outcome(report, Action.DEPLOY, IMG).outcome
    assert Outcome.DONE is outcome(report, Action.VERIFY, OTHER).outcome


def test_change_in_progress_is_waited_for_and_not_overtaken(world: ModelWorld) -> None:
    """Nothing is written while the target carries out another tool's change."""
    complete_run(world)
    world.cdn.add_domain(OTHER)
    other = world.state.versions("img")[0]
    remote = world.cdn.upload("img", world.state.bundle("img", other.number))
    desired = world.desired(OTHER)
    domain = world.ports("x").targets["qiniu"]
    domain.bind(
        OTHER, world.desired().deployments[0].kind, remote, world.desired().deployments[0].https
    )
    writes = world.cdn.writes

    report = world.run(desired)

    assert report is not None
    assert report.ok
    assert writes == world.cdn.writes


def test_target_that_turned_busy_is_asked_later(world: ModelWorld) -> None:
    """Another tool's change began between look and write: the run waits, without a failure."""

    class Busy:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def bind(self, *_: object) -> None:
            raise TargetBusy(Text("processing"))

    report = one_pass(world, targets={"qiniu": Busy()})

    deployed = outcome(report, Action.DEPLOY, IMG)
    assert Outcome.WAITING is deployed.outcome
    assert deployed.waiting is not None
    assert complete_run(world).ok


def test_target_that_stays_busy_is_asked_ever_more_rarely_and_given_up(world: ModelWorld) -> None:
    """Reads say ready, writes say busy: a bounded number of tries, then a failure."""
    attempts = 0

    class Busy:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def bind(self, *_: object) -> None:
            nonlocal attempts
            attempts += 1
            raise TargetBusy(Text("processing"), hint=Text("wait"))

    world.alive.add("run")
    ports = replace(world.ports("run"), targets={"qiniu": Busy()})  # type: ignore[dict-item]  # by name
    run = LineageReconciler(world.desired(), ports)
    world.pass_to_the_end(run)

    assert attempts < 120
    assert [Outcome.FAILED] == [o.outcome for o in run.report().outcomes if o.domain == IMG]


def test_change_that_never_ends_is_given_up_at_the_deadline() -> None:
    """After the verify timeout the change is a failure with a hint, and the next run tries
    again.
    """
    world = ModelWorld(processing=timedelta(hours=2))
    world.cdn.add_domain(IMG)

    stuck = outcome(complete_run(world), Action.DEPLOY, IMG)

    assert isinstance(stuck.error, TargetBusy)
    assert stuck.hint is not None
    world.pass_time(timedelta(hours=2))
    assert complete_run(world).ok
    assert 1 == world.cdn.writes


def test_edge_that_lags_too_long_is_a_failure_and_retires_nothing() -> None:
    """An unserved certificate is not done, and the still served certificate stays."""
    world = ModelWorld(lags=(timedelta(0), timedelta(hours=3)))
    world.cdn.add_domain(IMG)

    report = complete_run(world)

    lagging = outcome(report, Action.VERIFY, IMG)
    assert isinstance(lagging.error, VerificationError)
    assert "verify failed" == world.state.history("img", 1)[0].event
    assert "192.0.2.2" in str(lagging.detail)
    world.pass_time(timedelta(hours=3))
    assert complete_run(world).ok


def test_edge_that_falls_back_gets_its_whole_time_again(world: ModelWorld) -> None:
    """A domain verified long ago gets the whole verify timeout after a fall back."""
    complete_run(world)
    world.pass_time(timedelta(days=3))
    report = one_pass(world, probe=FALLEN)

    looked = outcome(report, Action.VERIFY, IMG)
    assert Outcome.WAITING is looked.outcome
    assert looked.waiting is not None
    assert world.clock + timedelta(hours=1) == looked.waiting.deadline


def test_clock_that_was_ahead_does_not_make_it_hurry_for_ever(world: ModelWorld) -> None:
    """A run waits in the usual way for a rollout with a start in the future."""
    complete_run(world)
    (record,) = world.state.remembered("img").rollouts
    ahead = replace(record, started_at=world.clock + timedelta(days=300), verified_at=None)
    world.state.save_rollout(ahead)
    world.alive.add("run")
    ports = replace(world.ports("run"), probe=FALLEN)
    run = LineageReconciler(world.desired(), ports)
    begun = world.clock
    passes = 0
    while (waiting := run.reconcile()) is not None and passes < 300:
        passes += 1
        world.clock = waiting.until

    assert passes < 120
    assert world.clock - begun <= timedelta(hours=2)


def test_copy_that_is_used_elsewhere_is_kept_and_not_asked_for_daily(world: ModelWorld) -> None:
    """The target reports the copy as in use: the run keeps the copy, reports no change, and asks
    again a day later.
    """
    complete_run(world)
    oldest = world.state.versions("img")[0]
    for _ in range(2):
        world.pass_time(timedelta(days=1))
        world.run(world.desired(), renew=True)
    # # by hand, on an undeclared domain
    world.cdn.add_domain("b.img.example.com")
    remote = world.cdn.upload("img", world.state.bundle("img", oldest.number))
    settings = world.desired().deployments[0]
    world.cdn.bind("b.img.example.com", settings.kind, remote, settings.https)
    world.pass_time(timedelta(days=1))

    def run() -> LineageReport:
        report = world.run(world.desired(IMG))
        assert report is not None
        return report

    (kept,) = (step for step in run().outcomes if step.action is Action.RETIRE)
    assert Outcome.UNCHANGED is kept.outcome
    assert kept.label is not None
    assert run().is_unchanged
    assert world.plan(world.desired(IMG)).is_settled


def test_frozen_domain_is_reported_with_its_reason(world: ModelWorld) -> None:
    """A domain that cannot be changed is a failure with the target's reason and a hint."""
    world.cdn.add_domain(OTHER, state=DomainState.UNAVAILABLE)

    frozen = outcome(complete_run(world), Action.DEPLOY, OTHER)

    assert Outcome.FAILED is frozen.outcome
    assert "frozen" in str(frozen.detail)
    assert frozen.hint is not None


def test_target_that_refuses_the_keys_leaves_everything_as_it_was(world: ModelWorld) -> None:
    """With wrong keys no certificate is issued; with right keys all is done."""
    world.cdn.denies = True

    assert [Outcome.FAILED] == [step.outcome for step in complete_run(world).outcomes]
    assert 0 == world.issuer.issued

    world.cdn.denies = False
    assert complete_run(world).ok


def test_obstacle_or_refusal_at_a_target_keeps_everything_there(world: ModelWorld) -> None:
    """While a domain is frozen or not covered, the oldest of three versions stays, and its removal
    is not planned.
    """
    for _ in range(2):
        world.run(world.desired(), renew=True)
        world.pass_time(timedelta(days=1))
    world.cdn.add_domain(OTHER, state=DomainState.UNAVAILABLE)
    frozen, uncovered = world.desired(IMG, OTHER), world.desired(IMG, "www.example.com")
    world.cdn.add_domain("www.example.com")

    for desired in (frozen, uncovered):
        world.run(desired, renew=True)
        world.pass_time(timedelta(days=1))
        assert () == world.plan(desired).retirements

    assert 4 == len(world.cdn.remote_labels)
    assert synced_after_thaw(world).ok
    assert 2 == len(world.cdn.remote_labels)


def synced_after_thaw(world: ModelWorld) -> LineageReport:
    """Run for the good domain alone: the kept copy may be removed."""
    report = world.run(world.desired(IMG))
    assert report is not None
    return report


def test_removal_that_fails_is_reported_and_tried_again(world: ModelWorld) -> None:
    """A target that cannot remove a copy now fails this step alone."""
    for _ in range(2):
        world.run(world.desired(), renew=True)
        world.pass_time(timedelta(days=1))

    class Unwilling:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def retire(self, *_: object, **__: object) -> bool:
            raise TargetUnavailable(Text("away"), hint=Text("later"))

    world.alive.add("run")
    ports = replace(world.ports("run"), targets={"qiniu": Unwilling()})  # type: ignore[dict-item]  # by name
    run = LineageReconciler(world.desired(), ports, RunRules(Issuing.ALWAYS))
    world.pass_to_the_end(run)

    (failed,) = run.report().having(Outcome.FAILED)
    assert Action.RETIRE is failed.action
    assert complete_run(world).ok
    assert 2 == len(world.cdn.remote_labels)


def test_upload_that_a_list_does_not_show_yet_is_not_made_again(world: ModelWorld) -> None:
    """The state remembers a killed run's upload for the longest lag of a list."""

    class Forgetful:
        """A target with a lagging list, as another process sees the target."""

        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def observe(self, scope: Scope) -> ObservedTarget:
            return replace(world.cdn.observe(scope), remotes=())

        def upload(self, lineage: str, bundle: CertificateBundle) -> str:
            return world.cdn.put(label_of(lineage, bundle.certificate.fingerprint), bundle)

    for process in ("killed", "next"):
        world.alive.add(process)
        ports = replace(world.ports(process), targets={"qiniu": Forgetful()})  # type: ignore[dict-item]  # by name
        LineageReconciler(world.desired(), ports).reconcile()
        world.alive.discard(process)

    assert 1 == len(world.cdn.remote_labels)


def test_copy_that_was_removed_is_uploaded_again() -> None:
    """Shortly after an upload the copy counts as present despite the list. If the target reports
    the copy as gone, the same run uploads another.
    """
    world, fingerprint = without_its_copy()

    report = world.run(world.desired(IMG))

    assert report is not None
    assert report.ok
    assert 1 == world.cdn.copies(fingerprint)
    assert 1 == world.issuer.issued
    assert "deploy failed" not in [entry.event for entry in world.state.history("img", 20)]


def test_copy_that_stays_away_is_uploaded_once_in_a_run() -> None:
    """The run returns often for another domain and uploads once; the failure is reported."""
    world, _ = without_its_copy()
    world.cdn.add_domain(OTHER)

    class Losing:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.cdn, name)

        def bind(self, domain: str, *arguments: Any) -> str | None:
            if domain == IMG:
                raise CopyGone(Text("no such certificate"))
            return world.cdn.bind(domain, *arguments)

    uploads = world.cdn.uploads
    ports = replace(world.ports("run"), targets={"qiniu": Losing()})
    world.alive.add("run")
    run = LineageReconciler(world.desired(), ports)
    world.pass_to_the_end(run)

    assert [CopyGone] == [type(result.error) for result in run.report().having(Outcome.FAILED)]
    assert 1 == world.cdn.uploads - uploads


def without_its_copy() -> tuple[ModelWorld, str]:
    """Return a world in which another tool removed a copy just after the upload, and the
    certificate's fingerprint.
    """
    world = ModelWorld(processing=timedelta(seconds=1), lags=(timedelta(0),))
    world.cdn.add_domain(IMG)
    assert world.run(world.desired(IMG)) is not None
    fingerprint = world.state.versions("img")[0].certificate.fingerprint
    [ours] = world.state.uploads("img", "qiniu")
    world.cdn.add_domain(IMG, foreign=True)
    assert world.cdn.retire(ours.remote_id, ours.label)
    assert 0 == world.cdn.copies(fingerprint)
    return world, fingerprint
