"""The exit codes of the commands, and the rule for each. `certferry check` has the codes of a
monitoring plugin instead (`cli.status`).

0 in order · 1 something failed · 2 usage, configuration, or a moved state · 3 refused for safety ·
4 changes pending (`plan --check`), or changes other than the confirmed ones (`sync --plan`) · 75
try again later: still in progress, locked by another run, or the state's database is away · 130
stopped by Ctrl-C or a signal to end · 141 the reader of the output is gone.

If several codes apply to a run, the first of 130, 1, 3 and 75 wins. If `certferry state move` moved
the state during the run, 2 wins over all codes but 130.
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
    """The exit code of a command."""

    OK = 0  #: In order.
    FAILED = 1  #: Something failed.
    USAGE = 2  #: The command line or the configuration has a mistake, or the state was moved away.
    REFUSED = 3  #: Refused for safety.
    PENDING = 4  #: Changes are pending, or differ from the confirmed plan.
    #: Still in progress, locked by another run, or without the state's database (EX_TEMPFAIL of
    #: sysexits.h).
    TRY_LATER = 75
    STOPPED = 130  #: Stopped by a signal (128 + SIGINT, as shells count).
    NO_READER = 141  #: The reader of the output is gone (128 + SIGPIPE, as shells count).


def of_error(error: BaseException) -> Exit:
    """Return the exit code of a command that an error ended before a result was printed."""
    if isinstance(error.__cause__, StateMoved):
        return Exit.USAGE  # the error only follows from the moved state
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
    """Return the exit code of a sync: the code of the worst certificate. If another command moved
    the state during the run, and the run was not stopped, return USAGE.
    """
    from certferry.core.planning.report import Result, of_run

    errors = [step.error for each in report.lineages for step in each.outcomes]
    if report.complete and any(
        isinstance(error, StateMoved) for error in (report.problem, *errors)
    ):
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
    """Return the exit code of a sync that another ACME client started. The client takes every code
    but 0 for a failure, so OK replaces TRY_LATER.
    """
    code = of_report(report)
    return Exit.OK if code is Exit.TRY_LATER else code


def of_plans(plans: Sequence[Plan], *, check: bool) -> Exit:
    """Return the exit code of `plan`: FAILED for an obstacle, else REFUSED for a refusal, else with
    `check` PENDING for changes or a postponed order, else OK.

    An obstacle (`Weight.BLOCKED`) that `sync` would report as a refusal counts as a refusal. A
    change that has failed, or has waited too long, counts as an obstacle.
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
    """Return the exit code of `status`: OK if certificates are declared, none has an error, and the
    state is usable; else FAILED.
    """
    from certferry.core.assessment.status import are_in_order

    return Exit.OK if are_in_order(statuses, recorded) else Exit.FAILED


def of_problems(problems: Sequence[Problem]) -> Exit:
    """Return the exit code for problems: OK without an error, TRY_LATER if the only error is that
    the state's database does not answer at present, else FAILED.
    """
    codes = {problem.code for problem in problems if problem.is_error}
    if codes == {DatabaseUnavailable.code}:
        return Exit.TRY_LATER
    return Exit.FAILED if codes else Exit.OK


def of_looks(looks: Sequence[HostObservation]) -> Exit:
    """Return the exit code of `watch`: FAILED if a host has no address, if an address within reach
    does not present a valid certificate, or if a host's problem is an error; else OK.
    """
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
"""certferry's command for each command `word` or option `--word` of other clients. certferry only
suggests the command: `sync` as an alias of `deploy` would also order due certificates.
"""

RENEW = frozenset({"renew", "renew-all", "renew_all", "renewall"})
"""Other clients' words for "renew the due certificates": `sync` here, not `sync --renew`."""


def familiar_word(words: Sequence[str], familiar: Mapping[str, str] = FAMILIAR) -> Text | None:
    """Return a suggestion if the first of `words` is another client's word: a key of `familiar`, or
    one of `RENEW` unless `familiar` is empty. Return `None` for other words.

    After a word of `RENEW` the suggestion takes the certificate's name from the other `words`.
    """
    word, *rest = words
    if word in RENEW and familiar:
        name = next((argument for argument in rest if not argument.startswith("-")), "NAME")
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
    """A mistake in the command line found by certferry rather than by click."""

    def __init__(
        self, text: Text, ctx: click.Context | None = None, *, hint: Text | None = None
    ) -> None:
        super().__init__(str(text), ctx)
        self.text = text
        self.hint = hint


def problem_of(error: BaseException) -> Problem:
    """Return the error that ended a command as a `Problem`."""
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
    """Return certferry's sentence, or click's in certferry's form: lower case, no full stop."""
    if isinstance(error, UsageMistake):
        return error.text
    is_named = isinstance(error, click.NoSuchOption)  # the hint names similar options
    # Click has translated its messages by now, except "no such command" of a running group.
    words = " ".join(gettext(error.message if is_named else error.format_message()).split())
    words = re.sub(r"\. ?(?=[\u4e00-\u9fff])", "；", words).removesuffix(".").removesuffix("。")
    return verbatim(words[:1].lower() + words[1:])


def _usage_hint(error: click.UsageError) -> Text:
    path = "certferry" if error.ctx is None else error.ctx.command_path
    help_hint = Text("run `{command} --help`", command=path)
    if isinstance(error, UsageMistake) and error.hint is not None:
        return error.hint
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return help_hint
    if error.option_name == "--dry-run":
        return Text("`certferry plan` shows what a sync would change, and changes nothing itself")
    root = error.ctx.find_root()
    is_begun = any(name.startswith(error.option_name) for name in error.possibilities or ())
    if error.ctx is root and not is_begun:
        suggestion = familiar_word([error.option_name.lstrip("-")])
        if suggestion is not None:
            return suggestion
    everywhere = {name for option in root.command.params for name in option.opts}
    if error.ctx is not root and error.option_name in everywhere:
        return Text(
            "write the option before the command: certferry {option} … {command}",
            option=error.option_name,
            command=error.ctx.info_name,
        )
    meant = error.possibilities
    return Text("did you mean {option}?", option=meant[0]) if meant else help_hint


def _of_the_system(error: OSError) -> Text:
    # An error of a stream lacks a file name.
    nameless = error.filename is None
    message = (
        Text("the output cannot be written: {problem}") if nameless else Text("{path}: {problem}")
    )
    return message.filled(path=error.filename, problem=system_words(error))


def _mistake_of_ours(error: BaseException) -> Problem:
    # Only the debug log gets the exception's own words, because they may quote secrets.
    _log.debug("unexpected error", exc_info=error)
    kind = type(error).__name__
    return Problem(
        "unexpected",
        Text("unexpected error ({kind}): a bug in certferry", kind=kind),
        Text("run the command again with -v, and report the output"),
    )
