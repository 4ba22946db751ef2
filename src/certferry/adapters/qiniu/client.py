"""Qiniu's calls for certificates, CDN domains, bucket domains and live domains, each at the first
endpoint that answers it: signed, paced, read, explained if refused (docs/facts/qiniu.md §1 to §7).

Where each call is answered and how it is signed stands in `wire`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from certferry.adapters.http import client
from certferry.adapters.http.client import TIMEOUTS as HTTP_TIMEOUTS
from certferry.adapters.qiniu import errors, records, wire
from certferry.core.certificates.certificate import short
from certferry.core.redaction import speech
from certferry.errors import TargetUnavailable
from certferry.ports.adapter import Answer, OpenPace, Pace
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text

# Requests per second and account (§9). Of uc and Pili nothing is said: they are treated like api.
RATE, FUSION_RATE = 10, 5

CERTIFICATES_PER_PAGE = 200  # what a widespread client asks for (§4.2)
DOMAINS_PER_PAGE = 1000  # the most there may be (§5.1)
MOST_PAGES = 200  # of a list: forty thousand certificates
MOST_WITHOUT_NEWS = 10  # pages one after the other that bring nothing new, where the marker goes on

T = TypeVar("T")
# Null stands for no entries; each entry is still to be decoded.
RawList: Any = tuple[msgspec.Raw, ...] | None


class QiniuTransport:
    """Qiniu's hosts, for one account. Safe to share between threads; raises `QiniuFailure`.

    `now` dates signatures, `clock` paces requests. `with_iam_key`: the key is a sub-account's;
    `proven`: the endpoint that answered each group of calls with success.
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
        timeouts: client.Timeouts = HTTP_TIMEOUTS,
        pace: OpenPace | None = None,
    ) -> None:
        def paced(url: str) -> Pace:
            # Hosts that are one share the lower rate.
            rate = FUSION_RATE if url == hosts.fusion else RATE
            return client.Pacer(rate, clock=clock, pause=pause) if pace is None else pace(url, rate)

        self.hosts = hosts
        self.with_iam_key = keys.access_key.reveal().startswith(errors.IAM_PREFIX)
        self._keys = keys
        self._now = now
        self._endpoints = wire.Endpoints(hosts, memory)
        self.proven: dict[wire.CallGroup, wire.Endpoint] = {}
        self._https = {
            url: client.HttpClient(
                pace=paced(url), pause=pause, timeouts=timeouts, too_many=wire.too_many
            )
            for url in {one.url for group in wire.endpoints_of(hosts).values() for one in group}
        }

    def clock_ahead(self) -> timedelta | None:
        """Return how far Qiniu's clock is ahead, by any answer to a request without keys."""
        url = self._endpoints.of(wire.CallGroup.DOMAINS)[0].url
        try:
            return client.ask_the_time(
                self._https[url], client.Request("GET", f"{url}/"), self._now
            )
        except client.HttpFailure as failure:
            raise errors.explain_failure(Text("the time of the service"), failure) from None

    def send(self, call: wire.ApiCall) -> Answer:
        """Return the first answer of success. Raises the failure that says most about why there is
        none, with `maybe_done` for a change whose answer is lost.
        """
        tried: list[tuple[wire.Endpoint, Answer | client.HttpFailure]] = []
        for endpoint in self._endpoints.of(call.group):
            if any(one.url == endpoint.url and _is_unreached(got) for one, got in tried):
                continue
            came = self._exchange(call, endpoint)
            tried.append((endpoint, came))
            if not _asks_for_another_endpoint(call.group, came):
                break
            self._endpoints.failed(call.group, endpoint)
        endpoint, came = tried[-1]
        if _asks_for_another_endpoint(call.group, came):
            # A 401 is about the keys, a 404 only about a host.
            endpoint, came = min(tried, key=lambda one: one[1].status or 500)
        endpoints = tuple(endpoint for endpoint, _ in tried)
        if isinstance(came, client.HttpFailure):
            raise errors.explain_failure(call.what, came, endpoints) from None
        if not wire.read_reply(came).is_success:
            known, host = call.group in self.proven, endpoint.host
            sent = errors.Call(
                call, host, endpoints, self.with_iam_key, bool(self.proven), is_proven=known
            )
            raise errors.explain_refusal(sent, came, self._now())
        self._endpoints.worked(call.group, endpoint)
        self.proven[call.group] = endpoint
        return came

    def read(self, call: wire.ApiCall, into: type[T]) -> T:
        """Return what the answer of success holds."""
        answer = self.send(call)
        try:
            return records.decode(answer.body, into)
        except ValueError as problem:
            raise errors.explain_nonsense(call.what, answer, str(problem)) from None

    def read_list(self, call: wire.ApiCall, into: type[T]) -> list[T]:
        """Read a list, or null (§3.3), whose odd entries are passed over."""
        raws = self.read(call, RawList) or ()
        return [item for raw in raws if (item := records.decode_entry(raw, into)) is not None]

    def read_pages(
        self, call: wire.ApiCall, into: type[T], identity: Callable[[T], str], *, limit: int = 0
    ) -> list[T]:
        """Read a list until a page has no marker (§4.2), up to `limit` entries a page. Raises
        `QiniuFailure` for a list that leads on to nothing new, or without an end.
        """
        found: dict[str, T | None] = {}
        marker, seen, without_news = "", {""}, 0
        for _ in range(MOST_PAGES):
            query = f"?marker={quote(marker, safe='')}"
            query = f"{query}&limit={limit}" if limit else query if marker else ""
            page = self.read(replace(call, path=f"{call.path}{query}"), records.ListPage)
            marker, before = page.marker or "", len(found)
            for raw in page.entries:
                item = records.decode_entry(raw, into)
                # What cannot be read is counted by its bytes: a page of it is no end of the list.
                key = bytes(raw).decode(errors="replace") if item is None else identity(item)
                found[key] = item
            if not marker:
                return [item for item in found.values() if item is not None]
            without_news = 0 if len(found) > before else without_news + 1
            if without_news > MOST_WITHOUT_NEWS or (without_news and marker in seen):
                break
            seen.add(marker)
        sentence = Text("{what} at Qiniu does not come to an end")
        hint = Text("the next run reads it again; if it stays so, tell Qiniu's support")
        raise errors.QiniuFailure(
            errors.rejected(sentence, hint, TargetUnavailable, what=call.what)
        )

    def _exchange(self, call: wire.ApiCall, endpoint: wire.Endpoint) -> Answer | client.HttpFailure:
        request = call.request(endpoint)

        def signed() -> client.Request:
            if endpoint.scheme is wire.Scheme.QBOX:
                return wire.sign_qbox(request, self._keys)
            return wire.sign_qiniu(request, self._keys, self._now())

        try:
            return self._https[endpoint.url].exchange(signed, repeatable=not call.is_change)
        except client.HttpFailure as failure:
            return failure


