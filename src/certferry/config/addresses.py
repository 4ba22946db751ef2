"""Addresses in settings: name servers by IP address, services by URL, people by mail."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit

from certferry.config.findings import nearest
from certferry.config.values import word
from certferry.core.loopback import is_loopback
from certferry.errors import ConfigError
from certferry.text import Text

DNS_PORT = 53  # RFC 1035 §4.2

DIRECTORIES: Mapping[str, str] = MappingProxyType(
    {
        "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
        "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
        "zerossl": "https://acme.zerossl.com/v2/DV90",
        "google": "https://dv.acme-v02.api.pki.goog/directory",
    }
)
"""Directories by the names operators know them under, as their owners publish them (2026)."""

STAGING: Mapping[str, str] = MappingProxyType(
    {DIRECTORIES["letsencrypt"]: DIRECTORIES["letsencrypt-staging"]}
)
"""Where a directory's configuration can be tried, as its owner publishes it."""

_SERVER = re.compile(
    r"\[(?P<v6>[^\]]+)\](?::(?P<v6_port>\d{1,5}))?|(?P<v4>[^:]+)(?::(?P<v4_port>\d{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A name server: its IP address and port."""

    host: str
    port: int = DNS_PORT


def server_address(value: object) -> ServerAddress:
    """Take `address`, `address:port` or `[IPv6]:port`.

    Only addresses: to find a name server by its name would need another name server.
    """
    written = word(value).strip()
    parts = _SERVER.fullmatch(written)
    host = (parts["v6"] or parts["v4"]) if parts else written
    port = int((parts and (parts["v6_port"] or parts["v4_port"])) or DNS_PORT)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise _not_a_server(written) from None
    if not 1 <= port <= 65535:  # noqa: PLR2004 - RFC 768: ports have 16 bits
        raise _not_a_server(written)
    return ServerAddress(str(address), port)


def email_address(value: object) -> str:
    """Take a mail address, as far as a CA or a vendor would."""
    written = word(value)
    name, at, host = written.rpartition("@")
    if not (name and at and "." in host) or " " in written or ":" in written:
        raise ConfigError(Text("must be an address such as ops@example.com"))
    return written


def https_url(value: object) -> str:
    """Take an https address; plain http only on loopback, where no other machine can listen in."""
    written = word(value)
    parts = _split(written)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(Text("must not hold a user name or password"))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            Text("must begin with https://; http:// is for addresses of this machine only")
        )
    return written


def proxy_url(value: object) -> str:
    """Take the address of a proxy; what is asked through it is encrypted to its end anyway."""
    written = word(value)
    scheme = written.partition("://")[0].lower()
    if scheme.startswith("socks"):
        raise ConfigError(
            Text("certferry does not support SOCKS proxies; write the proxy's http:// address")
        )
    if _split(written).username is not None:
        raise ConfigError(
            Text("must not hold a user name or password; a proxy with one goes into HTTPS_PROXY")
        )
    return written


def directory_url(value: object) -> str:
    """Take the name of a well-known directory, or the URL of another (RFC 8555 §7.1.1)."""
    written = word(value)
    if written in DIRECTORIES:
        return DIRECTORIES[written]
    if "://" in written:
        return https_url(written)
    meant = nearest(written, DIRECTORIES)
    raise ConfigError(
        Text("must be an https URL or one of {names}", names=list(DIRECTORIES))
        if meant is None
        else Text(
            "must be an https URL or one of {names}; did you mean {word}?",
            names=list(DIRECTORIES),
            word=meant,
        )
    )


def _split(written: str) -> SplitResult:
    try:
        parts = urlsplit(written)
        complete = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # an unclosed bracket, or a port that is no port
        complete = False
    if not complete or " " in written:
        raise ConfigError(Text("must be a URL such as https://host/path"))
    return parts


def _not_a_server(written: str) -> ConfigError:
    return ConfigError(
        Text(
            "{server} is not the address of a name server; write 192.0.2.1, 192.0.2.1:5353 or"
            " [2001:db8::1]:5353",
            server=repr(written),
        )
    )
