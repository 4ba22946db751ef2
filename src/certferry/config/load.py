"""The settings: from a file, or from the environment alone."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from certferry.config.certificates import read_certificates
from certferry.config.check import (
    issuance_of,
    read_accounts,
    read_acme,
    read_channels,
    read_dns,
    read_monitoring,
    read_state,
    read_verify,
    unseen_records,
    wrong_bindings,
)
from certferry.config.document import Document, Place, document_of, read_document
from certferry.config.env_files import ASSIGNMENTS_ONLY, EnvFile, fill_in, take_env_files
from certferry.config.files import (
    Paths,
    home_directory,
    is_anothers,
    read_file,
    read_untrusted_file,
)
from certferry.config.mistakes import REFERENCE, Mistake, config_error, joined, nearest
from certferry.config.model import (
    AccountTable,
    AcmeSettings,
    Adapters,
    ChannelTable,
    Monitoring,
    NoAdapters,
    Settings,
    StateSettings,
    UsualAccount,
    UsualAccounts,
)
from certferry.config.secrets import Resolve, SecretReference, Secrets
from certferry.config.values import TomlTable
from certferry.core.desired.certificate import DesiredCertificate, PemFiles
from certferry.core.secret import names_a_secret
from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted
from certferry.ports.adapter import DNS_GROUP, NOTIFY_GROUP, TARGET_GROUP, Variable
from certferry.text import Text

VARIABLE = "CERTFERRY_CONFIG"
NAME = "certferry.toml"


def find_file(chosen: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read: the chosen one, the environment's, or the first that exists.

    The first two count whether they exist or not: an operator who names a file wants no other.
    """
    if chosen is not None:
        return chosen
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    # A link that leads nowhere is found too, so that reading it reports what is wrong.
    return next((path for path in usual_places(environ) if os.path.lexists(path)), None)


