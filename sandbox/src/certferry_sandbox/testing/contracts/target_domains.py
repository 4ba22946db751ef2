"""The contract of a target's domains: which are found, in which state, and how they are bound."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

import pytest

from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import DomainState
from certferry.errors import CopyGone, DeployError, TargetAccessDenied, TargetBusy, TargetRejected
from certferry.ports.target import DeployTarget, Look
from certferry_sandbox.testing.contracts.target_world import (
    IMG,
    KEEP,
    LINEAGE,
    NAMES,
    WILDCARD,
    WWW,
    TargetWorld,
    deploy,
    observe,
    the_domain,
)

NEAR = "img-1.example.com"


class LookingContract:
    """What is observed, and that looking changes nothing."""

    def test_empty_account(self, target: DeployTarget) -> None:
        """Nothing is there, and that is no failure."""
        found = observe(target)

        assert ((), (), None) == (found.domains, found.remotes, found.failure)

    def test_every_covered_domain_is_found(self, target: DeployTarget, world: TargetWorld) -> None:
        """A wildcard reaches one label deep; a wildcard domain is its own name's only."""
        for name in ("example.com", IMG, WWW, f"a.{IMG}", WILDCARD, "www.example.org"):
            world.add_domain(name)

        assert {IMG, WWW, WILDCARD} == {domain.domain for domain in observe(target).domains}
        apex = Look(LINEAGE, ("example.com",), None, Kind.AUTO, ())
        assert ["example.com"] == [domain.domain for domain in target.observe(apex).domains]

    def test_named_domains_are_found(self, target: DeployTarget, world: TargetWorld) -> None:
        """Those alone, in the order in which they are named, of a definite kind."""
        for name in (IMG, WWW, WILDCARD):
            world.add_domain(name)

        found = observe(target, WILDCARD, IMG).domains

        assert [WILDCARD, IMG] == [domain.domain for domain in found]
        assert Kind.AUTO not in {domain.kind for domain in found}
        assert {DomainState.READY} == {domain.state for domain in found}
        assert {None} == {domain.bound for domain in found}

    def test_globs_and_exclude(self, target: DeployTarget, world: TargetWorld) -> None:
        """What a glob matches of the covered is found beside what is named, each once; what
        `exclude` takes away is told by name alone. What is named is never taken away.
        """
        for name in (IMG, WWW, WILDCARD, NEAR, "img-1.example.org", f"a.{IMG}"):
            world.add_domain(name)

        def found(
            domains: tuple[str, ...] | None, glob: str, exclude: str
        ) -> tuple[set[str], set[str]]:
            look = Look(LINEAGE, NAMES, domains, Kind.AUTO, (), globs=(glob,), exclude=(exclude,))
            told = target.observe(look)
            names = [domain.domain for domain in told.domains]
            assert len(names) == len(set(names))
            return set(names), set(told.excluded)

        assert ({IMG, NEAR}, set()) == found((), "img*", WWW)
        assert ({WWW, IMG}, {NEAR}) == found((WWW, IMG), "img*", "im*")
        assert ({WWW, IMG, NEAR}, {WILDCARD}) == found((), "*", ".example.com")
        assert ({WILDCARD, IMG, NEAR}, {WWW}) == found(None, "x", WWW)
        assert (set(), set()) == found((), "*.example.org", WWW)

    def test_unknown_domain_is_unavailable(self, target: DeployTarget, world: TargetWorld) -> None:
        """It is reported with a reason, beside those that are there."""
        world.add_domain(IMG)

        unknown, known = observe(target, WWW, IMG).domains

        assert (WWW, DomainState.UNAVAILABLE) == (unknown.domain, unknown.state)
        assert isinstance(unknown.problem, DeployError)
        assert DomainState.READY is known.state

    def test_domain_that_cannot_be_changed(self, target: DeployTarget, world: TargetWorld) -> None:
        """Reported with a reason, and not written to."""
        world.add_domain(IMG, available=False)
        remote_id = target.upload(LINEAGE, world.issue(*NAMES))
        before = world.count_writes()

        found = the_domain(target)
        with pytest.raises(TargetRejected):
            target.bind(IMG, Kind.CDN, remote_id, KEEP)

        assert DomainState.UNAVAILABLE is found.state
        assert isinstance(found.problem, DeployError)
        assert before == world.count_writes()

    def test_looking_changes_nothing(self, target: DeployTarget, world: TargetWorld) -> None:
        """However often, and whatever is there."""
        world.add_domain(IMG)
        target.upload(LINEAGE, world.issue(*NAMES))
        before = world.count_writes()

        assert observe(target, IMG) == observe(target, IMG)
        observe(target, WWW)
        assert before == world.count_writes()

    def test_credentials_that_are_not_accepted(self, denied: DeployTarget) -> None:
        """Access denied, with a hint, and not worth repeating."""
        with pytest.raises(TargetAccessDenied) as caught:
            observe(denied, IMG)

        assert caught.value.hint
        assert not caught.value.retry.allowed


