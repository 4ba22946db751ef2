"""A CA with dns-persist-01 (draft-ietf-acme-dns-persist-02): Pebble behind a proxy that checks the
records.

If a record proves a domain, the proxy writes a DNS-01 value, and Pebble validates the value.
Without a valid record, Pebble refuses the domain. The proxy reads records independently of
certferry.
"""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import dns.resolver
from josepy.b64 import b64decode, b64encode
from josepy.jwk import JWKEC

from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.proxy import ERROR, Proxy, with_fields

ISSUERS = ["authority.test", "ca.test"]
PREFIX = "https://ca.test/account-hash/"
DNS_01, DNS_PERSIST_01 = "dns-01", "dns-persist-01"

_CHALLENGE = "/chalZ/"
_AUTHORIZATION = "/authZ/"


@dataclass
class _Challenge:
    """The challenge at a URL. `record_id` is the id of the proxy's DNS-01 value in DNS."""

    domain: str
    wildcard: bool
    token: str
    record_id: int | None = None
    failure: tuple[str, str] | None = None


class PersistCa(Proxy):
    """`offers` are the challenge types of each authorization, `meta` extends the directory's
    `meta`, and `taken` are the issuers in each challenge. `proven` lists the domains proven by a
    record, and `before_looking` is called before each lookup of records.
    """

    def __init__(self, upstream: Pebble, zones: Zones, resolver: str) -> None:
        super().__init__(upstream)
        self.offers = {DNS_PERSIST_01}
        self.meta: dict[str, Any] = {"issuerDomainNames": ISSUERS, "accountHashPrefix": PREFIX}
        self.taken = list(ISSUERS)
        self.proven: list[str] = []
        self.before_looking: Callable[[], object] = lambda: None
        self._zones = zones
        host, _, port = resolver.rpartition(":")
        self._resolver = dns.resolver.Resolver(configure=False)
        self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, int(port))]
        self._accounts: dict[str, list[str]] = {}
        self._challenges: dict[str, _Challenge] = {}

    @property
    def orders(self) -> int:
        return len(self.requests("POST /order-plz"))

    def _ask(self, request: Request) -> Response:
        challenge = self._challenges.get(request.path)
        if challenge is not None and DNS_PERSIST_01 in self.offers:
            self._validate(request, challenge)
        response = super()._ask(request)
        if response.status < 400:
            self._learn(request, response)
        if request.path == "/dir":
            document = json.loads(response.body)
            return with_fields(response, meta={**document.get("meta", {}), **self.meta})
        if request.path.startswith(_AUTHORIZATION):
            return self._authorization(response)
        return response

    # --- Accounts, with all of their keys (§4.2)

    def _learn(self, request: Request, response: Response) -> None:
        if request.path == "/sign-me-up":
            headers = dict(response.headers)
            self._add_key(headers["Location"], _protected(request)["jwk"])
        if request.path == "/rollover-account-key":
            inner = json.loads(b64decode(json.loads(request.body)["payload"]))
            payload = json.loads(b64decode(inner["payload"]))
            self._add_key(payload["account"], json.loads(b64decode(inner["protected"]))["jwk"])

    def _add_key(self, url: str, jwk: dict[str, str]) -> None:
        key = JWKEC.from_json(jwk)
        assert isinstance(key, JWKEC)
        thumbprint = b64encode(key.thumbprint()).decode()
        keys = self._accounts.setdefault(url, [])
        if thumbprint not in keys:
            keys.insert(0, thumbprint)

    # --- Authorizations

    def _authorization(self, response: Response) -> Response:
        document = json.loads(response.body)
        (pebbles,) = [entry for entry in document["challenges"] if entry["type"] == DNS_01]
        path = pebbles["url"].removeprefix(self.url)
        domain, is_wild = document["identifier"]["value"], document.get("wildcard", False)
        new = _Challenge(domain, is_wild, pebbles["token"])
        challenge = self._challenges.setdefault(path, new)
        if document["status"] != "pending" and challenge.record_id is not None:
            self._zones.remove(challenge.record_id)
            challenge.record_id = None
        error = {}
        if challenge.failure is not None and "error" in pebbles:
            kind, detail = challenge.failure
            error = {"error": {"type": f"{ERROR}{kind}", "detail": detail, "status": 403}}
        offered = {
            DNS_01: pebbles,
            DNS_PERSIST_01: {
                "type": DNS_PERSIST_01,
                "url": pebbles["url"],
                "status": pebbles["status"],
                "issuerDomainNames": self.taken,
                **error,
            },
        }
        return with_fields(response, challenges=[offered[kind] for kind in sorted(self.offers)])

    # --- Records

    def _validate(self, request: Request, challenge: _Challenge) -> None:
        payload = json.loads(request.body)["payload"]
        if b64decode(payload) != b"{}":
            return
        self.before_looking()
        url = _protected(request)["kid"]
        challenge.failure = self._failure(challenge, url)
        if challenge.failure is None:
            self.proven.append(challenge.domain)
            value = sha256(f"{challenge.token}.{self._accounts[url][0]}".encode()).digest()
            name = f"_acme-challenge.{challenge.domain}"
            challenge.record_id = self._zones.create(name, "TXT", b64encode(value).decode()).id

    def _failure(self, challenge: _Challenge, url: str) -> tuple[str, str] | None:
        """Read and judge the records (§4.3.2)."""
        failure = ("unauthorized", f"no record for us at _validation-persist.{challenge.domain}")
        for value in self._values(f"_validation-persist.{challenge.domain}"):
            issuer, _, parameters = value.partition(";")
            if issuer.strip() not in self.taken:
                continue
            failure_here = self._judged(parameters, challenge, url)
            if failure_here is None:
                return None
            failure = failure_here
        return failure

    def _judged(self, text: str, challenge: _Challenge, url: str) -> tuple[str, str] | None:
        pairs = [re.fullmatch(r"\s*([\w-]+)=([!-:<-~]*)\s*", part) for part in text.split(";")]
        items = [(pair[1], pair[2]) for pair in pairs if pair is not None]
        parameters = dict(items)
        until = parameters.get("persistUntil", "9" * 12)
        if None in pairs or len(items) != len(parameters) or not until.isdecimal():
            return "malformed", "the record cannot be read"
        hashed = {
            PREFIX + "sha-256/" + _hash(name, key, url)
            for name in (challenge.domain, "*")
            for key in self._accounts[url]
        }
        if parameters.get("accounturi") not in hashed:
            return "unauthorized", "the record names another account"
        if challenge.wildcard and parameters.get("policy", "").lower() != "wildcard":
            return "unauthorized", "the record does not allow wildcards"
        return ("unauthorized", "the record has ended") if int(until) < time.time() else None

    def _values(self, name: str) -> list[str]:
        try:
            answer = self._resolver.resolve(name, "TXT")
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        return [b"".join(record.strings).decode() for record in answer]


def bundle_of(ca: PersistCa, path: Path) -> Path:
    ca.authority.cert_pem.write_to_path(path)
    return path


def _hash(name: str, key: str, url: str) -> str:
    octets = bytes([len(name)]) + name.encode() + key.encode() + url.encode()
    return urlsafe_b64encode(sha256(octets).digest()).decode().rstrip("=")


def _protected(request: Request) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(b64decode(json.loads(request.body)["protected"]))
    return header
