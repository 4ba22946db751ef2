"""A slip in the file that was put right leaves nothing to be ordered."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.certificates.certificate import KeyType
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.planning.plan import Action
from tests.reconcile.model import ModelWorld
from tests.reconcile.one_lineage import synced


def killed_with_an_order(
    world: ModelWorld, wish: DesiredCertificate, *, renew: bool = False
) -> None:
    """Kill a run as soon as it has ordered."""
    for position in range(40):
        assert None is world.run(wish, kill_after=position, renew=renew)
        if world.state.order("img") is not None:
            return
    raise AssertionError("it never ordered")


def test_names_that_were_put_back(world: ModelWorld) -> None:
    """The names of before need no new certificate, and the order for others is forgotten."""
    synced(world)
    killed_with_an_order(world, world.wish(names=("img.example.com", "slip.example.com")))

    assert None is world.plan(world.wish()).issue
    report = synced(world)

    assert Action.ISSUE not in {step.action for step in report.outcomes}
    assert 1 == world.issuer.issued
    assert None is world.state.order("img")


def test_key_type_that_was_put_back(world: ModelWorld) -> None:
    """The same holds for the kind of key."""
    synced(world)
    slip = replace(world.wish(), key_type=KeyType.RSA2048)
    killed_with_an_order(world, slip)

    assert synced(world).ok
    assert 1 == world.issuer.issued


def test_order_for_what_is_declared_is_finished(world: ModelWorld) -> None:
    """A renewal on demand that was killed is not forgotten."""
    synced(world)
    killed_with_an_order(world, world.wish(), renew=True)

    synced(world)

    assert 2 == world.issuer.issued
    assert None is world.state.order("img")
