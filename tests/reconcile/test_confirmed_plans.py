"""A run that is bound to the plans an operator was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredHttps,
    DriftPolicy,
    HttpsSettings,
    Kind,
    Retirement,
)
from certferry.core.observed.observation import ObservedTarget, Served
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.plan import Deploy, Plan, Retire, Verify
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import LineageReport, Outcome
from certferry.errors import PlanChanged
from certferry.ports.probe import NONE_NAMED, Named
from certferry.ports.target import Scope
from certferry.reconcile.reads import plans_of, plans_to_confirm
from certferry.reconcile.reconciler import LineageReconciler, Reconciler, RunRules
from certferry.reconcile.run import WaitLimit
from certferry.values import replace
from certferry_sandbox.testing.interruptions import Altered
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.reconcile.many_certificates import ManyCertificates
from tests.reconcile.model import FALLEN, ModelWorld
from tests.support.tiers import examples

FIRST, LAST = "img0.example.com", "img2.example.com"


def run_as_confirmed(many: ManyCertificates, confirmed: dict[str, str]) -> dict[str, list[object]]:
    """Sync, and return the codes of refused steps by lineage."""
    report = Reconciler(many.ports(), confirmed).sync(many.certificates, WaitLimit())
    assert report.complete
    return {
        one.lineage: [step.code for step in one.having(Outcome.REFUSED)] for one in report.lineages
    }


class TouchedCdn(MemoryCdn):
    """Another tool binds its certificate to the first domain after the second observation."""

    looks = 0

    def observe(self, scope: Scope) -> ObservedTarget:
        """Observe; let the other tool act after the second observation."""
        observed = super().observe(scope)
        if scope.lineage == FIRST:
            self.looks += 1
            if self.looks == 2:
                touch(self)
        return observed


def touch(cdn: MemoryCdn) -> None:
    cdn.set_by_others(FIRST, cdn.put_foreign(FIRST))


def test_what_was_confirmed_is_carried_out_to_its_end() -> None:
    """A confirmed plan includes the later deployment of the new certificate, and the wait."""
    many = ManyCertificates(3)
    shown, first = plans_to_confirm(many.ports(), many.certificates)

    assert {one.lineage: digest_of_plans([one]) for one in shown} == first
    assert {one.lineage: [] for one in many.certificates} == run_as_confirmed(many, first)
    assert all(plan.is_settled for plan in plans_of(many.ports(), many.certificates))


def test_plan_that_changed_is_refused_and_the_others_go_on() -> None:
    """The refused lineage orders and binds nothing; the same run without a confirmed plan does the
    work.
    """
    many = ManyCertificates(3)
    _, first = plans_to_confirm(many.ports(), many.certificates)
    touch(many.cdn)
    bound = many.cdn.bound_to(FIRST)

    refused = run_as_confirmed(many, first)

    assert {FIRST: [PlanChanged.code], "img1.example.com": [], LAST: []} == refused
    assert bound == many.cdn.bound_to(FIRST)
    assert () == many.state.versions(FIRST)
    assert not any(run_as_confirmed(many, {}).values())
    assert many.state.versions(FIRST)


def test_plan_that_changes_before_the_lease_is_refused() -> None:
    """The plan under the lease counts."""
    many = ManyCertificates(3, cdn=TouchedCdn)
    _, first = plans_to_confirm(many.ports(), many.certificates)

    refused = run_as_confirmed(many, first)

    assert {FIRST: [PlanChanged.code], "img1.example.com": [], LAST: []} == refused
    assert () == many.state.versions(FIRST)


# another tool at work while a run is bound to a plan

IMG, OTHER = "img.example.com", "a.img.example.com"


def with_policy(desired: DesiredCertificate, policy: DriftPolicy) -> DesiredCertificate:
    [deployment] = desired.deployments
    return replace(desired, deployments=(replace(deployment, drift=policy),))


def synced_world(*domains: str, policy: DriftPolicy = DriftPolicy.REPAIR) -> tuple[ModelWorld, Any]:
    """Return a world in which each domain serves its certificate, and the declaration."""
    world = ModelWorld()
    for domain in domains:
        world.cdn.add_domain(domain)
    desired = with_policy(world.desired(), policy)
    world.run(desired)
    world.pass_time(timedelta(hours=1))
    return world, desired


def shown_plan(world: ModelWorld, desired: DesiredCertificate) -> Plan:
    [plan] = plans_of(world.ports("planner"), [desired])
    return plan


def test_binding_that_only_the_edges_betray_is_in_the_plan() -> None:
    """The account's list shows no change; an edge presents another tool's certificate."""
    world, desired = synced_world(IMG)
    world.cdn.bind_unseen(IMG, world.cdn.put_foreign(IMG))
    world.pass_time(timedelta(minutes=10))

    steps = shown_plan(world, desired).steps

    assert [("deploy", IMG, True), ("verify", IMG, False)] == [
        (step.action.value, step.domain, isinstance(step, Deploy) and step.repair)
        for step in steps
        if isinstance(step, Deploy | Verify)
    ]


def test_drift_that_stays_is_in_the_plan_though_the_list_hides_it() -> None:
    """A deployment with `drift = "warn"` reports the foreign certificate before any run."""
    world, desired = synced_world(IMG, policy=DriftPolicy.WARN)
    world.cdn.bind_unseen(IMG, world.cdn.put_foreign(IMG))
    world.pass_time(timedelta(minutes=10))

    plan = shown_plan(world, desired)

    assert [(IMG, DriftPolicy.WARN)] == [(one.domain, one.policy) for one in plan.drifts]
    assert plan.is_empty


class NotedCdn:
    """A CDN that notes the domains a run asks to read at the service itself."""

    def __init__(self, cdn: MemoryCdn) -> None:
        self.cdn = cdn
        self.doubted: list[frozenset[str]] = []

    def observe(self, scope: Scope) -> ObservedTarget:
        """Note the request, and observe."""
        self.doubted.append(scope.doubted)
        return self.cdn.observe(scope)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cdn, name)


@pytest.mark.parametrize("foreign", [False, True], ids=["HTTPS was off", "renewal"])
def test_certificate_before_is_no_reason_to_read_a_binding_again(*, foreign: bool) -> None:
    """During a change of certferry's own, and in a run without work, each pass asks once."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    desired = world.desired()
    if foreign:
        world.run(desired)
    noted = NotedCdn(world.cdn)
    for renew in (True, False):
        ports = replace(world.ports("run"), targets={"qiniu": noted})
        issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
        world.pass_to_the_end(LineageReconciler(desired, ports, RunRules(issuing)))

    assert len(noted.doubted) > 3
    assert {frozenset()} == {*noted.doubted}


