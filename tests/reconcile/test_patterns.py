"""What is matched and sighted: patterns, sightings, slips."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.cli.exits import Exit, of_plans, of_report, of_statuses
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.notices import noticed
from certferry.core.assessment.sightings import (
    Sighted,
    Sighting,
    after_run,
    sighted,
    with_delivered,
)
from certferry.core.assessment.status import status_of
from certferry.core.certificates.certificate import KeyType, covered_by
from certferry.core.certificates.names import match_of
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    FileDelivery,
    delivered,
)
from certferry.core.observed.observation import DomainState, Observation, ObservedTarget
from certferry.core.planning.plan import Action, Deploy, Weight
from certferry.core.planning.planner import Claims
from certferry.core.planning.report import LineageReport, Outcome, SyncReport
from certferry.ports.target import Scope
from certferry.present import documents, plan_text, report_text, status_text
from certferry.present.language import Voice
from certferry.reconcile.observe import observe
from certferry.reconcile.run import WaitLimit
from certferry.values import replace
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.cli.values import text_of
from tests.core.strategies import NOW
from tests.reconcile.company import Company, Counted
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER, outcome, synced
from tests.support.tiers import examples

# --- Globs and `exclude` in the engine: what is served, by which deployment, and when nothing
# is


EN = Voice()
NAMES = (IMG, f"*.{IMG}")
THERE = (IMG, OTHER, f"b.{IMG}", f"*.{IMG}", "www.example.com")


def desired(*deployments: DesiredDeployment) -> DesiredCertificate:
    """The certificate, deployed so."""
    return DesiredCertificate("img", NAMES, "dnspod", deployments=deployments)


def by(
    *globs: str, exclude: tuple[str, ...] = (), https: DesiredHttps | None = None
) -> DesiredDeployment:
    return DesiredDeployment(
        "qiniu", (), globs=globs, exclude=exclude, https=https or DesiredHttps()
    )


class SwitchedOffCdn(MemoryCdn):
    """A CDN that leaves out what it finds and cannot serve."""

    def observe(self, scope: Scope) -> ObservedTarget:
        found = super().observe(scope)
        off = tuple(d for d in found.domains if d.state is DomainState.UNAVAILABLE)
        on = tuple(d for d in found.domains if d not in off)
        return replace(found, domains=on, left_out=off)


pattern = st.sampled_from(["*", f"*.{IMG}", "a.*", "*b.img*", "x*"])


def bound(world: ModelWorld, names: set[str]) -> set[str]:
    served = world.cdn.served(sorted(names))
    return {name for name in names if any(address.fingerprint for address in served[name])}


@settings(max_examples=examples(40))
@given(
    globs=st.lists(pattern, min_size=1, max_size=2, unique=True).map(tuple),
    exclude=st.lists(pattern, max_size=2, unique=True).map(tuple),
    there=st.sets(st.sampled_from(THERE)),
    later=st.sampled_from(THERE),
)
def test_what_is_meant_is_served_and_nothing_else_is_touched(
    globs: tuple[str, ...], exclude: tuple[str, ...], there: set[str], later: str
) -> None:
    """Now, and when a domain has appeared; then a run changes nothing."""
    world = ModelWorld()
    for name in sorted(there):
        world.cdn.add_domain(name)
    asked = desired(by(*globs, exclude=exclude))

    world.run(asked)
    if later not in there:
        world.cdn.add_domain(later)
    world.pass_time(timedelta(hours=1))
    world.run(asked)
    before = world.cdn.writes, world.cdn.uploads, world.issuer.issued
    world.run(asked)

    meant = {
        name
        for name in there | {later}
        if covered_by(NAMES, name) and match_of(globs, name) and not match_of(exclude, name)
    }
    assert meant == bound(world, there | {later})
    assert world.plan(asked).is_empty
    assert before == (world.cdn.writes, world.cdn.uploads, world.issuer.issued)
    assert int(bool(meant)) == world.issuer.issued


def test_new_domain_is_reported_as_such(world: ModelWorld) -> None:
    """In the plan of the next run; when it is served, it is one like any other."""
    asked = desired(DesiredDeployment("qiniu", exclude=(f"b.{IMG}",)))
    world.run(asked)
    world.cdn.add_domain(OTHER)
    world.cdn.add_domain(f"b.{IMG}")

    [step] = [step for step in world.plan(asked).steps if isinstance(step, Deploy)]
    report = world.run(asked)

    assert (
        'new to the certificate, found by domains = "auto"; HTTPS is off → will be turned on'
        == str(step.reason.message)
    )
    assert report is not None
    assert Outcome.DONE is outcome(report, Action.VERIFY, OTHER).outcome
    assert world.plan(asked).is_settled


def test_more_exact_deployment_of_one_certificate_decides(world: ModelWorld) -> None:
    """Each domain has the settings of the deployment that describes it more closely, whichever is
    written first; one that is left without domains says who serves them.
    """
    world.cdn.add_domain(OTHER)
    wide, near = by("*"), by("a.*", https=DesiredHttps(http2=True))
    for deployments in ((wide, near), (near, wide)):
        asked = desired(*deployments)
        world.claims = Claims([asked])

        report = world.run(asked)

        assert report is not None
        assert report.ok
        assert (None, True) == (
            world.cdn.settings(IMG).http2 or None,
            world.cdn.settings(OTHER).http2,
        )
    asked = desired(wide, by("i*", "a*.com"))
    world.claims = Claims([asked])

    report = world.run(asked)

    assert report is not None
    assert report.ok
    said = {str(result.detail) for result in report.outcomes}
    assert "every domain of the certificate is served by img" in said


def test_nothing_is_ordered_for_a_glob_that_matches_nothing(world: ModelWorld) -> None:
    """It is reported and fails the run; as soon as something matches, the next run goes on."""
    asked = desired(by("c.*"))

    report = world.run(asked)
    again = world.run(asked, renew=True)
    world.cdn.add_domain(f"c.{IMG}")
    later = world.run(asked)

    for failed in (report, again):
        assert failed is not None
        assert [Outcome.FAILED] == [result.outcome for result in failed.outcomes]
        assert "matches c.*" in str(failed.outcomes[0].detail)
        assert failed.outcomes[0].hint
    assert later is not None
    assert later.ok
    assert 1 == world.issuer.issued


def test_what_is_excluded_later_keeps_its_certificate(world: ModelWorld) -> None:
    """It is left alone from then on: not renewed, and its certificate is not removed."""
    world.cdn.add_domain(OTHER)
    world.run(desired(DesiredDeployment("qiniu")))
    asked = desired(replace(DesiredDeployment("qiniu"), exclude=("a.*",)))
    before = world.cdn.served([OTHER])
    world.pass_time(timedelta(days=70))

    report = world.run(asked)

    assert report is not None
    assert Outcome.DONE is outcome(report, Action.VERIFY, IMG).outcome
    assert before == world.cdn.served([OTHER])
    assert 2 == len(world.cdn.remote_ids)
    assert [] == world.cdn.broken


@pytest.mark.parametrize("deployment", [DesiredDeployment("qiniu"), by("*")])
def test_domain_that_is_switched_off_is_reported_and_alarms_nothing(
    world: ModelWorld, deployment: DesiredDeployment
) -> None:
    """Once in a run and in a plan; the run is in order, `--check` too, and no channel hears of it,
    however often it is run.
    """
    world.cdn = SwitchedOffCdn(world.now)
    world.cdn.add_domain(IMG)
    world.cdn.add_domain(OTHER, state=DomainState.UNAVAILABLE)
    asked = desired(deployment)
    world.run(asked)

    report = world.run(asked)
    plan = world.plan(asked)

    assert report is not None
    result = outcome(report, Action.DEPLOY, OTHER)
    assert Outcome.SKIPPED is result.outcome
    assert f"{OTHER} is frozen" in str(result.detail)
    assert "left out, since `domains` does not list it" in str(result.detail)
    ran = SyncReport((report,))
    assert Exit.OK is of_report(ran)
    versions = {"img": world.state.versions("img")}
    assert () == noticed(ran, (), world.now(), versions=versions, declared=["img"])
    assert [OTHER] == [one.domain for one in plan.having(Weight.SKIPPED)]
    assert Exit.OK is of_plans([plan], check=True)
    assert "Nothing changed: 1 domain is left unchanged" in text_of(
        list(report_text.lines(ran, EN))
    )
    assert text_of(list(plan_text.lines([plan], EN))).count(f"skipped  qiniu → {OTHER}: ") == 1
    assert OTHER in str(documents.rendered(documents.of_plans([plan]), EN)["certificates"])


def test_domain_that_is_switched_off_is_reported_for_the_certificate_that_would_serve_it(
    world: ModelWorld,
) -> None:
    """Not for each that covers it."""
    world.cdn = SwitchedOffCdn(world.now)
    world.cdn.add_domain(IMG)
    world.cdn.add_domain(OTHER, state=DomainState.UNAVAILABLE)
    first, second = desired(by("*")), replace(desired(by("*")), lineage="second")
    world.claims = Claims([first, second])

    assert [OTHER] == [one.domain for one in world.plan(first).having(Weight.SKIPPED)]
    assert () == world.plan(second).having(Weight.SKIPPED)


@pytest.mark.parametrize("deployment", [DesiredDeployment("qiniu"), by("*")])
def test_status_reports_a_domain_that_is_switched_off(
    world: ModelWorld, deployment: DesiredDeployment
) -> None:
    """Below the rows, which are of what is served; and all is in order."""
    world.cdn = SwitchedOffCdn(world.now)
    world.cdn.add_domain(IMG)
    world.cdn.add_domain(OTHER, state=DomainState.UNAVAILABLE)
    asked = desired(deployment)
    world.run(asked)

    status = status_of(asked, observe(asked, world.ports("looker")), world.clock)

    said = f"{OTHER} is frozen; the domain is left out, since `domains` does not list it"
    assert [IMG] == [one.domain for one in status.domains]
    assert f"{OTHER}: {said}" in text_of(list(status_text.remarks([status], EN)))
    document: Any = documents.rendered(documents.of_statuses([status], Recorded()), EN)
    [certificate] = document["certificates"]
    [notice] = certificate["notices"]
    assert ("qiniu", OTHER, said) == (
        notice["target"],
        notice["domain"],
        notice["error"]["message"],
    )
    assert document["ok"]
    assert Exit.OK is of_statuses([status], Recorded())


# --- What runs leave behind of the places of their certificates


LATER = NOW + timedelta(days=1)
A = Sighting("img", "qiniu", "a.example.com", served=True, since=NOW, fingerprint="aa" * 32)
B = Sighting("img", "files", "/ssl", served=False, since=NOW)
OTHER_SIGHTED = Sighting("other", "qiniu", "c.example.com", served=True, since=NOW)


def after(before: tuple[Sighting, ...], looked: Sighted | None) -> tuple[Sighting, ...]:
    looks = {} if looked is None else {"img": looked}
    return after_run(before, with_delivered(looks, [LineageReport("img", "bb" * 32, ())]))


def test_what_the_run_was_not_for_stays() -> None:
    """Another lineage's places, and all of one that did not come to a look."""
    before = (B, A, OTHER_SIGHTED)

    assert before == after(before, None)
    assert before == after_run(before, with_delivered({"img": Sighted()}, []))


