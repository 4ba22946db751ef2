"""`certferry remove`: a certificate less in the configuration file, without an editor."""

from __future__ import annotations

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, name_argument, say


@click.command("remove")
@name_argument()
@click.option("--yes", is_flag=True, help="Ask nothing, and write.")
@click.pass_obj
def command(front: Front, name: str, *, yes: bool) -> Exit:
    """Take a certificate out of the configuration file.

    NAME is the certificate, or a domain whose certificate has one name. Its deployments and the
    comments directly above them go with it; the difference is shown first. What is bound stays
    bound, and is not renewed any more.
    """
    from certferry.cli.file_change import change
    from certferry.cli.selection import the_one_meant
    from certferry.config.propose import without_certificate
    from certferry.errors import ConfigError
    from certferry.text import Text
    from certferry.wiring.profiles import load_checked

    settings = load_checked(front.config, front.console.environ)
    wish = the_one_meant(settings.declared, name)
    lineage = wish.lineage
    if name != lineage and len(wish.names) > 1:  # its other domains may not be meant
        raise ConfigError(
            Text("{lineage} is for {names}", lineage=lineage, names=wish.names),
            hint=Text(
                "to remove all of it: `certferry remove {lineage}`; to take out {name} alone,"
                " change `names` with an editor",
                lineage=lineage,
                name=name,
            ),
        )
    place = settings.places[lineage]
    edited = without_certificate(place.document, int(place.trail[-1]))
    if change(front, place.document, edited, "file.remove", yes=yes):
        said = Text(
            "{lineage} is not declared any more: it is neither renewed nor deployed. If it is meant"
            " to end: `certferry forget {lineage}`",
            lineage=lineage,
        )
        say(front, said)
    return Exit.OK
