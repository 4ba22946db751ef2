"""A stand-in for Tencent Cloud's API 3.0: DNSPod, which writes to the zones that servers serve, the
CDN, EdgeOne and the store of certificates, with the edges.

Sources: docs/facts/dnspod.md §2 and §4, docs/facts/tencentcloud.md §1 to §4, and the fields of the
vendor's SDK. The stand-in refuses a wrong signature, an unknown field, and a field of the wrong
type.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

import idna

from certferry_sandbox.dnspod.accounts import PLANS, Domain
from certferry_sandbox.dnspod.service import NAMESERVERS
from certferry_sandbox.edges import Edges, Identity
from certferry_sandbox.faults import Script
from certferry_sandbox.httpd import HttpService, HttpStandIn, Request, Response
from certferry_sandbox.tencentcloud import cdn
from certferry_sandbox.tencentcloud.cdn import CdnDomains
from certferry_sandbox.tencentcloud.certificates import Certificates, Timeline
from certferry_sandbox.tencentcloud.edgeone import EdgeOne, Host, Zone
from certferry_sandbox.tencentcloud.records import RecordActions
from certferry_sandbox.tencentcloud.wire import (
    Body,
    Params,
    Refused,
    answer,
    refusal,
    signed_by,
    signed_service,
)
from certferry_sandbox.zones import Zones

VERSIONS = {
    "dnspod": "2021-03-23",
    "cdn": "2018-06-06",
    "ssl": "2019-12-05",
    "teo": "2022-09-01",
}
NO_RIGHT = {
    "dnspod": "UnauthorizedOperation",
    "cdn": "UnauthorizedOperation.CdnCamUnauthorized",
    "ssl": "UnauthorizedOperation",
    "teo": "UnauthorizedOperation.CamUnauthorized",
}
"""The code of a call that the key's policies do not allow, by service
(docs/facts/tencentcloud.md §1.2).
"""
EDGE_LAGS = MappingProxyType({"127.0.0.7": timedelta(0), "127.0.0.8": timedelta(seconds=0.5)})
PROCESSING_TIME = timedelta(seconds=0.3)

Action = Callable[["Key", Params], Body]


@dataclass(frozen=True)
class Call:
    """A call with a readable body, answered or refused: its action and its fields."""

    action: str
    fields: Mapping[str, Any]


@dataclass
class Key:
    """An API key, and the domains of the key's account in the order of their addition.

    A key that `reads_only` can change nothing. `services` are those that the key's policies allow.
    """

    secret_id: str
    secret_key: str = field(repr=False)
    domains: list[Domain] = field(default_factory=list)
    reads_only: bool = False
    services: frozenset[str] = frozenset(VERSIONS)


class TencentCloudService(HttpStandIn):
    """Tencent Cloud on loopback, in plain HTTP: a single address has every service.

    `add_key`, `add_domain`, `add_cdn_domain` and `add_host` fill the accounts; `faults` and
    `answer_next` arm errors. The patterns of faults are compared with "POST /" and the action. A
    new record is missing from lists for `records.index_delay` seconds. An action accepts
    `calls_per_second` calls within a second of the zones' clock; `None` sets no limit. The parts
    `cdn`, `edgeone` and `certificates` have their switches. `edges` are started apart.
    """

    def __init__(
        self,
        zones: Zones,
        *,
        nameservers: Sequence[str] = NAMESERVERS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        processing_time: timedelta = PROCESSING_TIME,
        edge_port: int = 0,
    ) -> None:
        self.http = HttpService(self._answer, clock=now, label=_labelled)
        self.records = RecordActions(zones, nameservers)
        self.certificates = Certificates(self._is_in_use)
        self.cdn = CdnDomains(self.certificates.find, processing_time)
        self.edgeone = EdgeOne(self.certificates.find, processing_time)
        self.edges = Edges(self._served, EDGE_LAGS, clock=now, port=edge_port)
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
        self._reads: dict[str, dict[str, Action]] = {
            "dnspod": {
                "DescribeDomainList": lambda key, p: self.records.list_domains(key.domains, p),
                "DescribeRecordList": lambda key, p: self.records.list_records(key.domains, p),
                "DescribeRecord": lambda key, p: self.records.read_record(key.domains, p),
            },
            "cdn": {
                "DescribeDomainsConfig": lambda key, p: self.cdn.listing(key.secret_id, p, now()),
            },
            "ssl": {
                "DescribeCertificates": lambda key, p: self.certificates.listing(key.secret_id, p),
                "DescribeDeleteCertificatesTaskResult": lambda key, p: self.certificates.deletions(
                    key.secret_id, p
                ),
            },
            "teo": {
                "DescribeZones": lambda key, p: self.edgeone.zones(key.secret_id, p),
                "DescribeAccelerationDomains": lambda key, p: self.edgeone.hosts(
                    key.secret_id, p, now()
                ),
            },
        }
        self._writes: dict[str, dict[str, Action]] = {
            "dnspod": {
                "CreateRecord": lambda key, p: self.records.create(key.domains, p),
                "DeleteRecord": lambda key, p: self.records.delete(key.domains, p),
            },
            "cdn": {
                "ModifyDomainConfig": lambda key, p: self.cdn.modify(key.secret_id, p, now()),
                "UpdateDomainConfig": lambda key, p: self.cdn.update(key.secret_id, p, now()),
            },
            "ssl": {
                "UploadCertificate": lambda key, p: self.certificates.upload(
                    key.secret_id, p, now()
                ),
                "DeleteCertificate": lambda key, p: self.certificates.delete(key.secret_id, p),
            },
            "teo": {
                "ModifyHostsCertificate": lambda key, p: self.edgeone.modify(
                    key.secret_id, p, now()
                ),
            },
        }

    def add_key(
        self,
        secret_id: str,
        secret_key: str,
        *,
        reads_only: bool = False,
        services: frozenset[str] = frozenset(VERSIONS),
    ) -> Key:
        """Open an account with one key. The first key is the default of other methods."""
        key = Key(secret_id, secret_key, reads_only=reads_only, services=services)
        return self._keys.setdefault(secret_id, key)

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

    def add_certificate(self, issued: Identity, alias: str, *, key: Key | None = None) -> str:
        """Add an upload without any check, and return the id."""
        pair = issued.fullchain_pem, issued.privkey_pem
        with self._lock:
            return self.certificates.store(self._owner(key), alias, *pair, self._now()).id

    def add_cdn_domain(
        self,
        name: str,
        *,
        certificate: str | None = None,
        redirects: bool = False,
        key: Key | None = None,
        https: Mapping[str, Any] = MappingProxyType({}),
        **more: Any,
    ) -> cdn.Domain:
        """Add a CDN domain. `certificate` is the id of the bound certificate; without `certificate`
        HTTPS is off. `https` are further properties of `Https`, `more` are fields of `cdn.Domain`.
        """
        owner = self._owner(key)
        with self._lock:
            conf = {**deepcopy(cdn.DEFAULTS), **https}
            redirect = dict(cdn.REDIRECT)
            if redirects:
                redirect |= {"Switch": "on", "RedirectType": "https", "RedirectStatusCode": 301}
            domain = cdn.Domain(name, owner, conf, redirect, **more)
            bound = self.certificates.find(certificate or "", owner)
            if bound is not None:
                conf |= {"Switch": "on", "CertInfo": cdn.shown_in_settings(bound)}
                domain.applied = Timeline(bound)
            return self.cdn.add(domain)

    def add_zone(self, name: str, *, key: Key | None = None, **more: Any) -> Zone:
        """Add a zone of EdgeOne. `more` are fields of `edgeone.Zone`."""
        return self.edgeone.add_zone(name, self._owner(key), **more)

    def add_host(self, name: str, zone: Zone, *certificates: str, **more: Any) -> Host:
        """Add a host to a zone of EdgeOne. `certificates` are ids, `more` are fields of
        `edgeone.Host`.
        """
        with self._lock:
            found = [self.certificates.find(cert_id, zone.owner) for cert_id in certificates]
            bound = [one for one in found if one is not None]
            fields = {"mode": "sslcert" if bound else "disable", "certificates": bound, **more}
            return self.edgeone.add_host(Host(name, zone, **fields))

    def domain(self, name: str) -> cdn.Domain:
        """Return a CDN domain as it is now. Raises LookupError."""
        with self._lock:
            return self.cdn.find(name, self._now())

    def host(self, name: str) -> Host:
        """Return a host of EdgeOne as it is now. Raises LookupError."""
        with self._lock:
            return self.edgeone.find(name, self._now())

    def release(self, name: str) -> None:
        """Let a held change of a CDN domain or a host end when due, at the earliest now."""
        with self._lock:
            for place in (self.cdn, self.edgeone):
                with suppress(LookupError):
                    place.release(name, self._now())

    def answer_next(
        self,
        action: str,
        code: str,
        *,
        words: str = "",
        times: int = 1,
        does_the_work: bool = False,
    ) -> None:
        """Answer the next calls of an action with this error, if their signature is right.

        With `does_the_work`, the call also takes effect.
        """
        refused = Refused(code, words or f"{code} was asked for.")
        self._script.add(action, refused, times=times, does_the_work=does_the_work)

    def calls(self, action: str | None = None) -> list[Call]:
        """Return the calls so far, of one action or of all, in the order of arrival."""
        with self._lock:
            return [call for call in self._calls if action in {None, call.action}]

    def writes(self) -> list[Call]:
        """Return the calls so far that ask for a change, in the order of arrival."""
        writing = {action for actions in self._writes.values() for action in actions}
        return [call for call in self.calls() if call.action in writing]

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
        service = signed_service(request)
        if service in VERSIONS and request.headers.get("X-TC-Version") != VERSIONS[service]:
            raise Refused("NoSuchVersion", "The version does not exist.")
        keys = {key.secret_id: key.secret_key for key in self._keys.values()}
        key = self._keys[signed_by(request, keys, self._now(), service or "dnspod")]
        reads, writes = self._reads.get(service, {}), self._writes.get(service, {})
        work = {**reads, **writes}.get(action)
        if work is None:
            raise Refused("InvalidAction", "The action does not exist.")
        if service not in key.services or (key.reads_only and action in writes):
            raise Refused(NO_RIGHT[service], "You are not authorized by CAM.")
        self._count(action)
        answered = self._script.answer(action, lambda: work(key, params))
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

    def _owner(self, key: Key | None) -> str:
        return (key or next(iter(self._keys.values()))).secret_id

    def _is_in_use(self, cert_id: str) -> bool:
        return self.cdn.uses(cert_id) or self.edgeone.uses(cert_id)

    def _served(self, name: str, moment: datetime) -> Identity | None:
        with self._lock:
            now = self._now()
            place = self.cdn.serving(name, now) or self.edgeone.serving(name, now)
            return None if place is None else place.applied.at(moment)


def _labelled(request: Request) -> str:
    return f"{request.method} /{request.headers.get('X-TC-Action', '')}"
