"""What Qiniu sends and is sent: the fields that certferry uses
(docs/facts/qiniu.md §4.3, §5.1, §5.2).

Everything but what names a thing may be missing or null; a private key is never asked for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec

from certferry.core.certificates.names import WILDCARD
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.observed.records import TargetTask
from certferry.core.redaction import quoted, quoted_code
from certferry.errors import DeployError, TargetBusy, TargetRejected
from certferry.text import LINEAGE, Text

log = logging.getLogger(__name__)

T = TypeVar("T")


def decode(body: bytes, into: type[T]) -> T:
    """Read JSON, where numbers may be written as strings. Raises `ValueError` that says what is
    wrong where, and quotes nothing.
    """
    try:
        return msgspec.json.decode(body, type=into, strict=False)
    except msgspec.ValidationError as problem:
        said = str(problem)
        raise ValueError(said if "`$" in said else f"{said} - at `$`") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ValueError(str(problem)) from None


def decode_entry(raw: msgspec.Raw, into: type[T]) -> T | None:
    """Read an entry of a list, `None` for an odd one."""
    try:
        return decode(bytes(raw), into)
    except ValueError as problem:
        log.debug("an entry of a list is passed over: %s", problem)
        return None


def decode_entries(raws: Iterable[msgspec.Raw] | None, into: type[T]) -> list[T]:
    """Read a list, or null, whose odd entries are passed over."""
    return [item for raw in raws or () if (item := decode_entry(raw, into)) is not None]


class CertificateRecord(msgspec.Struct, frozen=True):
    """An upload in the list; moments are unix seconds."""

    certid: str
    name: str | None = None
    dnsnames: tuple[str, ...] | None = None
    not_before: int | None = None
    not_after: int | None = None
    create_time: int | None = None

    @property
    def begins(self) -> datetime | None:
        """The moment from which it is valid, `None` when the record does not say."""
        return _moment(self.not_before)

    @property
    def ends(self) -> datetime | None:
        """The moment at which it expires, `None` when the record does not say."""
        return _moment(self.not_after)


def _moment(seconds: int | None) -> datetime | None:
    """Read unix seconds; zero, and a moment outside the calendar, say nothing."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


class ListPage(msgspec.Struct, frozen=True):
    """A page of certificates, domains, hubs (`items`) or live domains, each still to be decoded: an
    account's other programs leave all sorts of things there, and one odd entry must not hide ours.
    The SDK knows no pages of Pili's lists; a `marker` would be one [G].
    """

    certs: tuple[msgspec.Raw, ...] | None = None
    domains: tuple[msgspec.Raw, ...] | None = None
    items: tuple[msgspec.Raw, ...] | None = None
    marker: str | None = None

    @property
    def entries(self) -> tuple[msgspec.Raw, ...]:
        """The entries, whichever list it is; null stands for none."""
        return self.certs or self.domains or self.items or ()


class Uploaded(msgspec.Struct, frozen=True):
    """The answer to an upload. The third spelling of one id, after `certid` and `certId`."""

    cert_id: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="certID")


class HttpsRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A domain's `https`: an empty `cert_id` means that it has none."""

    cert_id: str | None = None
    force_https: bool | None = None
    http2_enable: bool | None = None
    free_cert: bool | None = None
    # The documents say string, the server wants and gives an array (§5.3).
    tls_versions: tuple[str, ...] | str | None = None

    @property
    def versions(self) -> tuple[str, ...] | None:
        """TLS versions in rising order, `None` when the domain does not report them."""
        found = self.tls_versions or ()
        listed = re.split(r"[,;\s]+", found) if isinstance(found, str) else found
        return tuple(sorted(version for version in listed if version)) or None

    @property
    def tells_anything(self) -> bool:
        """Whether it is more than what a domain without HTTPS has in its place (§5.2)."""
        flags = (self.free_cert, self.force_https, self.http2_enable)
        return bool(self.cert_id or self.versions) or any(flags)


HOST = r"^(\*?\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$"
"""As hosts are written, with the leading dot of Qiniu's wildcards (§5.2)."""


