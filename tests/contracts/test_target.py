"""The contract of targets, for Qiniu, for Tencent Cloud and for the fake in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from certferry.adapters.cdn.caches import LIST_AGE
from certferry.adapters.cdn.copies import CERTIFICATES_AGE
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.observed.observation import DomainState
from certferry.core.redaction import Secret
from certferry.errors import TargetRejected
from certferry.ports.target import DeployTarget
from certferry_sandbox.authority import Issued
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.contracts.target import (
    LINEAGE,
    NAMES,
    DeployTargetContract,
    TargetWorld,
)
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.adapters.qiniu.account import QiniuAccount, bundle_of, open_account
from tests.adapters.tencentcloud.places import TencentPlaces, open_places
from tests.sandbox import qiniu_calls


def now() -> datetime:
    return datetime.now(UTC)


class QiniuWorld(TargetWorld):
    """A strict stand-in of Qiniu, whose domains hold changes until the world is settled."""

    def __init__(self, account: QiniuAccount) -> None:
        self.place = account
        self._issued: dict[str, Issued] = {}
        self._domains: list[str] = []

    def add_domain(self, name: str, *, available: bool = True) -> None:
        at_qiniu = name.removeprefix("*")
        self.place.service.add_domain(at_qiniu, state="success" if available else "frozen")
        self.place.service.hold(at_qiniu)
        self._domains.append(at_qiniu)
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
        return self.place.service.add_certificate(issued, label)

    def labels(self) -> list[str]:
        return self.place.labels()

    def count_writes(self) -> int:
        return len(self.place.service.writes())


class TencentWorld(TargetWorld):
    """A strict stand-in of Tencent Cloud, whose domains hold changes until the world is settled."""

    def __init__(self, places: TencentPlaces) -> None:
        self.place = places
        self._issued: dict[str, Issued] = {}
        self._domains: list[str] = []

    def add_domain(self, name: str, *, available: bool = True) -> None:
        status = "online" if available else "rejected"
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

    def issue(self, *names: str) -> CertificateBundle:
        issued = qiniu_calls.issue(*names)
        self._issued[issued.fingerprint] = issued
        return bundle_of(issued)

    def put(self, label: str, bundle: CertificateBundle) -> str:
        """Upload as another tool."""
        issued = self._issued[bundle.certificate.fingerprint]
        self.place.time.pause(10)  # until every cached list is old
        return self.place.service.add_certificate(issued, label)

    def labels(self) -> list[str]:
        return self.place.labels()

    def count_writes(self) -> int:
        return len(self.place.service.writes())


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


class TestQiniu(DeployTargetContract):
    """CDN domains at the stand-in of Qiniu."""

    @pytest.fixture
    def account(self) -> Iterator[QiniuAccount]:
        with open_account() as account:
            yield account

    @pytest.fixture
    def world(self, account: QiniuAccount) -> TargetWorld:
        return QiniuWorld(account)

    @pytest.fixture
    def target(self, account: QiniuAccount) -> DeployTarget:
        return account.target()

    @pytest.fixture
    def other(self, account: QiniuAccount) -> DeployTarget:
        """Return another connection."""
        return account.target()

    @pytest.fixture
    def denied(self, account: QiniuAccount) -> DeployTarget:
        return account.target(secret="wrong-secret")


class TestTencentCloud(DeployTargetContract):
    """CDN domains at the stand-in of Tencent Cloud."""

    @pytest.fixture
    def places(self) -> Iterator[TencentPlaces]:
        with open_places() as places:
            yield places

    @pytest.fixture
    def world(self, places: TencentPlaces) -> TargetWorld:
        return TencentWorld(places)

    @pytest.fixture
    def target(self, places: TencentPlaces) -> DeployTarget:
        return places.target()

    @pytest.fixture
    def other(self, places: TencentPlaces) -> DeployTarget:
        """Return another connection."""
        return places.target()

    @pytest.fixture
    def denied(self, places: TencentPlaces) -> DeployTarget:
        return places.target(secret_key=Secret("wrong-secret"))

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
