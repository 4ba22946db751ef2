"""`certferry rename` and `certferry forget`: certificates that the file declares no more."""

from __future__ import annotations

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, say
from certferry.errors import ConfigError
from certferry.text import Text


@click.command("rename")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.pass_obj
def rename(front: Front, old: str, new: str) -> Exit:
    """Keep the certificate of OLD under the name NEW.

    Rename it in the configuration file first. Nothing is issued, uploaded or bound again.
    """
    from certferry.cli.selection import read_settings
    from certferry.reconcile.by_hand import carry_over
    from certferry.reconcile.run import held_lease
    from certferry.wiring.clock import now
    from certferry.wiring.recorded import forget, newest
    from certferry.wiring.selection import the_one_meant
    from certferry.wiring.workspace import Workspace, who_runs

    settings = read_settings(front, ())
    if old in {one.lineage for one in settings.certificates}:
        raise _still_declared(old, Text("give it its new name in the file first"))
    new = the_one_meant(settings.certificates, new).lineage
    with Workspace(settings, language=front.voice.language) as workspace:
        certificate = newest(old, workspace.state, now())
        if certificate is None:
            raise ConfigError(
                Text("{lineage} has no certificate that is valid", lineage=old),
                hint=Text("`certferry history` shows the names that there have been"),
            )
        versions = workspace.state.versions(old)
        number = next(v.number for v in versions if v.certificate == certificate)
        with held_lease(workspace.state, now, old):
            carry_over(old, new, certificate, workspace.state)
            adopted = workspace.adopt(new, workspace.state.bundle(old, number), who_runs())
        if adopted:  # the new name answers for the certificate from now on
            forget(old, workspace.state)
    said = Text("{new} has the certificate of {old}, valid until {moment}.")
    if not adopted:
        said = Text("{new} has that certificate, or a later one. Nothing was changed.")
    return say(front, said.filled(old=old, new=new, moment=certificate.not_after))


@click.command("forget")
@click.argument("name", metavar="NAME")
@click.pass_obj
def forget(front: Front, name: str) -> Exit:
    """Confirm that NAME, which is no longer in the file, is meant to end.

    Until then every run tells of it while its certificate is valid. Nothing is removed: where it is
    deployed, the certificate stays until it expires. Declared again, NAME goes on.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.core.observed.records import HistoryEntry
    from certferry.wiring import recorded
    from certferry.wiring.clock import now
    from certferry.wiring.selection import lineages_meant, must_be_known
    from certferry.wiring.workspace import Workspace, who_runs

    settings = settings_or_defaults(front)
    for declared in lineages_meant(name, settings.declared):
        raise _still_declared(declared, Text("remove it from the file first"))
    moment = now()
    with Workspace(settings, language=front.voice.language) as workspace:
        lineage = must_be_known(name, workspace)
        certificate = recorded.newest(lineage, workspace.state, moment)
        recorded.forget(lineage, workspace.state)
        workspace.state.append_history(HistoryEntry(moment, lineage, "forgotten", who_runs()))
    said = Text("No run tells of {lineage} any more.", lineage=lineage)
    if certificate is not None:
        said = Text(
            "No run tells of {lineage} any more. Its certificate is valid until {moment}, and stays"
            " where it is.",
            lineage=lineage,
            moment=certificate.not_after,
        )
    return say(front, said)


def _still_declared(lineage: str, hint: Text) -> ConfigError:
    said = Text("{lineage} is still in the configuration file", lineage=lineage)
    return ConfigError(said, hint=hint)
