"""Where the command line begins: global options, and what becomes of whatever goes wrong."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click

from certferry import __version__
from certferry.cli.commands import Commands
from certferry.cli.ending import end_in_order
from certferry.cli.exits import (
    Exit,
    UsageMistake,
    error_document,
    error_lines,
    of_error,
    problem_of,
)
from certferry.cli.help import click_speaks, spoken
from certferry.cli.options import COMPLETION, PROGRAM, Front
from certferry.present.console import Console, Verbosity, standard_console
from certferry.present.diagnostics import begin_logging
from certferry.present.language import LANGUAGES, must_be_spoken, voice_for
from certferry.present.layout import line
from certferry.present.run_log import Format
from certferry.text import Text

CHECK = "check"
"""The command whose exit codes are a plugin's, also for mistakes before it on the command line."""

_log = logging.getLogger(__name__)

_LEVELS = {
    Verbosity.QUIET: logging.ERROR,
    Verbosity.NORMAL: logging.WARNING,
    Verbosity.VERBOSE: logging.DEBUG,
}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    # Where it is read, an unreadable file is reported in the same words everywhere.
    type=click.Path(path_type=Path, readable=False),
    help="The configuration file.",
)
@click.option(
    "--lang",
    metavar="|".join(LANGUAGES),
    type=click.Choice(LANGUAGES),
    help="The language of all messages. Default: CERTFERRY_LANG, or the locale's.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print debug details to stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors and refusals.")
@click.option(
    "--log-file",
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    help="Log to this file, a line for each event, also with -q.",
)
@click.option(
    "--log-format",
    metavar="|".join(Format),
    type=click.Choice([choice.value for choice in Format]),
    help="Write the log file for people, or a JSON document in each line. Default: text.",
)
@click.version_option(
    __version__, "-V", "--version", prog_name=PROGRAM, message="%(prog)s %(version)s"
)
@click.pass_context
def program(
    ctx: click.Context,
    config: Path | None,
    lang: str | None,
    log_file: Path | None,
    log_format: str | None,
    *,
    verbose: bool,
    quiet: bool,
) -> None:
    """Issue Let's Encrypt certificates by DNS-01, deploy them to a CDN, verify them at the edge,
    renew them.

    Exit codes: 0 in order, 1 something failed, 2 usage or configuration, 3 refused for safety,
    4 changes pending (plan --check), 75 still in progress or locked by another run, 130 stopped.
    """
    if verbose and quiet:
        raise UsageMistake(Text("-v and -q exclude each other"))
    verbosity = Verbosity.NORMAL
    if verbose or quiet:
        verbosity = Verbosity.VERBOSE if verbose else Verbosity.QUIET
    console: Console = ctx.obj
    if lang is None:
        must_be_spoken(console.environ)
    if log_file is not None:
        # Of a scheduled run whose log cannot be written, `notify failed` is to tell nonetheless.
        is_needed = ctx.invoked_subcommand != "notify"
        format_ = Format(log_format or Format.TEXT)
        console.run_log.open(log_file, format_, is_needed=is_needed)
    elif log_format is not None:
        raise UsageMistake(Text("--log-format needs --log-file"))
    begin_logging(_LEVELS[verbosity], console.run_log)
    console.run_log.begin(str(ctx.invoked_subcommand))
    ctx.obj = Front(console, config, verbosity)


def main() -> int:
    """Run the command line of this process and return its exit code."""
    # The parent may have had it ignored: then no exit code of a program can be learnt.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _leave_no_core()
    # A library speaks of what it reads (of a foreign serial number below one, for instance), and
    # shows the operator a line of its source. -W and PYTHONWARNINGS are for whom that helps.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # What ends a library's own thread would be shown as it is, with the keys that it quotes.
    threading.excepthook = lambda ended: _log.debug("unexpected error", exc_info=ended.exc_value)
    end_in_order()
    console = standard_console(os.environ)
    try:
        code = run(sys.argv[1:], console)
        console.flush()
    except OSError as error:
        # Nothing can be said any more on the stream that broke, and perhaps no reader is left.
        _let_go_of(sys.stdout, sys.stderr)
        code = Exit.NO_READER if isinstance(error, BrokenPipeError) else Exit.FAILED
    return code


def _leave_no_core() -> None:
    """Have a crash write no memory to the disk, in which there are keys. Programs that are started
    may raise the limit again for themselves (setrlimit(2)).
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def run(arguments: Sequence[str], console: Console) -> int:
    """Run the command line and return its exit code.

    Raises only `OSError`: when an error cannot be printed, or the output has no reader any more.
    """
    console = console.with_voice(voice_for(arguments, console.environ))
    instruction = console.environ.get(COMPLETION)
    if instruction:
        from certferry.cli.topics import answer

        return answer(spoken(program, console.voice), console, instruction)
    return run_command(program, PROGRAM, arguments, console)


def run_command(
    command: click.Command, name: str, arguments: Sequence[str], console: Console
) -> int:
    """Run a command that is called `name`, and return its exit code: see `run`."""
    try:
        code = _invoke(spoken(command, console.voice), name, arguments, console)
        console.flush()
    except BrokenPipeError:
        console.run_log.end(Exit.NO_READER)
        raise
    except KeyboardInterrupt:
        console.run_log.stop()
        _end_log(Exit.STOPPED, console)
        console.print_stderr([line(console.voice.say(Text("stopped")))])
        return Exit.STOPPED
    # A library may want to end the process; whatever it is, it gets its words and its exit code.
    except (Exception, SystemExit) as error:  # noqa: BLE001 - see above
        return _complain(error, arguments, console)
    _end_log(code, console)
    return code


def _invoke(command: click.Command, name: str, arguments: Sequence[str], console: Console) -> int:
    try:
        with command.make_context(name, list(arguments), obj=console) as ctx:
            return int(command.invoke(ctx))
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        console.print_stderr([line(error.format_message())])
        return Exit.USAGE


def _complain(error: BaseException, arguments: Sequence[str], console: Console) -> int:
    with click_speaks(console.voice.language):
        problem, ending = problem_of(error), of_error(error)
    console.run_log.complain(problem.code, problem.message, problem.hint)
    if _command_word(arguments) == CHECK and not isinstance(error, OSError):
        from certferry.cli.status import UNKNOWN, print_failure

        _end_log(UNKNOWN, console)
        return print_failure(problem, Front(console), as_json="--json" in arguments)
    _end_log(ending, console)
    console.print_stderr(error_lines(problem, console.voice))
    if "--json" in arguments and not isinstance(error, OSError):
        console.print_json(error_document(problem, console.voice))
    console.flush()
    return ending


def _command_word(arguments: Sequence[str]) -> str | None:
    """Find the command that is meant, whatever is wrong with what stands before it."""
    options = (one for one in program.params if isinstance(one, click.Option) and not one.is_flag)
    with_value = {name for option in options for name in option.opts}
    words = iter(arguments)
    for word in words:
        if word in with_value:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _end_log(code: int, console: Console) -> None:
    """Write how the run ended, and warn a person if the log lacks something."""
    console.run_log.end(code)
    trouble = console.run_log.trouble
    if trouble is not None:
        console.print_stderr(console.voice.warning(trouble))


def _let_go_of(*streams: TextIO) -> None:
    """Keep the interpreter from complaining about the same streams when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
