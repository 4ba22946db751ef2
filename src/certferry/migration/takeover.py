"""What to declare for the certificates of another client. Pure."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from certferry.core.certificates.certificate import (
    CERT,
    CHAIN,
    FULLCHAIN,
    PRIVKEY,
    CertificateBundle,
    KeyType,
)
from certferry.core.discovery import proposal as proposals
from certferry.core.observed.records import HistoryEntry
from certferry.migration.home import Installed, OldCertificate, OldHook
from certferry.ports.state import Lease, StateStore
from certferry.text import Text


def one_for_each_directory(
    certificates: Sequence[proposals.ProposedCertificate],
) -> list[proposals.ProposedCertificate]:
    """Leave each directory to its youngest certificate, which was copied there last."""
    owners = {
        deployment.directory: one
        for one in sorted(certificates, key=_age)
        for deployment in one.deployments
    }
    kept = []
    for one in certificates:
        own = tuple(d for d in one.deployments if owners[d.directory] is one)
        left = Text(
            "{directory}, and what is run for it, is left to {other}, which was copied there too"
        )
        others = (d.directory for d in one.deployments if d not in own)
        remarks = [left.filled(directory=path, other=owners[path].lineage) for path in others]
        kept.append(replace(one, deployments=own, remarks=(*one.remarks, *remarks)))
    return kept


def without_duplicates(
    certificates: Sequence[proposals.ProposedCertificate], places: proposals.Places
) -> proposals.Proposal:
    """Leave out a certificate that is for the same names as another, and deployed nowhere."""
    first = {frozenset(one.covered): one for one in sorted(certificates, key=_rank)}
    kept: list[proposals.ProposedCertificate] = []
    idle: list[proposals.LeftOut] = []
    for one in certificates:
        other = first[frozenset(one.covered)]
        # Without a target nothing is known of what is served.
        if other is one or one.deployments or not places.target:
            kept.append(one)
        else:
            reason = Text("{other} is for the same names, and goes first", other=other.lineage)
            idle.append(proposals.LeftOut(one.lineage, reason, one))
    return proposals.Proposal(tuple(kept), tuple(idle))


def _age(one: proposals.ProposedCertificate) -> tuple[float, str]:
    begin = 0.0 if one.adopts is None else one.adopts.certificate.not_before.timestamp()
    return begin, one.lineage


def _rank(one: proposals.ProposedCertificate) -> tuple[bool, tuple[bool, int, float], str]:
    return bool(one.deployments), proposals.fitness(one, ""), one.lineage


_READ_AND_WRITE = 0o664  # without the right to write for all
_OTHERS = stat.S_IRWXO

_KEEPERS_OF_SERVICES = frozenset({"systemctl", "service", "nginx"})
_KINDS = {kind.value: kind for kind in KeyType}
_NAMES = (FULLCHAIN, PRIVKEY, CERT, CHAIN)


def propose_takeover(
    found: Sequence[OldCertificate],
    places: proposals.Places,
    client: str,
    wanted: Collection[str] | None = None,
    *,
    keep_client: bool,
) -> proposals.Proposal:
    """Propose to issue another client's certificates here, or to import them from it."""
    certificates = [
        _imported(one, places, client) if keep_client else _taken_over(one, places, client)
        for one in found
    ]
    certificates = one_for_each_directory(certificates)
    proposal = without_duplicates(proposals.with_domains(certificates, places, wanted), places)
    if wanted is None:
        return proposal
    others = proposals.not_wanted(proposal.certificates, places, wanted)
    return replace(proposal, left_out=(*proposal.left_out, *others))


def _imported(
    one: OldCertificate, places: proposals.Places, client: str, *why: Text
) -> proposals.ProposedCertificate:
    remarks = list(why)
    for hook in one.installed.runs:
        if hook.goes_to_qiniu and places.target:  # certferry does that, too
            remark = Text(
                "{client} still runs `{program}` after a renewal, beside certferry: have it run"
                " `certferry hook {client}` instead"
            )
            remarks.append(remark.filled(client=client, program=hook.program))
    return proposals.ProposedCertificate(
        one.lineage, files=one.files, remarks=tuple(remarks), adopts=one.bundle
    )


def _taken_over(
    one: OldCertificate, places: proposals.Places, client: str
) -> proposals.ProposedCertificate:
    obstacle = _why_not_issued(one, places)
    if obstacle is not None:
        why = Text("{client} goes on renewing it, since certferry cannot prove its names: {reason}")
        return _imported(one, places, client, why.filled(client=client, reason=obstacle))
    directory = one.installed.directory
    reload = _reload(one.installed, places) if directory else ""
    remarks = [*_copies_no_more(one.installed, directory)]
    deployments: tuple[proposals.ProposedDeployment, ...] = ()
    if directory:
        deployments = (_in_files(one.installed, directory, reload),)
        remarks += _changes_of_access(one.installed, reload)
    remarks += _runs_no_more(one.installed, reload, places, client)
    return proposals.ProposedCertificate(
        one.lineage,
        one.names,
        places.dns,
        _KINDS.get(one.key_type),
        deployments=deployments,
        remarks=tuple(remarks),
        adopts=one.bundle,
    )


