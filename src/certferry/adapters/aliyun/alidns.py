"""The older type `alidns` of an account at Alibaba Cloud: DNS alone, with the key `api`.

The type `aliyun` (`dns`, `target`) has the same keys, and deploys certificates as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.aliyun import account
from certferry.adapters.aliyun.account import ENVIRONMENT
from certferry.adapters.aliyun.dns import provider
from certferry.core.redaction import Secret
from certferry.ports.adapter import Context
from certferry.ports.dns import DnsProvider
from certferry.text import Text

__all__ = ("ENVIRONMENT",)  # read from this module by `ports.adapter.Adapter`

SERVICE = "Alibaba Cloud DNS"
CALLED = Text("Alibaba Cloud DNS")
WHERE_KEYS_ARE = Text(
    "ram.console.aliyun.com → Users → create AccessKey, with the permission AliyunDNSFullAccess; "
    "the secret is shown only once, at creation"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`. An `access_key_id` begins with LTAI."""

    access_key_id: Secret
    access_key_secret: Secret
    api: Annotated[str, Text("the address of the API")] = "https://alidns.aliyuncs.com"


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account, without sending a request. Raises `ConfigError`."""
    key = account.access_key(settings.access_key_id, settings.access_key_secret)
    return provider(settings.api, key, context)
