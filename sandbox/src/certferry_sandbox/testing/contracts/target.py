"""The contract of `certferry.ports.target.DeployTarget`, as tests that any target can run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

import pytest

from certferry.core.certificates.certificate import Certificate, CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain, ObservedTarget
from certferry.errors import (
    CopyGone,
    DeployError,
    TargetAccessDenied,
    TargetBusy,
    TargetInUse,
    TargetRejected,
)
from certferry.ports.target import DeployTarget, Scope
from certferry.values import replace

LINEAGE = "img"
IMG = "img.example.com"
WWW = "www.example.com"
WILDCARD = "*.example.com"
NAMES = (IMG, WILDCARD)
KEEP = DesiredHttps()


class TargetWorld(ABC):
    """What the contract does to the world behind a target, and what it wants to know of it.

    The account is empty at first. A change of a domain goes on until `settle` is called.
    """

    @abstractmethod
    def add_domain(self, name: str, *, available: bool = True) -> None:
        """Add a domain without HTTPS; one that is not `available` is frozen or the like."""

    @abstractmethod
    def settle(self) -> None:
        """End every change that is in progress."""

    @abstractmethod
    def fail_next(self, name: str) -> None:
        """Make the next change of a domain fail."""

    @abstractmethod
    def issue(self, *names: str) -> CertificateBundle:
        """Return a new certificate that the target takes."""

    @abstractmethod
    def put(self, label: str, bundle: CertificateBundle) -> str:
        """Upload a certificate as another tool, under this label; return its id."""

    @abstractmethod
    def labels(self) -> list[str]:
        """Return the labels of the certificates that are there, in any order."""

    @abstractmethod
    def count_writes(self) -> int:
        """Count the writes so far: uploads, changes of domains, removals."""


def observe(
    target: DeployTarget, *domains: str, known: tuple[Certificate, ...] = ()
) -> ObservedTarget:
    """Look at these domains, or at all that the lineage covers when none is named."""
    return target.observe(Scope(LINEAGE, NAMES, domains or None, Kind.AUTO, known))


def the_domain(target: DeployTarget, name: str = IMG) -> ObservedDomain:
    """Look at one domain by its name."""
    [found] = observe(target, name).domains
    return found


def deploy(
    target: DeployTarget, world: TargetWorld, domain: str = IMG, desired: DesiredHttps = KEEP
) -> str:
    """Bring a new certificate to a domain, wait for the end, and give the remote id."""
    remote_id = target.upload(LINEAGE, world.issue(*NAMES))
    target.bind(domain, Kind.CDN, remote_id, desired)
    world.settle()
    return remote_id


class UploadingContract:
    """One copy of each certificate, with our mark, and nothing removed for it."""

    def test_upload_is_ours(self, target: DeployTarget, world: TargetWorld) -> None:
        """It carries our mark, and is observed as the copy that it is."""
        bundle = world.issue(*NAMES)

        remote_id = target.upload(LINEAGE, bundle)

        certificate = bundle.certificate
        label = label_of(LINEAGE, certificate.fingerprint)
        assert [label] == world.labels()
        [remote] = observe(target, known=(certificate,)).remotes
        assert (remote_id, label, certificate.fingerprint, certificate.not_after) == (
            remote.remote_id,
            remote.label,
            remote.fingerprint,
            remote.not_after,
        )

    def test_uploading_again_uploads_nothing(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """Idempotent by fingerprint, from another process as well."""
        bundle = world.issue(*NAMES)

        ids = {process.upload(LINEAGE, bundle) for process in (target, target, other)}

        assert 1 == len(ids)
        assert 1 == len(world.labels())
        assert 1 == world.count_writes()

    def test_threads_that_upload_one_certificate(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """A target is used from several threads: one copy, one id."""
        bundle = world.issue(*NAMES)

        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: target.upload(LINEAGE, bundle), range(8)))

        assert 1 == len(ids)
        assert 1 == len(world.labels())

    def test_upload_removes_nothing(self, target: DeployTarget, world: TargetWorld) -> None:
        """What is there stays: an earlier certificate of ours, and other people's."""
        first, second = world.issue(*NAMES), world.issue(*NAMES)
        world.put("theirs", world.issue(*NAMES))
        target.upload(LINEAGE, first)
        before = world.labels()

        target.upload(LINEAGE, second)

        expected = [*before, label_of(LINEAGE, second.certificate.fingerprint)]
        assert sorted(expected) == sorted(world.labels())

    def test_only_what_is_known_is_ours(self, target: DeployTarget, world: TargetWorld) -> None:
        """Other lineages' copies, other people's, and our mark on something else are not."""
        known, another = world.issue(*NAMES), world.issue("www.example.org")
        world.put(label_of("other", known.certificate.fingerprint), known)
        world.put("theirs", known)
        world.put(label_of(LINEAGE, known.certificate.fingerprint), another)
        world.put(label_of(LINEAGE, another.certificate.fingerprint), another)

        assert () == observe(target, known=(known.certificate,)).remotes


