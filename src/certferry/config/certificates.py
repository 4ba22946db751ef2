"""The tables of wishes: `[[certificates]]`, and `[[certificates.deploy]]` below each."""

from __future__ import annotations

import os
import os.path
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import PurePath
from types import MappingProxyType
from typing import TypeVar

from certferry.config.adapters import ReadOptions
from certferry.config.check import RESERVED, key_type
from certferry.config.dns_accounts import account_among, read_dns_accounts
from certferry.config.document import Place
from certferry.config.files import Paths
from certferry.config.mistakes import Mistake, nearest
from certferry.config.table import Table
from certferry.config.values import Read, one_name, one_of, seconds, string, word, wrong_type
from certferry.core.certificates import names as identifiers
from certferry.core.certificates.certificate import KeyType
from certferry.core.certificates.names import domain_of, is_glob, read_pattern, takes_all
from certferry.core.desired.certificate import (
    KEY_MODE,
    MODE,
    CommandDelivery,
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    DriftPolicy,
    FileDelivery,
    Issuance,
    Kind,
    OnFailure,
    PemFiles,
    Program,
    Retirement,
    delivered,
)
from certferry.core.planning.choice import AUTO
from certferry.errors import ConfigError
from certferry.text import Text

DOMAIN_KEYS = frozenset({"domains", "exclude"})

Named = MutableMapping[tuple[str, str], str]
"""Which lineage names a domain, by the account and the domain."""


@dataclass(frozen=True, slots=True)
class Domains:
    """What a deployment says of its domains, as `core.desired.certificate.DesiredDeployment` has
    it.
    """

    domains: tuple[str, ...] | None
    globs: tuple[str, ...]
    exclude: tuple[str, ...]


def read_domains(table: Table, names: tuple[str, ...]) -> Domains:
    """Read them. `names` are the certificate's, none where its files have not been read. What is
    excluded is taken out of the names; that something is left, as far as it can be told, is looked
    at.
    """
    patterns = table.take_list("domains", _pattern, None, instead=AUTO)
    exclude = tuple(dict.fromkeys(table.take_list("exclude", _pattern, (), empty=True)))
    meant = names if patterns is None else patterns
    left = [one for one in meant if not _is_excluded(one, exclude)]
    if meant and exclude and not left:
        table.report("exclude", _nothing_left(patterns))
    if patterns is None:
        return Domains(None, (), exclude)
    return Domains(
        domains=tuple(dict.fromkeys(domain_of(one) for one in left if not is_glob(one))),
        globs=tuple(dict.fromkeys(one for one in left if is_glob(one))),
        exclude=exclude,
    )


def report_twice_named(table: Table, certificate: DesiredCertificate, named: Named) -> None:
    """Report what another deployment to the account names already: the domain would be bound to
    both in turns for ever.
    """
    for deployment in certificate.deployments:
        if deployment.delivery is not None:  # what is shared there has its own sentence
            continue
        for domain in deployment.domains or ():
            place = (deployment.target, domain)
            if place in named:
                table.report("deploy", _named_already(*place, named[place], certificate.lineage))
            named.setdefault(place, certificate.lineage)


def _named_already(target: str, domain: str, other: str, lineage: str) -> Text:
    if other == lineage:
        return Text("two deployments to {target} name {domain}", target=target, domain=domain)
    return Text("{lineage} names {domain} already", lineage=other, domain=domain)


def _pattern(value: object) -> str:
    return read_pattern(one_name(value))


def _is_excluded(pattern: str, exclude: Iterable[str]) -> bool:
    return any(takes_all(wide, pattern) for wide in exclude)


def _nothing_left(patterns: tuple[str, ...] | None) -> Text:
    if patterns is None:
        return Text(
            "excludes every domain that the certificate covers; remove those that are to be served"
        )
    return Text(
        "excludes every domain of `domains` ({patterns}); remove those that are to be served",
        patterns=list(patterns),
    )


RELOAD_TIMEOUT = timedelta(seconds=60)
COMMAND_TIMEOUT = timedelta(minutes=5)

SETTINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        Kind.FILES.value: (
            "directory",
            "owner",
            "group",
            "mode",
            "key_mode",
            "reload",
            "timeout",
        ),
        Kind.COMMAND.value: ("command", "name", "timeout"),
    }
)
"""Words that a deployment can name in place of an account, and what it can say then."""

