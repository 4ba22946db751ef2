"""`certferry rollback`: bind the previous certificate again. `certferry revoke`: revoke the newest
certificate at the CA.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from certferry.cli import options
from certferry.cli.exits import Exit
from certferry.cli.selection import running, settings_of_one, workspace_of
from certferry.cli.sync import show_report
from certferry.core.certificates.lineage import RevocationReason, Version
from certferry.core.observed.stored_runs import RunKind
from certferry.present.language import one_or_many
from certferry.reconcile.by_hand import to_revoke
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring import authorities
from certferry.wiring.run_row import RunOptions
from certferry.wiring.runner import RunInProgress
from certferry.wiring.selection import must_be_known
from certferry.wiring.workspace import who_runs


@click.command("rollback")
@options.name_argument()
@options.wait_option("Stop waiting for the edges after SECONDS. Default: wait to the end.")
@options.no_wait_option
@options.json_option
@click.pass_obj
def command(
    context: options.CommandContext, name: str, *, wait: int | None, no_wait: bool, as_json: bool
) -> Exit:
    """Bind the previous certificate of NAME again, at every domain.

    The replaced certificate is not deployed there again. `certferry sync --renew NAME` issues a new
    certificate now.
    """
    wait_limit = options.wait_limit_of(wait, no_wait=no_wait)
    wanted = RunOptions(RunKind.ROLLBACK, is_whole=False, wait_limit=wait_limit)
    with running(context, settings_of_one(context, name)) as (workspace, run):
        report = RunInProgress(workspace, run, wanted).roll_back()
    return show_report(report, context, as_json=as_json)


@click.command("revoke")
@options.name_argument()
@click.option(
    "--reason",
    metavar="REASON",
    required=True,
    type=click.Choice([reason.value for reason in RevocationReason]),
    help="`unspecified`, `keyCompromise`, `affiliationChanged`, `superseded` or"
    " `cessationOfOperation`.",
)
@options.yes_option
@click.pass_obj
def revoke(context: options.CommandContext, name: str, reason: str, *, yes: bool) -> Exit:
    """Revoke the newest certificate of NAME at the CA; the next sync replaces it.

    Cannot be undone. `keyCompromise` revokes every valid certificate with the same key, and the key
    is not used again.
    """
    because = RevocationReason(reason)
    with workspace_of(context) as workspace:
        name = must_be_known(name, workspace)
        meant = to_revoke(name, because, workspace.state, workspace.state.now())
        if not meant:
            return options.say(
                context, Text("{name}: already revoked; nothing was changed.", name=name)
            )
        if not options.is_wanted(context, _question(name, meant), yes=yes):
            return options.say(context, Text("Nothing was changed."))
        settings = workspace.settings
        run = Run(who_runs(settings))
        revocations = authorities.revocations(settings, workspace.state, run)
        for version in revocations.revoke(name, because):
            serial = version.certificate.serial
            options.say(context, Text("{name}: revoked, serial {serial}", name=name, serial=serial))
        newest = workspace.state.versions(name)[0]
    if newest.revocation is None:
        message = Text(
            "an earlier revocation was completed; the newest certificate of {name}, serial"
            " {serial}, was not revoked: to revoke it too, run the command again"
        )
        options.warn(context, message.filled(name=name, serial=newest.certificate.serial))
        return Exit.OK
    return options.say(context, Text("`certferry sync {name}` replaces it.", name=name))


def _question(name: str, versions: Sequence[Version]) -> Text:
    leaves = [version.certificate for version in versions]
    return one_or_many(
        len(leaves),
        Text("Revoke {name} ({names}), serial {serials}, permanently?"),
        Text("Revoke {count} certificates of {name}, serials {serials}, permanently?"),
        name=name,
        names=leaves[0].names,
        serials=[leaf.serial for leaf in leaves],
    )
