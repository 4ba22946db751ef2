"""Signals and the end of the process belong to where the command line begins."""

from __future__ import annotations

import re

from tests.house.tree import PACKAGE, modules

WHERE = {"__main__.py", "cli/main.py", "cli/serve.py"}
HANDLES = re.compile(r"\bsignal\.signal\(|\bos\._exit\(|\bset_wakeup_fd\(")


def test_a_library_caller_keeps_its_own_signals() -> None:
    """No other module installs a handler or ends the process: a server that makes runs ends them
    by their stop.
    """
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if HANDLES.search(path.read_text(encoding="utf-8"))
    }

    assert WHERE >= found
