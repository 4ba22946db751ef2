"""Qiniu's API for certificates, CDN domains and bucket domains (Qiniu fact sheet §1 to §6).

Certificates are asked for at the fusion host under QBox, domains at the api host under Qiniu,
buckets at the uc host under Qiniu, as the documents of 2026 say. What binds a Kodo source domain
is in no document, and lives at the api host (§6).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from certferry.adapters.clients.http import TIMEOUTS as HTTP_TIMEOUTS
from certferry.adapters.clients.http import Answer, HttpClient, HttpFailure, Request
from certferry.adapters.clients.http_problems import Timeouts
from certferry.adapters.clients.pacing import Pacer
from certferry.adapters.clients.qiniu_errors import (
    IAM_PREFIX,
    Call,
    QiniuFailure,
    explain_failure,
    explain_nonsense,
    explain_refusal,
    read_reply,
    too_many,
)
from certferry.adapters.clients.qiniu_records import (
    BindCertificate,
    Binding,
    BucketDomain,
    CertificatePage,
    CertificateRecord,
    DomainItem,
    DomainPage,
    DomainRecord,
    HttpsConf,
    Upload,
    Uploaded,
    decode,
)
from certferry.adapters.clients.qiniu_signing import Keys, sign_qbox, sign_qiniu
from certferry.ports.progress import Pause
from certferry.text import Text

JSON = {"Content-Type": "application/json"}

# Requests per second and account (§9). Of uc nothing is said, so it is treated like api.
API_RATE = 10
FUSION_RATE = 5
UC_RATE = 10

CERTIFICATES_PER_PAGE = 200  # what a widespread client asks for (§4.2)
DOMAINS_PER_PAGE = 1000  # the most there may be (§5.1)

log = logging.getLogger(__name__)

T = TypeVar("T")
Page = tuple[tuple[msgspec.Raw, ...], str]  # the entries, and the marker of the next page
Sign = Callable[[Request], Request]


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where Qiniu is: base URLs, without a slash at the end."""

    api: str
    fusion: str
    uc: str


@dataclass(frozen=True, slots=True)
class _Service:
    url: str
    http: HttpClient
    sign: Sign


