"""Other runs beside this run: leases, other processes, an older state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DriftPolicy
from certferry.core.observed.observation import ObservedTarget
from certferry.core.planning.plan import Action, Retire, Verify
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import Interrupted, LeaseHeld, LeaseLost
from certferry.ports.state import Lease
from certferry.ports.target import Scope
from certferry.reconcile.apply import carry_out
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler, RunRules
from certferry.reconcile.run import Ports, StepContext, held_lease
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Altered
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_state import MemoryState
from tests.reconcile.model import START, ModelWorld, issuing_of
from tests.reconcile.one_lineage import IMG, OTHER, complete_run, one_pass, outcome

# # --- Another run works on the lineage, or this run is stopped: only the holder of the lease
# writes


def test_lease_of_another_run_is_waited_for(world: ModelWorld) -> None:
    """This run waits for the other run, and then finds no work."""
    world.alive.add("another")
    held = world.state.seen_by("another").acquire("img", world.now())

    report = one_pass(world)

    assert [Outcome.WAITING] == [step.outcome for step in report.outcomes]
    assert 0 == world.issuer.issued
    world.state.seen_by("another").release(held)
    assert complete_run(world).ok


def test_lease_that_is_lost_while_issuing_is_no_failed_issue(world: ModelWorld) -> None:
    """Another run has taken the order over: this run waits for the other."""

    class Slow:
        def __getattr__(self, method: str) -> object:
            return getattr(world.issuer, method)

        def issue(self, *arguments: object) -> CertificateBundle:
            bundle = world.issuer.issue(*arguments)  # type: ignore[arg-type]  # passed on
            world.alive.discard("run")
            world.state.seen_by("another").acquire("img", world.now())
            world.alive.update({"run", "another"})
            return bundle

    world.alive.add("run")
    ports = replace(world.ports("run"), issuer=Slow())  # type: ignore[arg-type]  # by name
    run = LineageReconciler(world.desired(), ports)

    run.reconcile()

    assert [Outcome.WAITING] == [step.outcome for step in run.report().outcomes]
    assert not [e for e in world.state.history("img", 10) if "failed" in e.event]


def test_lease_that_never_comes_free_ends_the_wait(world: ModelWorld) -> None:
    """After the verify timeout the wait is a failure: a hanging run must not look like a working
    one, and later runs must not pile up.
    """
    world.alive.add("another")
    world.state.seen_by("another").acquire("img", world.now())
    world.alive.add("run")
    run = LineageReconciler(world.desired(), world.ports("run"))

    world.pass_to_the_end(run)

    [step] = run.report().outcomes
    assert Outcome.FAILED is step.outcome
    assert "the wait of 1 hour ended before that work" in str(step.detail)
    assert "pgrep" in str(step.hint)
    assert world.clock - START <= timedelta(hours=2)


def test_lease_that_is_held_when_a_run_is_old_is_waited_for(world: ModelWorld) -> None:
    """The timeout counts from the first refused lease: an earlier long wait for a CDN does not
    count.
    """
    world.alive.add("run")
    run = LineageReconciler(world.desired(), world.ports("run"))
    world.pass_time(timedelta(hours=3))
    world.alive.add("another")
    held = world.state.seen_by("another").acquire("img", world.now())

    run.reconcile()

    assert [Outcome.WAITING] == [step.outcome for step in run.report().outcomes]
    world.state.seen_by("another").release(held)
    world.pass_to_the_end(run)
    assert run.report().ok


def test_lease_is_not_needed_to_look(world: ModelWorld) -> None:
    """A run without work takes no lease, so it never disturbs a working run."""
    complete_run(world)
    world.alive.add("another")
    world.state.seen_by("another").acquire("img", world.now())

    assert one_pass(world).is_unchanged


def test_without_a_lease_no_target_is_written_to(world: ModelWorld) -> None:
    """No step of any plan is carried out."""
    complete_run(world)
    world.pass_time(timedelta(days=1))
    for _ in range(2):
        world.run(world.desired(), renew=True)
        world.pass_time(timedelta(days=1))
    world.cdn.add_domain(OTHER)
    ports = world.ports("run")
    plan = world.plan(world.desired())
    assert plan.rollouts
    observed = observe(world.desired(), ports)
    [target] = observed.targets
    reason = Reason(ReasonCode.SUPERSEDED, Text("superseded"))
    retirements = [Retire("qiniu", r.remote_id, r.label, reason) for r in target.remotes]
    assert retirements
    one_pass = StepContext(world.desired(), observed, ports, lease=None)
    before = world.cdn.writes, world.cdn.removals, world.cdn.uploads

    for step in (*plan.steps, *retirements):
        if not isinstance(step, Verify):
            with pytest.raises(LeaseLost):
                list(carry_out([step], one_pass))

    assert before == (world.cdn.writes, world.cdn.removals, world.cdn.uploads)


def test_stopped_run_says_so_and_gives_its_lease_back(world: ModelWorld) -> None:
    """An interrupted step is reported as skipped, and another run can begin at once."""

    class Stopped:
        def rate_limit_hold(self, *_: object, **__: object) -> None:
            return None

        def issue(self, *_: object) -> object:
            raise Interrupted(Text("stopped"))

    ports = replace(world.ports("run"), issuer=Stopped())  # type: ignore[arg-type]  # only `issue` is called
    world.alive.add("run")
    run = LineageReconciler(world.desired(), ports)
    with pytest.raises(Interrupted):
        run.reconcile()

    assert [Outcome.SKIPPED] == [step.outcome for step in run.report().outcomes]
    assert complete_run(world).ok


@pytest.mark.parametrize("method", ["upload", "bind", "retire"])
def test_stop_passes_through_every_step(method: str) -> None:
    """A stop in any step ends the run at once, and the next run finishes."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    if method == "retire":
        for _ in range(2):
            world.run(world.desired(), renew=True)
            world.pass_time(timedelta(days=1))

    class Run:
        def __getattr__(self, name: str) -> object:
            if name == method:
                raise Interrupted(Text("stopped"))
            return getattr(world.cdn, name)

    ports = replace(world.ports("run"), targets={"qiniu": Run()})  # type: ignore[dict-item]  # by name
    world.alive.add("run")
    run = LineageReconciler(world.desired(), ports, RunRules(issuing_of(renew=method == "retire")))
    with pytest.raises(Interrupted):
        world.pass_to_the_end(run)
    world.alive.discard("run")

    assert complete_run(world).ok
    assert [] == world.cdn.broken


