"""Where the command `certferry` and `python -m certferry` begin."""

from __future__ import annotations

# `signal` itself loads `enum` first: some milliseconds in which Ctrl-C would print a traceback.
import _signal  # type: ignore[import-not-found]  # a built-in module, which has no stub
import os
import sys
from types import FrameType

from certferry import __version__

STOPPED = 130  # as `cli.exits.Exit.STOPPED`, whose module is not loaded yet


def main() -> int:
    """Run the command line and return its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]) and sys.stdout is not None:
        # Scripts ask for the version often: it costs no import of the command line, unless the
        # stream takes nothing, which the command line tells. Past the stream's buffer, which would
        # keep what could not be written, and fail at the next use.
        try:
            os.write(sys.stdout.fileno(), f"certferry {__version__}\n".encode())
        except OSError:
            pass
        else:
            return 0

    from certferry.cli.main import main as run

    return run()


def begin() -> None:
    """Run the process from start to exit. A signal ends it quietly at any moment: the work in order
    (`cli.main`), what comes before and after it at once.
    """
    _end_at_once_on_signals()
    code = STOPPED
    try:
        code = main()
    except KeyboardInterrupt:
        pass
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    _end_at_once_on_signals()
    _leave(code)


def _end_at_once_on_signals() -> None:
    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        # nohup has one ignored, and a shell that runs a script another, in the background
        if number == _signal.SIGTERM or _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(STOPPED)


def _leave(code: int) -> None:
    """End without the interpreter's own end: it takes the handlers away first, and a signal in its
    last milliseconds would print a traceback, or end the process by itself. It would also wait for
    threads whose answers are not wanted any more; what has something to clean up has had its time.
    """
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001 - the same that the interpreter calls
    for stream in filter(None, (sys.stdout, sys.stderr)):  # closed ones are none
        try:
            stream.flush()
        except (OSError, ValueError):  # no reader is left, and `main` has told so
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    begin()
