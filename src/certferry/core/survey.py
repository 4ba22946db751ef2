"""What is in somebody's accounts before anything is declared: domains that are served, zones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certferry.core.desired import Kind
from certferry.errors import CertferryError
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class FoundDomain:
    """A domain of a target. `not_after` is its certificate's, where the target tells it.

    `problem` says why it cannot be changed; a domain that is not `by_itself` takes its certificate
    from another one, or none at all.
    """

    domain: str
    kind: Kind
    has_https: bool = False
    not_after: datetime | None = None
    problem: Text | None = None
    by_itself: bool = True


@dataclass(frozen=True, slots=True)
class Survey:
    """The domains of a target. `unseen` says why there may be more of them."""

    domains: tuple[FoundDomain, ...]
    unseen: CertferryError | None = None


@dataclass(frozen=True, slots=True)
class FoundZone:
    """A zone of a DNS account. `problem` says why no record can be written into it."""

    name: str
    problem: Text | None = None
