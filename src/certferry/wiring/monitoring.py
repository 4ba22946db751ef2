"""Notify the monitors of a run: ping a heartbeat (a URL that expects regular requests), and write a
file of metrics. A failure to notify does not fail the run.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from certferry.adapters.monitoring.heartbeat import MISSED, SERVICE, Heartbeat
from certferry.adapters.monitoring.metrics_file import MISSED as NOT_WRITTEN
from certferry.adapters.monitoring.metrics_file import write_metrics
from certferry.adapters.state.columns import to_moment
from certferry.config.model import HEARTBEAT, METRICS, Settings
from certferry.core.assessment.causes import causes_of
from certferry.core.assessment.health import concerns_of
from certferry.core.assessment.notices import of_channel
from certferry.core.planning.report import Result, SyncReport, of_run
from certferry.core.schedule import Beat, may_ping, recent, sends_beat
from certferry.errors import (
    CertferryError,
    DatabaseUnavailable,
    LeaseHeld,
    LeaseLost,
    Problem,
    Reported,
)
from certferry.ports.progress import Pause
from certferry.ports.state import StateStore
from certferry.present import report_text
from certferry.present.check_text import counted, metrics
from certferry.present.language import voice_beside
from certferry.present.layout import plain
from certferry.reconcile.run import host_in_notices, in_thread
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.channels import short_http
from certferry.wiring.clock import now
from certferry.wiring.recorded import change_notices, expected, read_note, recorded
from certferry.wiring.state import may_be_there

LONGEST = timedelta(seconds=10)
"""Time limit for the answer to a run's last ping."""

_LEAST = 1.0
"""Minimum number of seconds for the last ping, even if waiting for the first ping used up
`LONGEST`.
"""

_LATER = (LeaseHeld, LeaseLost, DatabaseUnavailable)
"""Errors that end a run with exit code 75. The heartbeat counts such a run as a success (contract,
"Notifications").
"""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Monitor:
    """Pings the heartbeat of one run, and writes the file of metrics."""

    #: The settings with the monitors.
    settings: Settings
    #: Returns the state.
    state: Callable[[], StateStore]
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: The language of the run's report in the ping, `en` or `zh`.
    language: str
    #: Whether the run covers every declared certificate; only such a run pings the heartbeat.
    is_whole: bool
    #: Time limit for the answer to the last ping.
    longest: timedelta = LONGEST

    def __post_init__(self) -> None:
        self._voice = voice_beside(self.settings.path, self.language)
        self._beats = self.is_whole and self.settings.monitoring.heartbeat is not None
        self._heartbeat: Heartbeat | None = None
        self._starting: Future[Problem | None] | None = None
        self._wrong: Problem | None = None
        self._unclaimed: list[datetime] = []
        self._sends = True

    def begin(self) -> None:
        """Ping the start of the run, without waiting for the answer. Do nothing if no heartbeat is
        declared, if the run is not for every certificate, or if another host pings.
        """
        if not self._beats:
            return
        try:
            self._heartbeat = _heartbeat(self.settings, self.pause)
        except CertferryError as error:
            check = Text("check `url` under [heartbeat]")
            self._wrong = Problem(MISSED, error.message, error.hint or check)
            return
        self._sends = self._sends_beat()
        if self._heartbeat is not None and self._sends and self._may_ping(ends=False):
            self._starting = in_thread(self._heartbeat.start)

    def fail(self, error: Reported) -> None:
        """Write the metrics, and report by a ping the error that ended the run without a report."""
        self._write_metrics({})
        if self._beats:
            message = self._voice.say(Text("error: {message}", message=error.message))
            self._end(message, succeeded=isinstance(error, _LATER))

    def end(self, report: SyncReport) -> None:
        """Write the metrics, and report the run's result by a ping unless the run was stopped."""
        self._write_metrics(counted(report))
        if self._beats and report.complete:
            lines = map(plain, report_text.lines(report, self._voice))
            self._end("\n".join(lines) + "\n", succeeded=_is_no_alarm(report))

    def _end(self, message: str, *, succeeded: bool) -> None:
        """Ping the run's end, wait about `longest` for the answer, and store the ping's result. Do
        not ping, and store nothing, if another host pings or the minute's pings are used up.
        """
        missed, heartbeat = self._wrong, self._heartbeat
        end = time.monotonic() + self.longest.total_seconds()
        if self._starting is not None:
            # A start arriving after the end would look like a hanging run.
            wait([self._starting], self.longest.total_seconds())
        if heartbeat is not None:
            if not (self._sends if succeeded else self._sends_beat(failed=True)):
                return  # another host pings
            if not self._may_ping(ends=True):
                return  # this minute's pings are used up: leave the stored result alone
            late = Text("the service did not answer within {time}", time=self.longest)
            missed = Problem(MISSED, late, Text("the next run pings again"))
            ping = in_thread(partial(heartbeat.end, message, succeeded=succeeded))
            answered = wait([ping], max(end - time.monotonic(), _LEAST)).done
            if answered and ping.exception() is None:
                missed = ping.result()
        self._note(HEARTBEAT, missed)

    def _sends_beat(self, *, failed: bool = False) -> bool:
        """Return whether this host pings. If hosts share the state, a single host claims the
        heartbeat in the state and pings its successes; every host pings a failed run (`failed`). If
        the state is unusable, return `True`.
        """
        if not may_be_there(self.settings.state):
            return True
        try:
            state = self.state()
            if not state.is_shared:
                return True
            beat, last_run = _encoded(Beat(state.host, state.now(), not failed)), state.last_run()

            def claim(before: str | None) -> str | None:
                is_ours = failed or sends_beat(state.host, _beat(before), last_run)
                return beat if is_ours else before

            return state.update_account_note(HEARTBEAT, "beat", claim) == beat
        except CertferryError:
            return True

    def _may_ping(self, *, ends: bool) -> bool:
        """Claim a ping from the number of pings allowed in a minute, which the state counts. Return
        whether to ping. If the state is unusable, return `True`.
        """
        moment = self._now()
        if not may_be_there(self.settings.state):
            self._unclaimed.append(moment)
            return True

        def claim(before: str | None) -> str | None:
            sent = recent((*_moments(before), *self._unclaimed), moment)
            after = (*sent, moment) if may_ping(sent, moment, ends=ends) else sent
            return json.dumps([at.isoformat() for at in after])

        try:
            claimed = self.state().update_account_note(HEARTBEAT, "sent", claim)
        except CertferryError:
            return True
        return moment in _moments(claimed)

    def _write_metrics(self, counts: Mapping[tuple[str, str], int]) -> None:
        path = self.settings.monitoring.metrics
        if path is None or not may_be_there(self.settings.state):
            return
        try:
            text = metrics_of(self.settings, self.state(), counts)
        except CertferryError as error:
            hint = error.hint or Text("run: certferry doctor")
            self._note(METRICS, Problem(NOT_WRITTEN, error.message, hint))
            return
        self._note(METRICS, write_metrics(path, text))

    def _note(self, name: str, missed: Problem | None) -> None:
        """Log a monitor's failure once in this run, and store the result for `check`, `status` and
        the channels.
        """
        if missed is not None:
            message = Text("{name}: {problem} (hint: {hint})")
            _log.warning(message.filled(name=name, problem=missed.message, hint=missed.hint))
        if not may_be_there(self.settings.state):
            return
        with suppress(CertferryError):  # the run itself reports a broken state
            moment = self._now()
            state = self.state()
            host = host_in_notices(state)
            change_notices(
                state, lambda before: of_channel(name, missed, before, moment, host=host)
            )

    def _now(self) -> datetime:
        """Return the time by the state's clock, or by the machine's clock if the state is
        unavailable.
        """
        if may_be_there(self.settings.state):
            with suppress(CertferryError):
                return self.state().now()
        return now()


