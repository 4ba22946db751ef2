"""Parts that commands share: the global options, the argument NAME, `--json`, `--wait`, and the
printing of results.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem
from msgspec import Struct

from certferry.cli.commands import voice_of
from certferry.cli.exits import Exit, UsageMistake
from certferry.errors import CertferryError
from certferry.present.console import Console, Verbosity
from certferry.present.language import Voice
from certferry.present.layout import line
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.cli.interview import Interview
    from certferry.reconcile.run import WaitLimit

PROGRAM = "certferry"

COMPLETION = "_CERTFERRY_COMPLETE"
"""The variable that a shell's completion script sets."""


class WholeNumber(click.IntRange):
    """A whole number as an option's value, with a message of certferry's own for other input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        try:
            int(value)
        except ValueError:
            voice = Voice() if ctx is None else voice_of(ctx)
            self.fail(voice.say(Text("'{word}' is not a whole number", word=value)), param, ctx)
        return super().convert(value, param, ctx)


class Seconds(WholeNumber):
    """A whole number of seconds as an option's value, written 90, or with a unit: 90s, 30m, 1h,
    1d.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        unit, count = _UNITS.get(str(value)[-1:]), str(value)[:-1]
        if unit and count.isascii() and count.isdigit():
            value = int(count[:9]) * unit
        return super().convert(value, param, ctx)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}

T = TypeVar("T", bound=Callable[..., Any])


class CommandContext(Struct, frozen=True):
    """Given to every command: the global options, and the console to print on."""

    #: Prints, and speaks the operator's language.
    console: Console
    #: The file of `--config`; None stands for the default places.
    config: Path | None = None
    #: From `-v` and `-q`.
    verbosity: Verbosity = Verbosity.NORMAL

    @property
    def voice(self) -> Voice:
        """The voice of the operator's language."""
        return self.console.voice

    @property
    def quiet(self) -> bool:
        """Whether to print only errors and refusals (`-q`)."""
        return self.verbosity is Verbosity.QUIET


def _complete_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the declared certificates whose names begin with `incomplete`. Offer nothing if the
    configuration file is missing or has a mistake.
    """
    from certferry.config.load import load

    try:
        settings = load(ctx.find_root().params.get("config"), ctx.find_root().obj.environ)
    except CertferryError:
        return []
    names = [desired.lineage for desired in settings.certificates]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def path_option(
    name: str,
    help_: str,
    metavar: str = "FILE",
    *,
    short: str | None = None,
    folder: bool = False,
    **more: Any,
) -> Callable[[T], T]:
    """Declare an option for a path. The command itself reports an unreadable path later."""
    kind = click.Path(path_type=Path, readable=False, file_okay=not folder)
    names = [short, name] if short else [name]
    return click.option(*names, metavar=metavar, type=kind, help=help_, **more)


def number_option(
    name: str, metavar: str, least: int, most: int, help_: str, **more: Any
) -> Callable[[T], T]:
    """Declare an option for a whole number from `least` to `most`."""
    return click.option(name, metavar=metavar, type=WholeNumber(least, most), help=help_, **more)


names_argument = click.argument(
    "names", metavar="[NAME]...", nargs=-1, shell_complete=_complete_name
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout."
)


def name_argument(*, required: bool = True) -> Callable[[T], T]:
    """Declare the argument NAME: the certificate that the command acts on."""
    metavar = "NAME" if required else "[NAME]"
    return click.argument("name", metavar=metavar, required=required, shell_complete=_complete_name)


no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Start the changes without waiting; the next run continues."
)


def wait_option(help_: str) -> Callable[[T], T]:
    """Declare `--wait`. Defaults differ by command, so each command passes its own help."""
    longest = Seconds(0, 365 * 24 * 3600)
    return click.option("--wait", metavar="SECONDS", type=longest, help=help_)


def wait_limit_of(wait: int | None, *, no_wait: bool) -> WaitLimit:
    """Return how long a run waits: with `no_wait` not at all, else `wait` seconds, or to the end if
    `wait` is None. Raise `UsageMistake` for `no_wait` with a `wait` above zero.
    """
    from certferry.reconcile.run import WaitLimit

    if no_wait and wait:
        raise UsageMistake(Text("--wait and --no-wait cannot be combined"))
    limit = 0 if no_wait else wait
    return WaitLimit(None if limit is None else timedelta(seconds=limit))


def _digest(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return the digest of a plan, or None without the option. Raise `UsageMistake` for a word that
    is no digest.
    """
    from certferry.core.planning.digest import is_digest

    if value is not None and not is_digest(value):
        message = Text("{word} is not the digest of a plan", word=repr(value))
        raise UsageMistake(message, hint=Text("`certferry plan` prints the digest"))
    return value


digest_option = click.option(
    "--plan",
    "digest",
    metavar="DIGEST",
    callback=_digest,
    help="Carry out exactly the plan with this digest (from `certferry plan`), or nothing.",
)

yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


def is_wanted(context: CommandContext, question: Text, *, yes: bool) -> bool:
    """Return whether the operator confirms; with `yes` return True without asking. Raise
    `UsageMistake` if there is no terminal to ask at.
    """
    message = Text(
        "the action cannot be undone, and there is no terminal to ask at; confirm with --yes"
    )
    return yes or interview_or_refuse(context, UsageMistake(message)).confirm(question)


def interview_or_refuse(context: CommandContext, refusal: UsageMistake) -> Interview:
    """Return the interview at the terminal. Raise `refusal` without a terminal."""
    from certferry.cli.interview import interview_at

    interview = interview_at(context.console)
    if interview is None:
        raise refusal
    return interview


def warn(context: CommandContext, message: Text) -> None:
    """Print a warning on stderr."""
    context.console.print_stderr(context.voice.warning(message))


def note(context: CommandContext, *messages: Text) -> None:
    """Print sentences on stderr, one a line, except under `-q`."""
    if not context.quiet:
        context.console.print_stderr([line(context.voice.say(message)) for message in messages])


def say_changed(context: CommandContext, event: str, message: Text) -> None:
    """Print and log a change that the command has made; under `-q` only log the change."""
    from certferry.present.progress import log_change

    log_change(event, message, context.console.run_log)
    say(context, message)


def say(context: CommandContext, *messages: Text) -> Exit:
    """Print the result, one sentence a line, except under `-q`. Return `Exit.OK`."""
    if not context.quiet:
        context.console.print([line(context.voice.say(message)) for message in messages])
    return Exit.OK
