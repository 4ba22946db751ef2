"""EdgeOne's zones and hosts: listed, read and bound (docs/facts/tencentcloud.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import msgspec
from msgspec import Struct

from certferry.adapters.cdn.answers import name_here, shown_target
from certferry.adapters.cdn.caches import LIST_AGE, Clock, TtlCache
from certferry.adapters.cdn.failure import rejected
from certferry.adapters.cdn.parts import Entries, Entry, EntryCache, Stored, read_anew, stale
from certferry.adapters.cdn.settling import Settler
from certferry.adapters.tencentcloud.cdn import Host, Word, busy, no_such_domain, shown_id
from certferry.adapters.tencentcloud.tencent_client import (
    TEO,
    Accepted,
    Call,
    Listing,
    TencentClient,
)
from certferry.core.certificates.certificate import covered_by, short
from certferry.core.certificates.names import base_name, is_wildcard
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import DomainState
from certferry.errors import DeployError
from certferry.text import Text

EO = Kind("eo")
NAMES_AT_ONCE = 20  # values of a filter (§3.1)
OWN_CERTIFICATES = "sslcert"
BY_CNAME = frozenset({None, "partial", "noDomainAccess"})
"""Types of zones whose hosts are pointed at by CNAMEs; other zones have EdgeOne's name servers."""
FREE = frozenset({"eofreecert", "eofreecert_manual"})
SWITCHED_OFF = frozenset({"offline", "forbidden", "init"})
KNOWN_STATES = frozenset({"online", "process", *SWITCHED_OFF})
IN_FORCE, COMING = "deployed", frozenset({"processing", "applying"})

_SEE_CONSOLE = Text("check the host in the console of EdgeOne")


class _Entry(Struct, frozen=True, rename="pascal"):
    cert_id: str | None = None
    sign_algo: str | None = None
    status: Word | None = None


class _Certificates(Struct, frozen=True, rename="pascal"):
    mode: Word | None = None
    list: tuple[_Entry, ...] | None = None


class ZoneRecord(Struct, frozen=True, rename="pascal"):
    """A zone, as listed."""

    zone_id: str
    zone_name: str | None = None
    #: How DNS leads to the zone's hosts, see `BY_CNAME`.
    type: str | None = None
    paused: bool | None = None

    def may_hold(self, names: Collection[str] | None) -> bool:
        """Return whether a host of the zone may have one of the names. A zone without a domain of
        its own may hold any host; `None` stands for every name.
        """
        zone = (self.zone_name or "").lower()
        return (
            names is None
            or "." not in zone
            or covered_by(names, zone)
            or any(f".{base_name(name)}".endswith(f".{zone}") for name in names)
        )

    def entry(self, record: HostRecord) -> Entry:
        """Return a host of the zone for an observation."""
        return record.entry(paused=bool(self.paused), has_cname=self.type in BY_CNAME)


