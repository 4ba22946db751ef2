"""The contract of targets, for Qiniu, Alibaba Cloud, Tencent Cloud and the fake in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from certferry.adapters.aliyun.target import DeploySettings
from certferry.adapters.cdn.caches import LIST_AGE
from certferry.adapters.cdn.copies import CERTIFICATES_AGE
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import DomainState
from certferry.core.redaction import Secret
from certferry.errors import TargetInUse, TargetRejected
from certferry.ports.target import DeployTarget, Scope
from certferry.values import replace
from certferry_sandbox.aliyun.gateway import EVERYWHERE
from certferry_sandbox.authority import Issued
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.contracts.target import (
    IMG,
    LINEAGE,
    NAMES,
    DeployTargetContract,
    TargetWorld,
    deploy,
    observe,
    the_domain,
)
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.adapters.aliyun.cloud import open_cloud
from tests.adapters.qiniu.account import bundle_of, open_account
from tests.adapters.tencentcloud.places import open_places
from tests.sandbox import qiniu_calls


def now() -> datetime:
    return datetime.now(UTC)


class VendorWorld(TargetWorld):
    """A strict stand-in of a vendor, whose domains hold changes until the world is settled."""

    #: The vendor's words for a domain that takes changes, and for another domain.
    states: tuple[str, str]

    def __init__(self, place: Any) -> None:
        self.place = place
        self._issued: dict[str, Issued] = {}
        self._domains: list[str] = []

    def add_domain(self, name: str, *, available: bool = True) -> None:
        there = name.removeprefix("*")
        self.place.service.add_domain(there, state=self.states[0 if available else 1])
        self.place.service.hold(there)
        self._domains.append(there)
        self.place.time.pause(CERTIFICATES_AGE)  # until every cached list is old

    def settle(self) -> None:
        """Release the held changes, and hold the next ones."""
        for name in self._domains:
            self.place.service.release(name)
            self.place.service.domain(name)  # a look ends its change
            self.place.service.hold(name)
        self.place.time.pause(LIST_AGE)

    def fail_next(self, name: str) -> None:
        self.place.service.fail_next(name.removeprefix("*"))

    def issue(self, *names: str) -> CertificateBundle:
        issued = qiniu_calls.issue(*names)
        self._issued[issued.fingerprint] = issued
        return bundle_of(issued)

    def put(self, label: str, bundle: CertificateBundle) -> str:
        """Upload as another tool."""
        issued = self._issued[bundle.certificate.fingerprint]
        self.place.time.pause(10)  # until every cached list is old
        return str(self.place.service.add_certificate(issued, label))

    def labels(self) -> list[str]:
        return list(self.place.labels())

    def count_writes(self) -> int:
        return len(self.place.service.writes())


class QiniuWorld(VendorWorld):
    states = ("success", "frozen")


class AliyunWorld(VendorWorld):
    states = ("online", "offline")

    def expire(self, bundle: CertificateBundle) -> None:
        """Let the time pass until a certificate has surely expired."""
        left = bundle.certificate.not_after - self.place.time.now()
        self.place.time.pause((left + timedelta(days=2)).total_seconds())


class TencentWorld(VendorWorld):
    states = ("online", "rejected")

    def add_domain(self, name: str, *, available: bool = True) -> None:
        status = self.states[0 if available else 1]
        self.place.service.add_cdn_domain(name, status=status, held=True)
        self._domains.append(name)
        self.place.time.pause(CERTIFICATES_AGE)  # until every cached list is old

    def settle(self) -> None:
        """Release the held changes, and hold the next ones."""
        for name in self._domains:
            self.place.service.release(name)
            self.place.service.domain(name).held = True
        self.place.time.pause(LIST_AGE)

    def fail_next(self, name: str) -> None:
        self.place.service.cdn.fail_next(name)


class MemoryWorld(TargetWorld):
    def __init__(self) -> None:
        self.cdn = MemoryCdn(now)

    def add_domain(self, name: str, *, available: bool = True) -> None:
        """Add a domain, or add it frozen."""
        state = DomainState.READY if available else DomainState.UNAVAILABLE
        self.cdn.add_domain(name, state=state)

    def settle(self) -> None:
        self.cdn.settle()

    def fail_next(self, name: str) -> None:
        self.cdn.fail_next(name, "verify https crt fail")

    def issue(self, *names: str) -> CertificateBundle:
        return make_bundle(*names, not_before=now() - timedelta(days=1))

    def put(self, label: str, bundle: CertificateBundle) -> str:
        return self.cdn.put(label, bundle)

    def labels(self) -> list[str]:
        return self.cdn.remote_labels

    def count_writes(self) -> int:
        return self.cdn.uploads + self.cdn.writes + self.cdn.removals


class TestMemoryCdn(DeployTargetContract):
    """The fake passes the contract, so it may replace a target in the engine's tests."""

    @pytest.fixture
    def memory(self) -> MemoryWorld:
        return MemoryWorld()

    @pytest.fixture
    def world(self, memory: MemoryWorld) -> TargetWorld:
        return memory

    @pytest.fixture
    def target(self, memory: MemoryWorld) -> DeployTarget:
        return memory.cdn

    @pytest.fixture
    def other(self, memory: MemoryWorld) -> DeployTarget:
        """Return the same account for another process."""
        return memory.cdn

    @pytest.fixture
    def denied(self) -> DeployTarget:
        cdn = MemoryCdn(now)
        cdn.denies = True
        return cdn


