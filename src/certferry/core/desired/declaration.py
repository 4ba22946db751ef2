"""Comparison of the declarations of one lineage by several hosts. A digest shows whether two hosts
declare alike; if not, the older declaration is outdated.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cache

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from certferry.core.desired.certificate import (
    Delivery,
    DesiredCertificate,
    DesiredDeployment,
    FileDelivery,
    Kind,
    PemFiles,
    Retirement,
)
from certferry.core.network import Host
from certferry.errors import DeclarationOutdated
from certferry.text import Text
from certferry.values import replace

TOLERATED = timedelta(hours=1)
"""How long hosts may declare a certificate differently, while their files are replaced."""


def digest_of_declaration(desired: DesiredCertificate) -> str:
    """Return SHA-256, in lower-case hex, over everything hosts must declare alike.

    Hosts must declare the same key type, issuance, accounts and targets. Hosts must declare the
    same names, unless another client's files give the names. Deliveries to files and commands, and
    the paths of another client's files, may differ by host. Settings at their default are left out,
    so a release with a new setting computes the same digest.
    """
    text = json.dumps(_as_json(_common(desired)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _common(desired: DesiredCertificate) -> DesiredCertificate:
    """Return the parts common to all hosts, with lists sorted if the order has no meaning."""
    issuance = desired.issuance
    return replace(
        desired,
        names=() if desired.files else (*desired.names[:1], *sorted(desired.names[1:])),
        deployments=tuple(
            _in_order(deployment)
            for deployment in desired.deployments
            if not deployment.is_on_this_host
        ),
        files=desired.files and PemFiles("", ""),
        offered=None,
        offered_fullchain=None,
        offered_issuer_end=None,
        issuance=replace(
            issuance, authorities=tuple(replace(ca, name="") for ca in issuance.authorities)
        ),
    )


def _in_order(deployment: DesiredDeployment) -> DesiredDeployment:
    tls, domains = deployment.https.tls_versions, deployment.domains
    return replace(
        deployment,
        domains=None if domains is None else tuple(sorted(domains)),
        https=replace(deployment.https, tls_versions=None if tls is None else tuple(sorted(tls))),
        globs=tuple(sorted(deployment.globs)),
        exclude=tuple(sorted(deployment.exclude)),
    )


def _as_json(value: object) -> object:
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Struct):
        return {name: _as_json(setting) for name, setting in _chosen(value)}
    return value


def delivered(delivery: Delivery, serves: tuple[Host, ...] = ()) -> DesiredDeployment:
    """Return the deployment to a receiver. A receiver keeps no old copies to retire."""
    if isinstance(delivery, FileDelivery):
        kind, name = Kind.FILES, delivery.directory
    else:
        kind, name = Kind.COMMAND, delivery.label
    account = delivery.account if isinstance(delivery, FileDelivery) else ""
    target = account or kind.value
    deployment = DesiredDeployment(target, (name,), kind, delivery=delivery, serves=serves)
    return replace(deployment, retire=Retirement.NEVER)


def unproven_receivers(desired: DesiredCertificate) -> frozenset[tuple[str, str]]:
    """Return target and name of each receiver without `serves`."""
    return frozenset(
        (deployment.target, name)
        for deployment in desired.deployments
        if deployment.delivery and not deployment.serves
        for name in deployment.domains or ()
    )


def only_receivers(desired: DesiredCertificate) -> DesiredCertificate:
    """Return the certificate with only the deployments to receivers, and without `files`.

    A run with an outdated declaration uses the result: the run orders nothing, and only delivers
    the version in force to this host's receivers.
    """
    deployments = tuple(
        deployment for deployment in desired.deployments if deployment.is_on_this_host
    )
    return replace(desired, files=None, deployments=deployments)


def _chosen(value: Struct) -> Iterator[tuple[str, object]]:
    """Yield the fields that differ from their defaults."""
    defaults = _defaults(type(value))
    for name in value.__struct_fields__:
        if (chosen := getattr(value, name)) != defaults[name]:
            yield name, chosen


@cache
def _defaults(kind: type[Struct]) -> dict[str, object]:
    """Return the default of each field; a field without a default has `NODEFAULT`."""
    return {
        field.name: field.default if field.default_factory is NODEFAULT else field.default_factory()
        for field in fields(kind)
    }


class Declaration(Struct, frozen=True):
    """A host's declaration of a lineage. Moments are by the database's clock."""

    lineage: str  #: The lineage's name.
    host: str  #: The host's name.
    #: See `digest_of_declaration`.
    digest: str
    #: Since when the host declares the lineage with this digest.
    since: datetime
    #: When any host first declared the lineage with this digest.
    first_seen_at: datetime


class Outdated(Struct, frozen=True):
    """This host's declaration of a lineage, superseded by another host's newer declaration."""

    lineage: str  #: The lineage's name.
    #: The hosts with the newer declaration.
    hosts: tuple[str, ...]
    #: Since when this host's declaration is superseded.
    since: datetime

    def is_tolerated(self, now: datetime) -> bool:
        """Return whether the declaration was superseded less than `TOLERATED` ago. An operator may
        still be copying the new file to every host.
        """
        return now - self.since < TOLERATED

    @property
    def error(self) -> DeclarationOutdated:
        """The error for operators: the hosts with the newer declaration, the work that this host
        still does, and the hint to copy the declaration.
        """
        facts = {"lineage": self.lineage, "hosts": list(self.hosts)}
        message = Text(
            "{lineage} is declared differently on {hosts}, and the declaration there is newer:"
            " this host only installs the certificate in its own files and commands",
            **facts,
        )
        hint = Text(
            "write the same [[certificates]] for {lineage} here and on {hosts}; if a host is"
            " gone: certferry hosts forget NAME",
            **facts,
        )
        return DeclarationOutdated(message, hint=hint)


def outdated(declared: Iterable[Declaration], host: str) -> dict[str, Outdated]:
    """Return, by lineage, the declarations of `host` that another host's declaration supersedes.

    If declarations differ, the digest with the latest `first_seen_at` supersedes the others.
    """
    by_lineage = defaultdict[str, list[Declaration]](list)
    for declaration in declared:
        by_lineage[declaration.lineage].append(declaration)
    old: dict[str, Outdated] = {}
    for lineage, declarations in by_lineage.items():
        newest = max(declarations, key=_seen)
        mine = next(
            (declaration for declaration in declarations if declaration.host == host), newest
        )
        if mine.digest != newest.digest:
            hosts = sorted(
                declaration.host
                for declaration in declarations
                if declaration.digest == newest.digest
            )
            since = max(mine.since, newest.first_seen_at)
            old[lineage] = Outdated(lineage, tuple(hosts), since)
    return old


def _seen(declaration: Declaration) -> tuple[datetime, str]:
    return declaration.first_seen_at, declaration.digest
