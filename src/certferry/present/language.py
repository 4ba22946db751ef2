"""Choose the language of a run, and render each `Text` in this language (`Voice`). The module also
has words and phrases that several outputs share, so one thing has one name everywhere.

The language comes from `--lang`, else from `CERTFERRY_LANG`, else from the locale as POSIX reads
it: the first non-empty of `LC_ALL`, `LC_MESSAGES` and `LANG`. Any other locale gets English.

Rules of the voice, beside those of STYLE.md:

- A line begins with its subject: the lineage, then the step, then the domain. Each line says one
  thing, and lines to compare are aligned.
- Actions, outcomes and standings are also words for programs (docs/reference/json.md). They are
  translated for people, never in JSON.
- Names, commands and settings appear as a person types them, commands in backquotes. Counts have
  a singular and a plural: no `certificate(s)`.
- Moments use the machine's clock with the offset from UTC; programs get UTC. Durations have one
  unit, rounded down.
- Control characters from outside stay off the terminal, and secrets stay off stdout, stderr and
  the log.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
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

EVENTS = {
    "issued": Text("issued"),
    "issue failed": Text("issue failed"),
    "adopted": Text("imported"),
    "adopt failed": Text("import failed"),
    "ca failed": Text("ca failed"),
    "uploaded": Text("uploaded"),
    # Stored when the target accepts the change; the deployment may still fail.
    "deployed": Text("deployment begun"),
    "deploy failed": Text("deploy failed"),
    "verified": Text("verified"),
    "verify failed": Text("verify failed"),
    "drift found": Text("drift found"),
    "drift over": Text("drift over"),
    "rolled back": Text("rolled back"),
    "rollback refused": Text("rollback refused"),
    "retired": Text("retired"),
    "revoked": Text("revoked"),
    "undeclared": Text("undeclared"),
    "forgotten": Text("forgotten"),
    # A run could not do its work for a certificate, and began no step.
    "failed": Text("failed"),
    "refused": Text("refused"),
}
"""The events of certificates in the history, each with the text that people see."""

ACCESS_EVENTS = {
    word.template: word
    for word in (
        *(Text("user added"), Text("user reset"), Text("role changed"), Text("user removed")),
        *(Text("token added"), Text("token removed")),
        *(Text("password chosen"), Text("password changed")),
    )
}
"""The events of the console's users and API tokens in the history."""

WORDS = {
    word.template: word
    for word in (
        # actions
        *(Text("issue"), Text("deploy"), Text("verify"), Text("rollback")),
        *(Text("retire"), Text("clean")),
        # outcomes, and findings of a plan
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
        *(Text("verified"), Text("propagating"), Text("processing")),
        *(Text("pending"), Text("drifted"), Text("unknown"), Text("overdue")),
        # owners of a certificate, and states of a domain in a CDN's words
        *(Text("ours"), Text("free"), Text("frozen"), Text("offlined")),
        *(Text("deleted"), Text("notIcpFrozen"), Text("waitCNAME")),
        # the subject of a change, and the states before and after, unless a setting
        *(Text("certificate"), Text("command"), Text("missing"), Text("changed")),
        *(Text("delivered"), Text("not run"), Text("edited"), Text("run")),
        # keys of an event's facts in the history
        *(Text("user"), Text("role"), Text("token"), Text("address")),
        *(Text("found"), Text("issuer"), Text("serial"), Text("reason"), Text("label")),
    )
} | {
    "fingerprint": Text("certificate"),
    "remote_id": Text("uploaded copy"),
    **EVENTS,
    **ACCESS_EVENTS,
    # Words of JSON that need a plainer word for people.
    "adopt": Text("import"),
    "bound": Text("set, not yet verified"),
    "foreign": Text("not ours"),
    "look": Text("check"),
}
"""Words of JSON and of the history, each with the text that people see."""


def english(template: str) -> str:
    """Return the template: templates are written in English."""
    return template


READ_THE_FILE = (
    "account|add|backup|check|console|discover|dns-persist|doctor|export|forget|history|hook|hosts"
    "|notify|plan|remove|rename|restore|revoke|rollback|schedule|serve|state|status|sync|watch"
)
"""The commands that read the configuration file, as alternatives of a regular expression."""

_COMMAND = re.compile(rf"\bcertferry (?=(?:{READ_THE_FILE})\b)")

EVERYWHERE = Path("/etc/certferry/certferry.toml")
"""The configuration file that commands of every user find by default, unless the user has a file,
or the current directory has one (`config.load.usual_places`).
"""

_OPTIONS = "\ufdd0"
"""A placeholder for the options of a printed command: a character that Unicode reserves for use
inside programs.
"""

