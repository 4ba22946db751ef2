"""Load the settings, from a file or from the environment alone."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from certferry.config import model, tables
from certferry.config.certificates import CertificateReader
from certferry.config.console import read_console
from certferry.config.document import Document, Place, document_of, read_document
from certferry.config.env_files import ASSIGNMENTS_ONLY, EnvFile, fill_in, take_env_files
from certferry.config.files import Paths, home_directory, read_file, read_untrusted_file
from certferry.config.mistakes import REFERENCE, Mistake, config_error, joined, mistake_at, nearest
from certferry.config.model import Adapters, Settings
from certferry.config.secrets import SecretReference, Secrets
from certferry.config.values import TomlTable
from certferry.core.desired.certificate import DesiredCertificate, PemFiles
from certferry.core.redaction import names_a_secret
from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted, must_be_trusted
from certferry.ports.adapter import (
    DNS_GROUP,
    NOTIFY_GROUP,
    SERVER_GROUP,
    TARGET_GROUP,
    Variable,
)
from certferry.text import Text
from certferry.values import replace

VARIABLE = "CERTFERRY_CONFIG"
NAME = "certferry.toml"

_ENV_FILES, _STATE = "env_files", "state"
_OF_THE_STATE = (_ENV_FILES, _STATE)
"""The keys read by commands that need only the state."""


def find_file(chosen: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the chosen path, or else the path in `CERTFERRY_CONFIG`, even if there is no file.
    Without both, return the first existing file among the usual places, or `None`.
    """
    if chosen is not None:
        return chosen
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    # `lexists`, so a broken link is found too and reading the link reports the problem.
    return next((path for path in usual_places(environ) if os.path.lexists(path)), None)


