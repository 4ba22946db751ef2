"""Which call lives on which of Qiniu's hosts, which scheme must sign it there,
and how many requests Qiniu takes in a second.

Strict is what the documents of 2026 say: certificates on fusion under QBox, domains on api under
Qiniu. Lenient is what has been seen to work: api takes both schemes for everything
(docs/facts/qiniu.md §1.2). `/cert/...` is in no document: strict is what works for most programs,
and `Hosting` can be set to what works for the others (§1.2, §6.2, §6.3).
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
    """Qiniu's hosts: api.qiniu.com, fusion.qiniuapi.com, uc.qiniuapi.com, those that stand in
    for the first and the last of them: api.qiniuapi.com, kodo-config.qiniuapi.com; and
    pili.qiniuapi.com.
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
    """Which hosts answer which calls, and under which schemes. Each may be set at any time.

    `unknown_is_401`: a path below a domain that is no call answers 401, as api.qiniu.com does
    (§1.3).
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
        """Return the strict or the lenient one."""
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
    """A call; the group in `path` is the name of the thing it is about."""

    methods: frozenset[str]
    path: re.Pattern[str]
    signed: Callable[[], Signed]
    work: Work


class Routes:
    """The calls there are."""

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
        """The work for a request, and the name in its path.

        Raises Refused: 404 for what this host does not have, 401 for the wrong scheme (§1.1).
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
    """Requests per second that one account may send to one host; None: as many as it likes.

    Qiniu answers 403 with code 403024, or 429 (docs/facts/qiniu.md §9).
    """

    def __init__(self) -> None:
        self.per_second: int | None = None
        self.status: Literal[403, 429] = 403
        self._recent: dict[tuple[Host, int], deque[datetime]] = {}

    def count(self, host: Host, uid: int, now: datetime) -> None:
        """Count a request. Raises Refused when it is one too many."""
        if self.per_second is None:
            return
        recent = self._recent.setdefault((host, uid), deque())
        while recent and now - recent[0] >= timedelta(seconds=1):
            recent.popleft()
        if len(recent) >= self.per_second:
            raise Refused(403024, status=self.status)
        recent.append(now)
