"""Consoles for tests, whose streams record the output, as files or as terminals."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from certferry.present.console import Console


class Paper(io.StringIO):
    """A stream that records the output. The stream is a file unless `terminal` is set."""

    def __init__(self, *, terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self._terminal = terminal
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a class attribute in typeshed
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


@dataclass(frozen=True)
class TestConsole:
    """A console with its recorded output."""

    __test__ = False

    stdout: Paper = field(default_factory=Paper)
    stderr: Paper = field(default_factory=Paper)
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def console(self) -> Console:
        return Console(self.stdout, self.stderr, self.environ)

    @property
    def out(self) -> str:
        return self.stdout.getvalue()

    @property
    def err(self) -> str:
        return self.stderr.getvalue()


def terminal(**environ: str) -> TestConsole:
    return TestConsole(
        Paper(terminal=True), Paper(terminal=True), {"TERM": "xterm-256color", **environ}
    )
