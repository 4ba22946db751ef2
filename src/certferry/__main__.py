"""The start of the command `certferry` and of `python -m certferry`."""

from __future__ import annotations

# The module `signal` would first import `enum`; Ctrl-C during that import would print a traceback.
import _signal  # type: ignore[import-not-found]  # a built-in module, which has no stub
import os
import sys
from types import FrameType

from certferry import __version__

STOPPED = 130  # equals `cli.exits.Exit.STOPPED`; importing that module would cost time here


def main() -> int:
    """Run the command line and return its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]) and sys.stdout is not None:
        # Scripts often ask for the version, so this path skips importing the command line. If the
        # stream fails, the command line reports the failure. `os.write` bypasses the stream's
        # buffer, because a buffer would keep the unwritten text and fail at the next use.
        try:
            os.write(sys.stdout.fileno(), f"certferry {__version__}\n".encode())
        except OSError:
            pass
        else:
            return 0

    from certferry.cli.main import main as run

    return run()


def begin() -> None:
    """Run the command, and end the process with the exit code.

    No signal of SIGINT, SIGTERM and SIGHUP prints a traceback. Before and after `cli.main`, each
    ends the process at once. During `cli.main`, the process ends after the command's clean-up.
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
        # nohup ignores SIGHUP, and a script's shell ignores SIGINT for programs in the background.
        if number == _signal.SIGTERM or _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(STOPPED)


def _leave(code: int) -> None:
    """End the process without the interpreter's own shutdown.

    The shutdown restores the signal handlers first, so a signal in the last milliseconds would
    print a traceback, or kill the process. The shutdown would also wait for threads whose results
    are no longer needed. Every command has cleaned up by now.
    """
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001 - the interpreter's shutdown calls the same function
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a closed stream is None
        try:
            stream.flush()
        except (OSError, ValueError):  # the reader of the output is gone; `main` has reported this
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    begin()
