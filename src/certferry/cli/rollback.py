"""`certferry rollback` and `certferry revoke`: certificates that are taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit
from certferry.cli.options import (
    Front,
    is_wanted,
    json_option,
    name_argument,
    no_wait_option,
    say,
    wait_limit_of,
    wait_option,
    warn,
    yes_option,
)
from certferry.core.certificates.lineage import RevocationReason
from certferry.present.language import one_or_many
from certferry.text import Text
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.core.certificates.lineage import Version


@click.command("rollback")
@name_argument()
@wait_option("Stop waiting for the edges after SECONDS. Default: wait to the end.")
@no_wait_option
@json_option
@click.pass_obj
def command(front: Front, name: str, *, wait: int | None, no_wait: bool, as_json: bool) -> Exit:
    """Bind the previous certificate of NAME again, at every domain that it is for.

    The certificate that it replaces is not deployed there again. `certferry sync --renew NAME`
    issues a new one now.
    """
    from certferry.cli.selection import running, settings_of_one
    from certferry.cli.sync import show_report
    from certferry.reconcile.by_hand import go_back, withdraw_by_hand

    wait_limit = wait_limit_of(wait, no_wait=no_wait)
    with running(front, settings_of_one(front, name)) as (workspace, run):
        ports = workspace.connect(run)
        (desired,) = workspace.certificates
        desired = withdraw_by_hand(ports, desired)  # only its caller hears of a refusal
        report = workspace.notifications(run).notify_of(lambda: go_back(ports, desired, wait_limit))
    return show_report(report, front, as_json=as_json)


@click.command("revoke")
@name_argument()
@click.option(
    "--reason",
    metavar="REASON",
    required=True,
    type=click.Choice([reason.value for reason in RevocationReason]),
    help="`unspecified`, `keyCompromise`, `affiliationChanged`, `superseded` or"
    " `cessationOfOperation`.",
)
@yes_option
@click.pass_obj
def revoke(front: Front, name: str, reason: str, *, yes: bool) -> Exit:
    """Revoke the newest certificate of NAME at its CA; the next sync replaces it.

    This cannot be undone. With `keyCompromise` every valid certificate with the same key is
    revoked, and the key is not used again.
    """
    from certferry.cli.selection import workspace_of
    from certferry.reconcile.by_hand import to_revoke
    from certferry.reconcile.run import Run
    from certferry.wiring.authorities import revoke
    from certferry.wiring.selection import must_be_known
    from certferry.wiring.workspace import who_runs

    because = RevocationReason(reason)
    with workspace_of(front) as workspace:
        name = must_be_known(name, workspace)
        meant = to_revoke(name, because, workspace.state, now())
        if not meant:
            return say(front, Text("{name}: revoked already; nothing was changed.", name=name))
        if not is_wanted(front, _question(name, meant), yes=yes):
            return say(front, Text("Nothing was changed."))
        for version in revoke(name, because, workspace.settings, workspace.state, Run(who_runs())):
            serial = version.certificate.serial
            say(front, Text("{name}: revoked, serial {serial}", name=name, serial=serial))
        newest = workspace.state.versions(name)[0]
    if newest.revocation is None:
        said = Text(
            "that was begun before; the newest certificate of {name}, serial {serial}, was not"
            " revoked: if it is meant, run the command again"
        )
        warn(front, said.filled(name=name, serial=newest.certificate.serial))
        return Exit.OK
    return say(front, Text("`certferry sync {name}` replaces it.", name=name))


def _question(name: str, versions: Sequence[Version]) -> Text:
    leaves = [version.certificate for version in versions]
    return one_or_many(
        len(leaves),
        Text("Revoke {name} ({names}), serial {serials}, for ever?"),
        Text("Revoke {count} certificates of {name}, serials {serials}, for ever?"),
        name=name,
        names=leaves[0].names,
        serials=[leaf.serial for leaf in leaves],
    )
