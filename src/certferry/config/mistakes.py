"""Mistakes in the settings: a `Mistake` for each wrong setting, and one `ConfigError` for all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from certferry.errors import ConfigError, Problem
from certferry.text import Text

REFERENCE = Text("`certferry help config` explains every setting")


class Mistake(Problem, frozen=True):
    """The problem of one setting. `subject` is the setting's place, such as `certferry.toml:12:
    [accounts.mine] token`. `hint` is given only if neither the message nor `certferry help config`
    says how to correct the setting.
    """

    #: The file; `None` for the environment.
    path: Path | None = None
    #: The number of the line, from 1; `None` if unknown.
    line: int | None = None
    #: The table's header, such as `[dns]`; empty for keys above the first table.
    table: str = ""
    #: The key in the table, or the variable's name; empty for a mistake of a table or a file.
    key: str = ""

    @property
    def text(self) -> Text:
        """The setting's place, if known, followed by the message."""
        if not self.subject:
            return self.message
        return Text("{where}: {problem}", where=self.subject, problem=self.message)


def mistake_at(
    path: Path | None,
    line: int | None,
    table: str,
    key: str,
    message: Text,
    hint: Text | None = None,
) -> Mistake:
    """Return a mistake with a `subject` made from `path`, `line`, `table` and `key`, which mean the
    same as in `Mistake`.
    """
    location = ":".join(str(part) for part in (path, line) if part is not None)
    setting = " ".join(part for part in (table, key) if part)
    words = ": ".join(part for part in (location, setting) if part)
    subject = words if words.isprintable() else repr(words)
    return Mistake(
        ConfigError.code, message, hint, subject=subject, path=path, line=line, table=table, key=key
    )


def config_error(mistakes: Iterable[Mistake], hint: Text = REFERENCE) -> ConfigError:
    """Return one error for all mistakes, file by file in the order of lines. The error has the
    mistakes' own hints, and also `hint` unless every mistake has a hint of its own.
    """
    listed = list(mistakes)
    files = list(dict.fromkeys(mistake.path for mistake in listed))
    ordered = sorted(listed, key=lambda mistake: (files.index(mistake.path), mistake.line or 0))
    hints = [mistake.hint for mistake in ordered]
    own = [*filter(None, hints), *([] if hints and all(hints) else [hint])]
    return ConfigError(in_lines([mistake.text for mistake in ordered]), hint=_together(own))


def joined(errors: Sequence[ConfigError]) -> ConfigError:
    """Return one error for several errors, such as the errors of each account, with all hints. An
    account that is both a DNS service and a target repeats its errors: each message stands once.
    """
    hints = [error.hint for error in errors if error.hint is not None]
    message = in_lines(tuple(dict.fromkeys(error.message for error in errors)))
    return ConfigError(message, hint=_together(hints) if hints else None)


def set_first(*variables: str) -> Text:
    """Return a hint on how to set variables, in the shell and for runs by cron or systemd."""
    return _SET_FIRST.filled(assignments=" ".join(f"{name}=…" for name in variables))


_SET_FIRST = Text(
    "run `export {assignments}` first; cron and systemd start a run without the variables: for"
    " them, set `env_files` to a file of KEY=value lines"
)


def said_below(hint: Text | None) -> bool:
    """Return whether to print a hint once below all mistakes, rather than after its own mistake.
    This is so for hints that contain a hint of `set_first`.
    """
    return hint is not None and _SET_FIRST.template in _templates(hint)


def _templates(hint: Text) -> set[str]:
    parts = (part for part in hint.values.values() if isinstance(part, Text))
    return {hint.template}.union(*map(_templates, parts))


def _together(hints: Sequence[Text]) -> Text:
    """Join hints into one hint, without repetition. Hints to set variables become a single hint."""
    parts = [part for hint in hints for part in _parts(hint)]
    names = dict.fromkeys(
        name
        for part in parts
        if part.template == _SET_FIRST.template
        for name in str(part.values["assignments"]).split()
    )
    every = _SET_FIRST.filled(assignments=" ".join(names))
    merged = [every if part.template == _SET_FIRST.template else part for part in parts]
    first, *more = sorted(dict.fromkeys(merged), key=lambda part: part == REFERENCE)
    for other in more:
        first = _AND.filled(one=first, other=other)
    return first


def _parts(hint: Text) -> list[Text]:
    if hint.template != _AND.template:
        return [hint]
    return [
        part for value in hint.values.values() if isinstance(value, Text) for part in _parts(value)
    ]


_AND = Text("{one}; {other}")


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the word probably meant; `None` if no word is similar."""
    spelled = {other.lower(): other for other in words}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), spelled, n=1)
    close = close or difflib.get_close_matches(word.lower(), spelled, n=1)
    return spelled[close[0]] if close else None


def instead_of(word: str, words: Sequence[str]) -> Text:
    """Return a hint on a wrong word: the word probably meant, or the list of `words` if none is
    similar.
    """
    meant = nearest(word, words)
    if meant is not None:
        return Text("did you mean {word}?", word=meant)
    return Text("known are {words}", words=list(words)) if words else Text("none are known")


def in_lines(texts: Sequence[Text]) -> Text:
    """Return the texts, one per line."""
    # The template has only placeholders and line ends, so there is nothing to translate.
    template = "\n".join(f"{{line{number}}}" for number in range(len(texts)))
    return Text(template, **{f"line{number}": text for number, text in enumerate(texts)})
