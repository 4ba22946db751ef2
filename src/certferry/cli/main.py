"""Run the command line: parse the global options, report errors and handle signals.

After SIGINT, SIGTERM or SIGHUP the process cleans up, and ends within five seconds. `certferry
serve` replaces these signal handlers, and may take ten seconds. The engine, `reconcile`, handles no
signals: another caller of the engine ends a run by `reconcile.run.Run.stop`, from any thread.
"""

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
from types import FrameType

import click

from certferry import __version__
from certferry.cli import exits
from certferry.cli.commands import Commands, click_speaks, name_file, spoken
from certferry.cli.exits import Exit
from certferry.cli.options import COMPLETION, PROGRAM, CommandContext, path_option
from certferry.present.console import Console, Verbosity, standard_console
from certferry.present.language import LANGUAGES, language_of, must_be_spoken, voice_for
from certferry.present.layout import line
from certferry.present.run_log import Format, begin_logging
from certferry.text import Text

CHECK = "check"
"""The command that exits with the codes of a monitoring plugin, even after a mistake in the options
before the command's name.
"""

_log = logging.getLogger(__name__)

_LEVELS = {
    Verbosity.QUIET: logging.ERROR,
    Verbosity.NORMAL: logging.WARNING,
    Verbosity.VERBOSE: logging.DEBUG,
}


class _Language(click.Choice[str]):
    """The type of `--lang`: a language's tag (`zh`, `en`), or another usual form such as zh_CN."""

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
    help="The language of all messages. Default: CERTFERRY_LANG, or the locale.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print debug details to stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors and refusals.")
@path_option("--log-file", "Log to this file, a line for each event, also with -q.")
@click.option(
    "--log-format",
    metavar="|".join(Format),
    type=click.Choice([choice.value for choice in Format]),
    help="The format of the log file: lines for people, or JSON documents. Default: text.",
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

    Exit codes: 0 in order, 1 something failed, 2 usage or configuration, 3 refused for safety, 4
    changes pending (plan --check) or plan changed (sync --plan), 75 in progress or locked by
    another run, 130 stopped.
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
        # Even if a scheduled run fails to write its log, `notify failed` must send its message.
        is_needed = ctx.invoked_subcommand != "notify"
        format_ = Format(log_format or Format.TEXT)
        console.run_log.open(log_file, format_, is_needed=is_needed)
    elif log_format is not None:
        raise exits.UsageMistake(Text("--log-format needs --log-file"))
    begin_logging(_LEVELS[verbosity], console.run_log)
    console.run_log.begin(str(ctx.invoked_subcommand))
    ctx.obj = CommandContext(console, config, verbosity)


def main() -> int:
    """Run the command line of this process and return the exit code."""
    # If the parent ignored SIGCHLD, the kernel would drop the exit codes of child processes.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A crash must not write a core dump: the dump would contain the keys in memory (setrlimit(2)).
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Libraries warn about their input, such as a serial number below one, and Python would show
    # operators the line of the library's source. With -W or PYTHONWARNINGS developers still see the
    # warnings.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # If a thread of a library fails, Python would print the whole exception, which may quote keys.
    threading.excepthook = lambda stopped: _log.debug(
        "unexpected error", exc_info=stopped.exc_value
    )
    end_in_order()
    console = standard_console(os.environ)
    try:
        code = run(sys.argv[1:], console)
        console.flush()
    except OSError as error:
        # No message can be printed, because one of the two output streams is broken.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        # At exit the interpreter flushes both streams, and would print an error for a broken one.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        code = exits.Exit.NO_READER if isinstance(error, BrokenPipeError) else exits.Exit.FAILED
    return code


def run(arguments: Sequence[str], console: Console) -> int:
    """Run the command line, or answer a shell that asks for completions. Return the exit code.
    Raise `OSError` if the output cannot be written.
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
    """Run `command` under the name `name` and return the exit code. If an error ends the command,
    print the error. Raise `OSError` if the output, or the message about an error, cannot be
    written.
    """
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
    # If a library calls `sys.exit`, the operator still gets a message and certferry's exit code.
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
        return print_failure(problem, CommandContext(console), as_json="--json" in arguments)
    _end_log(ending, console)
    console.print_stderr(console.voice.end(problem))
    if "--json" in arguments and not isinstance(error, OSError):
        from certferry.present import documents

        console.print_json(documents.of_end(problem))
    console.flush()
    return ending


def _command_word(arguments: Sequence[str]) -> str | None:
    """Return the command's name, even if an option before the name has a mistake. Return None if
    the arguments name no command.
    """
    options = (
        parameter
        for parameter in program.params
        if isinstance(parameter, click.Option) and not parameter.is_flag
    )
    with_value = {name for option in options for name in option.opts}
    words = iter(arguments)
    for word in words:
        if word in with_value:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _end_log(code: int, console: Console) -> None:
    """Log how the run ended, and warn on stderr if the log is incomplete."""
    console.run_log.end(code)
    trouble = console.run_log.trouble
    if trouble is not None:
        console.print_stderr(console.voice.warning(trouble))


AFTER_A_CALLBACK = 0.01  # seconds until `_not_lost` raises a dropped interrupt again
AT_LATEST = 4.8  # seconds after the first signal: within the five promised to operators


def end_in_order() -> None:
    """Make SIGTERM and SIGHUP (a closed terminal) end a command as Ctrl-C does, by a
    `KeyboardInterrupt`. A run then removes its challenge records and the copies of keys made for
    programs, and gives its leases back. A process still alive `AT_LATEST` after the first signal
    ends without further clean-up.
    """
    signals = [
        each
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # Signals that the parent ignores stay ignored: nohup ignores SIGHUP, and a script's shell
        # ignores SIGINT for programs in the background.
        if each is signal.SIGTERM or signal.getsignal(each) is not signal.SIG_IGN
    ]

    def end(number: int, frame: FrameType | None) -> None:
        # A process often gets two signals: for a closed terminal from the kernel and the shell, and
        # at a stop from systemd. The second signal must not stop the clean-up. Only a second Ctrl-C
        # may, because the operator does not want to wait.
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
    """Ignore a repeated signal. With SIG_IGN in place of this handler, child processes would ignore
    the signal as well.
    """


def _not_lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Raise again a `KeyboardInterrupt` that Python dropped in a callback. Log other exceptions for
    debugging.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Another thread sends the signal, because an interrupt raised here would end this hook.
        # This thread is the main thread: Python runs signal handlers in no other.
        main_thread = threading.get_ident()
        threading.Thread(target=_interrupt_again, args=(main_thread,), daemon=True).start()
    else:  # Python's own hook would print the exception, which may quote keys.
        _log.debug("unexpected error", exc_info=unraisable.exc_value)


def _interrupt_again(main_thread: int) -> None:
    threading.Event().wait(AFTER_A_CALLBACK)
    # A real signal: `_thread.interrupt_main` would not wake a main thread that waits for a lock.
    signal.pthread_kill(main_thread, signal.SIGINT)


def _watch(signals: frozenset[int]) -> None:
    """Start a thread that ends the process `AT_LATEST` after one of `signals`, even if the signal's
    handler has not run.

    Python runs a handler only between two of its instructions, so a name lookup of the system or a
    slow disk delays the handler. A signal writes to the wake-up descriptor at once.
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
    # Ending here is safe. The stored state is whole, because only transactions change the state.
    # The leases end with the process, or soon after by time. The next run removes the remaining
    # challenge records.
    os._exit(Exit.STOPPED)
