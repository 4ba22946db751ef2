"""An account at the stand-in of Alibaba Cloud DNS. Only pauses advance the clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from certferry.adapters.aliyun import account, dns
from certferry.adapters.aliyun.alidns import Settings, connect
from certferry.core.redaction import Secret
from certferry.ports.dns import DnsProvider
from certferry_sandbox.aliyun.dns import AlidnsService
from certferry_sandbox.testing.context import connected_with
from tests.adapters.dns.zone_account import ZoneAccount

KEY_ID = "LTAI5tGabcdefghijk123456"
KEY_SECRET = "0p5EYueFNq501xnCPzKNbx6K51qPH2"


class AlidnsAccount(ZoneAccount):
    """The stand-in with one account. The clock of the zones is the sum of all pauses."""

    CREATE = "AddDomainRecord"
    REMOVE = "DeleteDomainRecord"
    READ = "DescribeDomainRecordInfo"
    LIST = "DescribeSubDomainRecords"
    ZONES = "DescribeDomains"
    DUPLICATE = ("DomainRecordDuplicate", 400)
    CONFLICT = ("DomainRecordConflict", 400)
    BROKEN = ("InternalError", 500)
    NOT_ALLOWED = ("Forbidden.RAM", 403)

    def __init__(self) -> None:
        super().__init__()
        self.service = AlidnsService(self.zones, now=self.now)
        self.service.add_account(KEY_ID, KEY_SECRET)

    def add_zone(self, name: str) -> None:
        self.service.add_domain(name)

    def connect(self, late: timedelta = timedelta(), **settings: Any) -> DnsProvider:
        """Return a new provider, as another process would make it, with a clock that is `late`."""
        defaults = {
            "access_key_id": Secret(KEY_ID),
            "access_key_secret": Secret(KEY_SECRET),
            "api": self.service.url,
        }
        context = connected_with(pause=self.waits, now=lambda: self.now() - late)
        return connect(Settings(**{**defaults, **settings}), context)

    def denied(self) -> DnsProvider:
        """Return a provider with the secret of another key."""
        return self.connect(access_key_secret=Secret("0" * 30))

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
            pattern, str(code), status=status, times=times, does_the_work=does_the_work
        )

    def calls(self, action: str = "*") -> list[str]:
        return [call.action for call in self.service.calls(action)]


@contextmanager
def alidns_account() -> Iterator[AlidnsAccount]:
    """Run the stand-in for the time of a `with` block."""
    account_at_dns = AlidnsAccount()
    with account_at_dns.service:
        yield account_at_dns


class AliyunAccount(AlidnsAccount):
    """The same stand-in, for an account of the type `aliyun`."""

    def connect(self, late: timedelta = timedelta(), **settings: Any) -> DnsProvider:
        defaults = {
            "access_key_id": Secret(KEY_ID),
            "access_key_secret": Secret(KEY_SECRET),
            "dns": self.service.url,
        }
        context = connected_with(pause=self.waits, now=lambda: self.now() - late)
        return dns.connect(account.Settings(**{**defaults, **settings}), context)


@contextmanager
def aliyun_account() -> Iterator[AliyunAccount]:
    """Run the stand-in for the time of a `with` block."""
    account_at_dns = AliyunAccount()
    with account_at_dns.service:
        yield account_at_dns
