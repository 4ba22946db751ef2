"""Whether the targets take what the chosen certificate profile makes: asked when the file is read,
before anything is ordered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from certferry.config.findings import Finding, config_error
from certferry.config.load import load
from certferry.config.model import AccountTable, Settings
from certferry.errors import ConfigError
from certferry.ports.adapter import CommonNameRule
from certferry.text import Text
from certferry.wiring.adapters import TARGETS, installed
from certferry.wiring.one_account import named_for_two
from certferry.wiring.settings import ADAPTERS

WITHOUT_COMMON_NAME = frozenset({"tlsserver", "shortlived"})
"""Let's Encrypt's profiles whose leaves have no common name (profiles page, 2026-07-14)."""


def load_checked(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings from a file, as `load` does, and refuse what a target would refuse in any
    case. Raises `ConfigError`.
    """
    settings = load(path, environ, ADAPTERS)
    twice = tuple(named_for_two(settings))
    unfit = tuple(_unfit_deployments(settings))
    if twice and not unfit:
        raise config_error(twice)
    if unfit:
        advice = Text('set profile = "classic" under [acme]')
        for more in dict.fromkeys(rule.advice for rule, _ in unfit if rule.advice is not None):
            advice = Text("{one}; {other}", one=advice, other=more)
        raise config_error([*twice, *(finding for _, finding in unfit)], advice)
    return settings


def _unfit_deployments(settings: Settings) -> Iterator[tuple[CommonNameRule, Finding]]:
    profile = settings.acme.profile
    if profile not in WITHOUT_COMMON_NAME:
        return
    for wish in settings.declared:
        for number, deployment in enumerate(wish.deployments):
            account = settings.accounts.get(deployment.target)
            rule = None if wish.files or account is None else _kept_by(account)
            if rule is not None:
                place = settings.places[wish.lineage].below("deploy", number)
                problem = Text(
                    "{target} refuses certificates without a common name, and the profile"
                    " {profile} makes them so",
                    target=deployment.target,
                    profile=profile,
                )
                yield rule, place.finding("to", problem)


def _kept_by(account: AccountTable) -> CommonNameRule | None:
    """Give the rule of an account's target, unless the account, as it is written, is excepted."""
    try:
        rule = installed().find(TARGETS, account.type).needs_common_name
    except (KeyError, ConfigError):
        return None  # what is wrong with it is told when it is connected
    excepted = rule is not None and account.values.get(rule.unless) is True
    return None if excepted else rule