def usual_places(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the paths to search for a configuration file, in order. For root, leave out a current
    directory in which other users could put a file.
    """
    home = home_directory(environ) / ".config"
    chosen = environ.get("XDG_CONFIG_HOME") or str(home)
    folders = dict.fromkeys([Path(chosen), home, Path("/etc")])
    here = () if is_left_alone_here() else (Path(NAME),)
    return (*here, *(folder / "certferry" / NAME for folder in folders))


def is_left_alone_here() -> bool:
    """Return whether root runs in a directory where other users could put a configuration."""
    if os.geteuid() != 0:
        return False
    try:
        must_be_trusted(Path(), makes_files=True)
    except OSError:
        return True
    return False


_NO_FILE = Document(None, {})
NO_ADAPTERS = Adapters()

WITHOUT_FILE = Text(
    "without a configuration file, the keys are taken from the environment: `export NAME=…` for"
    " each. For a target with other keys, `certferry init` writes a file"
)
NAMES_WITHOUT_FILE = Text(
    "certferry found no configuration file, so each NAME is taken as a domain name; give the file"
    " with --config FILE, or run certferry in the file's directory"
)


def load(
    path: Path | None, environ: Mapping[str, str], adapters: Adapters = NO_ADAPTERS
) -> Settings:
    """Read the settings from the file of `find_file`. Raises `ConfigError` if there is no file, or
    with all mistakes, a line each.

    If there are mistakes, `adapters` also checks the tables of channels and of used accounts, so
    the error lists the mistakes there too. Otherwise such a table is checked when the account or
    channel is connected.
    """
    file = find_file(path, environ)
    if file is None:
        raise _not_found(environ)
    return _read(read_document(file), environ, adapters=adapters, checked_by=adapters)


def load_state(
    chosen: Path | None, environ: Mapping[str, str], other: Mapping[str, str] | None = None
) -> Settings:
    """Read only the settings of the state, and the settings that `[state]` refers to: environment
    files, and accounts for a bucket. All other settings have defaults. `other`, if given, stands
    for the table `[state]`. Without a file, use defaults. Raises `ConfigError`.
    """
    file = find_file(chosen, environ)
    document = _NO_FILE if file is None else read_document(file)
    state = document.values.get(_STATE) if other is None else other
    wanted = _wanted(document.values, _OF_THE_STATE, state)
    document = replace(document, values=wanted)
    if other is not None:
        document = Document(None, {**wanted, _STATE: other})
    settings, mistakes = as_far_as_read(document, environ, beside=file)
    if settings.state.references:
        mistakes += [mistake for env_file in settings.env_files for mistake in env_file.mistakes]
    else:  # the state refers to no secret, so env files may be missing
        mistakes = [mistake for mistake in mistakes if mistake.key != _ENV_FILES]
    if mistakes:
        raise config_error(mistakes)
    return settings


def _wanted(
    values: Mapping[str, object], keys: tuple[str, ...], state: object
) -> dict[str, object]:
    """Return the values of these keys. If `state` names a bucket whose keys an account has, also
    return the accounts.
    """
    if isinstance(state, Mapping) and tables.has_account(state.get("url")):
        keys = (*keys, "accounts")
    return {key: values[key] for key in keys if key in values}


def load_text(
    text: str, path: Path, environ: Mapping[str, str], adapters: Adapters = NO_ADAPTERS
) -> Settings:
    """Read the settings from a text that will become the file at `path`. Raises `ConfigError`."""
    return _read(document_of(path, text), environ, adapters=adapters)


def load_before(document: Document, path: Path, environ: Mapping[str, str]) -> Settings:
    """Read the settings from a document not yet written to `path`. Relative paths start beside
    `path`. Raises `ConfigError`.
    """
    return _read(document, environ, beside=path)


def from_environment(
    names: Sequence[str], environ: Mapping[str, str], usual: model.UsualAccounts, adapters: Adapters
) -> Settings:
    """Make settings without a file: for one certificate with these names, and with the usual
    accounts, whose keys are in the environment. Raises `ConfigError`, such as for missing keys.
    """
    dns, target = usual.dns, usual.target
    certificate = {"names": list(names), "dns": dns.type, "deploy": [{"to": target.type}]}
    needed = {dns.type: dns.variables, target.type: target.variables}
    return _declared(certificate, needed, environ, adapters)


def from_client(
    name: str,
    files: PemFiles,
    environ: Mapping[str, str],
    target: model.UsualAccount,
    given: Settings | None,
    adapters: Adapters,
) -> Settings:
    """Make settings for a certificate that another ACME client renews, and that certferry deploys
    to the usual target.

    `given` are the settings of a file that declares no certificates; the result has the file's
    settings and this certificate. Without `given` the keys come from the environment. Raises
    `ConfigError`, such as for missing keys.
    """
    labels, document = [target.type], _NO_FILE
    if given is not None and given.path is not None:
        usable = [
            account.label for account in given.accounts.values() if account.type == target.type
        ]
        labels = usable or labels
        environ = fill_in(environ, given.env_files)
        document = read_document(given.path)
    if given is not None and len(labels) > 1:
        problem = Text("{path} has several accounts of {service}'s: {labels}")
        raise ConfigError(
            problem.filled(path=given.path, service=target.service, labels=labels),
            hint=Text("declare the certificate under [[certificates]], with its deployment"),
        )
    certificate = {
        "name": name,
        "fullchain": files.fullchain,
        "privkey": files.privkey,
        "deploy": [{"to": labels[0]}],
    }
    return _declared(certificate, {labels[0]: target.variables}, environ, adapters, document)


def without_certificates(
    environ: Mapping[str, str], accounts: Iterable[model.UsualAccount], adapters: Adapters
) -> Settings:
    """Make settings without a file and without certificates, with accounts whose keys are in the
    environment. Raises `ConfigError`, such as for missing keys.
    """
    return _declared(
        None, {account.type: account.variables for account in accounts}, environ, adapters
    )


OF_THE_SYSTEM = Path("/var/lib/certferry")
"""The default directory of the state for root, and for the user that the Debian package creates."""


def default_directory(environ: Mapping[str, str], user: int) -> Path:
    """Return the default directory of the state for a user id. If `$XDG_DATA_HOME` is set, the
    directory is there. Otherwise it is `OF_THE_SYSTEM` for root and for a user with this home, and
    a directory below the home for other users.
    """
    chosen = environ.get("XDG_DATA_HOME")
    if chosen:
        return Path(chosen) / "certferry"
    home = home_directory(environ)
    if user == 0 or home == OF_THE_SYSTEM:
        return OF_THE_SYSTEM
    return home / ".local" / "share" / "certferry"


def _not_found(environ: Mapping[str, str]) -> ConfigError:
    places = usual_places(environ)
    hint = Text("give the file with --config FILE, or create a file here: certferry init")
    if is_left_alone_here():
        hint = Text(
            "root does not read {name} here, because others can write to the directory; to create"
            " a file elsewhere: certferry init --output {place}"
        )
        hint = hint.filled(name=NAME, place=places[-1])
    problem = Text("there is no configuration file; certferry looked for {places}", places=places)
    return ConfigError(problem, hint=hint)


def _declared(
    certificate: Mapping[str, object] | None,
    needed: Mapping[str, Sequence[Variable]],
    environ: Mapping[str, str],
    adapters: Adapters,
    document: Document = _NO_FILE,
) -> Settings:
    """Make settings from the document's values, with only the given `certificate`, if any, as
    declared certificate.

    `needed` has the environment variables for the keys of accounts, by the account's label. A key
    that the account lacks becomes a reference to its variable. Raises `ConfigError`, also for a
    missing variable.
    """
    accounts = {label: dict(table) for label, table in document.tables("accounts").items()}
    mistakes: list[Mistake] = []
    for label, variables in needed.items():
        account = accounts.setdefault(label, {})
        for variable in variables:
            if variable.key not in account:
                name = next((name for name in variable.names if environ.get(name)), None)
                if name is None:
                    names, problem = " / ".join(variable.names), Text("not set: {what}")
                    not_set = mistake_at(
                        None, None, "", names, problem.filled(what=variable.description)
                    )
                    mistakes.append(not_set)
                account[variable.key] = f"env:{name}"
    certificates = [] if certificate is None else [dict(certificate)]
    values = {**document.values, "accounts": accounts, "certificates": certificates}
    return _read(replace(document, values=values), environ, mistakes, adapters=adapters)


def _read(
    document: Document,
    environ: Mapping[str, str],
    mistakes: Sequence[Mistake] = (),
    beside: Path | None = None,
    adapters: Adapters = NO_ADAPTERS,
    checked_by: Adapters = NO_ADAPTERS,
) -> Settings:
    """Return the settings of a document. Raises a single `ConfigError` for all mistakes. If there
    are any, `checked_by` checks the tables of accounts and channels too.
    """
    settings, collected = as_far_as_read(document, environ, mistakes, beside, adapters)
    acme, env_files = settings.acme, settings.env_files
    resolve = settings.secrets.resolve_at_rest
    collected += tables.wrong_bindings(acme, Place(document).below("acme"), resolve)
    collected += adapters.unknown_types(_unused(settings))
    collected += tables.unseen_records(acme, settings.dns, Place(document).below("acme"))
    collected += [mistake for file in env_files for mistake in file.mistakes]
    if collected:
        wrong = config_error(collected, _hint(document, collected, env_files))
        # Accounts are checked only if every environment file was read: an unread file may set the
        # variables to which the accounts refer.
        named = document.values.get("env_files", [])
        is_known = isinstance(named, list) and len(named) == len(env_files)
        raise joined([wrong, *(wrong_accounts(settings, checked_by) if is_known else ())])
    return settings


def as_far_as_read(
    document: Document,
    environ: Mapping[str, str],
    mistakes: Sequence[Mistake] = (),
    beside: Path | None = None,
    adapters: Adapters = NO_ADAPTERS,
) -> tuple[Settings, list[Mistake]]:
    """Return the settings of a document, with defaults in place of wrong values, and the mistakes:
    `mistakes` and those in the document.
    """
    collected = list(mistakes)
    root = TomlTable(document.values, Place(document), collected)
    paths = Paths.beside(beside or document.path, environ)
    env_files = take_env_files(root, paths)
    acme = tables.read_acme(root.table("acme"), paths)
    dns = tables.read_dns(root.table("dns"))
    everything = fill_in(environ, env_files)
    accounts = {
        label: _with_keys(account, everything, adapters)
        for label, account in tables.read_accounts(root.table("accounts")).items()
    }
    channels = tables.read_channels(root.table("notify"))
    monitoring = tables.read_monitoring(root, paths)
    transparency = tables.read_transparency(root.table("ct"))
    directory = default_directory(environ, os.geteuid())
    state = tables.read_state(root.table(_STATE), paths, directory, everything, adapters.buckets)

    def options_of(label: str) -> model.ReadOptions | None:
        return adapters.options_of(accounts[label].type if label in accounts else label)

    servers = {label for label, account in accounts.items() if adapters.takes_files(account.type)}
    reader = CertificateReader(accounts, acme, paths, options_of, state.host, servers)
    certificates, places = reader.read(root)
    settings = Settings(
        path=document.path,
        state=state,
        acme=acme,
        dns=dns,
        verify=tables.read_verify(root.table("verify"), paths, dns),
        accounts=MappingProxyType(accounts),
        certificates=certificates,
        declared=certificates,
        places=MappingProxyType(places),
        deployed=MappingProxyType(reader.deployed),
        hosts=frozenset(reader.hosts),
        secrets=Secrets(
            everything,
            paths,
            references=[
                *_references(accounts, acme, channels, monitoring, state),
                *filter(None, [transparency.token]),
            ],
            usual=partial(adapters.variables, {account.type for account in accounts.values()}),
            # All variables of the environment files, also those that the environment overrides:
            # programs may read the files themselves, so their output may hold these secrets.
            files=[file.values for file in env_files],
        ),
        env_files=env_files,
        channels=MappingProxyType(channels),
        monitoring=monitoring,
        console=read_console(
            root.table("console"), paths, [desired.lineage for desired in certificates]
        ),
        transparency=transparency,
        watches=_watches(root, paths),
    )
    root.done()
    return settings, collected


def _watches(root: TomlTable, paths: Paths) -> tuple[model.Watch, ...]:
    """Read every `[[watch]]`. Without any, import nothing."""
    listed = list(root.tables("watch"))
    if not listed:
        return ()
    from certferry.config.watch import read_watches

    return read_watches(listed, paths)


def _with_keys(
    account: model.AccountTable, environ: Mapping[str, str], adapters: Adapters
) -> model.AccountTable:
    """Return an account with references to keys in the environment, if the account's table has no
    secret and no reference. Return any other account unchanged.
    """
    strings = {key: value for key, value in account.values.items() if isinstance(value, str)}
    if any(
        is_a_secrets_key(key) or not SecretReference(value).is_literal
        for key, value in strings.items()
    ):
        return account
    keys = adapters.keys_in(environ, account)
    return replace(account, values=MappingProxyType({**account.values, **keys}))


def _references(
    accounts: Mapping[str, model.AccountTable],
    acme: model.AcmeSettings,
    channels: Mapping[str, model.ChannelTable],
    monitoring: model.Monitoring,
    state: model.StateSettings,
) -> list[SecretReference]:
    """Return all references to secrets in the settings, and the secrets written out. The `url` of a
    channel counts as a secret.
    """
    tables = [(account, False) for account in accounts.values()]
    tables += [(channel.account, True) for channel in channels.values()]
    references = [ca.eab_hmac_key for ca in acme.authorities]
    references += [monitoring.heartbeat, *state.references.values()]
    for account, is_channel in tables:
        for key, value in account.values.items():
            if isinstance(value, str):
                reference = SecretReference(value)
                is_secret = is_a_secrets_key(key) or (is_channel and key == "url")
                if is_secret or not reference.is_literal:
                    references.append(reference)
    return list(filter(None, references))


_PUBLIC_KEYS = {"host_key"}
"""Keys of an account's table that hold a public key."""


def is_a_secrets_key(key: str) -> bool:
    """Return whether a key of an account's table holds a secret, judging by the key's name alone.
    `id` counts as a secret, because an id is one half of a token.
    """
    return key == "id" or (names_a_secret(key) and key not in _PUBLIC_KEYS)


def _hint(document: Document, mistakes: Sequence[Mistake], env_files: Sequence[EnvFile]) -> Text:
    in_env_files = {mistake.path for file in env_files for mistake in file.mistakes}
    if in_env_files and in_env_files >= {mistake.path for mistake in mistakes}:
        return ASSIGNMENTS_ONLY
    about_names = {mistake.key == "names" for mistake in mistakes}
    by_names = {True: NAMES_WITHOUT_FILE, False: WITHOUT_FILE}
    hints = (
        [REFERENCE]
        if document.path
        else [by_names[is_about_names] for is_about_names in sorted(about_names)[::-1]]
    )
    first, *more = [*hints, *([ASSIGNMENTS_ONLY] if in_env_files else [])]
    for hint in more:
        first = Text("{one}; {other}", one=first, other=hint)
    return first


_WANTED = (*_OF_THE_STATE, "notify", "heartbeat")
_TABLE = re.compile(r"^(?=[ \t]*\[)", re.MULTILINE)

_NO_STATE = Path(os.devnull, "state.db")
"""A path where a state cannot exist."""


class Salvaged(Struct, frozen=True):
    """The settings that can still be read from a faulty file."""

    #: The channels, the heartbeat and the state; all other settings have defaults.
    settings: Settings
    #: Whether other users cannot have written the file.
    is_trusted: bool
    #: Whether `settings.state` is the state in use; if not, it is a path where no state can exist.
    has_state: bool


def salvage(path: Path | None, environ: Mapping[str, str]) -> Salvaged | None:
    """Read the channels, the heartbeat and the state from a faulty file. Return `None` if there is
    no file or the file cannot be read. The place of the state counts only in a file that other
    users cannot have written.
    """
    file = find_file(path, environ)
    if file is None:
        return None
    is_trusted = True
    try:
        data, _ = read_file(file)
    except ConfigError as error:
        if not isinstance(error.__cause__, NotTrusted):
            return None
        is_trusted = False
        try:
            data = read_untrusted_file(file)
        except OSError:
            return None
    text = data.decode("utf-8-sig", errors="replace")
    values, may_lack_state = _values(text)
    wanted = _wanted(values, _WANTED, values.get(_STATE))
    # `readable_by_others` stays False. Otherwise the channels' secrets in a file open to others
    # would be refused, and no message could report the open file. The document has no text, because
    # lines cannot be counted in broken TOML.
    settings, mistakes = as_far_as_read(Document(file, wanted), environ)
    settings = replace(settings, monitoring=model.Monitoring(settings.monitoring.heartbeat))
    is_wrong = may_lack_state or any(mistake.table == "[state]" for mistake in mistakes)
    has_state = is_trusted and not is_wrong
    if not has_state:
        nowhere = replace(settings.state, database=_NO_STATE, key=_NO_STATE, password=None)
        settings = replace(settings, state=replace(nowhere, directory=_NO_STATE.parent))
    return Salvaged(settings, is_trusted, has_state)


def _values(text: str) -> tuple[dict[str, object], bool]:
    """Return the values of a text, and whether a table `[state]` may be missing from the values:
    because its name is misspelt, or because it stands in broken TOML. Broken TOML is read table by
    table.
    """
    with suppress(ValueError, RecursionError):
        values = tomllib.loads(text)
        is_misspelt = any(nearest(key, (_STATE,)) for key in values)
        return values, _STATE not in values and is_misspelt
    tables_read: dict[str, object] = {}
    for part in _TABLE.split(text):
        with suppress(ValueError, RecursionError):
            _merge(tables_read, tomllib.loads(part))
    return tables_read, _STATE not in tables_read


def _merge(into: dict[str, object], more: Mapping[str, object]) -> None:
    for key, value in more.items():
        present = into.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            _merge(present, value)
        else:
            into.setdefault(key, value)


def _unused(settings: Settings) -> list[model.AccountTable]:
    """Return the accounts that no certificate uses, except accounts whose `type` has a mistake."""
    named = set().union(*_named_by(settings.certificates).values())
    return [
        account
        for account in settings.accounts.values()
        if account.type and account.label not in named
    ]


def wrong_accounts(settings: Settings, adapters: Adapters) -> Iterator[ConfigError]:
    """Yield an error for each channel with wrong settings, and for each account with wrong settings
    that a certificate uses. Runs no program to resolve secrets.
    """
    named = [
        (settings.accounts[label], group)
        for group, labels in _named_by(settings.certificates).items()
        for label in labels
        if label in settings.accounts
    ]
    named += ((channel.account, NOTIFY_GROUP) for channel in settings.channels.values())
    for account, group in named:
        try:
            adapters.check(account, group, settings.secrets.resolve_at_rest)
        except ConfigError as error:
            yield error


def _named_by(declared: Collection[DesiredCertificate]) -> Mapping[str, set[str]]:
    """Return the labels of the accounts that certificates use, by the group of the adapter's entry
    point.
    """
    deployed = {deployment.target for desired in declared for deployment in desired.deployments}
    return {
        DNS_GROUP: {account for desired in declared for account in desired.dns_accounts},
        TARGET_GROUP: deployed,
        SERVER_GROUP: deployed,
    }