def test_run_that_was_overtaken_writes_to_no_target(world: ModelWorld) -> None:
    """The run lost its lease during an upload: the other run's newer certificate stays bound."""

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(world.cdn, name)

        def upload(self, *arguments: object) -> str:
            remote_id = world.cdn.upload(*arguments)  # type: ignore[arg-type]  # passed on
            world.alive.discard("slow")
            other = world.run(world.desired(), renew=True)
            assert other is not None
            assert other.ok
            return remote_id

    world.alive.add("slow")
    ports = replace(world.ports("slow"), targets={"qiniu": Slow()})  # type: ignore[dict-item]  # by name
    run = LineageReconciler(world.desired(), ports)
    writes = world.cdn.writes
    run.reconcile()

    assert 1 == world.cdn.writes - writes
    newest = world.state.versions("img")[0].certificate.fingerprint
    assert {newest} == {address.fingerprint for address in world.cdn.served([IMG])[IMG]}


def test_another_run_that_finishes_first_leaves_nothing_to_do(world: ModelWorld) -> None:
    """The other run did the work between look and lease: nothing is repeated."""
    ports = world.ports("late")
    world.alive.add("late")

    def acquire(lineage: str, now: datetime) -> Lease:
        assert world.run(world.desired()) is not None
        return ports.state.acquire(lineage, now)

    late: Any = Altered(ports.state, acquire=acquire)
    run = LineageReconciler(world.desired(), replace(ports, state=late))
    world.pass_to_the_end(run)

    assert run.report().ok
    assert (1, 1, 1) == (world.issuer.issued, world.cdn.uploads, world.cdn.writes)


# # --- Two runs at once: the other run's fresh changes are known, and are no drift


SHORT = timedelta(seconds=10)
A_MOMENT = timedelta(seconds=1)


