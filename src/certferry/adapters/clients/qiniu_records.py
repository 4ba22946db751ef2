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


class CertificatePage(msgspec.Struct, frozen=True):
    """A page of the list of certificates, each still to be decoded: an account's other programs
    leave all sorts of things there, and one odd entry must not hide ours.
    """

    certs: tuple[msgspec.Raw, ...] | None = None
    marker: str | None = None


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
    """A domain in the list, which tells neither certificate nor settings. Its name becomes part of
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
        """All that there is to tell of a domain that speaks HTTP alone; `None` where the list does
        not say so, or says something odd.
        """
        if self.protocol != "http":
            return None
        try:
            return msgspec.convert(msgspec.to_builtins(self), DomainRecord, strict=False)
        except msgspec.ValidationError:
            return None


class DomainPage(msgspec.Struct, frozen=True):
    """A page of the list of domains, each still to be decoded."""

    domains: tuple[msgspec.Raw, ...] | None = None
    marker: str | None = None


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
        """Whether the domain speaks HTTPS: `https` alone does not tell (§5.2)."""
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


class Upload(msgspec.Struct, frozen=True):
    """The body of an upload. It holds the private key, so it has no repr of its own."""

    name: str
    common_name: str
    ca: str
    pri: str

    def __repr__(self) -> str:
        return f"Upload({self.name!r})"


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