def usual_places(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the places that are searched, in order.

    Where `$XDG_CONFIG_HOME` says that settings lie elsewhere, that comes before `~/.config`. Root
    does not read the current directory when that is another user's.
    """
    home = home_directory(environ) / ".config"
    chosen = environ.get("XDG_CONFIG_HOME") or str(home)
    folders = dict.fromkeys([Path(chosen), home, Path("/etc")])
    here = () if is_left_alone_here() else (Path(NAME),)
    return (*here, *(folder / "certferry" / NAME for folder in folders))


def is_left_alone_here() -> bool:
    """Return whether the caller is root, in a directory in which others could put a configuration:
    that names what is run.
    """
    return os.geteuid() == 0 and is_anothers(Path())


_NO_FILE = Document(None, {})
NO_ADAPTERS = NoAdapters()

WITHOUT_FILE = Text(
    "without a configuration file, the keys are taken from the environment: `export NAME=…` for"
    " each"
)
NAMES_WITHOUT_FILE = Text(
    "certferry found no configuration file, so each NAME is a domain name; name the file with"
    " --config FILE, or run certferry in its directory"
)


def load(
    path: Path | None, environ: Mapping[str, str], adapters: Adapters = NO_ADAPTERS
) -> Settings:
    """Read the settings from a file: the given one, or the first of the usual places.

    Raises `ConfigError` with everything that is wrong, one mistake per line. What is wrong with the
    accounts that certificates name is reported when they are connected; with `adapters`, along with
    the rest if there is any. An account that none names must be of a known type.
    """
    found = find_file(path, environ)
    if found is None:
        raise _not_found(environ)
    return _read(read_document(found), environ, adapters=adapters, check=adapters.check)


def load_state(chosen: Path | None, environ: Mapping[str, str]) -> StateSettings:
    """Read where the state lies, from the configuration file if there is one, and nothing else of
    it: keys and files that it names need not be there. Raises `ConfigError`.
    """
    found = find_file(chosen, environ)
    document = _NO_FILE if found is None else read_document(found)
    mistakes: list[Mistake] = []
    root = TomlTable(document.values, Place(document), mistakes)
    paths = Paths.beside(document.path, environ)
    state = read_state(root.table("state"), paths, default_directory(environ, os.geteuid()))
    if mistakes:
        raise config_error(mistakes)
    return state


def load_text(
    text: str, path: Path, environ: Mapping[str, str], adapters: Adapters = NO_ADAPTERS
) -> Settings:
    """Read the settings from a text that is to become a file. Raises `ConfigError`."""
    return _read(document_of(path, text), environ, adapters=adapters)


def load_before(document: Document, path: Path, environ: Mapping[str, str]) -> Settings:
    """Read the settings from values that are to become the file at a path, relative to which they
    are; what is wrong with them is reported as of the document. Raises `ConfigError`.
    """
    return _read(document, environ, beside=path)


def from_environment(
    names: Sequence[str], environ: Mapping[str, str], usual: UsualAccounts, adapters: Adapters
) -> Settings:
    """Make settings without a file: one lineage of these names, proven and served by the usual
    accounts.

    Raises `ConfigError` that names every variable that is missing, and every wrong name.
    """
    dns, target = usual.dns, usual.target
    certificate = {"names": list(names), "dns": dns.type, "deploy": [{"to": target.type}]}
    needed = {dns.type: dns.variables, target.type: target.variables}
    return _declared(certificate, needed, environ, adapters)


def from_client(
    name: str,
    files: PemFiles,
    environ: Mapping[str, str],
    target: UsualAccount,
    given: Settings | None,
    adapters: Adapters,
) -> Settings:
    """Make settings of a certificate that another client has renewed, served by the usual target:
    without a file, or with `given` ones that declare no certificate. Only that account's keys are
    needed.

    Raises `ConfigError` that names every variable that is missing.
    """
    labels, document = [target.type], _NO_FILE
    if given is not None and given.path is not None:
        known = [a.label for a in given.accounts.values() if a.type == target.type]
        labels = known or labels
        environ = fill_in(environ, given.env_files)
        document = read_document(given.path)
    if given is not None and len(labels) > 1:
        raise ConfigError(
            Text(
                "{path} has several accounts of {service}'s: {labels}",
                path=given.path,
                service=target.service,
                labels=labels,
            ),
            hint=Text("declare the certificate under [[certificates]], with where it is to go"),
        )
    certificate = {
        "name": name,
        "fullchain": files.fullchain,
        "privkey": files.privkey,
        "deploy": [{"to": labels[0]}],
    }
    return _declared(certificate, {labels[0]: target.variables}, environ, adapters, document)


def without_certificates(
    environ: Mapping[str, str], accounts: Iterable[UsualAccount], adapters: Adapters
) -> Settings:
    """Make settings without a file that declare no certificate: usual accounts alone.

    Raises `ConfigError` that names every variable that is missing.
    """
    return _declared(None, {one.type: one.variables for one in accounts}, environ, adapters)


def default_directory(environ: Mapping[str, str], user: int) -> Path:
    """Return the directory of the state for a user id: `$XDG_DATA_HOME/certferry` where that is
    set; else the system's for root, and the user's own.
    """
    chosen = environ.get("XDG_DATA_HOME")
    if chosen:
        return Path(chosen) / "certferry"
    if user == 0:
        return Path("/var/lib/certferry")
    return Paths.beside(None, environ).home / ".local" / "share" / "certferry"


def _not_found(environ: Mapping[str, str]) -> ConfigError:
    places = usual_places(environ)
    hint = Text("name the file with --config FILE, or have one written here: certferry init")
    if is_left_alone_here():
        hint = Text(
            "root does not read {name} here, since others can write to this directory; to write one"
            " elsewhere: certferry init --output {place}",
            name=NAME,
            place=places[-1],
        )
    return ConfigError(
        Text("there is no configuration; looked for {places}", places=places), hint=hint
    )


def _declared(
    certificate: Mapping[str, object] | None,
    needed: Mapping[str, Sequence[Variable]],
    environ: Mapping[str, str],
    adapters: Adapters,
    document: Document = _NO_FILE,
) -> Settings:
    """Make settings of a document and one certificate more, if there is one. The keys that the
    accounts lack are taken from the environment.
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
                    not_set = Mistake(None, None, "", names, problem.filled(what=variable.what))
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
    check: Check = NO_ADAPTERS.check,
) -> Settings:
    """Check everything there is to check, and only then complain."""
    settings, collected = as_far_as_read(document, environ, mistakes, beside, adapters)
    acme, env_files = settings.acme, settings.env_files
    resolve = settings.secrets.resolve_at_rest
    collected += wrong_bindings(acme, Place(document).below("acme"), resolve)
    collected += adapters.unknown_types(unused(settings.accounts, settings.certificates))
    collected += unseen_records(acme, settings.dns, Place(document).below("acme"))
    collected += [mistake for file in env_files for mistake in file.mistakes]
    if collected:
        wrong = config_error(collected, _hint(document, collected, env_files))
        # The variables of a file that could not be read may well be set in it.
        named = document.values.get("env_files", [])
        is_known = isinstance(named, list) and len(named) == len(env_files)
        raise joined([wrong, *(wrong_accounts(settings, check) if is_known else ())])
    return settings


