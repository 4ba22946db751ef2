"""What the reader of the settings asks of the wiring, which knows the adapters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from certferry.config.mistakes import Mistake
from certferry.config.model import AccountTable
from certferry.config.secrets import Resolve
from certferry.config.table import Table
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.ports.adapter import Variable


@dataclass(frozen=True, slots=True)
class UsualAccount:
    """An account that needs no file: its type, which is also its label; how its service is called;
    the keys that it takes from the environment.
    """

    type: str
    service: str
    variables: tuple[Variable, ...]


@dataclass(frozen=True, slots=True)
class UsualAccounts:
    """Where a certificate is proven and served that no file says anything of."""

    dns: UsualAccount
    target: UsualAccount


ReadOptions = Callable[[Table], tuple[Kind, DesiredHttps]]
"""Reads the settings that a target declares for its deployments, as `config.bind` does."""


class Adapters(Protocol):
    """Knows what there is to know of an account before it is connected."""

    def variables(self, types: Collection[str]) -> Collection[str]:
        """Give the names that keys have in the environment: of these types, and of the usual ones.
        They hold secrets, referred to or not. A type that cannot be imported has none.
        """
        ...

    def keys_in(self, environ: Mapping[str, str], account: AccountTable) -> Mapping[str, str]:
        """Give references to the keys that the environment has, by their usual names, for an
        account whose table has none. A type that cannot be imported has none.
        """
        ...

    def options_of(self, type_: str) -> ReadOptions | None:
        """Give what reads the settings that a target of this type declares for its deployments;
        `None` where the type is unknown.
        """
        ...

    def check(self, account: AccountTable, group: str, resolve: Resolve) -> None:
        """Raise `ConfigError` with what is wrong in an account's table, where its type is known in
        the group of entry points that it is used as one of.
        """
        ...

    def unknown_types(self, accounts: Iterable[AccountTable]) -> Sequence[Mistake]:
        """Return a mistake for each account whose type is neither a DNS provider nor a target."""
        ...


class NoAdapters:
    """Knows none: for a reader that only wants the declarations."""

    def variables(self, types: Collection[str]) -> Collection[str]:
        """Give none."""
        del types
        return ()

    def keys_in(self, environ: Mapping[str, str], account: AccountTable) -> Mapping[str, str]:
        """Find none."""
        del environ, account
        return {}

    def options_of(self, type_: str) -> ReadOptions | None:
        """Know no type."""

    def check(self, account: AccountTable, group: str, resolve: Resolve) -> None:
        """Find nothing wrong."""

    def unknown_types(self, accounts: Iterable[AccountTable]) -> Sequence[Mistake]:
        """Find nothing wrong."""
        del accounts
        return ()
