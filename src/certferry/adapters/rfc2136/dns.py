"""DNS at a name server, by dynamic updates (RFC 2136) signed with a TSIG key (RFC 8945).

The server is the primary of the zones. The smallest permission for the key at BIND is
`update-policy { grant certferry. name _acme-challenge.example.com. TXT; };`, or
`grant certferry. subdomain example.com. TXT;` for every name of the zone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import dns.exception
import dns.name
import dns.tsig

from certferry.adapters.dns.keys import EMPTY, KeyForms, Mistaken
from certferry.adapters.dns.txt_records import revealed
from certferry.adapters.rfc2136.update_server import SERVICE, ServerKey, UpdateServer
from certferry.core.certificates.names import zone_name
from certferry.core.redaction import Secret, quoted
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Variable
from certferry.ports.dns import DnsProvider
from certferry.text import Text

# The attributes of `ports.adapter.Adapter`.
__all__ = ("ENVIRONMENT", "SERVICE", "Settings", "connect")

RANK = 50
WHERE_KEYS_ARE = Text(
    "the key's statement in the name server's configuration, as printed by `tsig-keygen"
    " certferry.`; for a key other than hmac-sha256 set `algorithm` too"
)
ENVIRONMENT = (
    Variable(
        "server",
        ("RFC2136_NAMESERVER",),
        Text("the primary name server, with its port unless 53"),
    ),
    Variable("key_name", ("RFC2136_TSIG_KEY",), Text("the name of the TSIG key")),
    Variable("key_secret", ("RFC2136_TSIG_SECRET",), Text("the secret of the TSIG key, in base64")),
)

PORT = 53  # RFC 1035 §4.2
MOST = 65535  # RFC 9293: ports have 16 bits

_SERVER = re.compile(
    r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?::(?P<v6_port>\d+))?|(?P<host>[^:\s/]+)(?::(?P<port>\d+))?"
)

KEYS = KeyForms(
    SERVICE,
    Text("copy only the text between the quotes after `secret` in the key's statement"),
    (
        Mistaken("key_secret", "^$", EMPTY),
        Mistaken(
            "key_secret",
            r"(?i)\bsecret\s+\"|\bkey\s+\S+\s*\{",
            Text("holds a whole key statement of BIND"),
        ),
        Mistaken(
            "key_secret",
            r"(?i)\bIN\s+(?:DNS)?KEY\b|\bPrivate-key-format\b",
            Text("holds a key for DNSSEC, or a file of dnssec-keygen"),
            Text("create a TSIG key with `tsig-keygen -a hmac-sha256 certferry.`"),
        ),
        Mistaken(
            "key_secret",
            r"(?i)^(?:hmac-[a-z0-9-]+:)?[^:\s]+:[a-z0-9+/]+=*$",
            Text("holds the key as `nsupdate -y` takes it, with its name before it"),
            Text("copy only the text after the last colon; the name belongs in `key_name`"),
        ),
        Mistaken(
            "key_secret",
            r"^(?!(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$)",
            Text("is not base64"),
        ),
    ),
)


class Algorithm(StrEnum):
    """A key's algorithm, by BIND's name."""

    SHA256 = "hmac-sha256"
    SHA512 = "hmac-sha512"
    SHA384 = "hmac-sha384"
    SHA224 = "hmac-sha224"
    SHA1 = "hmac-sha1"
    MD5 = "hmac-md5"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`."""

    server: Secret | str
    key_name: Secret | str
    key_secret: Secret
    algorithm: Annotated[
        Algorithm, Text("the key's algorithm, as in the key's statement at the server")
    ] = Algorithm.SHA256
    zones: Annotated[
        tuple[str, ...],
        Text("the zones that the key can change; default: certferry asks the server"),
    ] = ()
    timeout: Annotated[timedelta, Text("how long an answer may take, in seconds")] = timedelta(
        seconds=10
    )


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one server and key, without a request. Raises `ConfigError`."""
    server = _server(revealed(settings.server))
    name = _key_name(revealed(settings.key_name))
    secret = settings.key_secret.reveal().strip()
    KEYS.must_fit(key_secret=secret)
    # DNS names the algorithms as BIND does, except MD5 (RFC 8945 §6).
    is_md5 = settings.algorithm is Algorithm.MD5
    key = dns.tsig.Key(name, secret, dns.tsig.HMAC_MD5 if is_md5 else settings.algorithm.value)
    return UpdateServer(
        ServerKey(server, key, settings.algorithm.value),
        [zone_name(zone) for zone in settings.zones],
        settings.timeout,
        context.now,
        context.pause,
    )


def _server(setting: str) -> tuple[str, int]:
    """Read `host`, `host:port`, `[IPv6]`, `[IPv6]:port` or an IPv6 address, as host and port.

    Raises `ConfigError`.
    """
    if setting.count(":") > 1 and "[" not in setting:
        setting = f"[{setting}]"
    parts = _SERVER.fullmatch(setting)
    port = int(parts["v6_port"] or parts["port"] or PORT) if parts else 0
    host = (parts["v6"] or parts["host"]) if parts else ""
    if not _is_named(host) or not 1 <= port <= MOST:
        message = Text("{server} is not a name server", server=quoted(repr(setting)))
        hint = Text(
            "write `server` as ns1.example.com, 192.0.2.1:53 or [2001:db8::1]:53, without a scheme"
        )
        raise ConfigError(message, hint=hint)
    return host, port


def _key_name(setting: str) -> dns.name.Name:
    if not _is_named(setting) or any(mark in setting for mark in ' "{'):
        raise ConfigError(
            Text("`key_name` is not the name of a TSIG key"),
            hint=Text("copy the name after `key` in the key's statement, for example certferry."),
        )
    return dns.name.from_text(setting)


def _is_named(text: str) -> bool:
    """Return whether a text is a name in DNS, other than the root."""
    try:
        return bool(dns.name.from_text(text) != dns.name.root)
    except (dns.exception.DNSException, UnicodeError):
        return False
