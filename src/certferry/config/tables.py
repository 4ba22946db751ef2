"""Read the tables of the configuration file, with a function for each table, and add defaults."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

from certferry.config import model, values
from certferry.config.document import Place
from certferry.config.files import Paths
from certferry.config.mistakes import Mistake, instead_of
from certferry.config.secrets import Resolve, SecretReference
from certferry.config.values import Read, TomlTable
from certferry.core.assessment.notices import USUAL, Topic
from certferry.core.assessment.transparency import ExpectedCertificate
from certferry.core.certificates.certificate import KeyType
from certferry.core.certificates.names import read_pattern
from certferry.core.desired.certificate import ExternalAccount
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.values import replace


def read_monitoring(root: TomlTable, paths: Paths) -> model.Monitoring:
    """Read `[heartbeat]` and `[metrics]`."""
    heartbeat, metrics = root.table("heartbeat"), root.table("metrics")

    def metrics_file(value: object) -> Path:
        text = values.word(value)
        if not text.endswith(".prom"):
            # node_exporter's textfile collector ignores other files (its README, "Textfile
            # Collector").
            raise ConfigError(Text("must end with .prom: node_exporter reads no other file"))
        return paths.resolve(text)

    def address(value: object) -> SecretReference:
        reference = secret_reference(heartbeat)(value)
        if reference.is_literal:  # the first ping checks the URL behind any other reference
            values.https_url(value)
        return reference

    monitoring = model.Monitoring(
        heartbeat.take("url", address, None),
        metrics.take("file", metrics_file, None),
    )
    for name, table, setting in (("url", heartbeat, "heartbeat"), ("file", metrics, "metrics")):
        if setting in root and not table.written:
            table.report(name, Text("missing"))
        table.done()
    return monitoring


def read_transparency(table: TomlTable) -> model.TransparencySettings:
    """Read `[ct]`."""
    settings = model.TransparencySettings(
        watches=table.take("watch", values.flag, False),  # noqa: FBT003 - the default of a setting
        api=table.take("api", values.https_url, None),
        token=table.take("token", secret_reference(table), None),
        expected=tuple(filter(None, map(_expected, table.tables("expected")))),
    )
    table.done()
    return settings


def _expected(table: TomlTable) -> ExpectedCertificate | None:
    """Read an entry of `expected`; `None` for an entry with a mistake."""
    issuer = table.take("issuer", values.word, None)
    names = table.take_one_or_more("names", _names_pattern)
    for key in ("issuer", "names"):
        if key not in table:
            table.report(key, Text("missing"))
    table.done()
    return ExpectedCertificate(issuer.strip(), names) if issuer and names else None


def _names_pattern(value: object) -> str:
    """Read a name, or a pattern with stars for names."""
    return read_pattern(values.one_name(value))


HTTPS_PORT = 443  # RFC 9110 §4.2.2
PROPAGATION_TIMEOUT = timedelta(minutes=5)
VERIFY_TIMEOUT = timedelta(hours=1)

RESERVED = ("files", "command")
"""The words that `to` of a deployment has in place of an account's label."""

_OF_A_CHANNEL = ("type", "on", "language")
_LANGUAGES = ("zh", "en")

_SQLITE = "sqlite:///"
SERVERS = ("postgresql://", "postgres://")
_DATABASES = ("sqlite", "postgresql")
_BUCKET = re.compile(r"(?!sqlite:|postgres(ql)?:)[a-z][a-z0-9]*://[^/?#@:]+(/[^?#]*)?(\?[^#]*)?")
_WITHOUT_ACCOUNT = "s3://"
"""The beginning of the address of a bucket whose keys come from the environment. A bucket with any
other beginning takes the keys of an account.
"""
_OPTIONS = {"endpoint", "region"}
_PASSWORD = "PGPASSWORD"  # noqa: S105 - a variable's name (libpq, "Environment Variables")


