"""What to declare for the lineages of another client. Pure."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import replace

from certferry.core.certificate import CERT, CHAIN, FULLCHAIN, PRIVKEY, KeyType
from certferry.core.proposal import (
    Access,
    LeftOut,
    Places,
    Proposal,
    ProposedCertificate,
    ProposedDeployment,
    with_domains,
)
from certferry.migration.home import Installed, OldCertificate, OldHook
from certferry.migration.twins import one_for_each_directory, without_idle_twins
from certferry.text import Text

_READ_AND_WRITE = 0o664  # without the right to write for all
_OTHERS = stat.S_IRWXO

_KEEPERS_OF_SERVICES = frozenset({"systemctl", "service", "nginx"})

_NAMES = (FULLCHAIN, PRIVKEY, CERT, CHAIN)


def propose_for_inherited(
    inherited: Sequence[OldCertificate], places: Places, client: str, *, keep_client: bool
) -> Proposal:
    """Propose to go on with another client's lineages: issued here from now on, or, where that
    cannot be or is not wanted, made there and ferried.
    """
    certificates = []
    left_out = []
    for one in inherited:
        obstacle = None if keep_client else _why_not_issued(one, places, client)
        if obstacle is None and not keep_client:
            certificates.append(_taken_over(one, places, client))
        elif one.files is None:
            reason = Text("no single file of {client}'s holds its whole chain", client=client)
            left_out.append(LeftOut(one.lineage, reason))
        else:
            remarks = [] if obstacle is None else [obstacle]
            remarks += _what_it_goes_on_running(one.installed, client) if places.target else []
            certificates.append(
                ProposedCertificate(
                    one.lineage, files=one.files, remarks=tuple(remarks), adopts=one.bundle
                )
            )
    certificates = one_for_each_directory(certificates)
    return without_idle_twins(with_domains(certificates, places), left_out, places)


def _why_not_issued(one: OldCertificate, places: Places, client: str) -> Text | None:
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


def _taken_over(one: OldCertificate, places: Places, client: str) -> ProposedCertificate:
    kinds = {kind.value: kind for kind in KeyType}
    remarks = [] if one.key_type in kinds else [_other_key(one.key_type)]
    theirs = one.installed
    directory = _directory(theirs)
    remarks += _what_is_written_no_more(theirs, directory)
    deployments: tuple[ProposedDeployment, ...] = ()
    reload = ""
    if directory is not None:
        reload = _wanted_reload(theirs, places)
        remarks += _what_is_run_on(reload, places)
        access = _narrowed(theirs.access)
        deployments = (ProposedDeployment("files", None, directory, reload, access),)
        if theirs.access.key_mode & _OTHERS:
            remarks.append(_readable_by_all(theirs.privkey))
    given_up = [hook for hook in theirs.runs if _is_given_up(hook, reload)]
    remarks += [_run_no_more(hook, places, client) for hook in given_up]
    return ProposedCertificate(
        one.lineage,
        one.names,
        places.dns,
        kinds.get(one.key_type),
        deployments=deployments,
        remarks=tuple(remarks),
        adopts=one.bundle,
    )


def _narrowed(access: Access) -> Access:
    """Give what can be declared: nobody runs the files, and the key is not for everybody."""
    return replace(
        access,
        mode=access.mode & _READ_AND_WRITE | stat.S_IRUSR,
        key_mode=access.key_mode & _READ_AND_WRITE & ~_OTHERS | stat.S_IRUSR,
    )


def _readable_by_all(privkey: str) -> Text:
    return Text("every user could read {path}: from now on only its owner and group", path=privkey)


def _wanted_reload(theirs: Installed, places: Places) -> str:
    """What ran after a renewal. What deployed to Qiniu goes on only where certferry does not: two
    of those would fight, and with none of them the certificate there would end.
    """
    hook = OldHook(theirs.reload)
    deploys_for_us = hook.goes_to_qiniu and not hook.calls_certferry and not places.target
    return theirs.reload if hook.is_of_its_own or deploys_for_us else ""


def _what_is_run_on(reload: str, places: Places) -> list[Text]:
    """Tell of a program that goes on and may deploy to Qiniu, without saying so by its words."""
    hook = OldHook(reload)
    if not reload or hook.program in _KEEPERS_OF_SERVICES:
        return []
    if hook.goes_to_qiniu:
        return [
            Text(
                "`{program}` goes on being run, and deploys to Qiniu: certferry does that itself as"
                " soon as it has keys to the account there",
                program=hook.program,
            )
        ]
    if not places.target:
        return []
    return [
        Text(
            "`{program}` goes on being run: if it deploys to Qiniu, take it out of `reload`, since"
            " certferry does that now",
            program=hook.program,
        )
    ]


def _is_given_up(hook: OldHook, reload: str) -> bool:
    return not hook.is_ours_alone and hook.command != reload


def _run_no_more(hook: OldHook, places: Places, client: str) -> Text:
    if hook.goes_to_qiniu and places.target:
        return Text(
            "`{program}` is left out: to deploy to Qiniu is certferry's part now; what else it does"
            " needs a `reload` of its own",
            program=hook.program,
        )
    return Text(
        "`{program}`, which {client} runs at a renewal, is left out: where it is needed still,"
        " write it as `reload`, or as a deployment to `command`",
        program=hook.program,
        client=client,
    )


def _what_it_goes_on_running(theirs: Installed, client: str) -> list[Text]:
    return [
        Text(
            "{client} still runs `{program}` after a renewal, beside certferry: have it run"
            " `certferry hook {client}` instead",
            client=client,
            program=hook.program,
        )
        for hook in theirs.runs
        if hook.goes_to_qiniu and not hook.calls_certferry
    ]


def _directory(theirs: Installed) -> str | None:
    """Give the directory whose files are called as certferry calls them."""
    directory, _, fullchain = theirs.fullchain.rpartition("/")
    beside, _, privkey = theirs.privkey.rpartition("/")
    called = (fullchain, privkey) == (FULLCHAIN, PRIVKEY)
    return directory if called and directory == beside and directory else None


def _what_is_written_no_more(theirs: Installed, directory: str | None) -> list[Text]:
    kept = {f"{directory}/{name}" for name in _NAMES} if directory is not None else set()
    files = [path for path in theirs.copies if path not in kept]
    if not files:
        return []
    return [
        Text(
            "what reads {files} today needs a deployment to files: certferry calls them {names},"
            " in a directory of your choice",
            files=files,
            names=_NAMES,
        )
    ]


def _other_key(key_type: str) -> Text:
    return Text(
        "its key is {kind}, which certferry does not make: the next certificate has another kind",
        kind=key_type,
    )
