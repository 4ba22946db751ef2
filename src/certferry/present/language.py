"""Which language a run speaks, the voice in which a `Text` becomes what a person reads, and the
words and phrases that every output shares, so that one thing has one name everywhere.

`--lang` decides, then `CERTFERRY_LANG`, then the locale as POSIX reads it: the first of `LC_ALL`,
`LC_MESSAGES` and `LANG` that is not empty. A locale of another language gets English.

The rules of the voice, beside those of STYLE.md:

- A line begins with what it is about: the lineage, then the step, then the domain. One thing per
  line, aligned where lines are compared.
- Actions, outcomes and standings are programs' words too (docs/reference/json.md): translated where
  a person reads them, never in JSON.
- Names, commands and settings as a person types them, commands in backquotes. One is one and two
  are many: no `certificate(s)`.
- Moments are given by the machine's clock, with its offset from UTC, and in UTC to programs;
  durations in one unit, rounded down.
- No control character from outside reaches the terminal, and no secret stdout, stderr or the log.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from certferry.core.redaction import redacted
from certferry.errors import ConfigError, Problem
from certferry.present.layout import Line, Span, Tone, columns, labelled, line
from certferry.text import Text, Translate, offset, verbatim

if TYPE_CHECKING:  # the core loads the crypto library, which `--help` must not
    from gettext import NullTranslations

    from certferry.core.desired.certificate import Kind

ENGLISH = "en"
LANGUAGES = ("zh", ENGLISH)

OPTION = "--lang"
VARIABLE = "CERTFERRY_LANG"

_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
CATALOGUES = Path(__file__).parents[1] / "locale"

WORDS = {
    word.template: word
    for word in (
        # actions
        *(Text("issue"), Text("adopt"), Text("deploy"), Text("verify"), Text("rollback")),
        *(Text("retire"), Text("clean"), Text("look")),
        # outcomes, and what stands in a plan's way
        *(Text("done"), Text("unchanged"), Text("waiting"), Text("failed"), Text("refused")),
        *(
            Text("elsewhere"),
            Text("skipped"),
            Text("blocked"),
            Text("unread"),
            Text("kept"),
            Text("in vain"),
        ),
        # standings
        *(Text("verified"), Text("propagating"), Text("processing"), Text("bound")),
        *(Text("pending"), Text("drifted"), Text("unknown"), Text("overdue")),
        # whose a certificate is, and how a domain stands in the words of a CDN
        *(Text("ours"), Text("foreign"), Text("free"), Text("frozen"), Text("offlined")),
        *(Text("deleted"), Text("notIcpFrozen"), Text("waitCNAME")),
        # what a change is about, and from what to what, where that is no setting
        *(Text("certificate"), Text("command"), Text("missing"), Text("changed")),
        *(Text("delivered"), Text("not run"), Text("edited"), Text("run")),
        # what has happened
        *(Text("issued"), Text("issue failed"), Text("adopted"), Text("undeclared")),
        *(Text("forgotten"), Text("adopt failed"), Text("uploaded")),
        *(Text("deploy failed"), Text("retired"), Text("rolled back"), Text("rollback refused")),
        *(Text("drift found"), Text("drift over"), Text("ca failed"), Text("revoked")),
        *(Text("user added"), Text("user reset"), Text("role changed"), Text("user removed")),
        *(Text("token added"), Text("token removed"), Text("password chosen")),
        Text("password changed"),
        # what the history keeps of it
        *(Text("user"), Text("role"), Text("token"), Text("address")),
        *(Text("found"), Text("issuer"), Text("serial"), Text("reason"), Text("label")),
        # services that are called otherwise in Chinese
        *(Text("DingTalk"), Text("Feishu"), Text("WeCom"), Text("ServerChan"), Text("Mail")),
        *(Text("Command"), Text("Qiniu"), Text("Tencent Cloud"), Text("Alibaba Cloud DNS")),
        Text("your own program"),
    )
} | {
    # It is kept when the target takes the change, which may fail after that.
    "deployed": Text("deployment begun"),
}
"""Words that programs read too, for people."""


def english(template: str) -> str:
    """Translate into the language the templates are written in."""
    return template


_OPTIONS = "\ufdd0"
"""Where a sentence has the options of a command: a character that Unicode leaves to programs."""

_seen_before = lru_cache(1000)(redacted)
"""For sentences without values, of which a report has the same ones a thousand times."""


class Voice:
    """Translates texts into one language, and moments into a `zone`, by default the machine's."""

    def __init__(
        self, translate: Translate = english, language: str = "en", zone: tzinfo | None = None
    ) -> None:
        self._translate = translate
        self._zone = zone
        self.language = language
        # What printed commands have behind the program's name, so that they read the same file.
        self.options = ""

    def read_by(self, config: Path, commands: Collection[str]) -> None:
        """Name the file in every command that a sentence prints, so that a paste works."""
        named = re.compile(rf"\bcertferry (?=(?:{'|'.join(commands)})\b)")
        translate = self._translate
        # Marked in the template, where no words of others are; filled in the whole sentence, since
        # a path may have braces.
        self._translate = lambda template: named.sub(f"certferry{_OPTIONS} ", translate(template))
        self.options = f" --config {shlex.quote(str(config))}"

    def say(self, text: Text) -> str:
        """Return the sentence, which may have several lines, without secrets."""
        words = text.render(self._translate, self._zone).replace(_OPTIONS, self.options)
        return redacted(words) if text.values else _seen_before(words)

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

    def error(self, said: Text | str) -> Iterator[Line]:
        """Write what is wrong, after its label."""
        return labelled(self.say(Text("error: ")), Tone.BAD, self._said(said))

    def warning(self, said: Text | str) -> Iterator[Line]:
        """Write what may go wrong, after its label."""
        return labelled(self.say(Text("warning: ")), Tone.PENDING, self._said(said))

    def hint(self, hint: Text | None, indent: int = 0) -> Iterator[Line]:
        """Write what to do, after its label; nothing where there is nothing to do."""
        if hint is not None:
            yield from labelled(self.say(Text("hint: ")), Tone.FAINT, self.say(hint), indent)

    def problem(self, problem: Problem) -> Iterator[Line]:
        """Write an error or a warning, about what it is about, and what to do."""
        words = self.say(problem.message)
        if problem.subject:
            words = f"{problem.subject}: {once(problem.subject, words)}"
        yield from self.error(words) if problem.is_error else self.warning(words)
        yield from self.hint(problem.hint)

    def end(self, problem: Problem) -> Iterator[Line]:
        """Write what ended a command, and apart from it what to do."""
        yield from self.error(problem.message)
        if problem.hint is not None:
            yield from (line(), *self.hint(problem.hint))

    def about(self, name: str, said: Text | str) -> Iterator[Line]:
        """Write a sentence after the name of what it is about."""
        return labelled(f"{name}: ", Tone.STRONG, once(name, self._said(said)))

    def facts(self, rows: Sequence[tuple[Text, Text | str]], indent: str = "") -> list[Line]:
        """Write labels, and beside each what it is."""
        return columns(
            [
                (Span(self.say(label), Tone.FAINT), Span(" ".join(self._said(fact).splitlines())))
                for label, fact in rows
            ],
            indent,
        )

    def _said(self, said: Text | str) -> str:
        return said if isinstance(said, str) else self.say(said)


