"""The settings as other rooms get them: frozen, complete with defaults, independent of TOML."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from certferry.config.document import Place
from certferry.config.env_files import EnvFile
from certferry.config.mistakes import Mistake
from certferry.config.secrets import Resolve, SecretReference, Secrets
from certferry.config.values import ServerAddress, TomlTable
from certferry.core.assessment.notices import Topic
from certferry.core.assessment.transparency import ExpectedCertificate
from certferry.core.certificates.certificate import KeyType
from certferry.core.desired import certificate as desired
from certferry.core.network import Host
from certferry.ports.adapter import Variable


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where the state is, and the secrets that open the state: the encryption key, and the password
    or account of the database or bucket.
    """

    #: The file of a SQLite database, the URL of a database shared by hosts, or the URL of a bucket.
    database: Path | str
    #: The directory for files that only this machine uses: logs, and certificate files for
    #: commands.
    directory: Path
    #: The key that encrypts the private keys in the state: the key's file, or a reference to the
    #: key.
    key: Path | SecretReference
    #: This host's name in the state.
    host: str
    #: The place of `[state]` in the file.
    place: Place
    #: The password of the database's user.
    password: SecretReference | None = None
    #: The account with the keys for the bucket.
    account: str | None = None

    @property
    def path(self) -> Path | None:
        """The file of the database; `None` for a database shared by hosts, and for a bucket."""
        return self.database if isinstance(self.database, Path) else None

    @property
    def is_bucket(self) -> bool:
        """Whether the state is in a bucket, for machines without a disk."""
        return isinstance(self.database, str) and not self.database.startswith("postgres")

    @property
    def is_shared(self) -> bool:
        """Whether the state is in a database on a server, which hosts can share."""
        return self.path is None and not self.is_bucket

    @property
    def key_file(self) -> Path | None:
        """The file of the key; `None` if the key is given by a reference."""
        return self.key if isinstance(self.key, Path) else None

    @property
    def named(self) -> Path | str:
        """The state's place in messages: the file, or the URL without user and options."""
        if isinstance(self.database, Path):
            return self.database
        parts = urlsplit(self.database)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def references(self) -> Mapping[str, SecretReference]:
        """The references to secrets, by key in the file."""
        settings = {"key": self.key, "password": self.password}
        return {
            key: setting
            for key, setting in settings.items()
            if isinstance(setting, SecretReference)
        }


@dataclass(frozen=True, slots=True)
class CaSettings:
    """A CA, and how to reach the CA."""

    #: The CA's name for operators.
    name: str
    #: The URL of the directory.
    directory: str
    #: Certificates to trust when connecting to the directory; `None`: the system's.
    ca_bundle: Path | None = None
    #: The URL of a proxy; `None`: the environment's proxy.
    proxy: str | None = None
    #: The key id for binding an external account (RFC 8555 §7.3.4).
    eab_kid: str | None = None
    #: The key for binding an external account.
    eab_hmac_key: SecretReference | None = None


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """The CAs, and how certificates are ordered."""

    #: The CA that is asked first.
    usual: CaSettings
    #: The type of new keys, unless a certificate sets another type.
    key_type: KeyType
    #: The address at which the CA reaches the operator.
    email: str | None = None
    #: The certificate profiles to order, in order of preference.
    profiles: tuple[str, ...] = ()
    #: The CAs asked near the deadline of a certificate.
    fallback: tuple[CaSettings, ...] = ()
    #: The name of the root to which the ordered chain should lead.
    preferred_chain: str | None = None
    #: Whether to keep the private key when renewing.
    reuse_key: bool = False
    #: The URL of the directory for rehearsals, if known.
    staging: str | None = None
    #: Whether lasting records (dns-persist-01) may prove names.
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
        """How certificates are ordered, as every declared certificate has it."""
        authorities = tuple(desired.Authority(ca.name, ca.directory) for ca in self.authorities)
        return desired.Issuance(self.profiles, authorities, self.reuse_key, self.dns_persist)


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """The resolvers to ask about zones, and the wait for challenge records."""

    #: The resolvers; empty: the system's.
    resolvers: tuple[ServerAddress, ...]
    #: Time limit for challenge records to be visible.
    propagation_timeout: timedelta
    #: The port of authoritative DNS servers.
    port: int
    #: URLs of HTTPS resolvers; `None` if the file does not set `doh`.
    doh: tuple[str, ...] | None = None
    #: How long to wait for challenge records, in place of lookups; `None`: look the records up.
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """How edges are observed."""

    #: The resolvers to ask for edges; empty: the system's.
    resolvers: tuple[ServerAddress, ...]
    #: The port of the edges.
    port: int
    #: Certificates to trust at edges; `None`: the system's.
    ca_bundle: Path | None
    #: Time limit for a new certificate to be served.
    timeout: timedelta


