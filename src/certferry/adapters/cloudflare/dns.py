"""DNS at Cloudflare, through its API (client/v4).

API reference: https://developers.cloudflare.com/api/resources/dns/ (documented).
Permissions: an API token with Zone:Read and DNS:Edit for the zones; the Global API Key and the
Origin CA Key are other things, and are refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.cloudflare import client
from certferry.adapters.cloudflare.client import (
    GLOBAL_KEY,
    MAKE_TOKEN,
    ORIGIN_CA_KEY,
    TOKEN,
    CloudflareClient,
)
from certferry.adapters.dns.records import TxtRecords
from certferry.adapters.http.client import HttpClient, pace_in
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Variable
from certferry.ports.dns import DnsProvider
from certferry.text import Text

# What `ports.adapter.Adapter` wants of a module, and more that it may have.
__all__ = ("CODES", "ENVIRONMENT", "SERVICE", "Settings", "connect")

SERVICE = client.SERVICE
CODES = client.CODES.meanings
WHERE_KEYS_ARE = Text(
    "dash.cloudflare.com/profile/api-tokens → Create Token → template Edit zone DNS; the token is"
    " shown once, when made"
)
ENVIRONMENT = (
    Variable(
        "token",
        ("CF_Token", "CLOUDFLARE_DNS_API_TOKEN", "CF_DNS_API_TOKEN"),
        Text("a Cloudflare API token (Zone:Read, DNS:Edit)"),
    ),
)

REQUESTS_PER_SECOND = (
    4.0  # "1,200 requests per five minutes", of all clients of a user (documented)
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes under `[accounts.<label>]`."""

    token: Secret
    api: Annotated[str, Text("the address of the API")] = "https://api.cloudflare.com/client/v4"


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of what one token may see. Nothing is sent yet. Raises `ConfigError` for
    what can be no API token.
    """
    token = settings.token.reveal().strip()
    _must_be_a_token(token)
    service = CloudflareClient(
        api=settings.api,
        token=Secret(token),
        http=HttpClient(
            pace=pace_in(context, settings.api, REQUESTS_PER_SECOND), pause=context.pause
        ),
        pause=context.pause,
        now=context.now,
    )
    return TxtRecords(SERVICE, service, context.pause)


def _must_be_a_token(token: str) -> None:
    if GLOBAL_KEY.fullmatch(token):
        raise ConfigError(
            Text("`token` of the Cloudflare account is the Global API Key"), hint=MAKE_TOKEN
        )
    if ORIGIN_CA_KEY.fullmatch(token):
        raise ConfigError(
            Text("`token` of the Cloudflare account is the Origin CA Key"), hint=MAKE_TOKEN
        )
    if not TOKEN.fullmatch(token):
        raise ConfigError(
            Text("`token` of the Cloudflare account is empty, or holds more than an API token"),
            hint=Text("write the token alone, without `Bearer`, quotes or spaces"),
        )
