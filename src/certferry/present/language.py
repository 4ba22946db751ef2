"""Which language a run speaks, and the voice in which a `Text` becomes what a person reads.

`--lang` decides, then `CERTFERRY_LANG`, then the locale as POSIX reads it: the first of `LC_ALL`,
`LC_MESSAGES` and `LANG` that is not empty. A locale of another language gets English.

The rules of the voice:

- Data goes to stdout; progress, warnings, errors and hints to stderr.
- A line begins with whom it is about: the lineage, then the step, then the domain.
- Errors, hints, details and reasons: lower case, no full stop, no blame. What happened to whom;
  the hint says what to do next. Closing sentences are sentences, with a capital and a full stop.
- The same words everywhere: the actions `issue deploy verify retire`, the outcomes
  `done unchanged waiting failed refused skipped`, the standings of docs/reference/json.md. They are
  programs' words too: translated where a person reads them, never in JSON.
- One thing per line, aligned where lines are compared. A plan ends with its count.
- One is one and two are many: no `certificate(s)`.
- Names, commands and settings as a person types them, commands in backquotes.
- Colour helps the eye and never carries meaning alone.
- Moments are given by the machine's clock, with its offset from UTC, and in UTC to programs;
  durations in one unit, rounded down.
- Nothing from outside reaches the terminal as a control character.
- What must not be seen is not said anywhere: stdout, stderr, `--json` and the log get the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from pathlib import Path

from certferry.core.redaction import redacted
from certferry.errors import ConfigError
from certferry.present.vocabulary import WORDS
from certferry.text import Text, Translate, offset

ENGLISH = "en"
LANGUAGES = ("zh", ENGLISH)

OPTION = "--lang"
VARIABLE = "CERTFERRY_LANG"

_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
CATALOGUES = Path(__file__).parents[1] / "locale"


def english(template: str) -> str:
    """Translate into the language the templates are written in."""
    return template


class Voice:
    """Says texts in one language, chosen once for a run, and moments by the clock of a `zone`:
    without one, the machine's.
    """

    def __init__(
        self, translate: Translate = english, language: str = "en", zone: tzinfo | None = None
    ) -> None:
        self._translate = translate
        self._zone = zone
        self.language = language

    def say(self, text: Text) -> str:
        """Return the sentence; it may have several lines. What must not be seen is taken out while
        it is whole.
        """
        return redacted(text.render(self._translate, self._zone))

    def say_on_one_line(self, text: Text) -> str:
        """Return the sentence for a place that has one line."""
        return " ".join(self.say(text).splitlines())

    def day(self, moment: datetime) -> str:
        """Write a moment by its day, on the voice's clock."""
        return f"{moment.astimezone(self._zone):%Y-%m-%d}"

    def clock(self, moment: datetime, now: datetime) -> str:
        """Write a moment of today by its time alone."""
        local, today = moment.astimezone(self._zone), now.astimezone(self._zone).date()
        written = "%H:%M" if local.date() == today else "%Y-%m-%d %H:%M"
        return f"{local.strftime(written)} {offset(local)}"

    def word(self, word: str) -> str:
        """Return a word that programs read too; one that is not known here stays as it is."""
        return self.say(WORDS[word]) if word in WORDS else word


def voice_for(arguments: Sequence[str], environ: Mapping[str, str]) -> Voice:
    """Return the voice of a run, before anything else of its command line is read: what is wrong
    with it is printed in the language it asks for.
    """
    return voice_in(_asked_for(arguments) or _named(environ) or _locale(environ))


def must_be_spoken(environ: Mapping[str, str]) -> None:
    """Raise `ConfigError` when the environment asks for a language that there is not."""
    word = environ.get(VARIABLE)
    if word and _language(word) is None:
        one, other = LANGUAGES
        raise ConfigError(
            Text(
                "{variable}={word} is not supported; use {one} or {other}",
                variable=VARIABLE,
                word=word,
                one=one,
                other=other,
            ),
            hint=Text("set it, or unset it: the locale then says which"),
        )


def voice_in(language: str) -> Voice:
    """Return the voice of a language. English needs no catalogue."""
    if language == ENGLISH:
        return Voice()
    from gettext import GNUTranslations

    path = CATALOGUES / language / "LC_MESSAGES" / "certferry.mo"
    with path.open("rb") as file:
        return Voice(GNUTranslations(file).gettext, language)


def _asked_for(arguments: Sequence[str]) -> str | None:
    """Find the option. Where options are checked, a wrong value is reported."""
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name == OPTION:
            wanted = value if equals else next(words, "")
            return wanted if wanted in LANGUAGES else None
    return None


def _named(environ: Mapping[str, str]) -> str | None:
    return _language(environ.get(VARIABLE, ""))


def _locale(environ: Mapping[str, str]) -> str:
    in_force = next(filter(None, map(environ.get, _LOCALE)), "")
    return _language(in_force) or ENGLISH


def _language(word: str) -> str | None:
    """Read `zh`, `zh_CN.UTF-8`, `zh-Hans`: a language, and more about it that is not needed."""
    language = word.replace("-", "_").partition(".")[0].partition("_")[0].lower()
    return language if language in LANGUAGES else None
