"""An account at the stand-in of Tencent Cloud, with a clock that only pauses move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from certferry.adapters.tencentcloud.dns import Settings, connect
from certferry.core.redaction import Secret
from certferry.ports.dns import DnsProvider
from certferry_sandbox.tencentcloud.service import TencentCloudService
from certferry_sandbox.testing.context import connected_with
from tests.adapters.dns.zone_account import ZoneAccount

# The keys avoid words of the tests' domains: `3EXAMPLE` would be masked in `n143.example.com`.
SECRET_ID = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3Qw7Rt2u"
SECRET_KEY = "Gu5t9xGARNpq86cd98joQYCN3Qw7Rt2u"


class TencentCloudAccount(ZoneAccount):
    """The stand-in with one key; its zones' clock is the sum of the pauses so far. `ahead` is the
    difference of the machine's clock to the service's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ahead = timedelta(0)
        self.service = TencentCloudService(self.zones, now=super().now)
        self.key = self.service.add_key(SECRET_ID, SECRET_KEY)

    def now(self) -> datetime:
        """Return the machine's time, which the pauses move as well."""
        return super().now() + self.ahead

    def add_zone(self, name: str) -> None:
        self.service.add_domain(name)

    def connect(self, **settings: Any) -> DnsProvider:
        """Return a provider as another process would make it, unpaced by default."""
        defaults = {
            "secret_id": Secret(SECRET_ID),
            "secret_key": Secret(SECRET_KEY),
            "api": self.service.url,
            "requests_per_second": 1e6,
        }
        context = connected_with(pause=self.waits, now=self.now)
        return connect(Settings(**{**defaults, **settings}), context)

    def actions(self) -> list[str]:
        return [call.action for call in self.service.calls()]


@contextmanager
def tencentcloud_account() -> Iterator[TencentCloudAccount]:
    """Run the stand-in for the time of a `with` block."""
    account = TencentCloudAccount()
    with account.service:
        yield account
