"""An account at Tencent Cloud: the keys, for DNS and for the target alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.dns import answers
from certferry.adapters.dns.keys import KeyForms, Mistaken
from certferry.adapters.tencentcloud.tc3 import TencentKeys
from certferry.core.redaction import Secret
from certferry.ports.adapter import Variable
from certferry.text import Text

SERVICE = "Tencent Cloud"
CALLED = Text("Tencent Cloud")
RANK = 20
WHERE_KEYS_ARE = Text(
    "console.cloud.tencent.com/cam/capi → API keys; the SecretKey is shown only once, at creation"
)
ENVIRONMENT = (
    # The names of acme.sh (dns_tencent) and of lego (tencentcloud).
    Variable(
        "secret_id",
        ("Tencent_SecretId", "TENCENTCLOUD_SECRET_ID"),
        Text("the SecretId of a Tencent Cloud API key"),
        is_public=True,
        acme_sh="Tencent_SecretId",
    ),
    Variable(
        "secret_key",
        ("Tencent_SecretKey", "TENCENTCLOUD_SECRET_KEY"),
        Text("the SecretKey of a Tencent Cloud API key"),
        acme_sh="Tencent_SecretKey",
    ),
)
REQUESTS_PER_SECOND = 10.0
"""Half of the 20 allowed for most actions of DNSPod (docs/facts/dnspod.md §2.2)."""
_HALF = Text("remove the setting: the default of 10 is half of Tencent Cloud's limit")

KEYS = KeyForms(
    CALLED,
    Text("copy both anew from console.cloud.tencent.com/cam/capi"),
    (
        Mistaken(
            "secret_id",
            r"^\d+$|,",
            Text("is that of a DNSPod token"),
            Text(
                'declare a DNSPod token as an account with type = "dnspod" (its number is '
                "`id`, its 32 digits are `token`); or create a key that begins with AKID at "
                "console.cloud.tencent.com/cam/capi"
            ),
        ),
        Mistaken(
            "secret_id",
            "^LTAI",
            Text("is an AccessKey of Alibaba Cloud (LTAI…)"),
            Text("create a key that begins with AKID at console.cloud.tencent.com/cam/capi"),
        ),
        Mistaken(
            "secret_key",
            # 36 characters: a SecretKey has 32, and may begin with the same letters by chance.
            r"^[AI]KID\w{30,}$",
            Text("is the SecretId of a key (AKID…)"),
            Text(
                "`secret_id` begins with AKID, or with IKID at the international site; `secret_key`"
                " has 32 characters"
            ),
        ),
        Mistaken("secret_id secret_key", r"^$|\s", Text("is empty, or more than a key")),
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`. `secret_id` begins with AKID, or IKID abroad."""

    secret_id: Secret
    secret_key: Secret
    api: Annotated[
        str,
        Text(
            "the address of the API; `https://dnspod.intl.tencentcloudapi.com` for the"
            " international site"
        ),
    ] = "https://dnspod.tencentcloudapi.com"
    requests_per_second: Annotated[float, Text("the most requests per second")] = (
        REQUESTS_PER_SECOND
    )
    cdn: Annotated[
        str,
        Text(
            "the address of the API of CDN domains; `https://cdn.intl.tencentcloudapi.com` for the"
            " international site, and likewise `ssl` and `teo`"
        ),
    ] = "https://cdn.tencentcloudapi.com"
    ssl: Annotated[str, Text("the address of the API of certificates")] = (
        "https://ssl.tencentcloudapi.com"
    )
    teo: Annotated[str, Text("the address of the API of EdgeOne's hosts")] = (
        "https://teo.tencentcloudapi.com"
    )

    @property
    def keys(self) -> TencentKeys:
        """The API key. Raises `ConfigError` for a key of a wrong form or an impossible rate."""
        secret_id = self.secret_id.reveal().strip()
        secret_key = self.secret_key.reveal().strip()
        KEYS.must_fit(secret_id=secret_id, secret_key=secret_key)
        per_second = self.requests_per_second
        answers.must_be_positive("requests_per_second", per_second, SERVICE, _HALF)
        return TencentKeys(secret_id, Secret(secret_key))
