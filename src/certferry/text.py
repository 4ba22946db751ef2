"""Sentences with named places, kept apart from their values until they are read.

The core, the adapters and the errors speak in `Text`; who presents them chooses the language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, tzinfo

LONGEST = 10_000
"""Characters of one value that are said. More is no sentence: an adapter that quotes fifty
megabytes would keep the run at them, and a signal waits for the end of each search in them; and the
state would keep them.
"""

Translate = Callable[[str], str]
"""Template in English → template in the reader's language, with the same named places."""


class Text:
    """One sentence: a template in English and the values of its named places.

    Values may be strings, numbers, moments, durations, other texts, or sequences of these.
    Two texts are equal when template and values are.
    """

    __slots__ = ("template", "values")

    def __init__(self, template: str, /, **values: object) -> None:
        if len(template) > LONGEST:  # none of ours
            template, values = "{words}", {"words": template}
        self.template = template
        self.values = {name: _bounded(value) for name, value in values.items()}

    def render(self, translate: Translate, zone: tzinfo | None = UTC) -> str:
        """Return the sentence in the reader's language, with moments in their time `zone`;
        `None` is the machine's.
        """
        shown = {name: show(value, translate, zone) for name, value in self.values.items()}
        template = translate(self.template) if self.template else ""
        return template.format_map(shown) if shown else template

    def filled(self, **values: object) -> Text:
        """Return the sentence with its places filled: for sentences that are kept in tables."""
        return Text(self.template, **values)

    def __str__(self) -> str:
        return self.render(_as_is)

    def __repr__(self) -> str:
        return f"Text({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Text):
            return NotImplemented
        return (self.template, self.values) == (other.template, other.values)

    def __hash__(self) -> int:
        return hash((self.template, str(self)))


class Quoted(str):
    """What a service said, as it may be shown (`core.redaction`). It is not kept for ever."""

    __slots__ = ()


class Unnamed(str):
    """The name of a certificate in a sentence by one who does not know it, such as the adapter of
    a service. `naming` puts the name there; without it, it reads as in a help.
    """

    __slots__ = ()


LINEAGE = Unnamed("NAME")


def naming(value: Text, lineage: str) -> Text:
    """Return a sentence with the name of the certificate that it is about, wherever that lacked."""
    return value.filled(**{name: _named(one, lineage) for name, one in value.values.items()})


def _named(value: object, lineage: str) -> object:
    if isinstance(value, Text):
        return naming(value, lineage)
    return lineage if isinstance(value, Unnamed) else value


def own_words(value: Text, instead: Text | str = "…") -> Text:
    """Return a sentence without what it quotes: for what is stored for ever."""
    return value.filled(**{name: _own(one, instead) for name, one in value.values.items()})


def _own(value: object, instead: Text | str) -> object:
    if isinstance(value, Text):
        return own_words(value, instead)
    if isinstance(value, list | tuple):
        return [_own(one, instead) for one in value]
    return instead if isinstance(value, Quoted) else value


def verbatim(words: str) -> Text:
    """Wrap words that came from outside, such as a server's message: never translated."""
    return Text("{words}", words=words)


def show(value: object, translate: Translate, zone: tzinfo | None = UTC) -> str:
    """Write one value of a named place for a person: moments with their offset from UTC, durations
    in round units, and of very long words the beginning.
    """
    if isinstance(value, Text):
        return value.render(translate, zone)
    if isinstance(value, datetime):
        local = value.astimezone(zone)
        return f"{local:%Y-%m-%d %H:%M} {offset(local)}"
    if isinstance(value, timedelta):
        return _duration(value).render(translate)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return _BETWEEN.render(translate).join(show(item, translate, zone) for item in value)
    return cut(str(value))


def cut(words: str) -> str:
    """Return words that came from outside, cut where they are too many."""
    if len(words) <= LONGEST:
        return words
    begun = words[: LONGEST - 1] + "…"
    return Quoted(begun) if isinstance(words, Quoted) else begun


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, list | tuple) and any(_is_too_long(one) for one in value):
        return [_bounded(one) for one in value]
    return value


def _is_too_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > LONGEST


def offset(moment: datetime) -> str:
    """Write how far the clock of a moment is from UTC: `UTC`, `+08:00`."""
    return moment.isoformat(timespec="minutes")[16:] if moment.utcoffset() else "UTC"


_BETWEEN = Text(", ")
"""What stands between the members of a list."""

_UNITS = (
    (timedelta(days=1), Text("1 day"), Text("{count} days")),
    (timedelta(hours=1), Text("1 hour"), Text("{count} hours")),
    (timedelta(minutes=1), Text("1 minute"), Text("{count} minutes")),
    (timedelta(seconds=1), Text("1 second"), Text("{count} seconds")),
)


def _duration(value: timedelta) -> Text:
    """Round down to the largest unit of which there are two; below that, to the next smaller."""
    for unit, one, many in _UNITS:
        count = value // unit
        if count >= 2:  # noqa: PLR2004 - one unit alone is written in the next smaller one
            return many.filled(count=count)
        if count == 1 and value == unit:
            return one
    return Text("{count} seconds", count=max(value // timedelta(seconds=1), 0))


def _as_is(template: str) -> str:
    return template
