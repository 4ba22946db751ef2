"""What Qiniu sends and is sent: the fields that certferry uses
(docs/facts/qiniu.md §4.3, §5.1, §5.2, §6, §7).

Everything but what names a thing may be missing or null; a private key is never asked for. Qiniu
holds keys all the same, and may quote one anywhere. So a value that is shown or stored has a form
that leaves no room for a key; a name that is needed as it is has its `shown` beside it.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from certferry.core.certificates.lineage import owner_of
from certferry.core.certificates.names import WILDCARD
from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.core.redaction import MASK, speech

log = logging.getLogger(__name__)

T = TypeVar("T")


def shown_id(given: str) -> str:
    """Return an id of a certificate, which may be empty, or a mask for what is none."""
    return given if not given or re.match(ID, given) else MASK


def shown_name(given: str) -> str:
    """Return the name of a certificate as it may be shown: ours whole, of others' the words."""
    return given if owner_of(given) is not None else speech(given)


_LONGEST = 254  # characters of a name (RFC 1035 §2.3.4), with the leading dot
_TLS_VERSION = re.compile(r"(TLS|SSL)v[0-9](\.[0-9])?")

KODO = Kind("kodo")  # a source domain of a bucket

PILI = Kind("pili")  # a live domain of a hub

WITHOUT_SETTINGS = frozenset({KODO, PILI})
"""Kinds of domains that have a certificate, and nothing else to set."""

HOST = r"^(\*?\.)?([A-Za-z0-9_-][a-z0-9_-]{0,62}\.)+[A-Za-z][a-z0-9-]{1,62}\.?$"
"""As hosts are written, with the leading dot of Qiniu's wildcards (§5.2). Capitals within a word
are Base64's, and no host's."""

ID = r"^[0-9a-z-]{1,36}$"
"""An id of a certificate, or of a change: those known have 24 hexadecimal digits (§4.1)."""

Host: TypeAlias = Annotated[str, msgspec.Meta(pattern=HOST, max_length=254)]
Id: TypeAlias = Annotated[str, msgspec.Meta(pattern=ID)]
Container: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,63}$")]
"""A bucket, or a hub: the name becomes part of the address of calls [G]."""


_PATTERN = re.compile(r"Expected `str` matching regex '.*'")


def decode(body: bytes, into: type[T]) -> T:
    """Read JSON, with numbers as strings too. Raises a `ValueError` that quotes nothing."""
    try:
        return msgspec.json.decode(body, type=into, strict=False)
    except msgspec.ValidationError as problem:
        said = _PATTERN.sub("a value of another form", str(problem))
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


class ListPage(msgspec.Struct, frozen=True):
    """A page of a list, its entries still to be decoded: one odd entry must not hide ours. The SDK
    knows no pages of Pili's lists; a `marker` would be one [G].
    """

    certs: tuple[msgspec.Raw, ...] | None = None
    domains: tuple[msgspec.Raw, ...] | None = None
    items: tuple[msgspec.Raw, ...] | None = None
    marker: str | None = None

    @property
    def entries(self) -> tuple[msgspec.Raw, ...]:
        """The entries, whichever list it is; null stands for none."""
        return self.certs or self.domains or self.items or ()


class CertificateRecord(msgspec.Struct, frozen=True):
    """An upload in the list; moments are unix seconds."""

    certid: Id
    name: str | None = None
    dnsnames: tuple[str, ...] | None = None
    not_before: int | None = None
    not_after: int | None = None
    create_time: int | None = None

    @property
    def label(self) -> str:
        """The name as it may be shown."""
        return shown_name(self.name or "")

    @property
    def shown_names(self) -> tuple[str, ...] | None:
        """The DNS names, without what is none."""
        if self.dnsnames is None:
            return None
        lowered = (name.lower() for name in self.dnsnames)
        return tuple(name for name in lowered if len(name) <= _LONGEST and re.match(HOST, name))

    @property
    def begins(self) -> datetime | None:
        """The moment from which it is valid, `None` when the record does not say."""
        return _moment(self.not_before)

    @property
    def ends(self) -> datetime | None:
        """The moment at which it expires, `None` when the record does not say."""
        return _moment(self.not_after)

    @property
    def age_order(self) -> tuple[int, str]:
        """What puts the oldest of several copies first: every run has to choose the same one."""
        return (self.create_time or 0, self.certid)


def _moment(seconds: int | None) -> datetime | None:
    """Read unix seconds; zero, and a moment outside the calendar, say nothing."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


class UploadBody(msgspec.Struct, frozen=True):
    """The body of an upload. It holds the private key, so it has no repr of its own."""

    name: str
    common_name: str
    ca: str
    pri: str

    def __repr__(self) -> str:
        return f"UploadBody({self.name!r})"


class Uploaded(msgspec.Struct, frozen=True):
    """The answer to an upload. The third spelling of one id, after `certid` and `certId`."""

    cert_id: Id = msgspec.field(name="certID")


class HttpsRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A domain's `https`: an empty `cert_id` means that it has none."""

    cert_id: str | None = None
    force_https: bool | None = None
    http2_enable: bool | None = None
    free_cert: bool | None = None
    # The documents say string, the server wants and gives an array (§5.3).
    tls_versions: tuple[str, ...] | str | None = None

    def __post_init__(self) -> None:
        """Put a mask in the place of an id that is none, and leave out versions that are none."""
        msgspec.structs.force_setattr(self, "cert_id", shown_id(self.cert_id or ""))
        found = self.tls_versions or ()
        listed = re.split(r"[,;\s]+", found) if isinstance(found, str) else found
        versions = tuple(sorted(filter(_TLS_VERSION.fullmatch, listed)))
        msgspec.structs.force_setattr(self, "tls_versions", versions or None)

    @property
    def versions(self) -> tuple[str, ...] | None:
        """TLS versions in rising order, `None` when the domain does not report them."""
        return tuple(self.tls_versions or ()) or None

    @property
    def says_anything(self) -> bool:
        """Whether it is more than what a domain without HTTPS has in its place (§5.2)."""
        flags = (self.free_cert, self.force_https, self.http2_enable)
        return bool(self.cert_id or self.versions) or any(flags)


