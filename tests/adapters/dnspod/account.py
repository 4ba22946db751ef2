"""An account at the stand-in of DNSPod. Only pauses advance the clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from certferry.adapters.dnspod.dns import Settings, connect
from certferry.core.redaction import Secret
from certferry.ports.dns import DnsProvider
from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.adapters.dns.zone_account import ZoneAccount

TOKEN_ID = "13490"
TOKEN = "6b5976c68aba5b14a0558b77c17c3932"


class DnspodAccount(ZoneAccount):
    """The stand-in with one account. The clock of the zones is the sum of all pauses.

    `memory` holds the notes of the account, which all runs share.
    """

    CREATE = "POST /Record.Create"
    REMOVE = "POST /Record.Remove"
    READ = "POST /Record.Info"
    LIST = "POST /Record.List"
    ZONES = "POST /Domain.List"
    DUPLICATE = ("104", 200)
    CONFLICT = ("31", 200)
    BROKEN = ("3", 200)
    NOT_ALLOWED = ("-1", 200)

    def __init__(self) -> None:
        super().__init__()
        self.service = DnspodService(self.zones)
        self.service.add_account(TOKEN_ID, TOKEN)
        self.memory = MemoryAccount(self.now)

    def connect(self, contact: str = "ops@example.com", **settings: Any) -> DnsProvider:
        """Return a new provider, as another process would make it. Calls follow without delay."""
        defaults = {
            "id": Secret(TOKEN_ID),
            "token": Secret(TOKEN),
            "api": self.service.url,
            "requests_per_second": 1e6,
        }
        return connect(
            Settings(**{**defaults, **settings}),
            connected_with(pause=self.waits, now=self.now, memory=self.memory, contact=contact),
        )

    def add_zone(self, name: str) -> None:
        self.service.add_domain(name)

    def denied(self) -> DnsProvider:
        return self.connect(token=Secret("0" * 32))

    def refuse_next(
        self,
        pattern: str,
        refusal: tuple[str | int, int],
        *,
        times: int = 1,
        does_the_work: bool = False,
    ) -> None:
        """Refuse the next calls of an action with a code. The status is always 200."""
        action = pattern.removeprefix("POST /")
        self.service.answer_next(action, str(refusal[0]), times=times, does_the_work=does_the_work)

    def calls(self, pattern: str = "*") -> list[str]:
        return [call.action for call in self.service.calls(pattern.removeprefix("POST /"))]

    def ids(self, name: str) -> list[str]:
        return [str(record.id) for record in self.zones.records(name=name, rtype="TXT")]

    def actions(self) -> list[str]:
        return [call.action for call in self.service.calls()]


@contextmanager
def dnspod_account() -> Iterator[DnspodAccount]:
    """Run the stand-in for the time of a `with` block."""
    account = DnspodAccount()
    with account.service:
        yield account
