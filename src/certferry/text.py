"""Sentences with named places. A sentence and its values stay apart until a person reads the
sentence, so the sentence can be shown in the person's language.

The core, the adapters and the errors make a `Text`; the room `present` chooses the language.

    Text("{name} expires at {moment}", name=name, moment=moment)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, tzinfo

LONGEST = 10_000
"""The most characters of a value; a longer value is cut. An adapter may quote an answer of fifty
megabytes. Uncut, searches in the answer would keep the run busy and delay signals, and the state
would store the whole answer.
"""

Translate = Callable[[str], str]
"""A function that translates an English template into the reader's language. The translation has
the same named places.
"""


class Text:
    """A sentence: a template in English and the values of the named places.

    Values may be strings, numbers, moments, durations, other texts, or sequences of these. Two
    texts are equal if both the templates and the values are equal.
    """

    __slots__ = ("template", "values")

    def __init__(self, template: str, /, **values: object) -> None:
        if len(template) > LONGEST:  # certferry's own templates are shorter
            template, values = "{words}", {"words": template}
        self.template = template
        self.values = {name: _bounded(value) for name, value in values.items()}

    def render(self, translate: Translate, zone: tzinfo | None = UTC) -> str:
        """Return the sentence in the reader's language, with moments in time zone `zone`; None
        stands for the machine's zone.
        """
        shown = {name: show(value, translate, zone) for name, value in self.values.items()}
        template = translate(self.template) if self.template else ""
        return template.format_map(shown) if shown else template

    def filled(self, **values: object) -> Text:
        """Return a sentence with the same template and only these values."""
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
    """A service's words after `core.redaction` has masked secrets. `own_words` keeps these words
    out of the history, which is stored for ever.
    """

    __slots__ = ()


class Unnamed(str):
    """Stands for a certificate's name in a sentence whose author, such as an adapter, does not know
    the name. `naming` replaces the `Unnamed` by the name. Without `naming`, the reader sees NAME,
    as in the help of a command.
    """

    __slots__ = ()


LINEAGE = Unnamed("NAME")


def naming(value: Text, lineage: str) -> Text:
    """Return a sentence with the certificate's name in place of each `Unnamed`, also within the
    sentences among the values.
    """
    return value.filled(**{name: _named(part, lineage) for name, part in value.values.items()})


def _named(value: object, lineage: str) -> object:
    if isinstance(value, Text):
        return naming(value, lineage)
    return lineage if isinstance(value, Unnamed) else value


def own_words(value: Text, instead: Text | str = "…") -> Text:
    """Return a sentence with `instead` in place of each `Quoted`, for example for the history,
    which is stored for ever.
    """
    return value.filled(**{name: _own(part, instead) for name, part in value.values.items()})


def _own(value: object, instead: Text | str) -> object:
    if isinstance(value, Text):
        return own_words(value, instead)
    if isinstance(value, list | tuple):
        return [_own(item, instead) for item in value]
    return instead if isinstance(value, Quoted) else value


def verbatim(words: str) -> Text:
    """Return words from outside, such as a server's message, as a sentence that stays
    untranslated.
    """
    return Text("{words}", words=words)


def show(value: object, translate: Translate, zone: tzinfo | None = UTC) -> str:
    """Return one value as a person reads it: moments with the offset from UTC, durations in
    round units, long words cut.
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
    """Return words from outside. Longer words than `LONGEST` are cut to `LONGEST` characters, the
    last character being "…".
    """
    if len(words) <= LONGEST:
        return words
    begun = words[: LONGEST - 1] + "…"
    return Quoted(begun) if isinstance(words, Quoted) else begun


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, list | tuple) and any(_is_too_long(item) for item in value):
        return [_bounded(item) for item in value]
    return value


def _is_too_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > LONGEST


def offset(moment: datetime) -> str:
    """Return a moment's offset from UTC: `UTC`, `+08:00`."""
    return moment.isoformat(timespec="minutes")[16:] if moment.utcoffset() else "UTC"


_BETWEEN = Text(", ")
"""Separates the members of a list."""

_UNITS = (
    (timedelta(days=1), Text("1 day"), Text("{count} days")),
    (timedelta(hours=1), Text("1 hour"), Text("{count} hours")),
    (timedelta(minutes=1), Text("1 minute"), Text("{count} minutes")),
    (timedelta(seconds=1), Text("1 second"), Text("{count} seconds")),
)


def _duration(value: timedelta) -> Text:
    """Return a duration in whole units: of the largest unit that fits at least twice, or equals the
    duration. Less than a second, or a negative duration, is 0 seconds.
    """
    for unit, singular, plural in _UNITS:
        count = value // unit
        if count >= 2:  # noqa: PLR2004 - one unit alone is written in the next smaller one
            return plural.filled(count=count)
        if count == 1 and value == unit:
            return singular
    return Text("{count} seconds", count=max(value // timedelta(seconds=1), 0))


def _as_is(template: str) -> str:
    return template
