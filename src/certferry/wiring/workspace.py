"""Everything shared by the runs of a process: the settings, the state, the pace of each account."""

from __future__ import annotations

import getpass
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Self

from msgspec import Struct

from certferry.adapters.files.source import PemFileSource
from certferry.config.model import Settings
from certferry.core.assessment.causes import Cause, causes_of
from certferry.core.assessment.health import Concern, Recorded, concerns_of
from certferry.core.assessment.notices import ChannelState
from certferry.core.assessment.status import LineageStatus
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.planning.planner import Claims
from certferry.migration.takeover import adopt
from certferry.ports.progress import each_of
from certferry.ports.state import StateStore
from certferry.reconcile.observe import as_known
from certferry.reconcile.run import Ports, Run, held_lease, history_keeper
from certferry.values import replace
from certferry.wiring.accounts import AccountNotes, Paces, VendorAccounts
from certferry.wiring.authorities import issuer_for
from certferry.wiring.clock import clock_of
from certferry.wiring.machine import receiver_for, sweep_handovers
from certferry.wiring.network import probe_for
from certferry.wiring.notifications import RunNotifications
from certferry.wiring.recorded import domains_elsewhere, expected, outdated_in
from certferry.wiring.state import closed_in_order, opened_state


@dataclass(eq=False)
class Workspace:
    """The settings, state and paces shared by the runs of a process, opened when needed. Safe to
    use from any thread.
    """

    settings: Settings  #: The settings, perhaps limited to some certificates (`part_for`).
    reads_only: bool = False  #: Open the state for reading; runs change nothing.
    language: str = "en"  #: The language of messages, `en` or `zh`.

    def __post_init__(self) -> None:
        self._paces = Paces(lambda: self.state, is_shared=self.settings.state.is_shared)
        self._resources = ExitStack()
        self._guard = threading.Lock()
        self._state: StateStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended_by: object) -> None:
        self._resources.__exit__(*ended_by)  # type: ignore[arg-type]  # `with` passes exactly these

    @property
    def certificates(self) -> tuple[DesiredCertificate, ...]:
        """The certificates that a run is for."""
        return self.settings.certificates

    @property
    def state(self) -> StateStore:
        """The state, opened at first use. Raises `ConfigError` and `StateError`."""
        with self._guard:
            if self._state is None:
                state = opened_state(self.settings, reads_only=self.reads_only)
                self._state = self._resources.enter_context(closed_in_order(state))
            return self._state

    def part_for(self, certificates: Sequence[DesiredCertificate]) -> Self:
        """Return this workspace limited to some certificates, sharing state and paces. Opens the
        state. Raises the errors of `state`.
        """
        state, part = self.state, copy(self)
        part._state = state  # noqa: SLF001 - an instance of this class
        part.settings = replace(self.settings, certificates=tuple(certificates))
        return part

    def accounts(self, run: Run) -> VendorAccounts:
        """Return the accounts named in the settings, for a run to connect."""
        return VendorAccounts(
            self.settings,
            lambda label: AccountNotes(lambda: self.state, label, is_kept=not self.reads_only),
            run=run,
            paces=self._paces,
            language=self.language,
        )

    def connect(self, run: Run, *, declares: bool = True) -> Ports:
        """Connect and return the ports of a run. Raises `StateError`, and a single `ConfigError`
        with all mistakes in the accounts.

        Unless the workspace only reads, remove files that a killed run left for commands. With
        `declares`, also store the file's declarations in a shared state.
        """
        # The accounts come first, so wrong settings stop the run before an empty state is made.
        dns, targets, servers = self.accounts(run).meant()
        settings, state, source = self.settings, self.state, PemFileSource()
        now = clock_of(run, state)
        meant = {desired.lineage for desired in settings.certificates}
        if not self.reads_only:
            sweep_handovers(settings)
        return Ports(
            issuer=issuer_for(settings, state, run.pause, now),
            source=source,
            dns=dns,
            targets=targets,
            receiver=partial(receiver_for, settings, run.pause, servers),
            probe=probe_for(settings.verify, run.pause, now),
            state=state,
            now=now,
            progress=each_of(history_keeper(state, now, run.who), run.progress),
            verify_timeout=settings.verify.timeout,
            claims=Claims(
                (
                    as_known(desired, source, state, read=desired.lineage in meant)
                    for desired in settings.declared
                ),
                domains_elsewhere(settings, state),
            ),
            run=run,
            outdated=outdated_in(settings, state, writes=declares and not self.reads_only),
        )

    def concerns(self, records: Recorded) -> tuple[Concern, ...]:
        """Return what `certferry check` finds in the records. Raises the errors of `state`."""
        return concerns_of(expected(self.settings, records), records, self.state.now())

    def notifications(self, run: Run) -> RunNotifications:
        """Return the object that notifies operators and monitors of a run."""
        return RunNotifications(self.settings, lambda: self.state, run=run, language=self.language)

    def adopt(self, lineage: str, bundle: CertificateBundle, who: str) -> bool:
        """Store another client's certificate, unless a stored version is as new or newer. Return
        whether the certificate was stored. Raises the errors of `migration.takeover.adopt`.
        """
        state = self.state
        lease = partial(held_lease, state, state.now)
        return adopt(lineage, bundle, state=state, lease=lease, now=state.now(), who=who)


class Overview(Struct, frozen=True):
    """The standing of every certificate and channel."""

    statuses: Sequence[LineageStatus]  #: The standing of each certificate, observed now.
    recorded: Recorded  #: The records of earlier runs.
    channels: Mapping[str, ChannelState]  #: Sent notices and refusals, by channel.
    causes: tuple[Cause, ...] = ()  #: What `certferry check` finds in the records, by cause.


def overview(workspace: Workspace, run: Run, recorded: Recorded) -> Overview:
    """Observe everything declared in the workspace, and return the standing. Changes nothing at
    services. Raises `ConfigError`, `StateError` and `Interrupted`.
    """
    from certferry.reconcile.reads import statuses_of

    statuses = statuses_of(workspace.connect(run), workspace.certificates, recorded)
    channels = workspace.notifications(run).channel_states()
    return Overview(statuses, recorded, channels, causes_of(workspace.concerns(recorded)))


def who_runs(settings: Settings) -> str:
    """Return USER@HOST for the user running certferry. A user without a name, as in containers, is
    given by number.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.geteuid())
    return f"{user}@{settings.state.host}"