class HttpsConf(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of `httpsconf` and `sslize`. Known flags are always sent: programs saw them kept
    when left out, and reset when `false` was sent (§5.3).
    """

    cert_id: str
    force_https: bool | None = None
    http2_enable: bool | None = None
    tls_versions: tuple[str, ...] | None = None

    def body(self, *, joined: bool) -> dict[str, object]:
        """Return what is sent, TLS versions as an array or `joined` to a string."""
        fields: dict[str, object] = msgspec.to_builtins(self)
        if joined and self.tls_versions is not None:
            fields["tlsVersions"] = ",".join(self.tls_versions)
        return fields


_FORMS = {
    name: re.compile(form)
    for name, form in {
        "type": "normal|wildcard|pan|test",
        "product": "cdn|dcdn",
        "cname": HOST,
        "operating_state": (
            "success|processing|failed|frozen|notIcpFrozen|offlined|deleted|waitCNAME"
        ),
        "operation_type": r"[a-z]{2,12}(_[a-z]{2,12}){0,4}",
        "modify_at": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)|\d{1,13}",
        "oper_task_id": ID,
        "protocol": "https?",
        "pare_domain": HOST,
    }.items()
}
"""The forms of a domain's values (§5.2, §5.6). A value of another form counts as missing."""


class DomainItem(msgspec.Struct, frozen=True, rename="camel"):
    """A CDN or DCDN domain in the list, without certificate and settings. Its name becomes part of
    addresses, so it has to be one; all else may be anything.
    """

    name: Host
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

    def __post_init__(self) -> None:
        """Leave out what has not its form: the account's memory stores a domain whole."""
        for name, form in _FORMS.items():
            value = getattr(self, name)
            if value is not None and not form.fullmatch(str(value)[: _LONGEST + 1]):
                msgspec.structs.force_setattr(self, name, None)
        if self.operating_state_desc is not None:
            words = str(speech(self.operating_state_desc))
            msgspec.structs.force_setattr(self, "operating_state_desc", words)

    @property
    def kind(self) -> Kind:
        """What it is: DCDN is in the same list (§5.1)."""
        return Kind.DCDN if self.product == "dcdn" else Kind.CDN

    @property
    def by_itself(self) -> bool:
        """Whether it takes a certificate of its own, unlike a wildcard's child or a trial one."""
        return self.type not in {"pan", "test"}

    @property
    def without_https(self) -> DomainRecord | None:
        """The detail of a domain that speaks HTTP alone; `None` unless the list says so."""
        if self.protocol != "http":
            return None
        try:
            return msgspec.convert(msgspec.to_builtins(self), DomainRecord, strict=False)
        except msgspec.ValidationError:
            return None


class DomainRecord(DomainItem, frozen=True, rename="camel"):
    """A CDN or DCDN domain by itself."""

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
        """The id of the certificate in force; Qiniu's own free certificate has none."""
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
        return self.has_https and not (self.https is not None and self.https.says_anything)

    @property
    def settings(self) -> HttpsSettings:
        """The settings in force; none without HTTPS, and none where a domain hides its own."""
        if self.https is None or not self.has_https or self.hides_https:
            return HttpsSettings()
        return HttpsSettings(self.https.force_https, self.https.http2_enable, self.https.versions)


class BucketDomain(msgspec.Struct, frozen=True):
    """A domain of a Kodo bucket (`tbl`); `domaintype` 0 is a CDN domain, 1 a source domain, 2 both
    (§6.4). Another call says the same in `domain_types` (§6.4).
    """

    domain: Host
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
    """A source domain and its certificate. The id is spelled as in the list of certificates."""

    domain: Host
    certid: str

    def __post_init__(self) -> None:
        """Put a mask in the place of an id that is none."""
        msgspec.structs.force_setattr(self, "certid", shown_id(self.certid))


class Hub(msgspec.Struct, frozen=True):
    """A hub (直播空间) in the list."""

    name: Container


class LiveRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A domain of a hub; only by itself it has `disable`. `cert_name` is the certificate's name or
    id (§7), empty without one, and perhaps with one [G].
    """

    domain: Host
    type: str | None = None
    cert_enable: bool | None = None
    cert_name: str | None = None
    disable: bool | None = None

    @property
    def bound(self) -> str | None:
        """The name of the certificate; one that remains while HTTPS is off binds nothing [G]."""
        return (self.cert_name or None) if self.cert_enable is not False else None

    @property
    def is_for_rtmp(self) -> bool:
        """Whether it is reached by RTMP alone, and has no certificate that could expire [G]."""
        return self.type in {"publishRtmp", "liveRtmp"} and not self.cert_enable


def name_at_qiniu(domain: str) -> str:
    """Return a domain as Qiniu spells it, whose wildcards begin with the dot."""
    return domain.removeprefix("*") if domain.startswith(WILDCARD) else domain


def name_here(name: str) -> str:
    """Return a domain of Qiniu's as certferry spells it."""
    lowered = name.lower()
    return f"*{lowered}" if lowered.startswith(".") else lowered
