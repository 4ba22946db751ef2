"""Settings, read with what only the adapters know, and those that need no file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from certferry.config import load
from certferry.config.adapters import UsualAccount, UsualAccounts
from certferry.config.model import AccountTable, Settings
from certferry.config.secrets import Resolve
from certferry.core.desired import PemFiles
from certferry.errors import ConfigError
from certferry.ports.adapter import Variable
from certferry.wiring.accounts import bound
from certferry.wiring.adapters import (
    DNS_PROVIDERS,
    FAMILIES,
    TARGETS,
    BrokenAdapter,
    Family,
    NothingMore,
    installed,
)

USUAL = {DNS_PROVIDERS: "dnspod", TARGETS: "qiniu"}
"""What a certificate is proven and served by that no file says anything of."""


class InstalledAdapters:
    """See `config.adapters.Adapters`: those that are installed."""

    def variables(self, types: Collection[str]) -> Collection[str]:
        """See `Adapters.variables`."""
        names: set[str] = set()
        for type_ in {*types, *USUAL.values()}:
            with suppress(ConfigError):  # told when such an account is connected
                names |= {name for one in variables_of(type_) for name in one.names}
        return names

    def options_of(self, type_: str) -> Any:
        """See `Adapters.options_of`."""
        if not installed().is_known(TARGETS, type_):
            return None
        try:
            adapter = installed().find(TARGETS, type_).adapter
        except BrokenAdapter:
            return None  # told when such an account is connected
        return getattr(adapter, "DeploySettings", NothingMore)

    def check(self, account: AccountTable, group: str, resolve: Resolve) -> None:
        """See `Adapters.check`."""
        family = FAMILIES[group]
        if installed().is_known(family, account.type):
            bound(installed().of_account(family, account), account, resolve)


ADAPTERS = InstalledAdapters()


def variables_of(type_: str) -> tuple[Variable, ...]:
    """Give the keys of an account of this type that the environment may hold. Raises `ConfigError`
    for an adapter that cannot be imported.
    """
    table = installed()
    found = [
        variable
        for family in FAMILIES.values()
        if table.is_known(family, type_)
        for variable in table.find(family, type_).adapter.ENVIRONMENT
    ]
    return tuple({variable.key: variable for variable in found}.values())


def from_environment(names: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Make settings without a file; see `config.load.from_environment`."""
    usual = UsualAccounts(_usual(DNS_PROVIDERS), _usual(TARGETS))
    return load.from_environment(names, environ, usual, ADAPTERS)


def from_client(
    name: str, files: PemFiles, environ: Mapping[str, str], given: Settings | None = None
) -> Settings:
    """Make settings of what another client has renewed; see `config.load.from_client`."""
    return load.from_client(name, files, environ, _usual(TARGETS), given, ADAPTERS)


def _usual(family: Family) -> UsualAccount:
    adapter = installed().find(family, USUAL[family]).adapter
    return UsualAccount(USUAL[family], adapter.SERVICE, tuple(adapter.ENVIRONMENT))