class TransparencySettings(Struct, frozen=True):
    """`[ct]`: whether runs look at public logs, and which certificates are expected there."""

    #: Whether runs look. The registered domains of the declared names then go to the service.
    watches: bool = False
    #: The address of the service; `None`: the usual service.
    api: str | None = None
    #: The key of an account at the service.
    token: SecretReference | None = None
    #: Certificates that others order with the operator's consent.
    expected: tuple[ExpectedCertificate, ...] = ()


class Watch(Struct, frozen=True):
    """A `[[watch]]`: hosts that runs look at, whichever client renews their certificates."""

    #: The name for operators.
    name: str
    #: The hosts. No host stands in two tables.
    hosts: tuple[Host, ...]
    #: The time left below which a certificate is trouble.
    expiring: timedelta
    #: The roots to trust; `None`: those of `[verify]`.
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class AccountTable:
    """An account's table in the file. The table may hold secrets, so `values` is never printed."""

    #: The account's name in the file.
    label: str
    #: The adapter's name; empty if the type in an account's table has a mistake.
    type: str
    #: Every key except `type`, and for a channel except `on` and `language`.
    values: Mapping[str, object] = field(repr=False)
    #: The place of the table in the file.
    place: Place


class ChannelTable(Struct, frozen=True):
    """A channel's table in the file."""

    #: The keys for the channel's adapter.
    account: AccountTable
    #: Topics of the messages to send.
    on: tuple[Topic, ...]
    #: The language of the messages; empty: the language of the run.
    language: str = ""


HEARTBEAT, METRICS = "[heartbeat]", "[metrics]"
"""The names of the monitors in messages, in place of a channel's name."""


