"""Where the command line begins: global options, and what becomes of whatever goes wrong."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click
from click.shell_completion import shell_complete

from certferry import __version__
from certferry.cli import complaints
from certferry.cli.commands import Commands
from certferry.cli.desk import Desk, standard_desk
from certferry.cli.exits import Exit
from certferry.cli.lines import line
from certferry.cli.logs import begin_logging
from certferry.cli.options import Front, Verbosity
from certferry.text import Text

PROGRAM = "certferry"
COMPLETION = "_CERTFERRY_COMPLETE"
"""The variable by which a shell's completion script asks."""

_LEVELS = {
    Verbosity.QUIET: logging.ERROR,
    Verbosity.NORMAL: logging.WARNING,
    Verbosity.VERBOSE: logging.DEBUG,
}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    metavar="FILE",
    # Whether it can be read is found out where it is read, and told in the same words everywhere.
    type=click.Path(path_type=Path, readable=False),
    help="The configuration file.",
)
@click.option("-v", "--verbose", is_flag=True, help="Tell on stderr what happens inside.")
@click.option("-q", "--quiet", is_flag=True, help="Tell only what failed or was refused.")
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def program(ctx: click.Context, config: Path | None, *, verbose: bool, quiet: bool) -> None:
    """Let's Encrypt certificates by DNS-01, ferried to a CDN, proven at the edge, renewed for ever.

    Exit codes: 0 in order, 1 something failed, 2 usage or configuration, 3 refused for safety,
    4 changes pending (plan --check), 75 still in progress or locked by another run, 130 stopped.
    """
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    verbosity = Verbosity.NORMAL
    if verbose or quiet:
        verbosity = Verbosity.VERBOSE if verbose else Verbosity.QUIET
    begin_logging(_LEVELS[verbosity])
    ctx.obj = Front(ctx.obj, config, verbosity)


def main() -> int:
    """Run the command line of this process and give its exit code."""
    # Asked to end, a run ends as with Ctrl-C: challenge records removed, leases given back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    desk = standard_desk(os.environ)
    try:
        return run(sys.argv[1:], desk)
    except OSError as error:
        # Nothing can be said any more on the stream that broke, and perhaps nobody reads.
        _let_go_of(sys.stdout, sys.stderr)
        return Exit.NO_READER if isinstance(error, BrokenPipeError) else Exit.FAILED


def run(arguments: Sequence[str], desk: Desk) -> int:
    """Run the command line and give its exit code.

    Raises only `OSError`: when an error cannot be told, or nobody reads any more.
    """
    instruction = desk.environ.get(COMPLETION)
    if instruction:
        return shell_complete(program, {"obj": desk}, PROGRAM, COMPLETION, instruction)
    try:
        code = _invoke(arguments, desk)
        desk.flush()
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        desk.remark([line(desk.voice.say(Text("stopped")))])
        return Exit.STOPPED
    except Exception as error:  # noqa: BLE001 - whatever it is, it gets its words and its exit code
        code = _complain(error, arguments, desk)
        desk.flush()
    return code


def _invoke(arguments: Sequence[str], desk: Desk) -> int:
    try:
        with program.make_context(PROGRAM, list(arguments), obj=desk) as ctx:
            return int(program.invoke(ctx))
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        desk.remark([line(error.format_message())])
        return Exit.USAGE


def _complain(error: Exception, arguments: Sequence[str], desk: Desk) -> Exit:
    complaint = complaints.complaint_about(error)
    desk.remark(complaints.told(complaint, desk.voice))
    if "--json" in arguments and not isinstance(error, OSError):
        desk.hand_out(complaints.document(complaint, desk.voice))
    return complaint.exit


def _let_go_of(*streams: TextIO) -> None:
    """Keep the interpreter from complaining about the same streams when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
