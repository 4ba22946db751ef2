"""One account at the stand-in of DNSPod, with a clock that only pauses move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from certferry.adapters.dnspod.dns import Settings, connect
from certferry.core.secret import Secret
from certferry.ports.dns import DnsProvider
from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.adapters.dns.zone_account import ZoneAccount

TOKEN_ID = "13490"
TOKEN = "6b5976c68aba5b14a0558b77c17c3932"


class DnspodAccount(ZoneAccount):
    """The stand-in with one account; its zones' clock is the sum of the pauses so far.

    `memory` is what the account's runs remember.
    """

    def __init__(self) -> None:
        super().__init__()
        self.service = DnspodService(self.zones)
        self.service.add_account(TOKEN_ID, TOKEN)
        self.memory = MemoryAccount()

    def connect(self, contact: str = "ops@example.com", **settings: Any) -> DnsProvider:
        """Give a provider, as another process would make it; not paced unless asked for."""
        written = {
            "id": Secret(TOKEN_ID),
            "token": Secret(TOKEN),
            "api": self.service.url,
            "requests_per_second": 1e6,
        }
        return connect(
            Settings(**{**written, **settings}),
            connected_with(pause=self.waits, now=self.now, memory=self.memory, contact=contact),
        )

    def ids(self, name: str) -> list[str]:
        """Give the ids of the TXT records at the name."""
        return [str(record.id) for record in self.zones.records(name=name, rtype="TXT")]

    def actions(self) -> list[str]:
        """Give the actions of the calls so far."""
        return [call.action for call in self.service.calls()]


@contextmanager
def dnspod_account() -> Iterator[DnspodAccount]:
    """Run the stand-in for the time of a `with` block."""
    account = DnspodAccount()
    with account.service:
        yield account
