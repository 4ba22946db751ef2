"""What is wrong with the settings, one value per mistake, and the one error that tells them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from certferry.errors import ConfigError
from certferry.text import Text

REFERENCE = Text("`certferry help config` prints what every setting means")


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: where it stands and what it is.

    `path` is as the operator gave it, `None` for the environment. `table` is written as in the
    file, `[accounts.mine]` or `[[certificates]]`; empty for the settings above the first table.
    `fix` is what to do where the problem does not say it, and the reference would not help.
    """

    path: Path | None
    line: int | None
    table: str
    key: str
    problem: Text
    fix: Text | None = None

    @property
    def where(self) -> str:
        """Give the place as `certferry.toml:12: [accounts.mine] token`."""
        location = ":".join(str(part) for part in (self.path, self.line) if part is not None)
        subject = " ".join(part for part in (self.table, self.key) if part)
        return _on_one_line(": ".join(part for part in (location, subject) if part))

    @property
    def text(self) -> Text:
        """Give the whole line, place first."""
        if not self.where:
            return self.problem
        return Text("{where}: {problem}", where=self.where, problem=self.problem)


def config_error(findings: Iterable[Finding], hint: Text = REFERENCE) -> ConfigError:
    """Put all findings into one error, one line each, in the order of each file's lines. The hint
    is for those that have no fix of their own.
    """
    found = list(findings)
    files = list(dict.fromkeys(finding.path for finding in found))
    ordered = sorted(found, key=lambda finding: (files.index(finding.path), finding.line or 0))
    fixes = [finding.fix for finding in ordered]
    hints = [*filter(None, fixes), *([] if fixes and all(fixes) else [hint])]
    return ConfigError(in_lines([finding.text for finding in ordered]), hint=_together(hints))


def joined(errors: Sequence[ConfigError]) -> ConfigError:
    """Put several errors into one, such as those of each account, with their hints."""
    hints = [error.hint for error in errors if error.hint is not None]
    message = in_lines([error.message for error in errors])
    return ConfigError(message, hint=_together(hints) if hints else None)


def set_first(*variables: str) -> Text:
    """Say how variables get to certferry: the shell's own are not those of a run by cron."""
    return _SET_FIRST.filled(assignments=" ".join(f"{name}=…" for name in variables))


_SET_FIRST = Text(
    "run `export {assignments}` first; cron and systemd start a run without it: for them, name a"
    " file with such KEY=value lines under `env_files`"
)


def said_below(fix: Text | None) -> bool:
    """Tell whether a fix is said once, below all findings, and not behind each."""
    return fix is not None and _SET_FIRST.template in _templates(fix)


def _templates(hint: Text) -> set[str]:
    parts = (part for part in hint.values.values() if isinstance(part, Text))
    return {hint.template}.union(*map(_templates, parts))


def _together(hints: Sequence[Text]) -> Text:
    """Put hints into one, each once; of variables that are to be set there is one for all."""
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
    for one in more:
        first = _AND.filled(one=first, other=one)
    return first


def _parts(hint: Text) -> list[Text]:
    if hint.template != _AND.template:
        return [hint]
    return [
        part for value in hint.values.values() if isinstance(value, Text) for part in _parts(value)
    ]


_AND = Text("{one}; {other}")


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Give the word that was probably meant, or `None` when nothing is like it."""
    spelled = {other.lower(): other for other in words}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), spelled, n=1)
    close = close or difflib.get_close_matches(word.lower(), spelled, n=1)
    return spelled[close[0]] if close else None


def instead_of(word: str, words: Sequence[str]) -> Text:
    """Say which word was probably meant; when none is like it, which ones there are."""
    meant = nearest(word, words)
    if meant is not None:
        return Text("did you mean {word}?", word=meant)
    return Text("known are {words}", words=list(words)) if words else Text("there are none")


def in_lines(texts: Sequence[Text]) -> Text:
    """Put texts below one another."""
    # The template is made of places and line ends alone, so there is nothing in it to translate.
    template = "\n".join(f"{{line{number}}}" for number in range(len(texts)))
    return Text(template, **{f"line{number}": text for number, text in enumerate(texts)})


def _on_one_line(words: str) -> str:
    return words if words.isprintable() else repr(words)