class HostRecord(Struct, frozen=True, rename="pascal"):
    """A host, as listed."""

    domain_name: Host
    domain_status: Word | None = None
    cname: str | None = None
    certificate: _Certificates | None = None

    @property
    def name(self) -> str:
        """The host in certferry's spelling."""
        return name_here(self.domain_name)

    def certificates(self, *statuses: str) -> Mapping[str, str]:
        """Return the host's own certificates with one of the statuses: the ids, each with the
        algorithm as listed, which may be empty.
        """
        listed = self.certificate or _Certificates()
        if listed.mode != OWN_CERTIFICATES:
            return {}
        return {
            cert_id: entry.sign_algo or ""
            for entry in listed.list or ()
            if (cert_id := shown_id(entry.cert_id)) is not None and entry.status in statuses
        }

    @property
    def is_free(self) -> bool:
        """Whether EdgeOne issued the host's certificate."""
        return self.certificate is not None and self.certificate.mode in FREE

    def entry(self, *, paused: bool, has_cname: bool) -> Entry:
        """Return the host for an observation; `paused` and `has_cname` are facts of the zone."""
        problem, state = self.why_unusable(paused=paused), DomainState.UNAVAILABLE
        is_off = paused or self.domain_status in SWITCHED_OFF
        coming = self.certificates(*COMING)
        if problem is None:
            state = DomainState.READY
            if self.domain_status == "process" or coming:
                state = DomainState.PROCESSING
            elif self.certificates("issued", "failed"):
                state = DomainState.FAILED
                sentence = Text("EdgeOne could not deploy the certificate of {domain}")
                hint = Text("a later run tries again; the console of EdgeOne may show the reason")
                problem = rejected(sentence, hint, domain=self.name)
        return Entry(
            self.name,
            EO,
            state,
            self.domain_status or "",
            bound=tuple(self.certificates(IN_FORCE)),
            coming=tuple(coming),
            has_settings=False,
            problem=problem,
            is_off=is_off,
            is_free=self.is_free,
            cname=shown_target(self.cname) if has_cname and not is_off else "",
        )

    def why_unusable(self, *, paused: bool) -> DeployError | None:
        """Return the error of a host that takes no certificate by the API."""
        if paused or self.domain_status in SWITCHED_OFF:
            hint = Text("switch the host on in the console of EdgeOne, or correct `domains`")
            return rejected(Text("{domain} is switched off at EdgeOne"), hint, domain=self.name)
        if is_wildcard(self.name):
            hint = Text(
                "EdgeOne's API takes no wildcard host: bind the certificate of {domain} in the"
                " console, or leave the host out with `exclude`",
                domain=self.name,
            )
            sentence = Text("certferry cannot bind the wildcard host {domain} of EdgeOne")
            return rejected(sentence, hint, domain=self.name)
        if self.domain_status not in KNOWN_STATES:
            sentence = Text("certferry does not know the state of {domain} at EdgeOne")
            return rejected(sentence, _SEE_CONSOLE, domain=self.name)
        return None


_ZONES = Listing(
    Call(TEO, "DescribeZones", Text("the list of EdgeOne's zones")), "Zones", "TotalCount", 100
)
_HOSTS = Listing(
    Call(TEO, "DescribeAccelerationDomains", Text("the list of EdgeOne's hosts")),
    "AccelerationDomains",
    "TotalCount",
    200,
)
KindOf = Callable[[str], str | None]
"""Returns the kind of key of a stored certificate, `rsa`, `ec` or `sm2`; `None` if unknown."""


def kind_of(algorithm: str) -> str | None:
    """Return the kind of key in the vendor's words, such as `ECC 256`; `None` if unknown."""
    upper = algorithm.upper()
    kinds = {"SM2": "sm2", "RSA": "rsa", "EC": "ec"}
    return next((kind for word, kind in kinds.items() if word in upper), None)


