"""`certferry revoke`: revoke a certificate at its CA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, is_wanted, name_argument, say, yes_option
from certferry.core.certificates.lineage import RevocationReason
from certferry.present.layout import Tone, labelled
from certferry.present.vocabulary import WARNING, one_or_many
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.core.certificates.lineage import Version


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
def command(front: Front, name: str, reason: str, *, yes: bool) -> Exit:
    """Revoke the newest certificate of NAME at its CA; the next sync replaces it.

    This cannot be undone. With `keyCompromise` every valid certificate with the same key is
    revoked, and the key is not used again.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.reconcile.by_hand import to_revoke
    from certferry.reconcile.run import Run
    from certferry.wiring.authorities import revoke
    from certferry.wiring.clock import now
    from certferry.wiring.selection import must_be_known
    from certferry.wiring.workspace import Workspace, who_runs

    settings, because = settings_or_defaults(front), RevocationReason(reason)
    with Workspace(settings, reads_only=True, language=front.voice.language) as workspace:
        name = must_be_known(name, workspace)
        meant = to_revoke(name, because, workspace.state, now())
        if not meant:
            return say(front, Text("{name}: revoked already; nothing was changed.", name=name))
        if not is_wanted(front, _question(name, meant), yes=yes):
            return say(front, Text("Nothing was changed."))
        for version in revoke(name, because, settings, workspace.state, Run(who_runs())):
            serial = version.certificate.serial
            say(front, Text("{name}: revoked, serial {serial}", name=name, serial=serial))
        newest = workspace.state.versions(name)[0]
    if newest.revocation is None:
        said = Text(
            "that was begun before; the newest certificate of {name}, serial {serial}, was not"
            " revoked: if it is meant, run the command again",
            name=name,
            serial=newest.certificate.serial,
        )
        front.console.print_stderr(
            labelled(front.voice.say(WARNING), Tone.PENDING, front.voice.say(said))
        )
        return Exit.OK
    return say(front, Text("`certferry sync {name}` replaces it.", name=name))


def _question(name: str, versions: Sequence[Version]) -> Text:
    leaves = [version.certificate for version in versions]
    places = {
        "name": name,
        "names": leaves[0].names,
        "serials": [leaf.serial for leaf in leaves],
        "count": len(leaves),
    }
    return one_or_many(
        len(leaves),
        Text("Revoke {name} ({names}), serial {serials}, for ever?", **places),
        Text("Revoke {count} certificates of {name}, serials {serials}, for ever?", **places),
    )