class DomainItem(msgspec.Struct, frozen=True, rename="camel"):
    """A domain in the list, which shows neither certificate nor settings. Its name becomes part of
    the address of every call about it, so it has to be one; all else may be anything.
    """

    name: Annotated[str, msgspec.Meta(pattern=HOST)]
    type: str | None = None
    product: str | None = None
    cname: str | None = None
    operating_state: Any = None
    operation_type: Any = None
    modify_at: Any = None
    oper_task_id: Any = None
    protocol: Any = None
    operating_state_desc: Any = None
    could_operate_by_self: Any = None
    uid_is_freezed: Any = None
    pare_domain: Any = None

    @property
    def without_https(self) -> DomainRecord | None:
        """The detail of a domain that speaks HTTP alone; `None` where the list does
        not say so, or says something odd.
        """
        if self.protocol != "http":
            return None
        try:
            return msgspec.convert(msgspec.to_builtins(self), DomainRecord, strict=False)
        except msgspec.ValidationError:
            return None


class DomainRecord(DomainItem, frozen=True, rename="camel"):
    """A CDN or DCDN domain."""

    name: str
    operating_state: str | None = None
    operation_type: str | None = None
    operating_state_desc: str | None = None
    protocol: str | None = None
    could_operate_by_self: bool | None = None
    uid_is_freezed: bool | None = None
    pare_domain: str | None = None
    https: HttpsRecord | None = None

    @property
    def bound(self) -> str | None:
        """The id of the certificate in force, `None` without HTTPS and with a free certificate
        of Qiniu's own, which has no id.
        """
        return (self.https.cert_id or None) if self.https else None

    @property
    def is_free(self) -> bool:
        """Whether its certificate is one of Qiniu's own, which no list has (§4.7)."""
        return self.https is not None and bool(self.https.free_cert)

    @property
    def has_https(self) -> bool:
        """Whether the domain speaks HTTPS: `https` alone does not show it (§5.2)."""
        return self.bound is not None or self.protocol == "https"

    @property
    def hides_https(self) -> bool:
        """Whether it speaks HTTPS and does not say how: guessed settings would replace its own."""
        return self.has_https and not (self.https is not None and self.https.tells_anything)


