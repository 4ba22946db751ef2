"""Which domains a deployment is for: `domains` and `exclude`, and the deployment that names a
domain already.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass

from certferry.config.table import Table
from certferry.config.values import one_name
from certferry.core.choice import AUTO
from certferry.core.desired import DesiredCertificate
from certferry.core.globs import domain_of, is_glob, read_pattern, takes_all
from certferry.text import Text

KEYS = frozenset({"domains", "exclude"})

Named = MutableMapping[tuple[str, str], str]
"""Which lineage names a domain, by the account and the domain."""


@dataclass(frozen=True, slots=True)
class Domains:
    """What a deployment says of its domains, as `core.desired.DesiredDeployment` has it."""

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
