"""Reader of `[[watch]]`, and of a host as operators write it: a name, an address or a URL."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import timedelta

from certferry.config import values
from certferry.config.files import Paths
from certferry.config.model import Watch
from certferry.config.tables import existing_file
from certferry.config.values import TomlTable
from certferry.core.certificates.names import is_address, is_wildcard, normalise
from certferry.core.network import HTTPS, Host
from certferry.errors import ConfigError
from certferry.text import Text

EXPIRING = timedelta(days=14)
"""The time left below which a certificate is trouble, by default."""

UNNAMED = "watch"
"""The name of a `[[watch]]` without `name`."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::([^:]*))?|(.*)", re.DOTALL)
"""Matches an address in brackets or a name, with or without a port. The last group takes all other
text, such as an IPv6 address without brackets.
"""


def read_watches(tables: Iterable[TomlTable], paths: Paths) -> tuple[Watch, ...]:
    """Read every `[[watch]]`. A host that stands twice, also in different tables, is reported."""
    seen: set[Host] = set()
    return tuple(_read_watch(table, paths, seen) for table in tables)


def _read_watch(table: TomlTable, paths: Paths, seen: set[Host]) -> Watch:

    def host(value: object) -> Host:
        read = host_of(values.word(value), HTTPS)
        if read in seen:
            raise ConfigError(Text("{host} is already listed", host=str(read)))
        seen.add(read)
        return read

    watch = Watch(
        name=table.take("name", values.word, UNNAMED),
        hosts=table.take_list("hosts", host, ()),
        expiring=table.take("expiring", values.days, EXPIRING),
        ca_bundle=table.take("ca_bundle", existing_file(paths), None),
    )
    if "hosts" not in table:
        table.report("hosts", Text("missing"))
    table.done()
    return watch


def host_of(text: str, port: int) -> Host:
    """Return the host that a name, an address or a URL means; `port` is the default port. Raise
    `ConfigError` for other text and for a wildcard.
    """
    authority = re.split(r"[/?#]", _SCHEME.sub("", text.strip(), count=1))[0]
    match = _HOST.fullmatch(authority.rpartition("@")[2])
    bracketed, name, own_port, other = match.groups() if match else (None,) * 4
    host, quoted = bracketed or name or other or "", repr(text)
    if own_port is not None:
        if not re.fullmatch(r"[0-9]{1,5}", own_port) or not 1 <= int(own_port) <= 65535:  # noqa: PLR2004 - RFC 9293: ports have 16 bits
            message = Text("{host} has no port between 1 and 65535", host=quoted)
            raise ConfigError(message, hint=Text("write the host like img.example.com:8443"))
        port = int(own_port)
    if is_address(host):
        return Host(str(ipaddress.ip_address(host)), port)
    if ":" in host:
        hint = Text("write an IPv6 address in brackets: [2001:db8::1] or [2001:db8::1]:8443")
        raise ConfigError(Text("{host} is not a host", host=quoted), hint=hint)
    try:
        domain = normalise(host)
    except ConfigError as error:
        hint = Text("write a host like img.example.com, img.example.com:8443, or a URL")
        raise ConfigError(error.message.filled(name=quoted), hint=hint) from None
    if is_wildcard(domain):
        example = Text(
            "name one of these hosts, for example {host}", host=domain.replace("*", "www", 1)
        )
        raise ConfigError(Text("{name} stands for many hosts", name=domain), hint=example)
    return Host(domain, port)
