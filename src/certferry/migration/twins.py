"""Of two certificates for one directory or for the same names, the one that goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from certferry.core.proposal import (
    LeftOut,
    Places,
    Proposal,
    ProposedCertificate,
    fitness,
)
from certferry.text import Text


def one_for_each_directory(
    certificates: Sequence[ProposedCertificate],
) -> list[ProposedCertificate]:
    """Give a directory to one certificate, since a configuration may not name it twice: to the
    youngest, which the client has copied there last.
    """
    owners = {
        deployment.directory: one
        for one in sorted(certificates, key=_age)
        for deployment in one.deployments
        if deployment.directory
    }
    return [_without_others_directories(one, owners) for one in certificates]


def _without_others_directories(
    one: ProposedCertificate, owners: Mapping[str, ProposedCertificate]
) -> ProposedCertificate:
    lost = [d for d in one.deployments if d.directory and owners[d.directory] is not one]
    remarks = [
        Text(
            "{directory}, and what is run for it, is left to {other}, which was copied there too",
            directory=deployment.directory,
            other=owners[deployment.directory].lineage,
        )
        for deployment in lost
    ]
    kept = tuple(d for d in one.deployments if d not in lost)
    return replace(one, deployments=kept, remarks=(*one.remarks, *remarks))


def without_idle_twins(certificates: Sequence[ProposedCertificate], places: Places) -> Proposal:
    """Leave out what would be renewed for ever and deployed nowhere, while another certificate is
    for the same names: acme.sh may keep an RSA and an EC certificate of each.
    """
    if not places.target:  # nothing is known of what is served
        return Proposal(tuple(certificates))
    best: dict[frozenset[str], ProposedCertificate] = {}
    for one in sorted(certificates, key=_rank):
        best[frozenset(one.covered)] = one
    kept: list[ProposedCertificate] = []
    idle: list[LeftOut] = []
    for one in certificates:
        first = best[frozenset(one.covered)]
        if one is first or one.deployments:
            kept.append(one)
        else:
            reason = Text("{other} is for the same names, and goes first", other=first.lineage)
            idle.append(LeftOut(one.lineage, reason, one))
    return Proposal(tuple(kept), tuple(idle))


def _age(one: ProposedCertificate) -> tuple[float, str]:
    begin = 0.0 if one.adopts is None else one.adopts.certificate.not_before.timestamp()
    return begin, one.lineage


def _rank(one: ProposedCertificate) -> tuple[bool, tuple[bool, int, float], str]:
    return bool(one.deployments), fitness(one, ""), one.lineage
