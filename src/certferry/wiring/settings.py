"""Settings, read with what only the adapters know, those that need no file, and whether the chosen
certificate profile takes the names, and the targets what it makes: before anything is ordered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
from certferry.wiring import adapters
from certferry.wiring.accounts import bound


def named_for_two(settings: model.Settings) -> Iterator[Mistake]:
    """Yield a mistake for each deployment to a second account."""
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
                "{domain} is named for the account {other} as well, at line {line}, and {service}"
                " has a domain at one account only; take it out of one",
                domain=domain,
                other=other,
                line=earlier.line,
                service=service.adapter.SERVICE,
            )
            yield place.mistake("domains", problem)


def _placed(
    desired: certificate.DesiredCertificate, settings: model.Settings
) -> Iterator[tuple[certificate.DesiredDeployment, model.AccountTable, Place]]:
    """Yield the deployments of a certificate to accounts, each with its place in the file."""
    for number, deployment in enumerate(desired.deployments):
        account = settings.accounts.get(deployment.target)
        if account is not None:
            yield deployment, account, settings.deployed[desired.lineage][number]


log = logging.getLogger(__name__)

USUAL = {adapters.DNS_PROVIDERS: "dnspod", adapters.TARGETS: "qiniu"}
"""What a certificate is proven and served by that no file says anything of."""

BUCKETS = {"s3": "", "kodo": "qiniu"}
"""The types of the accounts that have buckets, by what stands before a bucket's name in the `url`
of a state; the keys of the first kind are in the environment.
"""

_IN_ORDER = {
    adapters.DNS_PROVIDERS: (
        "dnspod tencentcloud alidns cloudflare rfc2136 acme-dns lexicon command"
    ),
    adapters.TARGETS: "qiniu",
    adapters.CHANNELS: "dingtalk feishu wecom serverchan pushplus email telegram bark webhook",
}
"""What is offered first: as it is in use in China. What other packages bring comes last."""


class InstalledAdapters(model.Adapters):
    """See `config.model.Adapters`: those of a table, by default what is installed."""

    buckets = tuple(BUCKETS)

    def __init__(self, table: Callable[[], adapters.AdapterTable] = adapters.installed) -> None:
        self._table = table

    def variables(self, types: Collection[str]) -> Collection[str]:
        names: set[str] = set()
        for type_ in {*types, *USUAL.values()}:
            with suppress(ConfigError):  # reported when such an account is connected
                names |= {name for one in variables_of(type_, self._table()) for name in one.names}
        return names

    def keys_in(self, environ: Mapping[str, str], account: model.AccountTable) -> Mapping[str, str]:
        """See `Adapters.keys_in`. A key that may be missing is taken only for an empty table."""
        with suppress(adapters.BrokenAdapter):  # reported when such an account is connected
            needed = needed_by(account.type, self._table())
            return {
                one.key: f"env:{name}"
                for one in variables_of(account.type, self._table())
                if one.key not in account.values and (one.key in needed or not account.values)
                for name in [name for name in one.names if environ.get(name)][:1]
            }
        return {}

    def options_of(self, type_: str) -> model.ReadOptions | None:
        if not self._table().is_known(adapters.TARGETS, type_):
            return None
        try:
            return partial(_read, self._table().find(adapters.TARGETS, type_))
        except adapters.BrokenAdapter:
            return None  # reported when such an account is connected

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
    """Read what a deployment sets. What a package raises instead is reported as its mistake."""
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
    """Return what the environment may hold for a type of account. Raises `ConfigError`."""
    known = (table or adapters.installed()).of_type(type_)
    found = [variable for one in known for variable in one.adapter.ENVIRONMENT]
    return tuple({variable.key: variable for variable in found}.values())


def needed_by(type_: str, table: adapters.AdapterTable) -> Collection[str]:
    """Return the settings that an account of this type must have. Raises `ConfigError`."""
    return {
        key for one in table.of_type(type_) for key in bind.must_be_written(one.adapter.Settings)
    }


@dataclass(frozen=True, slots=True)
class Service:
    """A type of account: its service's name, what must be known, where its keys are found."""

    type: str
    name: str
    questions: tuple[bind.Question, ...]
    where_keys_are: Text | None = None


def offered(family: adapters.Family) -> tuple[Service, ...]:
    """Return what accounts of a family, or channels, may be, the usual one first."""
    table = adapters.installed()
    order = [*_IN_ORDER[family].split(), *table.names(family)]
    found = []
    for type_ in sorted(table.names(family), key=order.index):
        try:
            one = table.find(family, type_)
            name = one.adapter.SERVICE
            if family is adapters.CHANNELS:
                questions = bind.questions_of_channel(type_, one.adapter)
            else:  # those of both families together: one account may be of both
                both = (bind.questions_of(type_, known.adapter) for known in table.of_type(type_))
                by_key = {question.key: question for found in both for question in found}
                questions = tuple(by_key.values())
            found.append(Service(type_, name, questions, one.where_keys_are))
        except adapters.BrokenAdapter as broken:
            log.warning(
                Text("{type} is not offered: {problem}", type=type_, problem=broken.message)
            )
    return tuple(found)


