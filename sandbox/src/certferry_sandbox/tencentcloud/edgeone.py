"""EdgeOne's zones and hosts, the service `teo` (docs/facts/tencentcloud.md §3)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from certferry_sandbox.tencentcloud.certificates import StoredCertificate, Timeline, written
from certferry_sandbox.tencentcloud.wire import Body, Params, Refused

Find = Callable[[str, str], StoredCertificate | None]
MOST_ZONES, MOST_HOSTS = 100, 200  # on a page (§3.1)


@dataclass
class Zone:
    """A zone of an account."""

    id: str
    name: str
    owner: str
    type: str = "partial"
    status: str = "active"
    paused: bool = False


@dataclass
class Change:
    """An accepted change in progress: the mode and the certificates to come."""

    mode: str
    certificates: list[StoredCertificate]
    due: datetime
    fails: bool


@dataclass
class Host:
    """An accelerated host. `held`: a change stays in progress until `release`."""

    name: str
    zone: Zone
    mode: str = "disable"
    certificates: list[StoredCertificate] = field(default_factory=list)
    status: str = "online"
    failed: list[StoredCertificate] = field(default_factory=list)
    held: bool = False
    change: Change | None = None
    applied: Timeline = field(default_factory=lambda: Timeline(None))

    def to_wire(self) -> dict[str, Any]:
        """Return the object of the list (§3.1)."""
        mode, entries = self.mode, [(one, "deployed") for one in self.certificates]
        if self.change is not None:
            mode = self.change.mode
            entries = [(one, "processing") for one in self.change.certificates]
        entries += [(one, "issued") for one in self.failed]
        return {
            "ZoneId": self.zone.id,
            "DomainName": self.name,
            "DomainStatus": "process" if self.change else self.status,
            "Cname": f"{self.name.removeprefix('*.')}.eo.dnse1.com",
            "IdentificationStatus": "finished",
            "Certificate": {
                "Mode": mode,
                "List": [
                    {
                        "CertId": one.id,
                        "Alias": one.alias,
                        "Type": "upload",
                        "ExpireTime": written(one.leaf.not_valid_after_utc),
                        "DeployTime": written(one.created),
                        "SignAlgo": one.algorithm,
                        "Status": status,
                    }
                    for one, status in entries
                ]
                or None,
            },
        }


class EdgeOne:
    """The zones and hosts of all accounts, and the actions on them.

    `processing_time`: how long an accepted change stays in progress.
    `host_limit`: the most hosts on a page.
    """

    def __init__(self, find_certificate: Find, processing_time: timedelta) -> None:
        self.processing_time = processing_time
        self.host_limit = MOST_HOSTS
        self._find_certificate = find_certificate
        self._zones: dict[str, Zone] = {}
        self._hosts: dict[str, Host] = {}
        self._failing: set[str] = set()
        self._numbers = itertools.count(1)

    def add_zone(self, name: str, owner: str, **more: Any) -> Zone:
        """Add a zone to an account."""
        zone_id = f"zone-2noz78a8ev{next(self._numbers):02}"
        return self._zones.setdefault(zone_id, Zone(zone_id, name, owner, **more))

    def add_host(self, host: Host) -> Host:
        """Add an existing host to a zone."""
        if host.certificates:
            host.applied = Timeline(host.certificates[-1])
        return self._hosts.setdefault(host.name, host)

    def find(self, name: str, now: datetime) -> Host:
        """Return the host of any account, as of now. Raises LookupError."""
        host = self._hosts[name]
        self._settle(host, now)
        return host

    def fail_next(self, name: str) -> None:
        """Make a host's next accepted change fail."""
        self._failing.add(name)

    def release(self, name: str, now: datetime) -> None:
        """Let a held change end when due, at the earliest now."""
        host = self._hosts[name]
        host.held = False
        self._settle(host, now)

    def uses(self, cert_id: str) -> bool:
        """Whether any host has a certificate, or soon will."""
        return any(
            one.id == cert_id
            for host in self._hosts.values()
            for one in [*host.certificates, *(host.change.certificates if host.change else ())]
        )

    def serving(self, name: str, now: datetime) -> Host | None:
        """Return the host that answers for a name: the host itself, or the wildcard above."""
        for candidate in (name, f"*.{name.partition('.')[2]}"):
            if candidate in self._hosts and self._hosts[candidate].status != "offline":
                return self.find(candidate, now)
        return None

    def zones(self, owner: str, params: Params) -> Body:
        """DescribeZones: return a page of the account's zones."""
        offset, limit = params.number("Offset", 0), params.number("Limit", 20)
        params.done()
        if offset < 0 or not 0 < limit <= MOST_ZONES:
            raise Refused("InvalidParameter", "The limit is wrong.")
        own = [zone for zone in self._zones.values() if zone.owner == owner]
        shown = [
            {
                "ZoneId": zone.id,
                "ZoneName": zone.name,
                "Type": zone.type,
                "Status": zone.status,
                "Paused": zone.paused,
            }
            for zone in own[offset : offset + limit]
        ]
        return {"TotalCount": len(own), "Zones": shown}

    def hosts(self, owner: str, params: Params, now: datetime) -> Body:
        """DescribeAccelerationDomains: return a page of a zone's hosts, by name."""
        zone = self._zone(owner, params)
        offset, limit = params.number("Offset", 0), params.number("Limit", 20)
        wanted: set[str] | None = None
        for condition in params.objects("Filters"):
            if condition.text("Name") != "domain-name":
                raise Refused("InvalidParameter.InvalidFilterName", "The filter is unknown here.")
            wanted = set(condition.texts("Values"))
            condition.done()
        params.done()
        if offset < 0 or not 0 < limit <= MOST_HOSTS:
            raise Refused("InvalidParameter", "The limit is wrong.")
        names = sorted(name for name, host in self._hosts.items() if host.zone is zone)
        own = [self.find(name, now) for name in names if wanted is None or name in wanted]
        page = own[offset : offset + min(limit, self.host_limit)]
        return {
            "TotalCount": len(own),
            "AccelerationDomains": [host.to_wire() for host in page],
        }

    def modify(self, owner: str, params: Params, now: datetime) -> Body:
        """ModifyHostsCertificate: replace the certificates of hosts (§3.2)."""
        zone = self._zone(owner, params)
        names, mode = params.texts("Hosts"), params.text("Mode", "disable")
        entries = params.objects("ServerCertInfo")
        cert_ids = [entry.text("CertId") for entry in entries]
        for entry in entries:
            entry.done()
        params.done()
        if not names or mode not in {"disable", "sslcert"} or (mode == "sslcert") != bool(cert_ids):
            raise Refused("InvalidParameterValue", "The parameters are wrong.")
        certificates = [self._certificate(cert_id, owner) for cert_id in cert_ids]
        kinds = [one.algorithm.partition(" ")[0] for one in certificates]
        if len(set(kinds)) < len(kinds):
            raise Refused("InvalidParameter.InvalidCertInfo", "Two certificates of one kind.")
        hosts = [self._changeable(name, zone, certificates, now) for name in names]
        for host in hosts:
            fails = host.name in self._failing
            self._failing.discard(host.name)
            host.failed = []
            host.change = Change(mode, certificates, now + self.processing_time, fails)
        return {}

    def _zone(self, owner: str, params: Params) -> Zone:
        zone = self._zones.get(params.text("ZoneId"))
        if zone is None or zone.owner != owner:
            raise Refused("ResourceUnavailable.ZoneNotFound", "There is no such zone.")
        return zone

    def _certificate(self, cert_id: str, owner: str) -> StoredCertificate:
        certificate = self._find_certificate(cert_id, owner)
        if certificate is None:
            raise Refused("ResourceUnavailable.CertNotFound", "There is no such certificate.")
        return certificate

    def _changeable(
        self, name: str, zone: Zone, certificates: list[StoredCertificate], now: datetime
    ) -> Host:
        if name.startswith("*."):  # (§3.2)
            raise Refused("InvalidParameterValue", "A wildcard host is not taken.")
        host = self._hosts.get(name)
        if host is None or host.zone is not zone:
            raise Refused("InvalidParameter.HostNotFound", "There is no such host.")
        self._settle(host, now)
        if host.change is not None:
            raise Refused("OperationDenied.DomainStatusUnstable", "It is being changed.")
        if host.status != "online":
            raise Refused("OperationDenied.DomainIsBlocked", "The host is not online.")
        if not all(one.covers(name) for one in certificates):
            raise Refused("InvalidParameter.CertNotMatchDomain", "It lacks the host's name.")
        return host

    def _settle(self, host: Host, now: datetime) -> None:
        change = host.change
        if change is None or host.held or now < change.due:
            return
        host.change = None
        if change.fails:
            before = {one.id for one in host.certificates}
            host.failed = [one for one in change.certificates if one.id not in before]
            return
        host.mode, host.certificates = change.mode, change.certificates
        host.applied.note(change.due, change.certificates[-1] if change.certificates else None)
