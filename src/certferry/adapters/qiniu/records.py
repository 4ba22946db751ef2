"""Qiniu's requests and answers as Structs: the fields used by certferry
(docs/facts/qiniu.md §4.3, §5.1, §5.2, §6, §7).

Only names and ids are required; every other field may be missing or null. Qiniu holds the private
keys that certferry uploaded, and may quote a key in any field. Therefore certferry shows and stores
a value only if the value's form rules out a key, or masks the value. A field needed unmasked has a
masked form for display, such as `StoredCertificate.label` for `name`.
"""

from __future__ import annotations

import logging
import re
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from certferry.adapters.cdn.answers import HOST, LONGEST_NAME
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.core.redaction import MASK, speech

log = logging.getLogger(__name__)

T = TypeVar("T")


def shown_id(given: str) -> str:
    """Return a certificate's id; a mask for an id of a wrong form, and "" for an empty id."""
    return given if not given or re.match(ID, given) else MASK


_TLS_VERSION = re.compile(r"(TLS|SSL)v[0-9](\.[0-9])?")

KODO = Kind("kodo")  # a source domain of a bucket

PILI = Kind("pili")  # a live domain of a hub

WITHOUT_SETTINGS = frozenset({KODO, PILI})
"""Kinds of domains with a certificate as the only setting."""

ID = r"^[0-9a-z-]{1,36}$"
"""The form of a certificate's or change's id; seen so far: 24 hexadecimal digits (§4.1)."""

Host: TypeAlias = Annotated[str, msgspec.Meta(pattern=HOST, max_length=254)]
Id: TypeAlias = Annotated[str, msgspec.Meta(pattern=ID)]
Container: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,63}$")]
"""The name of a bucket or hub. The name becomes a part of the calls' addresses.

The form is a guess."""


class ListPage(msgspec.Struct, frozen=True):
    """A page of a list, with undecoded entries: a single malformed entry must not hide the others.

    Each API of Qiniu names the entries differently. certferry guesses that Pili sends a `marker` as
    the other APIs do, because Pili's SDK has no paging.
    """

    certs: tuple[msgspec.Raw, ...] | None = None
    domains: tuple[msgspec.Raw, ...] | None = None
    items: tuple[msgspec.Raw, ...] | None = None
    marker: str | None = None

    @property
    def entries(self) -> tuple[msgspec.Raw, ...]:
        """The entries of any API's page; null is an empty page."""
        return self.certs or self.domains or self.items or ()


class CertificateRecord(msgspec.Struct, frozen=True):
    """A certificate in the account's list. Moments are unix seconds."""

    certid: Id
    name: str | None = None
    dnsnames: tuple[str, ...] | None = None
    not_before: int | None = None
    not_after: int | None = None
    create_time: int | None = None

    @property
    def stored(self) -> StoredCertificate:
        """The certificate as a value of `adapters.cdn`."""
        name, moments = self.name or "", (self.not_before, self.not_after, self.create_time)
        return StoredCertificate(self.certid, name, self.dnsnames, *moments)


class UploadBody(msgspec.Struct, frozen=True):
    """The body of an upload. The repr leaves out the private key."""

    name: str
    common_name: str
    #: The fullchain in PEM.
    ca: str
    #: The private key in PEM.
    pri: str

    def __repr__(self) -> str:
        return f"UploadBody({self.name!r})"


class Uploaded(msgspec.Struct, frozen=True):
    """The answer to an upload. The certificate's id is called `certID` here, and `certid` or
    `certId` in other answers.
    """

    cert_id: Id = msgspec.field(name="certID")


class HttpsRecord(msgspec.Struct, frozen=True, rename="camel"):
    """The field `https` of a domain."""

    #: "" for a domain without a certificate.
    cert_id: str | None = None
    force_https: bool | None = None
    http2_enable: bool | None = None
    #: Whether the certificate is Qiniu's own.
    free_cert: bool | None = None
    #: A string in the documents, an array at the server (§5.3).
    tls_versions: tuple[str, ...] | str | None = None

    def __post_init__(self) -> None:
        """Mask a malformed id, and drop malformed TLS versions."""
        msgspec.structs.force_setattr(self, "cert_id", shown_id(self.cert_id or ""))
        given = self.tls_versions or ()
        listed = re.split(r"[,;\s]+", given) if isinstance(given, str) else given
        versions = tuple(sorted(filter(_TLS_VERSION.fullmatch, listed)))
        msgspec.structs.force_setattr(self, "tls_versions", versions or None)

    @property
    def versions(self) -> tuple[str, ...] | None:
        """TLS versions in rising order; `None` if the domain hides the versions."""
        return tuple(self.tls_versions or ()) or None

    @property
    def says_anything(self) -> bool:
        """Whether the record differs from the empty record of a domain without HTTPS (§5.2)."""
        flags = (self.free_cert, self.force_https, self.http2_enable)
        return bool(self.cert_id or self.versions) or any(flags)