_seen_before = lru_cache(1000)(redacted)
"""Removes secrets from sentences without values. A cache keeps the results, because a report may
repeat a sentence a thousand times.
"""


class Voice:
    """Renders texts in one language, with moments in the time zone `zone`, by default the
    machine's.
    """

    def __init__(
        self, translate: Translate = english, language: str = "en", zone: tzinfo | None = None
    ) -> None:
        self._translate = translate
        self._zone = zone
        self.language = language
        # The options written after `certferry` in printed commands, so that these commands read the
        # configuration file of this run.
        self.options = ""

    def read_by(self, config: Path) -> None:
        """From now on, add `--config` with `config` to each command in a sentence that reads the
        configuration file, so that a pasted command reads the same file.
        """
        translate = self._translate
        # Commands are found in the template, because values may quote other programs' words. The
        # template gets only a placeholder, because a path in the template could contain braces;
        # `say` replaces the placeholder in the finished sentence.
        self._translate = lambda template: _COMMAND.sub(
            f"certferry{_OPTIONS} ", translate(template)
        )
        self.options = f" --config {shlex.quote(str(config))}"

    def command(self, words: str) -> str:
        """Return a command line of certferry without secrets. After `read_by`, add `--config` to a
        command that reads the configuration file.
        """
        return redacted(_COMMAND.sub(lambda _: f"certferry{self.options} ", words))

    def say(self, text: Text) -> str:
        """Return the sentence, without secrets. It may have several lines."""
        words = text.render(self._translate, self._zone).replace(_OPTIONS, self.options)
        return redacted(words) if text.values else _seen_before(words)

    def say_on_one_line(self, text: Text) -> str:
        """Return the sentence on one line, without secrets."""
        return " ".join(self.say(text).splitlines())

    def day(self, moment: datetime) -> str:
        """Return the date of a moment in the voice's time zone, such as `2026-12-01`."""
        return f"{moment.astimezone(self._zone):%Y-%m-%d}"

    def clock(self, moment: datetime, now: datetime) -> str:
        """Return the time of a moment in the voice's time zone, with the offset from UTC. Add the
        date unless the moment is today.
        """
        local, today = moment.astimezone(self._zone), now.astimezone(self._zone).date()
        form = "%H:%M" if local.date() == today else "%Y-%m-%d %H:%M"
        return f"{local.strftime(form)} {offset(local)}"

    def word(self, word: str) -> str:
        """Return a program's word in the voice's language; an unknown word stays as given."""
        return self.say(WORDS[word]) if word in WORDS else word

    def error(self, message: Text | str) -> Iterator[Line]:
        """Write an error after the label `error:`."""
        return labelled(self.say(Text("error: ")), Tone.BAD, self._said(message))

    def warning(self, message: Text | str) -> Iterator[Line]:
        """Write a warning after the label `warning:`."""
        return labelled(self.say(Text("warning: ")), Tone.PENDING, self._said(message))

    def hint(self, hint: Text | None, indent: int = 0) -> Iterator[Line]:
        """Write a hint after the label `hint:`. Write nothing if `hint` is `None`."""
        if hint is not None:
            yield from labelled(self.say(Text("hint: ")), Tone.FAINT, self.say(hint), indent)

    def problem(self, problem: Problem) -> Iterator[Line]:
        """Write a problem with its subject, as an error or else as a warning, and the hint."""
        words = self.say(problem.message)
        if problem.subject:
            words = f"{problem.subject}: {once(problem.subject, words)}"
        yield from self.error(words) if problem.is_error else self.warning(words)
        yield from self.hint(problem.hint)

    def end(self, problem: Problem) -> Iterator[Line]:
        """Write the problem that ended a command, and the hint below an empty line."""
        yield from self.error(problem.message)
        if problem.hint is not None:
            yield from (line(), *self.hint(problem.hint))

    def about(self, name: str, message: Text | str) -> Iterator[Line]:
        """Write a name, a colon, and a sentence about the thing with this name. If the sentence
        itself begins with the name and a colon, write both only once.
        """
        return labelled(f"{name}: ", Tone.STRONG, once(name, self._said(message)))

    def facts(self, rows: Sequence[tuple[Text, Text | str]], indent: str = "") -> list[Line]:
        """Write a row for each fact: the label, then the fact."""
        return columns(
            [
                (Span(self.say(label), Tone.FAINT), Span(" ".join(self._said(fact).splitlines())))
                for label, fact in rows
            ],
            indent,
        )

    def _said(self, message: Text | str) -> str:
        return message if isinstance(message, str) else self.say(message)


