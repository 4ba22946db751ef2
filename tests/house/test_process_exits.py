"""Signals and the end of the process belong to the entry points of the command line."""

from __future__ import annotations

import re

from tests.house.tree import PACKAGE, modules

WHERE = {"__main__.py", "cli/main.py", "cli/serve.py"}
HANDLES = re.compile(r"\bsignal\.signal\(|\bos\._exit\(|\bset_wakeup_fd\(")


def test_a_library_caller_keeps_its_own_signals() -> None:
    """Other modules neither install a handler nor end the process: a server ends its runs by their
    stop.
    """
    modules_with_handlers = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if HANDLES.search(path.read_text(encoding="utf-8"))
    }

    assert WHERE >= modules_with_handlers
