"""What `certferry init` knows before it looks at an account: another client's home, an operator's
own settings, which services there are accounts of, keys, an address.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from certferry.cli.init_files import Files
from certferry.cli.init_keys import Keys, Takes, Wanted, found, gather
from certferry.cli.interview import Interview
from certferry.config.addresses import email_address
from certferry.config.check import RESERVED
from certferry.config.document import Document, read_document
from certferry.config.env_files import EnvFile, env_files_of
from certferry.config.findings import instead_of
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.migration.home import OldHome
from certferry.text import Text
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS, Family
from certferry.wiring.settings import Service, offered


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    client: str | None
    home: Path | None
    files: Files
    settings: Path | None = None
    email: str | None = None
    keep_client: bool = False


def must_have_certificates(home: OldHome) -> None:
    """Raise `ConfigError` for a home from which nothing can be taken."""
    if home.certificates:
        return
    said = Text("no certificate of {client}'s is in {home}")
    hint = Text("name the client's directory with --home")
    if home.unreadable:
        said = Text("no certificate of {client}'s in {home} can be read")
        hint = Text(
            "see the warnings above; if the files are another user's, run this as that user"
        )
    raise ConfigError(said.filled(client=home.client.value, home=home.home), hint=hint)


def settings_to_begin_with(path: Path | None) -> Document:
    """Read an operator's own settings; they are empty where no file is named."""
    if path is None:
        return Document(None, {})
    document = read_document(path)
    if "certificates" in document.values:
        raise ConfigError(
            Text("{path} declares certificates", path=path),
            hint=Text("leave them out: `certferry init` proposes the certificates"),
        )
    return document


def env_files_in(given: Document, files: Files, environ: Mapping[str, str]) -> tuple[EnvFile, ...]:
    """Read the environment files that the given settings name; then no other can be named."""
    found = env_files_of(given, files.config, environ)
    others = files.named(already=[file.path for file in found])
    if "env_files" in given.values and others:
        said = Text(
            "{path} names its own env_files, without {others}", path=given.path, others=others
        )
        raise ConfigError(said, hint=Text("add it there"))
    return found


@dataclass(frozen=True, slots=True)
class Known:
    """The keys, and the labels of the accounts that are looked at: where names are proven, where
    they are served. They are empty where there is no such account.
    """

    keys: Keys
    dns: str
    target: str


def keys_of(
    asked: Asked,
    home: OldHome | None,
    given: Document,
    environ: Mapping[str, str],
    interview: Interview | None,
    takes: Takes,
) -> Known:
    """Find the keys that the given settings do not have. Raises `ConfigError`."""
    there = given.tables("accounts")
    theirs = home.keys if home else {}
    # Where nothing is to be issued, it makes no difference who could prove a name.
    families = [TARGETS] if asked.keep_client else [DNS_PROVIDERS, TARGETS]
    types = {str(table.get("type", label)) for label, table in there.items()}
    services = {f.group: _chosen(f, types, environ, theirs, interview) for f in families}
    labels = {group: _label_of(service.type, there) for group, service in services.items()}
    wanted = {
        labels[group]: Wanted(
            service,
            labels[group],
            frozenset(there.get(labels[group], {})),
            # What a client made may go to files alone.
            optional=home is not None and service is not services.get(DNS_PROVIDERS.group),
        )
        for group, service in services.items()
    }
    keys = _gathered(list(wanted.values()), asked, given, environ, theirs, interview, takes)
    known = {*there, *(account.label for account in keys.accounts)}
    dns, target = (labels.get(family.group, "") for family in (DNS_PROVIDERS, TARGETS))
    return Known(keys, dns, target if target in known else "")


def _chosen(
    family: Family,
    declared: Collection[str],
    environ: Mapping[str, str],
    inherited: Mapping[str, Secret],
    interview: Interview | None,
) -> Service:
    """Choose the service of a family that an account is to be of; `declared` are the types of the
    accounts that the operator's own settings have.

    It is asked for where there are several, unless the keys of one alone are there. Without an
    interview, accounts count for more than keys, and the usual service comes first.
    """
    services = offered(family)
    ready = [one for one in services if one.type in declared]
    keyed = [
        one
        for one in services
        if one in ready or any(found(q, environ, inherited) for q in one.questions)
    ]
    if interview is None or len(services) == 1:
        return (ready or keyed or services)[0]
    return keyed[0] if len(keyed) == 1 else _asked(family, services, interview)


def _asked(family: Family, services: Sequence[Service], interview: Interview) -> Service:
    by_type = {service.type: service for service in services}

    def read(answer: str) -> Service:
        if answer not in by_type:
            raise ConfigError(
                Text(
                    "{type} is no {role}; {advice}",
                    type=answer,
                    role=family.role,
                    advice=instead_of(answer, list(by_type)),
                )
            )
        return by_type[answer]

    usual, *_ = services
    question = Text(
        "{role}: {services} (Enter for {usual})",
        role=family.role,
        services=[Text("{type} ({service})", type=s.type, service=s.name) for s in services],
        usual=usual.type,
    )
    return interview.ask_for(question, read) or usual


def _gathered(
    wanted: Sequence[Wanted],
    asked: Asked,
    given: Document,
    environ: Mapping[str, str],
    theirs: Mapping[str, Secret],
    interview: Interview | None,
    takes: Takes,
) -> Keys:
    if "env_files" not in given.values:
        return gather(wanted, environ, theirs, interview, takes=takes)
    # Keys that could be written nowhere are not asked for.
    hint = Text("set them, or put them into one of the env_files of {path}", path=given.path)
    keys = gather(wanted, environ, theirs, None, hint)
    if keys.fresh:
        said = Text(
            "{path} names its own env_files, and only {client} has {names}",
            path=given.path,
            client=asked.client,
            names=list(keys.fresh),
        )
        raise ConfigError(said, hint=hint)
    return keys


def address(asked: Asked, home: OldHome | None, interview: Interview | None) -> str | None:
    """Give the address that the CA may write to, if there is one."""
    known = asked.email or (home.email if home else None)
    if known is not None:
        with suppress(ConfigError):  # what a client holds may be none
            return email_address(known)
    if interview is None:
        return None
    question = Text("Contact email for the CA (optional; Enter to skip)")
    return interview.ask_for(question, email_address)


def _label_of(type_: str, accounts: Mapping[str, Mapping[str, object]]) -> str:
    """Give the label of the account of a type, which is called like it where there is none, as far
    as that is no word of the file's.
    """
    labels = (label for label, table in accounts.items() if table.get("type", label) == type_)
    return next(labels, f"my-{type_}" if type_ in RESERVED else type_)
