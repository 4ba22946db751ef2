"""What hosts that share a state declare a certificate as: a digest of what is common to them, and
whose declaration counts.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, PemFiles
from certferry.errors import DeclarationOutdated
from certferry.text import Text

TOLERATED = timedelta(hours=1)
"""How long hosts may declare a certificate differently, while their files are replaced."""


def digest_of_declaration(desired: DesiredCertificate) -> str:
    """Return SHA-256 over what hosts must declare alike: names, key, issuance, accounts, targets.

    Files, commands and the paths of a source are each host's own. Settings that are at their
    default are left out, so that a release with a new one computes the same digest.
    """
    written = json.dumps(_written(_common(desired)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()


def _common(desired: DesiredCertificate) -> DesiredCertificate:
    """Return what hosts share of it, with nothing in it that means the same in another order."""
    issuance = desired.issuance
    return replace(
        desired,
        names=() if desired.files else (*desired.names[:1], *sorted(desired.names[1:])),
        deployments=tuple(_in_order(one) for one in desired.deployments if not one.delivery),
        files=desired.files and PemFiles("", ""),
        offered=None,
        offered_fullchain=None,
        offered_issuer_end=None,
        issuance=replace(
            issuance, authorities=tuple(replace(one, name="") for one in issuance.authorities)
        ),
    )


def _in_order(one: DesiredDeployment) -> DesiredDeployment:
    tls, domains = one.https.tls_versions, one.domains
    return replace(
        one,
        domains=None if domains is None else tuple(sorted(domains)),
        https=replace(one.https, tls_versions=None if tls is None else tuple(sorted(tls))),
        globs=tuple(sorted(one.globs)),
        exclude=tuple(sorted(one.exclude)),
    )


def _written(value: object) -> object:
    if isinstance(value, tuple):
        return [_written(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _written(one) for name, one in _chosen(value)}
    return value


def only_receivers(desired: DesiredCertificate) -> DesiredCertificate:
    """Return it with nothing to do but to install the version in force at this host's receivers."""
    deployments = tuple(one for one in desired.deployments if one.delivery)
    return replace(desired, files=None, deployments=deployments)


def _chosen(value: Any) -> Iterator[tuple[str, object]]:
    """Return the fields that are not at their default."""
    for field in fields(value):
        made = None if field.default_factory is MISSING else field.default_factory()
        default = made if field.default is MISSING else field.default
        if (chosen := getattr(value, field.name)) != default:
            yield field.name, chosen


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a host declares a lineage as since a moment; `first_seen_at`: when any host first did.
    Both are by the database's clock.
    """

    lineage: str
    host: str
    digest: str
    since: datetime
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class Outdated:
    """That this host's declaration of a lineage does not count `since` a moment: that of `hosts`
    was first seen later.
    """

    lineage: str
    hosts: tuple[str, ...]
    since: datetime

    def is_tolerated(self, now: datetime) -> bool:
        """Return whether the same files may still be on their way to every host."""
        return now - self.since < TOLERATED

    @property
    def error(self) -> DeclarationOutdated:
        """What that means, and how to end it."""
        facts = {"lineage": self.lineage, "hosts": list(self.hosts)}
        message = Text(
            "{lineage} is declared differently on {hosts}, where the declaration is newer: this"
            " host only installs the certificate in its own files and commands",
            **facts,
        )
        hint = Text(
            "write the same [[certificates]] for {lineage} here and on {hosts}; for a host that is"
            " gone: certferry hosts forget NAME",
            **facts,
        )
        return DeclarationOutdated(message, hint=hint)


def outdated(found: Iterable[Declaration], host: str) -> dict[str, Outdated]:
    """Return the lineages of which this host's declaration does not count, of those that hosts do
    not declare alike. The one that was seen last for the first time counts.
    """
    by_lineage = defaultdict[str, list[Declaration]](list)
    for one in found:
        by_lineage[one.lineage].append(one)
    old: dict[str, Outdated] = {}
    for lineage, declarations in by_lineage.items():
        newest = max(declarations, key=_seen)
        mine = next((one for one in declarations if one.host == host), newest)
        if mine.digest != newest.digest:
            hosts = sorted(one.host for one in declarations if one.digest == newest.digest)
            since = max(mine.since, newest.first_seen_at)
            old[lineage] = Outdated(lineage, tuple(hosts), since)
    return old


def _seen(one: Declaration) -> tuple[datetime, str]:
    return one.first_seen_at, one.digest
