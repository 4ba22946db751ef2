"""Errors as a person and as a program reads them, and the one place that gives each its exit code.

error: img: the name servers of example.com did not show the challenge within 2 minutes

hint: check that example.com is delegated to the account's name servers
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from gettext import gettext

import click

from certferry.cli.exits import Exit, of_error
from certferry.cli.familiar import familiar_word
from certferry.errors import Reported
from certferry.present.language import Voice
from certferry.present.layout import Line, Tone, labelled, line
from certferry.present.vocabulary import ERROR, HINT
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


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a run has no result. `code` is stable and appears in JSON."""

    code: str
    message: Text
    hint: Text | None
    exit: Exit


def complaint_about(error: BaseException) -> Complaint:
    """Turn whatever ended a run into a complaint."""
    match error:
        case Reported():
            return Complaint(error.code, error.message, error.hint, of_error(error))
        case click.UsageError():
            return _about_usage(error)
        case OSError():
            return _about_the_system(error)
        case _:
            return _about_a_mistake_of_ours(error)


def lines(complaint: Complaint, voice: Voice) -> Iterator[Line]:
    """Write a complaint for a person."""
    yield from labelled(voice.say(ERROR), Tone.BAD, voice.say(complaint.message))
    if complaint.hint is not None:
        yield line()
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(complaint.hint))


def document(complaint: Complaint, voice: Voice) -> dict[str, object]:
    """Write a complaint for a program."""
    hint = None if complaint.hint is None else voice.say(complaint.hint)
    return {
        "error": {
            "code": complaint.code,
            "message": voice.say(complaint.message),
            "hint": hint,
        }
    }


def _about_usage(error: click.UsageError) -> Complaint:
    return Complaint("usage", _in_our_voice(error), _usage_hint(error), Exit.USAGE)


def _in_our_voice(error: click.UsageError) -> Text:
    """Give our own sentence, or click's as everything else is said: lower case, no full stop."""
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
        told = familiar_word([error.option_name.lstrip("-")])
        if told is not None:
            return told
    everywhere = {name for option in root.command.params for name in option.opts}
    if error.ctx is not root and error.option_name in everywhere:
        return Text(
            "write it before the command: certferry {option} … {command}",
            option=error.option_name,
            command=error.ctx.info_name,
        )
    meant = error.possibilities
    return Text("did you mean {option}?", option=meant[0]) if meant else look


def _about_the_system(error: OSError) -> Complaint:
    problem = system_words(error)
    if error.filename is None:  # a stream has no name
        message = Text("the output cannot be written: {problem}", problem=problem)
    else:
        message = Text("{path}: {problem}", path=error.filename, problem=problem)
    return Complaint("system", message, None, Exit.FAILED)


def _about_a_mistake_of_ours(error: BaseException) -> Complaint:
    # What the exception says is left to the log: it may quote anything.
    _log.debug("unexpected error", exc_info=error)
    return Complaint(
        "unexpected",
        Text(
            "unexpected error ({kind}): this is a mistake in certferry", kind=type(error).__name__
        ),
        Text("run it again with -v, and report what it prints"),
        Exit.FAILED,
    )
