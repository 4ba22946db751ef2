"""DNS at a server of acme-dns, which answers for the ends of CNAMEs and for nothing else.

API reference: https://github.com/joohoi/acme-dns, README and pkg/api (2026). A registration may
write TXT values at one name, and nothing else. The server keeps the last two and cannot be told to
remove one: see docs/decisions/0029-rolling-records.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from certferry.adapters.acme_dns.client import (
    REGISTER,
    AcmeDnsServer,
    Registration,
    read_storage,
    registration,
)
from certferry.adapters.acme_dns.client import SERVICE as NAMED
from certferry.core.network import is_loopback
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Variable
from certferry.ports.dns import DnsProvider
from certferry.text import Text

SERVICE = NAMED
WHERE_KEYS_ARE = Text(
    "what the server answers, once, to `curl -s -X POST https://auth.example.org/register`; set a"
    " CNAME from the challenge's name to its fulldomain"
)
ENVIRONMENT = (
    Variable(
        "api",
        ("ACMEDNS_BASE_URL", "ACME_DNS_API_BASE"),
        Text("the address of the acme-dns server"),
    ),
    Variable(
        "username", ("ACMEDNS_USERNAME",), Text("the username of the registration"), is_public=True
    ),
    Variable("password", ("ACMEDNS_PASSWORD",), Text("the password of the registration")),
    Variable(
        "subdomain",
        ("ACMEDNS_SUBDOMAIN",),
        Text("the subdomain of the registration, or better its fulldomain"),
    ),
)

REQUESTS_PER_SECOND = 5.0  # modest: it is a small server


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes under `[accounts.<label>]`: the keys of one registration, or a file
    with several.
    """

    api: Secret | str
    username: Secret | None = None
    password: Secret | None = None
    subdomain: Secret | str = ""
    storage: Annotated[
        Path | None,
        Text("in place of these three: the file of an acme-dns client, with several registrations"),
    ] = None


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of the registrations at one server. Nothing is sent yet. Raises
    `ConfigError` for keys that cannot be a registration's.
    """
    api = _plain(settings.api).rstrip("/")
    _must_be_safe(api)
    return AcmeDnsServer(
        api, _registrations(settings, api), context.http(REQUESTS_PER_SECOND), context.now
    )


def _registrations(settings: Settings, api: str) -> Sequence[Registration]:
    one = (settings.username, settings.password, settings.subdomain)
    if settings.storage is not None:
        if any(one):
            raise ConfigError(
                Text("the acme-dns account has `storage` and keys of a registration as well"),
                hint=Text("write one of them: a registration of its own can be another account"),
            )
        return read_storage(settings.storage, api)
    if not all(one):
        raise ConfigError(
            Text("the acme-dns account lacks `username`, `password` or `subdomain`, or `storage`"),
            hint=REGISTER,
        )
    username, password, subdomain = (_plain(value or "") for value in one)
    return [registration(username, password, subdomain)]


def _plain(written: Secret | str) -> str:
    return (written.reveal() if isinstance(written, Secret) else written).strip()


def _must_be_safe(api: str) -> None:
    """Refuse an address to which keys would go in the clear."""
    try:
        parts = urlsplit(api)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or parts.username is not None:
        raise ConfigError(Text("`api` must be a URL such as https://auth.example.org"))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            Text("`api` must begin with https://; http:// is for addresses of this machine only")
        )
