"""Of two of another client's lineages for one place or the same names, which is gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from certferry.core.inherited import Installed, OldHook
from certferry.core.proposal import LeftOut, Places, Proposal, ProposedCertificate, fitness
from certferry.text import Text


def one_for_each_directory(
    certificates: Sequence[ProposedCertificate],
) -> list[ProposedCertificate]:
    """Give a directory to one certificate: two may have been copied there, one over the other.
    What lies there goes first, since something reads it under its names.
    """
    owners: dict[str, ProposedCertificate] = {}
    for one in certificates:
        for directory in _directories(one):
            owners[directory] = max(owners.get(directory, one), one, key=_rank_there)
    return [_without_directories_of_others(one, owners) for one in certificates]


def _without_directories_of_others(
    one: ProposedCertificate, owners: Mapping[str, ProposedCertificate]
) -> ProposedCertificate:
    taken = [place for place in _directories(one) if owners[place] is not one]
    if not taken or one.adopts is None:
        return one
    remark = Text(
        "{directory} is left to {other}, which was copied there too",
        directory=taken[0],
        other=owners[taken[0]].lineage,
    )
    kept = {d.reload for place in taken for d in owners[place].deployments}
    given_up = [d.reload for d in one.deployments if d.directory in taken and d.reload not in kept]
    run_no_more = [
        Text("`{program}`, which was run for these copies, is left out", program=OldHook(c).program)
        for c in filter(None, given_up)
    ]
    return replace(
        one,
        deployments=tuple(d for d in one.deployments if d.directory not in taken),
        remarks=(*one.remarks, remark, *run_no_more),
        adopts=replace(one.adopts, installed=Installed()),
    )


def _directories(one: ProposedCertificate) -> list[str]:
    return [deployment.directory for deployment in one.deployments if deployment.directory]


def without_idle_twins(
    certificates: tuple[ProposedCertificate, ...], left_out: tuple[LeftOut, ...], places: Places
) -> Proposal:
    """Leave out what would be renewed for ever and served nowhere, since another one is for the
    same names: acme.sh may keep an RSA and an EC certificate of each.
    """
    if not places.target:
        return Proposal(certificates, left_out)
    kept: list[ProposedCertificate] = []
    idle: list[LeftOut] = []
    for one in certificates:
        rivals = [o for o in certificates if o is not one and set(o.covered) == set(one.covered)]
        better = next((o for o in rivals if _goes_before(o, one)), None)
        if better is None or not _has_no_use(one):
            kept.append(one)
        else:
            reason = Text("{other} is for the same names, and goes first", other=better.lineage)
            idle.append(LeftOut(one.lineage, reason, one))
    return Proposal(tuple(kept), (*left_out, *idle))


def _goes_before(other: ProposedCertificate, one: ProposedCertificate) -> bool:
    return not _has_no_use(other) or _rank(other) > _rank(one)


def _rank(one: ProposedCertificate) -> tuple[tuple[bool, int, float], str]:
    return fitness(one, ""), one.lineage


def _rank_there(one: ProposedCertificate) -> tuple[bool, tuple[object, ...]]:
    return one.adopts is not None and one.adopts.installed.is_there, _rank(one)


def _has_no_use(one: ProposedCertificate) -> bool:
    """Tell whether nothing serves it, and nothing is known that has a use for its files."""
    theirs = one.adopts.installed if one.adopts is not None else Installed()
    return not (one.deployments or theirs.copies or any(h.is_of_its_own for h in theirs.runs))
