"""Patterns of domains, sightings of places, and corrected slips in the file."""

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
)
from certferry.core.desired.declaration import delivered
from certferry.core.observed.observation import DomainState, Observation, ObservedTarget
from certferry.core.planning.plan import Action, Deploy, Weight
from certferry.core.planning.planner import Claims
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.ports.target import Scope
from certferry.present import documents, plan_text, report_text, status_text
from certferry.present.language import Voice
from certferry.reconcile.observe import observe
from certferry.reconcile.run import WaitLimit
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.cli.values import text_of
from tests.core.strategies import NOW
from tests.reconcile.many_certificates import Counted, ManyCertificates
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER, complete_run, outcome
from tests.support.tiers import examples

# # --- Globs and `exclude` in the reconciler: served domains, deciding deployments, empty matches


EN = Voice()
NAMES = (IMG, f"*.{IMG}")
THERE = (IMG, OTHER, f"b.{IMG}", f"*.{IMG}", "www.example.com")


def desired(*deployments: DesiredDeployment) -> DesiredCertificate:
    """Declare the certificate with these deployments."""
    return DesiredCertificate("img", NAMES, "dnspod", deployments=deployments)


def by(
    *globs: str, exclude: tuple[str, ...] = (), https: DesiredHttps | None = None
) -> DesiredDeployment:
    return DesiredDeployment(
        "qiniu", (), globs=globs, exclude=exclude, https=https or DesiredHttps()
    )


class SwitchedOffCdn(MemoryCdn):
    """A CDN that leaves out discovered domains that cannot be served."""

    def observe(self, scope: Scope) -> ObservedTarget:
        observed = super().observe(scope)
        off = tuple(d for d in observed.domains if d.state is DomainState.UNAVAILABLE)
        on = tuple(d for d in observed.domains if d not in off)
        return replace(observed, domains=on, left_out=off)


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
    """Matching domains are served, now and after a new domain; then a run changes nothing."""
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
    """The next plan calls the domain new; once served, the domain is like any other."""
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
    """Each domain has the settings of its closest deployment, in any order of the file; a
    deployment without domains names the owner of the domains.
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
    details = {str(result.detail) for result in report.outcomes}
    assert "every domain of the certificate is served by img" in details


def test_nothing_is_ordered_for_a_glob_that_matches_nothing(world: ModelWorld) -> None:
    """An empty match fails the run; with the first matching domain the next run goes on."""
    asked = desired(by("c.*"))

    report = world.run(asked)
    again = world.run(asked, renew=True)
    world.cdn.add_domain(f"c.{IMG}")
    later = world.run(asked)

    for failed in (report, again):
        assert failed is not None
        assert [Outcome.FAILED] == [result.outcome for result in failed.outcomes]
        assert "c.* matches no" in str(failed.outcomes[0].detail)
        assert failed.outcomes[0].hint
    assert later is not None
    assert later.ok
    assert 1 == world.issuer.issued


def test_what_is_excluded_later_keeps_its_certificate(world: ModelWorld) -> None:
    """The excluded domain is left alone: no renewal, and its certificate is not removed."""
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
    """Run and plan mention the domain once; the run and `--check` succeed, and no channel is
    notified, in any number of runs.
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
    assert "Nothing changed: 1 domain differs from the file" in text_of(
        list(report_text.lines(ran, EN))
    )
    assert text_of(list(plan_text.lines([plan], EN))).count(f"skipped  qiniu → {OTHER}: ") == 1
    assert OTHER in str(documents.rendered(documents.of_plans([plan]), EN)["certificates"])


def test_domain_that_is_switched_off_is_reported_for_the_certificate_that_would_serve_it(
    world: ModelWorld,
) -> None:
    """Other covering certificates do not mention the domain."""
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
    """The note stands below the rows of the served domains; the status is in order."""
    world.cdn = SwitchedOffCdn(world.now)
    world.cdn.add_domain(IMG)
    world.cdn.add_domain(OTHER, state=DomainState.UNAVAILABLE)
    asked = desired(deployment)
    world.run(asked)

    status = status_of(asked, observe(asked, world.ports("looker")), world.clock)

    note = f"{OTHER} is frozen; the domain is left out, since `domains` does not list it"
    assert [IMG] == [one.domain for one in status.domains]
    assert f"{OTHER}: {note}" in text_of(list(status_text.remarks([status], EN)))
    document: Any = documents.rendered(documents.of_statuses([status], Recorded()), EN)
    [certificate] = document["certificates"]
    [notice] = certificate["notices"]
    assert ("qiniu", OTHER, note) == (
        notice["target"],
        notice["domain"],
        notice["error"]["message"],
    )
    assert document["ok"]
    assert Exit.OK is of_statuses([status], Recorded())


# # --- Sightings: the stored places of certificates


LATER = NOW + timedelta(days=1)
A = Sighting("img", "qiniu", "a.example.com", served=True, since=NOW, fingerprint="aa" * 32)
B = Sighting("img", "files", "/ssl", served=False, since=NOW)
OTHER_SIGHTED = Sighting("other", "qiniu", "c.example.com", served=True, since=NOW)


def after(before: tuple[Sighting, ...], looked: Sighted | None) -> tuple[Sighting, ...]:
    looks = {} if looked is None else {"img": looked}
    return after_run(before, with_delivered(looks, [LineageReport("img", "bb" * 32, ())]))


def test_what_the_run_was_not_for_stays() -> None:
    """Sightings of another lineage, and of an unobserved lineage, stay."""
    before = (B, A, OTHER_SIGHTED)

    assert before == after(before, None)
    assert before == after_run(before, with_delivered({"img": Sighted()}, []))


