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
from certferry.text import Text
from certferry.wiring.adapters import TARGETS, installed
from certferry.wiring.settings import ADAPTERS

WITHOUT_COMMON_NAME = frozenset({"tlsserver", "shortlived"})
"""Let's Encrypt's profiles whose leaves have no common name (profiles page, 2026-07-14)."""


def load_checked(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings from a file, as `load` does, and refuse what a target would refuse in any
    case. Raises `ConfigError`.
    """
    settings = load(path, environ, ADAPTERS)
    findings = tuple(_unfit_deployments(settings))
    if findings:
        hint = Text(
            'set profile = "classic" under [acme]; if Qiniu takes such certificates by now, set'
            " `accept_no_common_name = true` on the account"
        )
        raise config_error(findings, hint)
    return settings


def _unfit_deployments(settings: Settings) -> Iterator[Finding]:
    profile = settings.acme.profile
    if profile not in WITHOUT_COMMON_NAME:
        return
    for wish in settings.declared:
        for number, deployment in enumerate(wish.deployments):
            account = settings.accounts.get(deployment.target)
            if wish.files is None and account is not None and _refuses_no_common_name(account):
                place = settings.places[wish.lineage].below("deploy", number)
                yield place.finding(
                    "to",
                    Text(
                        "{target} refuses certificates without a common name, and the profile"
                        " {profile} makes them so",
                        target=deployment.target,
                        profile=profile,
                    ),
                )


def _refuses_no_common_name(account: AccountTable) -> bool:
    try:
        adapter = installed().find(TARGETS, account.type).adapter
    except (KeyError, ConfigError):
        return False  # what is wrong with it is told when it is connected
    refuses: object = getattr(adapter, "refuses_no_common_name", None)
    return callable(refuses) and bool(refuses(account.values))
