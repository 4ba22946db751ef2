"""The CDN domains of an account: listed, read and bound (docs/facts/tencentcloud.md §2)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Struct

from certferry.adapters.cdn.answers import HOST, LONGEST_NAME, name_here, shown_target
from certferry.adapters.cdn.caches import Clock
from certferry.adapters.cdn.failure import rejected
from certferry.adapters.cdn.parts import Entries, Entry, EntryCache, Stored, read_anew, stale
from certferry.adapters.cdn.settling import Settler
from certferry.adapters.tencentcloud.errors import NOT_OPENED, TencentFailure
from certferry.adapters.tencentcloud.tencent_client import (
    CDN,
    Accepted,
    Call,
    Listing,
    TencentClient,
)
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.observed.observation import DomainState
from certferry.errors import DeployError, TargetBusy
from certferry.text import Text

Host: TypeAlias = Annotated[str, msgspec.Meta(pattern=HOST, max_length=LONGEST_NAME)]
Word: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]{1,20}$")]
"""A state in the vendor's word."""
_ID = re.compile(r"[0-9A-Za-z_-]{1,24}", re.ASCII)
"""The form of a certificate's id: eight characters so far."""

PAGE, NAMES_AT_ONCE = 100, 5  # domains on a page, and values of a filter (§2.1)
ON, OFF = "on", "off"
SWITCHED_OFF = frozenset({"offline", "closing"})
KNOWN_STATES = frozenset({"online", "processing", "rejected", *SWITCHED_OFF})
READ_ONLY = frozenset({"SslStatus"})
"""Properties of `Https` that must not be sent (§2.3)."""
THEIR_VERSIONS = {"TLSv1.0": "TLSv1"}
_OUR_VERSIONS = {theirs: ours for ours, theirs in THEIR_VERSIONS.items()}

_SEE_CONSOLE = Text("check the domain in Tencent Cloud's console")
_ICP = Text("the ICP filing is missing or has ended: file the domain, or choose another region")
_BILL = Text("pay the bill in Tencent Cloud's console")
_REASONS = {
    "overdue": _BILL,
    "capping": Text("the limit of the domain's traffic is reached: raise the limit in the console"),
    "idle": Text("the domain was unused for 90 days: switch the domain on in the console"),
    "unlicensed": _ICP,
}
"""What to do about a blocked domain, by `Disable`."""


def shown_id(given: object) -> str | None:
    """Return a certificate's id; `None` for an absent id, and for an id of another form."""
    return given if isinstance(given, str) and _ID.fullmatch(given) else None


class CdnRecord(Struct, frozen=True, rename="pascal"):
    """A domain with its settings, as listed. A change of settings sends `https` and
    `force_redirect` back to Tencent Cloud; both may hold a private key.
    """

    domain: Host
    status: Word | None = None
    disable: Word | None = None
    readonly: Word | None = None
    cname: str | None = None
    https: Mapping[str, Any] | None = None
    force_redirect: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The domain in certferry's spelling."""
        return name_here(self.domain)

    @property
    def is_on(self) -> bool:
        """Whether the domain has HTTPS."""
        return (self.https or {}).get("Switch") == ON

    @property
    def certificate(self) -> str | None:
        """The id of the certificate in the settings, in force or to come."""
        info = (self.https or {}).get("CertInfo")
        return shown_id(info.get("CertId")) if self.is_on and isinstance(info, Mapping) else None

    @property
    def is_deploying(self) -> bool:
        """Whether a certificate is on the way to the edges."""
        return (self.https or {}).get("SslStatus") == "deploying"

    @property
    def settings(self) -> HttpsSettings:
        """The reported settings beside the certificate."""
        https, redirect = self.https or {}, self.force_redirect
        forces = None
        if redirect is not None:
            forces = (redirect.get("Switch"), redirect.get("RedirectType")) == (ON, "https")
        http2, versions = https.get("Http2"), https.get("TlsVersion")
        return HttpsSettings(
            force_https=forces,
            http2=http2 == ON if http2 in {ON, OFF} else None,
            tls_versions=tuple(_spelt(versions)) if isinstance(versions, list) else None,
        )

    @property
    def entry(self) -> Entry:
        """The domain for an observation. A certificate on its way is not bound yet (§2.2)."""
        problem, state = why_unusable(self), DomainState.UNAVAILABLE
        is_off = self.status in SWITCHED_OFF
        if problem is None:
            state = DomainState.READY
            if self.status == "processing" or self.is_deploying:
                state = DomainState.PROCESSING
            elif (self.https or {}).get("SslStatus") == "failed":
                state, problem = DomainState.FAILED, _failed(self.name)
        named = () if self.certificate is None else (self.certificate,)
        return Entry(
            self.name,
            Kind.CDN,
            state,
            self.status or "",
            bound=() if self.is_deploying else named,
            coming=named if self.is_deploying else (),
            https=self.settings,
            problem=problem,
            is_off=is_off,
            cname="" if is_off else shown_target(self.cname),
        )


