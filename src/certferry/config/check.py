"""The tables of the settings, one function each: known settings, right types, defaults."""

from __future__ import annotations

import shlex
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from certferry.config.files import Paths
from certferry.config.model import (
    AccountTable,
    ChannelTable,
    DnsSettings,
    Monitoring,
    StateSettings,
    VerifySettings,
)
from certferry.config.secrets import SecretReference
from certferry.config.table import Table
from certferry.config.values import (
    DNS_PORT,
    Read,
    https_url,
    one_of,
    port,
    seconds,
    server_address,
    string,
    word,
)
from certferry.core.assessment.notices import USUAL, Topic
from certferry.core.certificates.certificate import KeyType
from certferry.errors import ConfigError
from certferry.text import Text

_ENDING = ".prom"


def read_monitoring(root: Table, paths: Paths) -> Monitoring:
    """Read `[heartbeat]` and `[metrics]`."""
    heartbeat, metrics = root.table("heartbeat"), root.table("metrics")
    found = Monitoring(
        heartbeat.take("url", secret_reference(heartbeat), None),
        metrics.take("file", lambda value: _metrics_file(value, paths), None),
    )
    for name, table, setting in (("url", heartbeat, "heartbeat"), ("file", metrics, "metrics")):
        if setting in root and not table.written:
            table.report(name, Text("missing"))
        table.done()
    return found


def _metrics_file(value: object, paths: Paths) -> Path:
    written = word(value)
    if not written.endswith(_ENDING):
        # node_exporter's textfile collector reads no other (its README, "Textfile Collector").
        raise ConfigError(Text("must end with .prom: node_exporter reads no other file"))
    return paths.resolve(written)


HTTPS_PORT = 443  # RFC 9110 §4.2.2
PROPAGATION_TIMEOUT = timedelta(minutes=5)
VERIFY_TIMEOUT = timedelta(hours=1)

RESERVED = ("files", "command")
"""Words a deployment can name in place of an account."""

_OF_A_CHANNEL = ("type", "on", "language")
_LANGUAGES = ("zh", "en")

_SQLITE = "sqlite:///"


def read_state(table: Table, paths: Paths, directory: Path) -> StateSettings:
    """Read `[state]`; `directory` is where the database lies when nothing is said."""
    path = table.take("url", _database(paths), directory / "state.db")
    key_file = table.take("key_file", _path(paths), path.parent / "secret.key")
    table.done()
    return StateSettings(path, key_file)


def read_dns(table: Table) -> DnsSettings:
    """Read `[dns]`."""
    settings = DnsSettings(
        resolvers=table.take_list("resolvers", server_address, (), empty=True),
        propagation_timeout=table.take("propagation_timeout", seconds, PROPAGATION_TIMEOUT),
        port=table.take("port", port, DNS_PORT),
        doh=table.take_list("doh", https_url, None, empty=True),
        wait=table.take("wait", seconds, None),
    )
    if settings.wait is not None and settings.doh:
        table.report("doh", Text("`wait` means that nothing is asked; remove one of the two"))
    table.done()
    return settings


def read_verify(table: Table, paths: Paths, dns: DnsSettings) -> VerifySettings:
    """Read `[verify]`, whose resolvers are those of `[dns]` unless it has its own."""
    settings = VerifySettings(
        resolvers=table.take_list("resolvers", server_address, dns.resolvers, empty=True),
        port=table.take("port", port, HTTPS_PORT),
        ca_bundle=table.take("ca_bundle", existing_file(paths), None),
        timeout=table.take("timeout", seconds, VERIFY_TIMEOUT),
    )
    table.done()
    return settings


def read_accounts(accounts: Table) -> dict[str, AccountTable]:
    """Read `[accounts.…]` as far as they are the same for every adapter."""
    found: dict[str, AccountTable] = {}
    for label, table, written in accounts.named_tables():
        if label in RESERVED:
            accounts.report(label, Text("this name is reserved; give the account another"))
        values = {key: value for key, value in written.items() if key != "type"}
        found[label] = AccountTable(
            label=label,
            type=table.take("type", word, "") if "type" in table else label,
            values=MappingProxyType(values),
            place=table.place,
        )
    return found


def read_channels(channels: Table) -> dict[str, ChannelTable]:
    """Read `[notify.…]` as far as they are the same for every adapter."""
    found: dict[str, ChannelTable] = {}
    for name, table, written in channels.named_tables():
        values = {key: value for key, value in written.items() if key not in _OF_A_CHANNEL}
        type_ = table.take("type", word, name)
        on = table.take_list("on", one_of([topic.value for topic in Topic]), USUAL)
        found[name] = ChannelTable(
            AccountTable(name, type_, MappingProxyType(values), table.place),
            tuple(map(Topic, on)),
            table.take("language", one_of(_LANGUAGES), ""),
        )
    return found


_FAMILIES = {
    "rsa": KeyType.RSA2048.value,
    **dict.fromkeys(("ec", "ecc", "ecdsa"), KeyType.EC256.value),
}
"""Kinds of keys without a size, and the kind of that family that is meant as a rule."""


def key_type(value: object) -> KeyType:
    """Take a kind of key."""
    if isinstance(value, str) and value.lower() in _FAMILIES:
        raise ConfigError(Text("is a family of keys; write {word}", word=_FAMILIES[value.lower()]))
    return KeyType(one_of([kind.value for kind in KeyType])(value))


def secret_reference(table: Table) -> Read[SecretReference]:
    """Make a reader of secrets in this table: a literal only where no other user can read it."""

    def read(value: object) -> SecretReference:
        reference = SecretReference(string(value))
        document = table.place.document
        if reference.is_literal and document.readable_by_others:
            raise ConfigError(
                Text(
                    "a secret stands in a file that other users can read; run: chmod 600 {path}",
                    path=shlex.quote(str(document.path)),
                )
            )
        return reference

    return read


def _path(paths: Paths) -> Read[Path]:
    return lambda value: paths.resolve(word(value))


def existing_file(paths: Paths) -> Read[Path]:
    """Make a reader of the path of a file that is there."""

    def read(value: object) -> Path:
        path = paths.resolve(word(value))
        if not path.is_file():
            raise ConfigError(Text("there is no file {path}", path=path))
        return path

    return read


def _database(paths: Paths) -> Read[Path]:
    def read(value: object) -> Path:
        # The URL is not shown: one of another kind may hold a password.
        url = word(value)
        if url.startswith(("postgresql:", "postgres:", "postgresql+")):
            raise ConfigError(
                Text("PostgreSQL is not supported by this version; write sqlite:///state.db")
            )
        written = url.removeprefix(_SQLITE)
        if written in {url, "", ":memory:"}:
            raise ConfigError(
                Text("must be sqlite:/// and a path, such as sqlite:////var/lib/certferry/state.db")
            )
        return paths.resolve(written)

    return read