def test_digest_of_one_verification_is_not_that_of_another() -> None:
    """Both plans verify and deploy nothing; a run under the first digest refuses the second
    plan.
    """
    world, desired = synced_world(IMG, OTHER)
    shown = []
    for domain in (IMG, OTHER):
        world.cdn.bind_unseen(domain, world.cdn.bound_to(domain))
        edges = Altered(world.cdn, served=served_old_at(world, domain))
        ports: Any = replace(world.ports("planner"), probe=edges)
        [plan], first = plans_to_confirm(ports, [desired])
        assert [domain] == [step.domain for step in plan.steps if isinstance(step, Verify)]
        assert {Verify} == {type(step) for step in plan.steps}
        shown.append((first["img"], ports))
    [(first_digest, _), (_, later_ports)] = shown

    report = run_under(desired, later_ports, first_digest)

    assert [PlanChanged.code] == [step.code for step in report.having(Outcome.REFUSED)]


def served_old_at(world: ModelWorld, domain: str) -> Any:
    """Return edges that present an unbound certificate at one domain."""

    def served(domains: Sequence[str], named: Named = NONE_NAMED) -> dict[str, tuple[Served, ...]]:
        old = FALLEN.served([one for one in domains if one == domain])
        return world.cdn.served([one for one in domains if one != domain], named) | old

    return served


def run_under(desired: DesiredCertificate, ports: Any, digest: str) -> LineageReport:
    run = LineageReconciler(desired, ports, RunRules(confirmed={desired.lineage: digest}))
    run.reconcile()
    return run.report()


# another tool at work while a run is bound to a plan


@dataclass
class OtherTool:
    """The fate of a run's calls: another tool acts before the calls of given numbers."""

    world: ModelWorld
    acts: dict[int, list[tuple[str, str]]]
    calls: int = 0

    def before(self) -> None:
        """Let the other tool act if this call is due."""
        self.calls += 1
        for act, domain in self.acts.get(self.calls, ()):
            interfere(self.world, act, domain)

    def after(self) -> None:
        """Do nothing."""


