"""Carry out checks side by side: each has its time, and one that breaks off is a finding too."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.events import Activity, StepEnded
from certferry.core.findings import Code, Finding, heaviest_first, of_refusal, warning
from certferry.core.progress import Begun, Ended
from certferry.core.report import Outcome, StepOutcome
from certferry.core.steps import Action
from certferry.errors import CertferryError, Interrupted
from certferry.ports.progress import Progress
from certferry.text import Text

AT_ONCE = 16
WITHIN = timedelta(seconds=60)
"""What one check may take: about what a service takes that is silent in every attempt."""

WITHIN_OF_MANY = timedelta(minutes=10)
"""The same for a certificate: thousands of domains are read at the service's pace."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one `subject`, which the progress names; `what` says what is looked at, `within`
    how long that may take. `look` changes nothing; what it raises becomes a finding.
    """

    subject: str
    what: Text
    look: Callable[[], Iterable[Finding]]
    within: timedelta = WITHIN


class Examination:
    """One run of all checks. `stop` ends what is still under way."""

    def __init__(
        self,
        *,
        progress: Progress,
        now: Callable[[], datetime],
        stop: Callable[[], None],
    ) -> None:
        self._progress = progress
        self._now = now
        self._stop = stop

    def carry_out(self, checks: Iterable[Check]) -> tuple[Finding, ...]:
        """Carry out every check, and return what they found, heaviest first. Raises `Interrupted`
        when the run is stopped, and what the progress raises.
        """
        waiting = list(checks)
        running: dict[threading.Thread, tuple[Check, float]] = {}
        ended: queue.SimpleQueue[tuple[threading.Thread, list[Finding]]] = queue.SimpleQueue()
        findings: list[Finding] = []
        try:
            self._progress(Begun(len(waiting)))
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    check = waiting.pop(0)
                    deadline = time.monotonic() + check.within.total_seconds()
                    running[self._begin(check, ended)] = (check, deadline)
                thread, found = self._next(running, ended)
                if thread in running:  # one that was given up may end all the same
                    self._tell_end(running.pop(thread)[0])
                    findings += found
        finally:
            self._stop()
        return heaviest_first(findings)

    def _begin(
        self, check: Check, ended: queue.SimpleQueue[tuple[threading.Thread, list[Finding]]]
    ) -> threading.Thread:
        self._progress(Activity(check.subject, check.what, self._now()))

        def work() -> None:
            ended.put((thread, _found_by(check)))

        # Daemons: a check that was given up must not keep the process.
        thread = threading.Thread(target=work, name=f"check {check.subject}", daemon=True)
        thread.start()
        return thread

    def _next(
        self,
        running: dict[threading.Thread, tuple[Check, float]],
        ended: queue.SimpleQueue[tuple[threading.Thread, list[Finding]]],
    ) -> tuple[threading.Thread, list[Finding]]:
        """Wait for the next check to end, or to have had its time."""
        thread, (check, deadline) = min(running.items(), key=lambda one: one[1][1])
        try:
            return ended.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            return thread, [_overdue(check)]

    def _tell_end(self, check: Check) -> None:
        looked = StepOutcome(Action.LOOK, Outcome.UNCHANGED, check.what)
        self._progress(StepEnded(check.subject, looked))
        self._progress(Ended(check.subject))


def _found_by(check: Check) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(check.look())
    except Interrupted:  # told to the run itself, which waits for nothing more
        return findings
    except CertferryError as problem:
        return [*findings, of_refusal(check.subject, problem)]
    except BaseException:  # noqa: BLE001 - logged whole: the other checks go on, in other threads
        _log.exception(Text("{subject}: unexpected error", subject=check.subject))
        message = Text(
            "it could not be looked at: a mistake in certferry ({what})", what=check.what
        )
        fix = Text("run it again with -v, and report what it prints")
        return [*findings, warning(Code.NOT_LOOKED_AT, check.subject, message, fix)]
    return findings


def _overdue(check: Check) -> Finding:
    message = Text("{what}: no answer within {time}", what=check.what, time=check.within)
    fix = Text("run it again; if it stays so, look at network and proxy")
    return warning(Code.NOT_LOOKED_AT, check.subject, message, fix)
