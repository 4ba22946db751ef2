"""`certferry add`: a certificate more in the configuration file, without an editor."""

from __future__ import annotations

from pathlib import Path

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, say


@click.command("add")
@click.argument("domains", metavar="DOMAIN...", nargs=-1, required=True)
@click.option("--each", is_flag=True, help="One certificate for each DOMAIN.")
@click.option("--dns", metavar="ACCOUNT", help="The account that writes the challenge records.")
@click.option("--to", metavar="ACCOUNT", help="The account that serves the certificate.")
@click.option("--yes", is_flag=True, help="Ask nothing, and write.")
@click.pass_obj
def command(
    front: Front,
    domains: tuple[str, ...],
    dns: str | None,
    to: str | None,
    *,
    each: bool,
    yes: bool,
) -> Exit:
    """Declare a certificate for DOMAINs in the configuration file.

    The difference is shown first. Comments and layout of the file stay. The accounts are those that
    the file has; where it has several, --dns and --to say which. Nothing is issued before the next
    sync.
    """
    from certferry.cli.file_change import change
    from certferry.config.document import read_document
    from certferry.config.load import NAME
    from certferry.config.propose import tables_of, with_certificates
    from certferry.core.discovery.proposal import Proposal
    from certferry.present.layout import Tone, labelled
    from certferry.present.vocabulary import WARNING
    from certferry.text import Text
    from certferry.wiring.additions import additions, already_declared, covered_already
    from certferry.wiring.profiles import load_checked

    settings = load_checked(front.config, front.console.environ)
    if already_declared(settings, domains):
        return say(front, Text("Every one of them is declared already. Nothing was changed."))
    certificates = additions(settings, domains, dns, to, each=each)
    for said in covered_already(settings, domains):
        front.console.remark(
            labelled(front.voice.say(WARNING), Tone.PENDING, front.voice.say(said))
        )
    document = read_document(settings.path or Path(NAME))
    tables = tables_of(Proposal(certificates), front.voice.say)
    if change(front, document, with_certificates(document, tables), "file.add", yes=yes):
        names = " ".join(one.lineage for one in certificates)
        say(front, Text("What will be done: `certferry plan {names}`", names=names))
    return Exit.OK
