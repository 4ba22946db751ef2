"""What the operator asks for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

from certferry.core.certificate import Certificate, KeyType


class Kind(str):
    """What a domain is at its target, in the target's own word. `AUTO` asks the target, and a `CDN`
    domain is one like any other, whatever the target; a `DCDN` one also carries what is not cached.

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

    def takes(self, found: Kind) -> bool:
        """Tell whether a deployment of this kind is about domains of that one: `CDN` stands for
        `DCDN` as well.
        """
        if self == Kind.CDN and found == Kind.DCDN:
            return True
        return Kind.AUTO in {self, found} or self == found

    @property
    def is_peculiar(self) -> bool:
        """Whether it is the target's own: its name alone does not tell what the domain is."""
        return not self.is_receiver and self not in {Kind.AUTO, Kind.CDN}


Kind.AUTO, Kind.CDN, Kind.DCDN = Kind("auto"), Kind("cdn"), Kind("dcdn")
Kind.FILES, Kind.COMMAND = Kind("files"), Kind("command")


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


MODE, KEY_MODE = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, without a shell: its arguments, the program first, and the directory it runs
    in. One that takes longer than `timeout` is ended.
    """

    arguments: tuple[str, ...]
    directory: str
    timeout: timedelta

    @property
    def digest(self) -> str:
        """SHA-256 over its arguments, which may hold what not everybody should read."""
        return hashlib.sha256("\0".join(self.arguments).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FileDelivery:
    """Four PEM files in a directory, and what is run when they have changed.

    `owner` and `group` are names or numbers; `None` is the user that runs certferry. `mode` is
    that of everything but the key.
    """

    directory: str
    owner: str | None = None
    group: str | None = None
    mode: int = MODE
    key_mode: int = KEY_MODE
    reload: Program | None = None


@dataclass(frozen=True, slots=True)
class CommandDelivery:
    """A program that does something with the certificate; the label is its name in reports."""

    label: str
    program: Program


Delivery = FileDelivery | CommandDelivery


@dataclass(frozen=True, slots=True)
class DesiredDeployment:
    """Where a certificate is to be served. `domains=None` means every domain it covers, but for
    those that another one has the better claim to; see `ownership.Claims`.

    With a `delivery` it goes to a receiver, whose name is the only domain; see `delivered`.
    """

    target: str
    domains: tuple[str, ...] | None = None
    kind: Kind = Kind.AUTO
    https: HttpsWish = field(default_factory=HttpsWish)
    retire: Retirement = Retirement.SUPERSEDED
    delivery: Delivery | None = None


def delivered(delivery: Delivery) -> DesiredDeployment:
    """Give the deployment to a receiver. There is nothing to retire there: a new certificate takes
    the old one's place.
    """
    if isinstance(delivery, FileDelivery):
        kind, name = Kind.FILES, delivery.directory
    else:
        kind, name = Kind.COMMAND, delivery.label
    return DesiredDeployment(kind.value, (name,), kind, retire=Retirement.NEVER, delivery=delivery)


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
    are those of `offered`, which is what the files hold once they have been read, with
    `offered_fullchain` as the digest of leaf and issuers.
    """

    lineage: str
    names: tuple[str, ...]
    dns: str = ""
    key_type: KeyType = KeyType.EC256
    deployments: tuple[DesiredDeployment, ...] = ()
    files: PemFiles | None = None
    offered: Certificate | None = None
    offered_fullchain: str | None = None