_OPERATORS = frozenset({"&&", "||", "|", "&", ";", ">", ">>", "<", "2>", "2>&1", "&>"})
_MODE = re.compile(r"0?[0-7]{3}")
_OWNER_READS, _OTHERS, _OTHERS_WRITE, _RUN_OR_SPECIAL = 0o400, 0o007, 0o002, ~0o666

Taken = MutableMapping[tuple[str, str], Place]
"""Which receivers are spoken for, and where: by their kind, or their lineage, and their name."""


def read_delivery(
    to: str, lineage: str, table: Table, paths: Paths, taken: Taken
) -> DesiredDeployment:
    """Read one. Where something is wrong it has a hole, and loading fails."""
    delivery: FileDelivery | CommandDelivery
    if to == Kind.FILES.value:
        delivery = _files(table, paths)
        # A directory holds one certificate, whichever lineage it belongs to and whatever leads
        # there.
        place = delivery.directory and os.path.realpath(delivery.directory)
        _must_be_free(table, "directory", (to, place), taken)
    else:
        delivery = _command(table, paths)
        _must_be_free(table, "name", (lineage, delivery.label), taken)
    return delivered(delivery)


def _files(table: Table, paths: Paths) -> FileDelivery:
    if "directory" not in table:
        table.report("directory", Text("missing: where the four PEM files are to lie"))
    if "timeout" in table and "reload" not in table:
        table.report("timeout", Text("only with `reload`, which it is for"))
    reload = table.take("reload", _arguments(paths), None)
    timeout = table.take("timeout", seconds, RELOAD_TIMEOUT)
    return FileDelivery(
        directory=table.take("directory", _directory(paths), ""),
        owner=table.take("owner", word, None),
        group=table.take("group", word, None),
        mode=table.take("mode", _mode, MODE),
        key_mode=table.take("key_mode", _key_mode, KEY_MODE),
        reload=None if reload is None else Program(reload, str(paths.directory), timeout),
    )


def _command(table: Table, paths: Paths) -> CommandDelivery:
    if "command" not in table:
        table.report("command", Text("missing: the command to run for the certificate"))
    arguments = table.take("command", _arguments(paths), ("",))
    program = Program(
        arguments, str(paths.directory), table.take("timeout", seconds, COMMAND_TIMEOUT)
    )
    return CommandDelivery(table.take("name", word, PurePath(arguments[0]).name), program)


def _must_be_free(table: Table, key: str, name: tuple[str, str], taken: Taken) -> None:
    if not name[1]:
        return
    first = taken.setdefault(name, table.place)
    if first is table.place:
        return
    if key == "directory":
        problem = Text(
            "{name} belongs to line {line} already; choose another directory",
            name=name[1],
            line=first.line,
        )
    else:
        problem = Text(
            "{name} is run for this certificate already, at line {line}; give one of them another"
            " `name`",
            name=name[1],
            line=first.line,
        )
    table.report(key if key in table else "command", problem)


def _directory(paths: Paths) -> Read[str]:
    return lambda value: os.path.normpath(paths.resolve(word(value)))


def _arguments(paths: Paths) -> Read[tuple[str, ...]]:
    """Make a reader of what is run: a list, or a string that is split as a shell would."""

    def read(value: object) -> tuple[str, ...]:
        written = _listed(value) if isinstance(value, list) else _split(value)
        program = word(written[0])
        if "/" in program:
            program = str(paths.resolve(program))
        return (program, *written[1:])

    return read


def _listed(value: list[object]) -> list[str]:
    if not value:
        raise ConfigError(Text("is an empty list"))
    return [_argument(item) for item in value]


def _argument(value: object) -> str:
    written = string(value)
    if "\0" in written:
        raise ConfigError(Text("contains a character that cannot be printed"))
    return written


def _split(value: object) -> list[str]:
    if not isinstance(value, str):
        raise wrong_type(Text("a string or a list"), value)
    try:
        written = shlex.split(word(value))
    except ValueError as exc:
        raise ConfigError(Text("cannot be read: {problem}", problem=str(exc).lower())) from None
    if not written:
        raise ConfigError(Text("is empty"))
    operator = next((part for part in written if part in _OPERATORS or part.endswith(";")), None)
    if operator is not None:
        raise ConfigError(
            Text(
                '{operator} means nothing without a shell; write ["sh", "-c", "…"], or the path of'
                " a script",
                operator=operator,
            )
        )
    return written