def _why_not_issued(one: OldCertificate, places: proposals.Places) -> Text | None:
    if not places.dns:
        return Text("no DNS account is known")
    for name in one.names:
        reason = places.obstacle(name)
        if reason is not None:
            return Text("{name}: {reason}", name=name, reason=reason)
    return None


def _in_files(theirs: Installed, directory: str, reload: str) -> proposals.ProposedDeployment:
    """Return the deployment to the copies, for the same readers as far as can be declared."""
    access = replace(
        theirs.access,
        mode=theirs.access.mode & _READ_AND_WRITE | stat.S_IRUSR,
        key_mode=theirs.access.key_mode & _READ_AND_WRITE & ~_OTHERS | stat.S_IRUSR,
    )
    return proposals.ProposedDeployment("files", None, directory, reload, access)


def _changes_of_access(theirs: Installed, reload: str) -> Iterator[Text]:
    """Explain who can read the key no longer, and what `reload` finds."""
    if theirs.access.key_mode & _OTHERS:
        said = Text("every user could read {path}: from now on only its owner and group")
        yield said.filled(path=theirs.privkey)
    program = OldHook(reload).program
    if reload and program not in _KEEPERS_OF_SERVICES:
        yield Text(
            "`{program}` goes on being run, and finds the paths in CERTFERRY_FULLCHAIN and"
            " CERTFERRY_PRIVKEY; if it deploys to Qiniu, take it out of `reload` where certferry"
            " does that",
            program=program,
        )


def _copies_no_more(theirs: Installed, directory: str) -> Iterator[Text]:
    kept = {f"{directory}/{name}" for name in _NAMES} if directory else set()
    files = [path for path in theirs.copies if path not in kept]
    if files:
        yield Text(
            "programs that read {files} today need a deployment to files, by which certferry"
            " writes {names} into a directory of your choice",
            files=files,
            names=_NAMES,
        )


def _reload(theirs: Installed, places: proposals.Places) -> str:
    """Return what goes on being run: a program that deploys to Qiniu only if certferry does not."""
    hook = OldHook(theirs.reload)
    ends = hook.calls_certferry or (hook.goes_to_qiniu and places.target)
    return "" if ends else theirs.reload


def _runs_no_more(
    theirs: Installed, reload: str, places: proposals.Places, client: str
) -> Iterator[Text]:
    for hook in theirs.runs:
        if hook.is_ours_alone or hook.command == reload:
            continue
        if hook.goes_to_qiniu and places.target:
            said = Text(
                "`{program}` is left out: certferry deploys to Qiniu now; anything else it does"
                " needs a `reload` of its own"
            )
        else:
            said = Text(
                "`{program}`, which {client} runs at a renewal, is left out: where it is needed"
                " still, write it as `reload`, or as a deployment to `command`"
            )
        yield said.filled(program=hook.program, client=client)


def adopt(
    lineage: str,
    bundle: CertificateBundle,
    *,
    state: StateStore,
    lease: Callable[[str], AbstractContextManager[Lease]],
    now: datetime,
    who: str,
) -> bool:
    """Store a certificate, unless a later one is current. Raises `LeaseHeld` and `StateError`."""
    certificate = bundle.certificate
    with lease(lineage) as held:
        versions = state.versions(lineage)
        if any(v.certificate.not_before >= certificate.not_before for v in versions):
            return False
        state.save_version(held, bundle, now)
        facts = {"fingerprint": certificate.fingerprint, "issuer": certificate.issuer}
        state.append_history(HistoryEntry(now, lineage, "adopted", who, facts))
    return True


def as_remembered(found: Sequence[OldCertificate], state: StateStore) -> tuple[OldCertificate, ...]:
    """Rename each lineage as its certificate is stored: a new name would upload it again."""
    remembered = state.versions_of(state.lineages())
    named: list[OldCertificate] = []
    for one in found:
        own = one.bundle.certificate.fingerprint
        known = [
            name for name, all_ in remembered.items() if any(v.fingerprint == own for v in all_)
        ]
        taken = {other.lineage for other in (*found, *named)}
        free = [lineage for lineage in known if lineage not in taken]
        is_known = one.lineage in known or not free
        named.append(one if is_known else replace(one, lineage=free[0]))
    return tuple(named)
