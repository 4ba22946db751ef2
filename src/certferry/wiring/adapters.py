"""The table of adapters: certferry's own and other people's, all found as entry points.

Nothing of one is imported until an account of its type is used: a package that cannot be imported
fails that account, and no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from certferry.config.findings import Finding, config_error, instead_of
from certferry.config.model import AccountTable
from certferry.ports.adapter import DNS_GROUP, NOTIFY_GROUP, TARGET_GROUP, CodeMeaning
from certferry.text import Text
from certferry.wiring.described import (
    OURS,
    BrokenAdapter,
    Described,
    described,
    package_of,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Family:
    """The adapters of one door: the group that they are declared in, and what each is."""

    group: str
    role: Text


DNS_PROVIDERS = Family(DNS_GROUP, Text("DNS provider"))
TARGETS = Family(TARGET_GROUP, Text("target"))
CHANNELS = Family(NOTIFY_GROUP, Text("channel of notifications"))
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.group: family for family in (DNS_PROVIDERS, TARGETS)}
)


class Table:
    """The adapters by their families and names. `declared` gives what a group declares."""

    def __init__(self, declared: Callable[[str], Iterable[EntryPoint]]) -> None:
        self.declared = declared
        self._families: dict[str, dict[str, list[EntryPoint]]] = {}

    def names(self, family: Family) -> Sequence[str]:
        """Give what may be written as `type`, certferry's own first."""
        return list(self._of(family))

    def is_known(self, family: Family, name: str) -> bool:
        """Tell whether a name is declared; nothing is imported."""
        return name in self._of(family)

    def find(self, family: Family, name: str) -> Described:
        """Import an adapter. Raises `KeyError` for a name that no package declares, and
        `BrokenAdapter` that names the package where something is wrong with it.
        """
        return described(self._chosen(family, name), family.role)

    def of_account(self, family: Family, account: AccountTable) -> Described:
        """Import the adapter of an account. Raises `ConfigError` as `find` does, with the line."""
        try:
            return self.find(family, account.type)
        except KeyError:
            problem = Text(
                "{type} is no {role}; {advice}",
                type=account.type,
                role=family.role,
                advice=instead_of(account.type, self.names(family)),
            )
            raise config_error([account.place.finding("type", problem)]) from None
        except BrokenAdapter as wrong:
            raise used_by(account, wrong) from wrong

    def unknown_types(self, accounts: Iterable[AccountTable]) -> Sequence[Finding]:
        """See `config.adapters.Adapters.unknown_types`; nothing is imported."""
        known = dict.fromkeys(name for family in FAMILIES.values() for name in self.names(family))
        return [
            one.place.finding(
                "type",
                Text(
                    "{type} is neither a DNS provider nor a target; {advice}",
                    type=one.type,
                    advice=instead_of(one.type, list(known)),
                ),
            )
            for one in accounts
            if one.type not in known
        ]

    def meanings_of(self, code: str) -> Mapping[str, CodeMeaning]:
        """Return what a code means that a service answers with, by the services' names: of every
        adapter that knows it, or the family of codes that it begins with. One that cannot be used
        knows none.
        """
        found: dict[str, CodeMeaning] = {}
        for family in (*FAMILIES.values(), CHANNELS):
            for name in self.names(family):
                with suppress(BrokenAdapter):
                    adapter = self.find(family, name)
                    parts = code.split(".")
                    codes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
                    known = next((c for c in codes if c in adapter.codes), None)
                    if known is not None:
                        found.setdefault(adapter.adapter.SERVICE, adapter.codes[known])
        return found

    def _of(self, family: Family) -> dict[str, list[EntryPoint]]:
        if family.group not in self._families:
            points: dict[str, list[EntryPoint]] = {}
            declared = list(self.declared(family.group))
            for point in sorted(declared, key=lambda one: (package_of(one) != OURS, one.name)):
                points.setdefault(point.name, []).append(point)
            self._families[family.group] = points
        return self._families[family.group]

    def _chosen(self, family: Family, name: str) -> EntryPoint:
        first, *others = self._of(family)[name]
        if not others:
            return first
        if package_of(first) == OURS:
            for other in others:
                log.warning(
                    Text(
                        "the package {package} declares the {role} {name}, which certferry brings"
                        " itself; it is not used",
                        package=package_of(other),
                        role=family.role,
                        name=name,
                    )
                )
            return first
        raise BrokenAdapter(
            Text(
                "several packages declare the {role} {name}: {packages}",
                role=family.role,
                name=name,
                packages=sorted({package_of(point) for point in (first, *others)}),
            ),
            hint=Text(
                "uninstall all but one of them: certferry does not guess whose keys they are"
            ),
        )


@cache
def installed() -> Table:
    """Give the table of what is installed beside this program."""

    def declared(group: str) -> Iterable[EntryPoint]:
        from importlib.metadata import entry_points

        return entry_points(group=group)

    return Table(declared)


def used_by(account: AccountTable, wrong: BrokenAdapter) -> BrokenAdapter:
    """Say it with the line of the account that uses the adapter."""
    return BrokenAdapter(account.place.finding("type", wrong.message).text, hint=wrong.hint)