def test_upload_by_the_last_pass_counts() -> None:
    """A run that stops waiting does not observe again after a deployment, and the copy is at the
    target: no "must be uploaded by" follows.
    """
    waiting = Sighting("img", "qiniu", "a.example.com", served=False, since=NOW)
    another = Sighting("img", "tencent", "b.example.com", served=False, since=NOW)
    step = StepOutcome(Action.DEPLOY, Outcome.DONE, Text("deployed"), "qiniu", "a.example.com")
    report = LineageReport("img", "bb" * 32, (step,))

    stored = after_run((), with_delivered({"img": Sighted((waiting, another))}, [report]))

    assert (replace(waiting, is_uploaded=True), another) == stored


def test_what_could_not_be_read_stays_and_what_is_gone_goes() -> None:
    """A silent target changes no sighting; an answer lists the existing domains."""
    unread = Sighted((), ("qiniu",))

    assert (A, OTHER_SIGHTED) == after((B, A, OTHER_SIGHTED), unread)
    assert (OTHER_SIGHTED,) == after((B, A, OTHER_SIGHTED), Sighted())


def test_the_beginning_and_the_last_that_was_seen_are_kept() -> None:
    """An unchanged sighting keeps its beginning; a change begins with this look."""
    again = replace(A, since=LATER)
    gone = replace(A, served=False, since=LATER, fingerprint=None)

    assert (A,) == after((A,), Sighted((again,)))
    (sighting,) = after((A,), Sighted((gone,)))
    assert (False, LATER, A.fingerprint) == (sighting.served, sighting.since, sighting.fingerprint)


def test_a_certificate_that_arrives_is_seen() -> None:
    """The sighting follows the run that served the certificate."""
    many = ManyCertificates(1)
    early = many.reconciler().sync(many.certificates, WaitLimit(timedelta(0)))
    assert not early.ok
    assert [False] == [one.served for one in many.state.sightings()]

    late = many.reconciler().sync(many.certificates, WaitLimit())

    (lineage,) = late.lineages
    (sighting,) = many.state.sightings()
    assert (True, lineage.fingerprint) == (sighting.served, sighting.fingerprint)
    assert (sighting.lineage, "cdn", sighting.lineage) == sighting.place


def test_what_a_receiver_took_is_seen_without_another_look() -> None:
    """The receiver holds the delivered certificate."""
    many = ManyCertificates(1)
    to_files = delivered(FileDelivery("/opt/ssl/img"))
    desired = replace(many.certificates[0], deployments=(to_files,))

    report = many.reconciler().sync([desired], WaitLimit())

    (sighting,) = many.state.sightings()
    assert ("files", "/opt/ssl/img") == (sighting.target, sighting.domain)
    assert (True, report.lineages[0].fingerprint) == (sighting.served, sighting.fingerprint)


def test_a_target_that_does_not_answer_is_unread() -> None:
    """An earlier run's sighting stays."""
    many = ManyCertificates(1)
    many.reconciler().sync(many.certificates, WaitLimit())
    (seen,) = many.state.sightings()
    assert seen.served

    many.cdn.denies = True
    report = many.reconciler().sync(many.certificates, WaitLimit())

    assert report.any(Outcome.FAILED)
    assert (seen,) == many.state.sightings()


def test_nothing_is_written_where_all_is_as_before() -> None:
    """A run without changes writes no sighting."""
    many = ManyCertificates(1)
    many.state = state = Counted(many.state)
    for _ in range(3):
        assert many.reconciler().sync(many.certificates, WaitLimit()).ok

    assert 1 == state.calls["update_sightings"]


def test_a_target_that_others_serve_is_owned_elsewhere() -> None:
    """Such a target has no domain of this lineage, and misses no place."""
    observed = Observation(targets=(ObservedTarget("qiniu", owned_elsewhere=("other",)),))

    (place,) = sighted("img", observed, NOW).places

    assert place.is_owned_elsewhere
    assert ("img", "qiniu", "", True) == (*place.place, place.served)


# # --- A corrected slip in the file leaves no order


def killed_with_an_order(
    world: ModelWorld, desired: DesiredCertificate, *, renew: bool = False
) -> None:
    for position in range(40):
        assert None is world.run(desired, kill_after=position, renew=renew)
        if world.state.order("img") is not None:
            return
    raise AssertionError("it never ordered")


def test_names_that_were_put_back(world: ModelWorld) -> None:
    """The earlier names need no new certificate, and the order for other names is forgotten."""
    complete_run(world)
    killed_with_an_order(world, world.desired(names=("img.example.com", "slip.example.com")))

    assert None is world.plan(world.desired()).issue
    report = complete_run(world)

    assert Action.ISSUE not in {step.action for step in report.outcomes}
    assert 1 == world.issuer.issued
    assert None is world.state.order("img")


def test_key_type_that_was_put_back(world: ModelWorld) -> None:
    """The earlier key type needs no new certificate."""
    complete_run(world)
    slip = replace(world.desired(), key_type=KeyType.RSA2048)
    killed_with_an_order(world, slip)

    assert complete_run(world).ok
    assert 1 == world.issuer.issued


def test_order_for_what_is_declared_is_finished(world: ModelWorld) -> None:
    """A killed renewal on demand is finished."""
    complete_run(world)
    killed_with_an_order(world, world.desired(), renew=True)

    complete_run(world)

    assert 2 == world.issuer.issued
    assert None is world.state.order("img")
