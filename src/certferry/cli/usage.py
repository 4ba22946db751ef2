"""What is wrong with a command line, in our own words: click's sentences become texts."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

import click

from certferry.text import Text, verbatim


class UsageMistake(click.UsageError):
    """A command line that certferry itself does not accept."""

    def __init__(self, text: Text, ctx: click.Context | None = None) -> None:
        super().__init__(str(text), ctx)
        self.text = text


# In click 8 the wording has not changed; a sentence that is not here is told as click tells it.
_KINDS = {word.template: word for word in (Text("file"), Text("directory"), Text("path"))}
"""What click calls what a path leads to."""

_SENTENCES = (
    Text("invalid value for {where}: {problem}"),
    Text("{value} is not a valid integer range"),
    Text("{value} is not a valid integer"),
    Text("{value} is not in the range {range}"),
    Text("{value} is not one of {choices}"),
    Text("option {name} requires an argument"),
    Text("option {name} does not take a value"),
    Text("missing option {name}"),
    Text("missing argument {name}, one of {choices}"),
    Text("missing argument {name}"),
    Text("missing command"),
    Text("got unexpected extra argument ({words})"),
    Text("got unexpected extra arguments ({words})"),
    Text("{kind} {path} does not exist"),
    Text("{kind} {path} is a directory"),
    Text("{kind} {path} is a file"),
    Text("{kind} {path} is not readable"),
    Text("{kind} {path} is not writable"),
)


def in_our_words(error: click.UsageError) -> Text:
    """Give the sentence of an error: ours, or click's with its values in their places."""
    if isinstance(error, UsageMistake):
        return error.text
    if isinstance(error, click.NoSuchOption):
        return Text("no such option: {option}", option=error.option_name)
    return _read(_in_our_voice(error.format_message()))


def _in_our_voice(words: str) -> str:
    """Lower case, no full stop: as everything else that certferry says."""
    words = " ".join(words.split()).removesuffix(".").replace(". Choose from: ", ", one of ")
    return words[:1].lower() + words[1:]


def _read(words: str) -> Text:
    for sentence in _SENTENCES:
        found = re.fullmatch("".join(_pattern(sentence.template)), words)
        if found is not None:
            values = found.groupdict()
            return sentence.filled(**{place: _told(place, said) for place, said in values.items()})
    return verbatim(words)


def _told(place: str, said: str) -> str | Text:
    match place:
        case "problem":
            return _read(_in_our_voice(said))
        case "kind":
            return _KINDS.get(said, verbatim(said))
        case _:
            return said


def _pattern(template: str) -> Iterator[str]:
    for words, place, _, _ in string.Formatter().parse(template):
        yield re.escape(words)
        if place is not None:
            yield f"(?P<{place}>.+?)"
