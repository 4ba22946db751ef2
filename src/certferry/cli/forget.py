"""`certferry forget`: a certificate that the file declares no more is meant to end."""

from __future__ import annotations

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, say


@click.command("forget")
@click.argument("name", metavar="NAME")
@click.pass_obj
def command(front: Front, name: str) -> Exit:
    """Confirm that NAME, which is no longer in the file, is meant to end.

    Until then every run tells of it while its certificate is valid. Nothing is removed: where it is
    deployed, the certificate stays until it expires. Declared again, NAME goes on.
    """
    from certferry.cli.selection import lineages_meant, must_be_known, settings_or_defaults
    from certferry.core.observed.records import HistoryEntry
    from certferry.errors import ConfigError
    from certferry.ports.progress import no_listener
    from certferry.text import Text
    from certferry.wiring.clock import now
    from certferry.wiring.session import open_session, who_runs
    from certferry.wiring.undeclared import forget, newest

    settings = settings_or_defaults(front)
    for declared in lineages_meant(name, settings.declared):
        raise ConfigError(
            Text("{lineage} is still in the configuration file", lineage=declared),
            hint=Text("remove it from the file first"),
        )
    moment = now()
    with open_session(settings, progress=no_listener, language=front.voice.language) as session:
        lineage = must_be_known(name, session)
        certificate = newest(lineage, session.state, moment)
        forget(lineage, session.state)
        session.state.append_history(HistoryEntry(moment, lineage, "forgotten", who_runs()))
    said = Text("No run tells of {lineage} any more.", lineage=lineage)
    if certificate is not None:
        said = Text(
            "No run tells of {lineage} any more. Its certificate is valid until {moment}, and stays"
            " where it is.",
            lineage=lineage,
            moment=certificate.not_after,
        )
    return say(front, said)
