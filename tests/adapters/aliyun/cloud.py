"""A stand-in of Alibaba Cloud with an account, its targets, and a clock that only pauses move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from certferry.adapters.aliyun.account import Settings, access_key
from certferry.adapters.aliyun.aliyun_client import AliyunClient
from certferry.adapters.aliyun.target import Aliyun
from certferry.core.redaction import Secret
from certferry.ports.adapter import Context
from certferry_sandbox.aliyun.service import AliyunService
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from certferry_sandbox.zones import Zones
from tests.adapters.qiniu.account import Time
from tests.sandbox.aliyun_calls import KEY_ID, KEY_SECRET

WWW = "www.example.com"
LINEAGE = "img"


@dataclass
class AliyunCloud:
    """A stand-in of Alibaba Cloud, and targets of its first account."""

    service: AliyunService
    time: Time = field(default_factory=Time)
    memory: MemoryAccount = field(default_factory=MemoryAccount)

    @property
    def context(self) -> Context:
        return connected_with(pause=self.time.pause, now=self.time.now, memory=self.memory)

    def settings(self, **settings: Any) -> Settings:
        defaults = {
            "access_key_id": Secret(KEY_ID),
            "access_key_secret": Secret(KEY_SECRET),
            "cdn": self.service.cdn.url,
            "dcdn": self.service.dcdn.url,
            "cas": self.service.cas.url,
        }
        return Settings(**{**defaults, **settings})

    def target(self, **settings: Any) -> Aliyun:
        """Return the target, as a process of its own would have it."""
        given = self.settings(**settings)
        key = access_key(given.access_key_id, given.access_key_secret)
        client = AliyunClient(key, given, self.context)
        return Aliyun(client, self.context, self.time.clock)

    def ram_target(self, *allowed: str) -> Aliyun:
        """Return the target of a RAM user with a policy."""
        self.service.add_ram_user("LTAI5tRamUser", KEY_SECRET, allowed=allowed)
        return self.target(access_key_id=Secret("LTAI5tRamUser"))

    def actions(self) -> list[str]:
        """Return the names of the calls so far, product by product."""
        return [call.action for call in self.service.calls()]

    def labels(self) -> list[str]:
        """Return the names of the stored certificates, oldest first."""
        return [stored.name for stored in self.service.store.stored()]


@contextmanager
def open_cloud() -> Iterator[AliyunCloud]:
    """Start a stand-in whose changes end at once, unless a test holds them."""
    passing = Time()
    service = AliyunService(Zones(), clock=passing.true_now, processing_time=timedelta(0))
    service.add_account(KEY_ID, KEY_SECRET)
    with service:
        yield AliyunCloud(service, passing)
