"""Kodo: buckets, their domains, and the certificates of source domains (docs/facts/qiniu.md §6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from http import HTTPStatus
from typing import Any

from certferry_sandbox.edges import Timeline
from certferry_sandbox.httpd import Response
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.qiniu.certificates import StoredCertificate, covers
from certferry_sandbox.qiniu.signing import SignedCall


class DomainType(IntEnum):
    """The kind of a bucket's domain, `domaintype` in answers."""

    CDN = 0
    SOURCE = 1
    BOTH = 2


@dataclass
class BucketDomain:
    """A domain of a bucket. In the stand-in, only source domains have a certificate.

    `freeze_types`: why the domain is frozen, in the console's words: `ICP_EXPIRED`, `VIOLATION`.
    """

    name: str
    bucket: str
    uid: int
    domain_type: DomainType
    certificate: StoredCertificate | None
    created: datetime
    freeze_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.applied = Timeline(self.certificate)

    def bind(self, certificate: StoredCertificate | None, now: datetime) -> None:
        """Bind a certificate at once. Kodo is not known to have a processing state."""
        self.certificate = certificate
        self.applied.note(now, certificate)


class Kodo:
    """Buckets and bucket domains of all accounts, and the calls on them."""

    def __init__(
        self,
        find_certificate: Callable[[str, int], StoredCertificate],
        is_cdn_domain: Callable[[str], bool],
    ) -> None:
        self._find_certificate = find_certificate
        self._is_cdn_domain = is_cdn_domain
        self._buckets: dict[str, int] = {}
        self._domains: dict[str, BucketDomain] = {}

    def add_bucket(self, name: str, uid: int) -> None:
        """Add a bucket."""
        self._buckets[name] = uid

    def add_domain(self, domain: BucketDomain) -> None:
        """Add a domain, and the bucket if missing."""
        self._buckets.setdefault(domain.bucket, domain.uid)
        self._domains[domain.name] = domain

    def find(self, name: str) -> BucketDomain | None:
        """Return the domain of this name, of any account."""
        return self._domains.get(name)

    def uses(self, cert_id: str) -> bool:
        """Whether a source domain is bound to a certificate."""
        return any(d.certificate and d.certificate.id == cert_id for d in self._domains.values())

    def buckets(self, call: SignedCall) -> Response:
        """`GET /buckets`: an array of names."""
        return Response.json([name for name, uid in self._buckets.items() if uid == call.uid])

    def domains_v3(self, call: SignedCall) -> Response:
        """`GET /v3/domains?tbl=<bucket>`: domains of every kind; 404 for a bucket without any."""
        domains = self._of_bucket(call, "tbl")
        if not domains:
            raise Refused.not_found()
        return Response.json([_v3_to_wire(domain) for domain in domains])

    def source_domains(self, call: SignedCall) -> Response:
        """`GET /domain?bucket=<bucket>`: only source domains; with `type`, the fields of §6.4."""
        domains = self._of_bucket(call, "bucket")
        if call.query.get("type", "") not in {"", "source"}:
            raise Refused(None, "invalid type", status=HTTPStatus.BAD_REQUEST)
        to_wire = _typed_to_wire if "type" in call.query else _source_to_wire
        return Response.json([to_wire(d) for d in domains if d.domain_type is not DomainType.CDN])

    def bind(self, call: SignedCall) -> Response:
        """`POST` or `PUT /cert/bind`."""
        domain, certificate = self._named(call)
        if domain.freeze_types:
            raise Refused(None, "domain is frozen", status=HTTPStatus.BAD_REQUEST)
        if not covers(certificate.names, domain.name):
            raise Refused(None, "cert does not match the domain", status=HTTPStatus.BAD_REQUEST)
        domain.bind(certificate, call.now)
        return Response.json({})

    def bindings(self, call: SignedCall) -> Response:
        """`GET /cert/bindings`: an array of the account's domains with a certificate."""
        _refuse_sub_account(call)
        own = [d for d in self._domains.values() if d.uid == call.uid]
        return Response.json(
            [
                {"uid": d.uid, "name": c.name, "certid": c.id, "domain": d.name}
                for d in own
                if (c := d.certificate) is not None
            ]
        )

    def _named(self, call: SignedCall) -> tuple[BucketDomain, StoredCertificate]:
        """Return the source domain and the certificate in the body. Raises `Refused`."""
        _refuse_sub_account(call)
        fields = call.fields("BindCertArgs")
        name, cert_id = fields.string("domain"), fields.string("certid")
        domain = self._domains.get(name)
        if self._is_cdn_domain(name) or (domain and domain.domain_type is DomainType.CDN):
            raise Refused(None, "domaintype is not allowed", status=HTTPStatus.FORBIDDEN)
        if domain is None or domain.uid != call.uid:
            raise Refused(None, "invalid domain", status=HTTPStatus.BAD_REQUEST)
        try:
            return domain, self._find_certificate(cert_id, call.uid)
        except Refused as problem:
            raise Refused(None, "invalid certid", status=HTTPStatus.BAD_REQUEST) from problem

    def _of_bucket(self, call: SignedCall, parameter: str) -> list[BucketDomain]:
        bucket = call.query.get(parameter, "")
        if self._buckets.get(bucket) != call.uid:
            raise Refused.not_found()
        return [domain for domain in self._domains.values() if domain.bucket == bucket]


def _refuse_sub_account(call: SignedCall) -> None:
    """Refuse a sub-account key with "bad token", as users of this unlisted API report (§6.2)."""
    if call.caller.iam:
        raise Refused.bad_token()


def _v3_to_wire(domain: BucketDomain) -> dict[str, Any]:
    return {
        "domain": domain.name,
        "tbl": domain.bucket,
        "uid": domain.uid,
        "domaintype": int(domain.domain_type),
        "apiscope": 0,
        "ctime": int(domain.created.timestamp()),
        "utime": int(domain.created.timestamp()),
        "refresh": False,
        "freeze_types": list(domain.freeze_types),
    }


def _typed_to_wire(domain: BucketDomain) -> dict[str, Any]:
    types = {DomainType.SOURCE: ["source"], DomainType.BOTH: ["source", "cdn"]}
    return {"domain": domain.name, "domain_types": types[domain.domain_type], "api_scope": 0}


def _source_to_wire(domain: BucketDomain) -> dict[str, Any]:
    return {
        "domain": domain.name,
        "bucket": domain.bucket,
        "create_time": int(domain.created.timestamp()),
        "update_time": int(domain.created.timestamp()),
        "freeze_types": list(domain.freeze_types),
    }
