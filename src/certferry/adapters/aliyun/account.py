"""An account at Alibaba Cloud: the settings, the AccessKey, and the texts about both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from certferry.adapters.aliyun.rpc import AccessKey
from certferry.adapters.dns.keys import EMPTY, KeyForms, Mistaken
from certferry.core.redaction import Secret
from certferry.ports.adapter import Variable
from certferry.text import Text

SERVICE = "Alibaba Cloud"
CALLED = Text("Alibaba Cloud")
WHERE_KEYS_ARE = Text(
    "ram.console.aliyun.com → Users → create AccessKey, with permissions for DNS, CDN, DCDN and "
    "certificates (`certferry help aliyun` shows the policy); the secret is shown only once, at "
    "creation"
)
ENVIRONMENT = (
    Variable(
        "access_key_id",
        ("Ali_Key", "ALICLOUD_ACCESS_KEY"),
        Text("the AccessKey id of a RAM user at Alibaba Cloud"),
        is_public=True,
        acme_sh="Ali_Key",
    ),
    Variable(
        "access_key_secret",
        ("Ali_Secret", "ALICLOUD_SECRET_KEY"),
        Text("the secret of the AccessKey"),
        acme_sh="Ali_Secret",
    ),
)

TEMPORARY_KEY = Text(
    "the key is a temporary key (STS.…) of a RAM role and expires within hours: create an "
    "AccessKey of a RAM user at ram.console.aliyun.com"
)
KEYS = KeyForms(
    Text("Alibaba Cloud"),
    Text("create an AccessKey of a RAM user at ram.console.aliyun.com"),
    (
        Mistaken("access_key_id access_key_secret", "^$", EMPTY),
        Mistaken("access_key_id", r"^STS\.", Text("is a temporary key (STS.…)"), TEMPORARY_KEY),
        Mistaken("access_key_id", "^[AI]KID", Text("is a key of Tencent Cloud (AKID…)")),
        Mistaken(
            "access_key_secret",
            "^LTAI",
            Text("is the id of an AccessKey (LTAI…)"),
            Text("`access_key_id` begins with LTAI; the secret has 30 characters"),
        ),
    ),
)

USUAL_REGION = "cn-hangzhou"
_REGION = re.compile(r"cas\.([a-z]{2}-[a-z0-9-]{2,30})\.aliyuncs\.com", re.ASCII)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`. An `access_key_id` begins with LTAI."""

    access_key_id: Secret
    access_key_secret: Secret
    dns: Annotated[str, Text("the address of the API of Alibaba Cloud DNS")] = (
        "https://alidns.aliyuncs.com"
    )
    cdn: Annotated[str, Text("the address of the API of CDN")] = "https://cdn.aliyuncs.com"
    dcdn: Annotated[str, Text("the address of the API of DCDN")] = "https://dcdn.aliyuncs.com"
    cas: Annotated[
        str,
        Text(
            "the address of the API of certificates; accounts of the international site need "
            "https://cas.ap-southeast-1.aliyuncs.com"
        ),
    ] = "https://cas.aliyuncs.com"

    @property
    def region(self) -> str:
        """The region of the store of certificates: mainland China, unless `cas` names another."""
        match = _REGION.search(self.cas)
        return USUAL_REGION if match is None else match[1]


def access_key(key_id: Secret, secret: Secret) -> AccessKey:
    """Return the stripped AccessKey. Raises `ConfigError` for a text that cannot be the key."""
    stripped_id, stripped = key_id.reveal().strip(), secret.reveal().strip()
    KEYS.must_fit(access_key_id=stripped_id, access_key_secret=stripped)
    return AccessKey(stripped_id, Secret(stripped))
