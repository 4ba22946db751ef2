"""The keys that `certferry init` works with: referred to where they are already, asked for, or
taken from another client. None of them is ever shown, nor written into the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from certferry.cli.interview import Interview
from certferry.config.propose import DraftAccount
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Variable
from certferry.text import Text
from certferry.wiring.settings import variables_of

_ANYHOW = Text("set them, name a file that does with --env-file, or answer at a terminal")


@dataclass(frozen=True, slots=True)
class Keys:
    """Accounts with references to their keys, and the keys that are not where those lead yet, by
    the names of their variables.
    """

    accounts: tuple[DraftAccount, ...] = ()
    fresh: Mapping[str, Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account to have keys for, beside those that it `has`; an `optional` one may be missing as
    a whole.
    """

    type: str
    label: str
    has: frozenset[str] = frozenset()
    optional: bool = False


def gather(
    wanted: Sequence[Wanted],
    environ: Mapping[str, str],
    inherited: Mapping[str, Secret],
    interview: Interview | None,
    hint: Text = _ANYHOW,
) -> Keys:
    """Find the keys: in the environment, then with the other client, then by asking.

    Raises `ConfigError` that names every variable that is missing, with the `hint`.
    """
    accounts: list[DraftAccount] = []
    fresh: dict[str, Secret] = {}
    missing: list[Variable] = []
    for account in wanted:
        variables = [v for v in variables_of(account.type) if v.key not in account.has]
        found = {v.key: _found(v, environ, inherited) for v in variables}
        if account.optional and not any(found.values()) and interview is None:
            continue
        asked = [v for v in variables if found[v.key] is None]
        given = _ask(asked, interview, optional=account.optional)
        if given is None:
            continue
        missing += [v for v in asked if not given.get(v.key)]
        found |= {key: (_variable(variables, key), secret) for key, secret in given.items()}
        accounts.append(_account(account, found))
        fresh |= {n: secret for n, secret in filter(None, found.values()) if secret is not None}
    if missing:
        raise _missing(missing, hint)
    return Keys(tuple(accounts), fresh)


_Found = tuple[str, Secret | None] | None
"""A variable's name, and what is to be written where it leads; `None` where it leads already."""


def _found(
    variable: Variable, environ: Mapping[str, str], inherited: Mapping[str, Secret]
) -> _Found:
    name = next((name for name in variable.names if environ.get(name)), None)
    if name is not None:
        return name, None
    usual = variable.names[0]
    return (usual, inherited[usual]) if inherited.get(usual) else None


def _ask(
    variables: Sequence[Variable], interview: Interview | None, *, optional: bool
) -> dict[str, Secret] | None:
    """Ask for what is missing; `None` when the first answer says that there is no such account."""
    given: dict[str, Secret] = {}
    if interview is None:
        return given
    for variable in variables:
        question = variable.what
        if optional and not given:
            question = Text("{what} (nothing, if there is none)", what=question)
        given[variable.key] = interview.ask_secret(question)
        if optional and not given[variable.key]:
            return None
    return given


def _variable(variables: Sequence[Variable], key: str) -> str:
    return next(variable.names[0] for variable in variables if variable.key == key)


def _account(account: Wanted, found: Mapping[str, _Found]) -> DraftAccount:
    keys = {key: f"env:{place[0]}" for key, place in found.items() if place is not None}
    return DraftAccount(account.label, account.type, keys)


def _missing(variables: Sequence[Variable], hint: Text) -> ConfigError:
    template = "\n".join(f"{{line{number}}}" for number in range(len(variables)))
    lines = {
        f"line{number}": Text("{name}: not set: {what}", name=v.names[0], what=v.what)
        for number, v in enumerate(variables)
    }
    return ConfigError(Text(template, **lines), hint=hint)
