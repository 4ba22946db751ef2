"""The calls of one account to CDN, DCDN and the store of certificates, at the pace of each API
(docs/facts/aliyun.md §3, §4, §5).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from certferry.adapters.aliyun import errors, records
from certferry.adapters.aliyun.account import Settings
from certferry.adapters.aliyun.errors import AliyunFailure
from certferry.adapters.aliyun.rpc import AccessKey, answers_too_many, read_reply, signed_request
from certferry.adapters.cdn.answers import decode_entry
from certferry.adapters.cdn.lists import Page, page_of
from certferry.adapters.http import exchange, http_client
from certferry.core.certificates.certificate import short
from certferry.core.desired.certificate import Kind
from certferry.ports.adapter import Context
from certferry.text import Text, verbatim

CDN_RATE, CAS_RATE = 30, 10
"""Requests per second and account (§8): the lowest rate of the calls."""
DOMAINS_PER_PAGE, CERTIFICATES_PER_PAGE = 500, 50
CAS_VERSION = "2020-04-07"

T = TypeVar("T")


class Product(Struct, frozen=True):
    """A product with domains: CDN or DCDN, with calls of one shape under different names."""

    kind: Kind
    #: The product's name for people.
    called: Text
    #: The version of the product's API.
    version: str
    #: Stands in the names of all calls but `DescribeCdnHttpsDomainList`.
    infix: str
    #: Stands in the name of the list of domains with HTTPS, and of the binding.
    long_infix: str


CDN = Product(Kind.CDN, verbatim("CDN"), "2018-05-10", "", "Cdn")
DCDN = Product(Kind.DCDN, verbatim("DCDN"), "2018-01-15", "Dcdn", "Dcdn")

Params = Mapping[str, str]


class _Host(Struct, frozen=True):
    """An API: the address, the version, and the connections at the API's pace."""

    url: str
    version: str
    http: http_client.HttpClient


