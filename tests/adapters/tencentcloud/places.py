"""A stand-in of Tencent Cloud with an account, its target, and a clock that only pauses move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from certferry.adapters.tencentcloud.account import Settings
from certferry.adapters.tencentcloud.target import TencentCloud
from certferry.adapters.tencentcloud.tencent_client import TencentClient
from certferry.core.redaction import Secret
from certferry.ports.adapter import Context
from certferry.ports.progress import Pause
from certferry_sandbox.faults import Fault
from certferry_sandbox.tencentcloud.service import TencentCloudService
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from certferry_sandbox.zones import Zones
from tests.adapters.qiniu.account import Time
from tests.sandbox.tencent_calls import SECRET_ID, SECRET_KEY

LOST = (Fault.reset_after(), Fault.truncated())
"""Faults that leave open whether Tencent Cloud carried a request out."""


@dataclass
class TencentPlaces:
    """A stand-in of Tencent Cloud, and targets of one of its accounts."""

    service: TencentCloudService
    time: Time = field(default_factory=Time)
    memory: MemoryAccount = field(default_factory=MemoryAccount)

    def context(self, pause: Pause | None = None) -> Context:
        wait = pause or self.time.pause
        return connected_with(pause=wait, now=self.time.now, memory=self.memory)

    def settings(self, **changed: Any) -> Settings:
        url = self.service.url
        usual = {"api": url, "cdn": url, "ssl": url, "teo": url}
        keys = {"secret_id": Secret(SECRET_ID), "secret_key": Secret(SECRET_KEY)}
        return Settings(**{**keys, **usual, **changed})

    def target(self, *, pause: Pause | None = None, **changed: Any) -> TencentCloud:
        """Return the target, as a process of its own would have it."""
        context = self.context(pause)
        client = TencentClient(self.settings(**changed), context)
        return TencentCloud(client, context, self.time.clock)

    def labels(self) -> list[str]:
        """Return the aliases of the stored certificates, oldest first."""
        return [stored.alias for stored in self.service.certificates.stored()]

    def actions(self) -> list[str]:
        return [call.action for call in self.service.calls()]


@contextmanager
def open_places() -> Iterator[TencentPlaces]:
    """Start a stand-in whose changes end at once, unless a test holds them."""
    passing = Time()
    zones = Zones(passing.clock)
    service = TencentCloudService(zones, now=passing.true_now, processing_time=timedelta(0))
    service.add_key(SECRET_ID, SECRET_KEY)
    with service:
        yield TencentPlaces(service, passing)
