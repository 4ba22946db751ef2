"""Answers of CDN, DCDN and the store of certificates as Structs: the fields used by certferry
(docs/facts/aliyun.md §3 to §5).

Only names and ids are required; every other field may be missing or null. Alibaba Cloud holds the
uploaded private keys and may quote a key in any field, so each shown or stored value must match a
form too narrow for a key.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias

import msgspec
from cryptography import x509
from msgspec import Struct, field

from certferry.adapters.cdn.answers import HOST, shown_target
from certferry.adapters.cdn.copies import StoredCertificate
from certferry.core.certificates.certificate import fingerprint
from certferry.core.certificates.names import is_address

Host: TypeAlias = Annotated[str, msgspec.Meta(pattern=HOST, max_length=254)]
CertId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

_STATE = re.compile(r"[a-z]{2,12}(_[a-z]{2,12}){0,3}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)([T ]\d\d:\d\d:\d\d)?Z?", re.ASCII)
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}", re.ASCII)

LATEST_ZONE = timedelta(hours=36)
"""How long after the beginning of a listed day the day is over everywhere: the list gives the day
of a certificate's end, and no time zone (§5.2)."""


def moment(text: str | None) -> datetime | None:
    """Read a moment such as 2018-06-03T22:03:39Z, or a day, as UTC; `None` for another form."""
    match = _MOMENT.fullmatch(text or "")
    if match is None:
        return None
    try:
        return datetime.fromisoformat(f"{match[1]}{match[2] or ''}").replace(tzinfo=UTC)
    except ValueError:
        return None


class DomainItem(Struct, frozen=True, rename="pascal"):
    """A domain in the list of a product."""

    domain_name: Host
    cname: str | None = None
    domain_status: str | None = None
    #: When any setting of the domain was changed last, in the product's spelling.
    gmt_modified: str = ""
    #: Whether HTTPS is on, as CDN spells the field.
    cdn_protocol: str | None = field(default=None, name="SslProtocol")
    #: The same field as DCDN spells it.
    dcdn_protocol: str | None = field(default=None, name="SSLProtocol")

    @property
    def state(self) -> str:
        """The state in the product's word; empty for a missing or malformed state."""
        state = self.domain_status or ""
        return state if _STATE.fullmatch(state) else ""

    @property
    def sign(self) -> str:
        """A digest that changes with the state and with the moment of the last change."""
        return fingerprint(f"{self.domain_status}\0{self.gmt_modified}".encode())

    @property
    def has_https(self) -> bool | None:
        """Whether HTTPS is on; `None` if the list does not say."""
        return {"on": True, "off": False}.get(self.cdn_protocol or self.dcdn_protocol or "")

    @property
    def target(self) -> str:
        """The name that the domain's CNAME should point to; empty unless well-formed."""
        return shown_target(self.cname)


class HttpsItem(Struct, frozen=True, rename="pascal"):
    """A domain in the list of domains with HTTPS."""

    domain_name: Host
    cert_name: str = ""
    cert_type: str = ""
    cert_start_time: str = ""
    cert_expire_time: str = ""
    cert_update_time: str = ""

    @property
    def mark(self) -> str:
        """A digest that changes with the bound certificate: the listed facts, never a name alone
        (§3.2).
        """
        facts = (self.cert_name, self.cert_type, self.cert_start_time, self.cert_expire_time)
        return fingerprint("\0".join((*facts, self.cert_update_time)).encode())


class CertificateInfo(Struct, frozen=True, rename="pascal"):
    """The certificate of one domain (§3.3). CDN and DCDN spell several fields differently."""

    cert_name: str | None = None
    #: Empty for a certificate outside the store.
    cert_id: int | str | None = None
    cert_expire_time: str | None = None
    server_certificate_status: str | None = None
    ssl_protocol: str | None = field(default=None, name="SSLProtocol")
    server_certificate: str | None = None
    ssl_pub: str | None = field(default=None, name="SSLPub")

    @property
    def is_on(self) -> bool:
        """Whether the domain has HTTPS."""
        return (self.server_certificate_status or self.ssl_protocol) != "off"

    @property
    def remote_id(self) -> str | None:
        """The id of the certificate in the store, if the answer has a well-formed id."""
        text = str(self.cert_id or "")
        return text if _ID.fullmatch(text) else None

    @property
    def leaf(self) -> x509.Certificate | None:
        """The certificate, if the answer has its PEM text."""
        pem = self.server_certificate or self.ssl_pub or ""
        try:
            return x509.load_pem_x509_certificate(pem.encode())
        except ValueError:
            return None


class StoredOrder(Struct, frozen=True, rename="pascal"):
    """An uploaded certificate in the list of the store (§5.2)."""

    certificate_id: CertId
    name: str | None = None
    sans: str | None = None
    sha2: str | None = None
    serial_no: str | None = None
    #: The day of the end, where the list lacks the moment.
    end_date: str | None = None
    #: The beginning and the end in milliseconds.
    cert_start_time: int | None = None
    cert_end_time: int | None = None

    @property
    def stored(self) -> StoredCertificate:
        """The certificate as a value of `adapters.cdn`. If the list has only the day of the end,
        the day counts only beside a fingerprint: without a fingerprint, `adapters.cdn.copies`
        compares ends to the second.
        """
        sha2 = self.sha2 if _SHA256.fullmatch(self.sha2 or "") else None
        serial = self.serial_no if _SERIAL.fullmatch(self.serial_no or "") else None
        names = tuple(name.strip() for name in self.sans.split(",")) if self.sans else None
        begins, ends = _seconds(self.cert_start_time), _seconds(self.cert_end_time)
        day = None if sha2 is None else moment(self.end_date)
        if ends is None and day is not None:
            ends = int(day.timestamp())
        return StoredCertificate(
            str(self.certificate_id),
            self.name or "",
            names,
            not_before=begins,
            not_after=ends,
            fingerprint=None if sha2 is None else sha2.lower(),
            serial=None if serial is None else int(serial, 16),
        )

    @property
    def is_over_at(self) -> datetime | None:
        """The moment from which the certificate has surely expired."""
        day = moment(self.end_date)
        return None if day is None else day + LATEST_ZONE


def _seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000


class Uploaded(Struct, frozen=True, rename="pascal"):
    """The answer to an upload."""

    cert_id: CertId


class _Vips(Struct, frozen=True, rename="pascal"):
    vip: tuple[str, ...] | None = None


class Edges(Struct, frozen=True, rename="pascal"):
    """The addresses of a domain's edges."""

    vips: _Vips | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """The well-formed IP addresses, sorted."""
        listed = (self.vips.vip if self.vips else None) or ()
        return tuple(sorted({text for text in listed if is_address(text)}))
