"""What to declare for the lineages of another client. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from certferry.core.certificate import KeyType
from certferry.core.inherited import Inherited, Installed
from certferry.core.proposal import (
    LeftOut,
    Places,
    Proposal,
    ProposedCertificate,
    ProposedDeployment,
    fitness,
    with_domains,
)
from certferry.text import Text


def propose_for_inherited(
    inherited: Sequence[Inherited], places: Places, client: str, *, keep_client: bool
) -> Proposal:
    """Propose to go on with another client's lineages: issued here from now on, or, where that
    cannot be or is not wanted, made there and ferried.
    """
    certificates = []
    left_out = []
    for one in inherited:
        obstacle = None if keep_client else _why_not_issued(one, places, client)
        if obstacle is None and not keep_client:
            certificates.append(_taken_over(one, places.dns))
        elif one.files is None:
            reason = Text("no single file of {client}'s holds its whole chain", client=client)
            left_out.append(LeftOut(one.lineage, reason, is_domain=False))
        else:
            remarks = [] if obstacle is None else [obstacle]
            remarks += _what_it_goes_on_running(one.installed, client)
            certificates.append(
                ProposedCertificate(
                    one.lineage, files=one.files, remarks=tuple(remarks), adopts=one
                )
            )
    return _without_idle_twins(with_domains(certificates, places), tuple(left_out), places)


def _without_idle_twins(
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
            idle.append(LeftOut(one.lineage, reason, is_domain=False, certificate=one))
    return Proposal(tuple(kept), (*left_out, *idle))


def _goes_before(other: ProposedCertificate, one: ProposedCertificate) -> bool:
    return not _has_no_use(other) or _rank(other) > _rank(one)


def _rank(one: ProposedCertificate) -> tuple[tuple[bool, int, float], str]:
    return fitness(one, ""), one.lineage


def _has_no_use(one: ProposedCertificate) -> bool:
    """Tell whether nothing serves it, and nothing is known that reads its files."""
    copies = one.adopts.installed if one.adopts is not None else Installed()
    return not (one.deployments or copies.fullchain or copies.privkey)


def _why_not_issued(one: Inherited, places: Places, client: str) -> Text | None:
    reason = (
        Text("no DNS account is known")
        if not places.dns
        else next(
            (
                Text("{name}: {reason}", name=name, reason=reason)
                for name in one.names
                if (reason := places.obstacle(name)) is not None
            ),
            None,
        )
    )
    if reason is None:
        return None
    return Text(
        "{client} goes on renewing it, since certferry cannot prove its names: {reason}",
        client=client,
        reason=reason,
    )


def _taken_over(one: Inherited, dns: str) -> ProposedCertificate:
    kinds = {kind.value: kind for kind in KeyType}
    remarks = [] if one.key_type in kinds else [_other_key(one.key_type)]
    deployments: tuple[ProposedDeployment, ...] = ()
    copies = one.installed
    if copies.fullchain or copies.privkey:
        directory = _directory(copies)
        if directory is None:
            remarks.append(_elsewhere(copies))
        else:
            deployments = (ProposedDeployment("files", None, directory, _wanted_reload(copies)),)
    remarks += _what_is_run_no_more(copies)
    return ProposedCertificate(
        one.lineage,
        one.names,
        dns,
        kinds.get(one.key_type),
        deployments=deployments,
        remarks=tuple(remarks),
        adopts=one,
    )


def _wanted_reload(copies: Installed) -> str:
    """What ran after a renewal, but for what deployed to Qiniu: two of those would fight."""
    return "" if copies.calls_certferry or copies.goes_to_qiniu else copies.reload


def _what_is_run_no_more(copies: Installed) -> list[Text]:
    if copies.calls_certferry or not copies.goes_to_qiniu:
        return []
    return [
        Text(
            "`{program}` is left out: it deploys to Qiniu, which certferry does now; what else it"
            " does needs a `reload` of its own",
            program=copies.program,
        )
    ]


def _what_it_goes_on_running(copies: Installed, client: str) -> list[Text]:
    if copies.calls_certferry or not copies.goes_to_qiniu:
        return []
    return [
        Text(
            "{client} still runs `{program}` after a renewal, beside certferry: have it run"
            " `certferry hook {client}` instead",
            client=client,
            program=copies.program,
        )
    ]


def _directory(copies: Installed) -> str | None:
    """Give the directory whose files are called as certferry calls them."""
    directory, _, fullchain = copies.fullchain.rpartition("/")
    beside, _, privkey = copies.privkey.rpartition("/")
    called = (fullchain, privkey) == ("fullchain.pem", "privkey.pem")
    return directory if called and directory == beside and directory else None


def _elsewhere(copies: Installed) -> Text:
    return Text(
        "what reads {files} today needs a deployment to files: they will be called fullchain.pem "
        "and privkey.pem, in a directory of your choice",
        files=[path for path in (copies.fullchain, copies.privkey) if path],
    )


def _other_key(key_type: str) -> Text:
    return Text(
        "its key is {kind}, which certferry does not make: the next certificate has another kind",
        kind=key_type,
    )
