"""The tables of what is wanted: `[[certificates]]`, and `[[certificates.deploy]]` below each."""

from __future__ import annotations

import os.path
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import PurePath
from typing import TypeVar

from certferry.config.check import RESERVED, key_type
from certferry.config.deliveries import KEYS, Taken, read_delivery
from certferry.config.document import Place
from certferry.config.files import Paths
from certferry.config.findings import nearest
from certferry.config.table import Table
from certferry.config.values import Read, flag_or_keep, one_of, string, word
from certferry.core import identifiers
from certferry.core.certificate import KeyType
from certferry.core.desired import (
    DesiredCertificate,
    DesiredDeployment,
    HttpsWish,
    Kind,
    PemFiles,
    Retirement,
)
from certferry.errors import ConfigError
from certferry.text import Text

MOST_NAMES = 100
"""Names in one certificate, as Let's Encrypt's page "Rate Limits" has it (2026)."""

TLS_VERSIONS = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")

_LINEAGE = re.compile(r"[^\s/\\-][^\s/\\]*")
_SERVED_KINDS = tuple(kind for kind in Kind if not kind.is_receiver)
_KINDS = (Kind.AUTO, Kind.CDN, Kind.KODO)
_RETIREMENTS = tuple(Retirement)

E = TypeVar("E", bound=StrEnum)


def read_certificates(
    root: Table, accounts: Collection[str], default_key: KeyType, paths: Paths
) -> tuple[tuple[DesiredCertificate, ...], dict[str, Place]]:
    """Read every declared certificate, and where each lineage is declared."""
    found: list[DesiredCertificate] = []
    places: dict[str, Place] = {}
    taken: dict[tuple[str, str], Place] = {}
    for table in root.tables("certificates"):
        certificate = _certificate(table, accounts, default_key, paths, taken)
        if certificate.lineage in places:
            _report_twin(table, certificate.lineage, places[certificate.lineage])
        places.setdefault(certificate.lineage, table.place)
        _report_shared_domains(table, certificate, found)
        found.append(certificate)
    return tuple(found), places


def _report_shared_domains(
    table: Table, certificate: DesiredCertificate, earlier: list[DesiredCertificate]
) -> None:
    """Two certificates that name the same domain would be bound to it in turns for ever."""
    named = {
        (deployment.target, domain): other.lineage
        for other in earlier
        for deployment in other.deployments
        if deployment.delivery is None
        for domain in deployment.domains or ()
    }
    for deployment in certificate.deployments:
        if deployment.delivery is not None:  # what is shared there has its own sentence
            continue
        for domain in deployment.domains or ():
            lineage = named.get((deployment.target, domain))
            if lineage is not None:
                problem = Text("{lineage} names {domain} already", lineage=lineage, domain=domain)
                table.report("deploy", problem)


def _certificate(
    table: Table,
    accounts: Collection[str],
    default_key: KeyType,
    paths: Paths,
    taken: Taken,
) -> DesiredCertificate:
    """Read one certificate. Where something is wrong it has a hole, and loading fails."""
    lineage = table.take("name", _lineage, None)
    if "fullchain" in table or "privkey" in table:
        certificate = _ferried(table, lineage, paths)
    else:
        certificate = _issued(table, lineage, accounts, default_key)
    if certificate.files is not None:
        source = os.path.realpath(PurePath(certificate.files.fullchain).parent)
        taken.setdefault((Kind.FILES.value, source), table.place)
    deployments = tuple(
        _deployment(deploy, certificate.lineage, accounts, paths, taken)
        for deploy in table.tables("deploy")
    )
    table.done()
    return replace(certificate, deployments=deployments)


