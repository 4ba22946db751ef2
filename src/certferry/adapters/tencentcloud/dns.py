"""DNS at DNSPod, through Tencent Cloud's API 3.0, with keys of Tencent Cloud.

API reference: https://cloud.tencent.com/document/product/1427 (docs/facts/dnspod.md §2). It is the
same service, with the same zones, as DNSPod's token API (`dnspod`), and the one that its vendor
recommends.
Permissions: a sub-user's key with the policy QcloudDNSPodFullAccess, or with one that allows
dnspod:DescribeDomainList, DescribeRecordList, DescribeRecord, CreateRecord and DeleteRecord.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.dnspod.client import DnspodRecords
from certferry.adapters.http.client import HttpClient, pace_in
from certferry.adapters.tencentcloud import errors
from certferry.adapters.tencentcloud.client import (
    TencentCloudClient,
    TencentKeys,
    says_too_many,
)
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Variable
from certferry.ports.dns import DnsProvider
from certferry.text import Text

# What `ports.adapter.Adapter` wants of a module, and more that it may have.
__all__ = ("CODES", "ENVIRONMENT", "SERVICE", "Settings", "connect")

SERVICE = "Tencent Cloud"
CODES = errors.CODES.meanings
WHERE_KEYS_ARE = Text(
    "console.cloud.tencent.com/cam/capi → API keys; the SecretKey is shown once, when made"
)
ENVIRONMENT = (
    # The names are acme.sh's (dns_tencent) and lego's (tencentcloud).
    Variable(
        "secret_id",
        ("Tencent_SecretId", "TENCENTCLOUD_SECRET_ID"),
        Text("the SecretId of a Tencent Cloud API key"),
        is_public=True,
    ),
    Variable(
        "secret_key",
        ("Tencent_SecretKey", "TENCENTCLOUD_SECRET_KEY"),
        Text("the SecretKey of a Tencent Cloud API key"),
    ),
)

REQUESTS_PER_SECOND = 10.0  # half of the 20 that most actions allow (§2.2)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes under `[accounts.<label>]`. `secret_id` begins with AKID, or with
    IKID at the international site.
    """

    secret_id: Secret
    secret_key: Secret
    api: Annotated[
        str,
        Text(
            "the address of the API; `https://dnspod.intl.tencentcloudapi.com` for the"
            " international one"
        ),
    ] = "https://dnspod.tencentcloudapi.com"
    requests_per_second: Annotated[float, Text("the most requests in a second")] = (
        REQUESTS_PER_SECOND
    )


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account. Nothing is sent yet. Raises `ConfigError` for what can be
    no key.
    """
    secret_id = settings.secret_id.reveal().strip()
    secret_key = settings.secret_key.reveal().strip()
    _must_be_a_key(secret_id, secret_key)
    pace = pace_in(context, settings.api, _must_be_positive(settings.requests_per_second))
    client = TencentCloudClient(
        api=settings.api,
        keys=TencentKeys(secret_id, Secret(secret_key)),
        language=context.language,
        http=HttpClient(pace=pace, pause=context.pause, too_many=says_too_many),
        pause=context.pause,
        now=context.now,
    )
    return DnspodRecords(client, context.pause)


def _must_be_a_key(secret_id: str, secret_key: str) -> None:
    if secret_id.isdigit() or "," in secret_id:
        raise ConfigError(
            Text("the `secret_id` of the Tencent Cloud account is that of a DNSPod token"),
            hint=Text(
                'write a DNSPod token as an account with type = "dnspod", its number as `id` and'
                " its 32 digits as `token`; or make a key that begins with AKID at"
                " console.cloud.tencent.com/cam/capi"
            ),
        )
    if not secret_id or not secret_key or len((secret_id + secret_key).split()) > 1:
        raise ConfigError(
            Text(
                "`secret_id` or `secret_key` of the Tencent Cloud account is empty, or more than a"
                " key"
            ),
            hint=Text("copy both anew from console.cloud.tencent.com/cam/capi"),
        )


def _must_be_positive(requests_per_second: float) -> float:
    if requests_per_second > 0:
        return requests_per_second
    raise ConfigError(
        Text("`requests_per_second` of the Tencent Cloud account is not above zero"),
        hint=Text("leave it out: 10 is half of what Tencent Cloud allows"),
    )
