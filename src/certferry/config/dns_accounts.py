"""Which accounts write a certificate's challenge records: one, or a table of zones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from certferry.config.mistakes import nearest
from certferry.config.model import AccountTable, Settings
from certferry.config.secrets import Resolve
from certferry.config.table import Table
from certferry.config.values import Read, word
from certferry.core.certificates.names import base_name, is_wildcard, is_within, normalise
from certferry.core.desired.certificate import DesiredCertificate, Issuance
from certferry.errors import ConfigError
from certferry.ports.adapter import DNS_GROUP, NOTIFY_GROUP, TARGET_GROUP
from certferry.text import Text

Zones = tuple[tuple[str, str], ...]
"""See `DesiredCertificate.dns_zones`."""


def read_dns_accounts(
    table: Table, names: Sequence[str], read: Read[str], issuance: Issuance
) -> tuple[str, Zones]:
    """Read `dns`, where `read` takes an account's label: give the one account, or the zones with
    theirs; neither where records that stay prove the names.
    """
    has_fallback = len(issuance.authorities) > 1
    if "dns" not in table and not issuance.dns_persist:
        table.report("dns", Text("missing: the account that writes the challenge records"))
    elif "dns" not in table and has_fallback:
        problem = Text(
            "missing: with `dns_persist` a record proves names to the usual CA only, and those of"
            " `fallback` need the account that writes the challenge records"
        )
        table.report("dns", problem)
    if not table.holds_table("dns"):
        return table.take("dns", read, ""), ()
    zones = _zones(table.table("dns"), read)
    if not zones:
        table.report("dns", Text("no zone with its account is in it"))
    for name in names if zones and (has_fallback or not issuance.dns_persist) else ():
        if not any(is_within(base_name(name), zone) for zone, _ in zones):
            table.report("dns", _without_account(name, zones))
    return "", zones


def account_among(accounts: Collection[str]) -> Read[str]:
    """Make a reader of an account's label."""

    def read(value: object) -> str:
        written = word(value)
        if written not in accounts:
            raise ConfigError(_no_account(written, accounts))
        return written

    return read


def _zones(table: Table, read: Read[str]) -> Zones:
    found: dict[str, str] = {}
    for written in table.written:
        account = table.take(written, read, "")
        try:
            zone = _zone(written)
        except ConfigError as wrong:
            table.report(written, wrong.message)
            continue
        if zone in found:
            table.report(written, Text("the zone is there already, in another spelling"))
        found[zone] = account
    return tuple(sorted(found.items(), key=lambda one: (-one[0].count("."), one[0])))


def _zone(written: str) -> str:
    """Take the name of a zone."""
    zone = normalise(written)
    if is_wildcard(zone):
        raise ConfigError(Text("a zone has no `*`: it holds every name below it"))
    return zone


def _without_account(name: str, zones: Zones) -> Text:
    return Text(
        "none of its zones holds {name}: add {line}, with the account that writes there. Where a"
        " CNAME leads the challenge into another zone, that is the other zone's account",
        name=name,
        line=f'"{base_name(name)}" = "{zones[0][1]}"',
    )


def _no_account(written: str, accounts: Collection[str]) -> Text:
    if not accounts:
        return Text("there is no account {name}; none is declared", name=written)
    meant = nearest(written, accounts)
    if meant is None:
        return Text(
            "there is no account {name}; declared are {accounts}",
            name=written,
            accounts=sorted(accounts),
        )
    if len(accounts) == 1:
        return Text("there is no account {name}; did you mean {meant}?", name=written, meant=meant)
    return Text(
        "there is no account {name}; did you mean {meant}? declared are {accounts}",
        name=written,
        meant=meant,
        accounts=sorted(accounts),
    )


Check = Callable[[AccountTable, str, Resolve], None]
"""See `Adapters.check`."""


def unused(
    accounts: Mapping[str, AccountTable], certificates: Collection[DesiredCertificate]
) -> list[AccountTable]:
    """Return the accounts that no certificate names, but for those whose type cannot be read."""
    named = {label for labels in _named_by(certificates).values() for label in labels}
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


def _named_by(certificates: Collection[DesiredCertificate]) -> Mapping[str, set[str]]:
    """Return the labels that certificates name, by the group of entry points of the adapter."""
    return {
        DNS_GROUP: {account for desired in certificates for account in desired.dns_accounts},
        TARGET_GROUP: {d.target for desired in certificates for d in desired.deployments},
    }


def _wrong_in(
    account: AccountTable, group: str, settings: Settings, check: Check
) -> Iterator[ConfigError]:
    try:
        check(account, group, settings.secrets.resolve_at_rest)
    except ConfigError as error:
        yield error
