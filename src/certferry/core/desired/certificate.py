"""What the operator asks for."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from certferry.core.certificates.certificate import Certificate, KeyType
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.text import Text

MODE, KEY_MODE = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class Program:
    """A program, run without a shell in a directory, and ended after `timeout`."""

    arguments: tuple[str, ...]
    directory: str
    timeout: timedelta

    @property
    def digest(self) -> str:
        """SHA-256 over its arguments, which may hold a secret."""
        return hashlib.sha256("\0".join(self.arguments).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FileDelivery:
    """Four PEM files in a directory, their owner and `mode` (not the key's), and what reloads."""

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


class Retirement(StrEnum):
    """Which remote certificates are removed once their successor has been seen."""

    SUPERSEDED = "superseded"
    ALL_UNUSED = "all-unused"
    NEVER = "never"


class DriftPolicy(StrEnum):
    """What is done where a domain was changed outside certferry since it was seen as declared."""

    REPAIR = "repair"
    WARN = "warn"
    IGNORE = "ignore"


class OnFailure(StrEnum):
    """What is done where edges that worked refuse the new certificate."""

    KEEP = "keep"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: what the operator calls it, and the URL of its directory."""

    name: str
    directory: str


@dataclass(frozen=True, slots=True)
class Issuance:
    """How certificates are ordered: `profiles` by preference, none for the CA's choice;
    `authorities` with the usual one first; with `reuse_key` by the key before; with `dns_persist`
    by records that stay.
    """

    profiles: tuple[str, ...] = ()
    authorities: tuple[Authority, ...] = ()
    reuse_key: bool = False
    dns_persist: bool = False


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """A domain's HTTPS settings as the target reports them; `None` where it does not say."""

    force_https: bool | None = None
    http2: bool | None = None
    tls_versions: tuple[str, ...] | None = None


# Bytes in groups of four letters; the last group may be cut, but never to one letter.
_BASE64URL = re.compile(r"(?:[\w-]{4})*(?:[\w-]{2,4}={0,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """The operator's account at a CA outside ACME (RFC 8555 §7.3.4): its key identifier, and its
    HMAC key in base64url. Raises `ConfigError` when the latter is not that.
    """

    kid: str
    hmac_key: Secret

    def __post_init__(self) -> None:
        if not _BASE64URL.fullmatch(self.hmac_key.reveal()):
            raise ConfigError(
                Text("`eab_hmac_key` is not base64url text"),
                hint=Text("copy it from the CA's customer page, as it stands there"),
            )


class Kind(str):
    """What a domain is at its target, in the target's own word; `AUTO` asks the target. A directory
    or a command is a receiver, whose name is no domain name.
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
    def is_target_specific(self) -> bool:
        """Whether it is the target's own: its name alone does not tell what the domain is."""
        return not self.is_receiver and self not in {Kind.AUTO, Kind.CDN}

    def is_about(self, found: Kind) -> bool:
        """Return whether a deployment to this kind is to a domain that was found to be such."""
        return Kind.AUTO in {self, found} or self == found or (self, found) == (Kind.CDN, Kind.DCDN)


Kind.AUTO, Kind.CDN, Kind.DCDN = Kind("auto"), Kind("cdn"), Kind("dcdn")
Kind.FILES, Kind.COMMAND = Kind("files"), Kind("command")


@dataclass(frozen=True, slots=True)
class DesiredHttps:
    """A domain's other HTTPS settings; `None` keeps what is there."""

    force_https: bool | None = None
    http2: bool | None = None
    tls_versions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DesiredDeployment:
    """Where a certificate is to be served: at the named `domains` (`None`: at all covered ones),
    and at covered ones that a glob matches; of these, not where `exclude` matches or another
    deployment owns it. With a `delivery` it goes to a receiver, whose name is the only domain
    (`delivered`).
    """

    target: str
    domains: tuple[str, ...] | None = None
    kind: Kind = Kind.AUTO
    https: DesiredHttps = field(default_factory=DesiredHttps)
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


def delivered(delivery: Delivery) -> DesiredDeployment:
    """Return the deployment to a receiver, where a new certificate replaces the old one."""
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
    """One lineage as declared. The first name becomes the common name. `dns` writes the challenge
    records; where several accounts do, it is empty, and `dns_zones` has each zone's account, the
    longest first. With `files` it is made elsewhere: its names are those of `offered`, read from
    them, with the digest `offered_fullchain` and the end of its issuer.
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