def test_what_could_not_be_read_stays_and_what_is_gone_goes() -> None:
    """A target that does not answer says nothing; one that answers says which domains it has."""
    unread = Sighted((), ("qiniu",))

    assert (A, OTHER_SIGHTED) == after((B, A, OTHER_SIGHTED), unread)
    assert (OTHER_SIGHTED,) == after((B, A, OTHER_SIGHTED), Sighted())


def test_the_beginning_and_the_last_that_was_seen_are_kept() -> None:
    """While it stays as it is; when it changes, it is so since this look."""
    again = replace(A, since=LATER)
    gone = replace(A, served=False, since=LATER, fingerprint=None)

    assert (A,) == after((A,), Sighted((again,)))
    (found,) = after((A,), Sighted((gone,)))
    assert (False, LATER, A.fingerprint) == (found.served, found.since, found.fingerprint)


def test_a_certificate_that_arrives_is_seen() -> None:
    """Not while its domain serves nothing of ours, and in the run that brought it."""
    company = Company(1)
    early = company.reconciler().sync(company.certificates, WaitLimit(timedelta(0)))
    assert not early.ok
    assert [False] == [one.served for one in company.state.sightings()]

    late = company.reconciler().sync(company.certificates, WaitLimit())

    (lineage,) = late.lineages
    (found,) = company.state.sightings()
    assert (True, lineage.fingerprint) == (found.served, found.fingerprint)
    assert (found.lineage, "cdn", found.lineage) == found.place


