"""`certferry serve`: one process that goes on: the console, the API, and the two runs a day."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import Front, note, warn
from certferry.config.console import listening, listening_elsewhere
from certferry.config.files import Paths
from certferry.config.model import Settings
from certferry.core.network import is_loopback
from certferry.errors import ConfigError
from certferry.extras import how_to_install_with
from certferry.ports.progress import Progress, each_of, no_listener
from certferry.present.progress import logged_progress, progress_lines
from certferry.reconcile.run import aside
from certferry.text import Text
from certferry.wiring.settings import load_checked

if TYPE_CHECKING:
    from certferry.console.process import Process

AT_LATEST = 9.5
"""Seconds after which the process ends in any case: ten are promised."""


@click.command("serve")
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    help="Listen there, or at unix:PATH, whatever the file says.",
)
@click.option("--no-schedule", is_flag=True, help="Start no run that no person starts.")
@click.pass_obj
def command(front: Front, *, listen: str | None, no_schedule: bool) -> Exit:
    """Serve the console, the API and /metrics, and make the two runs a day.

    It goes on until it is stopped (Ctrl-C, SIGTERM), within ten seconds and with exit code 0: what
    is in progress comes to a safe point first, and the next run goes on from there. SIGHUP has it
    read the configuration anew; a wrong one leaves the old one in force.
    """
    environ = front.console.environ
    if listen is not None:
        _must_be_an_address(listen, environ)
    _keep_memory_together()

    def read() -> Settings:
        found = load_checked(front.config, environ)
        if found.state.is_bucket:
            said = Text("{place} is a bucket, whose state belongs to one run at a time")
            raise ConfigError(
                said.filled(place=found.state.named),
                hint=Text(
                    "give `certferry serve` a state in a file, or in PostgreSQL: certferry state"
                    " move URL"
                ),
            )
        if listen is None:
            return found
        elsewhere = listening_elsewhere(found.console, listen, Paths.beside(None, environ))
        return replace(found, console=elsewhere)

    start, language = console_process(), front.voice.language
    try:
        process = start(
            read,
            os.environ,
            language=language,
            follow=_follower(front),
            has_schedule=not no_schedule,
        )
    except ConfigError as error:
        if not no_schedule:  # no operator may read along, and nothing is renewed
            from certferry.wiring.runs import notify_in_spite_of_it

            notify_in_spite_of_it(error, front.config, environ, language=language)
        raise
    _answer_signals(process)
    _greet(process, front)
    return Exit.OK if process.run() else Exit.FAILED


def _must_be_an_address(listen: str, environ: Mapping[str, str]) -> None:
    """Raise `UsageMistake`: a mistake at the command line is none of the runs."""
    try:
        listening(Paths.beside(None, environ))(listen)
    except ConfigError as error:
        said = Text("{name}: {problem}", name="--listen", problem=error.message)
        raise UsageMistake(said) from error


_ARENAS, _MAPPED = -8, -3  # M_ARENA_MAX and M_MMAP_THRESHOLD in glibc's malloc.h


def _keep_memory_together() -> None:
    """Have all threads share two arenas of glibc: each has its own otherwise, and what a request
    took in one of forty is not used by the others. What is larger than a megabyte goes back to the
    system at once: after the first password, of 19 MiB, glibc would keep as much in every arena
    (mallopt(3)). Other libraries have no arenas.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENAS, 2)
        ctypes.CDLL(None).mallopt(_MAPPED, 1024 * 1024)


def _greet(process: Process, front: Front) -> None:
    """Print where the console is, and what is to be done before it can be used."""
    from certferry.console.listening import name_of

    console, where = process.workspace.settings.console, [*map(name_of, process.sockets)]
    said = Text("The console is at {url} (it listens at {where}).")
    note(front, said.filled(url=f"{console.base}/", where=where))
    if not console.is_https and not is_loopback(console.host):
        warn(front, Text("passwords travel unencrypted to {url}", url=console.base))
    aside(partial(_note_no_users, process, front))  # a database may be slow to answer


def _note_no_users(process: Process, front: Front) -> None:
    if not process.workspace.state.users():
        note(front, Text("No user can log in yet; to add one: `certferry console user add NAME`"))


def console_process() -> type[Process]:
    """Import the console. Raises `ConfigError` without its libraries."""
    try:
        from certferry.console.process import Process
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("certferry"):
            raise
        said = Text("the libraries of the console are not installed")
        raise ConfigError(said, hint=how_to_install_with("console")) from missing
    return Process


def _follower(front: Front) -> Callable[[], Progress]:
    shown = no_listener if front.quiet else progress_lines(front.console)
    return lambda: each_of(logged_progress(front.console.run_log), shown)


def _answer_signals(process: Process) -> None:
    """Answer signals in place of `cli.main`, which ends a command at each of them."""
    had_terminal = sys.stdin is not None and sys.stdin.isatty()

    def stop(number: int, _frame: FrameType | None) -> None:
        process.stop()
        ending = threading.Timer(AT_LATEST, os._exit, (Exit.OK,))
        ending.daemon = True
        ending.start()
        if number == signal.SIGINT:  # an operator may lose patience, and press Ctrl-C again
            signal.signal(number, signal.default_int_handler)

    def reload(number: int, frame: FrameType | None) -> None:
        if had_terminal and not sys.stdin.isatty():
            stop(number, frame)  # its window was closed
        else:
            process.reload()

    signal.set_wakeup_fd(-1)
    for number, answer in ((signal.SIGINT, stop), (signal.SIGTERM, stop), (signal.SIGHUP, reload)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a script's background
            signal.signal(number, answer)
