"""Read the file with the help of the adapters, or make settings without a file. Check that the
chosen certificate profile fits the names and the targets, so that no order is wasted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from certferry.config import bind, load, model
from certferry.config.document import Place
from certferry.config.mistakes import Mistake, config_error
from certferry.config.secrets import Resolve
from certferry.config.values import DIRECTORIES, TomlTable
from certferry.core.desired import certificate
from certferry.errors import ConfigError
from certferry.ports.adapter import NOTIFY_GROUP, Variable
from certferry.text import Text, verbatim
from certferry.values import replace
from certferry.wiring import adapters
from certferry.wiring.accounts import bound
from certferry.wiring.registry import BUCKETS, USUAL


def named_for_two(settings: model.Settings) -> Iterator[Mistake]:
    """Yield a mistake for each domain deployed to two accounts of a service that allows a domain at
    one account only.
    """
    first: dict[tuple[str, str], tuple[str, Place]] = {}
    named = (
        (domain, account, place)
        for desired in settings.declared
        for deployment, account, place in _placed(desired, settings)
        for domain in deployment.domains or ()
    )
    for domain, account, place in named:
        other, earlier = first.setdefault((account.type, domain), (account.label, place))
        service = None if other == account.label else adapters.installed().target_of(account)
        if service is not None and service.has_one_account_a_domain:
            problem = Text(
                "{domain} is also listed for the account {other}, at line {line}, but {service}"
                " allows a domain at one account only; remove one of the two",
                domain=domain,
                other=other,
                line=earlier.line,
                service=service.adapter.SERVICE,
            )
            yield place.mistake("domains", problem)


def _placed(
    desired: certificate.DesiredCertificate, settings: model.Settings
) -> Iterator[tuple[certificate.DesiredDeployment, model.AccountTable, Place]]:
    """Yield each deployment of a certificate to an account, with the account and the deployment's
    place in the file.
    """
    for number, deployment in enumerate(desired.deployments):
        account = settings.accounts.get(deployment.target)
        if account is not None:
            yield deployment, account, settings.deployed[desired.lineage][number]


log = logging.getLogger(__name__)


class InstalledAdapters(model.Adapters):
    """The adapters of a table, by default the installed adapters. See `config.model.Adapters`."""

    buckets = tuple(BUCKETS)

    def __init__(self, table: Callable[[], adapters.AdapterTable] = adapters.installed) -> None:
        self._table = table

    def variables(self, types: Collection[str]) -> Collection[str]:
        names: set[str] = set()
        for type_ in {*types, *USUAL.values()}:
            with suppress(ConfigError):  # connecting the account reports the broken adapter
                names |= {
                    name
                    for variable in variables_of(type_, self._table())
                    for name in variable.names
                }
        return names

    def keys_in(self, environ: Mapping[str, str], account: model.AccountTable) -> Mapping[str, str]:
        """See `Adapters.keys_in`. A key that the adapter does not require is taken from the
        environment only if the account's table is empty.
        """
        with suppress(adapters.BrokenAdapter):  # connecting the account reports the broken adapter
            needed = needed_by(account.type, self._table())
            return {
                variable.key: f"env:{name}"
                for variable in variables_of(account.type, self._table())
                if variable.key not in account.values
                and (variable.key in needed or not account.values)
                for name in [name for name in variable.names if environ.get(name)][:1]
            }
        return {}

    def options_of(self, type_: str) -> model.ReadOptions | None:
        if not self._table().is_known(adapters.TARGETS, type_):
            return None
        try:
            return partial(_read, self._table().find(adapters.TARGETS, type_))
        except adapters.BrokenAdapter:
            return None  # connecting the account reports the broken adapter

    def takes_files(self, type_: str) -> bool:
        return self._table().is_known(adapters.SERVERS, type_)

    def check(self, account: model.AccountTable, group: str, resolve: Resolve) -> None:
        if group == NOTIFY_GROUP:
            from certferry.wiring.channels import check_one

            check_one(account, self._table())
            return
        family = adapters.FAMILIES[group]
        if self._table().is_known(family, account.type):
            bound(self._table().of_account(family, account), account, resolve)

    def unknown_types(self, accounts: Iterable[model.AccountTable]) -> Sequence[Mistake]:
        return self._table().unknown_types(accounts)


def _read(
    target: adapters.Described, table: TomlTable
) -> tuple[certificate.Kind, certificate.DesiredHttps]:
    """Read the options of a deployment. An exception from another package's adapter is reported as
    a mistake of that package.
    """
    try:
        return bind.read_options(target.options, table)
    except Exception as exc:
        if target.is_ours:
            raise
        table.report(
            "to", adapters.wrong_with(target.package, verbatim(adapters.in_short(exc))).message
        )
        return certificate.Kind.AUTO, certificate.DesiredHttps()


ADAPTERS = InstalledAdapters()


def variables_of(type_: str, table: adapters.AdapterTable | None = None) -> tuple[Variable, ...]:
    """Return the variables of the environment for a type of account. Raises `ConfigError`."""
    described = (table or adapters.installed()).of_type(type_)
    variables = [variable for entry in described for variable in entry.adapter.ENVIRONMENT]
    return tuple({variable.key: variable for variable in variables}.values())


def needed_by(type_: str, table: adapters.AdapterTable) -> Collection[str]:
    """Return the required settings of an account of this type. Raises `ConfigError`."""
    return {
        key
        for described in table.of_type(type_)
        for key in bind.must_be_written(described.adapter.Settings)
    }


@dataclass(frozen=True, slots=True)
class Service:
    """A type of account or channel, as offered by `certferry init`."""

    type: str  #: As written in the file.
    name: str  #: The service's name in any language.
    called: Text  #: The service's name for people.
    questions: tuple[bind.Question, ...]  #: The settings to ask the operator for.
    where_keys_are: Text | None = None  #: How operators find the keys, if the adapter says so.
    command_words: tuple[str, ...] = ()  #: See `ports.adapter`; for a target.


def offered(
    family: adapters.Family, table: adapters.AdapterTable | None = None
) -> tuple[Service, ...]:
    """Return the types of accounts or channels of a family: the usual type (`USUAL`) first, then
    the others by rank. A type with a broken adapter is left out, with a warning in the log.
    """
    table = table or adapters.installed()
    ranked: list[tuple[bool, float, Service]] = []
    for type_ in table.names(family):
        try:
            described = table.find(family, type_)
            if family is adapters.CHANNELS:
                questions = bind.questions_of_channel(type_, described.adapter)
            else:  # both families' questions, because one account may serve both
                both = (bind.questions_of(type_, other.adapter) for other in table.of_type(type_))
                by_key = {question.key: question for asked in both for question in asked}
                questions = tuple(by_key.values())
            name, called = described.adapter.SERVICE, described.called
            where, words = described.where_keys_are, described.command_words
            service = Service(type_, name, called, questions, where, words)
            ranked.append((type_ != USUAL.get(family.group), described.rank, service))
        except adapters.BrokenAdapter as broken:
            log.warning(
                Text("{type} is not offered: {problem}", type=type_, problem=broken.message)
            )
    return tuple(service for *_, service in sorted(ranked, key=lambda entry: entry[:2]))


def from_environment(names: Sequence[str], environ: Mapping[str, str]) -> model.Settings:
    """Make settings without a file; see `config.load.from_environment`."""
    usual = model.UsualAccounts(_proven_by(environ), _account(adapters.TARGETS))
    return load.from_environment(names, environ, usual, ADAPTERS)


def without_certificates(environ: Mapping[str, str]) -> model.Settings:
    """Make settings without a file and without certificates; see
    `config.load.without_certificates`.
    """
    return load.without_certificates(environ, [_account(adapters.TARGETS)], ADAPTERS)


def from_keys(environ: Mapping[str, str]) -> model.Settings:
    """Make settings without a file and without certificates. The accounts are the usual accounts
    (`USUAL`) with a key in the environment, or else all usual accounts.
    """
    usual = [_account(adapters.TARGETS), _account(adapters.DNS_PROVIDERS)]
    names = {
        account.type: [name for key in account.variables for name in key.names] for account in usual
    }
    held = [account for account in usual if any(map(environ.get, names[account.type]))]
    return load.without_certificates(environ, held or usual, ADAPTERS)


def from_client(
    name: str,
    files: certificate.PemFiles,
    environ: Mapping[str, str],
    given: model.Settings | None = None,
) -> model.Settings:
    """Make settings for a certificate renewed by another client; see `config.load.from_client`."""
    return load.from_client(name, files, environ, _account(adapters.TARGETS), given, ADAPTERS)


def _proven_by(environ: Mapping[str, str]) -> model.UsualAccount:
    """Return the first DNS account with all keys in the environment, or else the usual account."""
    family = adapters.DNS_PROVIDERS
    for type_ in (USUAL[family.group], *adapters.installed().names(family)):
        with suppress(adapters.BrokenAdapter):  # connecting the account reports the broken adapter
            account = _account(family, type_)
            held = [any(map(environ.get, variable.names)) for variable in account.variables]
            if held and all(held):
                return account
    return _account(family)


def _account(family: adapters.Family, type_: str = "") -> model.UsualAccount:
    type_ = type_ or USUAL[family.group]
    adapter = adapters.installed().find(family, type_).adapter
    return model.UsualAccount(type_, adapter.SERVICE, tuple(adapter.ENVIRONMENT))


WITHOUT_COMMON_NAME = frozenset({"tlsserver", "shortlived"})
"""Let's Encrypt's profiles whose leaves have no common name (docs/facts/letsencrypt.md §1.1)."""

LIFETIMES = {"shortlived": timedelta(hours=160)}
"""Lifetime of a certificate of Let's Encrypt's short-lived profile, by profile
(docs/facts/letsencrypt.md §1.1).
"""

MOST_NAMES = {"tlsserver": 25, "shortlived": 25}
"""Maximum number of names in a certificate, by profile (docs/facts/letsencrypt.md §1.1)."""

_LETS_ENCRYPT = frozenset({DIRECTORIES["letsencrypt"], DIRECTORIES["letsencrypt-staging"]})

_Unfit = tuple[Mistake, Text | None]
"""A mistake in the file, and a remedy other than another profile, if there is one."""


def load_checked(path: Path | None, environ: Mapping[str, str]) -> model.Settings:
    """Read the settings file, and return the settings as `checked` does. Raises `ConfigError`."""
    return checked(load.load(path, environ, ADAPTERS))


def checked(settings: model.Settings) -> model.Settings:
    """Return the settings with only those profiles of each certificate that fit the certificate's
    names and targets. Raises `ConfigError` for a wrong channel, for a domain named for two accounts
    (`named_for_two`), and for a certificate whose profiles all do not fit.
    """
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
        for more in dict.fromkeys(more for _, more in unfit if more is not None):
            advice = Text("{one}; {other}", one=advice, other=more)
        raise config_error([*twice, *(mistake for mistake, _ in unfit)], advice)
    return replace(settings, certificates=declared, declared=declared)


def _with_fitting(
    desired: certificate.DesiredCertificate, settings: model.Settings, unfit: list[_Unfit]
) -> certificate.DesiredCertificate:
    """Return a certificate with only the profiles that fit the names and the targets. If no profile
    fits, add the reasons to `unfit`.
    """
    profiles = desired.issuance.profiles
    wrong = {profile: [*_unfit(profile, desired, settings)] for profile in profiles}
    fitting = tuple(profile for profile in profiles if not wrong[profile])
    if profiles and not fitting:
        unfit += (mistake for mistakes in wrong.values() for mistake in mistakes)
    return replace(desired, issuance=replace(desired.issuance, profiles=fitting))


def _unfit(
    profile: str, desired: certificate.DesiredCertificate, settings: model.Settings
) -> Iterator[_Unfit]:
    """Yield the objections to a profile: from a certificate's names, and from each deployment."""
    count, most = len(desired.names), MOST_NAMES.get(profile)
    if most is not None and count > most and settings.acme.directory in _LETS_ENCRYPT:
        message = Text("{count} names; a certificate of the profile {profile} can have {most}")
        problem = message.filled(count=count, profile=profile, most=most)
        yield settings.places[desired.lineage].mistake("names", problem), None
    lifetime, has_no_common_name = LIFETIMES.get(profile), profile in WITHOUT_COMMON_NAME
    if desired.files or (lifetime is None and not has_no_common_name):
        return
    for deployment, account, place in _placed(desired, settings):
        target, label = adapters.installed().target_of(account), deployment.target
        if target is None:
            continue
        rule, wanted = target.needs_common_name, target.least_life(account.values)
        if has_no_common_name and rule and account.values.get(rule.unless) is not True:
            message = Text(
                "{target} refuses certificates without a common name, as the profile {profile}"
                " makes them"
            )
            yield place.mistake("to", message.filled(target=label, profile=profile)), rule.advice
        elif lifetime is not None and lifetime < wanted:
            message = Text(
                "{target} requires certificates with at least {wanted} left, but those of the"
                " profile {profile} live {lifetime}"
            )
            facts = {"wanted": wanted, "profile": profile, "lifetime": lifetime}
            yield place.mistake("to", message.filled(target=label, **facts)), None
