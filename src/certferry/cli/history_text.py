"""What happened, as a person reads it: a line per event."""

from __future__ import annotations

from collections.abc import Sequence

from certferry.cli.lines import Line, Span, Tone, line
from certferry.cli.tables import columns
from certferry.cli.words import Voice
from certferry.core.report import HistoryEntry
from certferry.text import Text, verbatim


def told(entries: Sequence[HistoryEntry], voice: Voice) -> list[Line]:
    """Write events in the order they are given."""
    if not entries:
        return [line(voice.say(Text("Nothing has happened yet.")))]
    return columns([_row(entry, voice) for entry in entries])


def _row(entry: HistoryEntry, voice: Voice) -> tuple[Span, ...]:
    facts = " ".join(f"{name}={value}" for name, value in entry.facts.items())
    return (
        Span(voice.say(Text("{at}", at=entry.at)), Tone.FAINT),
        Span(entry.lineage, Tone.STRONG),
        Span(voice.word(entry.event)),
        Span(voice.say_on_one_line(verbatim(entry.who))),
        Span(voice.say_on_one_line(verbatim(facts)), Tone.FAINT),
    )