class AliyunClient:
    """The calls of one account, safe to share between threads. Every method raises `AliyunFailure`.

    Reads are repeated after a lost answer, writes are not.
    """

    def __init__(self, key: AccessKey, settings: Settings, context: Context) -> None:
        def host(url: str, version: str, rate: float) -> _Host:
            http = http_client.client_in(context, url, rate, answers_too_many)
            return _Host(f"{url.rstrip('/')}/", version, http)

        self._key = key
        self._now = context.now
        self._products = {
            Kind.CDN: host(settings.cdn, CDN.version, CDN_RATE),
            Kind.DCDN: host(settings.dcdn, DCDN.version, CDN_RATE),
        }
        self._cas = host(settings.cas, CAS_VERSION, CAS_RATE)
        self.region = settings.region

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        host = self._products[Kind.CDN]
        return AliyunFailure.clock_ahead(host.http, host.url, self._now)

    def list_domains(self, product: Product) -> list[records.DomainItem]:
        """List every domain of a product (§3.1)."""
        what = Text("the list of {product} domains", product=product.called)
        return self._pages(
            self._products[product.kind],
            what,
            f"Describe{product.infix}UserDomains",
            ("Domains", "PageData"),
            records.DomainItem,
            lambda item: item.domain_name,
            sizes=("PageNumber", "PageSize", DOMAINS_PER_PAGE),
            CheckDomainShow="true",  # otherwise domains under review may be missing
        )

    def list_https(self, product: Product) -> list[records.HttpsItem]:
        """List every domain of a product with HTTPS; the product refuses the list of an account
        without such domains, which counts as an empty list (§3.2).
        """
        what = Text("the list of {product} domains with HTTPS", product=product.called)
        try:
            return self._pages(
                self._products[product.kind],
                what,
                f"Describe{product.long_infix}HttpsDomainList",
                ("CertInfos", "CertInfo"),
                records.HttpsItem,
                lambda item: item.domain_name,
                sizes=("PageNumber", "PageSize", DOMAINS_PER_PAGE),
            )
        except AliyunFailure as failure:
            if failure.code != errors.NO_HTTPS_DOMAIN:
                raise
            return []

    def certificate_of(self, product: Product, name: str) -> records.CertificateInfo | None:
        """Read the certificate of one domain (§3.3); `None` for an answer without a certificate."""
        what = Text("the certificate of {domain}", domain=name)
        action = f"Describe{product.infix}DomainCertificateInfo"
        body = self._call(self._products[product.kind], what, action, {"DomainName": name})
        infos = [
            info
            for raw in _entries(body, ("CertInfos", "CertInfo"), what)
            if (info := decode_entry(raw, records.CertificateInfo)) is not None
        ]
        return infos[0] if infos else None

    def bind(self, product: Product, name: str, certificate: Params) -> str:
        """Bind one domain to a certificate, with HTTPS on; return the id of the request (§4.1).

        `SSLProtocol` is always sent: without the parameter, HTTPS might be switched off.
        """
        what = Text("the certificate for {domain}", domain=name)
        action = f"Set{product.long_infix}DomainSSLCertificate"
        params = {"DomainName": name, "SSLProtocol": "on", **certificate}
        host = self._products[product.kind]
        body = self._call(host, what, action, params, is_change=True)
        return AliyunFailure.shown_request_id(body.get("RequestId"))

    def edges_of(self, product: Product, name: str) -> tuple[str, ...]:
        """Return the addresses of the healthy edges of one domain (§3.4)."""
        what = Text("the edges of {domain}", domain=name)
        action = f"Describe{product.infix}UserVipsByDomain"
        host = self._products[product.kind]
        body = self._call(host, what, action, {"DomainName": name, "Available": "on"})
        return AliyunFailure.decoded(body, records.Edges, what).addresses

    def list_certificates(self, status: str = "") -> list[records.StoredOrder]:
        """List the uploaded certificates of the store (§5.2): with a status, or all valid ones."""
        return self._pages(
            self._cas,
            Text("the list of certificates"),
            "ListUserCertificateOrder",
            ("CertificateOrderList",),
            records.StoredOrder,
            lambda record: str(record.certificate_id),
            sizes=("CurrentPage", "ShowSize", CERTIFICATES_PER_PAGE),
            OrderType="UPLOAD",
            **({"Status": status} if status else {}),
        )

    def upload(self, name: str, certificate_pem: str, key_pem: str) -> str:
        """Upload a certificate under a new name; return the id (§5.1)."""
        what = Text("the upload of {label}", label=name)
        params = {"Name": name, "Cert": certificate_pem, "Key": key_pem}
        body = self._call(self._cas, what, "UploadUserCertificate", params, is_change=True)
        return str(AliyunFailure.decoded(body, records.Uploaded, what, maybe_done=True).cert_id)

    def delete(self, cert_id: str) -> None:
        """Remove an uploaded certificate (§5.3)."""
        what = Text("the removal of certificate {id}", id=short(cert_id))
        self._call(self._cas, what, "DeleteUserCertificate", {"CertId": cert_id}, is_change=True)

    def _call(
        self, host: _Host, what: Text, action: str, params: Params, *, is_change: bool = False
    ) -> Mapping[str, Any]:
        """Make a call, and return the body of a successful answer."""
        named = {"Action": action, **params}
        came = host.http.outcome_of(
            lambda: signed_request(host.url, host.version, self._key, self._now(), named),
            repeatable=not is_change,
        )
        if isinstance(came, exchange.HttpFailure):
            raise AliyunFailure.unanswered(what, came) from None
        reply = read_reply(came)
        if reply is None:
            raise AliyunFailure.without_reply(what, came)
        if reply.code:
            raise errors.explain_refusal(what, reply, came, self._now())
        return reply.body

    def _pages(
        self,
        host: _Host,
        what: Text,
        action: str,
        path: Sequence[str],
        into: type[T],
        identity: Callable[[T], str],
        *,
        sizes: tuple[str, str, int],
        **params: str,
    ) -> list[T]:
        """Read a list page by page up to the total, without undecodable entries. `sizes` has the
        names of the page's number and size, and the size.
        """
        number_name, size_name, size = sizes

        def page_at(place: str) -> Page[T]:
            number = int(place or 1)
            where = {**params, number_name: str(number), size_name: str(size)}
            body = self._call(host, what, action, where)
            raws = _entries(body, path, what)
            total = body.get("TotalCount")
            is_last = number * size >= total if isinstance(total, int) else len(raws) < size
            following = "" if is_last or not raws else str(number + 1)
            return page_of(raws, into, identity, following)

        return AliyunFailure.listed(what, page_at)


def _entries(body: object, path: Sequence[str], what: Text) -> list[msgspec.Raw]:
    """Return the undecoded entries at a path of a body; none if the path is missing or null.
    Raises `AliyunFailure` for another form.
    """
    for key in path:
        if body is None:
            return []
        if not isinstance(body, Mapping):
            raise AliyunFailure.unreadable(what, f"no object with {key}", maybe_done=False)
        body = body.get(key)
    if body is None:
        return []
    if not isinstance(body, list):
        raise AliyunFailure.unreadable(what, f"{path[-1]} is not a list", maybe_done=False)
    # In ASCII, because UTF-8 has no form for half a surrogate pair: that entry cannot be decoded.
    return [msgspec.Raw(json.dumps(entry).encode()) for entry in body]