class QiniuClient:
    """One account at Qiniu. Safe to share between threads; raises `QiniuFailure` throughout.

    `now` is the wall clock that signatures are dated by, `clock` the one that requests are paced
    by: it counts seconds and never goes back. Reads are repeated when they fail;
    a write whose answer is lost is reported with `maybe_done`.
    """

    def __init__(
        self,
        keys: Keys,
        hosts: Hosts,
        *,
        pause: Pause,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        timeouts: Timeouts = HTTP_TIMEOUTS,
    ) -> None:
        self._now = now
        self._with_iam_key = keys.access_key.reveal().startswith(IAM_PREFIX)
        self._let_in = False
        self._tls_versions_joined = False
        rates: dict[str, float] = {}
        for url, rate in ((hosts.api, API_RATE), (hosts.fusion, FUSION_RATE), (hosts.uc, UC_RATE)):
            rates[url] = min(rate, rates.get(url, rate))
        https = {
            url: HttpClient(
                pace=Pacer(rate, clock=clock, pause=pause),
                pause=pause,
                timeouts=timeouts,
                too_many=too_many,
            )
            for url, rate in rates.items()
        }
        qbox = partial(sign_qbox, keys=keys)

        def qiniu(request: Request) -> Request:
            return sign_qiniu(request, keys, now())

        self._fusion = _Service(hosts.fusion, https[hosts.fusion], qbox)
        self._api = _Service(hosts.api, https[hosts.api], qiniu)
        self._uc = _Service(hosts.uc, https[hosts.uc], qiniu)

    def list_certificates(self) -> list[CertificateRecord]:
        """Give every certificate of the account (§4.2)."""

        def page(marker: str) -> Page:
            path = f"/sslcert?{_paging(marker, CERTIFICATES_PER_PAGE)}"
            what = Text("the list of certificates")
            found = self._read(self._fusion, path, what, CertificatePage)
            return found.certs or (), found.marker or ""

        return _all_pages(page, CertificateRecord, lambda record: record.certid)

    def upload_certificate(self, upload: Upload) -> str:
        """Upload a certificate and give its id; the same one twice gets two ids (§4.1)."""
        what = Text("the upload of {label}", label=upload.name)
        call, answer = self._write(self._fusion, "POST", "/sslcert", what, upload)
        return self._content(call, answer, Uploaded).cert_id

    def delete_certificate(self, cert_id: str) -> None:
        """Remove a certificate that nothing is bound to (§4.4)."""
        what = Text("the removal of certificate {id}", id=cert_id)
        self._write(self._fusion, "DELETE", f"/sslcert/{cert_id}", what)

    def list_domains(self) -> list[DomainItem]:
        """Give every CDN and DCDN domain of the account (§5.1)."""

        def page(marker: str) -> Page:
            path = f"/domain?{_paging(marker, DOMAINS_PER_PAGE)}"
            found = self._read(self._api, path, Text("the list of domains"), DomainPage)
            return found.domains or (), found.marker or ""

        return _all_pages(page, DomainItem, lambda item: item.name)

    def read_domain(self, name: str) -> DomainRecord:
        """Give a domain as it is now (§5.2). A wildcard domain's name begins with a dot."""
        what = Text("the domain {domain}", domain=name)
        return self._read(self._api, f"/domain/{name}", what, DomainRecord)

    def httpsconf(self, name: str, conf: HttpsConf) -> None:
        """Change the certificate or the settings of a domain that has HTTPS (§5.3)."""
        what = Text("the change of {domain}", domain=name)
        self._configure(f"/domain/{name}/httpsconf", what, conf)

    def sslize(self, name: str, conf: HttpsConf) -> None:
        """Switch HTTPS on for a domain that has none (§5.4)."""
        self._configure(f"/domain/{name}/sslize", Text("HTTPS for {domain}", domain=name), conf)

    def list_buckets(self) -> list[str]:
        """Give the names of the account's Kodo buckets (§6)."""
        return self._read(self._uc, "/buckets", Text("the list of buckets"), list[str])

    def list_bucket_domains(self, bucket: str) -> list[BucketDomain]:
        """Give the domains of a bucket; 404 is how Qiniu says that there are none (§6)."""
        what = Text("the domains of bucket {bucket}", bucket=bucket)
        path = f"/v3/domains?{urlencode({'tbl': bucket})}"
        call, answer = self._exchange(self._uc, Request("GET", path), what, repeatable=True)
        if answer.status == HTTPStatus.NOT_FOUND:
            return []
        return self._content(call, answer, list[BucketDomain])

    def list_bindings(self) -> list[Binding]:
        """Give the source domains that have a certificate, and which (§6)."""
        what = Text("the certificates of source domains")
        return self._read(self._api, "/cert/bindings", what, list[Binding], unlisted=True)

    def bind_source(self, domain: str, cert_id: str) -> None:
        """Bind a source domain to a certificate, whatever it is bound to (§6)."""
        what = Text("the certificate of source domain {domain}", domain=domain)
        body = BindCertificate(cert_id, domain)
        self._write(self._api, "POST", "/cert/bind", what, body, unlisted=True)

    def _configure(self, path: str, what: Text, conf: HttpsConf) -> None:
        """Send TLS versions in the form that Qiniu wants, found out once for the account (§5.3)."""
        joined = self._tls_versions_joined
        try:
            self._write(self._api, "PUT", path, what, _with_versions(conf, joined=joined))
        except QiniuFailure as failure:
            if conf.tls_versions is None or not _wants_another_form(failure):
                raise
            self._write(self._api, "PUT", path, what, _with_versions(conf, joined=not joined))
            self._tls_versions_joined = not joined

    def _read(
        self, service: _Service, path: str, what: Text, into: type[T], *, unlisted: bool = False
    ) -> T:
        request = Request("GET", path)
        call, answer = self._exchange(service, request, what, repeatable=True, unlisted=unlisted)
        return self._content(call, answer, into)

    def _write(
        self,
        service: _Service,
        method: str,
        path: str,
        what: Text,
        body: msgspec.Struct | dict[str, object] | None = None,
        *,
        unlisted: bool = False,
    ) -> tuple[Call, Answer]:
        request = Request(method, path)
        if body is not None:
            request = Request(method, path, JSON, msgspec.json.encode(body))
        call, answer = self._exchange(service, request, what, repeatable=False, unlisted=unlisted)
        self._must_be_success(call, answer)
        return call, answer

    def _exchange(
        self,
        service: _Service,
        request: Request,
        what: Text,
        *,
        repeatable: bool,
        unlisted: bool = False,
    ) -> tuple[Call, Answer]:
        host = urlsplit(service.url).netloc
        call = Call(what, host, self._with_iam_key, unlisted, let_in=self._let_in)
        whole = Request(request.method, service.url + request.url, request.headers, request.body)
        try:
            answer = service.http.exchange(lambda: service.sign(whole), repeatable=repeatable)
        except HttpFailure as failure:
            raise explain_failure(call, failure) from None
        return call, answer

    def _content(self, call: Call, answer: Answer, into: type[T]) -> T:
        self._must_be_success(call, answer)
        try:
            return decode(answer.body, into)
        except ValueError as problem:
            raise explain_nonsense(call, answer, str(problem)) from None

    def _must_be_success(self, call: Call, answer: Answer) -> None:
        if not read_reply(answer).is_success:
            raise explain_refusal(call, answer, self._now())
        self._let_in = True


def _with_versions(conf: HttpsConf, *, joined: bool) -> dict[str, object]:
    body: dict[str, object] = msgspec.to_builtins(conf)
    if joined and conf.tls_versions is not None:
        body["tlsVersions"] = ",".join(conf.tls_versions)
    return body


def _wants_another_form(failure: QiniuFailure) -> bool:
    """Tell whether Qiniu's server could not decode the versions, as Go says it of a field."""
    words = failure.words.lower()
    return "unmarshal" in words and "tlsversions" in words


def _paging(marker: str, limit: int) -> str:
    return f"marker={quote(marker, safe='')}&limit={limit}"


def _all_pages(
    read_page: Callable[[str], Page], into: type[T], identity: Callable[[T], str]
) -> list[T]:
    """Read on until a page has no marker or nothing new: a marker need not advance (§4.2)."""
    found: dict[str, T | None] = {}
    marker = ""
    while True:
        page, marker = read_page(marker)
        before = len(found)
        for raw in page:
            item = _item(raw, into)
            # What cannot be read is counted by its bytes: a page of it is no end of the list.
            found[bytes(raw).decode(errors="replace") if item is None else identity(item)] = item
        if not marker or len(found) == before:
            return [item for item in found.values() if item is not None]


def _item(raw: msgspec.Raw, into: type[T]) -> T | None:
    try:
        return decode(bytes(raw), into)
    except ValueError as problem:
        log.debug("an entry of a list is passed over: %s", problem)
        return None
