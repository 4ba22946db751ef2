"""Propose declarations for the certificates of another ACME client, and store (adopt) the
certificates in certferry's state.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
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
from certferry.values import replace


def one_for_each_directory(
    certificates: Sequence[proposals.ProposedCertificate],
) -> list[proposals.ProposedCertificate]:
    """Return the certificates, with only one deployment to each directory. If the client copied
    several certificates into a directory, the youngest keeps the deployment, because the client
    copied it last. The others lose the deployment, and get a remark.
    """
    owners = {
        deployment.directory: certificate
        for certificate in sorted(certificates, key=_age)
        for deployment in certificate.deployments
    }
    kept = []
    for certificate in certificates:
        own = tuple(d for d in certificate.deployments if owners[d.directory] is certificate)
        left = Text("{directory} and its commands are left to {other}, which was copied there too")
        others = (d.directory for d in certificate.deployments if d not in own)
        remarks = [left.filled(directory=path, other=owners[path].lineage) for path in others]
        kept.append(replace(certificate, deployments=own, remarks=(*certificate.remarks, *remarks)))
    return kept


def without_duplicates(
    certificates: Sequence[proposals.ProposedCertificate], places: proposals.Places
) -> proposals.Proposal:
    """Return a proposal with the certificates. Of several certificates with the same names, leave
    out each without a deployment, unless it is the best (`_rank`). Leave out none if no target is
    known.
    """
    first = {
        frozenset(certificate.covered): certificate
        for certificate in sorted(certificates, key=_rank)
    }
    kept: list[proposals.ProposedCertificate] = []
    idle: list[proposals.LeftOut] = []
    for certificate in certificates:
        other = first[frozenset(certificate.covered)]
        # Without a target, certferry cannot know which certificates are served.
        if other is certificate or certificate.deployments or not places.targets:
            kept.append(certificate)
        else:
            reason = Text("{other} has the same names, and takes precedence", other=other.lineage)
            idle.append(proposals.LeftOut(certificate.lineage, reason, certificate))
    return proposals.Proposal(tuple(kept), tuple(idle))


def _age(certificate: proposals.ProposedCertificate) -> tuple[float, str]:
    begin = (
        0.0 if certificate.adopts is None else certificate.adopts.certificate.not_before.timestamp()
    )
    return begin, certificate.lineage


def _rank(certificate: proposals.ProposedCertificate) -> tuple[bool, tuple[bool, int, float], str]:
    return bool(certificate.deployments), proposals.fitness(certificate, ""), certificate.lineage


_READ_AND_WRITE = 0o664  # removes the right of all users to write
_OTHERS = stat.S_IRWXO

_KEEPERS_OF_SERVICES = frozenset({"systemctl", "service", "nginx"})
_KINDS = {kind.value: kind for kind in KeyType}
_NAMES = (FULLCHAIN, PRIVKEY, CERT, CHAIN)


def propose_takeover(
    old_certificates: Sequence[OldCertificate],
    places: proposals.Places,
    client: str,
    wanted: Collection[str] | None = None,
    *,
    keep_client: bool,
) -> proposals.Proposal:
    """Propose that certferry issues another client's certificates from now on. With `keep_client`,
    propose that certferry only deploys the client's files. A certificate whose names certferry
    cannot prove is deployed from the client's files in any case.

    The deployments serve the `wanted` domains; None: all domains.
    """
    certificates = [
        _imported(certificate, places, client)
        if keep_client
        else _taken_over(certificate, places, client)
        for certificate in old_certificates
    ]
    certificates = one_for_each_directory(certificates)
    proposal = without_duplicates(proposals.with_domains(certificates, places, wanted), places)
    if wanted is None:
        return proposal
    others = proposals.not_wanted(proposal.certificates, places, wanted)
    return replace(proposal, left_out=(*proposal.left_out, *others))


def _imported(
    certificate: OldCertificate, places: proposals.Places, client: str, *why: Text
) -> proposals.ProposedCertificate:
    remarks = list(why)
    for hook in certificate.installed.runs:
        if hook.destination(places.services) is not None:  # certferry deploys there too
            remark = Text(
                "{client} still runs `{program}` after a renewal, besides certferry: have"
                " {client} run `certferry hook {client}` instead"
            )
            remarks.append(remark.filled(client=client, program=hook.program))
    return proposals.ProposedCertificate(
        certificate.lineage,
        files=certificate.files,
        remarks=tuple(remarks),
        adopts=certificate.bundle,
    )


def _taken_over(
    certificate: OldCertificate, places: proposals.Places, client: str
) -> proposals.ProposedCertificate:
    obstacle = _why_not_issued(certificate, places)
    if obstacle is not None:
        why = Text(
            "{client} keeps renewing the certificate, since certferry cannot prove its names:"
            " {reason}"
        )
        return _imported(certificate, places, client, why.filled(client=client, reason=obstacle))
    directory = certificate.installed.directory
    reload = _reload(certificate.installed, places) if directory else ""
    remarks = [*_copies_no_more(certificate.installed, directory)]
    deployments: tuple[proposals.ProposedDeployment, ...] = ()
    if directory:
        deployments = (_in_files(certificate.installed, directory, reload),)
        remarks += _changes_of_access(certificate.installed, reload)
    remarks += _runs_no_more(certificate.installed, reload, places, client)
    return proposals.ProposedCertificate(
        certificate.lineage,
        certificate.names,
        places.dns,
        _KINDS.get(certificate.key_type),
        deployments=deployments,
        remarks=tuple(remarks),
        adopts=certificate.bundle,
    )


def _why_not_issued(certificate: OldCertificate, places: proposals.Places) -> Text | None:
    if not places.dns:
        return Text("no DNS account is known")
    for name in certificate.names:
        reason = places.obstacle(name)
        if reason is not None:
            return Text("{name}: {reason}", name=name, reason=reason)
    return None


def _in_files(theirs: Installed, directory: str, reload: str) -> proposals.ProposedDeployment:
    """Return a deployment that writes the files which the client copied to `directory` until now.
    Owner, group and modes stay, without rights that certferry refuses, and with the owner's right
    to read.
    """
    access = replace(
        theirs.access,
        mode=theirs.access.mode & _READ_AND_WRITE | stat.S_IRUSR,
        key_mode=theirs.access.key_mode & _READ_AND_WRITE & ~_OTHERS | stat.S_IRUSR,
    )
    return proposals.ProposedDeployment("files", None, directory, reload, access)


def _changes_of_access(theirs: Installed, reload: str) -> Iterator[Text]:
    """Yield a remark if other users can no longer read the key. Yield a remark about the program of
    `reload`, which from now on gets certferry's variables, unless the program only controls
    services.
    """
    if theirs.access.key_mode & _OTHERS:
        message = Text("every user could read {path}: from now on only the owner and the group can")
        yield message.filled(path=theirs.privkey)
    program = OldHook(reload).program
    if reload and program not in _KEEPERS_OF_SERVICES:
        yield Text(
            "`{program}` keeps running, with the paths in CERTFERRY_FULLCHAIN and"
            " CERTFERRY_PRIVKEY; if the program deploys to a service, remove it from `reload` where"
            " certferry deploys there",
            program=program,
        )


def _copies_no_more(theirs: Installed, directory: str) -> Iterator[Text]:
    kept = {f"{directory}/{name}" for name in _NAMES} if directory else set()
    files = [path for path in theirs.copies if path not in kept]
    if files:
        yield Text(
            "programs that read {files} today need a deployment to files: certferry then writes"
            " {names} into a directory of your choice",
            files=files,
            names=_NAMES,
        )


def _reload(theirs: Installed, places: proposals.Places) -> str:
    """Return the client's reload command if the deployment should keep the command, else "".

    A command is not kept if it calls certferry's own hook, or deploys to the service of a target
    account.
    """
    hook = OldHook(theirs.reload)
    ends = hook.calls_certferry or hook.destination(places.services) is not None
    return "" if ends else theirs.reload


def _runs_no_more(
    theirs: Installed, reload: str, places: proposals.Places, client: str
) -> Iterator[Text]:
    for hook in theirs.runs:
        if hook.is_ours_alone or hook.command == reload:
            continue
        service = hook.destination(places.services)
        if service is not None:
            message = Text(
                "`{program}` is left out: certferry deploys to {service} now; for anything else"
                " that the program does, set `reload`"
            )
        else:
            message = Text(
                "`{program}`, which {client} runs at a renewal, is left out: if still needed, set"
                " it as `reload`, or as a deployment to `command`"
            )
        called = None if service is None else service.called
        yield message.filled(program=hook.program, client=client, service=called)


def adopt(
    lineage: str,
    bundle: CertificateBundle,
    *,
    state: StateStore,
    lease: Callable[[str], AbstractContextManager[Lease]],
    now: datetime,
    who: str,
) -> bool:
    """Store a certificate as a version of a lineage, unless the lineage has an equally new or newer
    certificate. Return whether the certificate was stored.

    Raise `LeaseHeld` if another run works on the lineage, and `StateError`.
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


def as_remembered(
    certificates: Sequence[OldCertificate], state: StateStore
) -> tuple[OldCertificate, ...]:
    """Return the certificates with changed lineages: a certificate that the state stores already
    gets the lineage from the state. Under a new lineage, a run would upload the certificate again.

    A certificate keeps its lineage if the state lacks the certificate, or if another of the
    certificates has the lineage from the state.
    """
    remembered = state.versions_of(state.lineages())
    named: list[OldCertificate] = []
    for certificate in certificates:
        own = certificate.bundle.certificate.fingerprint
        stored_names = [
            name for name, all_ in remembered.items() if any(v.fingerprint == own for v in all_)
        ]
        taken = {other.lineage for other in (*certificates, *named)}
        free = [lineage for lineage in stored_names if lineage not in taken]
        is_known = certificate.lineage in stored_names or not free
        named.append(certificate if is_known else replace(certificate, lineage=free[0]))
    return tuple(named)
