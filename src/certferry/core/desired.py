"""What the operator asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from certferry.core.certificate import Certificate, KeyType


class Kind(StrEnum):
    """What a domain is at its target. `AUTO` asks the target."""

    AUTO = "auto"
    CDN = "cdn"
    KODO = "kodo"
    PILI = "pili"


class Retirement(StrEnum):
    """Which remote certificates are removed once their successor has been seen."""

    SUPERSEDED = "superseded"
    ALL_UNUSED = "all-unused"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class HttpsWish:
    """A domain's other HTTPS settings; `None` keeps what is there."""

    force_https: bool | None = None
    http2: bool | None = None
    tls_versions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DesiredDeployment:
    """Where a certificate is to be served. `domains=None` means every domain it covers."""

    target: str
    domains: tuple[str, ...] | None = None
    kind: Kind = Kind.AUTO
    https: HttpsWish = field(default_factory=HttpsWish)
    retire: Retirement = Retirement.SUPERSEDED


@dataclass(frozen=True, slots=True)
class PemFiles:
    """Where another client keeps a certificate: the paths of its fullchain and its key."""

    fullchain: str
    privkey: str


@dataclass(frozen=True, slots=True)
class DesiredCertificate:
    """One lineage as declared: its names, its key, who proves them, where it is served.

    `dns` is the account that writes the challenge records. The first name becomes the common name.

    A certificate with `files` is made elsewhere and only ferried: it needs no `dns`, and its names
    are those of `offered`, which is what the files hold once they have been read.
    """

    lineage: str
    names: tuple[str, ...]
    dns: str = ""
    key_type: KeyType = KeyType.EC256
    deployments: tuple[DesiredDeployment, ...] = ()
    files: PemFiles | None = None
    offered: Certificate | None = None