def read_state(
    table: TomlTable,
    paths: Paths,
    directory: Path,
    environ: Mapping[str, str],
    buckets: Collection[str] = (),
) -> model.StateSettings:
    """Read `[state]`. `directory` is the default directory of the database file; for a state on a
    server or in a bucket, it holds only this machine's own files. `environ` may have the password
    of the database (PGPASSWORD). `buckets` is as in `model.Adapters`.
    """
    address = table.take("url", _database(paths, buckets), None)
    database = address or directory / "state.db"
    key = table.take("key", secret_reference(table), None)
    key_file = table.take("key_file", lambda value: paths.resolve(values.word(value)), None)
    password = table.take("password", secret_reference(table), None)
    account = table.take("account", values.word, None)
    is_file, is_server = isinstance(database, Path), str(database).startswith(SERVERS)
    # If the address is wrong, the settings that fit the address are unknown.
    is_known = address is not None or "url" not in table
    if is_known and account is not None and not has_account(database):
        table.report(
            "account", Text("only with a bucket of an account in `url`; remove the setting")
        )
    if is_known and password is not None and not is_server:
        advice = Text("not needed for a file; remove the setting")
        table.report(
            "password", advice if is_file else Text("not needed for a bucket; remove the setting")
        )
    _must_have_one_key(table, key, key_file, is_file=is_file)
    if isinstance(database, Path):
        directory = database.parent
    elif key is not None and password is None and is_server and environ.get(_PASSWORD):
        password = SecretReference(f"env:{_PASSWORD}")
    settings = model.StateSettings(
        database,
        directory,
        key or key_file or directory / "secret.key",
        table.take("host", values.word, platform.node()),
        table.place,
        password,
        account,
    )
    table.done()
    return settings


def read_dns(table: TomlTable) -> model.DnsSettings:
    """Read `[dns]`."""
    settings = model.DnsSettings(
        resolvers=table.take_list("resolvers", values.server_address, (), empty=True),
        propagation_timeout=table.take("propagation_timeout", values.seconds, PROPAGATION_TIMEOUT),
        port=table.take("port", values.port, values.DNS_PORT),
        doh=table.take_list("doh", values.https_url, None, empty=True),
        wait=table.take("wait", values.seconds, None),
    )
    if settings.wait is not None and settings.doh:
        table.report("doh", Text("with `wait` certferry asks no resolver; remove one of the two"))
    table.done()
    return settings


def read_verify(table: TomlTable, paths: Paths, dns: model.DnsSettings) -> model.VerifySettings:
    """Read `[verify]`. If `resolvers` is absent, take the resolvers of `[dns]`."""
    settings = model.VerifySettings(
        resolvers=table.take_list("resolvers", values.server_address, dns.resolvers, empty=True),
        port=table.take("port", values.port, HTTPS_PORT),
        ca_bundle=table.take("ca_bundle", existing_file(paths), None),
        timeout=table.take("timeout", values.seconds, VERIFY_TIMEOUT),
    )
    table.done()
    return settings


def read_accounts(accounts: TomlTable) -> dict[str, model.AccountTable]:
    """Read the label and the type of each `[accounts.…]`. The account's adapter reads the other
    keys later.
    """
    tables: dict[str, model.AccountTable] = {}
    for label, table, pairs in accounts.named_tables("mine"):
        if label in RESERVED:
            accounts.report(label, Text("this name is reserved; give the account another"))
        others = {key: value for key, value in pairs.items() if key != "type"}
        tables[label] = model.AccountTable(
            label=label,
            type=table.take("type", values.word, "") if "type" in table else label,
            values=MappingProxyType(others),
            place=table.place,
        )
    return tables


def read_channels(channels: TomlTable) -> dict[str, model.ChannelTable]:
    """Read the name, `type`, `on` and `language` of each `[notify.…]`. The channel's adapter reads
    the other keys later.
    """
    tables: dict[str, model.ChannelTable] = {}
    for name, table, pairs in channels.named_tables("ops"):
        others = {key: value for key, value in pairs.items() if key not in _OF_A_CHANNEL}
        type_ = table.take("type", values.word, name)
        on = table.take_list("on", values.one_of([topic.value for topic in Topic]), USUAL)
        tables[name] = model.ChannelTable(
            model.AccountTable(name, type_, MappingProxyType(others), table.place),
            tuple(map(Topic, on)),
            table.take("language", values.one_of(_LANGUAGES), ""),
        )
    return tables


_EC, _RSA = KeyType.EC256.value, KeyType.RSA2048.value
_FAMILIES = {"rsa": _RSA, "ec": _EC, "ecc": _EC, "ecdsa": _EC}
"""The usual key type of each family of key types."""


def key_type(value: object) -> KeyType:
    """Read the name of a key type."""
    if isinstance(value, str) and value.lower() in _FAMILIES:
        raise ConfigError(
            Text("is a family of key types; write {word}", word=_FAMILIES[value.lower()])
        )
    return KeyType(values.one_of([kind.value for kind in KeyType])(value))


def secret_reference(table: TomlTable) -> Read[SecretReference]:
    """Make a reader of secrets in this table. A literal secret is refused if other users can read
    the file.
    """

    def read(value: object) -> SecretReference:
        reference = SecretReference(values.string(value))
        document = table.place.document
        if reference.is_literal and document.readable_by_others:
            problem = Text(
                "the file contains a secret and other users can read it; run: chmod 600 {path}"
            )
            raise ConfigError(problem.filled(path=shlex.quote(str(document.path))))
        return reference

    return read


