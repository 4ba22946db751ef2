"""DNS at Alibaba Cloud DNS (alidns), through its RPC API of 2015-01-09.

API reference: https://help.aliyun.com/zh/dns/api-alidns-2015-01-09-overview (documented).
Permissions: an AccessKey of a RAM user with alidns:DescribeDomains, DescribeSubDomainRecords,
DescribeDomainRecordInfo, AddDomainRecord and DeleteDomainRecord; all but the first can be narrowed
to domains (`acs:alidns:*:<account>:domain/<name>`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.alidns import client
from certferry.adapters.alidns.client import TEMPORARY_KEY, AlidnsClient, answers_too_many
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
    "ram.console.aliyun.com → Users → create AccessKey, with the permission AliyunDNSFullAccess;"
    " the secret is shown once, when made"
)
ENVIRONMENT = (
    Variable(
        "access_key_id",
        ("Ali_Key", "ALICLOUD_ACCESS_KEY"),
        Text("the AccessKey id of a RAM user at Alibaba Cloud"),
        is_public=True,
    ),
    Variable(
        "access_key_secret",
        ("Ali_Secret", "ALICLOUD_SECRET_KEY"),
        Text("the secret of that AccessKey"),
    ),
)

REQUESTS_PER_SECOND = 5.0  # modest; the limit is some hundreds (from memory)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes under `[accounts.<label>]`. An `access_key_id` begins with LTAI."""

    access_key_id: Secret
    access_key_secret: Secret
    api: Annotated[str, Text("the address of the API")] = "https://alidns.aliyuncs.com"


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account. Nothing is sent yet. Raises `ConfigError` for what can be
    no AccessKey of a RAM user.
    """
    key_id = settings.access_key_id.reveal().strip()
    secret = settings.access_key_secret.reveal().strip()
    _must_be_an_access_key(key_id, secret)
    service = AlidnsClient(
        api=settings.api,
        access_key_id=key_id,
        access_key_secret=Secret(secret),
        http=HttpClient(
            pace=pace_in(context, settings.api, REQUESTS_PER_SECOND),
            pause=context.pause,
            too_many=answers_too_many,
        ),
        pause=context.pause,
        now=context.now,
    )
    return TxtRecords(SERVICE, service, context.pause)


def _must_be_an_access_key(key_id: str, secret: str) -> None:
    if not key_id or not secret:
        raise ConfigError(
            Text("`access_key_id` or `access_key_secret` of the Alibaba Cloud account is empty"),
            hint=Text("make an AccessKey of a RAM user at ram.console.aliyun.com"),
        )
    if key_id.startswith("STS."):
        raise ConfigError(
            Text("`access_key_id` of the Alibaba Cloud account is a temporary key (STS.…)"),
            hint=TEMPORARY_KEY,
        )
    if key_id.startswith("AKID"):
        raise ConfigError(
            Text("`access_key_id` of the Alibaba Cloud account is a key of Tencent Cloud (AKID…)"),
            hint=Text("make an AccessKey of a RAM user at ram.console.aliyun.com"),
        )
    if secret.startswith("LTAI"):
        raise ConfigError(
            Text(
                "`access_key_secret` of the Alibaba Cloud account is the id of an AccessKey (LTAI…)"
            ),
            hint=Text("`access_key_id` begins with LTAI; the secret has 30 characters"),
        )
