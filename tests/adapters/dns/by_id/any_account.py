"""An account at any of the services whose records have ids, for what all of them do."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from tests.adapters.alidns.account import AlidnsAccount, alidns_account
from tests.adapters.cloudflare.account import CloudflareAccount, cloudflare_account
from tests.adapters.dnspod.account import DnspodAccount, dnspod_account

AnAccount = AlidnsAccount | CloudflareAccount | DnspodAccount

SERVICES = ("alidns", "cloudflare", "dnspod")
READ_BACK = pytest.mark.parametrize("account", ["alidns", "cloudflare"], indirect=True)
"""For what DNSPod's adapter does otherwise: it trusts an answer, and reads nothing back."""


def opened(service: str) -> AbstractContextManager[AnAccount]:
    """Run the stand-in of a service for the time of a `with` block."""
    if service == "dnspod":
        return dnspod_account()
    return alidns_account() if service == "alidns" else cloudflare_account()