class VendorContract(DeployTargetContract):
    """The contract at a vendor's stand-in."""

    #: Opens an account at the stand-in.
    opened: ClassVar[Callable[[], AbstractContextManager[Any]]]
    of_world: ClassVar[type[VendorWorld]]
    #: Keys that the stand-in refuses.
    wrong_keys: ClassVar[Mapping[str, Any]]

    @pytest.fixture
    def place(self) -> Iterator[Any]:
        with type(self).opened() as place:
            yield place

    @pytest.fixture
    def world(self, place: Any) -> TargetWorld:
        return self.of_world(place)

    @pytest.fixture
    def target(self, place: Any) -> DeployTarget:
        target: DeployTarget = place.target()
        return target

    @pytest.fixture
    def other(self, place: Any) -> DeployTarget:
        """Return another connection."""
        target: DeployTarget = place.target()
        return target

    @pytest.fixture
    def denied(self, place: Any) -> DeployTarget:
        target: DeployTarget = place.target(**self.wrong_keys)
        return target


class TestQiniu(VendorContract):
    """CDN domains at the stand-in of Qiniu."""

    opened, of_world = open_account, QiniuWorld
    wrong_keys: ClassVar = {"secret": "wrong-secret"}


class TestAliyun(VendorContract):
    """CDN domains at the stand-in of Alibaba Cloud.

    Three promises differ. Alibaba Cloud does not say which of its products use a stored
    certificate, so a copy is removed only after its end. A binding has no settings beside the
    certificate. The store lists fingerprints, so a copy by another tool counts as a copy, and is
    never removed.
    """

    opened, of_world = open_cloud, AliyunWorld
    wrong_keys: ClassVar = {"access_key_secret": Secret("0" * 30)}

    def test_copy_is_retired(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """The removal is refused before the certificate's end. Afterwards the first removal returns
        True, later removals False; other copies stay.
        """
        assert isinstance(world, AliyunWorld)
        first = world.issue(*NAMES)
        old = target.upload(LINEAGE, first)
        label = label_of(LINEAGE, first.certificate.fingerprint)

        with pytest.raises(TargetInUse):
            target.retire(old, label)
        assert [label] == world.labels()

        world.expire(first)
        second = world.put("theirs", world.issue(*NAMES))
        assert target.retire(old, label)
        assert not target.retire(old, label)
        assert not other.retire(old, label)
        assert ["theirs"] == world.labels()
        assert second != old

    def test_unmanaged_is_removed(
        self, target: DeployTarget, other: DeployTarget, world: TargetWorld
    ) -> None:
        """The removal goes by id, after the certificate's end."""
        assert isinstance(world, AliyunWorld)
        bundle = world.issue(*NAMES)
        first, _ = world.put("theirs", bundle), world.put("theirs", bundle)
        world.expire(bundle)

        assert other.retire(first, "theirs", unmanaged=True)
        assert not target.retire(first, "theirs", unmanaged=True)

        assert ["theirs"] == world.labels()

    def test_other_settings_stay(self, target: DeployTarget, world: TargetWorld) -> None:
        """The call of a binding names the domain and the certificate only, with HTTPS on."""
        assert isinstance(world, AliyunWorld)
        world.add_domain(IMG)

        deploy(target, world)

        [call] = world.place.service.calls("SetCdnDomainSSLCertificate")
        assert "on" == call.params["SSLProtocol"]
        assert {"DomainName", "SSLProtocol", "CertType", "CertId", "CertRegion"} == {
            name for name in call.params if name not in EVERYWHERE
        }
        assert not the_domain(target).has_settings

    def test_setting_that_is_desired_changes(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """A binding has no such setting: the file is refused (`DeploySettings`)."""
        assert ["kind"] == [field.name for field in fields(DeploySettings)]

    def test_only_what_is_known_is_ours(self, target: DeployTarget, world: TargetWorld) -> None:
        """The fingerprint decides, whatever the names of the copies."""
        known, another = world.issue(*NAMES), world.issue("www.example.org")
        equal = {
            world.put(label_of("other", known.certificate.fingerprint), known),
            world.put("theirs", known),
        }
        world.put(label_of(LINEAGE, known.certificate.fingerprint), another)
        world.put(label_of(LINEAGE, another.certificate.fingerprint), another)

        remotes = observe(target, known=(known.certificate,)).remotes
        assert equal == {remote.remote_id for remote in remotes}

    def test_what_does_not_carry_the_label_is_not_retired(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """Another tool's copy is adopted, and never removed."""
        assert isinstance(world, AliyunWorld)
        bundle = world.issue(*NAMES)
        theirs = world.put("theirs", bundle)
        ours = target.upload(LINEAGE, bundle)
        world.expire(bundle)

        assert theirs == ours
        for claimed in (label_of(LINEAGE, bundle.certificate.fingerprint), "theirs"):
            with pytest.raises(TargetRejected):
                target.retire(theirs, claimed)
        assert ["theirs"] == world.labels()

    def test_others_are_shown_when_asked_for(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """On request, all other copies are listed, each in use until its end."""
        known, foreign = world.issue(*NAMES), world.issue("www.example.org")
        ours = target.upload(LINEAGE, known)
        ids = {target.upload("other", foreign), world.put("theirs", foreign)}
        assert isinstance(world, AliyunWorld)
        world.place.time.pause(CERTIFICATES_AGE)

        look = Scope(LINEAGE, NAMES, (), Kind.AUTO, (known.certificate,))
        found = target.observe(replace(look, others=True))

        assert () == target.observe(look).others
        assert [ours] == [remote.remote_id for remote in found.remotes]
        assert ids == {other.remote_id for other in found.others}
        assert all(other.in_use_until == other.not_after for other in found.others)


class TestTencentCloud(VendorContract):
    """CDN domains at the stand-in of Tencent Cloud."""

    opened, of_world = open_places, TencentWorld
    wrong_keys: ClassVar = {"secret_key": Secret("wrong-secret")}

    def test_what_does_not_carry_the_label_is_not_retired(
        self, target: DeployTarget, world: TargetWorld
    ) -> None:
        """Tencent Cloud returns the id of another tool's equal copy, which is never removed."""
        bundle = world.issue(*NAMES)
        theirs = world.put("theirs", bundle)
        label = label_of(LINEAGE, bundle.certificate.fingerprint)

        assert theirs == target.upload(LINEAGE, bundle)
        for claimed in (label, "theirs", label_of("other", "0" * 64)):
            with pytest.raises(TargetRejected):
                target.retire(theirs, claimed)

        assert ["theirs"] == world.labels()
