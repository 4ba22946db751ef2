"""The tables of wishes: `[[certificates]]`, and `[[certificates.deploy]]` below each."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import PurePath
from typing import TypeVar

from certferry.config.adapters import ReadOptions
from certferry.config.check import RESERVED, key_type
from certferry.config.deliveries import SETTINGS, Taken, read_delivery
from certferry.config.dns_accounts import account_among, read_dns_accounts
from certferry.config.document import Place
from certferry.config.domains import KEYS as DOMAIN_KEYS
from certferry.config.domains import Named, read_domains, report_twice_named
from certferry.config.files import Paths
from certferry.config.findings import Finding, nearest
from certferry.config.table import Table
from certferry.config.values import Read, one_name, one_of, word
from certferry.core import identifiers
from certferry.core.certificate import KeyType
from certferry.core.desired import DesiredCertificate, DesiredDeployment, HttpsWish, Kind, PemFiles
from certferry.core.issuance import Issuance
from certferry.core.policies import DriftPolicy, OnFailure, Retirement
from certferry.errors import ConfigError
from certferry.text import Text

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
) -> Iterator[Finding]:
    """Tell of each certificate that has the names and the kind of key of one above it: most likely
    a copy, which has nothing left to serve. It is no mistake that keeps a file from being read.
    """
    first: dict[tuple[frozenset[str], KeyType], str] = {}
    for wish in declared:
        key = (frozenset(wish.names), wish.key_type)
        other = first.setdefault(key, wish.lineage)
        if not wish.names or other == wish.lineage:
            continue
        problem = Text(
            "{lineage} has the same names as {other}, at line {line}: one certificate can be"
            " deployed to several places",
            lineage=wish.lineage,
            other=other,
            line=places[other].line,
        )
        yield places[wish.lineage].finding("names", problem)


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
        certificate = _ferried(table, lineage, paths)
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


def _ferried(table: Table, lineage: str | None, paths: Paths) -> DesiredCertificate:
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


def _options(table: Table, target: str, options_of: OptionsOf) -> tuple[Kind, HttpsWish]:
    """Read what this target alone can be told; its adapter is asked only where there is any."""
    beside = [key for key in table.written if key not in _COMMON]
    read = options_of(target) if beside else None
    if read is None:
        table.allow(*beside)  # where the adapter is not known, that is what is told
        return Kind.AUTO, HttpsWish()
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
