"""The settings as the rest of certferry sees them: frozen, complete, in its own words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from certferry.config.document import Place
from certferry.config.env_files import EnvFile
from certferry.config.mistakes import Mistake
from certferry.config.secrets import Resolve, SecretReference, Secrets
from certferry.config.values import ServerAddress, TomlTable
from certferry.core.assessment.notices import Topic
from certferry.core.certificates.certificate import KeyType
from certferry.core.desired import certificate as desired
from certferry.ports.adapter import Variable


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where the state is: the file of a SQLite `database`, the URL of one that hosts share, or that
    of a bucket, reached with the keys of an `account`; the `key` that encrypts private keys in it,
    in a file or by a reference; and what this `host` is called there. What belongs to this machine
    alone lies in the `directory`: logs, what commands are handed.
    """

    database: Path | str
    directory: Path
    key: Path | SecretReference
    host: str
    place: Place
    password: SecretReference | None = None
    account: str | None = None

    @property
    def path(self) -> Path | None:
        """The file of the database; `None` for a server's, and for a bucket."""
        return self.database if isinstance(self.database, Path) else None

    @property
    def is_bucket(self) -> bool:
        """Whether it is in a bucket, for machines without a disk."""
        return isinstance(self.database, str) and not self.database.startswith("postgres")

    @property
    def is_shared(self) -> bool:
        """Whether hosts share a server's database."""
        return self.path is None and not self.is_bucket

    @property
    def key_file(self) -> Path | None:
        """The file of the key; `None` for a key by a reference."""
        return self.key if isinstance(self.key, Path) else None

    @property
    def named(self) -> Path | str:
        """How messages name the database, without its user."""
        if isinstance(self.database, Path):
            return self.database
        parts = urlsplit(self.database)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def references(self) -> Mapping[str, SecretReference]:
        """Its references, by their keys in the file."""
        found = {"key": self.key, "password": self.password}
        return {key: one for key, one in found.items() if isinstance(one, SecretReference)}


@dataclass(frozen=True, slots=True)
class CaSettings:
    """A CA, by the name operators know; `directory` and `proxy` are URLs. Without `ca_bundle` the
    system's trust holds for its own TLS, without `proxy` the environment's.
    """

    name: str
    directory: str
    ca_bundle: Path | None = None
    proxy: str | None = None
    eab_kid: str | None = None
    eab_hmac_key: SecretReference | None = None


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """Which CAs are asked, and for what: those of `fallback` near the deadline. `profiles` are in
    order of preference; `preferred_chain` names a root; `staging` is the URL for rehearsals, if
    known; with `dns_persist` lasting records may prove names.
    """

    usual: CaSettings
    key_type: KeyType
    email: str | None = None
    profiles: tuple[str, ...] = ()
    fallback: tuple[CaSettings, ...] = ()
    preferred_chain: str | None = None
    reuse_key: bool = False
    staging: str | None = None
    dns_persist: bool = False

    @property
    def directory(self) -> str:
        """The URL of the usual CA's directory."""
        return self.usual.directory

    @property
    def authorities(self) -> tuple[CaSettings, ...]:
        """Every CA, the usual one first."""
        return (self.usual, *self.fallback)

    @property
    def issuance(self) -> desired.Issuance:
        """How certificates are ordered."""
        authorities = tuple(desired.Authority(one.name, one.directory) for one in self.authorities)
        return desired.Issuance(self.profiles, authorities, self.reuse_key, self.dns_persist)


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """Whom to ask about zones, and how long to wait for a challenge record. Without resolvers, the
    system's; `port` is that of authoritative servers; `doh` are URLs of resolvers, `None` where
    nothing is said. With a `wait`, nothing is asked.
    """

    resolvers: tuple[ServerAddress, ...]
    propagation_timeout: timedelta
    port: int
    doh: tuple[str, ...] | None = None
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """How edges are observed; without resolvers, the system's. `timeout` ends the wait."""

    resolvers: tuple[ServerAddress, ...]
    port: int
    ca_bundle: Path | None
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class AccountTable:
    """An account as written: `values` has all but `type`, may hold secrets, and never prints."""

    label: str
    type: str
    values: Mapping[str, object] = field(repr=False)
    place: Place


@dataclass(frozen=True, slots=True)
class ChannelTable:
    """A channel as written: its adapter's table, its topics, its language (empty: the run's)."""

    account: AccountTable
    on: tuple[Topic, ...]
    language: str = ""


