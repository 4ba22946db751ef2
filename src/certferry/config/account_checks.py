"""What is wrong with the accounts of some settings, as far as their adapters can tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from certferry.config.model import AccountTable, Settings
from certferry.config.secrets import Resolve
from certferry.core.desired import DesiredCertificate
from certferry.errors import ConfigError
from certferry.ports.adapter import DNS_GROUP, NOTIFY_GROUP, TARGET_GROUP

Check = Callable[[AccountTable, str, Resolve], None]
"""See `Adapters.check`."""


def unused(
    accounts: Mapping[str, AccountTable], wishes: Collection[DesiredCertificate]
) -> list[AccountTable]:
    """Return the accounts that no certificate names, but for those whose type cannot be read."""
    named = {label for labels in _named_by(wishes).values() for label in labels}
    return [one for one in accounts.values() if one.type and one.label not in named]


def wrong_accounts(settings: Settings, check: Check) -> Iterator[ConfigError]:
    """Return what is wrong with the accounts that certificates name, but for what only a program
    knows, and with the channels of notifications.
    """
    for group, labels in _named_by(settings.certificates).items():
        for label in labels:
            if label in settings.accounts:
                yield from _wrong_in(settings.accounts[label], group, settings, check)
    for channel in settings.channels.values():
        yield from _wrong_in(channel.account, NOTIFY_GROUP, settings, check)


def _named_by(wishes: Collection[DesiredCertificate]) -> Mapping[str, set[str]]:
    """Return the labels that certificates name, by the group of entry points of the adapter."""
    return {
        DNS_GROUP: {account for wish in wishes for account in wish.dns_accounts},
        TARGET_GROUP: {d.target for wish in wishes for d in wish.deployments},
    }


def _wrong_in(
    account: AccountTable, group: str, settings: Settings, check: Check
) -> Iterator[ConfigError]:
    try:
        check(account, group, settings.secrets.resolve_at_rest)
    except ConfigError as error:
        yield error