class RetiringContract:
    """What is ours goes when it is asked for; what is used or another tool's stays."""

    def test_copy_is_retired(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """True when it was there, False ever after; nothing else goes with it."""
        first, second = world.issue(*NAMES), world.issue(*NAMES)
        old, new = (target.upload(LINEAGE, bundle) for bundle in (first, second))
        label = label_of(LINEAGE, first.certificate.fingerprint)

        assert target.retire(old, label)
        assert not target.retire(old, label)
        assert not other.retire(old, label)

        assert [label_of(LINEAGE, second.certificate.fingerprint)] == world.labels()
        known = (second.certificate, first.certificate)
        assert [new] == [r.remote_id for r in observe(target, known=known).remotes]

    def test_what_is_bound_is_not_retired(self, target: DeployTarget, world: TargetWorld) -> None:
        """In use, which is worth asking again later; it stays bound."""
        world.add_domain(IMG)
        bundle = world.issue(*NAMES)
        remote_id = target.upload(LINEAGE, bundle)
        target.bind(IMG, Kind.CDN, remote_id, KEEP)
        label = label_of(LINEAGE, bundle.certificate.fingerprint)

        with pytest.raises(TargetInUse):
            target.retire(remote_id, label)
        world.settle()
        with pytest.raises(TargetInUse) as caught:
            target.retire(remote_id, label)

        assert caught.value.retry.allowed
        assert [label] == world.labels()
        assert remote_id == the_domain(target).bound

    def test_what_does_not_carry_the_label_is_not_retired(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """Neither other people's certificates nor another one of ours."""
        bundle = world.issue(*NAMES)
        theirs = world.put("theirs", bundle)
        ours = target.upload(LINEAGE, bundle)
        label = label_of(LINEAGE, bundle.certificate.fingerprint)

        for remote_id, claimed in (
            (theirs, label),
            (theirs, "theirs"),
            (ours, label_of("other", "0" * 64)),
        ):
            with pytest.raises(TargetRejected):
                target.retire(remote_id, claimed)

        assert sorted(["theirs", label]) == sorted(world.labels())


class ForeignersContract:
    """What is not ours is shown and removed only when that is asked for, and never while used."""

    def test_others_are_shown_when_asked_for(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """Everything but our copies, with the end of each; otherwise nothing."""
        known, foreign = world.issue(*NAMES), world.issue("www.example.org")
        ours = target.upload(LINEAGE, known)
        elsewhere = target.upload("other", foreign)
        ids = {world.put("theirs", foreign), world.put("theirs", foreign), world.put("", known)}

        look = Scope(LINEAGE, NAMES, (), Kind.AUTO, (known.certificate,))
        found = target.observe(replace(look, others=True))

        assert () == target.observe(look).others
        assert [ours] == [remote.remote_id for remote in found.remotes]
        assert ids | {elsewhere} == {other.remote_id for other in found.others}
        assert ["", "certferry", "theirs", "theirs"] == sorted(
            other.label.partition("-")[0] for other in found.others
        )
        assert {known.certificate.not_after, foreign.certificate.not_after} >= {
            other.not_after for other in found.others
        }

    def test_unmanaged_is_removed(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """By id, also where several have its label; False when it has gone already."""
        bundle = world.issue(*NAMES)
        first, _ = world.put("theirs", bundle), world.put("theirs", bundle)

        assert other.retire(first, "theirs", unmanaged=True)
        assert not target.retire(first, "theirs", unmanaged=True)

        assert ["theirs"] == world.labels()

    def test_unmanaged_under_another_label(self, target: DeployTarget, world: TargetWorld) -> None:
        """What is not what it was seen as stays."""
        theirs = world.put("theirs", world.issue(*NAMES))

        with pytest.raises(TargetRejected):
            target.retire(theirs, "another's", unmanaged=True)

        assert ["theirs"] == world.labels()

    def test_unmanaged_that_is_bound(self, target: DeployTarget, world: TargetWorld) -> None:
        """In use, by any uploader."""
        world.add_domain(IMG)
        theirs = world.put("theirs", world.issue(*NAMES))
        target.bind(IMG, Kind.CDN, theirs, KEEP)
        world.settle()

        with pytest.raises(TargetInUse):
            target.retire(theirs, "theirs", unmanaged=True)

        assert theirs == the_domain(target).bound


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
        apex = Scope(LINEAGE, ("example.com",), None, Kind.AUTO, ())
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
        `exclude` takes away is listed by name alone. What is named is never taken away.
        """
        for name in (IMG, WWW, WILDCARD, NEAR, "img-1.example.org", f"a.{IMG}"):
            world.add_domain(name)

        def found(
            domains: tuple[str, ...] | None, glob: str, exclude: str
        ) -> tuple[set[str], set[str]]:
            look = Scope(LINEAGE, NAMES, domains, Kind.AUTO, (), globs=(glob,), exclude=(exclude,))
            found = target.observe(look)
            names = [domain.domain for domain in found.domains]
            assert len(names) == len(set(names))
            return set(names), set(found.excluded)

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

    def test_setting_that_is_desired_changes(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
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


class DeployTargetContract(
    LookingContract, UploadingContract, BindingContract, RetiringContract, ForeignersContract
):
    """Every promise of the port.

    Inherit from it in a class that pytest collects, and give four fixtures about an account that
    is fresh for every test: `world`, a `TargetWorld`; `target`; `other`, the same account as
    another process would connect to it; and `denied`, the same with credentials that are not
    accepted. What a target does about answers that are lost is for its own tests, since only they
    can lose them.

    ```python
    class TestMyTarget(DeployTargetContract):
        @pytest.fixture
        def world(self, account: Account) -> TargetWorld: ...

        @pytest.fixture
        def target(self, account: Account) -> DeployTarget: ...
    ```
    """
