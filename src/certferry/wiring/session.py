"""Everything a command works with: the state, the accounts, the edges, the engine of a run."""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property

from certferry.config.model import Settings
from certferry.core.desired.certificate import DesiredCertificate
from certferry.ports.probe import Probe
from certferry.ports.progress import Progress
from certferry.ports.state import AccountMemory, StateStore
from certferry.reconcile.later_tries import ScheduledRun
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.stopping import Stopping
from certferry.reconcile.visits import Patience
from certferry.wiring.accounts import AccountNotes, Accounts
from certferry.wiring.engine import probe_for, reconciler_for
from certferry.wiring.machine import sweep_handovers
from certferry.wiring.teller import Teller


@contextmanager
def open_session(
    settings: Settings, *, progress: Progress, language: str = "en"
) -> Iterator[Session]:
    """Open what the settings name, and let go of it at the end of the `with` block. `language` is
    the operator's.
    """
    with ExitStack() as resources:
        yield Session(settings, progress, resources, language=language)


class Session:
    """Everything a command works with. Each part is opened when it is first asked for; what is
    wrong with the accounts is then told all at once, as one `ConfigError`.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        resources: ExitStack,
        *,
        language: str,
        looks_only: bool = False,
    ) -> None:
        self._settings = settings
        self._language = language
        self._looks_only = looks_only
        self._progress = progress
        self._resources = resources
        self._stopping = Stopping()

    @property
    def certificates(self) -> tuple[DesiredCertificate, ...]:
        """What the run is for."""
        return self._settings.certificates

    @cached_property
    def state(self) -> StateStore:
        """What certferry remembers."""
        from certferry.adapters.state.connect import connect

        where = self._settings.state
        state = connect(where.path, where.key_file, looks_only=self._looks_only)
        return self._resources.enter_context(closing(state))

    @cached_property
    def probe(self) -> Probe:
        """The look from outside."""
        return probe_for(self._settings, self._stopping.pause)

    @cached_property
    def teller(self) -> Teller:
        """Tells operators and monitors what became of the session's runs."""
        return Teller(self._settings, lambda: self.state, pause=self.pause, language=self._language)

    def reconciler(self) -> Reconciler:
        """Return the engine of a run over every account that the certificates name. Each run
        connects anew: a token that was refused before may be right by now, and zones appear.
        """
        self._stopping.begin()
        engine = reconciler_for(
            self._settings,
            self.accounts,
            lambda: self.state,
            progress=self._progress,
            stopping=self._stopping,
            who=who_runs(),
        )
        if not self._looks_only:
            sweep_handovers(self._settings)
        return engine

    def pause(self, seconds: float) -> None:
        """See `ports.progress.Pause`."""
        self._stopping.pause(seconds)

    def scheduled_run(self, patience: Patience) -> ScheduledRun:
        """Return a run that tries again what has failed."""
        return ScheduledRun(self.reconciler, self._stopping.pause, patience)

    @cached_property
    def accounts(self) -> Accounts:
        """The accounts that the settings name."""
        return Accounts(
            self._settings,
            self._memory_of,
            pause=self._stopping.pause,
            progress=self._progress,
            language=self._language,
        )

    def _memory_of(self, label: str) -> AccountMemory:
        """Give what is remembered of an account. Who only looks, writes nothing down."""
        return AccountNotes(lambda: self.state, label, is_kept=not self._looks_only)


def who_runs() -> str:
    """Who runs certferry; a number where the system has no name, as in containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.geteuid())
    return f"{user}@{platform.node()}"
