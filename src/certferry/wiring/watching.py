"""Join the look at watched hosts with the settings: hosts and roots, the edges of declared
certificates, the stored looks, the notices.

A run of all certificates looks in a thread beside its own work. An edge of a declared certificate
is looked at by the run itself, for the certificate, and never a second time. While the run has not
yet observed whether a covered host is such an edge, the look leaves the host for the end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from certferry import errors
from certferry.config.model import Settings
from certferry.core.assessment import watching
from certferry.core.assessment.notices import Notices
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.lineage import Versions
from certferry.core.network import Host
from certferry.core.observed.watched_hosts import WatchedHost
from certferry.ports.probe import Probe
from certferry.ports.progress import Clock, Pause
from certferry.ports.state import StateStore
from certferry.reconcile.host_look import Asked, HostLook
from certferry.reconcile.run import Run, in_thread
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.clock import clock_of
from certferry.wiring.network import probe_for
from certferry.wiring.state import may_be_there

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Shared(Protocol):
    """The settings and the state that runs share, as a `Workspace` has them."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def state(self) -> StateStore:
        """The state, opened at first use. Raises `ConfigError` and `StateError`."""


def hosts_of(settings: Settings) -> tuple[Host, ...]:
    """Return the watched hosts, in the order of the file."""
    return tuple(host for watch in settings.watches for host in watch.hosts)


def owned_by(settings: Settings, sightings: Sequence[Sighting]) -> dict[Host, str]:
    """Return the watched hosts that are edges of declared certificates, each with the lineage: the
    domains that runs observe at accounts, and the hosts in `serves` of a deployment.
    """
    edges: dict[Host, str] = {}
    declared = {desired.lineage for desired in settings.declared}
    for sighting in sightings:
        if sighting.lineage in declared and sighting.target in settings.accounts:
            edges[Host(sighting.domain, settings.verify.port)] = sighting.lineage
    for desired in settings.declared:
        for deployment in desired.deployments:
            edges |= dict.fromkeys(deployment.serves, desired.lineage)
    return {host: edges[host] for host in hosts_of(settings) if host in edges}


def owned_in(
    settings: Settings, state: StateStore, sightings: Sequence[Sighting] | None = None
) -> dict[Host, str]:
    """Return the hosts of `owned_by` by the stored sightings; `None`: read the sightings, but only
    if a watched host may be one of the many domains. Raises `StateError`.
    """
    if sightings is None:
        may_be_sighted = any(host.port == settings.verify.port for host in hosts_of(settings))
        sightings = state.sightings() if may_be_sighted else ()
    return owned_by(settings, sightings)


def _may_become_ours(settings: Settings, state: StateStore) -> Callable[[Host], bool]:
    """Return a function that says whether a run may find a host to be an edge of a declared
    certificate: the certificate covers the host's name. Raises `StateError`.
    """
    deployed = [desired for desired in settings.declared if desired.deployments]
    imported = [desired.lineage for desired in deployed if desired.files is not None]
    versions: Mapping[str, Versions] = state.versions_of(imported) if imported else {}
    if any(not versions.get(lineage) for lineage in imported):
        return lambda _: True  # the names come with the first version
    names = [name for desired in deployed for name in desired.names]
    for stored in versions.values():
        names += stored[0].certificate.names
    return lambda host: covered_by(names, host.name)


@dataclass(eq=False)
class _Look:
    """A look at the watched hosts of the settings, in one or two parts."""

    settings: Settings
    state: StateStore
    #: Whether the work beside the look has ended early, so the look ends too.
    ending: threading.Event
    run: Run

    def __post_init__(self) -> None:
        settings, state = self.settings, self.state
        self._clock = clock_of(self.run, state)
        stored = {look.host: look for look in state.watched_hosts() if look.by == state.host}
        self._look = HostLook(stored, state.host, self._pause, self._clock)
        self._asked = _asked(settings, self._pause, self._clock)
        self._looks: tuple[WatchedHost, ...] = ()
        self._tried: set[Host] = set()

    def _pause(self, seconds: float) -> None:
        if self.ending.is_set():
            raise errors.Interrupted(Text("stopped"))
        self.run.pause(seconds)

    def look(self, wants: Callable[[Host], bool] = lambda _: True) -> None:
        """Look at the hosts that `wants` says, except edges of declared certificates and hosts
        looked at before. Raises `StateError` and `Interrupted`.
        """
        owned = owned_in(self.settings, self.state)
        hosts = [host for host in self._asked if host not in owned and wants(host)]
        asked = [self._asked[host] for host in hosts if host not in self._tried]
        self._tried |= {each.host for each in asked}
        self._looks += self._look.look(asked)

    def store(self) -> None:
        """Store the results. Raises `StateError`."""
        owned = owned_in(self.settings, self.state)
        declared = set(hosts_of(self.settings)) - owned.keys()
        looks = [look for look in self._looks if look.host in declared]
        self.state.save_looks(looks, declared, self._clock())


