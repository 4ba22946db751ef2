"""A domain of the model CDN, and the change it may be under."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from certferry.core.desired import HttpsWish
from certferry.core.https_settings import HttpsSettings
from certferry.core.observed import DomainState
from certferry.errors import TargetRejected
from certferry.text import Text


@dataclass
class Change:
    """A change under way: what will be bound when it is done, or the words it fails with."""

    remote_id: str
    https: HttpsSettings
    done_at: datetime
    failure: str | None = None


@dataclass
class Domain:
    """Its state, what it has been bound to since when, and how its last change ended."""

    state: DomainState = DomainState.READY
    https: HttpsSettings = field(default_factory=HttpsSettings)
    bindings: list[tuple[datetime, str]] = field(default_factory=list)
    change: Change | None = None
    failure: str | None = None

    @property
    def bound(self) -> str | None:
        """The remote id in force."""
        return self.bindings[-1][1] if self.bindings else None


def merged(found: HttpsSettings, wish: HttpsWish) -> HttpsSettings:
    """Keep what is there unless the wish names it."""
    return HttpsSettings(
        found.force_https if wish.force_https is None else wish.force_https,
        found.http2 if wish.http2 is None else wish.http2,
        found.tls_versions if wish.tls_versions is None else wish.tls_versions,
    )


def unknown(domain: str) -> TargetRejected:
    """Say that there is no such domain."""
    return TargetRejected(
        Text("{domain} is not a domain here", domain=domain), hint=Text("add it first")
    )


def frozen(domain: str) -> TargetRejected:
    """Say that a domain cannot be changed."""
    return TargetRejected(Text("{domain} is frozen", domain=domain), hint=Text("unfreeze it"))
