"""What to declare for the certificates of another client. Pure."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from certferry.core.certificate import CERT, CHAIN, FULLCHAIN, PRIVKEY, KeyType
from certferry.core.proposal import (
    Places,
    Proposal,
    ProposedCertificate,
    ProposedDeployment,
    not_served,
    with_domains,
)
from certferry.migration.duplicates import one_for_each_directory, without_duplicates
from certferry.migration.home import Installed, OldCertificate, OldHook
from certferry.text import Text

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
    cannot be or is not wanted, made there and ferried. They go to the `wanted` domains, `None` for
    all that they cover.
    """
    certificates = [
        _ferried(one, places, client) if keep_client else _taken_over(one, places, client)
        for one in found
    ]
    certificates = one_for_each_directory(certificates)
    proposal = without_duplicates(with_domains(certificates, places, wanted), places)
    if wanted is None:
        return proposal
    others = not_served(proposal.certificates, places, wanted)
    return replace(proposal, left_out=(*proposal.left_out, *others))


def _ferried(one: OldCertificate, places: Places, client: str, *why: Text) -> ProposedCertificate:
    goes_on = _what_goes_on(one.installed, client) if places.target else ()
    remarks = (*why, *goes_on)
    return ProposedCertificate(one.lineage, files=one.files, remarks=remarks, adopts=one.bundle)


def _what_goes_on(theirs: Installed, client: str) -> Iterator[Text]:
    """Name what the client deploys to Qiniu with, since certferry does that, too."""
    for hook in theirs.runs:
        if hook.goes_to_qiniu:
            yield Text(
                "{client} still runs `{program}` after a renewal, beside certferry: have it run"
                " `certferry hook {client}` instead",
                client=client,
                program=hook.program,
            )


def _taken_over(one: OldCertificate, places: Places, client: str) -> ProposedCertificate:
    obstacle = _why_not_issued(one, places)
    if obstacle is not None:
        why = Text(
            "{client} goes on renewing it, since certferry cannot prove its names: {reason}",
            client=client,
            reason=obstacle,
        )
        return _ferried(one, places, client, why)
    directory = one.installed.directory
    reload = _reload(one.installed, places) if directory else ""
    remarks = [*_copies_no_more(one.installed, directory)]
    deployments: tuple[ProposedDeployment, ...] = ()
    if directory:
        deployments = (_in_files(one.installed, directory, reload),)
        remarks += [*_key_for_all(one.installed), *_runs_on(reload)]
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


def _key_for_all(theirs: Installed) -> Iterator[Text]:
    if theirs.access.key_mode & _OTHERS:
        yield Text(
            "every user could read {path}: from now on only its owner and group",
            path=theirs.privkey,
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
    """Give what goes on being run. What deploys to Qiniu does so only where certferry does not: two
    of those would fight, and with none of them the certificate there would end.
    """
    hook = OldHook(theirs.reload)
    ends = hook.calls_certferry or (hook.goes_to_qiniu and places.target)
    return "" if ends else theirs.reload


def _runs_on(reload: str) -> Iterator[Text]:
    """Name a program that may deploy to Qiniu without saying so by its words, or that may ask for
    what acme.sh has told it.
    """
    program = OldHook(reload).program
    if reload and program not in _KEEPERS_OF_SERVICES:
        yield Text(
            "`{program}` goes on being run, and finds the paths in CERTFERRY_FULLCHAIN and"
            " CERTFERRY_PRIVKEY; if it deploys to Qiniu, take it out of `reload` where certferry"
            " does that",
            program=program,
        )


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