class Monitoring(Struct, frozen=True):
    """The monitors of runs; `None` for a monitor without settings."""

    #: The address that a run pings.
    heartbeat: SecretReference | None = None
    #: The file for metrics.
    metrics: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the monitors that have settings."""
        wanted = {HEARTBEAT: self.heartbeat, METRICS: self.metrics}
        return tuple(name for name, setting in wanted.items() if setting is not None)


UNIX = "unix:"
"""The prefix of an address that is the path of a unix socket."""


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """The address to listen at, and the certificate to serve."""

    #: `HOST:PORT` or `unix:PATH`.
    listen: str = "127.0.0.1:8080"
    #: The console's URL in browsers, without a slash at the end.
    url: str | None = None
    #: The lineage of a declared certificate to serve.
    certificate: str | None = None
    #: The file of a certificate to serve, in place of a declared certificate.
    fullchain: str | None = None
    #: The file of the key for `fullchain`.
    privkey: str | None = None
    #: The header in which a proxy at the unix socket names the user.
    user_header: str | None = None
    #: Networks of the proxies whose headers count.
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
        """Whether the console speaks TLS itself."""
        return self.certificate is not None or self.fullchain is not None

    @property
    def base(self) -> str:
        """The console's URL in browsers, without a slash at the end."""
        if self.url is not None:
            return self.url
        scheme = "https" if self.has_certificate else "http"
        return f"{scheme}://{'localhost' if self.address is None else self.listen}"

    @property
    def host(self) -> str:
        """The host of the console's URL."""
        return urlsplit(self.base).hostname or ""

    @property
    def prefix(self) -> str:
        """The path of the console's URL, without a slash at the end."""
        return urlsplit(self.base).path

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the console by HTTPS."""
        return self.base.startswith("https:")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the operator declared."""

    #: The file; `None` if the settings come from the environment alone.
    path: Path | None
    #: The state, `[state]`.
    state: StateSettings
    #: The CAs, `[acme]`.
    acme: AcmeSettings
    #: The resolvers and challenge records, `[dns]`.
    dns: DnsSettings
    #: The observation of edges, `[verify]`.
    verify: VerifySettings
    #: The accounts, by label.
    accounts: Mapping[str, AccountTable]
    #: The certificates of this run, among the `declared`.
    certificates: tuple[desired.DesiredCertificate, ...]
    #: Every certificate of the file.
    declared: tuple[desired.DesiredCertificate, ...]
    #: The place of each certificate in the file, by lineage.
    places: Mapping[str, Place]
    #: Resolves the references to secrets.
    secrets: Secrets
    #: The environment files named in the file.
    env_files: tuple[EnvFile, ...] = ()
    #: The channels, by name.
    channels: Mapping[str, ChannelTable] = field(default_factory=dict)
    #: The heartbeat and the file for metrics.
    monitoring: Monitoring = field(default_factory=Monitoring)
    #: The places in the file of the deployments carried out by this host, by lineage.
    deployed: Mapping[str, Sequence[Place]] = field(default_factory=dict)
    #: The hosts named in deployments.
    hosts: frozenset[str] = frozenset()
    #: The console, `[console]`.
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    #: The look at public logs, `[ct]`.
    transparency: TransparencySettings = field(default_factory=TransparencySettings)
    #: The watched hosts, `[[watch]]`.
    watches: tuple[Watch, ...] = ()


class UsualAccount(Struct, frozen=True):
    """An account that certferry uses if there is no configuration file."""

    #: The account's type and label.
    type: str
    #: The service's name in sentences.
    service: str
    #: The environment variables that hold the account's keys.
    variables: tuple[Variable, ...]


class UsualAccounts(Struct, frozen=True):
    """The accounts used when there is no configuration file."""

    #: Proves the names of a certificate.
    dns: UsualAccount
    #: Serves a certificate.
    target: UsualAccount


ReadOptions = Callable[[TomlTable], tuple[desired.Kind, desired.DesiredHttps]]
"""Reads the options that a target declares for deployments, as `config.bind` does."""


class Adapters:
    """Answers questions about accounts that need the accounts' adapters, without connecting. This
    base class knows no adapter and checks nothing; `wiring.settings.InstalledAdapters` asks the
    installed adapters.
    """

    #: The words allowed before `://` in a bucket's address; empty: any word is allowed.
    buckets: Collection[str] = ()

    def variables(self, types: Collection[str]) -> Collection[str]:
        """Return the names of the environment variables that may hold keys, for accounts of these
        types and for usual accounts.
        """
        del types
        return ()

    def keys_in(self, environ: Mapping[str, str], account: AccountTable) -> Mapping[str, str]:
        """Return references to the account's keys in the environment, by key of the account's
        table. The caller asks only for an account without keys in the table.
        """
        del environ, account
        return {}

    def options_of(self, type_: str) -> ReadOptions | None:
        """Return the reader of a target's deployment options; `None` if the type is unknown."""

    def takes_files(self, type_: str) -> bool:
        """Return whether accounts of a type are servers that take files into directories."""
        del type_
        return False

    def check(self, account: AccountTable, group: str, resolve: Resolve) -> None:
        """Raise `ConfigError` for mistakes in an account's table, as judged by the adapter of the
        account's type in the `group` of entry points.
        """

    def unknown_types(self, accounts: Iterable[AccountTable]) -> Sequence[Mistake]:
        """Return a mistake for each account whose type is neither a DNS provider nor a target."""
        del accounts
        return ()