class Listed:
    """A target that answers from its first list, until a look asks for a new one."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._listed: ObservedTarget | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def observe(self, scope: Scope) -> ObservedTarget:
        """Observe once, and again only on request."""
        if self._listed is None or scope.anew:
            self._listed = self._target.observe(scope)
        return self._listed


class Overtaken:
    """The state with another run at work just after the first reading."""

    def __init__(self, state: Any, other_run: Callable[[], object]) -> None:
        self._state = state
        self._other_run: Callable[[], object] | None = other_run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def remembered(self, lineage: str) -> Any:
        """Read, and let the other run work."""
        memory = self._state.remembered(lineage)
        other_run, self._other_run = self._other_run, None
        if other_run is not None:
            other_run()
        return memory


def begun(world: ModelWorld, **changed: Any) -> LineageReconciler:
    """Begin a run in a process that lists the target once."""
    world.alive.add("run")
    ports: Ports = world.ports("run")
    targets: Any = {"qiniu": Listed(world.cdn)}
    return LineageReconciler(world.desired(), replace(ports, **{"targets": targets, **changed}))


def renewed(world: ModelWorld) -> None:
    """Let another run renew the certificate to its end."""
    report = world.run(world.desired(), renew=True)
    assert report is not None
    assert report.ok


def ended(world: ModelWorld, run: LineageReconciler) -> LineageReport:
    world.pass_to_the_end(run)
    return run.report()


def events(world: ModelWorld) -> list[str]:
    """Return the events of the history, oldest first."""
    return [entry.event for entry in world.state.history("img", 100)][::-1]


def test_renewal_by_another_run_is_no_drift(world: ModelWorld) -> None:
    """This run has an older list of the domain: before it reports drift, the run reads a new list,
    which shows the other run's work.
    """
    complete_run(world)
    run = begun(world)
    run.reconcile()  # lists what is there
    renewed(world)
    before = world.cdn.writes, events(world)

    report = ended(world, run)

    assert report.ok
    assert before == (world.cdn.writes, events(world))
    assert "drift found" not in events(world)


def test_renewal_between_state_and_target_is_no_drift(world: ModelWorld) -> None:
    """The state was read before the other run, the target afterwards."""
    complete_run(world)
    state: Any = Overtaken(world.ports("run").state, lambda: renewed(world))
    run = begun(world, state=state)

    report = ended(world, run)

    assert report.is_unchanged
    assert "drift found" not in events(world)


@pytest.mark.parametrize("policy", [DriftPolicy.WARN, DriftPolicy.IGNORE])
def test_renewal_by_another_run_is_not_reported_as_left(
    world: ModelWorld, policy: DriftPolicy
) -> None:
    """Under the other drift policies, too, nothing is reported or stored."""
    complete_run(world)
    run = begun(world)
    (deployment,) = run.desired.deployments
    run.desired = replace(run.desired, deployments=(replace(deployment, drift=policy),))
    run.reconcile()
    renewed(world)

    report = ended(world, run)

    assert [Outcome.UNCHANGED] == [step.outcome for step in report.outcomes]
    assert "drift found" not in events(world)
    (record,) = world.state.remembered("img").rollouts
    assert None is record.drift


def test_change_that_another_run_began_is_waited_for(world: ModelWorld) -> None:
    """During the other run's change nothing is called drift, and no repair is counted: two in a day
    would be reported as a fight with another tool.
    """
    complete_run(world)
    run = begun(world)
    run.reconcile()
    world.alive.add("other")
    other = LineageReconciler(
        world.desired(), world.ports("other"), RunRules(issuing_of(renew=True))
    )
    other.reconcile()

    report = ended(world, run)

    assert report.ok
    assert 2 == world.cdn.writes
    assert "drift found" not in events(world)
    (record,) = world.state.remembered("img").rollouts
    assert () == record.repairs


def test_change_that_was_in_time_is_not_reported_as_failed(world: ModelWorld) -> None:
    """By the old list the time is over; a new look shows the change in time."""
    world = ModelWorld(processing=A_MOMENT, lags=(timedelta(0),))
    world.cdn.add_domain(IMG)
    complete_run(world)
    renewing = LineageReconciler(
        world.desired(), world.ports("other"), RunRules(issuing_of(renew=True))
    )
    world.alive.add("other")
    run = begun(world, verify_timeout=SHORT)
    renewing.reconcile()
    run.reconcile()  # lists the change while the target is at it
    world.pass_time(SHORT)

    report = ended(world, run)

    assert report.ok, report


def test_change_that_takes_too_long_has_failed(world: ModelWorld) -> None:
    """A new look shows the same state: the failure is reported in the same pass."""
    run = begun(world, verify_timeout=SHORT)
    run.reconcile()
    world.pass_time(SHORT)

    assert None is run.reconcile()

    result = outcome(run.report(), Action.DEPLOY, IMG)
    assert Outcome.FAILED is result.outcome


def test_short_time_out_of_domains_is_none_of_orders(world: ModelWorld) -> None:
    """Another run orders for some minutes: this run waits, despite a timeout of ten seconds for
    domains.
    """
    world.alive.add("other")
    held = world.state.seen_by("other").acquire("img", world.now())
    run = begun(world, verify_timeout=SHORT)
    run.reconcile()
    world.pass_time(timedelta(minutes=5))

    waiting = run.reconcile()

    assert waiting is not None
    assert [Outcome.WAITING] == [step.outcome for step in run.report().outcomes]
    world.state.seen_by("other").release(held)


def test_copy_that_another_run_removed_is_not_removed_again(world: ModelWorld) -> None:
    """This run's older list has the copy, and the state has it no more."""
    complete_run(world)
    world.pass_time(timedelta(days=1))
    renewed(world)
    run = begun(world)
    run.reconcile()  # lists two copies
    world.pass_time(timedelta(days=1))
    renewed(world)
    assert 1 == world.cdn.removals
    result = events(world)

    report = ended(world, run)

    assert report.ok
    assert not [step for step in report.outcomes if step.action is Action.RETIRE]
    assert result == events(world)


