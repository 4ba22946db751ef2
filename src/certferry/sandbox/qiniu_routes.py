"""Which call lives on which of Qiniu's hosts, and which scheme must sign it there.

Strict is what the documents of 2026 say: certificates on fusion under QBox, domains on api under
Qiniu. Lenient is what has been seen to work: api takes both schemes for everything
(Qiniu fact sheet §1). `/cert/...` is in no document and takes both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from certferry.sandbox.httpd import Request, Response
from certferry.sandbox.qiniu_answers import Refused
from certferry.sandbox.qiniu_certificates import Certificates
from certferry.sandbox.qiniu_domains import Domains
from certferry.sandbox.qiniu_kodo import Kodo
from certferry.sandbox.qiniu_signing import Scheme, Visit

Work = Callable[[Visit], Response]


class Host(StrEnum):
    """Qiniu's hosts: api.qiniu.com, fusion.qiniuapi.com, uc.qiniuapi.com."""

    API = "api"
    FUSION = "fusion"
    UC = "uc"


BOTH = frozenset(Scheme)
QBOX = frozenset({Scheme.QBOX})
QINIU = frozenset({Scheme.QINIU})
Signed = Mapping[Host, frozenset[Scheme]]


@dataclass(frozen=True)
class Route:
    """A call; the group in `path` is the name of the thing it is about."""

    methods: frozenset[str]
    path: re.Pattern[str]
    signed: Signed
    work: Work


class Routes:
    """The calls there are."""

    def __init__(
        self, certificates: Certificates, domains: Domains, kodo: Kodo, *, strict: bool
    ) -> None:
        on_fusion: Signed = {Host.FUSION: QBOX} | ({} if strict else {Host.API: BOTH})
        on_api: Signed = {Host.API: QINIU if strict else BOTH}
        on_uc: Signed = {Host.UC: QINIU if strict else BOTH}
        unlisted: Signed = {Host.API: BOTH}
        self._routes = [
            _route("POST", "/sslcert()", on_fusion, certificates.upload),
            _route("GET", "/sslcert()", on_fusion, certificates.listing),
            _route("GET", "/sslcert/([^/]+)", on_fusion, certificates.read),
            _route("DELETE", "/sslcert/([^/]+)", on_fusion, certificates.delete),
            _route("GET", "/domain()", on_api, domains.listing),
            _route("GET", "/domain/([^/]+)", on_api, domains.read),
            _route("PUT", "/domain/([^/]+)/httpsconf", on_api, domains.httpsconf),
            _route("PUT", "/domain/([^/]+)/sslize", on_api, domains.sslize),
            _route("PUT", "/domain/([^/]+)/unsslize", on_api, domains.unsslize),
            _route("POST PUT", "/cert/bind()", unlisted, kodo.bind),
            _route("POST", "/cert/unbind()", unlisted, kodo.unbind),
            _route("GET", "/cert/bindings()", unlisted, kodo.bindings),
            _route("GET", "/buckets()", on_uc, kodo.buckets),
            _route("GET", "/v3/domains()", on_uc, kodo.domains_v3),
            _route("GET", "/v2/domains()", on_uc, kodo.domains_v2),
            _route("GET", "/domain()", on_uc, kodo.source_domains),
        ]

    def find(self, host: Host, request: Request, scheme: Scheme) -> tuple[Work, str]:
        """The work for a request, and the name in its path.

        Raises Refused: 404 for what this host does not have, 401 for the wrong scheme (§1).
        """
        for route in self._routes:
            match = route.path.fullmatch(request.path)
            if match and request.method in route.methods and host in route.signed:
                if scheme not in route.signed[host]:
                    raise Refused.bad_token()
                return route.work, match[1]
        raise Refused.not_found()


def _route(methods: str, path: str, signed: Signed, work: Work) -> Route:
    return Route(frozenset(methods.split()), re.compile(path), signed, work)
