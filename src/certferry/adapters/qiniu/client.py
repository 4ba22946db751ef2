"""Qiniu's API for certificates, CDN domains and bucket domains (docs/facts/qiniu.md §1 to §6).

Where each call is answered and how it is signed stands in `wire`. What binds a Kodo source
domain is in no document (§6.1).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import msgspec

from certferry.adapters.qiniu.errors import Call, QiniuFailure
from certferry.adapters.qiniu.records import (
    HOST,
    BindCertificate,
    Binding,
    BucketDomain,
    CertificateRecord,
    DomainItem,
    DomainRecord,
    HttpsConf,
    UploadBody,
    Uploaded,
    decode_entries,
)
from certferry.adapters.qiniu.transport import (
    ApiCall,
    QiniuTransport,
    encoded,
)
from certferry.adapters.qiniu.wire import SOURCE_FORM, CallGroup, Endpoint, read_reply
from certferry.core.certificates.certificate import short
from certferry.ports.http import Answer
from certferry.text import Text

CERTIFICATES_PER_PAGE = 200  # what a widespread client asks for (§4.2)
DOMAINS_PER_PAGE = 1000  # the most there may be (§5.1)

T = TypeVar("T")
# Null stands for no entries; each entry is still to be decoded.
RawList: Any = tuple[msgspec.Raw, ...] | None


class QiniuClient:
    """One account at Qiniu. Safe to share between threads; raises `QiniuFailure` throughout.

    Reads are repeated when they fail; a write whose answer is lost is reported with `maybe_done`.
    Every list may come as null (§3.3).
    """

    def __init__(self, transport: QiniuTransport) -> None:
        self._transport = transport
        self.pili = PiliClient(transport)
        self._tls_versions_joined = False

    @property
    def transport(self) -> QiniuTransport:
        """How the calls go out."""
        return self._transport

    def list_certificates(self) -> list[CertificateRecord]:
        """List every certificate of the account (§4.2)."""
        call = ApiCall(CallGroup.CERTIFICATES, "GET", "/sslcert", Text("the list of certificates"))
        return self._transport.read_all(
            call, CertificateRecord, lambda record: record.certid, limit=CERTIFICATES_PER_PAGE
        )

    def upload_certificate(self, upload: UploadBody) -> str:
        """Upload a certificate and return its id; the same one twice gets two ids (§4.1)."""
        what = Text("the upload of {label}", label=upload.name)
        call, answer = self._write(CallGroup.CERTIFICATES, "POST", "/sslcert", what, upload)
        return self._transport.content(call, answer, Uploaded).cert_id

    def delete_certificate(self, cert_id: str) -> None:
        """Remove a certificate that nothing is bound to (§4.4)."""
        what = Text("the removal of certificate {id}", id=short(cert_id))
        self._write(CallGroup.CERTIFICATES, "DELETE", f"/sslcert/{cert_id}", what)

    def list_domains(self) -> list[DomainItem]:
        """List every CDN and DCDN domain of the account (§5.1)."""
        call = ApiCall(CallGroup.DOMAINS, "GET", "/domain", Text("the list of domains"))
        return self._transport.read_all(
            call, DomainItem, lambda item: item.name, limit=DOMAINS_PER_PAGE
        )

    def read_domain(self, name: str) -> DomainRecord:
        """Read a domain as it is now (§5.2). A wildcard domain's name begins with a dot."""
        what = Text("the domain {domain}", domain=name)
        return self._read(CallGroup.DOMAINS, f"/domain/{name}", what, DomainRecord)

    def httpsconf(self, name: str, conf: HttpsConf) -> str:
        """Change the certificate or the settings of a domain that has HTTPS; return the X-Reqid
        (§5.3).
        """
        what = Text("the change of {domain}", domain=name)
        return self._configure(f"/domain/{name}/httpsconf", what, conf)

    def sslize(self, name: str, conf: HttpsConf) -> str:
        """Switch HTTPS on for a domain that has none; return the X-Reqid (§5.4)."""
        what = Text("HTTPS for {domain}", domain=name)
        return self._configure(f"/domain/{name}/sslize", what, conf)

    def list_buckets(self) -> list[str]:
        """List the account's Kodo buckets (§6.4)."""
        what = Text("the list of buckets")
        return self._read_list(CallGroup.BUCKETS, "/buckets", what, str)

    def list_bucket_domains(self, bucket: str) -> list[BucketDomain]:
        """List the domains of a bucket; 404 is how Qiniu says that there are none (§6.4)."""

        def path(endpoint: Endpoint) -> str:
            if endpoint.form == SOURCE_FORM:
                return f"/domain?{urlencode({'bucket': bucket, 'type': 'source'})}"
            return f"/v3/domains?{urlencode({'tbl': bucket})}"

        what = Text("the domains of bucket {bucket}", bucket=bucket)
        asked = ApiCall(CallGroup.BUCKET_DOMAINS, "GET", path, what, repeatable=True)
        call, answer = self._transport.send(asked)
        if answer.status == HTTPStatus.NOT_FOUND:
            return []
        self._transport.must_be_success(call, answer)
        return self._list(call, answer, BucketDomain)

    def list_bindings(self) -> list[Binding]:
        """List the source domains that have a certificate, and which (§6.3)."""
        what = Text("the certificates of source domains")
        path = "/cert/bindings"
        return self._read_list(CallGroup.BINDINGS, path, what, Binding, unlisted=True)

    def bind_source(self, domain: str, cert_id: str) -> None:
        """Bind a source domain to a certificate, whatever it is bound to (§6.1)."""
        what = Text("the certificate of source domain {domain}", domain=domain)
        body = BindCertificate(cert_id, domain)
        self._write(CallGroup.BIND, "POST", "/cert/bind", what, body, unlisted=True)

    def _configure(self, path: str, what: Text, conf: HttpsConf) -> str:
        """Send TLS versions in the form that Qiniu wants, found out once for the account (§5.3)."""
        joined = self._tls_versions_joined
        try:
            return self._put(path, what, conf, joined=joined)
        except QiniuFailure as failure:
            if conf.tls_versions is None or not _wants_another_form(failure):
                raise
            request_id = self._put(path, what, conf, joined=not joined)
            self._tls_versions_joined = not joined
            return request_id

    def _put(self, path: str, what: Text, conf: HttpsConf, *, joined: bool) -> str:
        body = _with_versions(conf, joined=joined)
        _, answer = self._write(CallGroup.DOMAINS, "PUT", path, what, body)
        return read_reply(answer).request_id

    def _read(self, group: CallGroup, path: str, what: Text, into: type[T]) -> T:
        return self._transport.read(ApiCall(group, "GET", path, what, repeatable=True), into)

    def _read_list(
        self, group: CallGroup, path: str, what: Text, into: type[T], *, unlisted: bool = False
    ) -> list[T]:
        asked = ApiCall(group, "GET", path, what, repeatable=True, unlisted=unlisted)
        call, answer = self._transport.send(asked)
        self._transport.must_be_success(call, answer)
        return self._list(call, answer, into)

    def _list(self, call: Call, answer: Answer, into: type[T]) -> list[T]:
        """Read a list, or null, whose odd entries are passed over."""
        return decode_entries(self._transport.content(call, answer, RawList), into)

    def _write(
        self,
        group: CallGroup,
        method: str,
        path: str,
        what: Text,
        body: msgspec.Struct | dict[str, object] | None = None,
        *,
        unlisted: bool = False,
    ) -> tuple[Call, Answer]:
        sent = None if body is None else encoded(body)
        return self._transport.write(ApiCall(group, method, path, what, sent, unlisted=unlisted))


