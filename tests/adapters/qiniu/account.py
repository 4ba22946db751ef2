"""A stand-in of Qiniu with an account, its clients, and a clock that only pauses move."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from certferry.adapters.http.exchange import TIMEOUTS, Timeouts
from certferry.adapters.qiniu.qiniu_client import QiniuClient, QiniuTransport
from certferry.adapters.qiniu.target import Qiniu
from certferry.adapters.qiniu.wire import Hosts, QiniuKeys
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.pem import parse_bundle
from certferry.core.observed.observation import TargetRules
from certferry.core.redaction import Secret
from certferry.ports.adapter import Context
from certferry.ports.progress import Pause
from certferry_sandbox.authority import Issued
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY, START

WWW = "www.example.com"
REQUEST_ID = "62kAAGDqvW9Ab6sY"
RULES = TargetRules(timedelta(days=30))
LOST = (Fault.reset_after(), Fault.truncated())
"""Faults that leave open whether Qiniu carried a request out."""
SHORT = Timeouts(connect=timedelta(seconds=5), read=timedelta(seconds=0.5))


class Time:
    """A clock that only pauses move. `pauses` lists the seconds; `offset` is the lead of the
    clients' clock over the stand-in's.
    """

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.offset = timedelta(0)
        self._passed = 0.0
        self._lock = threading.Lock()

    def pause(self, seconds: float) -> None:
        with self._lock:
            self.pauses.append(seconds)
            self._passed += seconds

    def clock(self) -> float:
        """Return the seconds since the start."""
        with self._lock:
            return self._passed

    def now(self) -> datetime:
        return self.true_now() + self.offset

    def true_now(self) -> datetime:
        return START + timedelta(seconds=self.clock())


@dataclass
class QiniuAccount:
    """A stand-in of Qiniu, and clients of one of its accounts.

    New clients get `timeouts`; tests of slow answers set short ones.
    """

    service: QiniuService
    time: Time = field(default_factory=Time)
    timeouts: Timeouts = TIMEOUTS
    memory: MemoryAccount = field(default_factory=MemoryAccount)

    @property
    def hosts(self) -> Hosts:
        service = self.service
        return Hosts(
            service.api_url,
            service.fusion_url,
            service.uc_url,
            service.api_backup_url,
            service.uc_backup_url,
            service.pili_url,
        )

    @property
    def context(self) -> Context:
        return connected_with(pause=self.time.pause, now=self.time.now, memory=self.memory)

    def client(
        self, *, hosts: Hosts | None = None, access_key: str = ACCESS_KEY, secret: str = SECRET_KEY
    ) -> QiniuClient:
        """Return a client: of this account and for the stand-in's hosts by default."""
        return QiniuClient(
            QiniuTransport(
                QiniuKeys(Secret(access_key), Secret(secret)),
                hosts or self.hosts,
                self.memory,
                pause=self.time.pause,
                now=self.time.now,
                clock=self.time.clock,
                timeouts=self.timeouts,
            )
        )

    def target(
        self,
        *,
        pause: Pause | None = None,
        access_key: str = ACCESS_KEY,
        secret: str = SECRET_KEY,
        hosts: Hosts | None = None,
    ) -> Qiniu:
        """Return the target, as a process of its own would have it."""
        wait = pause or self.time.pause
        client = self.client(hosts=hosts, access_key=access_key, secret=secret)
        return Qiniu(
            client, RULES, self.memory, pause=wait, now=self.time.now, clock=self.time.clock
        )

    def until_all_is_done(self, seconds: float) -> None:
        """Pause until the stand-in has carried out every request, including delayed requests."""
        self.time.pause(seconds)
        deadline = time.monotonic() + 10
        hosts = (self.service.api, self.service.fusion)
        while any(call.status is None for host in hosts for call in host.journal):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def count(self, pattern: str) -> int:
        return len(self.service.requests(pattern))

    def labels(self) -> list[str]:
        """Return the names of the stored certificates, oldest first."""
        return [stored.name for stored in self.service.certificates.stored()]


@contextmanager
def open_account(*, strict: bool = True) -> Iterator[QiniuAccount]:
    """Start a stand-in whose changes end at once, unless a test holds them."""
    passing = Time()
    service = QiniuService(clock=passing.true_now, strict=strict, processing_time=timedelta(0))
    service.trust(qiniu_calls.authority().root_pem)
    service.add_account(ACCESS_KEY, SECRET_KEY)
    with service:
        yield QiniuAccount(service, passing)


def bundle_of(issued: Issued) -> CertificateBundle:
    return parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem))


def bundle(*names: str, **options: Any) -> CertificateBundle:
    """Issue a certificate that the stand-in accepts by default."""
    return bundle_of(qiniu_calls.issue(*names, **options))


def refusal(status: int, code: int | None = None, words: str = "its words", **more: Any) -> Fault:
    body = {"error": words, **more} | ({} if code is None else {"code": code})
    return Fault.status(
        status, json.dumps(body, ensure_ascii=False).encode(), headers=[("X-Reqid", REQUEST_ID)]
    )


def fault_id(fault: Fault) -> str:
    return f"{fault.kind.value} {fault.code or ''}".strip()
