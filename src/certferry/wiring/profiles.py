"""Whether the chosen certificate profile takes the names, and the targets what it makes: asked when
the file is read, before anything is ordered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from certferry.config.document import Place
from certferry.config.load import load
from certferry.config.mistakes import Mistake, config_error
from certferry.config.model import AccountTable, Settings
from certferry.config.values import DIRECTORIES
from certferry.core.desired.certificate import DesiredCertificate
from certferry.text import Text
from certferry.wiring.adapters import Described, installed
from certferry.wiring.settings import ADAPTERS, named_for_two

WITHOUT_COMMON_NAME = frozenset({"tlsserver", "shortlived"})
"""Let's Encrypt's profiles whose leaves have no common name (docs/facts/letsencrypt.md §1.1)."""

LIFETIMES = {"shortlived": timedelta(hours=160)}
"""How long certificates of Let's Encrypt's short profile last (docs/facts/letsencrypt.md §1.1)."""

MOST_NAMES = {"tlsserver": 25, "shortlived": 25}
"""How many names a certificate of these has at most (docs/facts/letsencrypt.md §1.1)."""

_LETS_ENCRYPT = frozenset({DIRECTORIES["letsencrypt"], DIRECTORIES["letsencrypt-staging"]})


@dataclass(frozen=True, slots=True)
class _Unfit:
    """What is wrong where, and what else would help beside another profile."""

    finding: Mistake
    advice: Text | None


def load_checked(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings from a file, as `load` does, and refuse what a target would refuse in any
    case. Raises `ConfigError`.
    """
    return checked(load(path, environ, ADAPTERS))


def checked(settings: Settings) -> Settings:
    """Refuse settings that a target would refuse in any case, as `load_checked` does."""
    if settings.channels:
        from certferry.wiring.channels import check

        check(settings)
    twice = tuple(named_for_two(settings))
    unfit: list[_Unfit] = []
    declared = tuple(_with_fitting(desired, settings, unfit) for desired in settings.declared)
    if twice and not unfit:
        raise config_error(twice)
    if unfit:
        advice = Text('set profile = "classic" under [acme]')
        for more in dict.fromkeys(one.advice for one in unfit if one.advice is not None):
            advice = Text("{one}; {other}", one=advice, other=more)
        raise config_error([*twice, *(one.finding for one in unfit)], advice)
    return replace(settings, certificates=declared, declared=declared)


def _with_fitting(
    desired: DesiredCertificate, settings: Settings, unfit: list[_Unfit]
) -> DesiredCertificate:
    """Leave to a certificate the profiles that take its names and that all of its targets take, in
    their order; say what is wrong with each where none is left.
    """
    profiles = desired.issuance.profiles
    wrong = {
        profile: [
            *_too_many_names(profile, desired, settings),
            *_unfit_deployments(profile, desired, settings),
        ]
        for profile in profiles
    }
    fitting = tuple(profile for profile in profiles if not wrong[profile])
    if profiles and not fitting:
        unfit += (one for found in wrong.values() for one in found)
    return replace(desired, issuance=replace(desired.issuance, profiles=fitting))


def _too_many_names(
    profile: str, desired: DesiredCertificate, settings: Settings
) -> Iterator[_Unfit]:
    most = MOST_NAMES.get(profile)
    if most is None or len(desired.names) <= most or settings.acme.directory not in _LETS_ENCRYPT:
        return
    problem = Text(
        "{count} names; a certificate of the profile {profile} can have {most}",
        count=len(desired.names),
        profile=profile,
        most=most,
    )
    yield _Unfit(settings.places[desired.lineage].mistake("names", problem), None)


def _unfit_deployments(
    profile: str, desired: DesiredCertificate, settings: Settings
) -> Iterator[_Unfit]:
    if profile not in WITHOUT_COMMON_NAME | set(LIFETIMES):
        return
    for number, deployment in enumerate(desired.deployments):
        account = settings.accounts.get(deployment.target)
        target = None if desired.files or account is None else installed().target_of(account)
        if target is None or account is None:
            continue
        place = settings.places[desired.lineage].below("deploy", number)
        yield from _problems(profile, deployment.target, account, target, place)


def _problems(
    profile: str, label: str, account: AccountTable, target: Described, place: Place
) -> Iterator[_Unfit]:
    rule = target.needs_common_name
    excepted = rule is not None and account.values.get(rule.unless) is True
    if profile in WITHOUT_COMMON_NAME and rule is not None and not excepted:
        problem = Text(
            "{target} refuses certificates without a common name, and the profile {profile} makes"
            " them so",
            target=label,
            profile=profile,
        )
        yield _Unfit(place.mistake("to", problem), rule.advice)
        return
    lifetime, wanted = LIFETIMES.get(profile), target.least_life(account.values)
    if lifetime is not None and lifetime < wanted:
        problem = Text(
            "{target} takes certificates with at least {wanted} left, and those of the profile"
            " {profile} live {lifetime}",
            target=label,
            wanted=wanted,
            profile=profile,
            lifetime=lifetime,
        )
        yield _Unfit(place.mistake("to", problem), None)
