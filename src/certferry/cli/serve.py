"""`certferry serve`: one long-running process for the console, the API, and the two runs a day."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import CommandContext, note, warn
from certferry.config.console import listening, listening_elsewhere
from certferry.config.files import Paths
from certferry.config.model import Settings
from certferry.core.network import is_loopback
from certferry.errors import ConfigError
from certferry.extras import how_to_install_with
from certferry.ports.progress import Progress, each_of, no_listener
from certferry.present.progress import logged_progress, progress_lines
from certferry.reconcile.run import in_thread
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.settings import load_checked

if TYPE_CHECKING:
    from certferry.console.process import Process

AT_LATEST = 9.5
"""Seconds after a signal until the process ends in any case; operators are promised ten."""


@click.command("serve")
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    help="Listen at this address, or at unix:PATH, instead of the file's `listen`.",
)
@click.option("--no-schedule", is_flag=True, help="Start only the runs requested by people.")
@click.pass_obj
def command(context: CommandContext, *, listen: str | None, no_schedule: bool) -> Exit:
    """Serve the console, the API and /metrics, and run `sync` twice a day.

    Runs until stopped (Ctrl-C, SIGTERM). On a stop, work in progress comes to a safe point, within
    ten seconds and with exit code 0; the next run continues. SIGHUP reloads the configuration; an
    invalid file leaves the old configuration in force.
    """
    environ = context.console.environ
    if listen is not None:
        _must_be_an_address(listen, environ)
    _keep_memory_together()

    def read() -> Settings:
        settings = load_checked(context.config, environ)
        if settings.state.is_bucket:
            message = Text("{place} is a bucket, and such a state allows one run at a time")
            raise ConfigError(
                message.filled(place=settings.state.named),
                hint=Text(
                    "move the state to a file or to PostgreSQL for `certferry serve`: certferry"
                    " state move URL"
                ),
            )
        if listen is None:
            return settings
        elsewhere = listening_elsewhere(settings.console, listen, Paths.beside(None, environ))
        return replace(settings, console=elsewhere)

    start, language = console_process(), context.voice.language
    try:
        process = start(
            read,
            os.environ,
            language=language,
            follow=_follower(context),
            has_schedule=not no_schedule,
        )
    except ConfigError as error:
        if not no_schedule:  # the operator may be away, and certificates would expire
            from certferry.wiring.runner import notify_despite_wrong_file

            notify_despite_wrong_file(error, context.config, environ, language=language)
        raise
    _answer_signals(process)
    _greet(process, context)
    return Exit.OK if process.run() else Exit.FAILED


def _must_be_an_address(listen: str, environ: Mapping[str, str]) -> None:
    """Raise `UsageMistake` for a wrong `--listen`. The caller would send a `ConfigError` to the
    channels, which are only for mistakes in the configuration file.
    """
    try:
        listening(Paths.beside(None, environ))(listen)
    except ConfigError as error:
        message = Text("{name}: {problem}", name="--listen", problem=error.message)
        raise UsageMistake(message) from error


_ARENAS, _MAPPED = -8, -3  # M_ARENA_MAX and M_MMAP_THRESHOLD in glibc's malloc.h


def _keep_memory_together() -> None:
    """Make glibc use two memory arenas for all threads, and return freed blocks over a megabyte to
    the system.

    By default glibc makes an arena for each of many threads, and keeps freed memory in the arena.
    Hashing a password takes 19 MiB, which would stay in every arena (mallopt(3)). Nothing happens
    with another C library.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENAS, 2)
        ctypes.CDLL(None).mallopt(_MAPPED, 1024 * 1024)


def _greet(process: Process, context: CommandContext) -> None:
    """Print the console's address. Warn if passwords travel unencrypted to the console. Soon after,
    say so if no user exists yet.
    """
    from certferry.console.listening import name_of

    console, where = process.workspace.settings.console, [*map(name_of, process.sockets)]
    message = Text("The console is at {url} (it listens at {where}).")
    note(context, message.filled(url=f"{console.base}/", where=where))
    if not console.is_https and not is_loopback(console.host):
        warn(context, Text("passwords travel unencrypted to {url}", url=console.base))
    in_thread(partial(_note_no_users, process, context))  # a database may be slow to answer


def _note_no_users(process: Process, context: CommandContext) -> None:
    if not process.workspace.state.users():
        note(
            context,
            Text("No user can log in yet; to add a user: `certferry console user add NAME`"),
        )


def console_process() -> type[Process]:
    """Import the console, and return the class of its process. Raise `ConfigError` if the console's
    libraries are absent.
    """
    try:
        from certferry.console.process import Process
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("certferry"):
            raise
        message = Text("the libraries of the console are not installed")
        raise ConfigError(message, hint=how_to_install_with("console")) from missing
    return Process


def _follower(context: CommandContext) -> Callable[[], Progress]:
    shown = no_listener if context.quiet else progress_lines(context.console)
    return lambda: each_of(logged_progress(context.console.run_log), shown)


def _answer_signals(process: Process) -> None:
    """Replace the signal handlers of `cli.main`, which allow fewer seconds than the console needs.

    SIGINT and SIGTERM stop the console. SIGHUP stops the console if the terminal of the command was
    closed, and otherwise reloads the configuration.
    """
    had_terminal = sys.stdin is not None and sys.stdin.isatty()

    def stop(number: int, _frame: FrameType | None) -> None:
        process.stop()
        ending = threading.Timer(AT_LATEST, os._exit, (Exit.OK,))
        ending.daemon = True
        ending.start()
        if number == signal.SIGINT:  # an impatient operator may press Ctrl-C again
            signal.signal(number, signal.default_int_handler)

    def reload(number: int, frame: FrameType | None) -> None:
        if had_terminal and not sys.stdin.isatty():
            stop(number, frame)  # the terminal's window was closed
        else:
            process.reload()

    signal.set_wakeup_fd(-1)
    for number, answer in ((signal.SIGINT, stop), (signal.SIGTERM, stop), (signal.SIGHUP, reload)):
        # Ignored signals stay ignored: nohup ignores SIGHUP, and a script's shell ignores SIGINT
        # for programs in the background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, answer)
