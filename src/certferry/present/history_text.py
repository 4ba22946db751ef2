"""The history of changes, newest first, for people and for programs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from certferry.core.certificates.certificate import short
from certferry.core.observed.records import HistoryEntry
from certferry.present.documents import Document, moment
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, columns, line
from certferry.present.vocabulary import at_target
from certferry.text import Text, verbatim

_FOUND = re.compile(r"(\w+): ([^,]+)")
"""What another tool changed, as `core.planning.drift.in_one_line` writes it."""


def document(entries: Sequence[HistoryEntry]) -> Document:
    """Return what `history --json` prints."""
    return {
        "entries": [
            {
                "at": moment(entry.at),
                "name": entry.lineage,
                "event": entry.event,
                "who": entry.who,
                "facts": dict(entry.facts),
            }
            for entry in entries
        ]
    }


def lines(entries: Sequence[HistoryEntry], voice: Voice) -> list[Line]:
    """Render events in this order."""
    if not entries:
        return [line(voice.say(Text("Nothing has happened yet.")))]
    return columns(
        [
            (
                Span(voice.say(Text("{at}", at=entry.at)), Tone.FAINT),
                Span(entry.lineage, Tone.STRONG),
                Span(voice.word(entry.event)),
                Span(voice.say_on_one_line(verbatim(entry.who))),
                Span(voice.say_on_one_line(_facts(entry, voice)), Tone.FAINT),
            )
            for entry in entries
        ]
    )


def _facts(entry: HistoryEntry, voice: Voice) -> Text:
    """Return where it happened, then to which certificate, then the rest: `qiniu → img.example.com
    · 160d954b691f`. What it is stands before a fact that does not say so itself.
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
    """Return a fact for a person: what another tool changed, in the reader's words."""
    if name != "found":
        return fact

    def change(found: re.Match[str]) -> str:
        what, was = (voice.word(word) for word in found.groups())
        return voice.say(Text("{what}: {was}", what=what, was=was))

    return _FOUND.sub(change, fact)
