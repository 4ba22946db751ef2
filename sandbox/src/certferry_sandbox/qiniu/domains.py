"""Qiniu's CDN and DCDN domains, `/domain` (docs/facts/qiniu.md §5): the certificate of a domain,
the change in progress, and the moment when a change takes effect.

Nothing runs in the background: `settle` brings a domain up to date with a given moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from certferry.values import replace
from certferry_sandbox.edges import Identity, Timeline
from certferry_sandbox.httpd import Response
from certferry_sandbox.qiniu.answers import Fields, Pager, Refused, success
from certferry_sandbox.qiniu.certificates import StoredCertificate, covers
from certferry_sandbox.qiniu.signing import SignedCall

BEIJING = timezone(timedelta(hours=8))  # answers have times with +08:00 (§5.2)


@dataclass(frozen=True)
class HttpsConf:
    """The HTTPS settings of a domain. Without `certificate` and `free`, the domain has only HTTP.

    `free`: the domain has a free certificate from Qiniu, without a visible id (`freeCert`, §4.7).
    """

    certificate: StoredCertificate | None = None
    force_https: bool = False
    http2: bool = False
    tls_versions: tuple[str, ...] | None = None
    free: bool = False

    @property
    def is_on(self) -> bool:
        """Whether the domain has HTTPS."""
        return self.certificate is not None or self.free

    def to_wire(self) -> dict[str, Any]:
        """Return the `https` object (§5.2)."""
        wire: dict[str, Any] = {
            "certId": self.certificate.id if self.certificate else "",
            "forceHttps": self.force_https,
            "http2Enable": self.http2,
            "freeCert": self.free,
        }
        if self.tls_versions is not None:
            wire["tlsVersions"] = list(self.tls_versions)
        return wire


@dataclass
class Change:
    """An accepted change in progress.

    `failure`: the words with which the change will fail, "" for a change that will succeed.
    `sticks`: after the failure, the domain shows the new settings all the same.
    """

    operation: str
    conf: HttpsConf
    due: datetime
    failure: str
    sticks: bool = False


@dataclass
class Domain:
    """A CDN domain.

    `held`: a change stays `processing` until `release`.
    `hides_https`: reads show `https` as for a domain without HTTPS, and leave `protocol` as it is.
    `free_identity`: the certificate that the edges show while `https.free` is on.
    """

    name: str
    number: int
    uid: int
    type: str
    product: str
    platform: str
    parent: str
    https: HttpsConf
    state: str
    could_operate: bool
    created: datetime
    state_description: str = ""
    operation: str = "create_domain"
    change: Change | None = None
    held: bool = False
    hides_https: bool = False
    free_identity: Identity | None = None
    modified: datetime = field(init=False)
    https_modified: datetime = field(init=False)
    tasks: int = 0

    def __post_init__(self) -> None:
        self._past: list[tuple[datetime, Domain]] = []
        self.modified = self.https_modified = self.created
        self.applied = Timeline(self.https.certificate)

    def accept(self, change: Change, now: datetime) -> None:
        """Start a change: the domain is `processing` until `settle` ends the change."""
        self._past.append((now, copy(self)))
        self.change = change
        self.state, self.state_description = "processing", ""
        self.operation = change.operation
        self.modified = now
        self.tasks += 1

    def settle(self, now: datetime) -> None:
        """End the change in progress, if due and not held."""
        change = self.change
        if change is None or self.held or now < change.due:
            return
        self._past.append((change.due, copy(self)))
        self.change = None
        self.modified = change.due
        if change.failure:
            self.state, self.state_description = "failed", change.failure
            if change.sticks:
                self.https = change.conf
        else:
            self.state, self.https = "success", change.conf
            self.https_modified = change.due
            self.applied.note(change.due, self.https.certificate)

    def as_of(self, moment: datetime) -> Domain:
        """Return the domain as of a moment, for reads that lag behind."""
        return next((past for until, past in self._past if moment < until), self)

    def release(self, now: datetime) -> None:
        """Let a held change end when due, at the earliest now.

        A domain added as `processing` becomes `success`.
        """
        self.held = False
        if self.change is not None:
            self.change.due = max(self.change.due, now)
        elif self.state == "processing":
            self.state = "success"

    def shown_at(self, moment: datetime) -> Identity | None:
        """Return the certificate on an edge that has every change up to `moment`."""
        return self.applied.at(moment) or (self.free_identity if self.https.free else None)

    def uses(self, cert_id: str, since: datetime) -> bool:
        """Whether the certificate is bound, was bound at `since` or later, or soon will be."""
        confs = [self.https] if self.change is None else [self.https, self.change.conf]
        in_force = [conf.certificate for conf in confs] + self.applied.since(since)
        return any(certificate and certificate.id == cert_id for certificate in in_force)

    def at_once(self) -> Domain:
        """Return the domain as if the change in progress had succeeded."""
        shown = copy(self)
        if self.change is not None:
            shown.https, shown.state = self.change.conf, "success"
        return shown

    def list_item(self) -> dict[str, Any]:
        """Return the object of the list, without `https` (§5.1)."""
        return {
            "name": self.name,
            "type": self.type,
            "cname": f"{self.name.strip('.')}.qiniudns.com",
            "testURLPath": "",
            "platform": self.platform,
            "geoCover": "china",
            "protocol": "https" if self.https.is_on else "http",
            "product": self.product,
            "operationType": self.operation,
            "operatingState": self.state,
            "operatingStateDesc": self.state_description,
            "couldOperateBySelf": self.could_operate,
            "uidIsFreezed": False,
            "freezeType": "frozen" if self.state == "frozen" else "",
            "pareDomain": self.parent,
            "operTaskId": f"{self.number:08x}{self.tasks:016x}",
            "operTaskType": self.operation,
            "operTaskErrCode": 0,
            "createAt": _rfc3339(self.created),
            "modifyAt": _rfc3339(self.modified),
        }

    def to_wire(self) -> dict[str, Any]:
        """Return the object of a read, without `https` (§5.2)."""
        return self.list_item() | {
            "ipTypes": 1,
            "httpsOPTime": _rfc3339(self.https_modified),
        }


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(BEIJING).isoformat(timespec="seconds")


CERTIFICATE_FAILURE = "verify https crt fail"  # §5.2, operatingStateDesc
STATE_CODES = {"processing": 400030, "frozen": 500923, "offlined": 400320}  # refusals, §5.6
TLS_VERSION = re.compile(r"TLSv1(\.[0-3])?")


class Domains:
    """The domains of all accounts, the calls on them, and how the calls behave.

    Switches, which may change at any time:
    `processing_time`: how long an accepted change stays `processing`.
    `omitted_flags`: whether a change resets or keeps a flag that the body omits; unknown (§5.3).
    `refuse_unchanged`: answer 400910 to a change without an effect (§5.3).
    `refuse_repeated_sslize`: answer 400013 to `sslize` of an HTTPS domain, as the console does;
    the API has been seen to accept the call (§5.4).
    `list_lag`, `read_lag`: how far the list, and the read of a domain, lag behind (§5.1).
    `absent_https`: the form of `https` for a domain without HTTPS; all three forms have been seen
    (§5.2).
    `tls_versions`: the form of TLS versions in requests and answers. The documents say string, the
    server wants an array (§5.3). With "untold", requests have an array and answers omit the field.
    `hides`: the part of `https` that reads hide: "flags", or "all" with the certificate (§5.3).
    `claims_https`: reads show `protocol` https even for a domain without HTTPS (§5.4).
    `in_use_for`: how long a certificate counts as in use after a domain has left it (§4.4).
    `says_done_at_once`: show a change as done at once, though the edges serve the change later
    (§5.6).
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
        """Add an existing domain."""
        self._domains[domain.name] = domain

    def remove(self, name: str) -> None:
        """Remove a domain, as after a deletion. Raises LookupError."""
        del self._domains[name]

    def __contains__(self, name: str) -> bool:
        return name in self._domains

    def find(self, name: str, now: datetime) -> Domain:
        """Return the domain of any account, as of now. Raises LookupError."""
        domain = self._domains[name]
        domain.settle(now)
        return domain

    def next_number(self) -> int:
        """Return the place in the list for another domain."""
        return len(self._domains) + 1

    def fail_next(self, name: str, description: str, *, sticks: bool = False) -> None:
        """Make the next accepted change of a domain fail: see `Change.failure` and `sticks`."""
        self._failures[name] = description, sticks

    def uses(self, cert_id: str, now: datetime) -> bool:
        """Whether any domain uses a certificate, or did within the last `in_use_for`."""
        since = now - self.in_use_for
        return any(domain.uses(cert_id, since) for domain in self._settled(now))

    def serving(self, host: str, now: datetime) -> Domain | None:
        """Return the domain that answers for a host: the domain itself, or a wildcard domain above.

        A wildcard domain answers for `pan` children (§5.6). A frozen or offline domain does not
        answer.
        """
        labels = host.split(".")
        above = ["." + ".".join(labels[depth:]) for depth in range(1, len(labels))]
        for name in [host, *above]:
            domain = self._domains.get(name)
            if domain is not None and domain.type != "pan":
                domain.settle(now)
                return None if domain.state in ("frozen", "offlined") else domain
        return None

    def listing(self, call: SignedCall) -> Response:
        """`GET /domain` (§5.1)."""
        then = call.now - self.list_lag
        own = [
            domain.as_of(then)
            for domain in self._settled(call.now)
            if domain.uid == call.uid and domain.created <= then
        ]
        if self.says_done_at_once:
            own = [domain.at_once() for domain in own]
        page, marker = self.pager.page(own, call.query)
        return Response.json({"marker": marker, "domains": [item.list_item() for item in page]})

    def read(self, call: SignedCall) -> Response:
        """`GET /domain/<name>`: the object itself, without a code (§5.2)."""
        domain = self._domains.get(call.name)
        if domain is None or domain.uid != call.uid:
            raise Refused(404001)
        domain.settle(call.now)
        shown = domain.as_of(call.now - self.read_lag)
        if self.says_done_at_once:
            shown = shown.at_once()
        wire = shown.to_wire() | self._https_to_wire(shown, call.now)
        if self.claims_https:
            wire["protocol"] = "https"
        return Response.json(wire)

    def httpsconf(self, call: SignedCall) -> Response:
        """`PUT /domain/<name>/httpsconf` (§5.3)."""
        domain = self._changeable(call)
        conf = self._wanted(call, domain, "UpdateHttpsConfArgs")
        if not domain.https.is_on:
            raise Refused(400302)
        if self.refuse_unchanged and conf == domain.https:
            raise Refused(400910)
        return self._accept(domain, "modify_https_conf", conf, call.now)

    def sslize(self, call: SignedCall) -> Response:
        """`PUT /domain/<name>/sslize` (§5.4)."""
        domain = self._changeable(call)
        conf = self._wanted(call, domain, "SslizeArgs")
        if self.refuse_repeated_sslize and domain.https.is_on:
            raise Refused(400013)
        return self._accept(domain, "sslize", conf, call.now)

    def _changeable(self, call: SignedCall) -> Domain:
        """Return the domain, or raise `Refused` if not changeable now (order of §11.2)."""
        domain = self._domains.get(call.name)
        if domain is None:
            raise Refused(612)
        domain.settle(call.now)
        if domain.uid != call.uid:
            raise Refused(403023)
        if code := STATE_CODES.get(domain.state):
            raise Refused(code)
        if not domain.could_operate or domain.type == "pan":
            raise Refused(400722)
        return domain

    def _wanted(self, call: SignedCall, domain: Domain, struct: str) -> HttpsConf:
        """Return the settings in the body, with a certificate that covers the domain."""
        fields = call.fields(struct)
        flags = self._flags(domain, fields)
        certificate = self._find_certificate(fields.string("certId"), call.uid)
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
        versions = fields.string("tlsVersions")
        return tuple(versions.split(",")) if versions else None

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