def existing_file(paths: Paths) -> Read[Path]:
    """Make a reader of the path of an existing file."""

    def read(value: object) -> Path:
        path = paths.resolve(values.word(value))
        if not path.is_file():
            raise ConfigError(Text("there is no file {path}", path=path))
        return path

    return read


def has_account(database: object) -> bool:
    """Return whether `database` has the form of a bucket's address whose access keys stand in an
    account of the file. The keys for `s3://` come from the environment. The scheme may be unknown.
    """
    is_bucket = isinstance(database, str) and _BUCKET.fullmatch(database) is not None
    return is_bucket and not str(database).startswith(_WITHOUT_ACCOUNT)


def must_be_of_a_bucket(url: str, buckets: Collection[str]) -> None:
    """Raise `ConfigError` if the scheme of an address is not among `buckets`."""
    beginning = url.partition("://")[0]
    if beginning not in buckets:
        schemes = [*_DATABASES, *buckets]
        message = Text("{beginning}:// cannot hold a state; {instead}")
        raise ConfigError(
            message.filled(beginning=beginning, instead=instead_of(beginning, schemes))
        )


def _database(paths: Paths, buckets: Collection[str]) -> Read[Path | str]:
    def read(value: object) -> Path | str:
        # Messages do not show the URL because the URL may hold a password.
        url = values.word(value)
        try:
            if url.startswith(SERVERS):
                return _of_a_server(url)
            if _BUCKET.fullmatch(url):
                if buckets:
                    must_be_of_a_bucket(url, buckets)
                return _of_a_bucket(url)
        except ValueError:  # raised by `urlsplit`
            raise ConfigError(Text("is not an address")) from None
        path = url.removeprefix(_SQLITE)
        if path in {url, "", ":memory:"}:
            raise ConfigError(
                Text(
                    "must be sqlite:/// and a path, for example"
                    " sqlite:////var/lib/certferry/state.db,"
                    " postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full, or the address of"
                    " a bucket, for example s3://BUCKET/PREFIX?region=REGION"
                )
            )
        return paths.resolve(path)

    return read


