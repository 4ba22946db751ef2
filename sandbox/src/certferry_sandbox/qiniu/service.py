"""A stand-in of Qiniu: its hosts, its accounts, and the edges of its CDN.

Built from docs/facts/qiniu.md §11.2. It takes nothing on trust: signatures,
hosts, schemes, bodies and certificates are checked as the documents say.
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
PROCESSING_TIME = timedelta(seconds=0.3)  # at Qiniu 5 to 15 minutes, or hours (§5.6)


class QiniuService:
    """Qiniu on loopback: `api`, `fusion`, `uc`, `api_backup`, `uc_backup` and `pili` are HTTP
    services, `objects` the objects of Kodo's buckets, `edges` the edges of the CDN and of live
    domains.

    Accounts, certificates and domains that are "already there" are added by methods; what the
    parts do beyond that is switched on them: `certificates.rules`, `certificates.quota`,
    `domains.processing_time`, `rate_limit.per_second`, `edges[0].lag`, `api.faults` and so on.

    `clock` is asked for every moment: date skew, validities, the end of processing, the edges'
    lag. Nothing runs in the background; a domain's state is worked out when it is looked at.
    `edge_lags` names the edges' addresses. `strict` is explained in `routes`, where `hosting`
    comes from. With `null_lists` an empty list is written as null (§3.3). `before` is called with
    each request before anything is done.
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
        """Listen everywhere."""
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
        """In place of https://api.qiniu.com."""
        return self.api.url

    @property
    def fusion_url(self) -> str:
        """In place of https://fusion.qiniuapi.com."""
        return self.fusion.url

    @property
    def uc_url(self) -> str:
        """In place of https://uc.qiniuapi.com."""
        return self.uc.url

    @property
    def api_backup_url(self) -> str:
        """In place of https://api.qiniuapi.com."""
        return self.api_backup.url

    @property
    def uc_backup_url(self) -> str:
        """In place of https://kodo-config.qiniuapi.com."""
        return self.uc_backup.url

    @property
    def pili_url(self) -> str:
        """In place of https://pili.qiniuapi.com."""
        return self.pili.url

    def requests(self, pattern: str = "*") -> list[Request]:
        """The requests to all hosts whose "METHOD /path" matches the shell pattern."""
        return [found for service in self.services for found in service.requests(pattern)]

    def writes(self) -> list[Request]:
        """The requests to all hosts that ask for a change: POST, PUT and DELETE."""
        return [write for service in self.services for write in service.writes()]

    def add_account(self, access_key: str, secret_key: str) -> int:
        """Open an account and return its uid. The first one is the default of the others below."""
        return self.accounts.add(access_key, secret_key)

    def add_iam_key(
        self, access_key: str, secret_key: str, *, owner: str, reads_only: bool = False
    ) -> None:
        """Add the key of a sub-account of the account with the key `owner`."""
        self.accounts.add_iam_key(access_key, secret_key, owner=owner, reads_only=reads_only)

    def trust(self, root_pem: str) -> None:
        """Take certificates that lead to this root for publicly trusted."""
        self.certificates.rules.roots.append(x509.load_pem_x509_certificate(root_pem.encode()))

    def add_certificate(self, issued: Identity, name: str, *, account: str | None = None) -> str:
        """Put in a certificate that was uploaded some time ago, unchecked, and return its id."""
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
        """Put in a CDN or DCDN domain; `https` is the id of its certificate, None for HTTP alone.

        A wildcard domain's name begins with a dot. `parent` is for `type="pan"`. A domain put in
        with `state="processing"` stays so until `release`. With a free certificate, the edges show
        `free_identity`, if there is one.
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
        """Put in a Kodo bucket, a private one without objects."""
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
        """Put in a domain of a bucket; `https` is the id of a source domain's certificate."""
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
        """Put in a domain of a hub of Pili; `https` is the id of its certificate."""
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
        """The id of the certificate that a CDN domain is bound to."""
        certificate = self.domain(name).https.certificate
        return certificate.id if certificate else None

    def bound_at_kodo(self, name: str) -> str | None:
        """The id of the certificate that a source domain is bound to. Raises LookupError."""
        return self._bound_in(self.kodo, name)

    def bound_at_pili(self, name: str) -> str | None:
        """The id of the certificate that a live domain is bound to. Raises LookupError."""
        return self._bound_in(self.live, name)

    def _bound_in(self, place: Kodo | Pili, name: str) -> str | None:
        with self._lock:
            domain = place.find(name)
        if domain is None:
            raise LookupError(name)
        return domain.certificate.id if domain.certificate else None

    def change_in_console(self, name: str, conf: HttpsConf, *, listed: bool = True) -> None:
        """Change a domain's HTTPS, as another tool would; it has come to its end already. A change
        that is not `listed` leaves the list as it was (`modifyAt`: §5.1, a guess).
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
        """Keep a domain's change `processing`, the one in progress or else the next."""
        self.domain(name).held = True

    def release(self, name: str) -> None:
        """End a held change now, or when its processing time is over."""
        with self._lock:
            self.domain(name).release(self._clock())

    def fail_next(
        self, name: str, description: str = CERTIFICATE_FAILURE, *, sticks: bool = False
    ) -> None:
        """Make a domain's next accepted change end in `failed`, with this `operatingStateDesc`.

        `sticks`: the domain then shows what was asked for, though the edges serve what was before.
        """
        with self._lock:
            self.domains.fail_next(name, description, sticks=sticks)

    @property
    def services(self) -> tuple[HttpService, ...]:
        """Every HTTP service."""
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
        # The signature comes first: only who may ask learns that a path leads nowhere (§1.3).
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
    """Kodo's gateways name a 401 as well (§2.4)."""
    if host in {Host.UC, Host.UC_BACKUP} and refusal.status == HTTPStatus.UNAUTHORIZED:
        return refusal.response(error_code="BadToken")
    return refusal.response()
