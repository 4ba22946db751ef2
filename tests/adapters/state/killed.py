"""Work in a process that is killed before a statement or before a change of a file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

_SERVERS = {"Connection.execute", "Cursor.executemany"}
_FILES = {"link", "rename", "replace", "unlink"}
# A fork server imports the modules once, so that each process begins within milliseconds.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["certferry.adapters.state.move", "certferry.adapters.state.postgresql", __name__]
)


def is_killed_at(number: int, work: Callable[..., object], *args: object) -> bool:
    """Do work in a process that is killed (SIGKILL) before its statement of this number, counted
    from 1; return `False` if the work ended before.
    """
    process = _PROCESSES.Process(target=_carry_out, args=(number, work, args))
    process.start()
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0


def _carry_out(number: int, work: Callable[..., object], args: tuple[object, ...]) -> None:
    remaining = number

    def count(frame: FrameType, event: str, called: Any) -> None:
        nonlocal remaining
        if (event == "c_call" and _is_change(called)) or (
            event == "call"
            and frame.f_code.co_qualname in _SERVERS
            and str(frame.f_globals.get("__name__")).startswith("psycopg")
        ):
            remaining -= 1
            if not remaining:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    work(*args)


def _is_change(called: Any) -> bool:
    name = called.__name__
    if isinstance(getattr(called, "__self__", None), sqlite3.Connection):
        return name in {"execute", "executemany"}
    return called.__module__ == "posix" and name in _FILES
