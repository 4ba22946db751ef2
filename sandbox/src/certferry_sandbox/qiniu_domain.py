"""One CDN domain at Qiniu: what is bound, what is being changed, and when that takes effect
(docs/facts/qiniu.md §5).

Nothing happens by itself: `settle` brings the domain to where it is at a given moment.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from certferry_sandbox.edges import Identity
from certferry_sandbox.qiniu_certificates import StoredCertificate

BEIJING = timezone(timedelta(hours=8))  # §5.2: times are written with +08:00
EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class HttpsConf:
    """How a domain does HTTPS; without a certificate it speaks HTTP alone. `free`: with one of
    Qiniu's own, which has no visible id (`freeCert`, §5.2).
    """

    certificate: StoredCertificate | None = None
    force_https: bool = False
    http2: bool = False
    tls_versions: tuple[str, ...] | None = None
    free: bool = False

    @property
    def is_on(self) -> bool:
        """Whether there is HTTPS."""
        return self.certificate is not None or self.free

    def to_wire(self) -> dict[str, Any]:
        """The `https` object (§5.2)."""
        wire: dict[str, Any] = {
            "certId": self.certificate.id if self.certificate else "",
            "forceHttps": self.force_https,
            "http2Enable": self.http2,
            "freeCert": self.free,
        }
        if self.tls_versions is not None:
            wire["tlsVersions"] = list(self.tls_versions)
        return wire


class Timeline:
    """Which certificate was in force since when."""

    def __init__(self, certificate: StoredCertificate | None) -> None:
        self._entries = [(EVER, certificate)]

    def note(self, moment: datetime, certificate: StoredCertificate | None) -> None:
        """From `moment` on it is this one (None: none)."""
        self._entries.append((moment, certificate))

    def since(self, moment: datetime) -> list[StoredCertificate | None]:
        """Those in force at a moment and after it."""
        later = [certificate for begun, certificate in self._entries if begun > moment]
        return [self.at(moment), *later]

    def at(self, moment: datetime) -> StoredCertificate | None:
        """The one in force at a moment."""
        return [certificate for since, certificate in self._entries if since <= moment][-1]


@dataclass
class Change:
    """An accepted change that is under way. `failure` says how it will end badly, "" if well;
    `sticks`: the domain then still names what was asked for.
    """

    operation: str
    conf: HttpsConf
    due: datetime
    failure: str
    sticks: bool = False


@dataclass
class Domain:
    """A CDN domain. `held` keeps its change processing until it is released. `hides_https`: reads
    show `protocol` https and no settings, as of a domain without HTTPS. `free_identity` is what the
    edges show with a free certificate.
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
        self.accepted = Timeline(self.https.certificate)

    def accept(self, change: Change, now: datetime) -> None:
        """Begin a change."""
        self._past.append((now, copy(self)))
        self.change = change
        self.state, self.state_description = "processing", ""
        self.operation = change.operation
        self.modified = now
        self.tasks += 1
        self.accepted.note(now, change.conf.certificate)

    def settle(self, now: datetime) -> None:
        """End the change under way if its time has come."""
        change = self.change
        if change is None or self.held or now < change.due:
            return
        self._past.append((change.due, copy(self)))
        self.change = None
        self.modified = change.due
        if change.failure:
            self.state, self.state_description = "failed", change.failure
            self.accepted.note(change.due, self.https.certificate)
            if change.sticks:
                self.https = change.conf
        else:
            self.state, self.https = "success", change.conf
            self.https_modified = change.due
            self.applied.note(change.due, self.https.certificate)

    def as_of(self, moment: datetime) -> Domain:
        """The domain as it was at a moment, for reads that lag behind."""
        return next((past for until, past in self._past if moment < until), self)

    def release(self, now: datetime) -> None:
        """Let a held change end, not before now."""
        self.held = False
        if self.change is not None:
            self.change.due = max(self.change.due, now)
        elif self.state == "processing":
            self.state = "success"

    def shown_at(self, moment: datetime, line: Timeline) -> Identity | None:
        """What an edge shows that is as far as a moment of one of the timelines."""
        return line.at(moment) or (self.free_identity if self.https.free else None)

    def uses(self, cert_id: str, since: datetime) -> bool:
        """Whether the certificate is bound, was so since, or will be by the change under way."""
        confs = [self.https] if self.change is None else [self.https, self.change.conf]
        in_force = [conf.certificate for conf in confs] + self.applied.since(since)
        return any(certificate and certificate.id == cert_id for certificate in in_force)

    def at_once(self) -> Domain:
        """The domain as one that is told to be done with the change under way."""
        shown = copy(self)
        if self.change is not None:
            shown.https, shown.state = self.change.conf, "success"
        return shown

    def list_item(self) -> dict[str, Any]:
        """The object of the list, which has no `https` (§5.1)."""
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
        """The object of a read, but for `https` (§5.2)."""
        return self.list_item() | {
            "ipTypes": 1,
            "httpsOPTime": _rfc3339(self.https_modified),
        }


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(BEIJING).isoformat(timespec="seconds")
