"""The law where others change the domains, edges break and an operator goes back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredHttps,
    DriftPolicy,
    HttpsSettings,
    OnFailure,
)
from certferry.errors import CertferryError
from certferry.reconcile.by_hand import withdraw_by_hand
from tests.reconcile.model import IMMORTAL, ModelWorld
from tests.reconcile.one_lineage import IMG, OTHER
from tests.support.tiers import examples

Deed = Callable[[ModelWorld, DesiredCertificate], object]


def run(position: int, *, renew: bool) -> Deed:
    """Run, killed after so many calls."""
    return lambda world, wish: world.run(wish, kill_after=position, renew=renew)


def wait(hours: int) -> Deed:
    """Let time pass."""
    return lambda world, _: world.pass_time(timedelta(hours=hours))


def bind(domain: str) -> Deed:
    """Another tool binds its certificate at once."""
    return lambda world, _: world.cdn.set_by_others(domain, world.cdn.put_foreign(domain))


def begin(domain: str) -> Deed:
    """Another tool begins to bind its certificate."""
    return lambda world, _: world.cdn.begin_by_others(domain, world.cdn.put_foreign(domain))


def switch_off(domain: str) -> Deed:
    """An operator switches HTTPS off."""
    return lambda world, _: world.cdn.set_by_others(domain, None)


def set_http2(domain: str) -> Deed:
    """An operator changes a setting that the file names."""
    off = HttpsSettings(http2=False)
    return lambda world, _: world.cdn.set_by_others(domain, world.cdn.bound_to(domain), off)


def break_edges(world: ModelWorld, _: DesiredCertificate) -> None:
    """Edges refuse what is uploaded from now on."""
    world.cdn.breaks_new = True


def go_back(world: ModelWorld, wish: DesiredCertificate) -> None:
    """Roll back by hand, where that is possible."""
    world.alive.add("hand")
    with suppress(CertferryError):
        withdraw_by_hand(world.ports("hand"), wish)
    world.alive.discard("hand")


some_domain = st.sampled_from([IMG, OTHER])
deeds: st.SearchStrategy[Deed] = st.one_of(
    st.builds(run, st.integers(0, 150) | st.just(IMMORTAL), renew=st.booleans()),
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
    """Nothing is removed that is served, no withdrawn certificate stays bound, and after some days
    of peace nothing is planned or written any more.
    """
    world = ModelWorld(processing=timedelta(minutes=minutes))
    for name in (IMG, OTHER):
        world.cdn.add_domain(name)
    wish = world.wish(https=DesiredHttps(http2=True))
    (deployment,) = wish.deployments
    deployment = replace(deployment, drift=drift, on_failure=OnFailure.ROLLBACK)
    wish = replace(wish, deployments=(deployment,))
    for deed in done:
        deed(world, wish)
        assert [] == world.cdn.broken
    world.cdn.breaks_new = False
    world.run(wish, renew=True)

    for _ in range(4):
        world.pass_time(timedelta(days=1))
        world.run(wish)

    plan = world.plan(wish)
    assert plan.is_settled
    assert [] == world.cdn.broken
    uploads = {u.remote_id: u.fingerprint for u in world.state.uploads("img", "qiniu")}
    for withdrawal in world.state.remembered("img").withdrawals:
        bound = world.cdn.bound_to(withdrawal.domain) or ""
        assert withdrawal.fingerprint != uploads.get(bound)
    writes = world.cdn.writes
    world.run(wish)
    assert writes == world.cdn.writes
