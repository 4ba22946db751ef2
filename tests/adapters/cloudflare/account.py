"""An account at the stand-in of Cloudflare. Only pauses advance the clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from certferry.adapters.cloudflare.dns import Settings, connect
from certferry.core.redaction import Secret
from certferry.ports.dns import DnsProvider
from certferry_sandbox.cloudflare import CloudflareService
from certferry_sandbox.testing.context import connected_with
from tests.adapters.dns.zone_account import ZoneAccount

TOKEN = "Zq3t-9yB_kLmN0pQrStUvWxYz1234567890abcde"


class CloudflareAccount(ZoneAccount):
    """The stand-in with one token. The clock of the zones is the sum of all pauses."""

    CREATE = "POST */dns_records"
    REMOVE = "DELETE */dns_records/*"
    READ = "GET */dns_records/*"
    LIST = "GET */dns_records"
    ZONES = "GET */zones"
    DUPLICATE = (81057, 400)
    CONFLICT = (81054, 400)
    BROKEN = (1101, 500)
    NOT_ALLOWED = (10000, 403)

    def __init__(self) -> None:
        super().__init__()
        self.service = CloudflareService(self.zones, now=self.now)
        self.service.add_token(TOKEN)

    def add_zone(self, name: str) -> None:
        self.service.add_zone(name)

    def connect(self, late: timedelta = timedelta(), **settings: Any) -> DnsProvider:
        """Return a new provider, as another process would make it, with a clock that is `late`."""
        defaults = {"token": Secret(TOKEN), "api": self.service.url}
        context = connected_with(pause=self.waits, now=lambda: self.now() - late)
        return connect(Settings(**{**defaults, **settings}), context)

    def denied(self) -> DnsProvider:
        """Return a provider with an unknown token."""
        return self.connect(token=Secret("A" * 40))

    def refuse_next(
        self,
        pattern: str,
        refusal: tuple[str | int, int],
        *,
        times: int = 1,
        does_the_work: bool = False,
    ) -> None:
        code, status = refusal
        self.service.answer_next(
            pattern, int(code), status=status, times=times, does_the_work=does_the_work
        )

    def calls(self, pattern: str = "*") -> list[str]:
        return [request.label for request in self.service.calls(pattern)]


@contextmanager
def cloudflare_account() -> Iterator[CloudflareAccount]:
    """Run the stand-in for the time of a `with` block."""
    account = CloudflareAccount()
    with account.service:
        yield account