class HttpsConf(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of `httpsconf` and `sslize`.

    Flags with a known value are always sent. Users of other programs saw that Qiniu keeps the value
    of an omitted flag, and that `false` switches a flag off (§5.3).
    """

    cert_id: str
    force_https: bool | None = None
    http2_enable: bool | None = None
    tls_versions: tuple[str, ...] | None = None

    def body(self, *, joined: bool) -> dict[str, object]:
        """Return the fields for Qiniu, with TLS versions as an array or `joined` to a string."""
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
"""The forms of a domain's fields (§5.2, §5.6). A value of another form counts as missing."""


class DomainItem(msgspec.Struct, frozen=True, rename="camel"):
    """A CDN or DCDN domain in the list, without certificate and settings.

    Only the name must be well-formed, because the name becomes a part of the calls' addresses.
    """

    name: Host
    type: str | None = None
    product: str | None = None
    cname: str | None = None
    operating_state: Any = None
    operation_type: Any = None
    #: When the last change began: a guess (§5.2).
    modify_at: Any = None
    #: The id of the last change.
    oper_task_id: Any = None
    protocol: Any = None
    operating_state_desc: Any = None
    could_operate_by_self: Any = None
    #: Whether Qiniu treats the domain as frozen, like the state `frozen` (§5.2).
    uid_is_freezed: Any = None
    #: For a `pan` domain: the wildcard domain whose certificate the domain uses.
    pare_domain: Any = None

    def __post_init__(self) -> None:
        """Drop values that do not match `_FORMS`, and mask possible keys in the description,
        because a domain's record is stored in the state.
        """
        for name, form in _FORMS.items():
            value = getattr(self, name)
            if value is not None and not form.fullmatch(str(value)[: LONGEST_NAME + 1]):
                msgspec.structs.force_setattr(self, name, None)
        if self.operating_state_desc is not None:
            words = str(speech(self.operating_state_desc))
            msgspec.structs.force_setattr(self, "operating_state_desc", words)

    @property
    def kind(self) -> Kind:
        """The kind of the domain: the list contains CDN and DCDN domains (§5.1)."""
        return Kind.DCDN if self.product == "dcdn" else Kind.CDN

    @property
    def by_itself(self) -> bool:
        """Whether the domain can have its own certificate, unlike a wildcard's child or a trial."""
        return self.type not in {"pan", "test"}

    @property
    def without_https(self) -> DomainRecord | None:
        """The detail of a domain listed with HTTP only; `None` for any other domain."""
        if self.protocol != "http":
            return None
        try:
            return msgspec.convert(msgspec.to_builtins(self), DomainRecord, strict=False)
        except msgspec.ValidationError:
            return None


class DomainRecord(DomainItem, frozen=True, rename="camel"):
    """The detail of a CDN or DCDN domain, read by name."""

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
        """The id of the bound certificate; `None` if Qiniu shows none: without HTTPS, with hidden
        settings, or for Qiniu's own free certificate (§4.7).
        """
        return (self.https.cert_id or None) if self.https else None

    @property
    def is_free(self) -> bool:
        """Whether the domain serves an unlisted free certificate of Qiniu's own (§4.7)."""
        return self.https is not None and bool(self.https.free_cert)

    @property
    def has_https(self) -> bool:
        """Whether the domain speaks HTTPS. The field `https` alone proves nothing (§5.2)."""
        return self.bound is not None or self.protocol == "https"

    @property
    def hides_https(self) -> bool:
        """Whether the domain speaks HTTPS, but the detail hides the settings in force."""
        return self.has_https and not (self.https is not None and self.https.says_anything)

    @property
    def settings(self) -> HttpsSettings:
        """The settings in force; empty without HTTPS, and for hidden settings."""
        if self.https is None or not self.has_https or self.hides_https:
            return HttpsSettings()
        return HttpsSettings(self.https.force_https, self.https.http2_enable, self.https.versions)


class BucketDomain(msgspec.Struct, frozen=True):
    """A domain of a Kodo bucket (§6.4)."""

    domain: Host
    #: The bucket.
    tbl: str | None = None
    #: 0: CDN domain, 1: source domain, 2: both.
    domaintype: int | None = None
    #: The type in words, in the answer of another call.
    domain_types: tuple[str, ...] | None = None
    #: The reasons for a freeze.
    freeze_types: tuple[str, ...] | None = None

    @property
    def is_source(self) -> bool:
        """Whether Kodo itself serves the domain. An answer without a type comes from the call that
        lists only source domains.
        """
        if self.domain_types is not None:
            return "source" in self.domain_types
        return self.domaintype in {None, 1, 2}


class Binding(msgspec.Struct, frozen=True):
    """A source domain with the id of its certificate."""

    domain: Host
    certid: str

    def __post_init__(self) -> None:
        """Mask a malformed id."""
        msgspec.structs.force_setattr(self, "certid", shown_id(self.certid))


class Hub(msgspec.Struct, frozen=True):
    """A hub (直播空间) in the list."""

    name: Container


class LiveRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A live domain of a hub."""

    domain: Host
    type: str | None = None
    cert_enable: bool | None = None
    #: The certificate's name or id (§7). "" without a certificate, and perhaps with a certificate.
    cert_name: str | None = None
    #: Present only in the domain's detail.
    disable: bool | None = None

    @property
    def bound(self) -> str | None:
        """The certificate's name or id; `None` if Pili gives none. Also `None` while HTTPS is off,
        because a name may remain then (a guess).
        """
        return (self.cert_name or None) if self.cert_enable is not False else None

    @property
    def is_for_rtmp(self) -> bool:
        """Whether the domain serves only RTMP and has no certificate to watch (a guess)."""
        return self.type in {"publishRtmp", "liveRtmp"} and not self.cert_enable
