"""A stand-in of Cert Spotter's search (v1): the certificates of a domain in the order of discovery.

Documented (sslmate.com/help/reference/ct_search_api_v1, see docs/facts/transparency.md §1): path,
parameters, fields, order, the empty page at the end. From recorded answers: `friendly_name`,
`revoked`. From memory: the errors' codes, Retry-After, the refusal of public suffixes. The stand-in
is stricter than the service: unknown and repeated parameters and unknown ids are refused.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from certferry_sandbox.httpd import HttpService, HttpStandIn, Request, Response, utc_now

PATH = "/v1/issuances"
ONCE = frozenset({"domain", "include_subdomains", "match_wildcards", "after"})
EXPANDED = ("dns_names", "issuer")
SUFFIXES = frozenset({"com", "org", "net", "cn", "com.cn", "com.br", "duckdns.org"})
"""Public suffixes: the service searches for none of these."""
AN_HOUR = timedelta(hours=1)

Entry = dict[str, Any]


class Refused(Exception):
    """The request ends with an error."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(code)
        self.response = Response.json({"code": code, "message": message}, status, **headers)


class CertSpotterService(HttpStandIn):
    """The search on loopback, in plain HTTP.

    `page_size` is the number of certificates on a page, and `per_hour` the number of requests
    answered in an hour. With `token`, each request needs the key. With `loops`, the page after the
    last certificate is the first page again. `change` alters each entry of an answer.
    """

    def __init__(self, *, now: Callable[[], datetime] = utc_now) -> None:
        self.http = HttpService(self._answer, clock=now)
        self.page_size = 100
        self.per_hour: int | None = None
        self.token: str | None = None
        self.loops = False
        self.change: Callable[[Entry], object] = lambda entry: entry
        self._now = now
        self._entries: list[Entry] = []
        self._ids = itertools.count(5_053_409_476)
        self._asked = deque[datetime]()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The value of `api`."""
        return self.http.url

    def log(
        self, certificate: x509.Certificate, friendly_name: str | None = None, **changes: object
    ) -> str:
        """Log a certificate, or the certificate's precertificate, and return the id. A logged
        certificate has one certificate, so logging again changes nothing.
        """
        organisation = certificate.issuer.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
        issuer: Entry = {
            "name": certificate.issuer.rfc4514_string(),
            "pubkey_sha256": hashlib.sha256(certificate.issuer.public_bytes()).hexdigest(),
        }
        if friendly_name or organisation:
            issuer["friendly_name"] = friendly_name or str(organisation[0].value)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        tbs = tbs_without_scts(certificate)
        key = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        facts = {
            "tbs_sha256": hashlib.sha256(tbs).hexdigest(),
            "cert_sha256": certificate.fingerprint(hashes.SHA256()).hex(),
            "dns_names": names.get_values_for_type(x509.DNSName),
            "pubkey_sha256": hashlib.sha256(key).hexdigest(),
            "issuer": issuer,
            "not_before": _rfc3339(certificate.not_valid_before_utc),
            "not_after": _rfc3339(certificate.not_valid_after_utc),
            "revoked": False,
        }
        return self.log_entry({**facts, **changes})

    def log_entry(self, facts: Entry) -> str:
        """Log a certificate with these fields, and return the id."""
        with self._lock:
            for entry in self._entries:
                if entry["tbs_sha256"] == facts["tbs_sha256"]:
                    return str(entry["id"])
            entry = {"id": str(next(self._ids)), **facts}
            self._entries.append(entry)
            return str(entry["id"])

    def list_again(self, id_: str) -> None:
        """List a certificate a second time, under another id."""
        with self._lock:
            (entry,) = (entry for entry in self._entries if entry["id"] == id_)
            self._entries.append({**entry, "id": str(next(self._ids))})

    def _answer(self, request: Request) -> Response:
        with self._lock:
            try:
                return Response.json(self._page(request))
            except Refused as refused:
                return refused.response

    def _page(self, request: Request) -> list[object]:
        if request.path != PATH:
            raise Refused(404, "not_found", "There is no such endpoint.")
        if request.method != "GET":
            raise Refused(405, "method_not_allowed", "Use GET.")
        if self.token is not None and request.headers.get("Authorization") != (
            f"Bearer {self.token}"
        ):
            raise Refused(401, "unauthorized", "The API key is not valid.")
        self._count()
        query, expand = _query(request)
        domain = query.get("domain", "")
        if "." not in domain or domain in SUFFIXES or domain != domain.lower():
            raise Refused(400, "invalid_domain", f"{domain} is not a registered domain.")
        listed = [entry for entry in self._entries if self._is_listed(entry, query)]
        if "after" in query:
            # The certificate with the id may have expired since.
            places = {entry["id"]: place for place, entry in enumerate(self._entries)}
            if query["after"] not in places:
                raise Refused(400, "invalid_parameter", "There is no certificate with this id.")
            after = places[query["after"]]
            later = [entry for entry in listed if places[entry["id"]] > after]
            listed = listed if self.loops and not later else later
        return [
            self.change({k: v for k, v in entry.items() if k not in EXPANDED or k in expand})
            for entry in listed[: self.page_size]
        ]

    def _is_listed(self, entry: Entry, query: dict[str, str]) -> bool:
        domain, below = query["domain"], query.get("include_subdomains") == "true"
        names = entry["dns_names"] if isinstance(entry["dns_names"], list) else [domain]
        is_within = any(
            name == domain or (below and str(name).endswith(f".{domain}")) for name in names
        )
        end = str(entry["not_after"])
        return is_within and not (end.startswith("2") and end <= _rfc3339(self._now()))

    def _count(self) -> None:
        now = self._now()
        while self._asked and now - self._asked[0] >= AN_HOUR:
            self._asked.popleft()
        if self.per_hour is not None and len(self._asked) >= self.per_hour:
            wait = AN_HOUR - (now - self._asked[0]) if self._asked else AN_HOUR
            seconds = str(int(wait.total_seconds()))
            raise Refused(429, "rate_limited", "Too many requests.", Retry_After=seconds)
        self._asked.append(now)


def tbs_without_scts(certificate: x509.Certificate) -> bytes:
    """Return the TBSCertificate without SCTs (RFC 6962 §3.2)."""
    try:
        return certificate.tbs_precertificate_bytes
    except ValueError:  # the certificate has no SCTs
        return certificate.tbs_certificate_bytes


def _query(request: Request) -> tuple[dict[str, str], Iterable[str]]:
    pairs = parse_qsl(request.query, keep_blank_values=True, strict_parsing=True)
    expand = [value for name, value in pairs if name == "expand"]
    others = [(name, value) for name, value in pairs if name != "expand"]
    query = dict(others)
    is_unknown = not query.keys() <= ONCE or not {*expand} <= {*EXPANDED}
    if is_unknown or len(query) != len(others) or len({*expand}) != len(expand):
        raise Refused(400, "invalid_parameter", "A parameter is unknown or repeated.")
    if query.get("include_subdomains", "true") not in {"true", "false"}:
        raise Refused(400, "invalid_parameter", "include_subdomains is true or false.")
    return query, expand


def _rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