def _spelt(versions: Iterable[object]) -> Iterator[str]:
    for version in versions:
        if isinstance(version, str) and re.fullmatch(r"(TLS|SSL)v[0-9](\.[0-9])?", version):
            yield _OUR_VERSIONS.get(version, version)


def why_unusable(record: CdnRecord) -> DeployError | None:
    """Return the error of a domain that cannot be changed; `None` for any other domain."""
    name = record.name
    if record.status in SWITCHED_OFF:
        hint = Text("switch the domain on in Tencent Cloud's console, or remove it from `domains`")
        return rejected(Text("{domain} is switched off at the CDN"), hint, domain=name)
    if record.status == "rejected":
        return rejected(Text("the CDN has rejected {domain}"), _ICP, domain=name)
    if record.disable not in {None, "normal"}:
        hint = _REASONS.get(record.disable or "", _SEE_CONSOLE)
        sentence = Text("{domain} is blocked at the CDN ({reason})")
        return rejected(sentence, hint, domain=name, reason=record.disable)
    if record.readonly not in {None, "normal"}:
        hint = Text("ask Tencent Cloud's support to lift the lock")
        return rejected(Text("{domain} is locked at the CDN"), hint, domain=name)
    if record.status not in KNOWN_STATES:
        sentence = Text("certferry does not know the state of {domain} at the CDN")
        return rejected(sentence, _SEE_CONSOLE, domain=name)
    return None


def _failed(name: str) -> DeployError:
    sentence = Text("the CDN could not deploy the certificate of {domain}")
    hint = Text("a later run tries again; Tencent Cloud's console may show the reason")
    return rejected(sentence, hint, domain=name)


def busy(name: str) -> DeployError:
    """Return the error for a domain with a change in progress."""
    sentence = Text("Tencent Cloud is still carrying out an earlier change of {domain}")
    hint = Text("changes take some minutes; a later run continues from here")
    return rejected(sentence, hint, TargetBusy, domain=name)


def no_such_domain(domain: str) -> DeployError:
    """Return the error for a domain that the account lacks."""
    sentence = Text("{domain} is neither a CDN domain nor a host of EdgeOne in the account")
    hint = Text(
        "add the domain in Tencent Cloud's console, or correct `domains`. A key of the"
        " international site needs `cdn`, `ssl` and `teo` of the account (`certferry help"
        " tencentcloud`)"
    )
    return rejected(sentence, hint, domain=domain)


_LIST = Call(CDN, "DescribeDomainsConfig", Text("the list of CDN domains"))
_DOMAINS = Listing(_LIST, "Domains", "TotalNumber", PAGE)