def _mode(value: object) -> int:
    written = string(value)
    if not _MODE.fullmatch(written):
        raise ConfigError(Text('must be an octal mode in quotes, such as "0644"'))
    mode = int(written, 8)
    if mode & _RUN_OR_SPECIAL or not mode & _OWNER_READS or mode & _OTHERS_WRITE:
        raise ConfigError(
            Text("must let the owner read, no user run and not every user write, such as 0644")
        )
    return mode


def _key_mode(value: object) -> int:
    mode = _mode(value)
    if mode & _OTHERS:
        raise ConfigError(Text("would open the private key to every user; write 0600 or 0640"))
    return mode


E = TypeVar("E", bound=StrEnum)

MOST_NAMES = 100
"""Names in one certificate, as Let's Encrypt has it (docs/facts/letsencrypt.md §1.1)."""

_LINEAGE = re.compile(r"(?!\.\.?\Z)[^\s/\\-][^\s/\\]*")
_COMMON = frozenset({"to", "retire", "drift", "on_failure"}) | DOMAIN_KEYS
"""What a deployment can be told whatever its target."""

OptionsOf = Callable[[str], ReadOptions | None]
"""Gives what reads the settings of deployments to an account, or to one of a type of that name;
`None` where that is not known.
"""


def read_certificates(
    root: Table,
    accounts: Collection[str],
    default_key: KeyType,
    issuance: Issuance,
    paths: Paths,
    options_of: OptionsOf,
) -> tuple[tuple[DesiredCertificate, ...], dict[str, Place]]:
    """Read every declared certificate, and where each lineage is declared."""
    found: list[DesiredCertificate] = []
    places: dict[str, Place] = {}
    taken: dict[tuple[str, str], Place] = {}
    named: Named = {}
    for table in root.tables("certificates"):
        certificate = _certificate(table, accounts, default_key, issuance, paths, taken, options_of)
        if certificate.lineage in places:
            _report_twin(table, certificate.lineage, places[certificate.lineage])
        places.setdefault(certificate.lineage, table.place)
        report_twice_named(table, certificate, named)
        found.append(certificate)
    return tuple(found), places


def with_equal_names(
    declared: Iterable[DesiredCertificate], places: Mapping[str, Place]
) -> Iterator[Mistake]:
    """Tell of each certificate that has the names and the kind of key of one above it: most likely
    a copy, which has nothing left to serve. It is no mistake that keeps a file from being read.
    """
    first: dict[tuple[frozenset[str], KeyType], str] = {}
    for desired in declared:
        key = (frozenset(desired.names), desired.key_type)
        other = first.setdefault(key, desired.lineage)
        if not desired.names or other == desired.lineage:
            continue
        problem = Text(
            "{lineage} has the same names as {other}, at line {line}: one certificate can be"
            " deployed to several places",
            lineage=desired.lineage,
            other=other,
            line=places[other].line,
        )
        yield places[desired.lineage].mistake("names", problem)


def _certificate(
    table: Table,
    accounts: Collection[str],
    default_key: KeyType,
    issuance: Issuance,
    paths: Paths,
    taken: Taken,
    options_of: OptionsOf,
) -> DesiredCertificate:
    """Read one certificate. Where something is wrong it has a hole, and loading fails."""
    lineage = table.take("name", _lineage, None)
    if "fullchain" in table or "privkey" in table:
        certificate = _imported(table, lineage, paths)
    else:
        certificate = _issued(table, lineage, accounts, default_key, issuance)
    if certificate.files is not None:
        source = os.path.realpath(PurePath(certificate.files.fullchain).parent)
        taken.setdefault((Kind.FILES.value, source), table.place)
    deployments = tuple(
        _deployment(deploy, certificate, accounts, paths, taken, options_of)
        for deploy in table.tables("deploy")
    )
    table.done()
    return replace(certificate, deployments=deployments)


def _issued(
    table: Table,
    lineage: str | None,
    accounts: Collection[str],
    default_key: KeyType,
    issuance: Issuance,
) -> DesiredCertificate:
    names = _names(table)
    dns, zones = read_dns_accounts(table, names, account_among(accounts), issuance)
    return DesiredCertificate(
        lineage=lineage or next(iter(names), str(table.place.trail)),
        names=names,
        dns=dns,
        dns_zones=zones,
        key_type=table.take("key_type", key_type, default_key),
        issuance=issuance,
    )


