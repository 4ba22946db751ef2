"""The table of adapters: certferry's own and other people's, all found as entry points.

Nothing of one is imported until an account of its type is used: a package that cannot be imported
fails that account, and no other.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from certferry.config.findings import config_error, instead_of
from certferry.config.model import AccountTable
from certferry.config.options import may_be_told
from certferry.errors import ConfigError
from certferry.ports.adapter import DNS_GROUP, TARGET_GROUP, Adapter
from certferry.text import Text, verbatim

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger(__name__)

OURS = "certferry"
"""The package that brings the built-in adapters."""

_MUST_HAVE = ("SERVICE", "ENVIRONMENT", "Settings", "connect")

THEIR_MISTAKE = Text("what is wrong is in that package: tell who made it, or take it away")


class BrokenAdapter(ConfigError):
    """An adapter of a package's that cannot be used at all; others can."""


@dataclass(frozen=True, slots=True)
class Family:
    """The adapters of one door: the group that they are declared in, and what each is."""

    group: str
    role: Text


DNS_PROVIDERS = Family(DNS_GROUP, Text("DNS provider"))
TARGETS = Family(TARGET_GROUP, Text("target"))
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.group: family for family in (DNS_PROVIDERS, TARGETS)}
)


@dataclass(frozen=True, slots=True)
class NothingMore:
    """What a deployment may be told whose target declares no `DeploySettings`."""


@dataclass(frozen=True, slots=True)
class Described:
    """One adapter: what operators write as `type`, the package that declares it, and its module."""

    name: str
    package: str
    adapter: Adapter

    @property
    def is_ours(self) -> bool:
        """Whether it comes with certferry."""
        return self.package == OURS


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
        point = self._chosen(family, name)
        return Described(name, _package(point), _loaded(point, family))

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

    def _of(self, family: Family) -> dict[str, list[EntryPoint]]:
        if family.group not in self._families:
            points: dict[str, list[EntryPoint]] = {}
            declared = list(self.declared(family.group))
            for point in sorted(declared, key=lambda one: (_package(one) != OURS, one.name)):
                points.setdefault(point.name, []).append(point)
            self._families[family.group] = points
        return self._families[family.group]

    def _chosen(self, family: Family, name: str) -> EntryPoint:
        first, *others = self._of(family)[name]
        if not others:
            return first
        if _package(first) == OURS:
            for other in others:
                log.warning(
                    Text(
                        "the package {package} declares the {role} {name}, which certferry brings"
                        " itself; it is not used",
                        package=_package(other),
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
                packages=sorted({_package(point) for point in (first, *others)}),
            ),
            hint=Text("take all but one of them away: whose keys they are, nobody should guess"),
        )


@cache
def installed() -> Table:
    """Give the table of what is installed beside this program."""

    def declared(group: str) -> Iterable[EntryPoint]:
        from importlib.metadata import entry_points

        return entry_points(group=group)

    return Table(declared)


def wrong_with(package: str, problem: Text) -> BrokenAdapter:
    """Say what is wrong with a package."""
    said = Text("the package {package}: {problem}", package=package, problem=problem)
    return BrokenAdapter(said, hint=THEIR_MISTAKE)


def used_by(account: AccountTable, wrong: BrokenAdapter) -> BrokenAdapter:
    """Say it with the line of the account that uses the adapter."""
    return BrokenAdapter(account.place.finding("type", wrong.message).text, hint=wrong.hint)


def in_short(error: BaseException) -> str:
    """Give what a foreign error says, on one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _loaded(point: EntryPoint, family: Family) -> Adapter:
    package = _package(point)
    try:
        adapter = point.load()
    except (Exception, SystemExit) as exc:
        if package == OURS:
            raise
        raise wrong_with(
            package,
            Text(
                "{module}, which is the {role} {name}, cannot be imported: {problem}",
                module=point.module,
                role=family.role,
                name=point.name,
                problem=in_short(exc),
            ),
        ) from exc
    missing = [name for name in _MUST_HAVE if not hasattr(adapter, name)]
    if missing:
        lacks = Text("{module} has no {missing}", module=point.value, missing=missing)
        raise wrong_with(package, lacks)
    if not (inspect.isclass(adapter.Settings) and dataclasses.is_dataclass(adapter.Settings)):
        raise wrong_with(
            package, Text("`Settings` of {module} is no dataclass", module=point.value)
        )
    try:
        may_be_told(getattr(adapter, "DeploySettings", NothingMore))
    except (TypeError, NameError) as exc:
        raise wrong_with(package, verbatim(in_short(exc))) from exc
    found: Adapter = adapter
    return found


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]
