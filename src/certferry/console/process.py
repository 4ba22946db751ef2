"""The process of `certferry serve`: it runs the HTTP server, starts two runs a day if wanted, and
can read the settings again without a restart. The caller installs the signal handlers, which call
`Process.stop` and `Process.reload`.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import partial

from certferry.config.model import Settings
from certferry.console.app import console_app
from certferry.console.discover import surveys_of
from certferry.console.listening import ServedCertificate, listening
from certferry.console.server import HttpServer
from certferry.console.site import Site, Starter
from certferry.console.watching import Looks
from certferry.core.observed.stored_runs import RunKind, RunSource
from certferry.core.schedule import MISSED, last_scheduled, moments_of
from certferry.errors import CertferryError, Interrupted
from certferry.ports.progress import Progress
from certferry.reconcile.run import Run, in_thread
from certferry.text import Text
from certferry.wiring.clock import now
from certferry.wiring.runner import Runner
from certferry.wiring.workspace import Workspace, who_runs

TICK = timedelta(seconds=5)
"""The time between two checks whether a scheduled run, a survey or a look should begin. Also the
longest time after which `Process.run` reports to systemd that it works.
"""
LOADS = timedelta(minutes=1)
"""The time between two loads of the certificate that the console serves: a renewal may have
replaced it.
"""
RUNS_END, SERVER_ENDS = timedelta(seconds=6), timedelta(seconds=3)
"""How long runs, and then the server, may take to end. The whole process must end within ten
seconds.
"""
TRIED_AGAIN = timedelta(minutes=10)
"""The time until the next try, after a scheduled run could not begin."""

_log = logging.getLogger(__name__)


class _Order(Enum):
    STOP = "stop"
    RELOAD = "reload"


@dataclass(eq=False)
class Schedule:
    """Makes the runs of `certferry sync --scheduled` twice a day while the process lives."""

    #: Returns the workspace in force.
    workspace: Callable[[], Workspace]
    #: Starts the runs.
    starter: Starter
    #: Returns the time by the machine's clock, in the machine's time zone.
    now: Callable[[], datetime] = lambda: now().astimezone()
    #: A run should begin at the first scheduled moment after this moment, which is the beginning of
    #: the last run begun here. Before, it is the moment when a recent run was read from the state,
    #: or `None`.
    _begun_at: datetime | None = field(default=None, init=False)
    #: After a run could not begin, the moment of the next try.
    _not_before: datetime | None = field(default=None, init=False)

    def keep(self, ending: threading.Event) -> None:
        """Make each scheduled run until the process ends. Errors are logged and do not stop the
        schedule.
        """
        while not ending.is_set():
            try:
                self.begin_scheduled()
            except Exception:  # noqa: BLE001 - the next run must come
                _log.exception(Text("unexpected error"))
            ending.wait(TICK.total_seconds())

    def begin_scheduled(self) -> bool:
        """Begin a run if a scheduled moment has come (`_is_time`), and return whether a run was
        begun. If the run cannot begin, log the problem and notify the channels; calls within
        `TRIED_AGAIN` then do nothing.
        """
        moment = self.now()
        # A `_not_before` further ahead than `TRIED_AGAIN` is ignored: the clock was set back.
        if self._not_before is not None and moment < self._not_before <= moment + TRIED_AGAIN:
            return False
        workspace = self.workspace()
        try:
            if not self._is_time(workspace, moment):
                return False
            who = who_runs(workspace.settings)
            self.starter.start(RunKind.SYNC, (), who=who, source=RunSource.SCHEDULE)
        except CertferryError as error:
            self._not_before = moment + TRIED_AGAIN
            _log.warning(
                Text("the scheduled run could not start: {problem}", problem=error.message)
            )
            workspace.notifications(Run()).notify_failure(error)
            return False
        self._begun_at, self._not_before = moment, None
        return True

    def _is_time(self, workspace: Workspace, moment: datetime) -> bool:
        """Return whether a scheduled moment has passed without a run. In a new process, also return
        True if no run is stored, or if the last run ended longer ago than `MISSED`. Raises
        `CertferryError` if the state cannot give the last run.
        """
        if self._begun_at is None:
            last = workspace.state.last_run()
            if last is None or moment - last.ended_at > MISSED:
                return True
            self._begun_at = moment
        self._begun_at = min(self._begun_at, moment)  # the clock may have been set back
        return last_scheduled(moments_of(workspace.settings.state.host), moment) > self._begun_at


class Process:
    """The process of `certferry serve`. The process listens at `sockets` from the start, and `run`
    answers requests until `stop` is called.
    """

    def __init__(
        self,
        read: Callable[[], Settings],
        environ: MutableMapping[str, str],
        *,
        language: str,
        follow: Callable[[], Progress],
        has_schedule: bool = True,
    ) -> None:
        """Read the settings, load the console's certificate if there is one, then listen. Raises
        `ConfigError`.
        """
        self._read = read
        self._language = language
        self._has_schedule = has_schedule
        self._orders = queue.SimpleQueue[_Order]()
        self._ending = threading.Event()
        self._tls: ServedCertificate | None = None
        self._listening = ExitStack()
        with ExitStack() as unused:  # closes the state again if the settings are wrong
            self.workspace = unused.enter_context(Workspace(read(), language=language))
            self._first = console = self.workspace.settings.console
            if console.has_certificate:
                self._tls = ServedCertificate()
                self._tls.load(self.workspace)
            self.sockets = self._listening.enter_context(listening(console, environ))
            unused.pop_all()
        self._runner = Runner(lambda: self.workspace, follow, self._outdate)
        self.site = Site(
            lambda: self.workspace, self._runner, console.prefix, console.is_https, has_schedule
        )
        self._surveys = surveys_of(self.site)
        self._looks = Looks(lambda: self.workspace, lambda: bool(self.site.running.latest()), now)
        self._systemd = Systemd(environ)

    def _repeat(
        self, step: Callable[[], object], *, failed: Callable[[CertferryError], None]
    ) -> None:
        """Call `step` every `TICK` until the process ends. `failed` gets each of certferry's
        errors; other errors are logged.
        """
        while not self._ending.wait(TICK.total_seconds()):
            try:
                step()
            except Interrupted:
                return
            except CertferryError as error:
                failed(error)
            except Exception:  # noqa: BLE001 - the next step must come
                _log.exception(Text("unexpected error"))

    def stop(self) -> None:
        """Ask `run` to end the process cleanly. Safe to call from a signal's handler."""
        self._orders.put(_Order.STOP)

    def reload(self) -> None:
        """Ask `run` to read the settings again. Safe to call from a signal's handler."""
        self._orders.put(_Order.RELOAD)

    def run(self) -> bool:
        """Serve until `stop`. Return True if `stop` ended the server, False if the server died."""
        context = None if self._tls is None else self._tls.context
        server = HttpServer(console_app(self.site), self.sockets, context)
        server.start()
        works: list[Callable[[], None]] = [
            self._keep_certificate,
            # The pages report that the state is unavailable.
            partial(self._repeat, self._surveys.begin_if_due, failed=lambda _: None),
            partial(
                self._repeat,
                partial(self._looks.look_if_due, self._ending),
                failed=self._looks.log_failure,
            ),
        ]
        if self._has_schedule:
            schedule = Schedule(lambda: self.workspace, self._runner)
            works.append(partial(schedule.keep, self._ending))
        for work in works:
            in_thread(work)
        self._systemd.say("READY=1")
        order = None
        while server.is_alive and order is not _Order.STOP:
            order = self._next_order()
            if order is _Order.RELOAD:
                self._systemd.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
                self._read_anew()
                self._systemd.say("READY=1")
            self._systemd.say_alive(server.alive_at)
        self._systemd.say("STOPPING=1")
        self._ending.set()
        self._runner.stop_all(RUNS_END)
        self.site.closing.set()  # only now, so streams have shown the ends of runs
        server.stop(SERVER_ENDS)
        self._listening.close()
        return order is _Order.STOP

    def _next_order(self) -> _Order | None:
        with suppress(queue.Empty):
            return self._orders.get(timeout=min(TICK, self._systemd.interval).total_seconds())
        return None

    def _read_anew(self) -> None:
        """Read the settings again, and put the new settings in force. If the new settings are
        wrong, log the problem and keep the old settings.
        """
        try:
            with ExitStack() as unused:  # closes the state again if the settings are wrong
                workspace = unused.enter_context(Workspace(self._read(), language=self._language))
                console = workspace.settings.console
                if self._tls is not None and console.has_certificate:
                    self._tls.load(workspace)
                unused.pop_all()
        except CertferryError as error:
            self.site.unread = error.problem()
            _log.warning(
                Text("the previous configuration stays in use: {problem}", problem=error.message)
            )
            return
        # Runs and requests in progress go on with the earlier workspace.
        self.workspace, self.site.unread = workspace, None
        self.site.prefix, self.site.is_https = console.prefix, console.is_https
        self.site.forget()
        self._surveys.forget()
        addresses = [
            (settings.listen, settings.has_certificate) for settings in (console, self._first)
        ]
        if addresses[0] != addresses[1]:
            _log.warning(Text("restart the console to listen at the new address"))

    def _outdate(self) -> None:
        self.site.observer.outdate()

    def _keep_certificate(self) -> None:
        """Load the console's own certificate again, once in `LOADS`, until the process ends."""
        while self._tls is not None and not self._ending.wait(LOADS.total_seconds()):
            try:
                if self.workspace.settings.console.has_certificate:
                    self._tls.load(self.workspace)
            except CertferryError as error:  # the earlier certificate stays in use
                _log.warning(Text("{problem}", problem=error.message))


class Systemd:
    """Reports the process's state to systemd, if systemd started the process (sd_notify(3))."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        # The variables are removed, so that programs started by certferry do not report to systemd
        # in place of this process.
        self._address = environ.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        asked = environ.pop("WATCHDOG_USEC", "")
        environ.pop("WATCHDOG_PID", None)
        self._limit = timedelta(microseconds=int(asked)) if asked.isdigit() else None

    @property
    def interval(self) -> timedelta:
        """The most time that may pass between two calls of `say_alive`."""
        return TICK if self._limit is None else self._limit / 3

    def say_alive(self, heard: float) -> None:
        """Report to systemd's watchdog that the process works, if systemd asked for this and the
        server worked within the watchdog's limit. `heard` is the last moment at which the server
        worked, by the monotonic clock.
        """
        if self._limit is not None and time.monotonic() - heard < self._limit.total_seconds():
            self.say("WATCHDOG=1")

    def say(self, *lines: str) -> None:
        """Send lines to systemd, if systemd gave an address."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.sendto("\n".join(lines).encode(), self._address)