class CdnDomains:
    """A `Part`. Methods raise `TencentFailure`, and `DeployError` about a domain."""

    called, kind = "CDN", Kind.CDN

    def __init__(self, client: TencentClient, settler: Settler, clock: Clock) -> None:
        self._client = client
        self._settler = settler
        self._cache = EntryCache(lambda: (record.entry for record in self._list()), clock)

    def listed(self, names: Collection[str] | None) -> Entries:
        """See `Part.listed`: every domain."""
        del names
        return self._cache.all()

    def read(self, entries: Entries, doubted: Collection[str], stored: Stored) -> Entries:
        """See `Part.read`: a few stale domains by filters, many by the list."""
        del stored
        names = stale(entries, doubted)
        if len(names) > NAMES_AT_ONCE * max(1, self._cache.count // PAGE):
            self._cache.forget()
            current = self._cache.all()
        else:
            current = {name: record.entry for name, record in self._read(names).items()}
            self._cache.note(names, current)
        return read_anew(entries, names, current)

    def bind(self, domain: str, remote_id: str, https: DesiredHttps) -> str | None:
        """Bind a certificate with the desired settings, and switch HTTPS on if HTTPS is off. Return
        the RequestId; `None` if the domain is already as desired, or the id is unknown.
        """
        record = self._read([domain]).get(domain)
        if record is None:
            raise no_such_domain(domain)
        if (problem := why_unusable(record)) is not None:
            raise problem
        if record.entry.state is DomainState.PROCESSING:
            raise busy(domain)
        if _is_in_force(record, remote_id, https):
            return None

        def is_taken() -> str | None:
            # The domain was at rest before the call, so a change in progress is ours.
            now = self._read([domain]).get(domain)
            is_at_work = now is not None and now.entry.state is DomainState.PROCESSING
            is_done = now is not None and _is_in_force(now, remote_id, https)
            return "" if is_at_work or is_done else None

        request_id = self._settler.until_settled(
            lambda: self._change(record, remote_id, https), is_taken
        )
        at_work = msgspec.structs.replace(record.entry, state=DomainState.PROCESSING)
        self._cache.note([domain], {domain: at_work})
        return request_id or None

    def _change(self, record: CdnRecord, remote_id: str, https: DesiredHttps) -> str:
        """Set the certificate alone, or send whole objects where settings change too (§2.3)."""
        what = Text("the change of {domain}", domain=record.name)
        if record.is_on and not _differs(record, https):
            call = Call(CDN, "ModifyDomainConfig", what, is_write=True)
            value = json.dumps({"update": remote_id})
            route = "Https.CertInfo.CertId"
            accepted = self._client.call(
                call, Accepted, Domain=record.domain, Route=route, Value=value
            )
            return accepted.shown
        call = Call(CDN, "UpdateDomainConfig", what, is_write=True)
        objects = wanted_objects(record, remote_id, https)
        return self._client.call(call, Accepted, Domain=record.domain, **objects).shown

    def _list(self) -> Sequence[CdnRecord]:
        try:
            return self._client.pages(_DOMAINS, CdnRecord, lambda record: record.name)
        except TencentFailure as failure:
            if failure.code != NOT_OPENED:
                raise
            return ()

    def _read(self, domains: Collection[str]) -> dict[str, CdnRecord]:
        names, records = sorted(domains), dict[str, CdnRecord]()
        for start in range(0, len(names), NAMES_AT_ONCE):
            filters = [{"Name": "domain", "Value": names[start : start + NAMES_AT_ONCE]}]
            listed = self._client.pages(_DOMAINS, CdnRecord, lambda r: r.name, Filters=filters)
            records |= {record.name: record for record in listed if record.name in domains}
        return records


def _differs(record: CdnRecord, desired: DesiredHttps) -> bool:
    """Return whether a desired setting differs from the reported one."""
    present, versions = record.settings, desired.tls_versions
    return (
        desired.force_https not in {None, present.force_https}
        or desired.http2 not in {None, present.http2}
        or (versions is not None and set(versions) != set(present.tls_versions or ()))
    )


def _is_in_force(record: CdnRecord, remote_id: str, desired: DesiredHttps) -> bool:
    """Return whether the domain has certificate and settings. Return `False` after a failure."""
    return record.entry.bound == (remote_id,) and not (
        record.entry.state is DomainState.FAILED or _differs(record, desired)
    )


def wanted_objects(record: CdnRecord, remote_id: str, desired: DesiredHttps) -> dict[str, Any]:
    """Return the whole objects to send: an omitted property would get its default (§2.3), so the
    present properties are sent back.
    """
    present = {key: value for key, value in (record.https or {}).items() if key not in READ_ONLY}
    https = {key: value for key, value in present.items() if value is not None}
    https |= {"Switch": ON, "CertInfo": {"CertId": remote_id}}
    if desired.http2 is not None:
        https["Http2"] = ON if desired.http2 else OFF
    if desired.tls_versions is not None:
        versions = sorted(desired.tls_versions)
        https["TlsVersion"] = [THEIR_VERSIONS.get(version, version) for version in versions]
    objects: dict[str, Any] = {"Https": https}
    if desired.force_https not in {None, record.settings.force_https}:
        kept = {k: v for k, v in (record.force_redirect or {}).items() if v is not None}
        switched = (
            {"Switch": ON, "RedirectType": "https"} if desired.force_https else {"Switch": OFF}
        )
        objects["ForceRedirect"] = (
            {"RedirectStatusCode": 301, "RedirectType": "https"} | kept | switched
        )
    return objects
