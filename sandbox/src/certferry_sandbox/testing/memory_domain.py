"""A domain of the model CDN, and the change it may be under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import HttpsSettings, HttpsWish, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain, Served
from certferry.core.observed.records import OtherCertificate, TargetTask
from certferry.errors import DeployError, TargetRejected
from certferry.problem import Problem
from certferry.text import Text

NEVER = datetime.max.replace(tzinfo=UTC)
"""When a change is done that is stuck."""


@dataclass
class Change:
    """A change under way: what will be bound when it is done, or the words it fails with."""

    remote_id: str
    https: HttpsSettings
    done_at: datetime
    began_at: datetime
    failure: str | None = None


@dataclass(frozen=True)
class Remote:
    """An uploaded certificate, and its label."""

    label: str
    certificate: Certificate

    def listed(self, remote_id: str) -> OtherCertificate:
        """Return it as it stands in the list of all certificates."""
        begin, end = self.certificate.not_before, self.certificate.not_after
        return OtherCertificate(remote_id, self.label, end, not_before=begin)


@dataclass
class Domain:
    """Its state, what it has been bound to since when, and how its last change ended."""

    state: DomainState = DomainState.READY
    https: HttpsSettings = field(default_factory=HttpsSettings)
    bindings: list[tuple[datetime, str | None]] = field(default_factory=list)
    change: Change | None = None
    failure: str | None = None

    @property
    def bound(self) -> str | None:
        """The remote id in force."""
        return self.bindings[-1][1] if self.bindings else None

    def settle(self, now: datetime) -> None:
        """End a change whose time has come."""
        change = self.change
        if change is None or change.done_at > now:
            return
        self.change = None
        self.failure = change.failure
        if change.failure is None:
            self.bindings.append((change.done_at, change.remote_id))
            self.https = change.https

    def observed(self, name: str, untold: frozenset[str], *, hides_change: bool) -> ObservedDomain:
        """Return the domain as its target tells of it, without the `untold` settings."""
        state, problem, task = self.state, None, None
        if self.change is not None:
            if not hides_change:
                state = DomainState.PROCESSING
                task = TargetTask("processing", "httpsconf", self.change.began_at, "task-1")
        elif self.failure is not None:
            state, problem = DomainState.FAILED, DeployError(self.failure)
        elif state is DomainState.UNAVAILABLE:
            problem = frozen(name)
        https = replace(self.https, **dict.fromkeys(untold))
        return ObservedDomain(name, Kind.CDN, state, self.bound, https, problem, task=task)

    def edges(self, now: datetime, lags: Sequence[timedelta]) -> list[str | None]:
        """What each edge presents, as remote ids: it follows a binding after its lag."""
        return [
            next((remote_id for at, remote_id in reversed(self.bindings) if at + lag <= now), None)
            for lag in lags
        ]


def merged(found: HttpsSettings, wish: HttpsWish) -> HttpsSettings:
    """Keep what is there unless the wish names it."""
    return HttpsSettings(
        found.force_https if wish.force_https is None else wish.force_https,
        found.http2 if wish.http2 is None else wish.http2,
        found.tls_versions if wish.tls_versions is None else wish.tls_versions,
    )


def foreign(name: str, number: int, now: datetime) -> Certificate:
    """Return a certificate of another tool, near its end."""
    return Certificate(
        fingerprint=f"{number:064x}",
        names=(name,),
        common_name=name,
        serial=f"{number:x}",
        issuer="Yesterday's CA",
        not_before=now - timedelta(days=81),
        not_after=now + timedelta(days=9),
        key_type="rsa2048",
    )


def unknown(domain: str) -> TargetRejected:
    """Say that there is no such domain."""
    return TargetRejected(
        Text("{domain} is not a domain here", domain=domain), hint=Text("add it first")
    )


def frozen(domain: str) -> TargetRejected:
    """Say that a domain cannot be changed."""
    return TargetRejected(Text("{domain} is frozen", domain=domain), hint=Text("unfreeze it"))


def failing(address: str, *, refuses: bool) -> Served:
    """An edge that answers, and presents nothing, or refuses the handshake."""
    code = EdgeProblemCode.HANDSHAKE_FAILED if refuses else EdgeProblemCode.NO_CERTIFICATE
    message = Text("the handshake failed") if refuses else Text("it presents no certificate")
    return Served(address, None, valid=False, problem=Problem(code, message))