# # --- Leases


def now() -> datetime:
    return datetime.now(UTC)


def test_lease_is_held_while_the_work_goes_on() -> None:
    """Another run is refused meanwhile."""
    state = MemoryState()

    with held_lease(state, now, "img") as lease, pytest.raises(LeaseHeld):
        state.seen_by("another").acquire("img", now())

    assert "img" == lease.lineage


def test_lease_is_given_back_at_the_end() -> None:
    """Also after a failure another run gets the lease at once."""
    state = MemoryState()
    with pytest.raises(ZeroDivisionError), held_lease(state, now, "img"):
        1 / 0  # noqa: B018 - whatever goes wrong

    assert "img" == state.seen_by("another").acquire("img", now()).lineage


# # --- A state restored from an older backup


RENEWED_AFTER = timedelta(days=65)


@pytest.fixture
def restored(world: ModelWorld) -> ModelWorld:
    """Return a world that forgot a renewal: the backup is half a day older."""
    complete_run(world)
    backup = MemoryState(world.alive.__contains__)
    lease = backup.acquire("img", world.now())
    backup.save_version(lease, world.state.bundle("img", 1), world.now())
    backup.release(lease)
    assert world.run(world.desired(), renew=True)
    world.pass_time(timedelta(hours=12))
    world.state = backup
    world.issuer = MemoryIssuer(backup, world.now)
    return world


def test_nothing_older_is_deployed(restored: ModelWorld) -> None:
    """The served certificate is newer than the state's: the state's stays unbound."""
    before = restored.cdn.writes, restored.cdn.uploads, restored.cdn.removals

    report = complete_run(restored)

    refused = outcome(report, Action.DEPLOY, IMG)
    assert Outcome.REFUSED is refused.outcome
    assert "newer than every certificate in the state" in str(refused.detail)
    assert "`certferry sync --renew img`" in str(refused.hint)
    assert before == (restored.cdn.writes, restored.cdn.uploads, restored.cdn.removals)


def test_a_newer_one_is_deployed_when_the_operator_asks_for_it(restored: ModelWorld) -> None:
    """The hint's command puts all in order for good."""
    report = restored.run(restored.desired(), renew=True)

    assert report is not None
    assert report.ok
    assert complete_run(restored).is_unchanged


def test_renewal_that_is_due_mends_it(restored: ModelWorld) -> None:
    """A state that is months old renews by itself, with a newer certificate."""
    restored.pass_time(RENEWED_AFTER)

    report = complete_run(restored)

    assert report.ok
    assert Outcome.DONE is outcome(report, Action.ISSUE).outcome