def interfere(world: ModelWorld, act: str, domain: str) -> None:
    cdn = world.cdn
    match act:
        case "bind":
            cdn.set_by_others(domain, cdn.put_foreign(domain))
        case "bind unseen":
            cdn.bind_unseen(domain, cdn.put_foreign(domain))
        case "switch HTTPS off":
            cdn.set_by_others(domain, None)
        case "change a setting":
            cdn.set_by_others(domain, cdn.bound_to(domain), HttpsSettings(http2=False))
        case "add a domain":
            cdn.add_domain(f"new.{domain}" if domain == IMG else "c.img.example.com")
        case "let an hour pass":
            world.pass_time(timedelta(hours=1))
        case "upload":
            cdn.put_foreign(domain, "by hand")


ACTS = (
    *("bind", "bind unseen", "switch HTTPS off", "change a setting"),
    *("add a domain", "let an hour pass", "upload"),
)
acts = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(ACTS), st.sampled_from((IMG, OTHER))), max_size=4
)


@dataclass
class Writes:
    """Every change that a run made outside."""

    bound: set[tuple[str, str]] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    uploaded: set[str] = field(default_factory=set)

    def ports(self, world: ModelWorld, fate: OtherTool) -> Any:
        """Return the ports of a run; each write at the target is noted."""
        ports = world.ports("run", fate)
        cdn: Any = ports.targets["qiniu"]

        def bind(domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
            self.bound.add((domain, remote_id))
            request: str | None = cdn.bind(domain, kind, remote_id, https)
            return request

        def upload(lineage: str, bundle: CertificateBundle) -> str:
            self.uploaded.add(bundle.certificate.fingerprint)
            remote_id: str = cdn.upload(lineage, bundle)
            return remote_id

        def retire(remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
            self.removed.add(remote_id)
            was_there: bool = cdn.retire(remote_id, label, unmanaged=unmanaged)
            return was_there

        altered: Any = Altered(cdn, bind=bind, upload=upload, retire=retire)
        return replace(ports, targets={"qiniu": altered})


@settings(max_examples=examples(120))
@given(
    runs_before=st.integers(0, 2),
    age=st.sampled_from([timedelta(0), timedelta(days=20), timedelta(days=70)]),
    first_acts=acts,
    later_acts=acts,
    policy=st.sampled_from(DriftPolicy),
    retire=st.sampled_from(Retirement),
    renew=st.booleans(),
)
def test_writes_of_a_run_under_a_digest_are_writes_of_that_plan(
    runs_before: int,
    age: timedelta,
    first_acts: list[tuple[int, str, str]],
    later_acts: list[tuple[int, str, str]],
    policy: DriftPolicy,
    retire: Retirement,
    *,
    renew: bool,
) -> None:
    """Another tool acts before the plan, between plan and run, and between any two calls of the
    run. Each order, upload, binding and removal is a step of the shown plan.
    """
    world = ModelWorld()
    for domain in (IMG, OTHER):
        world.cdn.add_domain(domain)
    desired = with_policy(world.desired(retire=retire), policy)
    for _ in range(runs_before):
        world.run(desired, renew=True)
    world.pass_time(age)
    for _, act, domain in first_acts:
        interfere(world, act, domain)
    [shown], first = plans_to_confirm(world.ports("planner"), [desired], renew=renew)
    issued, writes = world.issuer.issued, Writes()

    fate = OtherTool(world, {})
    for call, act, domain in later_acts:
        fate.acts.setdefault(call, []).append((act, domain))
    issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
    ports = writes.ports(world, fate)
    for act, domain in fate.acts.pop(0, ()):
        interfere(world, act, domain)
    world.pass_to_the_end(
        LineageReconciler(
            desired, ports, RunRules(issuing, confirmed={desired.lineage: first["img"]})
        )
    )

    deploys = {step.domain: step.fingerprint for step in shown.steps if isinstance(step, Deploy)}
    removals = {step.remote_id for step in shown.steps if isinstance(step, Retire)}
    assert writes.removed <= removals
    assert {domain for domain, _ in writes.bound} <= {*deploys}
    assert world.issuer.issued - issued <= (shown.issue_now is not None)
    certificates = {one.fingerprint for one in world.state.versions("img")}
    new = certificates - {one.fingerprint for one in versions_before(world, issued)}
    assert writes.uploaded <= {*deploys.values()} | (new if None in deploys.values() else set())


def versions_before(world: ModelWorld, issued: int) -> Sequence[Any]:
    """Return the versions of the first `issued` orders, newest first."""
    versions = world.state.versions("img")
    return versions[len(versions) - issued :]
