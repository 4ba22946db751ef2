"""`certferry history`: who did what when, newest first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, WholeNumber, json_option, name_argument
from certferry.core.certificates.certificate import short
from certferry.present.console import Console
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, columns, line
from certferry.present.vocabulary import at_target
from certferry.text import Text, verbatim

if TYPE_CHECKING:
    from certferry.core.observed.records import HistoryEntry
    from certferry.wiring.session import Session

_MOST = 50
_FOUND = re.compile(r"(\w+): ([^,]+)")
"""What another tool changed, as `core.planning.drift.in_one_line` writes it."""


@click.command("history")
@name_argument(required=False)
@click.option(
    "--limit",
    metavar="N",
    type=WholeNumber(min=1, max=1_000_000),
    default=_MOST,
    show_default=True,
    help="Show no more than this.",
)
@json_option
@click.pass_obj
def command(front: Front, name: str | None, *, limit: int, as_json: bool) -> Exit:
    """Show the history of changes, newest first.

    Without NAME: every certificate there has been.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.wiring.looking import open_to_look

    with open_to_look(settings_or_defaults(front)) as session:
        return show_history(session, name, limit, front.console, as_json=as_json)


def show_history(
    session: Session, name: str | None, limit: int, console: Console, *, as_json: bool
) -> Exit:
    """Show what the state remembers. Raises `ConfigError` for a name that nothing is known of."""
    from certferry.cli.selection import must_be_known
    from certferry.present import documents

    entries = session.state.history(name, limit)
    if name is not None and not entries:
        entries = session.state.history(must_be_known(name, session), limit)
    if as_json:
        console.hand_out(documents.of_history(entries))
    else:
        console.tell(told(entries, console.voice))
    return Exit.OK


def told(entries: Sequence[HistoryEntry], voice: Voice) -> list[Line]:
    """Write events in this order."""
    if not entries:
        return [line(voice.say(Text("Nothing has happened yet.")))]
    return columns([_row(entry, voice) for entry in entries])


def _row(entry: HistoryEntry, voice: Voice) -> tuple[Span, ...]:
    return (
        Span(voice.say(Text("{at}", at=entry.at)), Tone.FAINT),
        Span(entry.lineage, Tone.STRONG),
        Span(voice.word(entry.event)),
        Span(voice.say_on_one_line(verbatim(entry.who))),
        Span(voice.say_on_one_line(_facts(entry, voice)), Tone.FAINT),
    )


def _facts(entry: HistoryEntry, voice: Voice) -> Text:
    """Say where it happened, then to which certificate, then the rest: `qiniu → img.example.com ·
    160d954b691f`. What it is stands before a fact that does not say so itself.
    """
    facts = dict(entry.facts)
    target, domain = facts.pop("target", None), facts.pop("domain", None)
    place = domain if target is None else at_target(target, domain)
    ids = [short(facts.pop(name)) for name in ("remote_id", "fingerprint") if name in facts]
    rest = [
        fact if name == "problem" else f"{voice.word(name)}={_in_words(name, fact, voice)}"
        for name, fact in facts.items()
    ]
    parts = [*([] if place is None else [str(place)]), *ids, *rest]
    return verbatim(" · ".join(parts))


def _in_words(name: str, fact: str, voice: Voice) -> str:
    """Write a fact for a person: what another tool changed, in the reader's words."""
    if name != "found":
        return fact

    def change(found: re.Match[str]) -> str:
        what, was = (voice.word(word) for word in found.groups())
        return voice.say(Text("{what}: {was}", what=what, was=was))

    return _FOUND.sub(change, fact)
