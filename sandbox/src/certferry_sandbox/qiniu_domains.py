"""Qiniu's CDN and DCDN domains: `/domain` (docs/facts/qiniu.md §5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from certferry_sandbox.httpd import Response
from certferry_sandbox.qiniu_answers import Fields, Refused, success
from certferry_sandbox.qiniu_certificates import StoredCertificate
from certferry_sandbox.qiniu_domain import Change, Domain, HttpsConf
from certferry_sandbox.qiniu_paging import Pager
from certferry_sandbox.qiniu_signing import Visit
from certferry_sandbox.qiniu_upload import covers

CERTIFICATE_FAILURE = "verify https crt fail"  # §5.2, operatingStateDesc
STATE_CODES = {"processing": 400030, "frozen": 500923, "offlined": 400320}  # §5.6
TLS_VERSION = re.compile(r"TLSv1(\.[0-3])?")


class Domains:
    """The domains of all accounts, the calls on them, and how the calls behave.

    Switches, to be turned at any time:
    `processing_time`: how long an accepted change stays `processing`.
    `omitted_flags`: whether a flag left out of a change is reset or kept; unknown (§5.3).
    `refuse_unchanged`: answer 400910 to a change that changes nothing (§5.3).
    `refuse_repeated_sslize`: answer 400013 to `sslize` of an HTTPS domain, as the console does;
    the API has been seen to tolerate it (§5.4).
    `list_lag`, `read_lag`: how far the list, and a read of one domain, lag behind (§5.1).
    `absent_https`: how a domain without HTTPS shows it; all three have been seen (§5.2).
    `tls_versions`: their form, in and out. The documents say string, the server wants an array
    (§5.3); "untold" takes an array and never shows it.
    `hides`: what the detail of an HTTPS domain keeps to itself: its flags, or its certificate too
    (§5.3).
    `claims_https`: show a domain without HTTPS as one that hides its settings (§5.4).
    `in_use_for`: how long a certificate counts as used after its domain has left it (§4.4).
    `says_done_at_once`: tell of a change as done though the edges serve it later (§5.6).
    """

    def __init__(
        self,
        find_certificate: Callable[[str, int], StoredCertificate],
        processing_time: timedelta,
        *,
        refuse_repeated_sslize: bool,
    ) -> None:
        self.processing_time = processing_time
        self.omitted_flags: Literal["reset", "kept"] = "reset"
        self.refuse_unchanged = False
        self.refuse_repeated_sslize = refuse_repeated_sslize
        self.absent_https: Literal["empty", "null", "missing"] = "empty"
        self.list_lag = self.read_lag = timedelta(0)
        self.tls_versions: Literal["array", "string", "untold"] = "array"
        self.hides: Literal["nothing", "flags", "all"] = "nothing"
        self.claims_https = False
        self.in_use_for = timedelta(0)
        self.says_done_at_once = False
        self.pager = Pager()
        self._find_certificate = find_certificate
        self._domains: dict[str, Domain] = {}
        self._failures: dict[str, tuple[str, bool]] = {}

    def add(self, domain: Domain) -> None:
        """Take in a domain that is already there."""
        self._domains[domain.name] = domain

    def remove(self, name: str) -> None:
        """Take out a domain that was deleted. Raises LookupError."""
        del self._domains[name]

    def __contains__(self, name: str) -> bool:
        return name in self._domains

    def find(self, name: str, now: datetime) -> Domain:
        """The domain as it is now, of any owner. Raises LookupError."""
        domain = self._domains[name]
        domain.settle(now)
        return domain

    def next_number(self) -> int:
        """The place in the list of a domain to be added."""
        return len(self._domains) + 1

    def fail_next(self, name: str, description: str, *, sticks: bool = False) -> None:
        """Make the next accepted change of a domain end in `failed`."""
        self._failures[name] = description, sticks

    def uses(self, cert_id: str, now: datetime) -> bool:
        """Whether any domain is bound to a certificate, or about to be."""
        since = now - self.in_use_for
        return any(domain.uses(cert_id, since) for domain in self._settled(now))

    def serving(self, host: str, now: datetime) -> Domain | None:
        """The domain that answers for a host name: itself, or a wildcard domain above it.

        A pan child is answered for by its parent (§5.6); a domain that is off does not answer.
        """
        labels = host.split(".")
        above = ["." + ".".join(labels[depth:]) for depth in range(1, len(labels))]
        for name in [host, *above]:
            domain = self._domains.get(name)
            if domain is not None and domain.type != "pan":
                domain.settle(now)
                return None if domain.state in ("frozen", "offlined") else domain
        return None

    def listing(self, visit: Visit) -> Response:
        """`GET /domain` (§5.1)."""
        then = visit.now - self.list_lag
        own = [
            domain.as_of(then)
            for domain in self._settled(visit.now)
            if domain.uid == visit.uid and domain.created <= then
        ]
        if self.says_done_at_once:
            own = [domain.at_once() for domain in own]
        page, marker = self.pager.page(own, visit.query)
        return Response.json({"marker": marker, "domains": [item.list_item() for item in page]})

    def read(self, visit: Visit) -> Response:
        """`GET /domain/<name>`: the object itself, without a code (§5.2)."""
        domain = self._domains.get(visit.name)
        if domain is None or domain.uid != visit.uid:
            raise Refused(404001)
        domain.settle(visit.now)
        shown = domain.as_of(visit.now - self.read_lag)
        if self.says_done_at_once:
            shown = shown.at_once()
        wire = shown.to_wire() | self._https_to_wire(shown, visit.now)
        if self.claims_https:
            wire["protocol"] = "https"
        return Response.json(wire)

    def httpsconf(self, visit: Visit) -> Response:
        """`PUT /domain/<name>/httpsconf` (§5.3)."""
        domain = self._changeable(visit)
        conf = self._wanted(visit, domain, "UpdateHttpsConfArgs")
        if not domain.https.is_on:
            raise Refused(400302)
        if self.refuse_unchanged and conf == domain.https:
            raise Refused(400910)
        return self._accept(domain, "modify_https_conf", conf, visit.now)

    def sslize(self, visit: Visit) -> Response:
        """`PUT /domain/<name>/sslize` (§5.4)."""
        domain = self._changeable(visit)
        conf = self._wanted(visit, domain, "SslizeArgs")
        if self.refuse_repeated_sslize and domain.https.is_on:
            raise Refused(400013)
        return self._accept(domain, "sslize", conf, visit.now)

    def unsslize(self, visit: Visit) -> Response:
        """`PUT /domain/<name>/unsslize` (§5.5)."""
        domain = self._changeable(visit)
        if not domain.https.is_on:
            raise Refused(400013)
        return self._accept(domain, "unsslize", HttpsConf(), visit.now)

    def _changeable(self, visit: Visit) -> Domain:
        """The domain, if it can be changed now; checks in the order of §11.2."""
        domain = self._domains.get(visit.name)
        if domain is None:
            raise Refused(612)
        domain.settle(visit.now)
        if domain.uid != visit.uid:
            raise Refused(403023)
        if code := STATE_CODES.get(domain.state):
            raise Refused(code)
        if not domain.could_operate or domain.type == "pan":
            raise Refused(400722)
        return domain

    def _wanted(self, visit: Visit, domain: Domain, struct: str) -> HttpsConf:
        """The configuration that a body asks for, with a certificate that fits the domain."""
        fields = visit.fields(struct)
        flags = self._flags(domain, fields)
        certificate = self._find_certificate(fields.string("certId"), visit.uid)
        if not covers(certificate.names, domain.name):
            raise Refused(400326)
        return replace(flags, certificate=certificate, free=False)

    def _flags(self, domain: Domain, fields: Fields) -> HttpsConf:
        left_out = domain.https if self.omitted_flags == "kept" else HttpsConf()
        force, http2 = fields.boolean("forceHttps"), fields.boolean("http2Enable")
        versions = self._versions(fields)
        if not all(TLS_VERSION.fullmatch(version) for version in versions or ()):
            raise Refused(400000, "invalid tlsVersions")
        return HttpsConf(
            force_https=left_out.force_https if force is None else force,
            http2=left_out.http2 if http2 is None else http2,
            tls_versions=left_out.tls_versions if versions is None else versions,
        )

    def _versions(self, fields: Fields) -> tuple[str, ...] | None:
        if self.tls_versions != "string":
            return fields.strings("tlsVersions")
        written = fields.string("tlsVersions")
        return tuple(written.split(",")) if written else None

    def _accept(self, domain: Domain, operation: str, conf: HttpsConf, now: datetime) -> Response:
        failure = self._failures.pop(domain.name, ("", False))
        domain.accept(Change(operation, conf, now + self.processing_time, *failure), now)
        return success()

    def _https_to_wire(self, domain: Domain, now: datetime) -> dict[str, Any]:
        parent = self._domains.get(domain.parent)
        if parent is not None:
            parent.settle(now)
            domain = parent
        hides = domain.hides_https or self.hides == "all"
        shown = HttpsConf() if hides else domain.https
        if shown.is_on or self.absent_https == "empty":
            return {"https": self._conf_to_wire(shown)}
        return {"https": None} if self.absent_https == "null" else {}

    def _conf_to_wire(self, conf: HttpsConf) -> dict[str, Any]:
        wire = conf.to_wire()
        if self.hides == "flags":
            return {"certId": wire["certId"]}
        versions = wire.pop("tlsVersions", None)
        if versions is None or self.tls_versions == "untold":
            return wire
        joined = self.tls_versions == "string"
        return wire | {"tlsVersions": ",".join(versions) if joined else versions}

    def _settled(self, now: datetime) -> list[Domain]:
        for domain in self._domains.values():
            domain.settle(now)
        return list(self._domains.values())
