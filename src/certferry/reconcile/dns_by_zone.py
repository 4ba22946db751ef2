"""Several DNS accounts as one provider, each for its zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self, cast

from certferry.core.certificates.names import is_within
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.discovery.proposal import must_have_zone
from certferry.errors import ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.survey import ZoneFinder, ZoneKeeper
from certferry.text import Text


class ByZone:
    """A `ports.dns.SharedOut` of zones, the longest first, each with its account."""

    def __init__(self, accounts: Sequence[tuple[str, DnsProvider]]) -> None:
        self._accounts = accounts

    @classmethod
    def of(cls, desired: DesiredCertificate, accounts: Mapping[str, DnsProvider]) -> Self:
        """Give the accounts of a certificate that has several."""
        return cls([(zone, accounts[account]) for zone, account in desired.dns_zones])

    def at(self, name: str) -> DnsProvider:
        """See `ports.dns.SharedOut.at`.

        A name that is in none of the zones is where a CNAME has led to: then the accounts are
        asked whose it is. One that cannot tell which zones it has, comes last.
        """
        for zone, account in self._accounts:
            if is_within(name, zone):
                return account
        missing: ZoneNotFound | None = None
        silent: list[DnsProvider] = []
        for account in dict.fromkeys(account for _, account in self._accounts):
            try:
                if not _is_told(account, name):
                    silent.append(account)
                    continue
            except ZoneNotFound as problem:
                missing = missing or problem
            else:
                return account
        if silent:
            return silent[0]
        raise missing or _no_account(name)

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        return self.at(name).add_txt(name, value)

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`."""
        return self.at(name).remove_txt(name, value, handle)


def _no_account(name: str) -> ZoneNotFound:
    return ZoneNotFound(
        Text("the certificate names no account that writes {name}", name=name),
        hint=Text("name the account that has the zone as `dns` of the certificate"),
    )


def _is_told(account: DnsProvider, name: str) -> bool:
    """Tell whether an account says that it has a zone for a name; `False` where it cannot tell.
    Raises `ZoneNotFound` where it has none, and `DnsError`.
    """
    if hasattr(account, "zone_of"):
        cast("ZoneFinder", account).zone_of(name)
        return True
    zones = cast("ZoneKeeper", account).zones() if hasattr(account, "zones") else None
    if zones is None:
        return False
    must_have_zone(name, zones)
    return True


def provider_of(desired: DesiredCertificate, accounts: Mapping[str, DnsProvider]) -> DnsProvider:
    """Give what writes the challenge records of a certificate: one account, several, or none."""
    return accounts[desired.dns] if desired.dns else ByZone.of(desired, accounts)