def test_what_a_receiver_took_is_seen_without_another_look() -> None:
    """It holds what was delivered."""
    company = Company(1)
    to_files = delivered(FileDelivery("/opt/ssl/img"))
    desired = replace(company.certificates[0], deployments=(to_files,))

    report = company.reconciler().sync([desired], WaitLimit())

    (found,) = company.state.sightings()
    assert ("files", "/opt/ssl/img") == (found.target, found.domain)
    assert (True, report.lineages[0].fingerprint) == (found.served, found.fingerprint)


def test_a_target_that_does_not_answer_is_unread() -> None:
    """What an earlier run saw there stays."""
    company = Company(1)
    company.reconciler().sync(company.certificates, WaitLimit())
    (seen,) = company.state.sightings()
    assert seen.served

    company.cdn.denies = True
    report = company.reconciler().sync(company.certificates, WaitLimit())

    assert report.any(Outcome.FAILED)
    assert (seen,) == company.state.sightings()


def test_nothing_is_written_where_all_is_as_before() -> None:
    """A run with nothing to do costs no write for what it saw."""
    company = Company(1)
    company.state = state = Counted(company.state)
    for _ in range(3):
        assert company.reconciler().sync(company.certificates, WaitLimit()).ok

    assert 1 == state.calls["update_sightings"]


