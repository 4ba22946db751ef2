"""What monitors hear of a run: a heartbeat, a file of metrics. Neither fails the run."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from certferry.adapters.monitoring.heartbeat import MISSED, SERVICE, Heartbeat
from certferry.adapters.monitoring.metrics_file import MISSED as NOT_WRITTEN
from certferry.adapters.monitoring.metrics_file import write_metrics
from certferry.config.model import HEARTBEAT, METRICS, Settings
from certferry.core.assessment.notices import of_channel
from certferry.core.planning.report import SyncReport
from certferry.core.planning.result import Result, of_run
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
from certferry.present.language import voice_in
from certferry.present.layout import plain
from certferry.reconcile.run import aside, change_notices, host_in_notices
from certferry.text import Text
from certferry.wiring.channels import short_http
from certferry.wiring.clock import now
from certferry.wiring.recorded import expected, recorded
from certferry.wiring.state import may_be_there

LONGEST = timedelta(seconds=10)
"""How long a run waits for the answer to its last ping."""

_LEAST = 1.0
"""Seconds that the last ping has in any case."""

_LATER = (LeaseHeld, LeaseLost, DatabaseUnavailable)
"""What ends a run with exit code 75, which counts as success (contract, "Notifications")."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Monitor:
    """Notifies monitors of one run. Only a run for every certificate (`is_whole`) is a beat."""

    settings: Settings
    state: Callable[[], StateStore]
    pause: Pause
    language: str
    is_whole: bool
    longest: timedelta = LONGEST

    def __post_init__(self) -> None:
        self._voice = voice_in(self.language)
        self._beats = self.is_whole and self.settings.monitoring.heartbeat is not None
        self._heartbeat: Heartbeat | None = None
        self._starting: Future[Problem | None] | None = None
        self._wrong: Problem | None = None
        self._unclaimed: list[datetime] = []
        self._sends = True

    def begin(self) -> None:
        """Ping that the run begins, and do not wait for the answer."""
        if not self._beats:
            return
        try:
            self._heartbeat = _heartbeat(self.settings, self.pause)
        except CertferryError as wrong:
            check = Text("check `url` under [heartbeat]")
            self._wrong = Problem(MISSED, wrong.message, wrong.hint or check)
            return
        self._sends = self._sends_beat()
        if self._heartbeat is not None and self._sends and self._may_ping(ends=False):
            self._starting = aside(self._heartbeat.start)

    def fail(self, error: Reported) -> None:
        """Ping what ended the run before it had a report."""
        self._write_metrics({})
        if self._beats:
            said = self._voice.say(Text("error: {message}", message=error.message))
            self._end(said, succeeded=isinstance(error, _LATER))

    def end(self, report: SyncReport) -> None:
        """Ping how the run has ended."""
        self._write_metrics(counted(report))
        if self._beats and report.complete:
            lines = map(plain, report_text.lines(report, self._voice))
            self._end("\n".join(lines) + "\n", succeeded=_is_no_alarm(report))

    def _end(self, said: str, *, succeeded: bool) -> None:
        """Ping the run's end, wait for the answer shortly, and store what went wrong with it."""
        missed, heartbeat = self._wrong, self._heartbeat
        end = time.monotonic() + self.longest.total_seconds()
        if self._starting is not None:
            # A beginning that came after its end would look like a run that hangs.
            wait([self._starting], self.longest.total_seconds())
        if heartbeat is not None:
            if not (self._sends if succeeded else self._sends_beat(failed=True)):
                return  # another host does
            if not self._may_ping(ends=True):
                return  # without a ping, this run knows nothing of it
            late = Text("it did not answer within {time}", time=self.longest)
            missed = Problem(MISSED, late, Text("the next run pings again"))
            ping = aside(partial(heartbeat.end, said, succeeded=succeeded))
            answered = wait([ping], max(end - time.monotonic(), _LEAST)).done
            if answered and ping.exception() is None:
                missed = ping.result()
        self._note(HEARTBEAT, missed)

    def _sends_beat(self, *, failed: bool = False) -> bool:
        """Claim the heartbeat of this round on a state that hosts share; one that `failed` sends it
        in any case. A state that cannot be used keeps none back.
        """
        if not may_be_there(self.settings.state):
            return True
        try:
            state = self.state()
            if not state.is_shared:
                return True
            beat, last_run = _written(Beat(state.host, state.now(), not failed)), state.last_run()

            def claim(before: str | None) -> str | None:
                is_ours = failed or sends_beat(state.host, _beat(before), last_run)
                return beat if is_ours else before

            return state.update_account_note(HEARTBEAT, "beat", claim) == beat
        except CertferryError:
            return True

    def _may_ping(self, *, ends: bool) -> bool:
        """Claim one of a minute's pings. A state that cannot be used keeps none back."""
        moment = self._now()
        if not may_be_there(self.settings.state):
            self._unclaimed.append(moment)
            return True

        def claim(before: str | None) -> str | None:
            sent = recent((*_moments(before), *self._unclaimed), moment)
            after = (*sent, moment) if may_ping(sent, moment, ends=ends) else sent
            return json.dumps([one.isoformat() for one in after])

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
        """Log it once in this run, and store it for `check`, `status` and the channels."""
        if missed is not None:
            said = Text("{name}: {problem} (hint: {hint})")
            _log.warning(said.filled(name=name, problem=missed.message, hint=missed.hint))
        if not may_be_there(self.settings.state):
            return
        with suppress(CertferryError):  # what is wrong with the state is reported where it is used
            moment = self._now()
            state = self.state()
            host = host_in_notices(state)
            change_notices(
                state, lambda before: of_channel(name, missed, before, moment, host=host)
            )

    def _now(self) -> datetime:
        """Return this moment by the state's clock, or the machine's where no state is to be had."""
        if may_be_there(self.settings.state):
            with suppress(CertferryError):
                return self.state().now()
        return now()


