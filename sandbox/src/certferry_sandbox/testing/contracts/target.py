"""The contract of `certferry.ports.target.DeployTarget`, as tests for any target."""

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
    """The contract's levers on the world behind a target, and the contract's questions about it.

    The account is empty at first. A change of a domain stays in progress until `settle`.
    """

    @abstractmethod
    def add_domain(self, name: str, *, available: bool = True) -> None:
        """Add a domain without HTTPS; without `available`, a domain that refuses changes."""

    @abstractmethod
    def settle(self) -> None:
        """End every change in progress."""

    @abstractmethod
    def fail_next(self, name: str) -> None:
        """Make the next change of a domain fail."""

    @abstractmethod
    def issue(self, *names: str) -> CertificateBundle:
        """Return a new certificate that the target accepts."""

    @abstractmethod
    def put(self, label: str, bundle: CertificateBundle) -> str:
        """Upload a certificate as another tool, under this label; return its id."""

    @abstractmethod
    def labels(self) -> list[str]:
        """Return the labels of the uploaded certificates, in any order."""

    @abstractmethod
    def count_writes(self) -> int:
        """Return the number of writes so far: uploads, changes of domains, removals."""


def observe(
    target: DeployTarget, *domains: str, known: tuple[Certificate, ...] = ()
) -> ObservedTarget:
    """Observe the named domains; without names, all domains covered by the lineage."""
    return target.observe(Scope(LINEAGE, NAMES, domains or None, Kind.AUTO, known))


def the_domain(target: DeployTarget, name: str = IMG) -> ObservedDomain:
    """Observe a domain."""
    [found] = observe(target, name).domains
    return found


def deploy(
    target: DeployTarget, world: TargetWorld, domain: str = IMG, desired: DesiredHttps = KEEP
) -> str:
    """Deploy a new certificate to a domain, end the change, and return the remote id."""
    remote_id = target.upload(LINEAGE, world.issue(*NAMES))
    target.bind(domain, Kind.CDN, remote_id, desired)
    world.settle()
    return remote_id


class UploadingContract:
    """An upload makes a single copy with our label, and removes nothing."""

    def test_upload_is_ours(self, target: DeployTarget, world: TargetWorld) -> None:
        """The copy has our label, and is observed as a copy of the certificate."""
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
        """A second upload of a fingerprint writes nothing, also from another process."""
        bundle = world.issue(*NAMES)

        ids = {process.upload(LINEAGE, bundle) for process in (target, target, other)}

        assert 1 == len(ids)
        assert 1 == len(world.labels())
        assert 1 == world.count_writes()

    def test_threads_that_upload_one_certificate(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """Several threads that upload a certificate make a single copy, with a single id."""
        bundle = world.issue(*NAMES)

        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: target.upload(LINEAGE, bundle), range(8)))

        assert 1 == len(ids)
        assert 1 == len(world.labels())

    def test_upload_removes_nothing(self, target: DeployTarget, world: TargetWorld) -> None:
        """Earlier certificates of ours and certificates of other tools stay."""
        first, second = world.issue(*NAMES), world.issue(*NAMES)
        world.put("theirs", world.issue(*NAMES))
        target.upload(LINEAGE, first)
        before = world.labels()

        target.upload(LINEAGE, second)

        expected = [*before, label_of(LINEAGE, second.certificate.fingerprint)]
        assert sorted(expected) == sorted(world.labels())

    def test_only_what_is_known_is_ours(self, target: DeployTarget, world: TargetWorld) -> None:
        """Copies of other lineages, of other tools, and other certificates under our label are not
        ours.
        """
        known, another = world.issue(*NAMES), world.issue("www.example.org")
        world.put(label_of("other", known.certificate.fingerprint), known)
        world.put("theirs", known)
        world.put(label_of(LINEAGE, known.certificate.fingerprint), another)
        world.put(label_of(LINEAGE, another.certificate.fingerprint), another)

        assert () == observe(target, known=(known.certificate,)).remotes


