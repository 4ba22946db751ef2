"""What ended a command, as a person and as a program reads it.

error: img: the name servers of example.com did not show the challenge within 2 minutes

hint: check that example.com is delegated to the account's name servers
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from gettext import gettext

import click

from certferry.cli.familiar import familiar_word
from certferry.errors import Reported
from certferry.present.language import Voice
from certferry.present.layout import Line, Tone, labelled, line
from certferry.present.vocabulary import ERROR, HINT
from certferry.problem import Problem
from certferry.system_words import system_words
from certferry.text import Text, verbatim

_log = logging.getLogger(__name__)


class UsageMistake(click.UsageError):
    """A command line that certferry itself does not accept."""

    def __init__(
        self, text: Text, ctx: click.Context | None = None, *, hint: Text | None = None
    ) -> None:
        super().__init__(str(text), ctx)
        self.text = text
        self.hint = hint


def problem_of(error: BaseException) -> Problem:
    """Return what ended a command as a problem."""
    match error:
        case Reported():
            return error.problem()
        case click.UsageError():
            return Problem("usage", _in_our_voice(error), _usage_hint(error))
        case OSError():
            return Problem("system", _of_the_system(error))
        case _:
            return _mistake_of_ours(error)


def lines(problem: Problem, voice: Voice) -> Iterator[Line]:
    """Write for a person what ended a command."""
    yield from labelled(voice.say(ERROR), Tone.BAD, voice.say(problem.message))
    if problem.hint is not None:
        yield line()
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(problem.hint))


def document(problem: Problem, voice: Voice) -> dict[str, object]:
    """Write it for a program."""
    from certferry.present.documents import of_problem

    return {"error": of_problem(problem, voice)}


def _in_our_voice(error: click.UsageError) -> Text:
    """Return our own sentence, or click's as everything else is said: lower case, no full stop."""
    if isinstance(error, UsageMistake):
        return error.text
    is_named = isinstance(error, click.NoSuchOption)  # what may be meant is in the hint
    # Click has translated its sentences by now, but for one of a group that runs: no command.
    words = " ".join(gettext(error.message if is_named else error.format_message()).split())
    words = words.removesuffix(".").removesuffix("。")
    return verbatim(words[:1].lower() + words[1:])


def _usage_hint(error: click.UsageError) -> Text:
    path = "certferry" if error.ctx is None else error.ctx.command_path
    look = Text("run `{command} --help`", command=path)
    if isinstance(error, UsageMistake) and error.hint is not None:
        return error.hint
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return look
    if error.option_name == "--dry-run":
        return Text("`certferry plan` shows what a sync would do, and changes nothing")
    root = error.ctx.find_root()
    is_begun = any(name.startswith(error.option_name) for name in error.possibilities or ())
    if error.ctx is root and not is_begun:
        known = familiar_word([error.option_name.lstrip("-")])
        if known is not None:
            return known
    everywhere = {name for option in root.command.params for name in option.opts}
    if error.ctx is not root and error.option_name in everywhere:
        return Text(
            "write it before the command: certferry {option} … {command}",
            option=error.option_name,
            command=error.ctx.info_name,
        )
    meant = error.possibilities
    return Text("did you mean {option}?", option=meant[0]) if meant else look


def _of_the_system(error: OSError) -> Text:
    problem = system_words(error)
    if error.filename is None:  # a stream has no name
        return Text("the output cannot be written: {problem}", problem=problem)
    return Text("{path}: {problem}", path=error.filename, problem=problem)


def _mistake_of_ours(error: BaseException) -> Problem:
    # What the exception says is left to the log: it may quote anything.
    _log.debug("unexpected error", exc_info=error)
    kind = type(error).__name__
    return Problem(
        "unexpected",
        Text("unexpected error ({kind}): this is a mistake in certferry", kind=kind),
        Text("run it again with -v, and report what it prints"),
    )
