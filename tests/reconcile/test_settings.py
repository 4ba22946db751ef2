"""A domain's settings, also those that no target tells: sent once for each wish, and not again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certferry.core.assessment.status import Standing, status_of
from certferry.core.desired.certificate import DesiredCertificate, DesiredHttps, Kind
from certferry.core.observed.observation import Change
from certferry.core.planning.report import LineageReport, Outcome
from certferry.core.planning.steps import Deploy
from certferry.core.reasons import ReasonCode
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler
from tests.reconcile.model import FALLEN, ModelWorld
from tests.support.tiers import sampled

IMG = "img.example.com"
VERSIONS = ("TLSv1.2", "TLSv1.3")
UNTOLD = frozenset({"force_https", "http2", "tls_versions"})
WISHES = [
    pytest.param(DesiredHttps(tls_versions=VERSIONS), id="tls_versions"),
    pytest.param(DesiredHttps(force_https=False), id="force_https"),
    pytest.param(DesiredHttps(http2=True), id="http2"),
]


def served(*, untold: frozenset[str] = UNTOLD) -> ModelWorld:
    """A domain that serves our certificate, at a CDN that tells none of its settings."""
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    world.cdn.untold = untold
    synced(world, world.wish())
    return world


def synced(world: ModelWorld, wish: DesiredCertificate) -> LineageReport:
    """Run to the end."""
    report = world.run(wish)
    assert report is not None
    return report


def footprint(world: ModelWorld) -> tuple[int, int, int]:
    """Certificates, uploads, changes of domains."""
    return world.issuer.issued, world.cdn.uploads, world.cdn.writes


@pytest.mark.parametrize("untold", [UNTOLD, frozenset()], ids=["untold", "told-once-set"])
@pytest.mark.parametrize("https", WISHES)
def test_setting_added_to_a_domain_that_serves_ours(
    https: DesiredHttps, untold: frozenset[str]
) -> None:
    """It is planned, applied without a certificate or an upload, and then left alone."""
    world = served(untold=untold)
    wish = world.wish(https=https)

    (deploy, _) = world.plan(wish).steps
    assert isinstance(deploy, Deploy)
    assert ReasonCode.SETTINGS_DRIFTED is deploy.reason.code
    assert ["unknown"] == [change.was for change in deploy.changes]

    assert synced(world, wish).ok
    assert https.tls_versions == world.cdn.settings(IMG).tls_versions
    assert (https.force_https, https.http2) == (
        world.cdn.settings(IMG).force_https,
        world.cdn.settings(IMG).http2,
    )
    assert (1, 1, 2) == footprint(world)
    assert world.plan(wish).is_settled
    assert synced(world, wish).is_unchanged
    assert (1, 1, 2) == footprint(world)


def test_wish_that_changes_is_sent_each_time() -> None:
    """Another list of versions is another wish; another order of the same is not."""
    world = served()
    lists = [VERSIONS, VERSIONS[::-1], ("TLSv1.3",), VERSIONS]

    for versions in lists:
        assert synced(world, world.wish(https=DesiredHttps(tls_versions=versions))).ok

    assert set(VERSIONS) == set(world.cdn.settings(IMG).tls_versions or ())
    assert (1, 1, 4) == footprint(world)


def test_setting_stands_in_the_diff_of_another_deployment() -> None:
    """Beside the certificate that is replaced."""
    world = served()
    world.pass_time(timedelta(days=61))

    plan = world.plan(world.wish(https=DesiredHttps(tls_versions=VERSIONS)))

    deploy = plan.rollouts[0].deploy
    assert deploy is not None
    assert Change("tls_versions", None, "TLSv1.2, TLSv1.3", untold=True) == deploy.changes[1]


def test_renewal_forgets_nothing_that_was_sent() -> None:
    """The new certificate goes with the same settings, and nothing is sent twice for them."""
    world = served()
    wish = world.wish(https=DesiredHttps(tls_versions=VERSIONS))
    synced(world, wish)
    world.pass_time(timedelta(days=61))

    assert synced(world, wish).ok

    assert (2, 2, 3) == footprint(world)
    assert world.plan(wish).is_settled


def test_edge_that_falls_back_forgets_nothing_that_was_sent() -> None:
    """A domain that is looked at again is not sent anything for it."""
    world = served()
    wish = world.wish(https=DesiredHttps(tls_versions=VERSIONS))
    synced(world, wish)
    world.alive.add("fallen")
    run = LineageReconciler(wish, replace(world.ports("fallen"), probe=FALLEN))
    assert run.reconcile() is not None

    assert world.plan(wish).is_settled
    assert synced(world, wish).ok
    assert (1, 1, 2) == footprint(world)


def test_change_of_a_setting_that_fails_is_made_again() -> None:
    """It was sent, and the target said later that it could not: that is no success."""
    world = served()
    wish = world.wish(https=DesiredHttps(tls_versions=VERSIONS))
    world.cdn.fail_next(IMG, "verify tls fail")

    failed = synced(world, wish)

    assert [Outcome.FAILED] == [step.outcome for step in failed.outcomes]
    assert None is world.cdn.settings(IMG).tls_versions
    assert not world.plan(wish).is_settled
    assert synced(world, wish).ok
    assert VERSIONS == world.cdn.settings(IMG).tls_versions
    assert world.plan(wish).is_settled


def test_change_that_fails_after_it_seemed_done_is_made_again() -> None:
    """A read that lagged behind showed the domain at rest; what fails later is not forgotten."""
    world = served()
    wish = world.wish(https=DesiredHttps(tls_versions=VERSIONS))
    world.cdn.fail_next(IMG, "verify tls fail")
    world.cdn.hide_changes(IMG, 1)
    assert synced(world, wish).ok
    world.pass_time(timedelta(hours=1))

    assert not world.plan(wish).is_settled
    assert synced(world, wish).ok
    assert VERSIONS == world.cdn.settings(IMG).tls_versions
    assert world.plan(wish).is_settled


def test_change_of_another_tool_that_fails_takes_nothing_back() -> None:
    """What was sent before has succeeded, and is not sent again for it."""
    world = served()
    wish = world.wish(https=DesiredHttps(tls_versions=VERSIONS))
    synced(world, wish)
    [remote_id] = world.cdn.used
    world.cdn.fail_next(IMG, "verify redirect fail")
    world.cdn.bind(IMG, Kind.CDN, remote_id, DesiredHttps(force_https=True))
    world.pass_time(timedelta(hours=1))

    assert world.plan(wish).is_settled
    assert synced(world, wish).is_unchanged


def test_every_position_of_a_change_of_settings_is_killed_once() -> None:
    """Wherever: the settings end as wished, with one certificate and one upload."""
    wish = ModelWorld().wish(https=DesiredHttps(tls_versions=VERSIONS))
    calm = served()
    calm.run(wish)

    for position in sampled(range(1, calm.calls)):
        world = served()
        assert world.run(wish, kill_after=position) is None
        assert synced(world, wish).ok, position

        assert VERSIONS == world.cdn.settings(IMG).tls_versions, position
        assert (1, 1, 2) == footprint(world), position
        assert world.plan(wish).is_settled, position


def test_status_names_the_setting_that_differs() -> None:
    """The domain has drifted, and which setting of it is said in words."""
    world = served()
    wish = world.wish(https=DesiredHttps(tls_versions=VERSIONS))

    [found] = status_of(wish, observe(wish, world.ports("looker")), world.clock).domains

    assert Standing.DRIFTED is found.standing
    assert found.problem is not None
    assert "settings differ from the file: tls_versions unknown → TLSv1.2, TLSv1.3" == str(
        found.problem.message
    )