HEARTBEAT, METRICS = "[heartbeat]", "[metrics]"
"""What messages call them, as they call a channel by its name."""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The address that a run pings, and the file for its metrics; `None` for what is not wanted."""

    heartbeat: SecretReference | None = None
    metrics: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What is wanted of them."""
        wanted = {HEARTBEAT: self.heartbeat, METRICS: self.metrics}
        return tuple(name for name, setting in wanted.items() if setting is not None)


UNIX = "unix:"
"""How an address begins that is a socket's path."""


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Where the console listens (`HOST:PORT`, or `unix:PATH`), and the URL by which browsers know
    it, without a slash at its end; which certificate it serves: a declared one, or the files of
    one; which header of a proxy at the unix socket names the user, and which proxies' headers count
    (networks).
    """

    listen: str = "127.0.0.1:8080"
    url: str | None = None
    certificate: str | None = None
    fullchain: str | None = None
    privkey: str | None = None
    user_header: str | None = None
    trusted_proxies: tuple[str, ...] = ()

    @property
    def socket(self) -> Path | None:
        """The unix socket to listen at; `None` for a port."""
        return Path(self.listen.removeprefix(UNIX)) if self.listen.startswith(UNIX) else None

    @property
    def address(self) -> tuple[str, int] | None:
        """The address and port to listen at; `None` for a unix socket."""
        if self.listen.startswith(UNIX):
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def has_certificate(self) -> bool:
        """Whether it speaks TLS itself."""
        return self.certificate is not None or self.fullchain is not None

    @property
    def base(self) -> str:
        """The URL by which browsers know it, without a slash at its end."""
        if self.url is not None:
            return self.url
        scheme = "https" if self.has_certificate else "http"
        return f"{scheme}://{'localhost' if self.address is None else self.listen}"

    @property
    def host(self) -> str:
        """The host of that URL."""
        return urlsplit(self.base).hostname or ""

    @property
    def prefix(self) -> str:
        """The path of that URL, without a slash at its end."""
        return urlsplit(self.base).path

    @property
    def is_https(self) -> bool:
        """Whether browsers reach it by HTTPS."""
        return self.base.startswith("https:")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the operator declared; `path` is `None` for the environment alone. `certificates`
    are those of this run among the `declared`; they stand at `places`, and the deployments that
    this host carries out at `deployed`, by lineage. `hosts` are those that deployments name.
    `accounts` and `channels` go by label.
    """

    path: Path | None
    state: StateSettings
    acme: AcmeSettings
    dns: DnsSettings
    verify: VerifySettings
    accounts: Mapping[str, AccountTable]
    certificates: tuple[desired.DesiredCertificate, ...]
    declared: tuple[desired.DesiredCertificate, ...]
    places: Mapping[str, Place]
    secrets: Secrets
    env_files: tuple[EnvFile, ...] = ()
    channels: Mapping[str, ChannelTable] = field(default_factory=dict)
    monitoring: Monitoring = field(default_factory=Monitoring)
    deployed: Mapping[str, Sequence[Place]] = field(default_factory=dict)
    hosts: frozenset[str] = frozenset()
    console: ConsoleSettings = field(default_factory=ConsoleSettings)


@dataclass(frozen=True, slots=True)
class UsualAccount:
    """An account that needs no file: its type and label, its service, its variables for keys."""

    type: str
    service: str
    variables: tuple[Variable, ...]


@dataclass(frozen=True, slots=True)
class UsualAccounts:
    """Where a certificate is proven and served that no file says anything of."""

    dns: UsualAccount
    target: UsualAccount


ReadOptions = Callable[[TomlTable], tuple[desired.Kind, desired.DesiredHttps]]
"""Reads the settings that a target declares for its deployments, as `config.bind` does."""


class Adapters:
    """What is known of an account before it is connected: here, and for readers alone, nothing."""

    buckets: Collection[str] = ()
    """What addresses of buckets begin with, before `://`; where none is known, any word may."""

    def variables(self, types: Collection[str]) -> Collection[str]:
        """Return the variables that hold keys of these types, and of usual ones, used or not."""
        del types
        return ()

    def keys_in(self, environ: Mapping[str, str], account: AccountTable) -> Mapping[str, str]:
        """Return references to keys in the environment, for an account whose table has none."""
        del environ, account
        return {}

    def options_of(self, type_: str) -> ReadOptions | None:
        """Return the reader of deployment settings of a target; `None` if the type is unknown."""

    def check(self, account: AccountTable, group: str, resolve: Resolve) -> None:
        """Raise `ConfigError` with what is wrong in an account of a type known in its group."""

    def unknown_types(self, accounts: Iterable[AccountTable]) -> Sequence[Mistake]:
        """Return a mistake for each account whose type is neither a DNS provider nor a target."""
        del accounts
        return ()
