"""The engine of one run: every door joined, for the certificates that the run is for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from certferry.adapters.files.source import PemFileSource
from certferry.config.model import Settings
from certferry.core.planning.rollouts import Claims
from certferry.ports.probe import Probe
from certferry.ports.progress import Pause, Progress, each_of
from certferry.ports.source import CertificateSource
from certferry.ports.state import StateStore
from certferry.reconcile.doors import Doors
from certferry.reconcile.observe import as_known
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.sightings import SightingsKeeper
from certferry.reconcile.stopping import Stopping
from certferry.reconcile.visit import held_lease, history_keeper
from certferry.wiring.accounts import Accounts
from certferry.wiring.clock import now
from certferry.wiring.late_issuer import issuer_for
from certferry.wiring.machine import receiver_for


def reconciler_for(
    settings: Settings,
    accounts: Accounts,
    open_state: Callable[[], StateStore],
    *,
    progress: Progress,
    stopping: Stopping,
    who: str,
) -> Reconciler:
    """Connect every account that the certificates name, and join the doors. `who` stands in the
    history. Raises one `ConfigError` of all that is wrong with the accounts.
    """
    # First: with a mistake in the settings, not even an empty state is made.
    dns, targets = accounts.meant()
    state, source = open_state(), PemFileSource()
    doors = Doors(
        issuer=issuer_for(settings, state, stopping.pause),
        source=source,
        dns=dns,
        targets=targets,
        receiver=partial(receiver_for, settings, stopping.pause),
        probe=probe_for(settings, stopping.pause),
        state=state,
        lease=partial(held_lease, state, now),
        now=now,
        progress=each_of(history_keeper(state, now, who), progress),
        verify_timeout=settings.verify.timeout,
        claims=_claims(settings, source, state),
        looks=SightingsKeeper(state, now),
    )
    return Reconciler(doors, stop=stopping.stop)


def probe_for(settings: Settings, pause: Pause, *, alone: bool = False) -> Probe:
    """Return the look from outside: at more domains at once, where nothing else goes on beside."""
    from certferry.adapters.probe.tls import DOMAINS_AT_ONCE, HOSTS_AT_ONCE, TlsProbe

    verify = settings.verify
    resolvers = [(server.host, server.port) for server in verify.resolvers]
    return TlsProbe(
        resolvers,
        now,
        pause=pause,
        port=verify.port,
        ca_bundle=verify.ca_bundle,
        hosts_at_once=HOSTS_AT_ONCE if alone else DOMAINS_AT_ONCE,
    )


def _claims(settings: Settings, source: CertificateSource, state: StateStore) -> Claims:
    meant = {desired.lineage for desired in settings.certificates}
    return Claims(
        as_known(desired, source, state, read=desired.lineage in meant)
        for desired in settings.declared
    )
