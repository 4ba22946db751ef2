"""Which language a run speaks, and the voice that speaks it.

`--lang` decides, then `CERTFERRY_LANG`, then the locale as POSIX reads it: the first of `LC_ALL`,
`LC_MESSAGES` and `LANG` that is not empty. A locale of another language gets English.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from certferry.cli.words import Voice
from certferry.errors import ConfigError
from certferry.text import Text

ENGLISH = "en"
LANGUAGES = ("zh", ENGLISH)

OPTION = "--lang"
VARIABLE = "CERTFERRY_LANG"

_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
_CATALOGUES = Path(__file__).parents[1] / "locale"


def voice_for(arguments: Sequence[str], environ: Mapping[str, str]) -> Voice:
    """Give the voice of a run, before anything else of its command line is understood: what is
    wrong with it is told in the language it asks for.
    """
    return voice_in(_asked_for(arguments) or _named(environ) or _locale(environ))


def must_be_spoken(environ: Mapping[str, str]) -> None:
    """Raise `ConfigError` when the environment asks for a language that there is not."""
    word = environ.get(VARIABLE)
    if word and _language(word) is None:
        raise ConfigError(
            Text("{variable} is {word}: no language of certferry's", variable=VARIABLE, word=word),
            hint=Text("set it to {languages}, or unset it", languages=" / ".join(LANGUAGES)),
        )


def voice_in(language: str) -> Voice:
    """Give the voice of a language. English needs no catalogue."""
    if language == ENGLISH:
        return Voice()
    from gettext import GNUTranslations

    path = _CATALOGUES / language / "LC_MESSAGES" / "certferry.mo"
    with path.open("rb") as file:
        return Voice(GNUTranslations(file).gettext, language)


def _asked_for(arguments: Sequence[str]) -> str | None:
    """Find the option. What is wrong with its value is told where options are checked."""
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