def as_far_as_read(
    document: Document,
    environ: Mapping[str, str],
    mistakes: Sequence[Mistake] = (),
    beside: Path | None = None,
    adapters: Adapters = NO_ADAPTERS,
) -> tuple[Settings, list[Mistake]]:
    """Read what can be read of a document, with defaults for the rest; return what is wrong too."""
    collected = list(mistakes)
    root = TomlTable(document.values, Place(document), collected)
    paths = Paths.beside(beside or document.path, environ)
    env_files = take_env_files(root, paths)
    acme = read_acme(root.table("acme"), paths)
    dns = read_dns(root.table("dns"))
    everything = fill_in(environ, env_files)
    accounts = {
        label: _with_keys(account, everything, adapters)
        for label, account in read_accounts(root.table("accounts")).items()
    }
    channels = read_channels(root.table("notify"))
    monitoring = read_monitoring(root, paths)
    certificates, places = read_certificates(
        root,
        accounts,
        acme.key_type,
        issuance_of(acme),
        paths,
        lambda label: adapters.options_of(accounts[label].type if label in accounts else label),
    )
    settings = Settings(
        path=document.path,
        state=read_state(root.table("state"), paths, default_directory(environ, os.geteuid())),
        acme=acme,
        dns=dns,
        verify=read_verify(root.table("verify"), paths, dns),
        accounts=MappingProxyType(accounts),
        certificates=certificates,
        declared=certificates,
        places=MappingProxyType(places),
        secrets=Secrets(
            everything,
            paths,
            references=_references(accounts, acme, channels, monitoring),
            usual=partial(adapters.variables, {account.type for account in accounts.values()}),
            # Also what they do not fill in: a program may read them itself.
            files=[file.values for file in env_files],
        ),
        env_files=env_files,
        channels=MappingProxyType(channels),
        monitoring=monitoring,
    )
    root.done()
    return settings, collected


def _with_keys(
    account: AccountTable, environ: Mapping[str, str], adapters: Adapters
) -> AccountTable:
    """Add the keys of the environment to an account whose table has none. Half of them is no
    account: what the table lacks is reported then.
    """
    written = {key: value for key, value in account.values.items() if isinstance(value, str)}
    if any(is_a_secrets_key(k) or not SecretReference(v).is_literal for k, v in written.items()):
        return account
    keys = adapters.keys_in(environ, account)
    return replace(account, values=MappingProxyType({**account.values, **keys}))


def _references(
    accounts: Mapping[str, AccountTable],
    acme: AcmeSettings,
    channels: Mapping[str, ChannelTable],
    monitoring: Monitoring,
) -> list[SecretReference]:
    """Return all references, and the literals that are secrets; the address of a webhook is one."""
    tables = [(account, False) for account in accounts.values()]
    tables += [(channel.account, True) for channel in channels.values()]
    found = [ca.eab_hmac_key for ca in acme.authorities]
    found.append(monitoring.heartbeat)
    for account, is_channel in tables:
        for key, written in account.values.items():
            if isinstance(written, str):
                reference = SecretReference(written)
                is_secret = is_a_secrets_key(key) or (is_channel and key == "url")
                if is_secret or not reference.is_literal:
                    found.append(reference)
    return list(filter(None, found))


def is_a_secrets_key(key: str) -> bool:
    """Return whether an account's key holds a secret, whatever its adapter. The `id` of a token is
    half of what is sent.
    """
    return key == "id" or names_a_secret(key)


def _hint(document: Document, mistakes: Sequence[Mistake], env_files: Sequence[EnvFile]) -> Text:
    in_env_files = {mistake.path for file in env_files for mistake in file.mistakes}
    if in_env_files and in_env_files >= {mistake.path for mistake in mistakes}:
        return ASSIGNMENTS_ONLY
    usual = REFERENCE if document.path else _without_file(mistakes)
    return Text("{one}; {other}", one=usual, other=ASSIGNMENTS_ONLY) if in_env_files else usual