def _asks_for_another_endpoint(group: wire.CallGroup, came: Answer | client.HttpFailure) -> bool:
    # Pili has one endpoint. A host that does not know a path may say so with a web page.
    is_refused = group is not wire.CallGroup.LIVE and (
        came.status == HTTPStatus.UNAUTHORIZED
        or (came.status == HTTPStatus.NOT_FOUND and group not in wire.ANSWERING_404)
    )
    if isinstance(came, client.HttpFailure):
        return is_refused or (group in wire.WITH_BACKUP and _is_unreached(came))
    return is_refused and not wire.read_reply(came).has_own_code


def _is_unreached(came: Answer | client.HttpFailure) -> bool:
    return isinstance(came, client.HttpFailure) and came.contact is client.Contact.NONE


class QiniuClient:
    """The calls of one account, safe to share. Raises `QiniuFailure`; reads are repeated."""

    def __init__(self, transport: QiniuTransport) -> None:
        self.transport = transport
        self._tls_versions_joined = False

    def list_certificates(self) -> list[records.CertificateRecord]:
        """List every certificate of the account (§4.2)."""
        call = wire.ApiCall(
            wire.CallGroup.CERTIFICATES, "/sslcert", Text("the list of certificates")
        )
        return self.transport.read_pages(
            call, records.CertificateRecord, lambda one: one.certid, limit=CERTIFICATES_PER_PAGE
        )

    def upload_certificate(self, upload: records.UploadBody) -> str:
        """Upload a certificate and return its id; the same one twice gets two ids (§4.1)."""
        what = Text("the upload of {label}", label=upload.name)
        call = wire.ApiCall(wire.CallGroup.CERTIFICATES, "/sslcert", what, "POST", upload)
        return self.transport.read(call, records.Uploaded).cert_id

    def delete_certificate(self, cert_id: str) -> None:
        """Remove a certificate that nothing is bound to (§4.4)."""
        what = Text("the removal of certificate {id}", id=short(cert_id))
        path = f"/sslcert/{cert_id}"
        self.transport.send(wire.ApiCall(wire.CallGroup.CERTIFICATES, path, what, "DELETE"))

    def list_domains(self) -> list[records.DomainItem]:
        """List every CDN and DCDN domain of the account (§5.1)."""
        call = wire.ApiCall(wire.CallGroup.DOMAINS, "/domain", Text("the list of domains"))
        return self.transport.read_pages(
            call, records.DomainItem, lambda item: item.name, limit=DOMAINS_PER_PAGE
        )

    def read_domain(self, name: str) -> records.DomainRecord:
        """Read a domain as it is now (§5.2). A wildcard domain's name begins with a dot."""
        what = Text("the domain {domain}", domain=name)
        call = wire.ApiCall(wire.CallGroup.DOMAINS, f"/domain/{name}", what)
        return self.transport.read(call, records.DomainRecord)

    def httpsconf(self, name: str, conf: records.HttpsConf) -> str:
        """Change certificate or settings where HTTPS is on; return the X-Reqid (§5.3)."""
        what = Text("the change of {domain}", domain=name)
        return self._configure(f"/domain/{name}/httpsconf", what, conf)

    def sslize(self, name: str, conf: records.HttpsConf) -> str:
        """Switch HTTPS on for a domain that has none; return the X-Reqid (§5.4)."""
        what = Text("HTTPS for {domain}", domain=name)
        return self._configure(f"/domain/{name}/sslize", what, conf)

    def _configure(self, path: str, what: Text, conf: records.HttpsConf) -> str:
        """Send TLS versions in the form that Qiniu wants, found out once for the account (§5.3)."""
        joined = self._tls_versions_joined
        call = wire.ApiCall(wire.CallGroup.DOMAINS, path, what, "PUT", conf.body(joined=joined))
        try:
            return wire.read_reply(self.transport.send(call)).request_id
        except errors.QiniuFailure as failure:
            words = failure.words.lower()  # as Go says that it could not decode a field
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
        """List the domains of a bucket; 404 is how Qiniu says that there are none (§6.4)."""

        def path(endpoint: wire.Endpoint) -> str:
            if endpoint.form == wire.SOURCE_FORM:
                return f"/domain?{urlencode({'bucket': bucket, 'type': 'source'})}"
            return f"/v3/domains?{urlencode({'tbl': bucket})}"

        what = Text("the domains of bucket {bucket}", bucket=speech(bucket))
        call = wire.ApiCall(wire.CallGroup.BUCKET_DOMAINS, path, what)
        try:
            return self.transport.read_list(call, records.BucketDomain)
        except errors.QiniuFailure as failure:
            if failure.status == HTTPStatus.NOT_FOUND:
                return []
            raise

    def list_bindings(self) -> list[records.Binding]:
        """List the source domains that have a certificate, and which (§6.3)."""
        what = Text("the certificates of source domains")
        call = wire.ApiCall(wire.CallGroup.BINDINGS, "/cert/bindings", what)
        return self.transport.read_list(call, records.Binding)

    def bind_source(self, domain: str, cert_id: str) -> None:
        """Bind a source domain to a certificate, whatever it is bound to (§6.1)."""
        what = Text("the certificate of source domain {domain}", domain=domain)
        body = {"certid": cert_id, "domain": domain}
        self.transport.send(wire.ApiCall(wire.CallGroup.BIND, "/cert/bind", what, "POST", body))

    @property
    def has_pili(self) -> bool:
        """Whether the account has an address for Pili: a mirror of Qiniu may have none."""
        return bool(self.transport.hosts.pili)

    def list_hubs(self) -> list[str]:
        """List the account's hubs (§7)."""
        call = wire.ApiCall(wire.CallGroup.LIVE, "/v2/hubs", Text("the list of hubs"))
        return [
            hub.name for hub in self.transport.read_pages(call, records.Hub, lambda hub: hub.name)
        ]

    def list_live_domains(self, hub: str) -> list[records.LiveRecord]:
        """List the domains of a hub."""
        what = Text("the domains of hub {hub}", hub=speech(hub))
        call = wire.ApiCall(wire.CallGroup.LIVE, f"/v2/hubs/{hub}/domains", what)
        return self.transport.read_pages(call, records.LiveRecord, lambda record: record.domain)

    def read_live_domain(self, hub: str, domain: str) -> records.LiveRecord:
        """Read a live domain, but for the keys of the answer that its links are signed with."""
        what = Text("the live domain {domain}", domain=domain)
        call = wire.ApiCall(wire.CallGroup.LIVE, f"/v2/hubs/{hub}/domains/{domain}", what)
        return self.transport.read(call, records.LiveRecord)

    def bind_live_domain(self, hub: str, domain: str, certificate: str) -> str:
        """Bind a live domain to a certificate by its name or id; return the X-Reqid."""
        what = Text("the certificate of live domain {domain}", domain=domain)
        path = f"/v2/hubs/{hub}/domains/{domain}/cert"
        call = wire.ApiCall(wire.CallGroup.LIVE, path, what, "POST", {"certName": certificate})
        return wire.read_reply(self.transport.send(call)).request_id