def _encoded(beat: Beat) -> str:
    return json.dumps([beat.host, beat.at.isoformat(), beat.succeeded])


def _beat(note: str | None) -> Beat | None:
    def read(value: Any) -> Beat | None:
        host, at, succeeded = value
        return Beat(str(host), to_moment(at), bool(succeeded))

    return read_note(note, read, None)


def _is_no_alarm(report: SyncReport) -> bool:
    """Return whether a run ended with exit code 0 or 75 (contract, "Notifications")."""
    return of_run(report) in {Result.IN_ORDER, Result.WAITING}


def try_heartbeat(settings: Settings) -> Problem | None:
    """Ping a success once; return the failure, or `None` after a success and without a heartbeat.
    Raises `ConfigError`.
    """
    heartbeat = _heartbeat(settings, time.sleep)
    return None if heartbeat is None else heartbeat.end("", succeeded=True)


def _heartbeat(settings: Settings, pause: Pause) -> Heartbeat | None:
    reference, http = settings.monitoring.heartbeat, short_http(pause, SERVICE, 5.0)
    if reference is None:
        return None
    return Heartbeat(settings.secrets.resolve(reference), http, str(uuid.uuid4()))


def metrics_of(settings: Settings, state: StateStore, counts: Mapping[tuple[str, str], int]) -> str:
    """Return the text of the metrics of all declared certificates. Add `counts`, the steps of this
    run, to the stored counts. Raises `StateError`.
    """
    steps = _added(state, counts)
    settings = replace(settings, certificates=settings.declared)
    moment = state.now()
    records = recorded(settings, state, moment)
    certificates = expected(settings, records)
    causes = causes_of(concerns_of(certificates, records, moment))
    return metrics(certificates, records, causes, steps, host_in_notices(state))


def _added(state: StateStore, counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    def add(before: str | None) -> str | None:
        sums = Counter(_counts(before))
        sums.update(counts)
        return json.dumps([[*key, count] for key, count in sorted(sums.items())])

    return _counts(state.update_host_note(METRICS, "steps", add))


def _counts(note: str | None) -> dict[tuple[str, str], int]:
    """Return the stored numbers of steps, by activity and outcome; empty if the note is unreadable.
    The counters then start again at zero, as Prometheus allows.
    """
    return read_note(
        note,
        lambda sums: {
            (str(activity), str(outcome)): int(number) for activity, outcome, number in sums
        },
        {},
    )


def _moments(note: str | None) -> tuple[datetime, ...]:
    return read_note(note, lambda moments: tuple(map(to_moment, moments)), ())