def _written(beat: Beat) -> str:
    return json.dumps([beat.host, beat.at.isoformat(), beat.succeeded])


def _beat(note: str | None) -> Beat | None:
    try:
        host, at, succeeded = json.loads(note or "")
        return Beat(str(host), datetime.fromisoformat(at), bool(succeeded))
    except (ValueError, TypeError):
        return None


def _is_no_alarm(report: SyncReport) -> bool:
    """Return whether a run ended with 0 or 75 (contract, "Notifications")."""
    return of_run(report) in {Result.IN_ORDER, Result.WAITING}


def try_heartbeat(settings: Settings) -> Problem | None:
    """Ping once, as a run that succeeded; return what went wrong. Raises `ConfigError`."""
    heartbeat = _heartbeat(settings, time.sleep)
    return None if heartbeat is None else heartbeat.end("", succeeded=True)


def _heartbeat(settings: Settings, pause: Pause) -> Heartbeat | None:
    reference, http = settings.monitoring.heartbeat, short_http(pause, SERVICE, 5.0)
    if reference is None:
        return None
    return Heartbeat(settings.secrets.resolve(reference), http, str(uuid.uuid4()))


def metrics_of(settings: Settings, state: StateStore, counts: Mapping[tuple[str, str], int]) -> str:
    """Return the metrics of all that is declared, with these counts of steps added to those that
    are stored. Raises `StateError`.
    """
    steps = _added(state, counts)
    settings = replace(settings, certificates=settings.declared)
    known = recorded(settings, state, state.now())
    return metrics(expected(settings, known), known, steps, host_in_notices(state))


def _added(state: StateStore, counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    def add(before: str | None) -> str | None:
        sums = Counter(_counts(before))
        sums.update(counts)
        return json.dumps([[*key, count] for key, count in sorted(sums.items())])

    return _counts(state.update_host_note(METRICS, "steps", add))


def _counts(note: str | None) -> dict[tuple[str, str], int]:
    """Read the sums; if they cannot be read they begin anew, as a counter may."""
    try:
        return {(str(a), str(o)): int(n) for a, o, n in json.loads(note or "[]")}
    except (ValueError, TypeError):
        return {}


def _moments(note: str | None) -> tuple[datetime, ...]:
    try:
        return tuple(datetime.fromisoformat(one) for one in json.loads(note or "[]"))
    except (ValueError, TypeError):
        return ()