def from_environment(names: Sequence[str], environ: Mapping[str, str]) -> model.Settings:
    """Make settings without a file; see `config.load.from_environment`."""
    usual = model.UsualAccounts(_proven_by(environ), _account(adapters.TARGETS))
    return load.from_environment(names, environ, usual, ADAPTERS)


def without_certificates(environ: Mapping[str, str]) -> model.Settings:
    """Make settings without a file and a certificate; see `config.load.without_certificates`."""
    return load.without_certificates(environ, [_account(adapters.TARGETS)], ADAPTERS)


def from_keys(environ: Mapping[str, str]) -> model.Settings:
    """Make settings of the usual accounts whose keys there are, without a file."""
    usual = [_account(adapters.TARGETS), _account(adapters.DNS_PROVIDERS)]
    names = {one.type: [name for key in one.variables for name in key.names] for one in usual}
    held = [one for one in usual if any(map(environ.get, names[one.type]))]
    return load.without_certificates(environ, held or usual, ADAPTERS)


def from_client(
    name: str,
    files: certificate.PemFiles,
    environ: Mapping[str, str],
    given: model.Settings | None = None,
) -> model.Settings:
    """Make settings of a certificate another client renewed; see `config.load.from_client`."""
    return load.from_client(name, files, environ, _account(adapters.TARGETS), given, ADAPTERS)


def _proven_by(environ: Mapping[str, str]) -> model.UsualAccount:
    """Return the DNS account whose keys are all in the environment, else the usual one."""
    family = adapters.DNS_PROVIDERS
    for type_ in (USUAL[family], *adapters.installed().names(family)):
        with suppress(adapters.BrokenAdapter):  # reported where such an account is declared
            account = _account(family, type_)
            held = [any(map(environ.get, one.names)) for one in account.variables]
            if held and all(held):
                return account
    return _account(family)


def _account(family: adapters.Family, type_: str = "") -> model.UsualAccount:
    type_ = type_ or USUAL[family]
    adapter = adapters.installed().find(family, type_).adapter
    return model.UsualAccount(type_, adapter.SERVICE, tuple(adapter.ENVIRONMENT))


WITHOUT_COMMON_NAME = frozenset({"tlsserver", "shortlived"})
"""Let's Encrypt's profiles whose leaves have no common name (docs/facts/letsencrypt.md §1.1)."""

LIFETIMES = {"shortlived": timedelta(hours=160)}
"""How long certificates of Let's Encrypt's short profile last (docs/facts/letsencrypt.md §1.1)."""

MOST_NAMES = {"tlsserver": 25, "shortlived": 25}
"""How many names a certificate of these has at most (docs/facts/letsencrypt.md §1.1)."""

_LETS_ENCRYPT = frozenset({DIRECTORIES["letsencrypt"], DIRECTORIES["letsencrypt-staging"]})

_Unfit = tuple[Mistake, Text | None]
"""What is wrong where, and what else would help beside another profile."""


def load_checked(path: Path | None, environ: Mapping[str, str]) -> model.Settings:
    """Read a file, and refuse what a target would refuse in any case. Raises `ConfigError`."""
    return checked(load.load(path, environ, ADAPTERS))


def checked(settings: model.Settings) -> model.Settings:
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
        for more in dict.fromkeys(more for _, more in unfit if more is not None):
            advice = Text("{one}; {other}", one=advice, other=more)
        raise config_error([*twice, *(mistake for mistake, _ in unfit)], advice)
    return replace(settings, certificates=declared, declared=declared)


def _with_fitting(
    desired: certificate.DesiredCertificate, settings: model.Settings, unfit: list[_Unfit]
) -> certificate.DesiredCertificate:
    """Leave the profiles that fit a certificate and its targets; add why where none does."""
    profiles = desired.issuance.profiles
    wrong = {profile: [*_unfit(profile, desired, settings)] for profile in profiles}
    fitting = tuple(profile for profile in profiles if not wrong[profile])
    if profiles and not fitting:
        unfit += (one for found in wrong.values() for one in found)
    return replace(desired, issuance=replace(desired.issuance, profiles=fitting))


def _unfit(
    profile: str, desired: certificate.DesiredCertificate, settings: model.Settings
) -> Iterator[_Unfit]:
    """Yield what is wrong with a profile for a certificate: its names, and each deployment."""
    count, most = len(desired.names), MOST_NAMES.get(profile)
    if most is not None and count > most and settings.acme.directory in _LETS_ENCRYPT:
        said = Text("{count} names; a certificate of the profile {profile} can have {most}")
        problem = said.filled(count=count, profile=profile, most=most)
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
            said = Text(
                "{target} refuses certificates without a common name, and the profile {profile}"
                " makes them so"
            )
            yield place.mistake("to", said.filled(target=label, profile=profile)), rule.advice
        elif lifetime is not None and lifetime < wanted:
            said = Text(
                "{target} takes certificates with at least {wanted} left, and those of the profile"
                " {profile} live {lifetime}"
            )
            facts = {"wanted": wanted, "profile": profile, "lifetime": lifetime}
            yield place.mistake("to", said.filled(target=label, **facts)), None