def _asked(settings: Settings, pause: Pause, now: Clock) -> dict[Host, Asked]:
    """Return the question to each host of the file."""
    probes: dict[Path | None, Probe | errors.ConfigError] = {}

    def probe(ca_bundle: Path | None) -> Probe | errors.ConfigError:
        if ca_bundle not in probes:
            verify = replace(settings.verify, ca_bundle=ca_bundle or settings.verify.ca_bundle)
            try:
                probes[ca_bundle] = probe_for(verify, pause, now)
            except errors.ConfigError as error:  # a trouble of these hosts, and not of the run
                probes[ca_bundle] = error
        return probes[ca_bundle]

    return {
        host: Asked(host, watch.name, watch.expiring, probe(watch.ca_bundle))
        for watch in settings.watches
        for host in watch.hosts
    }


@contextmanager
def looking_beside(shared: Shared, run: Run) -> Iterator[None]:
    """Look at the watched hosts beside the work in the `with` block, and store the results after
    the block. If the block raises, nothing is stored. A failure, or the stop of the run, ends the
    look and not the run.
    """
    ending, settings = threading.Event(), shared.settings
    beside = None
    # Without a state, the accounts come first: wrong settings must not make an empty state.
    if may_be_there(settings.state):
        beside = in_thread(partial(_begun_beside, shared, ending, run), "watch")
    try:
        yield
    except BaseException:
        ending.set()
        raise
    with suppress(errors.Interrupted):
        try:
            begun = None if beside is None else _result(beside, run)
            _result(in_thread(partial(_ended, shared, begun, ending, run), "watch"), run)
        except errors.CertferryError as error:
            log_failed_look(error)
        except Exception:  # noqa: BLE001 - a bug in a look must not fail the run of certificates
            _log.exception(Text("unexpected error"))


def _begun_beside(shared: Shared, ending: threading.Event, run: Run) -> _Look | None:
    """Look at the hosts that are certainly no edges of declared certificates. Return the look, or
    `None` if the state cannot be used; the run itself reports that.
    """
    try:
        look = _Look(shared.settings, shared.state, ending, run)
        may_become_ours = _may_become_ours(shared.settings, shared.state)
        look.look(lambda host: not may_become_ours(host))
    except (errors.StateError, errors.ConfigError):
        return None
    return look


def _ended(shared: Shared, begun: _Look | None, ending: threading.Event, run: Run) -> None:
    look = begun or _Look(shared.settings, shared.state, ending, run)
    look.look()
    look.store()


def _result(future: Future[T], run: Run) -> T:
    """Return the result of work in a thread. Raises the errors of the work, and `Interrupted` at
    once if the run is stopped, also while a host is silent.
    """
    woken = threading.Event()
    future.add_done_callback(lambda _: woken.set())
    with run.waking(woken.set):
        woken.wait()
    run.pause(0)
    return future.result()


def log_failed_look(error: errors.CertferryError) -> None:
    """Log why the watched hosts were not looked at."""
    problem = error.message
    _log.warning(Text("the watched hosts were not looked at: {problem}", problem=problem))


def look_now(settings: Settings, state: StateStore, run: Run, ending: threading.Event) -> None:
    """Look at all watched hosts, and store the results. Raises `StateError`, and `Interrupted` once
    `ending` is set.
    """
    look = _Look(settings, state, ending, run)
    look.look()
    look.store()


def shown(
    settings: Settings, state: StateStore, sightings: Sequence[Sighting] | None = None
) -> watching.Watching:
    """Return the watched hosts of the file, with the last looks of this host. `sightings` as for
    `owned_in`. Raises `StateError`.
    """
    owned = owned_in(settings, state, sightings)
    return watching.shown(state.watched_hosts(), state.host, hosts_of(settings), owned)


def with_current_hosts(
    settings: Settings, state: StateStore, sightings: Sequence[Sighting] | None = None
) -> Callable[[Notices], Notices]:
    """Return a function that replaces the notices about watched hosts by the present ones.
    `sightings` as for `owned_in`. Raises `StateError`.
    """
    hosts = set(hosts_of(settings)) - owned_in(settings, state, sightings).keys()
    looks = watching.that_count(state.watched_hosts(), state.host, hosts, state.now())
    return lambda before: watching.with_watched(before, looks)
