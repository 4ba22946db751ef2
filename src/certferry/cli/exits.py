"""Every exit code, and what decides it.

0 in order · 1 something failed · 2 usage or configuration · 3 refused for safety · 4 changes
pending (`plan --check`), or others than were confirmed (`sync --plan`) · 75 still in progress or
locked by another run, try again later · 130 stopped by Ctrl-C or a signal to end · 141 the output
has no reader any more.

Where several are true, the first of 130, 1, 3, 75 and 4 wins.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from gettext import gettext
from typing import TYPE_CHECKING

import click

from certferry.errors import (
    ConfigError,
    DatabaseUnavailable,
    Interrupted,
    LeaseHeld,
    LeaseLost,
    PlanChanged,
    PlanRefused,
    Problem,
    Reported,
    StateMoved,
    system_words,
)
from certferry.text import Text, verbatim

if TYPE_CHECKING:
    from certferry.core.assessment.health import Recorded
    from certferry.core.assessment.status import LineageStatus
    from certferry.core.discovery.watched import HostObservation
    from certferry.core.planning.plan import Plan
    from certferry.core.planning.report import SyncReport


class Exit(IntEnum):
    """What a run answers its caller."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    PENDING = 4
    TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h
    STOPPED = 130  # 128 + SIGINT, as shells count
    NO_READER = 141  # 128 + SIGPIPE, as shells count


def of_error(error: BaseException) -> Exit:
    """Judge what ended a command before it had a result."""
    if isinstance(error.__cause__, StateMoved):
        return Exit.USAGE  # what could not be stored has another place now
    match error:
        case ConfigError() | StateMoved() | click.UsageError():
            return Exit.USAGE
        case PlanChanged():
            return Exit.PENDING
        case PlanRefused():
            return Exit.REFUSED
        case LeaseHeld() | LeaseLost() | DatabaseUnavailable():
            return Exit.TRY_LATER
        case Interrupted():
            return Exit.STOPPED
        case _:
            return Exit.FAILED


def of_report(report: SyncReport) -> Exit:
    """Judge a sync: by its worst outcome, unless the file names a state that was moved."""
    from certferry.core.planning.result import Result, of_run

    found = [step.error for each in report.lineages for step in each.outcomes]
    if report.complete and any(isinstance(one, StateMoved) for one in (report.problem, *found)):
        return Exit.USAGE
    codes = {
        Result.IN_ORDER: Exit.OK,
        Result.WAITING: Exit.TRY_LATER,
        Result.FAILED: Exit.FAILED,
        Result.REFUSED: Exit.REFUSED,
        Result.STOPPED: Exit.STOPPED,
    }
    return codes[of_run(report)]


def of_hook(report: SyncReport) -> Exit:
    """Judge a sync for another client, to which any code but 0 is a failure: waiting gets 0."""
    code = of_report(report)
    return Exit.OK if code is Exit.TRY_LATER else code


def of_plans(plans: Sequence[Plan], *, check: bool) -> Exit:
    """Judge plans: by what stands in their way, then, if asked, by whether anything is pending.
    What `sync` would refuse is refused here too, and what it would only find stuck is a failure.
    """
    from certferry.core.planning.plan import Weight

    errors = [finding.error for plan in plans for finding in plan.having(Weight.BLOCKED)]
    refused = [error for error in errors if isinstance(error, PlanRefused)]
    if len(errors) > len(refused) or any(plan.timed_out for plan in plans):
        return Exit.FAILED
    if refused or any(plan.having(Weight.REFUSED) for plan in plans):
        return Exit.REFUSED
    if check and not all(plan.is_empty and plan.issue_later is None for plan in plans):
        return Exit.PENDING
    return Exit.OK


def of_statuses(statuses: Sequence[LineageStatus], recorded: Recorded) -> Exit:
    """Judge what stands: what needs a person is a failure; so is a state that cannot be used."""
    from certferry.core.assessment.status import are_in_order

    return Exit.OK if are_in_order(statuses, recorded) else Exit.FAILED


def of_problems(problems: Sequence[Problem]) -> Exit:
    """Judge what was found: an error is a failure, a warning is not; a database that does not
    answer just now is neither.
    """
    codes = {one.code for one in problems if one.is_error}
    if codes == {DatabaseUnavailable.code}:
        return Exit.TRY_LATER
    return Exit.FAILED if codes else Exit.OK


def of_looks(looks: Sequence[HostObservation]) -> Exit:
    """Judge what hosts serve: every address presents a valid certificate, or it is a failure."""
    return Exit.OK if all(look.ok for look in looks) else Exit.FAILED


_OURS = {
    "sync --rehearse": "rehearse rehearsal",
    "sync": "apply certonly deploy install issue obtain register run",
    "status": "certificates list ls",
    "schedule install": "cron install-cronjob",
    "remove": "delete",
    "export": "install-cert installcert",
    "history": "log",
    "init": "setup",
    "account show": "show_account",
    "doctor": "test validate",
    "console user": "adduser passwd user useradd users",
    "console token": "token tokens",
    "--version": "version",
}
FAMILIAR = {word: ours for ours, words in _OURS.items() for word in words.split()}
"""What operators of other clients type, as a command or after two dashes, and the words for it
here. None of them runs: an alias of `deploy`, for instance, would order what is due as well.
"""

RENEW = frozenset({"renew", "renew-all", "renew_all", "renewall"})
"""What orders only what is due in other clients, so that it is `sync` here, and not its --renew."""


def familiar_word(words: Sequence[str], familiar: Mapping[str, str] = FAMILIAR) -> Text | None:
    """Return what to run for a word of another client; a certificate's name may follow it."""
    word, *rest = words
    if word in RENEW and familiar:
        name = next((one for one in rest if not one.startswith("-")), "NAME")
        return Text(
            "run `certferry sync`, which renews what is due; `certferry sync --renew {name}` orders"
            " one certificate now, due or not",
            name=name,
        )
    if word not in familiar:
        return None
    return Text("run `{command}`", command=f"certferry {familiar[word]}")


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


def _in_our_voice(error: click.UsageError) -> Text:
    """Return our own sentence, or click's as everything else is said: lower case, no full stop."""
    if isinstance(error, UsageMistake):
        return error.text
    is_named = isinstance(error, click.NoSuchOption)  # what may be meant is in the hint
    # Click has translated its sentences by now, but for one of a group that runs: no command.
    words = " ".join(gettext(error.message if is_named else error.format_message()).split())
    words = re.sub(r"\. ?(?=[\u4e00-\u9fff])", "；", words).removesuffix(".").removesuffix("。")
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
    # A stream has no name.
    nameless = error.filename is None
    said = (
        Text("the output cannot be written: {problem}") if nameless else Text("{path}: {problem}")
    )
    return said.filled(path=error.filename, problem=system_words(error))


def _mistake_of_ours(error: BaseException) -> Problem:
    # What the exception says is left to the log: it may quote anything.
    _log.debug("unexpected error", exc_info=error)
    kind = type(error).__name__
    return Problem(
        "unexpected",
        Text("unexpected error ({kind}): this is a mistake in certferry", kind=kind),
        Text("run it again with -v, and report what it prints"),
    )
