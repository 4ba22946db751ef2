"""What the operator asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from certferry.core.certificate import Certificate, KeyType
from certferry.core.delivery import Delivery
from certferry.core.issuance import Issuance
from certferry.core.policies import DriftPolicy, OnFailure, Retirement


class Kind(str):
    """What a domain is at its target, in the target's own word. `AUTO` asks the target, and a `CDN`
    domain is one like any other, whatever the target; `DCDN` is a CDN domain for dynamic content.

    A directory or a command is a receiver: the name under which it is declared is no domain name.
    """

    __slots__ = ()

    AUTO: ClassVar[Kind]
    CDN: ClassVar[Kind]
    DCDN: ClassVar[Kind]
    FILES: ClassVar[Kind]
    COMMAND: ClassVar[Kind]

    @property
    def value(self) -> str:
        """The word."""
        return str(self)

    @property
    def is_receiver(self) -> bool:
        """Whether it takes the certificate whole, and serves no connections."""
        return self in {Kind.FILES, Kind.COMMAND}

    @property
    def is_peculiar(self) -> bool:
        """Whether it is the target's own: its name alone does not tell what the domain is."""
        return not self.is_receiver and self not in {Kind.AUTO, Kind.CDN}

    def is_about(self, found: Kind) -> bool:
        """Tell whether a deployment to domains of this kind is to one that was found to be such."""
        return Kind.AUTO in {self, found} or self == found or (self, found) == (Kind.CDN, Kind.DCDN)


Kind.AUTO, Kind.CDN, Kind.DCDN = Kind("auto"), Kind("cdn"), Kind("dcdn")
Kind.FILES, Kind.COMMAND = Kind("files"), Kind("command")


@dataclass(frozen=True, slots=True)
class HttpsWish:
    """A domain's other HTTPS settings; `None` keeps what is there."""

    force_https: bool | None = None
    http2: bool | None = None
    tls_versions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DesiredDeployment:
    """Where a certificate is to be served. `domains` are named; with `globs` also those it covers
    that one of them matches. `domains=None` means every domain it covers. What is not named is
    less those that `exclude` matches (see `core.globs`), and those that another one has the better
    claim to (`ownership.Claims`).

    With a `delivery` it goes to a receiver, whose name is the only domain; see `delivered`.
    """

    target: str
    domains: tuple[str, ...] | None = None
    kind: Kind = Kind.AUTO
    https: HttpsWish = field(default_factory=HttpsWish)
    retire: Retirement = Retirement.SUPERSEDED
    delivery: Delivery | None = None
    drift: DriftPolicy = DriftPolicy.REPAIR
    on_failure: OnFailure = OnFailure.KEEP
    globs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def has_patterns(self) -> bool:
        """Whether domains are chosen by more than what is named and covered."""
        return bool(self.globs or self.exclude)


@dataclass(frozen=True, slots=True)
class PemFiles:
    """Where another client keeps a certificate: the paths of its fullchain and its key."""

    fullchain: str
    privkey: str


@dataclass(frozen=True, slots=True)
class DesiredCertificate:
    """One lineage as declared: its names, its key, who proves them, where it is served.

    `dns` is the account that writes the challenge records. Where several do, it is empty, and
    `dns_zones` has each zone with its account, the longest first. The first name becomes the common
    name.

    A certificate with `files` is made elsewhere and only ferried: it needs no `dns`, and its names
    are those of `offered`, which is what the files hold once they have been read, with
    `offered_fullchain` as the digest of leaf and issuers; the leaf's ends at `offered_issuer_end`.
    """

    lineage: str
    names: tuple[str, ...]
    dns: str = ""
    key_type: KeyType = KeyType.EC256
    deployments: tuple[DesiredDeployment, ...] = ()
    files: PemFiles | None = None
    offered: Certificate | None = None
    offered_fullchain: str | None = None
    offered_issuer_end: datetime | None = None
    dns_zones: tuple[tuple[str, str], ...] = ()
    issuance: Issuance = field(default_factory=Issuance)

    @property
    def dns_accounts(self) -> tuple[str, ...]:
        """The accounts that write its challenge records, each once."""
        found = [self.dns, *(account for _, account in self.dns_zones)]
        return tuple(account for account in dict.fromkeys(found) if account)
