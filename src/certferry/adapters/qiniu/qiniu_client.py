"""Qiniu's calls for certificates, CDN domains, bucket domains and live domains
(docs/facts/qiniu.md §1 to §7).

`QiniuClient` has a method for each call. An endpoint is a host with a signature scheme (`wire`).
`QiniuTransport` signs a call and tries the endpoints in turn, until an answer refuses neither the
host nor the scheme. A refusal becomes an error with an explanation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from certferry.adapters.cdn.answers import decode, decode_entry
from certferry.adapters.cdn.lists import Page, never_ends, page_of, whole_list
from certferry.adapters.http import exchange, http_client
from certferry.adapters.http.exchange import TIMEOUTS as HTTP_TIMEOUTS
from certferry.adapters.qiniu import errors, records, wire
from certferry.core.certificates.certificate import short
from certferry.core.redaction import speech
from certferry.ports.adapter import Answer, OpenPace, Pace
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text
from certferry.values import replace

# Requests per second of an account (§9). The hosts uc and Pili document no rate, and are called at
# the rate of the host api.
RATE, FUSION_RATE = 10, 5

CERTIFICATES_PER_PAGE = 200  # as in a widespread client (§4.2)
DOMAINS_PER_PAGE = 1000  # Qiniu's limit (§5.1)

T = TypeVar("T")
# A list with undecoded entries; null is an empty list.
RawList: Any = tuple[msgspec.Raw, ...] | None


class QiniuTransport:
    """Sends one account's calls to Qiniu's hosts. Safe to share between threads.

    `now` dates signatures, `clock` paces requests. Every method raises `QiniuFailure`.
    """

    def __init__(
        self,
        keys: wire.QiniuKeys,
        hosts: wire.Hosts,
        memory: AccountMemory,
        *,
        pause: Pause,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        timeouts: exchange.Timeouts = HTTP_TIMEOUTS,
        pace: OpenPace | None = None,
    ) -> None:
        def paced(url: str) -> Pace:
            # If `fusion` and another host have one address, both share the lower rate.
            rate = FUSION_RATE if url == hosts.fusion else RATE
            return http_client.shared_pace(pace, url, rate, pause=pause, clock=clock)

        self.hosts = hosts
        #: Whether the access key belongs to a sub-account.
        self.with_iam_key = keys.access_key.reveal().startswith(errors.IAM_PREFIX)
        self._keys = keys
        self._now = now
        self._endpoints = wire.Endpoints(hosts, memory)
        #: The endpoint of the last success, for each group of calls.
        self.proven: dict[wire.CallGroup, wire.Endpoint] = {}
        self._https = {
            url: http_client.HttpClient(
                pace=paced(url), pause=pause, timeouts=timeouts, too_many=wire.too_many
            )
            for url in {
                endpoint.url
                for endpoints in wire.endpoints_of(hosts).values()
                for endpoint in endpoints
            }
        }

    def clock_ahead(self) -> timedelta | None:
        """Return how far Qiniu's clock is ahead of this host's clock, by the date of the answer to
        a request without keys. Return `None` for an answer without a date.
        """
        url = self._endpoints.of(wire.CallGroup.DOMAINS)[0].url
        try:
            return http_client.ask_the_time(
                self._https[url], exchange.Request("GET", f"{url}/"), self._now
            )
        except exchange.HttpFailure as failure:
            raise errors.explain_failure(Text("the time of the service"), failure) from None

    def send(self, call: wire.ApiCall) -> Answer:
        """Try the endpoints of the call's group in turn, and return the successful answer.

        After an answer that concerns only the host or the signature scheme
        (`_asks_for_another_endpoint`), the next endpoint is tried; any other answer decides. If no
        endpoint decides, the failure with the lowest status is raised.
        """
        tried: list[tuple[wire.Endpoint, Answer | exchange.HttpFailure]] = []
        for endpoint in self._endpoints.of(call.group):
            if any(other.url == endpoint.url and _is_unreached(came) for other, came in tried):
                continue
            came = self._https[endpoint.url].outcome_of(
                partial(call.signed, endpoint, self._keys, self._now),
                repeatable=not call.is_change,
            )
            tried.append((endpoint, came))
            if not _asks_for_another_endpoint(call.group, came):
                break
            self._endpoints.failed(call.group, endpoint)
        endpoint, came = tried[-1]
        if _asks_for_another_endpoint(call.group, came):
            # Prefer 401 to 404: 401 concerns the keys, 404 only a host.
            endpoint, came = min(tried, key=lambda attempt: attempt[1].status or 500)
        endpoints = tuple(endpoint for endpoint, _ in tried)
        if isinstance(came, exchange.HttpFailure):
            raise errors.explain_failure(call.what, came, endpoints) from None
        if not wire.read_reply(came).is_success:
            is_proven, host = call.group in self.proven, endpoint.host
            sent = errors.Call(
                call, host, endpoints, self.with_iam_key, bool(self.proven), is_proven=is_proven
            )
            raise errors.explain_refusal(sent, came, self._now())
        self._endpoints.worked(call.group, endpoint)
        self.proven[call.group] = endpoint
        return came

    def read(self, call: wire.ApiCall, into: type[T]) -> T:
        """Return the body of a successful answer, decoded `into` a type."""
        answer = self.send(call)
        try:
            return decode(answer.body, into)
        except ValueError as problem:
            raise errors.explain_nonsense(call.what, answer, str(problem)) from None

    def read_list(self, call: wire.ApiCall, into: type[T]) -> list[T]:
        """Read a list, without undecodable entries. Null is an empty list (§3.3)."""
        raws = self.read(call, RawList) or ()
        return [item for raw in raws if (item := decode_entry(raw, into)) is not None]

    def read_pages(
        self, call: wire.ApiCall, into: type[T], identity: Callable[[T], str], *, limit: int = 0
    ) -> list[T]:
        """Read a list page by page until a page lacks a marker (§4.2), without undecodable entries.

        `identity` returns an entry's key; `limit` is the number of entries per page. Raises
        `QiniuFailure` for an endless list.
        """

        def page_at(marker: str) -> Page[T]:
            query = f"?marker={quote(marker, safe='')}"
            query = f"{query}&limit={limit}" if limit else query if marker else ""
            page = self.read(replace(call, path=f"{call.path}{query}"), records.ListPage)
            return page_of(page.entries, into, identity, page.marker or "")

        entries = whole_list(page_at)
        if entries is None:
            raise errors.QiniuFailure(never_ends(call.what, errors.CALLED))
        return entries


def _asks_for_another_endpoint(group: wire.CallGroup, came: Answer | exchange.HttpFailure) -> bool:
    # Pili has a single endpoint. A host may answer an unknown path with a web page, which arrives
    # here as an `HttpFailure` with a status.
    is_refused = group is not wire.CallGroup.LIVE and (
        came.status == HTTPStatus.UNAUTHORIZED
        or (came.status == HTTPStatus.NOT_FOUND and group not in wire.ANSWERING_404)
    )
    if isinstance(came, exchange.HttpFailure):
        return is_refused or (group in wire.WITH_BACKUP and _is_unreached(came))
    return is_refused and not wire.read_reply(came).has_own_code


def _is_unreached(came: Answer | exchange.HttpFailure) -> bool:
    return isinstance(came, exchange.HttpFailure) and came.contact is exchange.Contact.NONE


class QiniuClient:
    """The calls of one account, safe to share between threads.

    Every method raises `QiniuFailure`. The transport repeats reads after a lost answer.
    """

    def __init__(self, transport: QiniuTransport) -> None:
        self.transport = transport
        self._tls_versions_joined = False

    def list_certificates(self) -> list[records.CertificateRecord]:
        """List every certificate of the account (§4.2)."""
        call = wire.ApiCall(
            wire.CallGroup.CERTIFICATES, "/sslcert", Text("the list of certificates")
        )
        return self.transport.read_pages(
            call,
            records.CertificateRecord,
            lambda record: record.certid,
            limit=CERTIFICATES_PER_PAGE,
        )

    def upload_certificate(self, upload: records.UploadBody) -> str:
        """Upload a certificate and return the new id; a second upload gets another id (§4.1)."""
        subject = Text("the upload of {label}", label=upload.name)
        call = wire.ApiCall(wire.CallGroup.CERTIFICATES, "/sslcert", subject, "POST", upload)
        return self.transport.read(call, records.Uploaded).cert_id

    def delete_certificate(self, cert_id: str) -> None:
        """Remove an unbound certificate (§4.4)."""
        subject = Text("the removal of certificate {id}", id=short(cert_id))
        path = f"/sslcert/{cert_id}"
        self.transport.send(wire.ApiCall(wire.CallGroup.CERTIFICATES, path, subject, "DELETE"))

    def list_domains(self) -> list[records.DomainItem]:
        """List every CDN and DCDN domain of the account (§5.1)."""
        call = wire.ApiCall(wire.CallGroup.DOMAINS, "/domain", Text("the list of domains"))
        return self.transport.read_pages(
            call, records.DomainItem, lambda item: item.name, limit=DOMAINS_PER_PAGE
        )

    def read_domain(self, name: str) -> records.DomainRecord:
        """Read a domain's detail (§5.2). A wildcard domain's name begins with a dot."""
        subject = Text("the domain {domain}", domain=name)
        call = wire.ApiCall(wire.CallGroup.DOMAINS, f"/domain/{name}", subject)
        return self.transport.read(call, records.DomainRecord)

    def httpsconf(self, name: str, conf: records.HttpsConf) -> str:
        """Change certificate or settings of a domain with HTTPS; return the X-Reqid (§5.3)."""
        subject = Text("the change of {domain}", domain=name)
        return self._configure(f"/domain/{name}/httpsconf", subject, conf)

    def sslize(self, name: str, conf: records.HttpsConf) -> str:
        """Switch HTTPS on for a domain without HTTPS; return the X-Reqid (§5.4)."""
        subject = Text("HTTPS for {domain}", domain=name)
        return self._configure(f"/domain/{name}/sslize", subject, conf)

    def _configure(self, path: str, subject: Text, conf: records.HttpsConf) -> str:
        """Send settings, and return the X-Reqid.

        Qiniu takes TLS versions either as an array or as a string (§5.3). If Qiniu cannot read one
        form, the other form is sent. An accepted form is used from then on.
        """
        joined = self._tls_versions_joined
        call = wire.ApiCall(wire.CallGroup.DOMAINS, path, subject, "PUT", conf.body(joined=joined))
        try:
            return wire.read_reply(self.transport.send(call)).request_id
        except errors.QiniuFailure as failure:
            words = failure.words.lower()  # Go's message for an undecodable field
            if not conf.tls_versions or "unmarshal" not in words or "tlsversions" not in words:
                raise
        call = replace(call, body=conf.body(joined=not joined))
        request_id = wire.read_reply(self.transport.send(call)).request_id
        self._tls_versions_joined = not joined
        return request_id

    def list_buckets(self) -> list[str]:
        """List the account's Kodo buckets (§6.4)."""
        call = wire.ApiCall(wire.CallGroup.BUCKETS, "/buckets", Text("the list of buckets"))
        return self.transport.read_list(call, records.Container)

    def list_bucket_domains(self, bucket: str) -> list[records.BucketDomain]:
        """List the domains of a bucket. The list is empty after a 404, Qiniu's answer for a bucket
        without domains (§6.4).
        """

        def path(endpoint: wire.Endpoint) -> str:
            if endpoint.form == wire.SOURCE_FORM:
                return f"/domain?{urlencode({'bucket': bucket, 'type': 'source'})}"
            return f"/v3/domains?{urlencode({'tbl': bucket})}"

        subject = Text("the domains of bucket {bucket}", bucket=speech(bucket))
        call = wire.ApiCall(wire.CallGroup.BUCKET_DOMAINS, path, subject)
        try:
            return self.transport.read_list(call, records.BucketDomain)
        except errors.QiniuFailure as failure:
            if failure.status == HTTPStatus.NOT_FOUND:
                return []
            raise

    def list_bindings(self) -> list[records.Binding]:
        """List the source domains with a certificate, each with the certificate's id (§6.3)."""
        subject = Text("the certificates of source domains")
        call = wire.ApiCall(wire.CallGroup.BINDINGS, "/cert/bindings", subject)
        return self.transport.read_list(call, records.Binding)

    def bind_source(self, domain: str, cert_id: str) -> None:
        """Bind a source domain to a certificate, in place of any other certificate (§6.1)."""
        subject = Text("the certificate of source domain {domain}", domain=domain)
        body = {"certid": cert_id, "domain": domain}
        self.transport.send(wire.ApiCall(wire.CallGroup.BIND, "/cert/bind", subject, "POST", body))

    @property
    def has_pili(self) -> bool:
        """Whether the account has an address for Pili: a mirror of Qiniu may lack Pili."""
        return bool(self.transport.hosts.pili)

    def list_hubs(self) -> list[str]:
        """List the account's hubs (§7)."""
        call = wire.ApiCall(wire.CallGroup.LIVE, "/v2/hubs", Text("the list of hubs"))
        return [
            hub.name for hub in self.transport.read_pages(call, records.Hub, lambda hub: hub.name)
        ]

    def list_live_domains(self, hub: str) -> list[records.LiveRecord]:
        """List the domains of a hub."""
        subject = Text("the domains of hub {hub}", hub=speech(hub))
        call = wire.ApiCall(wire.CallGroup.LIVE, f"/v2/hubs/{hub}/domains", subject)
        return self.transport.read_pages(call, records.LiveRecord, lambda record: record.domain)

    def read_live_domain(self, hub: str, domain: str) -> records.LiveRecord:
        """Read a live domain. Qiniu's answer also has keys for signing links, which are skipped."""
        subject = Text("the live domain {domain}", domain=domain)
        call = wire.ApiCall(wire.CallGroup.LIVE, f"/v2/hubs/{hub}/domains/{domain}", subject)
        return self.transport.read(call, records.LiveRecord)

    def bind_live_domain(self, hub: str, domain: str, certificate: str) -> str:
        """Bind a live domain to a certificate, given by name or id; return the X-Reqid."""
        subject = Text("the certificate of live domain {domain}", domain=domain)
        path = f"/v2/hubs/{hub}/domains/{domain}/cert"
        call = wire.ApiCall(wire.CallGroup.LIVE, path, subject, "POST", {"certName": certificate})
        return wire.read_reply(self.transport.send(call)).request_id
