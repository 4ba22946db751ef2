"""A CA, or a gateway before it, that gives another certificate than the one that was ordered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certferry.core.believable import ANEW_AFTER
from certferry.core.certificate import CertificateBundle
from certferry.core.plan import Action
from certferry.core.report import LineageReport, Outcome
from certferry.errors import CertificateRejected
from certferry.reconcile.lineage_run import LineageRun
from certferry.testing.certificates import make_bundle
from tests.reconcile.model import START, ModelWorld
from tests.reconcile.one_lineage import IMG, outcome, synced

Alter = Callable[[CertificateBundle], CertificateBundle]


def for_another_name(bundle: CertificateBundle) -> CertificateBundle:
    """A real certificate with its key, for somebody else."""
    return make_bundle("evil.example.net", not_before=bundle.certificate.not_before)


def for_another_key(bundle: CertificateBundle) -> CertificateBundle:
    """The names that were asked for, and somebody else's key."""
    other = make_bundle(*bundle.certificate.names, not_before=bundle.certificate.not_before)
    return replace(other, privkey_pem=bundle.privkey_pem, key_matches=False)


def expired(bundle: CertificateBundle) -> CertificateBundle:
    """All as ordered, and over."""
    return make_bundle(*bundle.certificate.names, not_before=START - timedelta(days=100))


def without_issuers(bundle: CertificateBundle) -> CertificateBundle:
    """A leaf alone."""
    return replace(bundle, chain=(), chain_complete=False)


class Altering:
    """An `Issuer` whose certificates are replaced on their way."""

    def __init__(self, issuer: Any, alter: Alter) -> None:
        self._issuer = issuer
        self._alter = alter

    def issue(self, *arguments: Any) -> CertificateBundle:
        """Give another certificate."""
        return self._alter(self._issuer.issue(*arguments))

    def sweep(self, *arguments: Any) -> None:
        """As ever."""
        self._issuer.sweep(*arguments)


def run(world: ModelWorld, alter: Alter, *, renew: bool = False) -> LineageReport:
    """Run to the end at a CA that is not itself."""
    world.alive.add("run")
    doors = world.doors("run")
    one = LineageRun(
        world.wish(), replace(doors, issuer=Altering(doors.issuer, alter)), renew=renew
    )
    world.visit_to_the_end(one)
    world.alive.discard("run")
    world.pass_time(timedelta(minutes=1))
    return one.report()


@pytest.mark.parametrize("alter", [for_another_name, for_another_key, expired, without_issuers])
def test_certificate_that_was_not_ordered_goes_nowhere(world: ModelWorld, alter: Alter) -> None:
    """It is not kept, not uploaded, not bound, and told as the CA's mistake."""
    report = run(world, alter)

    told = outcome(report, Action.ISSUE)
    assert Outcome.FAILED is told.outcome
    assert isinstance(told.error, CertificateRejected)
    assert "the CA gave a certificate that was not ordered" in str(told.detail)
    assert told.hint is not None
    assert () == world.state.versions("img")
    assert None is world.state.order("img")
    assert (0, 0) == (world.cdn.uploads, world.cdn.writes)
    assert [] == world.challenge_values()


def test_wrong_renewal_leaves_what_is_served(world: ModelWorld) -> None:
    """The certificate in force stays in force, and is still brought where it lacks."""
    first = synced(world).fingerprint
    world.pass_time(timedelta(days=61))

    report = run(world, for_another_name)

    assert first == report.fingerprint
    assert 1 == len(world.state.versions("img"))
    assert Outcome.UNCHANGED is outcome(report, Action.VERIFY, IMG).outcome


def test_nothing_is_ordered_again_for_a_day(world: ModelWorld) -> None:
    """Later runs fail as well, and say until when; then one orders again."""
    run(world, for_another_name)

    report = synced(world)

    assert 1 == world.issuer.issued
    (told,) = report.outcomes
    assert Outcome.FAILED is told.outcome
    assert isinstance(told.error, CertificateRejected)
    assert told.error.retry.after is not None
    assert world.plan(world.wish()).issue is None

    world.pass_time(ANEW_AFTER)
    assert synced(world).ok
    assert 2 == world.issuer.issued


def test_certificate_is_ordered_at_once_where_somebody_asks_for_it(world: ModelWorld) -> None:
    """`--renew` by hand; what was wrong before is forgotten then."""
    run(world, for_another_name)

    renewed = world.run(world.wish(), renew=True)

    assert renewed is not None
    assert renewed.ok
    assert 2 == world.issuer.issued
    assert synced(world).is_unchanged
    assert None is world.state.remembered("img").rejected_at


def test_renewal_by_hand_that_failed_holds_nothing_up(world: ModelWorld) -> None:
    """What is not due needs no order, so there is nothing to tell of."""
    synced(world)
    run(world, for_another_name, renew=True)

    assert synced(world).is_unchanged