class EdgeHosts:
    """A `Part`. Methods raise `TencentFailure`, and `DeployError` about a host."""

    called, kind = "EdgeOne", EO

    def __init__(
        self, client: TencentClient, settler: Settler, clock: Clock, stored_kind: KindOf
    ) -> None:
        self._client = client
        self._settler = settler
        self._clock = clock
        self._stored_kind = stored_kind
        self._zones = TtlCache(self._list_zones, LIST_AGE, clock)
        self._hosts: dict[str, EntryCache] = {}

    def listed(self, names: Collection[str] | None) -> Entries:
        """See `Part.listed`: the hosts of the zones that may have the names."""
        entries: dict[str, Entry] = {}
        for zone in self._zones_of(names):
            entries |= self._cache(zone).all()
        return entries

    def read(self, entries: Entries, doubted: Collection[str], stored: Stored) -> Entries:
        """See `Part.read`."""
        del stored
        names, current = stale(entries, doubted), dict[str, Entry]()
        for zone in self._zones_of(names) if names else ():
            here = {name for name in names if zone.may_hold([name])}
            records = self._read(zone, here)
            current |= {name: zone.entry(record) for name, record in records.items()}
            self._cache(zone).note(here, {n: e for n, e in current.items() if n in records})
        return read_anew(entries, names, current)

    def bind(self, domain: str, remote_id: str, ours: Collection[str]) -> str | None:
        """Bind a certificate, and keep the host's certificates with other kinds of keys. `ours` are
        the ids of certferry's copies. Return the RequestId; `None` if the host has the certificate,
        or the id is unknown.
        """
        place = self._find(domain)
        if place is None:
            raise no_such_domain(domain)
        zone, record = place
        entry = zone.entry(record)
        if entry.state is DomainState.UNAVAILABLE and entry.problem is not None:
            raise entry.problem
        if entry.state is DomainState.PROCESSING:
            raise busy(domain)
        if remote_id in entry.bound and entry.state is not DomainState.FAILED:
            return None
        kept = self._of_other_kinds(record, remote_id, ours)
        what = Text("the certificate of {domain}", domain=domain)
        call = Call(TEO, "ModifyHostsCertificate", what, is_write=True)

        def write() -> str:
            ids = [{"CertId": cert_id} for cert_id in (*kept, remote_id)]
            params = {"ZoneId": zone.zone_id, "Hosts": [record.domain_name]}
            return self._client.call(
                call, Accepted, **params, Mode=OWN_CERTIFICATES, ServerCertInfo=ids
            ).shown

        def is_taken() -> str | None:
            now = self._read(zone, {domain}).get(domain)
            shown = () if now is None else now.certificates(IN_FORCE, *COMING)
            is_at_work = now is not None and now.domain_status == "process"
            return "" if remote_id in shown or is_at_work else None

        request_id = self._settler.until_settled(write, is_taken)
        at_work = msgspec.structs.replace(entry, state=DomainState.PROCESSING, coming=(remote_id,))
        self._cache(zone).note([domain], {domain: at_work})
        return request_id or None

    def _of_other_kinds(
        self, record: HostRecord, remote_id: str, ours: Collection[str]
    ) -> list[str]:
        """Return the host's certificates with other kinds of keys than the certificate to bind: the
        call replaces all certificates (§3.2). If kinds are unknown, copies of certferry's are
        replaced; for a certificate of another owner, raise `TargetRejected`.
        """
        kept, new = list[str](), self._stored_kind(remote_id)
        for cert_id, algorithm in record.certificates(IN_FORCE).items():
            kind = self._stored_kind(cert_id) or kind_of(algorithm)
            if cert_id == remote_id or (cert_id in ours and None in {kind, new}):
                continue
            if kind is None or new is None:
                sentence = Text(
                    "Tencent Cloud does not show whether certificate {id} of {domain} has the same"
                    " kind of key as the new certificate"
                )
                hint = Text("remove certificate {id} from the host in the console of EdgeOne")
                values = {"id": short(cert_id), "domain": record.name}
                raise rejected(sentence, hint.filled(id=short(cert_id)), **values)
            if kind != new:
                kept.append(cert_id)
        return kept

    def _find(self, domain: str) -> tuple[ZoneRecord, HostRecord] | None:
        for zone in self._zones_of([domain]):
            if (record := self._read(zone, {domain}).get(domain)) is not None:
                return zone, record
        return None

    def _zones_of(self, names: Collection[str] | None) -> list[ZoneRecord]:
        return [zone for zone in self._zones.get() if zone.may_hold(names)]

    def _cache(self, zone: ZoneRecord) -> EntryCache:
        fetch = partial(self._list, zone)
        return self._hosts.setdefault(zone.zone_id, EntryCache(fetch, self._clock))

    def _list_zones(self) -> list[ZoneRecord]:
        return self._client.pages(_ZONES, ZoneRecord, lambda zone: zone.zone_id)

    def _list(self, zone: ZoneRecord) -> list[Entry]:
        listed = self._client.pages(_HOSTS, HostRecord, lambda r: r.name, ZoneId=zone.zone_id)
        return [zone.entry(record) for record in listed]

    def _read(self, zone: ZoneRecord, domains: Collection[str]) -> dict[str, HostRecord]:
        names, records = sorted(domains), dict[str, HostRecord]()
        for start in range(0, len(names), NAMES_AT_ONCE):
            chosen = names[start : start + NAMES_AT_ONCE]
            params = {"Filters": [{"Name": "domain-name", "Values": chosen}]}
            listed = self._client.pages(
                _HOSTS, HostRecord, lambda r: r.name, ZoneId=zone.zone_id, **params
            )
            records |= {record.name: record for record in listed if record.name in domains}
        return records