def voice_for(arguments: Sequence[str], environ: Mapping[str, str]) -> Voice:
    """Return the voice of a run, by the command line and the environment. A wrong `--lang` or
    `CERTFERRY_LANG` is passed over here, and reported later.
    """
    in_force = next(filter(None, map(environ.get, _LOCALE)), "")
    from_environment = language_of(environ.get(VARIABLE, "")) or language_of(in_force)
    return voice_in(_asked_for(arguments) or from_environment or ENGLISH)


def must_be_spoken(environ: Mapping[str, str]) -> None:
    """Raise `ConfigError` if the variable `CERTFERRY_LANG` names an unknown language."""
    word = environ.get(VARIABLE)
    if word and language_of(word) is None:
        first, second = LANGUAGES
        message = Text("{variable}={word} is not supported")
        hint = Text(
            "set {variable} to {first} or {second}; without {variable}, the system's locale decides"
        )
        raise ConfigError(
            message.filled(variable=VARIABLE, word=word),
            hint=hint.filled(variable=VARIABLE, first=first, second=second),
        )


def voice_beside(config: Path | None, language: str, zone: tzinfo | None = None) -> Voice:
    """Return the voice for a message or a page of the console. The reader may paste a command into
    any shell, so each command that reads the configuration file gets `--config`. Commands get no
    `--config` if the file is `EVERYWHERE`, or if `config` is `None`.
    """
    voice = voice_in(language, zone)
    if config is not None and config.absolute() != EVERYWHERE:
        voice.read_by(config.absolute())
    return voice


def voice_in(language: str, zone: tzinfo | None = None) -> Voice:
    """Return the voice of a language, with moments in the time zone `zone`, by default the
    machine's.
    """
    translate = english if language == ENGLISH else _catalogue(language).gettext
    return Voice(translate, language, zone)


@lru_cache
def _catalogue(language: str) -> NullTranslations:
    from gettext import GNUTranslations

    path = CATALOGUES / language / "LC_MESSAGES" / "certferry.mo"
    with path.open("rb") as file:
        return GNUTranslations(file)


def _asked_for(arguments: Sequence[str]) -> str | None:
    """Return the language of `--lang` in a command line. Return `None` without the option, and for
    a wrong value, which is reported when the options are parsed.
    """
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
    """Return the language of a word such as `zh`, `zh_CN.UTF-8`, `zh-Hans` or `cn`, or None."""
    language = word.replace("-", "_").partition(".")[0].partition("_")[0].lower()
    language = "zh" if language == "cn" else language
    return language if language in LANGUAGES else None


def one_or_many(count: int, singular: Text, plural: Text, **places: object) -> Text:
    """Choose the singular or the plural sentence by `count`, and fill in the places."""
    return (singular if count == 1 else plural).filled(count=count, **places)


_MINUTE = timedelta(minutes=1)


def relative(moment: datetime, now: datetime) -> Text:
    """Return how far a moment is from now: "in 9 days", "20 minutes ago". Seconds are shown only
    for less than a minute. In the console's pages a script (`console.js`, `relativeTo`) updates
    these words as time passes.
    """
    distance = abs(moment - now)
    if distance < timedelta(seconds=1):
        return Text("just now")
    if _MINUTE <= distance < 2 * _MINUTE:
        distance = _MINUTE if distance < timedelta(seconds=90) else 2 * _MINUTE
    if moment > now:
        return Text("in {duration}", duration=distance)
    return Text("{age} ago", age=distance)


def certificate_count(count: int) -> Text:
    """Return "1 certificate", or the count in the plural."""
    return one_or_many(count, Text("1 certificate"), Text("{count} certificates"))


def once(subject: str | None, words: str) -> str:
    """Remove `subject` and a colon at the start of `words`, because the line has named the subject
    already.
    """
    return words if subject is None else words.removeprefix(f"{subject}: ")


def at_target(target: str, domain: str | None = None) -> Text:
    """Name a domain at a target, or the whole target."""
    if not domain:
        return verbatim(target)
    return Text("{target} → {domain}", target=target, domain=domain)


def on_host(subject: Text, host: str) -> Text:
    """Add the host to a subject that belongs to one host. An empty `host` adds nothing."""
    return Text("{subject} on {host}", subject=subject, host=host) if host else subject


def of_lineage(lineage: str, target: str, domain: str) -> Text:
    """Name a certificate, or a target or domain of a certificate: `img: cdn → img.example.com`."""
    if not target:
        return verbatim(lineage)
    return Text("{lineage}: {where}", lineage=lineage, where=at_target(target, domain))


def in_brackets(kind: Kind) -> str:
    """Return a space and a domain's kind in brackets, if the kind is the target's own; otherwise
    "".
    """
    return f" ({kind.value})" if kind.is_target_specific else ""
