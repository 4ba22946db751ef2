"""What a certificate is proven by that no file declares: the keys in the environment tell."""

from __future__ import annotations

import pytest

from certferry.config.load import NAMES_WITHOUT_FILE, WITHOUT_FILE
from certferry.errors import ConfigError
from certferry.wiring.settings import from_environment

QINIU = {"QINIU_ACCESS_KEY": "access", "QINIU_SECRET_KEY": "secret"}
DNSPOD = {"DP_Id": "12345", "DP_Key": "token"}


@pytest.mark.parametrize(
    ("environ", "dns", "values"),
    [
        (
            {"Ali_Key": "k", "Ali_Secret": "s"},
            "alidns",
            {"access_key_id": "env:Ali_Key", "access_key_secret": "env:Ali_Secret"},
        ),
        (
            {"ALICLOUD_ACCESS_KEY": "k", "ALICLOUD_SECRET_KEY": "s"},
            "alidns",
            {
                "access_key_id": "env:ALICLOUD_ACCESS_KEY",
                "access_key_secret": "env:ALICLOUD_SECRET_KEY",
            },
        ),
        ({"CF_Token": "t"}, "cloudflare", {"token": "env:CF_Token"}),
        (
            {"CLOUDFLARE_DNS_API_TOKEN": "t"},
            "cloudflare",
            {"token": "env:CLOUDFLARE_DNS_API_TOKEN"},
        ),
        ({"CF_DNS_API_TOKEN": "t"}, "cloudflare", {"token": "env:CF_DNS_API_TOKEN"}),
        (
            {
                "RFC2136_NAMESERVER": "192.0.2.1:53",
                "RFC2136_TSIG_KEY": "certferry.",
                "RFC2136_TSIG_SECRET": "c2VjcmV0",
            },
            "rfc2136",
            {
                "server": "env:RFC2136_NAMESERVER",
                "key_name": "env:RFC2136_TSIG_KEY",
                "key_secret": "env:RFC2136_TSIG_SECRET",
            },
        ),
        (
            {
                "ACMEDNS_BASE_URL": "https://auth.example.org",
                "ACMEDNS_USERNAME": "c36f50e8-4632-44f0-83fe-e070fef28a10",
                "ACMEDNS_PASSWORD": "p" * 40,
                "ACMEDNS_SUBDOMAIN": "8e5700ea-a4bf-41c7-8a77-e990661dcc6a",
            },
            "acme-dns",
            {
                "api": "env:ACMEDNS_BASE_URL",
                "username": "env:ACMEDNS_USERNAME",
                "password": "env:ACMEDNS_PASSWORD",
                "subdomain": "env:ACMEDNS_SUBDOMAIN",
            },
        ),
        (
            {"Tencent_SecretId": "i", "Tencent_SecretKey": "k"},
            "tencentcloud",
            {"secret_id": "env:Tencent_SecretId", "secret_key": "env:Tencent_SecretKey"},
        ),
        (
            {"TENCENTCLOUD_SECRET_ID": "i", "TENCENTCLOUD_SECRET_KEY": "k"},
            "tencentcloud",
            {
                "secret_id": "env:TENCENTCLOUD_SECRET_ID",
                "secret_key": "env:TENCENTCLOUD_SECRET_KEY",
            },
        ),
        (DNSPOD, "dnspod", {"id": "env:DP_Id", "token": "env:DP_Key"}),
        (
            {"DNSPOD_API_KEY": "12345,token"},
            "dnspod",
            {"id": "env:DNSPOD_API_KEY", "token": "env:DNSPOD_API_KEY"},
        ),
        ({**DNSPOD, "CF_Token": "t"}, "dnspod", {"id": "env:DP_Id", "token": "env:DP_Key"}),
    ],
    ids=[
        "acme.sh-ali",
        "lego-ali",
        "acme.sh-cf",
        "lego-cf",
        "lego-cf-short",
        "lego-rfc2136",
        "acme.sh-acmedns",
        "acme.sh-tencent",
        "lego-tencent",
        "acme.sh-dnspod",
        "lego-dnspod",
        "both",
    ],
)
def test_service_whose_keys_are_there(
    environ: dict[str, str], dns: str, values: dict[str, str]
) -> None:
    """Under the names that acme.sh and lego use; DNSPod's count first."""
    settings = from_environment(["img.example.com"], {**environ, **QINIU})

    [certificate] = settings.certificates
    assert dns == certificate.dns
    assert values == settings.accounts[dns].values


@pytest.mark.parametrize("environ", [{}, {**DNSPOD, **QINIU}])
@pytest.mark.parametrize("name", ["bad_name..x", "img"])
def test_name_that_is_none_does_not_blame_the_environment(
    name: str, environ: dict[str, str]
) -> None:
    """The file that declares it was not found: that is said, and how to name one."""
    with pytest.raises(ConfigError, match="is not a domain name") as caught:
        from_environment([name], environ)

    hint = str(caught.value.hint)
    assert hint.startswith(str(NAMES_WITHOUT_FILE))
    assert (str(WITHOUT_FILE) in hint) == (not environ)


@pytest.mark.parametrize("environ", [{}, {"Ali_Key": "k"}, {"CF_Token": ""}])
def test_service_of_which_not_all_keys_are_there(environ: dict[str, str]) -> None:
    """Those of the usual one are asked for."""
    with pytest.raises(ConfigError, match="DP_Id / DNSPOD_API_KEY: not set") as caught:
        from_environment(["img.example.com"], {**environ, **QINIU})

    assert WITHOUT_FILE == caught.value.hint
