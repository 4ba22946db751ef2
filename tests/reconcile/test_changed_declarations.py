"""The declaration changes between two runs: other names, another key, another client, other places,
other certificates for the same domains.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.certificates.certificate import KeyType, covered_by
from certferry.core.desired.certificate import (
    CommandDelivery,
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    FileDelivery,
    PemFiles,
    Program,
    Retirement,
)
from certferry.core.desired.declaration import delivered
from certferry.core.planning.planner import Claims
from certferry_sandbox.testing.certificates import make_bundle
from tests.reconcile.model import ModelWorld
from tests.support.tiers import examples

IMG, OTHER = "img.example.com", "a.img.example.com"
NAMES = (IMG, f"*.{IMG}")
SHOP = "shop.example.com"
FILES = PemFiles("/srv/theirs/fullchain.pem", "/srv/theirs/privkey.pem")
DIRECTORY = "/opt/ssl/img"
RELOAD = Program(("systemctl", "reload", "nginx"), "/", timedelta(minutes=1))

at_the_cdn = st.builds(
    DesiredDeployment,
    target=st.just("qiniu"),
    domains=st.sampled_from([None, (IMG,), (OTHER,), (IMG, OTHER)]),
    https=st.sampled_from(
        [DesiredHttps(), DesiredHttps(http2=True), DesiredHttps(force_https=True)]
    ),
    retire=st.sampled_from([Retirement.SUPERSEDED, Retirement.NEVER]),
)
in_files = st.sampled_from([FileDelivery(DIRECTORY), FileDelivery(DIRECTORY, reload=RELOAD)])
by_command = st.just(CommandDelivery("nginx", RELOAD))
deployments = st.builds(
    lambda cdn, *rest: tuple(filter(None, (cdn, *rest))),
    st.none() | at_the_cdn,
    st.none() | in_files.map(delivered),
    st.none() | by_command.map(delivered),
)
issued_here = st.builds(
    DesiredCertificate,
    lineage=st.just("img"),
    names=st.sampled_from([NAMES, (*NAMES, "img.w.example.com"), (f"*.{IMG}", IMG)]),
    dns=st.just("dnspod"),
    key_type=st.sampled_from([KeyType.EC256, KeyType.EC384]),
    deployments=deployments,
)
imported = st.builds(
    DesiredCertificate,
    lineage=st.just("img"),
    names=st.just(()),
    files=st.just(FILES),
    deployments=deployments,
)
pauses = st.sampled_from([timedelta(0), timedelta(hours=1), timedelta(days=20), timedelta(days=61)])
A_CLIENT_RENEWS = timedelta(days=40)
ends = st.none() | st.integers(0, 60)
"""The number of calls before a kill, or `None` for a whole run."""


@settings(max_examples=examples(100))
@given(
    phases=st.lists(
        st.tuples(issued_here | imported, pauses, ends, st.booleans()), min_size=1, max_size=5
    ),
    last=issued_here | imported,
)
def test_any_declaration_follows_any_other(
    phases: list[tuple[DesiredCertificate, timedelta, int | None, bool]], last: DesiredCertificate
) -> None:
    """With and without kills, the last declaration is served and a second run changes nothing. No
    served certificate is removed, and every removable challenge record is gone.
    """
    world = ModelWorld()
    world.cdn.add_domain(IMG)
    world.cdn.add_domain(OTHER)
    their_age = A_CLIENT_RENEWS
    for desired, pause, killed_after, renewed in (*phases, (last, timedelta(0), None, False)):
        world.pass_time(pause)
        their_age += pause
        if renewed or their_age >= A_CLIENT_RENEWS:
            world.source.put(FILES, make_bundle(*NAMES, not_before=world.clock))
            their_age = timedelta(0)
        if killed_after is None or world.run(desired, kill_after=killed_after) is not None:
            must_be_as_declared(world, desired)


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[DesiredCertificate, ...]:
    """Declare up to three certificates; at most one of them names each domain."""
    free = {IMG, OTHER, SHOP}
    all_desired = []
    for lineage in draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True)):
        names = draw(st.sampled_from([NAMES, ("*.example.com", SHOP), (OTHER, SHOP)]))
        named = [domain for domain in sorted(free) if covered_by(names, domain)]
        domain = draw(st.none() | st.sampled_from(named)) if named else None
        free.discard(domain or "")
        deployment = DesiredDeployment(
            "qiniu", (domain,) if domain else None, retire=draw(st.sampled_from(Retirement))
        )
        all_desired.append(
            DesiredCertificate(
                lineage, names, "dnspod", deployments=draw(st.sampled_from([(), (deployment,)]))
            )
        )
    return tuple(all_desired)


@settings(max_examples=examples(60))
@given(
    phases=st.lists(st.tuples(neighbours(), pauses, ends), min_size=1, max_size=4),
    last=neighbours(),
)
def test_domains_go_from_one_certificate_to_another(
    phases: list[tuple[tuple[DesiredCertificate, ...], timedelta, int | None]],
    last: tuple[DesiredCertificate, ...],
) -> None:
    """Each domain ends with the certificate of the better claim, independent of earlier
    certificates and of unfinished changes. No served certificate is removed.
    """
    world = ModelWorld()
    for domain in (IMG, OTHER, SHOP):
        world.cdn.add_domain(domain)
    for all_desired, pause, killed_after in (*phases, (last, timedelta(0), None)):
        world.pass_time(pause)
        world.claims = Claims(all_desired)
        if killed_after is not None:
            world.run_together(all_desired, kill_after=killed_after)
            continue
        # What another certificate's run was killed over may take longer than ours waits.
        world.run_together(all_desired)
        reports = world.run_together(all_desired)
        assert reports is not None
        assert all(report.ok for report in reports), reports
        assert all(world.plan(desired).is_settled for desired in all_desired)
        assert [] == world.cdn.broken


def must_be_as_declared(world: ModelWorld, desired: DesiredCertificate) -> None:
    """Run to the end twice: the first run succeeds, the second changes nothing."""
    report, again = world.run(desired), world.run(desired)
    assert report is not None
    assert report.ok, report
    assert again is not None
    assert again.is_unchanged, again
    assert [] == world.cdn.broken
    if desired.files is None:
        assert [] == world.challenge_values()