def _issued(
    table: Table, lineage: str | None, accounts: Collection[str], default_key: KeyType
) -> DesiredCertificate:
    names = _names(table)
    return DesiredCertificate(
        lineage=lineage or next(iter(names), str(table.place.keys)),
        names=names,
        dns=_dns(table, accounts),
        key_type=table.take("key_type", key_type, default_key),
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
            table.report(key, Text("not with `fullchain`: whoever made the files decides"))
            table.allow(key)
    fullchain, privkey = (table.take(key, _path(paths), "") for key in ("fullchain", "privkey"))
    return DesiredCertificate(
        lineage=lineage or PurePath(fullchain).parent.name or str(table.place.keys),
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
            Text("{count} names; a certificate can have {most}", count=len(names), most=MOST_NAMES),
        )
    return names


def _dns(table: Table, accounts: Collection[str]) -> str:
    if "dns" not in table:
        table.report("dns", Text("missing: the account that writes the challenge records"))
    return table.take("dns", _account(accounts), "")


def _deployment(
    table: Table, lineage: str, accounts: Collection[str], paths: Paths, taken: Taken
) -> DesiredDeployment:
    if "to" not in table:
        table.report("to", Text("missing: the account that serves the certificate"))
    target = table.take("to", _target(accounts), "")
    if target in RESERVED:
        deployment = read_delivery(target, lineage, table, paths, taken)
        table.done()
        return deployment
    deployment = DesiredDeployment(
        target=target,
        domains=table.take_list("domains", _name, None, instead="auto"),
        kind=table.take("kind", _supported(_SERVED_KINDS, _KINDS), Kind.AUTO),
        https=HttpsWish(
            force_https=table.take("force_https", flag_or_keep, None),
            http2=table.take("http2", flag_or_keep, None),
            tls_versions=table.take_list(
                "tls_versions", one_of(TLS_VERSIONS), None, instead="keep"
            ),
        ),
        retire=table.take("retire", _supported(_RETIREMENTS, _RETIREMENTS), Retirement.SUPERSEDED),
    )
    if deployment.kind is Kind.KODO:
        _report_settings(table)
    if not target:
        for keys in KEYS.values():  # nobody knows what was meant
            table.allow(*keys)
    table.done()
    return deployment


def _report_settings(table: Table) -> None:
    """A source domain has a certificate and nothing else to set (Qiniu fact sheet §6)."""
    for key in ("force_https", "http2", "tls_versions"):
        if key in table:
            table.report(key, Text('not with kind = "kodo": a source domain has no such setting'))


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
        raise ConfigError(Text("must have no spaces or slashes, and not begin with a dash"))
    return written


def _name(value: object) -> str:
    return identifiers.normalise(string(value))


def _account(accounts: Collection[str]) -> Read[str]:
    def read(value: object) -> str:
        written = word(value)
        if written not in accounts:
            raise ConfigError(_no_account(written, accounts))
        return written

    return read


def _target(accounts: Collection[str]) -> Read[str]:
    def read(value: object) -> str:
        if isinstance(value, str) and value in RESERVED:
            return value
        return _account(accounts)(value)

    return read


def _supported(members: Iterable[E], supported: Collection[E]) -> Read[E]:
    """Make a reader of one of the words; those of a later version are refused as such."""
    by_word = {member.value: member for member in members}

    def read(value: object) -> E:
        found = by_word[one_of(list(by_word))(value)]
        if found not in supported:
            raise ConfigError(_not_supported(found.value))
        return found

    return read


def _not_supported(word: str) -> Text:
    return Text('"{word}" is not supported by this version', word=word)


def _no_account(written: str, accounts: Collection[str]) -> Text:
    if not accounts:
        return Text("there is no account {name}; none is declared", name=written)
    meant = nearest(written, accounts)
    if meant is None:
        return Text(
            "there is no account {name}; declared are {accounts}",
            name=written,
            accounts=sorted(accounts),
        )
    if len(accounts) == 1:
        return Text("there is no account {name}; did you mean {meant}?", name=written, meant=meant)
    return Text(
        "there is no account {name}; did you mean {meant}? declared are {accounts}",
        name=written,
        meant=meant,
        accounts=sorted(accounts),
    )
