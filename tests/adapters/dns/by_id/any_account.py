"""An account at any of the services whose records have ids, for what all of them do."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.adapters.alidns.account import AlidnsAccount, alidns_account
from tests.adapters.cloudflare.account import CloudflareAccount, cloudflare_account

AnAccount = AlidnsAccount | CloudflareAccount

SERVICES = ("alidns", "cloudflare")


def opened(service: str) -> AbstractContextManager[AnAccount]:
    """Run the stand-in of a service for the time of a `with` block."""
    return alidns_account() if service == "alidns" else cloudflare_account()
