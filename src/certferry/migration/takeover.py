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
from certferry.core.discovery.proposal import (
    LeftOut,
    Places,
    Proposal,
    ProposedCertificate,
    ProposedDeployment,
    fitness,
    not_served,
    with_domains,
)
from certferry.core.observed.records import HistoryEntry
from certferry.migration.home import Installed, OldCertificate, OldHook
from certferry.ports.state import Lease, StateStore
from certferry.text import Text


def one_for_each_directory(
    certificates: Sequence[ProposedCertificate],
) -> list[ProposedCertificate]:
    """Return a directory to one certificate, since a configuration may not name it twice: to the
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


_READ_AND_WRITE = 0o664  # without the right to write for all
_OTHERS = stat.S_IRWXO

_KEEPERS_OF_SERVICES = frozenset({"systemctl", "service", "nginx"})
_KINDS = {kind.value: kind for kind in KeyType}
_NAMES = (FULLCHAIN, PRIVKEY, CERT, CHAIN)


def propose_takeover(
    found: Sequence[OldCertificate],
    places: Places,
    client: str,
    wanted: Collection[str] | None = None,
    *,
    keep_client: bool,
) -> Proposal:
    """Propose to go on with another client's certificates: issued here from now on, or, where that
    cannot be or is not wanted, made there and imported. They go to the `wanted` domains, `None`
    for all that they cover.
    """
    certificates = [
        _imported(one, places, client) if keep_client else _taken_over(one, places, client)
        for one in found
    ]
    certificates = one_for_each_directory(certificates)
    proposal = without_duplicates(with_domains(certificates, places, wanted), places)
    if wanted is None:
        return proposal
    others = not_served(proposal.certificates, places, wanted)
    return replace(proposal, left_out=(*proposal.left_out, *others))


def _imported(one: OldCertificate, places: Places, client: str, *why: Text) -> ProposedCertificate:
    remarks = list(why)
    for hook in one.installed.runs:
        if hook.goes_to_qiniu and places.target:  # certferry does that, too
            remark = Text(
                "{client} still runs `{program}` after a renewal, beside certferry: have it run"
                " `certferry hook {client}` instead"
            )
            remarks.append(remark.filled(client=client, program=hook.program))
    return ProposedCertificate(
        one.lineage, files=one.files, remarks=tuple(remarks), adopts=one.bundle
    )


def _taken_over(one: OldCertificate, places: Places, client: str) -> ProposedCertificate:
    obstacle = _why_not_issued(one, places)
    if obstacle is not None:
        why = Text(
            "{client} goes on renewing it, since certferry cannot prove its names: {reason}",
            client=client,
            reason=obstacle,
        )
        return _imported(one, places, client, why)
    directory = one.installed.directory
    reload = _reload(one.installed, places) if directory else ""
    remarks = [*_copies_no_more(one.installed, directory)]
    deployments: tuple[ProposedDeployment, ...] = ()
    if directory:
        deployments = (_in_files(one.installed, directory, reload),)
        remarks += _changes_of_access(one.installed, reload)
    remarks += _runs_no_more(one.installed, reload, places, client)
    return ProposedCertificate(
        one.lineage,
        one.names,
        places.dns,
        _KINDS.get(one.key_type),
        deployments=deployments,
        remarks=tuple(remarks),
        adopts=one.bundle,
    )


def _why_not_issued(one: OldCertificate, places: Places) -> Text | None:
    if not places.dns:
        return Text("no DNS account is known")
    for name in one.names:
        reason = places.obstacle(name)
        if reason is not None:
            return Text("{name}: {reason}", name=name, reason=reason)
    return None


def _in_files(theirs: Installed, directory: str, reload: str) -> ProposedDeployment:
    """Go on with the copies, for the same readers as far as that can be declared: the files are
    not executable, and other users cannot read the key.
    """
    access = replace(
        theirs.access,
        mode=theirs.access.mode & _READ_AND_WRITE | stat.S_IRUSR,
        key_mode=theirs.access.key_mode & _READ_AND_WRITE & ~_OTHERS | stat.S_IRUSR,
    )
    return ProposedDeployment("files", None, directory, reload, access)


def _changes_of_access(theirs: Installed, reload: str) -> Iterator[Text]:
    """Name a key that every user could read, and a program that may deploy to Qiniu without saying
    so by its words, or that may read acme.sh's variables.
    """
    if theirs.access.key_mode & _OTHERS:
        yield Text(
            "every user could read {path}: from now on only its owner and group",
            path=theirs.privkey,
        )
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
            "programs that read {files} today need a deployment to files: certferry writes"
            " {names} into a directory of your choice",
            files=files,
            names=_NAMES,
        )


def _reload(theirs: Installed, places: Places) -> str:
    """Return what goes on being run: a program that deploys to Qiniu only where certferry does not.
    Two of those would fight, and with none of them the certificate there would end.
    """
    hook = OldHook(theirs.reload)
    ends = hook.calls_certferry or (hook.goes_to_qiniu and places.target)
    return "" if ends else theirs.reload


def _runs_no_more(theirs: Installed, reload: str, places: Places, client: str) -> Iterator[Text]:
    for hook in theirs.runs:
        if hook.is_ours_alone or hook.command == reload:
            continue
        if hook.goes_to_qiniu and places.target:
            yield Text(
                "`{program}` is left out: certferry deploys to Qiniu now; anything else it"
                " does needs a `reload` of its own",
                program=hook.program,
            )
        else:
            yield Text(
                "`{program}`, which {client} runs at a renewal, is left out: where it is needed"
                " still, write it as `reload`, or as a deployment to `command`",
                program=hook.program,
                client=client,
            )


def adopt(
    lineage: str,
    bundle: CertificateBundle,
    *,
    state: StateStore,
    lease: Callable[[str], AbstractContextManager[Lease]],
    now: datetime,
    who: str,
) -> bool:
    """Store a certificate as the lineage's current one; return whether that was needed: a lineage
    that has the same certificate or a later one stays as it is. Raises `LeaseHeld` and
    `StateError`.
    """
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
    """Return each lineage the name under which its certificate is remembered, if it is: under a new
    one, what is at the targets would be another lineage's, and be uploaded and bound once more.
    """
    remembered = {lineage: state.versions(lineage) for lineage in state.lineages()}
    named: list[OldCertificate] = []
    for one in found:
        fingerprint = one.bundle.certificate.fingerprint
        known = [
            lineage
            for lineage, versions in remembered.items()
            if any(version.fingerprint == fingerprint for version in versions)
        ]
        taken = {other.lineage for other in (*found, *named)}
        free = [lineage for lineage in known if lineage not in taken]
        is_known = one.lineage in known or not free
        named.append(one if is_known else replace(one, lineage=free[0]))
    return tuple(named)
