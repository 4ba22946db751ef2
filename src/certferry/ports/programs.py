"""The port to the operator's programs, for adapters that run one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from certferry.text import Quoted


@dataclass(frozen=True, slots=True)
class Ended:
    """A program's exit code, negative for a signal, and its last words."""

    code: int
    words: Quoted


class RunProgram(Protocol):
    """Runs programs."""

    def __call__(self, arguments: Sequence[str], within: timedelta, given: bytes = b"") -> Ended:
        """Run a program to its end: without a shell, in the directory of the configuration file,
        and with an environment that lacks the accounts' keys; what it is `given` is on its standard
        input. What it says goes to the log, as far as it is no secret. One that is still running
        after this time is ended with its children.

        Raises `TargetRejected` when it cannot be run, another `DeployError` when it was ended for
        its time, and `Interrupted` when the run is stopped.
        """