class HttpsConf(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of `httpsconf` and `sslize`. The flags are sent wherever they are known: programs
    saw them kept when they were left out, and reset when `false` was sent (§5.3).
    """

    cert_id: str
    force_https: bool | None = None
    http2_enable: bool | None = None
    tls_versions: tuple[str, ...] | None = None


class UploadBody(msgspec.Struct, frozen=True):
    """The body of an upload. It holds the private key, so it has no repr of its own."""

    name: str
    common_name: str
    ca: str
    pri: str

    def __repr__(self) -> str:
        return f"UploadBody({self.name!r})"


class BucketDomain(msgspec.Struct, frozen=True):
    """A domain of a Kodo bucket (`tbl`); `domaintype` 0 is a CDN domain, 1 a source domain, 2 both
    (§6.4). Another call says the same in `domain_types` (§6.4).
    """

    domain: str
    tbl: str | None = None
    domaintype: int | None = None
    domain_types: tuple[str, ...] | None = None
    freeze_types: tuple[str, ...] | None = None

    @property
    def is_source(self) -> bool:
        """Whether Kodo itself serves it. What `type=source` lists without a type is one."""
        if self.domain_types is not None:
            return "source" in self.domain_types
        return self.domaintype in {None, 1, 2}


class Binding(msgspec.Struct, frozen=True):
    """A source domain and the certificate that it is bound to. The id is spelled as in the list of
    certificates.
    """

    domain: str
    certid: str


class BindCertificate(msgspec.Struct, frozen=True):
    """The body of `/cert/bind`."""

    certid: str
    domain: str


NOT_SERVED_BY_ITSELF = frozenset({"pan", "test"})
"""Types of domains that take no certificate: children of a wildcard domain, and trial domains."""

_FROZEN = frozenset({"frozen", "notIcpFrozen"})
SWITCHED_OFF = frozenset({"offlined", "deleted", *_FROZEN})
"""States of domains that serve no visitors until the operator acts at Qiniu (§5.6)."""

_STATES = {
    "success": DomainState.READY,
    "processing": DomainState.PROCESSING,
    "failed": DomainState.FAILED,
}


_AT_WORK = {DomainState.PROCESSING, DomainState.FAILED}


def name_at_qiniu(domain: str) -> str:
    """Return a domain as Qiniu spells it, whose wildcards begin with the dot."""
    return domain.removeprefix("*") if domain.startswith(WILDCARD) else domain


def name_here(name: str) -> str:
    """Return a domain of Qiniu's as certferry spells it."""
    lowered = name.lower()
    return f"*{lowered}" if lowered.startswith(".") else lowered


def kind_of(item: DomainItem | DomainRecord) -> Kind:
    """Return what a domain of the CDN's is: DCDN is in the same list (§5.1)."""
    return Kind.DCDN if item.product == "dcdn" else Kind.CDN


def observe(domain: str, record: DomainRecord) -> ObservedDomain:
    """Return what Qiniu shows of a domain."""
    unusable = why_unusable(domain, record)
    state = _STATES.get(record.operating_state or "", DomainState.UNAVAILABLE)
    return ObservedDomain(
        domain=domain,
        kind=kind_of(record),
        state=state if unusable is None else DomainState.UNAVAILABLE,
        bound=record.bound,
        https=settings_of(record),
        problem=unusable or failed_change(record),
        binding_hidden=record.hides_https,
        task=_task(record) if state in _AT_WORK else None,
    )


def _task(record: DomainRecord) -> TargetTask:
    """Return the change in progress, or the last one: a ticket quotes it. That
    `modifyAt` is when it began is a guess from what the field is called; our own record counts
    beside it (§5.2).
    """
    return TargetTask(
        state=quoted(record.operating_state or ""),
        operation=quoted(record.operation_type or "") or None,
        since=_moment_written(record.modify_at),
        number=quoted_code(str(record.oper_task_id or "")) or None,
    )


def _moment_written(written: object) -> datetime | None:
    """Read RFC 3339; anything else, or a moment without offset, says nothing."""
    try:
        moment = datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def unavailable(domain: str, kind: Kind, error: DeployError) -> ObservedDomain:
    """Return a domain that cannot be seen or changed, and why."""
    return ObservedDomain(domain, kind, DomainState.UNAVAILABLE, problem=error)


def why_unusable(domain: str, record: DomainRecord) -> DeployError | None:
    """Return why a domain cannot be changed, however long one waits; `None` when it can."""
    if record.type == "pan":
        parent = name_here(record.pare_domain or "")
        return TargetRejected(
            Text("{domain} takes its certificate from {parent}", domain=domain, parent=parent),
            hint=Text("name the wildcard domain under `domains` in its place"),
        )
    if record.type == "test":
        return TargetRejected(
            Text("{domain} is a trial domain of Qiniu's own", domain=domain),
            hint=Text("name a domain of yours under `domains`"),
        )
    state = "frozen" if record.uid_is_freezed else record.operating_state or ""
    if state in _UNUSABLE:
        sentence, hint = _UNUSABLE[state]
        return TargetRejected(sentence.filled(domain=domain), hint=hint)
    return _why_not_by_self(domain, record)


_IS_FROZEN = (
    Text("{domain} is frozen at Qiniu"),
    Text("Qiniu's console says why (unpaid bill, ICP filing, content); lift that first"),
)
_UNUSABLE = {
    **dict.fromkeys(_FROZEN, _IS_FROZEN),
    "offlined": (
        Text("{domain} is offline at Qiniu"),
        Text("bring it online in Qiniu's console, or take it out of `domains`"),
    ),
    "deleted": (
        Text("{domain} is deleted at Qiniu"),
        Text("add it in Qiniu's console under CDN, or correct `domains`"),
    ),
    "waitCNAME": (
        Text("{domain} waits at Qiniu for its CNAME"),
        Text("set the CNAME that Qiniu's console shows for the domain, and wait for it to be seen"),
    ),
}


def _why_not_by_self(domain: str, record: DomainRecord) -> DeployError | None:
    # While a change is carried out, whether another would be allowed says nothing about later.
    if record.operating_state == "processing":
        return None
    if record.could_operate_by_self is False:
        return TargetRejected(
            Text("{domain} cannot be changed by self-service at Qiniu", domain=domain),
            hint=Text("ask Qiniu's support, with the name of the domain, to lift the restriction"),
        )
    if record.operating_state not in _STATES:
        return TargetRejected(
            Text(
                "{domain} is {state} at Qiniu",
                domain=domain,
                state=quoted(record.operating_state or "—"),
            ),
            hint=Text("look at the domain in Qiniu's console"),
        )
    return None


def must_be_at_rest(domain: str, record: DomainRecord) -> None:
    """Refuse to write to a domain that Qiniu works on, or that cannot be changed.

    Raises `TargetBusy`, `TargetRejected`.
    """
    unusable = why_unusable(domain, record)
    if unusable is not None:
        raise unusable
    if record.operating_state == "processing":
        raise TargetBusy(
            Text(
                "Qiniu is still carrying out an earlier change of {domain} ({operation})",
                domain=domain,
                operation=quoted(record.operation_type or "—"),
            ),
            hint=Text(
                "changes take 5 to 15 minutes, at times hours; a later run goes on from here"
            ),
        )


def wanted_conf(record: DomainRecord, cert_id: str, desired: DesiredHttps) -> HttpsConf:
    """Return what to send: the certificate, the desired settings, and all others as they are. What
    the domain does not show is not sent: a guess would replace it (§5.3).
    """
    if not record.has_https:
        return first_conf(cert_id, desired)
    found = settings_of(record)
    return HttpsConf(
        cert_id=cert_id,
        force_https=_first(desired.force_https, found.force_https),
        http2_enable=_first(desired.http2, found.http2),
        tls_versions=desired.tls_versions or found.tls_versions,
    )


def first_conf(cert_id: str, desired: DesiredHttps) -> HttpsConf:
    """Return what to send to switch HTTPS on: visitors are redirected only if that is declared."""
    return HttpsConf(
        cert_id=cert_id,
        force_https=bool(desired.force_https),
        http2_enable=bool(desired.http2),
        tls_versions=desired.tls_versions,
    )


def is_in_force(record: DomainRecord, conf: HttpsConf) -> bool:
    """Return whether a domain is as desired already. One whose change failed may show the desired
    settings and serve others.
    """
    found = settings_of(record)
    versions = None if conf.tls_versions is None else tuple(sorted(conf.tls_versions))
    return (
        record.operating_state != "failed"
        and record.bound == conf.cert_id
        and conf.force_https in {None, bool(found.force_https)}
        and conf.http2_enable in {None, bool(found.http2)}
        and found.tls_versions == versions
    )


def _first(wanted: bool | None, found: bool | None) -> bool | None:  # noqa: FBT001 - two of a kind
    return found if wanted is None else wanted


def settings_of(record: DomainRecord) -> HttpsSettings:
    """Read the settings. Those of a domain without HTTPS are not in force and say nothing; neither
    do those that stand where a domain hides its own.
    """
    if record.https is None or not record.has_https or record.hides_https:
        return HttpsSettings()
    return HttpsSettings(
        force_https=record.https.force_https,
        http2=record.https.http2_enable,
        tls_versions=record.https.versions,
    )


def failed_change(record: DomainRecord) -> DeployError | None:
    """Return why the last change of a domain failed, `None` when it did not."""
    if record.operating_state != "failed":
        return None
    description = record.operating_state_desc or "—"
    return TargetRejected(
        Text(
            "Qiniu could not carry out {operation}: {description}",
            operation=quoted(record.operation_type or "—"),
            # Known words are no foreign ones, and the history may keep them.
            description=description if description in _ADVICE else quoted(description),
        ),
        hint=_ADVICE.get(description, _LOOK),
    )


_LOOK = Text("look at the domain in Qiniu's console, or ask its support")
_ADVICE = {
    "verify https crt fail": Text(
        "Qiniu rejected the certificate; a new one is needed: `certferry sync --renew"
        " {lineage}`, or from the client that makes it",
        lineage=LINEAGE,
    ),
    "domain have no icp": Text(
        "domains served in mainland China need an ICP filing: file it, or set another area"
    ),
}
