"""An account at any of the services whose records have ids, for their common behaviour."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from tests.adapters.aliyun.account import AlidnsAccount, alidns_account
from tests.adapters.cloudflare.account import CloudflareAccount, cloudflare_account
from tests.adapters.dnspod.account import DnspodAccount, dnspod_account

AnAccount = AlidnsAccount | CloudflareAccount | DnspodAccount

SERVICES = ("alidns", "cloudflare", "dnspod")
READ_BACK = pytest.mark.parametrize("account", ["alidns", "cloudflare"], indirect=True)
"""The services whose answers are checked. DNSPod's adapter trusts the answer to a write."""


def opened(service: str) -> AbstractContextManager[AnAccount]:
    """Run the stand-in of a service for the time of a `with` block."""
    if service == "dnspod":
        return dnspod_account()
    return alidns_account() if service == "alidns" else cloudflare_account()