def test_a_target_that_others_serve_is_owned_elsewhere() -> None:
    """It has no domain of this lineage's, and no place that is missed."""
    observed = Observation(targets=(ObservedTarget("qiniu", owned_elsewhere=("other",)),))

    (found,) = sighted("img", observed, NOW).places

    assert found.is_owned_elsewhere
    assert ("img", "qiniu", "", True) == (*found.place, found.served)


# --- A slip in the file that was corrected leaves nothing to be ordered


def killed_with_an_order(
    world: ModelWorld, desired: DesiredCertificate, *, renew: bool = False
) -> None:
    for position in range(40):
        assert None is world.run(desired, kill_after=position, renew=renew)
        if world.state.order("img") is not None:
            return
    raise AssertionError("it never ordered")


def test_names_that_were_put_back(world: ModelWorld) -> None:
    """The names of before need no new certificate, and the order for others is forgotten."""
    synced(world)
    killed_with_an_order(world, world.desired(names=("img.example.com", "slip.example.com")))

    assert None is world.plan(world.desired()).issue
    report = synced(world)

    assert Action.ISSUE not in {step.action for step in report.outcomes}
    assert 1 == world.issuer.issued
    assert None is world.state.order("img")


def test_key_type_that_was_put_back(world: ModelWorld) -> None:
    """The same holds for the kind of key."""
    synced(world)
    slip = replace(world.desired(), key_type=KeyType.RSA2048)
    killed_with_an_order(world, slip)

    assert synced(world).ok
    assert 1 == world.issuer.issued


def test_order_for_what_is_declared_is_finished(world: ModelWorld) -> None:
    """A renewal on demand that was killed is not forgotten."""
    synced(world)
    killed_with_an_order(world, world.desired(), renew=True)

    synced(world)

    assert 2 == world.issuer.issued
    assert None is world.state.order("img")
