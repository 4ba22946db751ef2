"""The calls of Qiniu's hosts, the signature schemes of each call, and the limit of requests a
second.

Strict hosting follows the documents of 2026: certificates at fusion under QBox, domains at api
under Qiniu. Lenient hosting also has answers seen in production: api takes certificates, and both
schemes (docs/facts/qiniu.md §1.2). The documents leave out `/cert/...`: strict hosting has the
hosts and schemes that work for most programs, and `Hosting` can be set to others (§6.2, §6.3).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Literal, Self

from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.qiniu.certificates import Certificates
from certferry_sandbox.qiniu.domains import Domains
from certferry_sandbox.qiniu.kodo import Kodo
from certferry_sandbox.qiniu.pili import Pili
from certferry_sandbox.qiniu.signing import Scheme, SignedCall

Work = Callable[[SignedCall], Response]


class Host(StrEnum):
    """Qiniu's hosts: api.qiniu.com, fusion.qiniuapi.com, uc.qiniuapi.com and pili.qiniuapi.com.

    The backup of api is api.qiniuapi.com; the backup of uc is kodo-config.qiniuapi.com.
    """

    API = "api"
    FUSION = "fusion"
    UC = "uc"
    API_BACKUP = "api backup"
    UC_BACKUP = "uc backup"
    PILI = "pili"


BOTH = frozenset(Scheme)
QBOX = frozenset({Scheme.QBOX})
QINIU = frozenset({Scheme.QINIU})
Signed = Mapping[Host, frozenset[Scheme]]


@dataclass
class Hosting:
    """For each group of calls, the hosts that answer and the schemes that each host takes.

    Every field may change at any time.
    `unknown_is_401`: an unknown path below `/domain/` answers 401, as at api.qiniu.com (§1.3).
    """

    certificates: Signed
    domains: Signed
    buckets: Signed
    bucket_domains: Signed
    source_domains: Signed
    bindings: Signed
    bind: Signed
    live: Signed
    unknown_is_401: bool = False

    @classmethod
    def of(cls, *, strict: bool) -> Self:
        """Return the strict or the lenient hosting."""
        at_uc: Signed = dict.fromkeys((Host.UC, Host.UC_BACKUP), QINIU if strict else BOTH)
        return cls(
            certificates={Host.FUSION: QBOX} | ({} if strict else {Host.API: BOTH}),
            domains={Host.API: QINIU if strict else BOTH},
            buckets=at_uc,
            bucket_domains=at_uc,
            source_domains=at_uc,
            bindings={Host.UC: QINIU} | ({} if strict else {Host.API: BOTH}),
            bind={Host.API: QBOX if strict else BOTH},
            live={Host.PILI: QINIU},
        )


@dataclass(frozen=True)
class Route:
    """A call. The group in `path` is `SignedCall.name`, such as a domain.

    `signed`: returns the hosts of the call, with the schemes that each host takes.
    `work`: answers the call.
    """

    methods: frozenset[str]
    path: re.Pattern[str]
    signed: Callable[[], Signed]
    work: Work


class Routes:
    """The signed calls of all `Host`s."""

    def __init__(
        self,
        certificates: Certificates,
        domains: Domains,
        kodo: Kodo,
        pili: Pili,
        hosting: Hosting,
    ) -> None:
        self._hosting = hosting
        calls: dict[str, list[tuple[str, str, Work]]] = {
            "certificates": [
                ("POST", "/sslcert()", certificates.upload),
                ("GET", "/sslcert()", certificates.listing),
                ("GET", "/sslcert/([^/]+)", certificates.read),
                ("DELETE", "/sslcert/([^/]+)", certificates.delete),
            ],
            "domains": [
                ("GET", "/domain()", domains.listing),
                ("GET", "/domain/([^/]+)", domains.read),
                ("PUT", "/domain/([^/]+)/httpsconf", domains.httpsconf),
                ("PUT", "/domain/([^/]+)/sslize", domains.sslize),
            ],
            "bind": [
                ("POST PUT", "/cert/bind()", kodo.bind),
            ],
            "bindings": [("GET", "/cert/bindings()", kodo.bindings)],
            "buckets": [("GET", "/buckets()", kodo.buckets)],
            "bucket_domains": [
                ("GET", "/v3/domains()", kodo.domains_v3),
            ],
            "source_domains": [("GET", "/domain()", kodo.source_domains)],
            "live": [
                ("GET", "/v2/hubs()", pili.hubs),
                ("GET", "/v2/hubs/([^/]+)/domains", pili.domains),
                ("GET", "/v2/hubs/([^/]+/domains/[^/]+)", pili.read),
                ("POST", "/v2/hubs/([^/]+/domains/[^/]+)/cert", pili.bind),
            ],
        }
        self._routes = [
            _route(methods, path, partial(getattr, hosting, name), work)
            for name, group in calls.items()
            for methods, path, work in group
        ]

    def find(self, host: Host, request: Request, scheme: Scheme) -> tuple[Work, str]:
        """Return the function that answers a request, and the name in the path.

        Raises `Refused`: 404 for a call that the host lacks, 401 for the wrong scheme (§1.1).
        """
        for route in self._routes:
            match = route.path.fullmatch(request.path)
            if match and request.method in route.methods and host in route.signed():
                if scheme not in route.signed()[host]:
                    raise Refused.bad_token()
                return route.work, match[1]
        if self._hosting.unknown_is_401 and request.path.startswith("/domain/"):
            raise Refused.bad_token()
        raise Refused.not_found()


def _route(methods: str, path: str, signed: Callable[[], Signed], work: Work) -> Route:
    return Route(frozenset(methods.split()), re.compile(path), signed, work)


class RateLimit:
    """The most requests a second from an account to a host; `per_second` None is no limit.

    `status`: the HTTP status above the limit; Qiniu has 403 and 429 (docs/facts/qiniu.md §9).
    """

    def __init__(self) -> None:
        self.per_second: int | None = None
        self.status: Literal[403, 429] = 403
        self._recent: dict[tuple[Host, int], deque[datetime]] = {}

    def count(self, host: Host, uid: int, now: datetime) -> None:
        """Count a request. Raises `Refused` above the limit."""
        if self.per_second is None:
            return
        recent = self._recent.setdefault((host, uid), deque())
        while recent and now - recent[0] >= timedelta(seconds=1):
            recent.popleft()
        if len(recent) >= self.per_second:
            raise Refused(403024, status=self.status)
        recent.append(now)