class BindingContract:
    """A domain serves what it is bound to, keeps its settings, and is left alone at work."""

    def test_domain_is_bound(self, target: DeployTarget, world: TargetWorld) -> None:
        """Accepted at once, at work for a while, then bound to the copy, without a redirect."""
        world.add_domain(IMG)
        bundle = world.issue(*NAMES)
        remote_id = target.upload(LINEAGE, bundle)

        target.bind(IMG, Kind.CDN, remote_id, KEEP)
        in_progress = the_domain(target)
        world.settle()

        assert (DomainState.PROCESSING, None) == (in_progress.state, in_progress.bound)
        found = observe(target, IMG, known=(bundle.certificate,))
        [domain] = found.domains
        assert (DomainState.READY, remote_id) == (domain.state, domain.bound)
        assert bundle.certificate.fingerprint == found.fingerprint_of(domain.bound)
        assert not domain.https.force_https

    def test_wildcard_domain_is_bound(self, target: DeployTarget, world: TargetWorld) -> None:
        """Under certferry's spelling, whatever the target's own."""
        world.add_domain(WILDCARD)

        remote_id = deploy(target, world, WILDCARD)

        assert remote_id == the_domain(target, WILDCARD).bound

    def test_binding_again_writes_nothing(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """Idempotent, from another process as well."""
        world.add_domain(IMG)
        remote_id = deploy(target, world)
        before = world.count_writes()

        target.bind(IMG, Kind.CDN, remote_id, KEEP)
        other.bind(IMG, Kind.CDN, remote_id, KEEP)

        assert before == world.count_writes()
        assert DomainState.READY is the_domain(target).state

    def test_domain_at_work_is_busy(self, target: DeployTarget, world: TargetWorld) -> None:
        """Nothing is written while an earlier change is carried out, by any client."""
        world.add_domain(IMG)
        first, second = (target.upload(LINEAGE, world.issue(*NAMES)) for _ in range(2))
        target.bind(IMG, Kind.CDN, first, KEEP)
        before = world.count_writes()

        with pytest.raises(TargetBusy) as caught:
            target.bind(IMG, Kind.CDN, second, KEEP)

        assert caught.value.retry.allowed
        assert before == world.count_writes()
        world.settle()
        assert first == the_domain(target).bound

    def test_other_settings_stay(self, target: DeployTarget, world: TargetWorld) -> None:
        """A wish that names nothing changes nothing but the certificate."""
        world.add_domain(IMG)
        deploy(target, world, desired=DesiredHttps(force_https=True, http2=True))
        before = the_domain(target)

        remote_id = deploy(target, world)

        found = the_domain(target)
        assert (remote_id, before.https) == (found.bound, found.https)
        assert (True, True) == (found.https.force_https, found.https.http2)

    def test_setting_that_is_wished_changes(self, target: DeployTarget, world: TargetWorld) -> None:
        """That one alone, also where the certificate is bound already."""
        world.add_domain(IMG)
        remote_id = deploy(target, world, desired=DesiredHttps(force_https=True, http2=True))

        target.bind(IMG, Kind.CDN, remote_id, DesiredHttps(http2=False))
        world.settle()

        found = the_domain(target)
        assert (remote_id, True, False) == (
            found.bound,
            found.https.force_https,
            found.https.http2,
        )

    def test_change_that_fails(self, target: DeployTarget, world: TargetWorld) -> None:
        """The reason is reported, the earlier certificate stays, and it can be tried again."""
        world.add_domain(IMG)
        old = deploy(target, world)
        world.fail_next(IMG)

        new = deploy(target, world)

        found = the_domain(target)
        assert (DomainState.FAILED, old) == (found.state, found.bound)
        assert isinstance(found.problem, DeployError)
        target.bind(IMG, Kind.CDN, new, KEEP)
        world.settle()
        assert new == the_domain(target).bound

    def test_binding_what_is_gone(self, target: DeployTarget, world: TargetWorld) -> None:
        """The copy was removed: refused as that, so that it can be uploaded again."""
        world.add_domain(IMG)

        with pytest.raises(CopyGone):
            target.bind(IMG, Kind.CDN, "0" * 24, KEEP)

        world.settle()
        assert None is the_domain(target).bound

    def test_binding_what_does_not_fit(self, target: DeployTarget, world: TargetWorld) -> None:
        """An unknown domain, or a certificate that does not cover the domain."""
        world.add_domain(IMG)
        fitting = target.upload(LINEAGE, world.issue(*NAMES))
        foreign = target.upload("other", world.issue("www.example.org"))

        for domain, remote_id in ((WWW, fitting), (IMG, foreign)):
            with pytest.raises(TargetRejected):
                target.bind(domain, Kind.CDN, remote_id, KEEP)

        world.settle()
        assert None is the_domain(target).bound
