"""One adapter: the module that a package declares, imported and judged."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from certferry.config.bind import may_be_written
from certferry.config.options import may_be_told
from certferry.errors import ConfigError
from certferry.ports.adapter import Adapter, CodeMeaning, CommonNameRule, Variable
from certferry.text import Text, cut, verbatim

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OURS = "certferry"
"""The package that brings the built-in adapters."""

_MUST_HAVE = ("SERVICE", "ENVIRONMENT", "Settings", "connect")

THEIR_MISTAKE = Text("the fault is in that package: report it to its author, or uninstall it")


class BrokenAdapter(ConfigError):
    """An adapter of a package's that cannot be used at all; others can."""


@dataclass(frozen=True, slots=True)
class NothingMore:
    """What a deployment may be told whose target declares no `DeploySettings`."""


@dataclass(frozen=True)
class Described:
    """One adapter: what operators write as `type`, the package that declares it, and its module."""

    name: str
    package: str
    adapter: Adapter

    @property
    def is_ours(self) -> bool:
        """Whether it comes with certferry."""
        return self.package == OURS

    @property
    def options(self) -> Any:
        """What a deployment may be told, as `config.options` reads it."""
        return getattr(self.adapter, "DeploySettings", NothingMore)

    @property
    def where_keys_are(self) -> Text | None:
        """Where an operator finds the keys of an account, as far as the adapter says."""
        return getattr(self.adapter, "WHERE_KEYS_ARE", None)

    @property
    def codes(self) -> Mapping[str, CodeMeaning]:
        """What is known of the codes that the service answers with."""
        return getattr(self.adapter, "CODES", {})

    @property
    def needs_common_name(self) -> CommonNameRule | None:
        """The rule of a target that refuses certificates without a common name."""
        return getattr(self.adapter, "NEEDS_COMMON_NAME", None)

    @property
    def has_one_account_a_domain(self) -> bool:
        """Whether the service lets a domain be at one account only."""
        return getattr(self.adapter, "ONE_ACCOUNT_A_DOMAIN", False) is True

    def least_life(self, written: Mapping[str, object]) -> timedelta:
        """Return how long a certificate must be valid when the target takes it in, as an account is
        `written`.
        """
        name = getattr(self.adapter, "LEAST_LIFE", None)
        if name is None:
            return timedelta(0)
        usual = {field.name: field.default for field in dataclasses.fields(self.adapter.Settings)}
        days = written.get(name, usual[name])
        # What is no number is told when the account is connected.
        return timedelta(days=days) if isinstance(days, int) else timedelta(0)


def described(point: EntryPoint, role: Text) -> Described:
    """Import what an entry point declares. Raises `BrokenAdapter` that names the package where
    something is wrong with it.
    """
    package = package_of(point)
    try:
        module = point.load()
    except (Exception, SystemExit) as exc:
        if package == OURS:
            raise
        raise wrong_with(
            package,
            Text(
                "{module}, which is the {role} {name}, cannot be imported: {problem}",
                module=point.module,
                role=role,
                name=point.name,
                problem=in_short(exc),
            ),
        ) from exc
    found = Described(point.name, package, module)
    try:
        mistake = next(_mistakes(found, point.value), None)
    except Exception as exc:
        raise wrong_with(package, verbatim(in_short(exc))) from exc
    if mistake is not None:
        raise wrong_with(package, mistake)
    return found


def package_of(point: EntryPoint) -> str:
    """Give the name of the package that declares something."""
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]


def wrong_with(package: str, problem: Text) -> BrokenAdapter:
    """Say what is wrong with a package."""
    said = Text("the package {package}: {problem}", package=package, problem=problem)
    return BrokenAdapter(said, hint=THEIR_MISTAKE)


def in_short(error: BaseException) -> str:
    """Give what a foreign error says, on one line."""
    words = " ".join(cut(str(error)).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _mistakes(found: Described, module: str) -> Iterator[Text]:
    """Give what is wrong with a description. It is another author's: nothing is taken for granted,
    and whatever is raised is wrong as well.
    """
    names: Any = found.adapter
    missing = [name for name in _MUST_HAVE if not hasattr(names, name)]
    if missing:
        yield Text("{module} has no {missing}", module=module, missing=missing)
    if not (inspect.isclass(names.Settings) and dataclasses.is_dataclass(names.Settings)):
        yield Text("`Settings` of {module} is no dataclass", module=module)
    keys = may_be_written(names.Settings)
    for variable in names.ENVIRONMENT:
        is_one = isinstance(variable, Variable) and isinstance(variable.names, tuple)
        if not (is_one and variable.names):
            yield Text("`ENVIRONMENT` of {module} has no `Variable`s with names", module=module)
        if variable.key not in keys:
            yield Text("`Settings` of {module} has no {key}", module=module, key=variable.key)
    may_be_told(found.options)
    yield from _mistakes_of_more(found, module, keys)


def _mistakes_of_more(found: Described, module: str, keys: Collection[str]) -> Iterator[Text]:
    """Give what is wrong with the names that an adapter need not have."""
    names: Any = found.adapter
    where: Any = found.where_keys_are
    if where is not None and not isinstance(where, Text):
        yield Text("`WHERE_KEYS_ARE` of {module} is no `Text`", module=module)
    codes: Any = found.codes
    if not isinstance(codes, Mapping) or not all(
        isinstance(code, str) and isinstance(meaning, CodeMeaning)
        for code, meaning in codes.items()
    ):
        yield Text("`CODES` of {module} is no mapping to `CodeMeaning`s", module=module)
    rule: Any = found.needs_common_name
    if rule is not None:
        if not isinstance(rule, CommonNameRule):
            yield Text("`NEEDS_COMMON_NAME` of {module} is no `CommonNameRule`", module=module)
        if rule.unless not in ("", *keys):
            yield Text("`Settings` of {module} has no {key}", module=module, key=rule.unless)
    least_life: Any = getattr(names, "LEAST_LIFE", None)
    if least_life is not None and least_life not in keys:
        yield Text("`Settings` of {module} has no {key}", module=module, key=least_life)
