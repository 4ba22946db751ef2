"""What an operator can write of an account at Qiniu, and of a deployment to it
(docs/facts/qiniu.md §4 to §7).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from certferry.adapters.clients.qiniu_ways import Hosts
from certferry.core.secret import Secret
from certferry.ports.adapter import CommonNameRule, Variable
from certferry.text import Text

WHERE_KEYS_ARE = Text("portal.qiniu.com → avatar → Key management (AK and SK of one pair)")
ENVIRONMENT = (
    Variable(
        "access_key",
        ("QINIU_ACCESS_KEY", "QINIU_AK"),
        Text("the access key (AK) of the Qiniu account"),
        is_public=True,
    ),
    Variable(
        "secret_key",
        ("QINIU_SECRET_KEY", "QINIU_SK"),
        Text("the secret key (SK) of the Qiniu account"),
    ),
)
ONE_ACCOUNT_A_DOMAIN = True  # to add one that exists: 400062, "domain exists" (§5)
NEEDS_COMMON_NAME = CommonNameRule(  # others are refused with 400348 (§4.6)
    "accept_no_common_name",
    Text(
        "if Qiniu takes such certificates by now, set `accept_no_common_name = true` on the account"
    ),
)

LEAST_LIFE = "min_remaining_days"

MIN_REMAINING_DAYS = 30  # what users report; Qiniu gives no number (§4.6)


@dataclass(frozen=True, slots=True)
class Settings:
    """An account at Qiniu. The addresses are others only in tests and for mirrors."""

    access_key: Secret
    secret_key: Secret
    api: Annotated[str, Text("the address of the API of CDN domains")] = "https://api.qiniu.com"
    fusion: Annotated[str, Text("the address of the API of certificates")] = (
        "https://fusion.qiniuapi.com"
    )
    uc: Annotated[str, Text("the address of the API of Kodo's buckets and source domains")] = (
        "https://uc.qiniuapi.com"
    )
    api_backup: Annotated[str, Text("used when `api` does not answer")] = "https://api.qiniuapi.com"
    uc_backup: Annotated[str, Text("used when `uc` does not answer")] = (
        "https://kodo-config.qiniuapi.com"
    )
    pili: Annotated[str, Text("the address of the API of Pili's hubs and live domains")] = (
        "https://pili.qiniuapi.com"
    )
    min_remaining_days: Annotated[
        int, Text("a certificate with fewer days left is not uploaded: Qiniu would refuse it")
    ] = MIN_REMAINING_DAYS
    accept_no_common_name: Annotated[
        bool, Text("upload certificates without a common name too; Qiniu has refused such")
    ] = False

    @property
    def hosts(self) -> Hosts:
        """Where Qiniu is. A mirror has a backup, and Pili, only where one is set, never Qiniu's
        own.
        """
        usual = {field.name: field.default for field in fields(self)}
        others = {
            name: ""
            if getattr(self, name) == usual[name] and getattr(self, main) != usual[main]
            else getattr(self, name).rstrip("/")
            for main, name in (("api", "api_backup"), ("uc", "uc_backup"), ("api", "pili"))
        }
        mains = {name: getattr(self, name).rstrip("/") for name in ("api", "fusion", "uc")}
        return Hosts(**mains, **others)


@dataclass(frozen=True, slots=True)
class DeploySettings:
    """What a deployment to Qiniu may be told beside its domains. `kind` is which part of Qiniu they
    belong to; the rest is set along with the certificate, and kept where nothing is said.
    """

    kind: Annotated[
        Literal["auto", "cdn", "kodo", "pili"],
        Text(
            "the kind of the domains: `cdn` is for CDN and DCDN, `kodo` for source domains"
            " of buckets, `pili` for live domains of hubs; with `auto` certferry finds out"
        ),
    ] = "auto"
    force_https: Annotated[bool | None, Text("whether HTTP is redirected to HTTPS")] = None
    http2: Annotated[bool | None, Text("whether HTTP/2 is on")] = None
    tls_versions: Annotated[
        tuple[Literal["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"], ...] | None,
        Text("the versions of TLS that are on"),
    ] = None

    def wrong(self, written: Iterable[str]) -> Mapping[str, Text]:
        """Tell what does not go together: a source domain has a certificate and nothing else to
        set (§6.1), and so has a live domain (§7).
        """
        said = {
            "kodo": Text('not with kind = "kodo": a source domain has no such setting'),
            "pili": Text('not with kind = "pili": a live domain has no such setting'),
        }.get(self.kind)
        return {} if said is None else {key: said for key in written if key != "kind"}
