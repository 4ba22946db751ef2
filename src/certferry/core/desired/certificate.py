"""Declared certificates: names, issuance, and the deployments with their settings."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from msgspec import Struct, field

from certferry.core.certificates.certificate import Certificate, KeyType
from certferry.core.network import Host
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.text import Text

MODE, KEY_MODE = 0o644, 0o600


class Program(Struct, frozen=True):
    """A program to run, without a shell."""

    #: The program and the arguments, which may hold a secret.
    arguments: tuple[str, ...]
    #: The working directory.
    directory: str
    #: The time after which the program is killed.
    timeout: timedelta

    @property
    def digest(self) -> str:
        """SHA-256 over the arguments, in lower-case hex. The state stores the digest, because the
        arguments may hold a secret.
        """
        return hashlib.sha256("\0".join(self.arguments).encode()).hexdigest()


class FileDelivery(Struct, frozen=True):
    """A delivery as four PEM files in a directory."""

    directory: str  #: The path of the directory.
    owner: str | None = None  #: The declared owner of the files, if any.
    group: str | None = None  #: The declared group of the files, if any.
    mode: int = MODE  #: The mode of all files except the key.
    key_mode: int = KEY_MODE  #: The mode of the key's file.
    reload: Program | None = None  #: The program that makes a server read the new files.
    test: Program | None = None  #: The program that must succeed before `reload`.
    account: str = ""  #: The account of the server with the directory; empty: this host.


class CommandDelivery(Struct, frozen=True):
    """A delivery to a program."""

    label: str  #: The program's name in reports.
    program: Program  #: The program to run.


Delivery = FileDelivery | CommandDelivery


class Retirement(StrEnum):
    """The copies of certificates that certferry removes at a target."""

    SUPERSEDED = "superseded"  #: certferry's uploads, once the successor was seen served.
    ALL_UNUSED = "all-unused"  #: As `SUPERSEDED`, and every unused certificate of the account.
    NEVER = "never"  #: None.


class DriftPolicy(StrEnum):
    """The reaction if another tool changes a domain that was once seen as declared."""

    REPAIR = "repair"  #: Undo the change.
    WARN = "warn"  #: Leave the change, and notify operators.
    IGNORE = "ignore"  #: Leave the change.


class OnFailure(StrEnum):
    """The reaction if edges that worked before refuse the new certificate."""

    KEEP = "keep"  #: Keep the new certificate bound.
    ROLLBACK = "rollback"  #: Bind the previous certificate again.


class Authority(Struct, frozen=True):
    """A certificate authority."""

    name: str  #: The operator's name for the CA.
    #: The URL of the ACME directory.
    directory: str


class Issuance(Struct, frozen=True):
    """How to order certificates."""

    #: The CA's certificate profiles to ask for, by preference; empty for the default profile.
    profiles: tuple[str, ...] = ()
    #: The CAs, the usual CA first.
    authorities: tuple[Authority, ...] = ()
    #: Whether to use the key of the previous certificate again.
    reuse_key: bool = False
    #: Whether to prove control by DNS records that stay (dns-persist-01).
    dns_persist: bool = False


class HttpsSettings(Struct, frozen=True):
    """A domain's HTTPS settings as reported by the target; `None` for an unreported setting."""

    force_https: bool | None = None  #: Whether HTTP is redirected to HTTPS.
    http2: bool | None = None  #: Whether HTTP/2 is on.
    tls_versions: tuple[str, ...] | None = None  #: The allowed versions of TLS.


