"""`certferry dns-persist`: the record of dns-persist-01 that proves a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option
from certferry.present.layout import Line, Span, Tone, columns, line
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.core.dns_persist import PersistRecord

_EXPERIMENTAL = Text(
    "Experimental: dns-persist-01 is a draft (-02), and a later one may ask for another record."
    " While the record is there, the account's key alone gets certificates for the name."
)
_NOT_ON = Text("It is used once `dns_persist = true` stands under [acme].")


@click.command("dns-persist")
@click.argument("name", metavar="NAME")
@json_option
@click.pass_obj
def command(front: Front, name: str, *, as_json: bool) -> Exit:
    """Print the one DNS record that proves NAME for ever (experimental).

    NAME is a domain or a wildcard; for a wildcard, or if one is declared, the record covers both.
    Set by hand, it takes the place of a DNS account. The account at the CA that it names
    is made where there is none yet.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.core.certificates.names import normalise
    from certferry.present import documents
    from certferry.wiring.ca_session import open_to_register

    asked, settings = normalise(name), settings_or_defaults(front)
    with open_to_register(settings, language=front.voice.language) as session:
        record = session.persist_record(asked)
    console = front.console
    if as_json:
        console.hand_out(documents.of_persist_record(record))
        return Exit.OK
    console.show(_lines(record, front))
    if not front.quiet:
        told = [_EXPERIMENTAL] if settings.acme.dns_persist else [_EXPERIMENTAL, _NOT_ON]
        console.remark([line(front.voice.say(one)) for one in told])
    return Exit.OK


def _lines(record: PersistRecord, front: Front) -> list[Line]:
    parts = (
        (Text("name"), record.name),
        (Text("type"), record.rtype),
        (Text("value"), record.value),
    )
    return columns([(Span(front.voice.say(what), Tone.FAINT), Span(part)) for what, part in parts])