def _of_a_bucket(url: str) -> str:
    """Return the address of a bucket, after checking the path and the options. Raises
    `ConfigError`, and `ValueError` as `urlsplit` does.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    # HTTP libraries differ: some resolve `.` and `..` in a path, others refuse the path.
    if {".", ".."} & set(parts.path.split("/")):
        raise ConfigError(Text("is not an address"))
    allowed = set[str]() if has_account(url) else _OPTIONS
    if unknown := sorted(options.keys() - allowed):
        raise ConfigError(Text("has no option {name}", name=unknown[0]))
    for endpoint in options.get("endpoint", ()):
        values.https_url(endpoint)
    return url


def _of_a_server(url: str) -> str:
    """Return the address of a server's database, after the checks that need no database library.
    Raises `ConfigError`, and `ValueError` as `urlsplit` does.
    """
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    user, _, hosts = parts.netloc.rpartition("@")
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    is_wrong = any(port and not port.isdigit() for port in ports)
    # A `/`, `?` or `#` in a password ends the host too early.
    is_cut = "@" in parts.path or (is_wrong and "@" not in parts.netloc)
    if ":" in user or "password" in asked or is_cut:
        raise ConfigError(Text("contains a password; write `password`, a reference, instead"))
    if is_wrong:
        raise ConfigError(Text("is not an address"))
    return url


_USUAL = values.DIRECTORIES["letsencrypt"]
_KEYS = ("directory", "ca_bundle", "proxy", "eab_kid", "eab_hmac_key")


def read_authority(
    table: TomlTable, paths: Paths, name: str | None, usual: model.CaSettings
) -> model.CaSettings:
    """Read a CA from a table. An absent directory, CA bundle or proxy comes from `usual`; an absent
    external account does not. Without a `name`, the CA is named after the directory.
    """
    directory = table.take("directory", values.directory_url, usual.directory)
    settings = model.CaSettings(
        name=name or called(directory),
        directory=directory,
        ca_bundle=table.take("ca_bundle", existing_file(paths), usual.ca_bundle),
        proxy=table.take("proxy", values.proxy_url, usual.proxy),
        eab_kid=table.take("eab_kid", values.word, None),
        eab_hmac_key=table.take("eab_hmac_key", secret_reference(table), None),
    )
    for key, other in (("eab_kid", "eab_hmac_key"), ("eab_hmac_key", "eab_kid")):
        if key not in table and other in table:
            table.report(key, Text("missing: required together with {other}", other=other))
    return settings


def read_fallback(
    table: TomlTable, paths: Paths, usual: model.CaSettings
) -> tuple[model.CaSettings, ...]:
    """Read the CAs of `fallback`. An item is the name of a table under [acme] with the CA's
    settings, or else a directory's short name or URL.
    """

    def read(value: object) -> model.CaSettings:
        name = values.word(value)
        own = table.table(name) if name in table and name not in _KEYS else None
        has_directory = own is not None and "directory" in own
        directory = usual.directory if has_directory else _known(name)
        if own is None:
            return model.CaSettings(called(directory), directory, usual.ca_bundle, usual.proxy)
        settings = read_authority(own, paths, name, replace(usual, directory=directory))
        own.done()
        return settings

    authorities = table.take_list("fallback", read, (), empty=True)
    seen = {usual.directory}
    for number, ca in enumerate(authorities):
        if ca.directory in seen:
            problem = Text("{name} is already listed", name=ca.name)
            table.report("fallback", problem, item=number)
        elif ca.directory in values.NEED_EXTERNAL_ACCOUNT and ca.eab_kid is None:
            problem = Text(
                "{name} registers no account without `eab_kid` and `eab_hmac_key`: write both below"
                " [acme.{name}]",
                name=ca.name,
            )
            table.report("fallback", problem, item=number)
        seen.add(ca.directory)
    return authorities


def _known(name: str) -> str:
    try:
        return values.directory_url(name)
    except ConfigError as error:
        message = Text("{problem}; or the name of a table under [acme] with a `directory`")
        raise ConfigError(message.filled(problem=error.message)) from None


def called(directory: str) -> str:
    """Return the name that operators use for a directory: the short name, or the host."""
    names = {url: name for name, url in values.DIRECTORIES.items()}
    return names.get(directory) or urlsplit(directory).netloc


def wrong_bindings(acme: model.AcmeSettings, place: Place, resolve: Resolve) -> Iterator[Mistake]:
    """Yield a mistake for each external account (`eab_kid`, `eab_hmac_key`) whose key has a wrong
    form. Skip a key that needs a program or a key ring, and a key that cannot be resolved now:
    these keys are checked when the CA is asked.
    """
    for number, ca in enumerate(acme.authorities):
        if ca.eab_kid is None or ca.eab_hmac_key is None or not ca.eab_hmac_key.is_at_rest:
            continue
        with suppress(ConfigError):
            key = resolve(ca.eab_hmac_key)
            try:
                ExternalAccount(ca.eab_kid, key)
            except ConfigError as problem:
                where = place if number == 0 else place.below(ca.name)
                yield where.mistake("eab_hmac_key", values.message_and_hint(problem))


def _must_have_one_key(
    table: TomlTable, key: SecretReference | None, key_file: Path | None, *, is_file: bool
) -> None:
    """Report a mistake if both `key` and `key_file` are set. Unless the state is a SQLite file
    (`is_file`), all hosts need the same key: report `key_file` without `key`, and report `key` if
    both are missing.
    """
    if key_file is not None and key is not None:
        table.report("key_file", Text("cannot be combined with `key`; remove one of the two"))
    elif key_file is not None and not is_file:
        problem = Text('all hosts need the same key: write key = "file:{path}" instead')
        table.report("key_file", problem.filled(path=key_file))
    elif "key" not in table and not is_file:
        problem = Text(
            "missing: all hosts need the same key; `certferry state key` prints a new key"
        )
        table.report("key", problem)


def read_acme(table: TomlTable, paths: Paths) -> model.AcmeSettings:
    """Read `[acme]`."""
    usual = read_authority(table, paths, None, model.CaSettings(called(_USUAL), _USUAL))
    settings = model.AcmeSettings(
        usual=usual,
        key_type=table.take("key_type", key_type, KeyType.EC256),
        email=table.take("email", values.email_address, None),
        profiles=tuple(dict.fromkeys(table.take_one_or_more("profile", values.word))),
        fallback=read_fallback(table, paths, usual),
        preferred_chain=table.take("preferred_chain", values.word, None),
        reuse_key=table.take("reuse_key", values.flag, False),  # noqa: FBT003 - the default of a setting
        staging=table.take("staging", values.directory_url, values.STAGING.get(usual.directory)),
        dns_persist=table.take("dns_persist", values.flag, False),  # noqa: FBT003 - the same
    )
    table.done()
    return settings


def unseen_records(
    acme: model.AcmeSettings, dns: model.DnsSettings, place: Place
) -> Iterator[Mistake]:
    """Yield a mistake if both `dns_persist` and `wait` of `[dns]` are set: `dns_persist` needs
    lookups of DNS records, and `wait` replaces lookups by a fixed time.
    """
    if acme.dns_persist and dns.wait is not None:
        problem = Text(
            "not with `wait` under [dns]: certferry looks the records up before an order"
        )
        yield place.mistake("dns_persist", problem)