def _imported(table: Table, lineage: str | None, paths: Paths) -> DesiredCertificate:
    """Read a certificate that is made elsewhere. Without a name it is called like its directory,
    as its client called it.
    """
    for key in ("fullchain", "privkey"):
        if key not in table:
            table.report(key, Text("missing: a certificate from files needs its key as well"))
    for key in ("names", "dns", "key_type"):
        if key in table:
            table.report(key, Text("not with `fullchain`: the client that made the files decides"))
            table.allow(key)
    fullchain, privkey = (table.take(key, _path(paths), "") for key in ("fullchain", "privkey"))
    called = PurePath(os.path.normpath(fullchain)).parent.name
    return DesiredCertificate(
        lineage=lineage or called or str(table.place.trail),
        names=(),
        files=PemFiles(fullchain, privkey),
    )


def _path(paths: Paths) -> Read[str]:
    return lambda value: str(paths.resolve(word(value)))


def _names(table: Table) -> tuple[str, ...]:
    if "names" not in table:
        table.report("names", Text("missing: the names that the certificate is for"))
    names = tuple(dict.fromkeys(table.take_list("names", _name, ())))
    if len(names) > MOST_NAMES:
        table.report(
            "names",
            Text(
                "{count} names; a certificate can have {most}: split them into several"
                " [[certificates]]",
                count=len(names),
                most=MOST_NAMES,
            ),
        )
    return names


def _deployment(
    table: Table,
    certificate: DesiredCertificate,
    accounts: Collection[str],
    paths: Paths,
    taken: Taken,
    options_of: OptionsOf,
) -> DesiredDeployment:
    if "to" not in table:
        table.report("to", Text("missing: the account that serves the certificate"))
    target = table.take("to", _target(accounts, options_of), "")
    if target in RESERVED:
        deployment = read_delivery(target, certificate.lineage, table, paths, taken)
        table.done()
        return deployment
    kind, https = _options(table, target or _meant(table, accounts), options_of)
    chosen = read_domains(table, certificate.names)
    deployment = DesiredDeployment(
        target=target,
        domains=chosen.domains,
        globs=chosen.globs,
        exclude=chosen.exclude,
        kind=kind,
        https=https,
        retire=table.take("retire", _one_of(Retirement), Retirement.SUPERSEDED),
        drift=table.take("drift", _one_of(DriftPolicy), DriftPolicy.REPAIR),
        on_failure=table.take("on_failure", _one_of(OnFailure), OnFailure.KEEP),
    )
    if not target:
        for settings in SETTINGS.values():  # either may have been meant
            table.allow(*settings)
    table.done()
    return deployment


def _meant(table: Table, accounts: Collection[str]) -> str:
    """Give the account that was probably meant, so that its settings are judged all the same."""
    return nearest(str(table.take("to", lambda written: written, "")), accounts) or ""


def _options(table: Table, target: str, options_of: OptionsOf) -> tuple[Kind, DesiredHttps]:
    """Read what this target alone can be told; its adapter is asked only where there is any."""
    beside = [key for key in table.written if key not in _COMMON]
    read = options_of(target) if beside else None
    if read is None:
        table.allow(*beside)  # where the adapter is not known, that is what is told
        return Kind.AUTO, DesiredHttps()
    return read(table)


def _report_twin(table: Table, lineage: str, first: Place) -> None:
    table.report(
        "name" if "name" in table else "names",
        Text(
            "{lineage} is declared already, at line {line}; give one of them another `name`",
            lineage=lineage,
            line=first.line,
        ),
    )


def _lineage(value: object) -> str:
    written = word(value)
    if not _LINEAGE.fullmatch(written):
        raise ConfigError(
            Text("must have no spaces or slashes, not begin with a dash, and be no dots alone")
        )
    return written


def _name(value: object) -> str:
    return identifiers.normalise(one_name(value))


def _target(accounts: Collection[str], options_of: OptionsOf) -> Read[str]:
    label = account_among(accounts)

    def read(value: object) -> str:
        if isinstance(value, str) and value in RESERVED:
            return value
        try:
            return label(value)
        except ConfigError as unknown:
            if not isinstance(value, str) or nearest(value, [*accounts, *RESERVED]):
                raise
            if options_of(value) is not None:  # a target that only lacks its account
                raise
            raise ConfigError(
                Text(
                    "{problem}. CDNs of other vendors than those of `certferry help adapters` are"
                    ' not supported: for them, to = "command" hands the certificate to a program of'
                    ' yours, and to = "files" writes it for one',
                    problem=unknown.message,
                )
            ) from None

    return read


def _one_of(members: type[E]) -> Read[E]:
    def read(value: object) -> E:
        return members(one_of([member.value for member in members])(value))

    return read
