"""Globs and `exclude` in the engine: what is served, by which deployment, and when nothing is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.certificate import covered_by
from certferry.core.desired import DesiredCertificate, DesiredDeployment, HttpsWish
from certferry.core.globs import match_of
from certferry.core.ownership import Claims
from certferry.core.plan import Action, Deploy
from certferry.core.report import Outcome
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER, outcome
from tests.support.tiers import examples

NAMES = (IMG, f"*.{IMG}")
THERE = (IMG, OTHER, f"b.{IMG}", f"*.{IMG}", "www.example.com")


def wish(*deployments: DesiredDeployment) -> DesiredCertificate:
    """The certificate, deployed so."""
    return DesiredCertificate("img", NAMES, "dnspod", deployments=deployments)


def by(
    *globs: str, exclude: tuple[str, ...] = (), https: HttpsWish | None = None
) -> DesiredDeployment:
    """A deployment to what these match."""
    return DesiredDeployment("qiniu", (), globs=globs, exclude=exclude, https=https or HttpsWish())


pattern = st.sampled_from(["*", f"*.{IMG}", "a.*", "*b.img*", "x*"])


def bound(world: ModelWorld, names: set[str]) -> set[str]:
    """Which of these domains present a certificate."""
    served = world.cdn.look(sorted(names))
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
    asked = wish(by(*globs, exclude=exclude))

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


def test_new_domain_is_told_as_such(world: ModelWorld) -> None:
    """In the plan of the next run; when it is served, it is one like any other."""
    asked = wish(DesiredDeployment("qiniu", exclude=(f"b.{IMG}",)))
    world.run(asked)
    world.cdn.add_domain(OTHER)
    world.cdn.add_domain(f"b.{IMG}")

    [step] = [step for step in world.plan(asked).steps if isinstance(step, Deploy)]
    report = world.run(asked)

    assert (
        'new to this certificate, found by domains = "auto"; HTTPS is off → will be turned on'
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
    wide, near = by("*"), by("a.*", https=HttpsWish(http2=True))
    for deployments in ((wide, near), (near, wide)):
        asked = wish(*deployments)
        world.claims = Claims([asked])

        report = world.run(asked)

        assert report is not None
        assert report.ok
        assert (None, True) == (
            world.cdn.settings(IMG).http2 or None,
            world.cdn.settings(OTHER).http2,
        )
    asked = wish(wide, by("i*", "a*.com"))
    world.claims = Claims([asked])

    report = world.run(asked)

    assert report is not None
    assert report.ok
    said = {str(told.detail) for told in report.outcomes}
    assert "every domain that it covers is served by img" in said


def test_nothing_is_ordered_for_a_glob_that_matches_nothing(world: ModelWorld) -> None:
    """It is told and fails the run; as soon as something matches, the next run goes on."""
    asked = wish(by("c.*"))

    report = world.run(asked)
    again = world.run(asked, renew=True)
    world.cdn.add_domain(f"c.{IMG}")
    later = world.run(asked)

    for failed in (report, again):
        assert failed is not None
        assert [Outcome.FAILED] == [told.outcome for told in failed.outcomes]
        assert "matches c.*" in str(failed.outcomes[0].detail)
        assert failed.outcomes[0].hint
    assert later is not None
    assert later.ok
    assert 1 == world.issuer.issued


def test_what_is_excluded_later_keeps_its_certificate(world: ModelWorld) -> None:
    """It is left alone from then on: not renewed, and its certificate is not removed."""
    world.cdn.add_domain(OTHER)
    world.run(wish(DesiredDeployment("qiniu")))
    asked = wish(replace(DesiredDeployment("qiniu"), exclude=("a.*",)))
    before = world.cdn.look([OTHER])
    world.pass_time(timedelta(days=70))

    report = world.run(asked)

    assert report is not None
    assert Outcome.DONE is outcome(report, Action.VERIFY, IMG).outcome
    assert before == world.cdn.look([OTHER])
    assert 2 == len(world.cdn.remote_ids)
    assert [] == world.cdn.broken
