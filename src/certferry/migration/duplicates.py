"""Of two certificates for one directory or for the same names, the one that goes on."""

from __future__ import annotations

from collections.abc import Sequence
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
    }
    kept = []
    for one in certificates:
        own = tuple(d for d in one.deployments if owners[d.directory] is one)
        remarks = [
            Text(
                "{directory}, and what is run for it, is left to {other}, which was copied there"
                " too",
                directory=deployment.directory,
                other=owners[deployment.directory].lineage,
            )
            for deployment in one.deployments
            if deployment not in own
        ]
        kept.append(replace(one, deployments=own, remarks=(*one.remarks, *remarks)))
    return kept


def without_duplicates(certificates: Sequence[ProposedCertificate], places: Places) -> Proposal:
    """Leave out what would be renewed for ever and deployed nowhere, while another certificate is
    for the same names: acme.sh may keep an RSA and an EC certificate of each.
    """
    first = {frozenset(one.covered): one for one in sorted(certificates, key=_rank)}
    kept: list[ProposedCertificate] = []
    idle: list[LeftOut] = []
    for one in certificates:
        other = first[frozenset(one.covered)]
        # Without a target nothing is known of what is served.
        if other is one or one.deployments or not places.target:
            kept.append(one)
        else:
            reason = Text("{other} is for the same names, and goes first", other=other.lineage)
            idle.append(LeftOut(one.lineage, reason, one))
    return Proposal(tuple(kept), tuple(idle))


def _age(one: ProposedCertificate) -> tuple[float, str]:
    begin = 0.0 if one.adopts is None else one.adopts.certificate.not_before.timestamp()
    return begin, one.lineage


def _rank(one: ProposedCertificate) -> tuple[bool, tuple[bool, int, float], str]:
    return bool(one.deployments), fitness(one, ""), one.lineage