class RetiringContract:
    """A removal removes our unused copy; used copies and copies of other tools stay."""

    def test_copy_is_retired(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """The first removal returns True, later removals False; other copies stay."""
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
        """The error says that the copy is in use, and allows a retry; the copy stays bound."""
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
        """Certificates of other tools and other certificates of ours stay."""
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
    """Copies of other tools are listed and removed only on request, and never while in use."""

    def test_others_are_shown_when_asked_for(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """On request, all copies except ours are listed with their ends; else none is."""
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
        """The removal goes by id, even if several copies share the label. Returns False for a copy
        that is gone.
        """
        bundle = world.issue(*NAMES)
        first, _ = world.put("theirs", bundle), world.put("theirs", bundle)

        assert other.retire(first, "theirs", unmanaged=True)
        assert not target.retire(first, "theirs", unmanaged=True)

        assert ["theirs"] == world.labels()

    def test_unmanaged_under_another_label(self, target: DeployTarget, world: TargetWorld) -> None:
        """A copy whose label has changed since the observation stays."""
        theirs = world.put("theirs", world.issue(*NAMES))

        with pytest.raises(TargetRejected):
            target.retire(theirs, "another's", unmanaged=True)

        assert ["theirs"] == world.labels()

    def test_unmanaged_that_is_bound(self, target: DeployTarget, world: TargetWorld) -> None:
        """A bound copy stays, also a copy of another tool."""
        world.add_domain(IMG)
        theirs = world.put("theirs", world.issue(*NAMES))
        target.bind(IMG, Kind.CDN, theirs, KEEP)
        world.settle()

        with pytest.raises(TargetInUse):
            target.retire(theirs, "theirs", unmanaged=True)

        assert theirs == the_domain(target).bound


NEAR = "img-1.example.com"


class LookingContract:
    """The promises about observing, which changes nothing."""

    def test_empty_account(self, target: DeployTarget) -> None:
        """An empty account is an empty observation, not a failure."""
        found = observe(target)

        assert ((), (), None) == (found.domains, found.remotes, found.failure)

    def test_every_covered_domain_is_found(self, target: DeployTarget, world: TargetWorld) -> None:
        """A wildcard covers a single label; a wildcard domain needs the same wildcard name."""
        for name in ("example.com", IMG, WWW, f"a.{IMG}", WILDCARD, "www.example.org"):
            world.add_domain(name)

        assert {IMG, WWW, WILDCARD} == {domain.domain for domain in observe(target).domains}
        apex = Scope(LINEAGE, ("example.com",), None, Kind.AUTO, ())
        assert ["example.com"] == [domain.domain for domain in target.observe(apex).domains]

    def test_named_domains_are_found(self, target: DeployTarget, world: TargetWorld) -> None:
        """Only the named domains are observed, in the given order, each with a definite kind."""
        for name in (IMG, WWW, WILDCARD):
            world.add_domain(name)

        found = observe(target, WILDCARD, IMG).domains

        assert [WILDCARD, IMG] == [domain.domain for domain in found]
        assert Kind.AUTO not in {domain.kind for domain in found}
        assert {DomainState.READY} == {domain.state for domain in found}
        assert {None} == {domain.bound for domain in found}

    def test_globs_and_exclude(self, target: DeployTarget, world: TargetWorld) -> None:
        """Covered domains that match a glob are found beside the named domains, each once. Domains
        matched by `exclude` are listed by name only; named domains are never excluded.
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
        """An unknown domain is reported with a reason, beside the present domains."""
        world.add_domain(IMG)

        unknown, known = observe(target, WWW, IMG).domains

        assert (WWW, DomainState.UNAVAILABLE) == (unknown.domain, unknown.state)
        assert isinstance(unknown.problem, DeployError)
        assert DomainState.READY is known.state

    def test_domain_that_cannot_be_changed(self, target: DeployTarget, world: TargetWorld) -> None:
        """The domain is reported with a reason, and stays without writes."""
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
        """Repeated observations of any account write nothing."""
        world.add_domain(IMG)
        target.upload(LINEAGE, world.issue(*NAMES))
        before = world.count_writes()

        assert observe(target, IMG) == observe(target, IMG)
        observe(target, WWW)
        assert before == world.count_writes()

    def test_credentials_that_are_not_accepted(self, denied: DeployTarget) -> None:
        """The error is "access denied", with a hint, and allows no retry."""
        with pytest.raises(TargetAccessDenied) as caught:
            observe(denied, IMG)

        assert caught.value.hint
        assert not caught.value.retry.allowed


class BindingContract:
    """A domain serves the bound certificate, keeps its settings, and takes no change during a
    change.
    """

    def test_domain_is_bound(self, target: DeployTarget, world: TargetWorld) -> None:
        """The target accepts the change at once; after a while the domain is bound to the copy,
        without a redirect.
        """
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
        """The domain has certferry's spelling, also at targets with another spelling."""
        world.add_domain(WILDCARD)

        remote_id = deploy(target, world, WILDCARD)

        assert remote_id == the_domain(target, WILDCARD).bound

    def test_binding_again_writes_nothing(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """A second binding writes nothing, also from another process."""
        world.add_domain(IMG)
        remote_id = deploy(target, world)
        before = world.count_writes()

        target.bind(IMG, Kind.CDN, remote_id, KEEP)
        other.bind(IMG, Kind.CDN, remote_id, KEEP)

        assert before == world.count_writes()
        assert DomainState.READY is the_domain(target).state

    def test_domain_at_work_is_busy(self, target: DeployTarget, world: TargetWorld) -> None:
        """Nothing is written during an earlier change by any client."""
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
        """Without declared settings, only the certificate changes."""
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
        """Only the declared setting changes, even if the certificate is already bound."""
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
        """The reason is reported, the earlier certificate stays, and the change can be repeated."""
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
        """The refusal says that the copy is gone, so that the caller can upload the copy again."""
        world.add_domain(IMG)

        with pytest.raises(CopyGone):
            target.bind(IMG, Kind.CDN, "0" * 24, KEEP)

        world.settle()
        assert None is the_domain(target).bound

    def test_binding_what_does_not_fit(self, target: DeployTarget, world: TargetWorld) -> None:
        """Unknown domains, and certificates without the domain's name, are refused."""
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

    Inherit from this class in a class that pytest collects, and define four fixtures about an
    account that is new for every test:

    - `world` is a `TargetWorld`;
    - `target` is connected to the account;
    - `other` is connected to the same account, as from another process;
    - `denied` has credentials that the service refuses.

    Lost answers are for the target's own tests, because only these tests can lose an answer.

    ```python
    class TestMyTarget(DeployTargetContract):
        @pytest.fixture
        def world(self, account: Account) -> TargetWorld: ...

        @pytest.fixture
        def target(self, account: Account) -> DeployTarget: ...
    ```
    """
