"""A stand-in for DNSPod at Tencent Cloud's API 3.0. It writes to the zones that servers serve.

Sources: docs/facts/dnspod.md §2 and §4, and the fields of the vendor's SDK. The stand-in refuses
a wrong signature, an unknown field, and a field of the wrong type.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import idna

from certferry_sandbox.dnspod.accounts import PLANS, Domain
from certferry_sandbox.dnspod.service import NAMESERVERS
from certferry_sandbox.faults import Script
from certferry_sandbox.httpd import HttpService, HttpStandIn, Request, Response
from certferry_sandbox.tencentcloud.records import RecordActions
from certferry_sandbox.tencentcloud.wire import Body, Params, Refused, answer, refusal, signed_by
from certferry_sandbox.zones import Zones

VERSION = "2021-03-23"

Action = Callable[[Sequence[Domain], Params], Body]


@dataclass(frozen=True)
class Call:
    """A call with a readable body, answered or refused: its action and its fields."""

    action: str
    fields: Mapping[str, Any]


@dataclass
class Key:
    """An API key, and the domains of the key's account in the order of their addition.

    A key that `reads_only` can change nothing.
    """

    secret_id: str
    secret_key: str = field(repr=False)
    domains: list[Domain] = field(default_factory=list)
    reads_only: bool = False


class TencentCloudService(HttpStandIn):
    """DNSPod at Tencent Cloud on loopback, in plain HTTP.

    `add_key` and `add_domain` fill the accounts; `faults` and `answer_next` arm errors. A new
    record is missing from lists for `records.index_delay` seconds. An action accepts
    `calls_per_second` calls within a second of the zones' clock; `None` sets no limit.
    """

    def __init__(
        self,
        zones: Zones,
        *,
        nameservers: Sequence[str] = NAMESERVERS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.http = HttpService(self._answer, clock=now)
        self.records = RecordActions(zones, nameservers)
        self.calls_per_second: int | None = None
        self._zones = zones
        self._nameservers = tuple(nameservers)
        self._now = now
        self._lock = threading.RLock()
        self._keys: dict[str, Key] = {}
        self._ids = itertools.count(38_280_687)
        self._script = Script[Body | Refused]()
        self._calls: list[Call] = []
        self._recent: dict[str, deque[float]] = {}
        self._reads: dict[str, Action] = {
            "DescribeDomainList": self.records.list_domains,
            "DescribeRecordList": self.records.list_records,
            "DescribeRecord": self.records.read_record,
        }
        self._writes: dict[str, Action] = {
            "CreateRecord": self.records.create,
            "DeleteRecord": self.records.delete,
        }

    def add_key(self, secret_id: str, secret_key: str, *, reads_only: bool = False) -> Key:
        """Open an account with one key. `add_domain` uses the first key by default."""
        return self._keys.setdefault(secret_id, Key(secret_id, secret_key, reads_only=reads_only))

    def add_domain(
        self,
        name: str,
        *,
        key: Key | None = None,
        status: Literal["enable", "pause", "spam", "lock"] = "enable",
        grade: str = "DP_Free",
        min_ttl: int | None = None,
    ) -> Domain:
        """Put a domain (in Unicode or A-labels) into a key's account.

        A missing zone is added. `min_ttl` replaces the least TTL of the plan.
        """
        least = PLANS[grade].min_ttl if min_ttl is None else min_ttl
        a_labels = idna.encode(name, uts46=True).decode()
        domain = Domain(next(self._ids), a_labels, "qcloud_uin_1@qcloud.com", status, grade, least)
        with self._lock:
            if domain.name not in {zone.name for zone in self._zones.zones_above(domain.name)}:
                self._zones.add_zone(domain.name, self._nameservers)
            (key or next(iter(self._keys.values()))).domains.append(domain)
        return domain

    def answer_next(
        self, action: str, code: str, *, times: int = 1, does_the_work: bool = False
    ) -> None:
        """Answer the next calls of an action with this error, if their signature is right.

        With `does_the_work`, the call also takes effect.
        """
        refused = Refused(code, f"{code} was asked for.")
        self._script.add(action, refused, times=times, does_the_work=does_the_work)

    def calls(self, action: str | None = None) -> list[Call]:
        """Return the calls so far, of one action or of all, in the order of arrival."""
        with self._lock:
            return [call for call in self._calls if action in {None, call.action}]

    def _answer(self, request: Request) -> Response:
        try:
            with self._lock:
                return answer(self._work(request))
        except Refused as refused:
            return refusal(refused)

    def _work(self, request: Request) -> Body:
        action = request.headers.get("X-TC-Action", "")
        if request.method != "POST" or not action:
            raise Refused("MissingParameter", "The request is missing the parameter `Action`.")
        params = Params.of(request)
        self._calls.append(Call(action, params.given))
        if request.headers.get("X-TC-Version") != VERSION:
            raise Refused("NoSuchVersion", "The version does not exist.")
        keys = {key.secret_id: key.secret_key for key in self._keys.values()}
        key = self._keys[signed_by(request, keys, self._now())]
        work = {**self._reads, **self._writes}.get(action)
        if work is None:
            raise Refused("InvalidAction", "The action does not exist.")
        if key.reads_only and action in self._writes:
            raise Refused("UnauthorizedOperation", "You are not authorized by CAM.")
        self._count(action)
        answered = self._script.answer(action, lambda: work(key.domains, params))
        if isinstance(answered, Refused):
            raise answered
        return answered

    def _count(self, action: str) -> None:
        """Count a call. Raises `Refused` for a call too many in a second; that call counts too."""
        if self.calls_per_second is None:
            return
        now = self._zones.clock()
        recent = self._recent.setdefault(action, deque())
        recent.append(now)
        while recent[0] <= now - 1:
            recent.popleft()
        if len(recent) > self.calls_per_second:
            raise Refused("RequestLimitExceeded", "The request limit is exceeded.")
