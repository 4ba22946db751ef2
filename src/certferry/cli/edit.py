"""`certferry add` and `certferry remove`: the configuration file, changed without an editor.

The difference is shown first, and the file is written when the operator agrees, and only if it
loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certferry.cli.complaints import UsageMistake
from certferry.cli.exits import Exit
from certferry.cli.options import Front, interview_or_refuse, name_argument, say, warn
from certferry.errors import ConfigError
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, line
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.config.document import Document
    from certferry.config.propose import Edited

yes_option = click.option("--yes", is_flag=True, help="Ask nothing, and write.")


@click.command("add")
@click.argument("domains", metavar="DOMAIN...", nargs=-1, required=True)
@click.option("--each", is_flag=True, help="One certificate for each DOMAIN.")
@click.option("--dns", metavar="ACCOUNT", help="The account that writes the challenge records.")
@click.option("--to", metavar="ACCOUNT", help="The account that serves the certificate.")
@yes_option
@click.pass_obj
def add(
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
    from certferry.config.additions import Choice, additions, already_declared, covered_already
    from certferry.config.document import read_document
    from certferry.config.load import NAME
    from certferry.config.propose import tables_of, with_certificates
    from certferry.core.discovery.proposal import Proposal
    from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS, installed
    from certferry.wiring.settings import load_checked

    settings = load_checked(front.config, front.console.environ)
    if already_declared(settings, domains):
        return say(front, Text("Every one of them is declared already. Nothing was changed."))
    accounts, known = settings.accounts.values(), installed()
    proven = Choice("--dns", known.labels(DNS_PROVIDERS, accounts), dns)
    served = Choice("--to", known.labels(TARGETS, accounts), to)
    certificates = additions(settings, domains, proven, served, each=each)
    for covered in covered_already(settings, domains):
        warn(front, covered)
    document = read_document(settings.path or Path(NAME))
    tables = tables_of(Proposal(certificates), front.voice.say)
    if change(front, document, with_certificates(document, tables), "file.add", yes=yes):
        names = " ".join(one.lineage for one in certificates)
        say(front, Text("What will be done: `certferry plan {names}`", names=names))
    return Exit.OK


@click.command("remove")
@name_argument()
@yes_option
@click.pass_obj
def remove(front: Front, name: str, *, yes: bool) -> Exit:
    """Take a certificate out of the configuration file.

    NAME is the certificate, or a domain whose certificate has one name. Its deployments and the
    comments directly above them go with it; the difference is shown first. What is bound stays
    bound, and is not renewed any more.
    """
    from certferry.config.propose import without_certificate
    from certferry.wiring.selection import the_one_meant
    from certferry.wiring.settings import load_checked

    settings = load_checked(front.config, front.console.environ)
    desired = the_one_meant(settings.declared, name)
    lineage = desired.lineage
    if name != lineage and len(desired.names) > 1:  # its other domains may not be meant
        raise ConfigError(
            Text("{lineage} is for {names}", lineage=lineage, names=desired.names),
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


def change(front: Front, document: Document, edited: Edited, event: str, *, yes: bool) -> bool:
    """Replace the file that was read by the new text; return whether the operator, or `yes`, agreed
    to that.

    Raises `ConfigError` for a text that would not load, and `UsageMistake` where there is no
    terminal to ask at; then nothing is written.
    """
    from certferry.config.load import NAME, load_text
    from certferry.config.write import change_file
    from certferry.present.log_entries import log_change
    from certferry.wiring.settings import ADAPTERS, checked

    path = document.path or Path(NAME)
    try:
        checked(load_text(edited.text, path, front.console.environ, ADAPTERS))
    except ConfigError as error:
        said = Text("with this change the file would be wrong: {problem}", problem=error.message)
        raise ConfigError(said, hint=Text("nothing was changed")) from error
    if not (yes and front.quiet):
        front.console.print(_difference(edited, path, front.voice))
    if not yes:
        refusal = Text("nothing was written: there is no terminal to ask at; --yes writes it")
        interview = interview_or_refuse(front, UsageMistake(refusal))
        if not interview.confirm(Text("Write this to {path}?", path=path)):
            say(front, Text("Nothing was written."))
            return False
    change_file(path, document.text, edited.text)
    written = Text("Written: {path}", path=path)
    log_change(event, written, front.console.run_log)
    say(front, written)
    return True


def _difference(edited: Edited, path: Path, voice: Voice) -> Iterator[Line]:
    """Render the lines that go or come. None of those around them: a secret may stand there."""
    tone = Tone.GOOD if edited.sign == "+" else Tone.BAD
    for number, rows in edited.blocks:
        yield line(voice.say(Text("{path}, line {line}:", path=path, line=number)))
        yield from (line(Span(f"{edited.sign} {row.rstrip()}", tone)) for row in rows)
        yield line()