def _with_versions(conf: HttpsConf, *, joined: bool) -> dict[str, object]:
    body: dict[str, object] = msgspec.to_builtins(conf)
    if joined and conf.tls_versions is not None:
        body["tlsVersions"] = ",".join(conf.tls_versions)
    return body


def _wants_another_form(failure: QiniuFailure) -> bool:
    """Return whether Qiniu's server could not decode the versions, as Go says it of a field."""
    words = failure.words.lower()
    return "unmarshal" in words and "tlsversions" in words


_HUB = r"^[A-Za-z0-9_.-]+$"
"""What a hub's name may be, since it becomes part of the address of calls [G]."""

RTMP = frozenset({"publishRtmp", "liveRtmp"})
"""Types of domains that are spoken to by RTMP; the others, `liveHls` and `liveHdl`, by HTTP."""


class Hub(msgspec.Struct, frozen=True):
    """A hub (直播空间) in the list."""

    name: Annotated[str, msgspec.Meta(pattern=_HUB)]


class LiveRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A domain of a hub, in the list and by itself; only the latter has `disable`.

    `cert_name` is the name that the certificate was uploaded under, or its id (§7). It is empty
    without a certificate, and may stay empty with one [G].
    """

    domain: Annotated[str, msgspec.Meta(pattern=HOST)]
    type: str | None = None
    cert_enable: bool | None = None
    cert_name: str | None = None
    disable: bool | None = None

    @property
    def bound(self) -> str | None:
        """What names the certificate in force, `None` without one or where Pili hides it. A name
        that remains while HTTPS is off binds nothing [G].
        """
        return (self.cert_name or None) if self.cert_enable is not False else None

    @property
    def hides_binding(self) -> bool:
        """Whether it has a certificate and does not say which."""
        return bool(self.cert_enable) and not self.cert_name

    @property
    def speaks_rtmp(self) -> bool:
        """Whether players or encoders reach it by RTMP, and browsers do not."""
        return self.type in RTMP


class SetCertificate(msgspec.Struct, frozen=True, rename="camel"):
    """The body that binds a domain."""

    cert_name: str


class PiliClient:
    """Pili, for one account. Safe to share between threads; raises `QiniuFailure` throughout."""

    def __init__(self, transport: QiniuTransport) -> None:
        self._transport = transport

    @property
    def is_there(self) -> bool:
        """Whether the account has an address for Pili: a mirror of Qiniu may have none."""
        return self._transport.has(CallGroup.LIVE)

    def list_hubs(self) -> list[str]:
        """List the account's hubs."""
        call = ApiCall(CallGroup.LIVE, "GET", "/v2/hubs", Text("the list of hubs"))
        return [hub.name for hub in self._transport.read_all(call, Hub, lambda hub: hub.name)]

    def list_domains(self, hub: str) -> list[LiveRecord]:
        """List the domains of a hub."""
        what = Text("the domains of hub {hub}", hub=hub)
        call = ApiCall(CallGroup.LIVE, "GET", f"/v2/hubs/{hub}/domains", what)
        return self._transport.read_all(call, LiveRecord, lambda record: record.domain)

    def read_domain(self, hub: str, domain: str) -> LiveRecord:
        """Return a domain as it is now. The answer also holds the keys that its links are signed
        with, which are not read.
        """
        what = Text("the live domain {domain}", domain=domain)
        path = f"/v2/hubs/{hub}/domains/{domain}"
        call = ApiCall(CallGroup.LIVE, "GET", path, what, repeatable=True)
        return self._transport.read(call, LiveRecord)

    def bind(self, hub: str, domain: str, certificate: str) -> str:
        """Bind a domain to the certificate of a name, whatever it is bound to; return X-Reqid."""
        what = Text("the certificate of live domain {domain}", domain=domain)
        body = encoded(SetCertificate(certificate))
        path = f"/v2/hubs/{hub}/domains/{domain}/cert"
        _, answer = self._transport.write(ApiCall(CallGroup.LIVE, "POST", path, what, body))
        return read_reply(answer).request_id
