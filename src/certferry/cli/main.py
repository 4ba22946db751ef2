"""Where the command line begins and ends: global options, what becomes of whatever goes wrong, and
signals, after which the process ends in order, once, and soon. No module below installs a handler:
other callers of the engine end its runs by `reconcile.run.Run.stop`, from any thread.
"""

from __future__ import annotations

import _thread
import logging
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from certferry import __version__
from certferry.cli import exits
from certferry.cli.commands import Commands, click_speaks, name_file, spoken
from certferry.cli.exits import Exit
from certferry.cli.options import COMPLETION, PROGRAM, Front, path_option
from certferry.present.console import Console, Verbosity, standard_console
from certferry.present.language import LANGUAGES, language_of, must_be_spoken, voice_for
from certferry.present.layout import line
from certferry.present.run_log import Format, begin_logging
from certferry.text import Text

CHECK = "check"
"""The command whose exit codes are a plugin's, also for mistakes before it on the command line."""

_log = logging.getLogger(__name__)

_LEVELS = {
    Verbosity.QUIET: logging.ERROR,
    Verbosity.NORMAL: logging.WARNING,
    Verbosity.VERBOSE: logging.DEBUG,
}


class _Language(click.Choice[str]):
    """A language, also as locales and people write it: zh_CN, cn."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
        return super().convert(language_of(value) or value, param, ctx)


def _chosen(ctx: click.Context, _: click.Parameter, config: Path | None) -> Path | None:
    if config is not None:
        name_file(config, ctx.obj.voice)
    return config


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@path_option("--config", "The configuration file.", short="-c", callback=_chosen)
@click.option(
    "--lang",
    metavar="|".join(LANGUAGES),
    type=_Language(LANGUAGES),
    help="The language of all messages. Default: CERTFERRY_LANG, or the locale's.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print debug details to stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors and refusals.")
@path_option("--log-file", "Log to this file, a line for each event, also with -q.")
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
    4 changes pending (plan --check) or not as confirmed (sync --plan), 75 still in progress or
    locked by another run, 130 stopped.
    """
    if verbose and quiet:
        raise exits.UsageMistake(Text("-v and -q exclude each other"))
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
        raise exits.UsageMistake(Text("--log-format needs --log-file"))
    begin_logging(_LEVELS[verbosity], console.run_log)
    console.run_log.begin(str(ctx.invoked_subcommand))
    ctx.obj = Front(console, config, verbosity)


def main() -> int:
    """Run the command line of this process and return its exit code."""
    # The parent may have had it ignored: then no exit code of a program can be learnt.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A crash writes no memory to the disk, in which there are keys (setrlimit(2)).
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
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
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # about which the interpreter would complain too
            os.dup2(nowhere, stream.fileno())
        code = exits.Exit.NO_READER if isinstance(error, BrokenPipeError) else exits.Exit.FAILED
    return code


def run(arguments: Sequence[str], console: Console) -> int:
    """Run the command line; return its exit code. Raises `OSError` if nothing can be printed."""
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
        console.run_log.end(exits.Exit.NO_READER)
        raise
    except KeyboardInterrupt:
        console.run_log.stop()
        _end_log(exits.Exit.STOPPED, console)
        console.print_stderr([line(console.voice.say(Text("stopped")))])
        return exits.Exit.STOPPED
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
        return exits.Exit.USAGE


def _complain(error: BaseException, arguments: Sequence[str], console: Console) -> int:
    with click_speaks(console.voice.language):
        problem, ending = exits.problem_of(error), exits.of_error(error)
    console.run_log.complain(problem.code, problem.message, problem.hint)
    if _command_word(arguments) == CHECK and not isinstance(error, OSError):
        from certferry.cli.status import UNKNOWN, print_failure

        _end_log(UNKNOWN, console)
        return print_failure(problem, Front(console), as_json="--json" in arguments)
    _end_log(ending, console)
    console.print_stderr(console.voice.end(problem))
    if "--json" in arguments and not isinstance(error, OSError):
        from certferry.present import documents

        console.print_json(documents.of_end(problem))
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


AFTER_A_CALLBACK = 0.01  # seconds; one that takes longer is interrupted again
AT_LATEST = 4.8  # seconds after the first signal: within the five that are promised


def end_in_order() -> None:
    """Have a run that is asked to end, or left by its terminal, end as with Ctrl-C: challenge
    records removed, keys taken away from programs, leases given back.
    """
    signals = [
        each
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # nohup has one ignored, and a shell that runs a script another, in the background
        if each is signal.SIGTERM or signal.getsignal(each) is not signal.SIG_IGN
    ]

    def end(number: int, frame: FrameType | None) -> None:
        # Once: the kernel and the shell both signal that a terminal is gone, and systemd sends
        # both signals; they must not stop the clean-up. Only an operator who has pressed
        # Ctrl-C may lose patience, and press it again.
        for each in signals:
            signal.signal(each, _not_again)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        signal.default_int_handler(number, frame)

    sys.unraisablehook = _not_lost
    _watch(frozenset(signals))
    for each in signals:
        signal.signal(each, end)


def _not_again(number: int, frame: FrameType | None) -> None:
    """Ignore a repeated signal. No SIG_IGN: the programs that are started would have it too."""


def _not_lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Raise again what a signal raised in a callback, where Python drops it; log all else."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # By another thread, a moment later: at once, this hook itself would be interrupted.
        threading.Thread(target=_interrupt_again, daemon=True).start()
    else:  # Python's own hook prints them, with the keys that they quote
        _log.debug("unexpected error", exc_info=unraisable.exc_value)


def _interrupt_again() -> None:
    threading.Event().wait(AFTER_A_CALLBACK)
    _thread.interrupt_main()


def _watch(signals: frozenset[int]) -> None:
    """End the process in time even if no handler runs, as while the system looks up a name or waits
    for a disk: Python runs handlers between two of its steps, the wake-up descriptor is written at
    once.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_end_at_last, args=(reading, signals), daemon=True)
    watch.start()


def _end_at_last(reading: int, signals: frozenset[int]) -> None:
    while not signals & set(os.read(reading, 16)):
        pass
    threading.Event().wait(AT_LATEST)
    # What is stored is whole: the state is changed in transactions, and the system releases the
    # leases. The next run removes the challenge records that remain.
    os._exit(Exit.STOPPED)