# Groups of four characters; the last group may have two or three, with or without padding.
_BASE64URL = re.compile(r"(?:[\w-]{4})*(?:[\w-]{2,4}={0,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """The operator's customer account at a CA. The CA binds certferry's ACME account to the
    customer account (RFC 8555 §7.3.4).

    Raises `ConfigError` if the HMAC key is not base64url.
    """

    kid: str  #: The key identifier.
    #: The HMAC key in base64url.
    hmac_key: Secret

    def __post_init__(self) -> None:
        if not _BASE64URL.fullmatch(self.hmac_key.reveal()):
            raise ConfigError(
                Text("`eab_hmac_key` is not base64url text"),
                hint=Text("copy the value from the CA's customer page exactly"),
            )


class Kind(str):
    """The kind of a domain at its target, in the target's own word.

    `AUTO` accepts the kind that the target reports. `FILES` and `COMMAND` are receivers, named by
    a directory or a label in place of a domain name.
    """

    __slots__ = ()

    AUTO: ClassVar[Kind]  #: Any kind.
    CDN: ClassVar[Kind]  #: A domain of a CDN.
    DCDN: ClassVar[Kind]  #: A domain of a CDN for dynamic content.
    FILES: ClassVar[Kind]  #: A directory.
    COMMAND: ClassVar[Kind]  #: A command.

    @property
    def value(self) -> str:
        """The kind's word."""
        return str(self)

    @property
    def is_receiver(self) -> bool:
        """Whether the kind is a directory or a command, which itself serves no connections."""
        return self in {Kind.FILES, Kind.COMMAND}

    @property
    def is_target_specific(self) -> bool:
        """Whether the kind is a word of the target other than `cdn`. If so, reports show the kind
        after the domain.
        """
        return not self.is_receiver and self not in {Kind.AUTO, Kind.CDN}

    def is_about(self, observed: Kind) -> bool:
        """Return whether a deployment to this kind applies to a domain of the kind `observed`.
        `AUTO`, on either side, fits every kind. A deployment to `CDN` also applies to `DCDN`.
        """
        return (
            Kind.AUTO in {self, observed}
            or self == observed
            or (self, observed) == (Kind.CDN, Kind.DCDN)
        )


Kind.AUTO, Kind.CDN, Kind.DCDN = Kind("auto"), Kind("cdn"), Kind("dcdn")
Kind.FILES, Kind.COMMAND = Kind("files"), Kind("command")


class DesiredHttps(Struct, frozen=True):
    """The declared HTTPS settings of a domain; `None` keeps the present setting."""

    force_https: bool | None = None  #: Whether to redirect HTTP to HTTPS.
    http2: bool | None = None  #: Whether to offer HTTP/2.
    tls_versions: tuple[str, ...] | None = None  #: The versions of TLS to allow.


class DesiredDeployment(Struct, frozen=True):
    """A deployment of a certificate to domains of a target, or to a receiver.

    If several deployments name or match a domain, a single deployment owns the domain, and the
    others leave the domain out (`core.planning.planner.Claims`).
    """

    #: The account's name in the configuration; for a receiver of this host, the kind.
    target: str
    #: The named domains; `None` for all domains covered by the certificate. For a receiver, the
    #: receiver's name (`delivered`).
    domains: tuple[str, ...] | None = None
    kind: Kind = Kind.AUTO  #: The kind of the domains, or of the receiver.
    https: DesiredHttps = field(default_factory=DesiredHttps)  #: The domains' HTTPS settings.
    retire: Retirement = Retirement.SUPERSEDED  #: The copies to remove at the target.
    #: How to deliver to a receiver; `None` for a target.
    delivery: Delivery | None = None
    drift: DriftPolicy = DriftPolicy.REPAIR  #: The reaction to changes by other tools.
    on_failure: OnFailure = OnFailure.KEEP  #: The reaction to edges that refuse the certificate.
    serves: tuple[Host, ...] = ()  #: The hosts that must present the certificate of a receiver.
    #: Patterns for domains besides `domains`, if the certificate covers them.
    globs: tuple[str, ...] = ()
    #: Patterns for domains to leave out.
    exclude: tuple[str, ...] = ()

    @property
    def is_on_this_host(self) -> bool:
        """Whether the deployment is a receiver of this host. Any host deploys to an account."""
        return self.delivery is not None and self.target == self.kind

    @property
    def has_patterns(self) -> bool:
        """Whether `globs` or `exclude` choose domains."""
        return bool(self.globs or self.exclude)


class PemFiles(Struct, frozen=True):
    """The paths of the files in which another client keeps a certificate."""

    fullchain: str  #: The leaf and the issuers.
    privkey: str  #: The private key.


class DesiredCertificate(Struct, frozen=True):
    """A lineage as declared."""

    lineage: str  #: The lineage's name.
    #: The names; the first becomes the common name. With `files`, the names in the files.
    names: tuple[str, ...]
    #: The account that writes challenge records; empty if only `dns_zones` has accounts.
    dns: str = ""
    key_type: KeyType = KeyType.EC256  #: The kind of key to order.
    deployments: tuple[DesiredDeployment, ...] = ()  #: The deployments, in the order of the file.
    #: The files of a certificate made by another client.
    files: PemFiles | None = None
    #: The certificate read from `files`.
    offered: Certificate | None = None
    #: The digest of the fullchain read from `files`.
    offered_fullchain: str | None = None
    #: The end of validity of the issuer read from `files`.
    offered_issuer_end: datetime | None = None
    #: Each zone with the account that writes challenge records there, the longest zone first.
    dns_zones: tuple[tuple[str, str], ...] = ()
    issuance: Issuance = field(default_factory=Issuance)  #: How to order the certificate.

    @property
    def dns_accounts(self) -> tuple[str, ...]:
        """The accounts that write the lineage's challenge records, without duplicates."""
        accounts = [self.dns, *(account for _, account in self.dns_zones)]
        return tuple(account for account in dict.fromkeys(accounts) if account)
