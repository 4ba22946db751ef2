"""A stand-in of Qiniu: hosts, accounts, and the edges of the CDN.

Built from docs/facts/qiniu.md §11.2. The stand-in checks signatures, hosts, schemes, bodies and
certificates as the documents say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Self

from cryptography import x509

from certferry_sandbox.edges import Clock, Edges, Identity
from certferry_sandbox.httpd import HttpService, Request, Response, utc_now
from certferry_sandbox.qiniu.answers import Refused, request_id, with_null_lists
from certferry_sandbox.qiniu.certificates import Certificates
from certferry_sandbox.qiniu.domains import CERTIFICATE_FAILURE, Change, Domain, Domains, HttpsConf
from certferry_sandbox.qiniu.kodo import BucketDomain, DomainType, Kodo
from certferry_sandbox.qiniu.objects import Bucket, Objects
from certferry_sandbox.qiniu.pili import LiveDomain, LiveType, Pili
from certferry_sandbox.qiniu.routes import Host, Hosting, RateLimit, Routes
from certferry_sandbox.qiniu.signing import Accounts, SignedCall

EDGE_LAGS = MappingProxyType({"127.0.0.2": timedelta(0), "127.0.0.3": timedelta(seconds=0.5)})
PROCESSING_TIME = timedelta(seconds=0.3)  # Qiniu takes 5 to 15 minutes, or hours (§5.6)


class QiniuService:
    """Qiniu on loopback. `api`, `fusion`, `uc`, `api_backup`, `uc_backup` and `pili` are HTTP
    services, `objects` has the objects of Kodo's buckets, and `edges` has the edges of the CDN,
    Kodo and Pili.

    Methods add existing accounts, certificates and domains. The parts have the switches:
    `certificates.rules`, `certificates.quota`, `domains.processing_time`, `rate_limit.per_second`,
    `edges[0].lag`, `api.faults` and so on. Nothing runs in the background: a domain's state is
    computed at each look.

    `clock`: returns the time for date skew, validity, the end of processing and the edges' lag.
    `edge_lags`: the lag of each edge, by address.
    `strict`: selects strict or lenient `hosting` (see `routes`), and whether `sslize` of an HTTPS
    domain is refused.
    `null_lists`: answer null for an empty list (§3.3).
    `before`: called with each request before the request is answered.
    """

    def __init__(
        self,
        *,
        strict: bool = True,
        clock: Clock = utc_now,
        processing_time: timedelta = PROCESSING_TIME,
        edge_lags: Mapping[str, timedelta] = EDGE_LAGS,
        edge_port: int = 0,
    ) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._running = ExitStack()
        self.accounts = Accounts()
        self.rate_limit = RateLimit()
        self.certificates = Certificates(self._in_use)
        self.domains = Domains(
            self.certificates.find, processing_time, refuse_repeated_sslize=strict
        )
        self.kodo = Kodo(self.certificates.find, self.domains.__contains__)
        self.live = Pili(self.certificates.stored, processing_time)
        self.objects = Objects(self.accounts, clock)
        self.null_lists = False
        self.before: Callable[[Request], object] = lambda _: None
        self.hosting = Hosting.of(strict=strict)
        self._routes = Routes(self.certificates, self.domains, self.kodo, self.live, self.hosting)
        self.api, self.fusion, self.uc, self.api_backup, self.uc_backup, self.pili = (
            HttpService(partial(self._answer, host), clock=clock) for host in Host
        )
        self.edges = Edges(self._served, edge_lags, clock=clock, port=edge_port)

    def start(self) -> Self:
        """Start every HTTP service and every edge."""
        with ExitStack() as started:
            for service in self.services:
                started.enter_context(service)
            started.enter_context(self.objects)
            started.enter_context(self.edges)
            self._running = started.pop_all()
        return self

    def stop(self) -> None:
        """Stop everything; a second call does nothing."""
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def api_url(self) -> str:
        """The URL in place of https://api.qiniu.com."""
        return self.api.url

    @property
    def fusion_url(self) -> str:
        """The URL in place of https://fusion.qiniuapi.com."""
        return self.fusion.url

    @property
    def uc_url(self) -> str:
        """The URL in place of https://uc.qiniuapi.com."""
        return self.uc.url

    @property
    def api_backup_url(self) -> str:
        """The URL in place of https://api.qiniuapi.com."""
        return self.api_backup.url

    @property
    def uc_backup_url(self) -> str:
        """The URL in place of https://kodo-config.qiniuapi.com."""
        return self.uc_backup.url

    @property
    def pili_url(self) -> str:
        """The URL in place of https://pili.qiniuapi.com."""
        return self.pili.url

    def requests(self, pattern: str = "*") -> list[Request]:
        """Return the requests to `services` with a "METHOD /path" that matches a shell pattern."""
        return [request for service in self.services for request in service.requests(pattern)]

    def writes(self) -> list[Request]:
        """Return the POST, PUT and DELETE requests to `services`."""
        return [write for service in self.services for write in service.writes()]

    def add_account(self, access_key: str, secret_key: str) -> int:
        """Open an account and return the uid. The first account is the default of other methods."""
        return self.accounts.add(access_key, secret_key)

    def add_iam_key(
        self, access_key: str, secret_key: str, *, owner: str, reads_only: bool = False
    ) -> None:
        """Add a key of a sub-account. `owner` is a key of the main account."""
        self.accounts.add_iam_key(access_key, secret_key, owner=owner, reads_only=reads_only)

    def trust(self, root_pem: str) -> None:
        """Trust a root: the checks of an upload take certificates that lead to the root."""
        self.certificates.rules.roots.append(x509.load_pem_x509_certificate(root_pem.encode()))

    def add_certificate(self, issued: Identity, name: str, *, account: str | None = None) -> str:
        """Add an upload without the checks of `certificates.rules`, and return the id."""
        uid = self.accounts.uid(account)
        with self._lock:
            return self.certificates.store(
                uid, name, issued.fullchain_pem, issued.privkey_pem, self._clock()
            ).id

    def add_domain(  # noqa: PLR0913 - a domain has that many facts
        self,
        name: str,
        *,
        https: str | None = None,
        force_https: bool = False,
        http2: bool = False,
        tls_versions: Sequence[str] | None = None,
        free_certificate: bool = False,
        free_identity: Identity | None = None,
        state: str = "success",
        type: str | None = None,  # noqa: A002 - Qiniu's word
        product: str = "cdn",
        platform: str = "web",
        parent: str = "",
        could_operate: bool = True,
        account: str | None = None,
    ) -> Domain:
        """Add a CDN or DCDN domain. `https` is the id of the certificate.

        The name of a wildcard domain begins with a dot. `parent` is for `type="pan"`. A domain
        added with `state="processing"` stays so until `release`. With a free certificate, the
        edges show `free_identity`, if given.
        """
        uid, now = self.accounts.uid(account), self._clock()
        with self._lock:
            bound = self.certificates.find(https, uid) if https else None
            versions = None if tls_versions is None else tuple(tls_versions)
            domain = Domain(
                name=name,
                number=self.domains.next_number(),
                uid=uid,
                type=type or ("wildcard" if name.startswith(".") else "normal"),
                product=product,
                platform=platform,
                parent=parent,
                https=HttpsConf(
                    bound,
                    force_https,
                    http2,
                    versions,
                    free_certificate or free_identity is not None,
                ),
                state=state,
                could_operate=could_operate,
                created=now,
                free_identity=free_identity,
            )
            self.domains.add(domain)
        return domain

    def add_bucket(self, name: str, *, account: str | None = None) -> Bucket:
        """Add a private Kodo bucket without objects."""
        uid = self.accounts.uid(account)
        with self._lock:
            self.kodo.add_bucket(name, uid)
        return self.objects.buckets.setdefault(name, Bucket(uid))

    def add_bucket_domain(
        self,
        name: str,
        bucket: str,
        *,
        domain_type: DomainType = DomainType.SOURCE,
        https: str | None = None,
        freeze_types: Sequence[str] = (),
        account: str | None = None,
    ) -> BucketDomain:
        """Add a domain of a bucket. `https` is the id of a source domain's certificate."""
        uid = self.accounts.uid(account)
        with self._lock:
            bound = self.certificates.find(https, uid) if https else None
            domain = BucketDomain(
                name, bucket, uid, domain_type, bound, self._clock(), tuple(freeze_types)
            )
            self.kodo.add_domain(domain)
        return domain

    def add_live_domain(
        self,
        name: str,
        hub: str,
        *,
        type: LiveType = "liveHls",  # noqa: A002 - Qiniu's word
        https: str | None = None,
        account: str | None = None,
    ) -> LiveDomain:
        """Add a domain of a Pili hub. `https` is the id of the certificate."""
        uid = self.accounts.uid(account)
        with self._lock:
            bound = self.certificates.find(https, uid) if https else None
            domain = LiveDomain(name, hub, uid, type, bound)
            self.live.add_domain(domain)
        return domain

    def domain(self, name: str) -> Domain:
        """Return a CDN domain as it is now. Raises LookupError."""
        with self._lock:
            return self.domains.find(name, self._clock())

    def bound(self, name: str) -> str | None:
        """Return the id of a CDN domain's certificate, or None. Raises LookupError."""
        certificate = self.domain(name).https.certificate
        return certificate.id if certificate else None

    def bound_at_kodo(self, name: str) -> str | None:
        """Return the id of a bucket domain's certificate, or None. Raises LookupError."""
        return self._bound_in(self.kodo, name)

    def bound_at_pili(self, name: str) -> str | None:
        """Return the id of a live domain's certificate, or None. Raises LookupError."""
        return self._bound_in(self.live, name)

    def _bound_in(self, place: Kodo | Pili, name: str) -> str | None:
        with self._lock:
            domain = place.find(name)
        if domain is None:
            raise LookupError(name)
        return domain.certificate.id if domain.certificate else None

    def change_in_console(self, name: str, conf: HttpsConf, *, listed: bool = True) -> None:
        """Change a domain's HTTPS as another tool would; the change ends at once.

        Unless `listed`, `modifyAt` and the operation stay as before, in lists and reads (a guess,
        §5.1).
        """
        now = self._clock()
        with self._lock:
            domain = self.domain(name)
            shown = domain.modified, domain.tasks, domain.operation
            domain.accept(Change("modify_https_conf", conf, now, ""), now)
            domain.settle(now)
            if not listed:
                domain.modified, domain.tasks, domain.operation = shown

    def hold(self, name: str) -> None:
        """Keep a domain's change `processing`: the change in progress, or else the next change."""
        self.domain(name).held = True

    def release(self, name: str) -> None:
        """Let a held change end when the processing time is over, at the earliest now."""
        with self._lock:
            self.domain(name).release(self._clock())

    def fail_next(
        self, name: str, description: str = CERTIFICATE_FAILURE, *, sticks: bool = False
    ) -> None:
        """Make a domain's next accepted change fail, with `description` as `operatingStateDesc`.

        `sticks`: the domain then shows the new settings, while the edges serve the old certificate.
        """
        with self._lock:
            self.domains.fail_next(name, description, sticks=sticks)

    @property
    def services(self) -> tuple[HttpService, ...]:
        """The HTTP services of the hosts, without the services of `objects`."""
        return self.api, self.fusion, self.uc, self.api_backup, self.uc_backup, self.pili

    def _answer(self, host: Host, request: Request) -> Response:
        self.before(request)
        try:
            with self._lock:
                response = self._work(host, request, self._clock())
            if self.null_lists:
                response = with_null_lists(response)
        except Refused as refusal:
            response = _refusal(host, refusal)
        return response.with_header("X-Reqid", request_id(self._clock()))

    def _work(self, host: Host, request: Request, now: datetime) -> Response:
        if host in {Host.UC, Host.UC_BACKUP} and request.path == "/v4/query":
            return self.objects.query(request)
        # Check the signature first: only a client with a key may learn of unknown paths (§1.3).
        caller = self.accounts.caller(request, now)
        self.rate_limit.count(host, caller.uid, now)
        work, name = self._routes.find(host, request, caller.scheme)
        return work(SignedCall(caller, request, name, now))

    def _in_use(self, cert_id: str, now: datetime) -> int | None:
        if self.domains.uses(cert_id, now):
            return 400611
        return 400911 if self.kodo.uses(cert_id) else None

    def _served(self, host: str, moment: datetime) -> Identity | None:
        with self._lock:
            domain = self.domains.serving(host, self._clock())
            if domain is not None:
                return domain.shown_at(moment)
            other = self.kodo.find(host) or self.live.find(host)
            return other.applied.at(moment) if other else None


def _refusal(host: Host, refusal: Refused) -> Response:
    """Return a refusal as an HTTP answer. Kodo adds `error_code` to a 401 (§2.4)."""
    if host in {Host.UC, Host.UC_BACKUP} and refusal.status == HTTPStatus.UNAUTHORIZED:
        return refusal.response(error_code="BadToken")
    return refusal.response()