def _without_file(mistakes: Sequence[Mistake]) -> Text:
    """Return where keys are taken from; of a wrong name, why it was taken for one."""
    about_names = {mistake.key == "names" for mistake in mistakes}
    if len(about_names) > 1:
        return Text("{one}; {other}", one=NAMES_WITHOUT_FILE, other=WITHOUT_FILE)
    return NAMES_WITHOUT_FILE if True in about_names else WITHOUT_FILE


_STATE = "state"
_WANTED = ("env_files", _STATE, "notify", "heartbeat")
_TABLE = re.compile(r"^(?=[ \t]*\[)", re.MULTILINE)

_NO_STATE = Path(os.devnull, "state.db")
"""Where there can be none."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The channels that can be read. Unless it `is_trusted`, another user may have written the
    file; unless it `has_state`, where the state lies is not known.
    """

    settings: Settings
    is_trusted: bool
    has_state: bool


def salvage(path: Path | None, environ: Mapping[str, str]) -> Salvaged | None:
    """Read the channels from the file that could not be read; `None` where it cannot be read for
    that either. Of a file that other users may have written, the state is not taken.
    """
    found = find_file(path, environ)
    if found is None:
        return None
    is_trusted = True
    try:
        data = read_file(found).data
    except ConfigError as wrong:
        if not isinstance(wrong.__cause__, NotTrusted):
            return None
        is_trusted = False
        try:
            data = read_untrusted_file(found)
        except OSError:
            return None
    text = data.decode("utf-8-sig", errors="replace")
    values, may_lack_state = _values(text)
    # Not `readable_by_others`: that is what the message says, and no reason not to send it. Nor is
    # there a line in it: of a text that is not TOML none can be counted.
    settings, mistakes = as_far_as_read(Document(found, values), environ)
    settings = replace(settings, monitoring=Monitoring(settings.monitoring.heartbeat))
    is_wrong = may_lack_state or any(one.table == "[state]" for one in mistakes)
    has_state = is_trusted and not is_wrong
    if not has_state:
        settings = replace(settings, state=StateSettings(_NO_STATE, _NO_STATE))
    return Salvaged(settings, is_trusted, has_state)


def _values(text: str) -> tuple[dict[str, object], bool]:
    """Read the wanted tables, each by itself where the whole is not TOML; return too whether there
    may be a `[state]` that was not read.
    """
    with suppress(ValueError, RecursionError):
        values = tomllib.loads(text)
        is_misspelt = any(nearest(key, (_STATE,)) for key in values)
        return _wanted(values), _STATE not in values and is_misspelt
    found: dict[str, object] = {}
    for part in _TABLE.split(text):
        with suppress(ValueError, RecursionError):
            _merge(found, _wanted(tomllib.loads(part)))
    return found, _STATE not in found


def _wanted(values: Mapping[str, object]) -> dict[str, object]:
    return {key: values[key] for key in _WANTED if key in values}


def _merge(into: dict[str, object], more: Mapping[str, object]) -> None:
    for key, value in more.items():
        known = into.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        else:
            into.setdefault(key, value)


Check = Callable[[AccountTable, str, Resolve], None]
"""See `Adapters.check`."""


def unused(
    accounts: Mapping[str, AccountTable], declared: Collection[DesiredCertificate]
) -> list[AccountTable]:
    """Return the accounts that no certificate names, but for those whose type cannot be read."""
    named = set().union(*_named_by(declared).values())
    return [one for one in accounts.values() if one.type and one.label not in named]


def wrong_accounts(settings: Settings, check: Check) -> Iterator[ConfigError]:
    """Return what is wrong with the accounts that certificates name, but for what only a program
    knows, and with the channels of notifications.
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
            check(account, group, settings.secrets.resolve_at_rest)
        except ConfigError as error:
            yield error


def _named_by(declared: Collection[DesiredCertificate]) -> Mapping[str, set[str]]:
    """Return the labels that certificates name, by the group of entry points of the adapter."""
    return {
        DNS_GROUP: {account for one in declared for account in one.dns_accounts},
        TARGET_GROUP: {d.target for one in declared for d in one.deployments},
    }