def voice_for(arguments: Sequence[str], environ: Mapping[str, str]) -> Voice:
    """Return the voice of a run, by which mistakes of its command line are reported too."""
    in_force = next(filter(None, map(environ.get, _LOCALE)), "")
    known = language_of(environ.get(VARIABLE, "")) or language_of(in_force)
    return voice_in(_asked_for(arguments) or known or ENGLISH)


def must_be_spoken(environ: Mapping[str, str]) -> None:
    """Raise `ConfigError` when the environment asks for an unknown language."""
    word = environ.get(VARIABLE)
    if word and language_of(word) is None:
        one, other = LANGUAGES
        said = Text("{variable}={word} is not supported; use {one} or {other}")
        raise ConfigError(
            said.filled(variable=VARIABLE, word=word, one=one, other=other),
            hint=Text("set it, or unset it: the locale then says which"),
        )


def voice_in(language: str) -> Voice:
    """Return the voice of a language. English needs no catalogue."""
    return Voice() if language == ENGLISH else Voice(_catalogue(language).gettext, language)


@lru_cache
def _catalogue(language: str) -> NullTranslations:
    from gettext import GNUTranslations

    path = CATALOGUES / language / "LC_MESSAGES" / "certferry.mo"
    with path.open("rb") as file:
        return GNUTranslations(file)


def _asked_for(arguments: Sequence[str]) -> str | None:
    """Find the option. Where options are checked, a wrong value is reported."""
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name == OPTION:
            wanted = value if equals else next(words, "")
            return language_of(wanted)
    return None


def language_of(word: str) -> str | None:
    """Read `zh`, `zh_CN.UTF-8`, `zh-Hans`, `cn`: a language, and more that is not needed."""
    language = word.replace("-", "_").partition(".")[0].partition("_")[0].lower()
    language = "zh" if language == "cn" else language
    return language if language in LANGUAGES else None


def one_or_many(count: int, one: Text, many: Text, **places: object) -> Text:
    """Choose between "1 deployment" and "{count} deployments", and fill the places in."""
    return (one if count == 1 else many).filled(count=count, **places)


def certificate_count(count: int) -> Text:
    """Count certificates."""
    return one_or_many(count, Text("1 certificate"), Text("{count} certificates"))


def once(subject: str | None, words: str) -> str:
    """Leave out a subject that the line has named already: details often begin with theirs."""
    return words if subject is None else words.removeprefix(f"{subject}: ")


def at_target(target: str, domain: str | None = None) -> Text:
    """Name a domain at its target, or the target as a whole."""
    if not domain:
        return verbatim(target)
    return Text("{target} → {domain}", target=target, domain=domain)


def on_host(subject: Text, host: str) -> Text:
    """Name the host to which alone something belongs, if any."""
    return Text("{subject} on {host}", subject=subject, host=host) if host else subject


def of_lineage(lineage: str, target: str, domain: str) -> Text:
    """Name a certificate, or a place of it: `img: qiniu → img.example.com`."""
    if not target:
        return verbatim(lineage)
    return Text("{lineage}: {where}", lineage=lineage, where=at_target(target, domain))


def in_brackets(kind: Kind) -> str:
    """Add what a domain is, where it is not what most are."""
    return f" ({kind.value})" if kind.is_target_specific else ""
