"""The looks around a run of all certificates: at the hosts of `[[watch]]` and at public logs, and
the notices about both. Without `[[watch]]`, nothing about watched hosts is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from certferry.config.model import Settings
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.notices import Notices
from certferry.core.assessment.sightings import Sighting
from certferry.ports.state import StateStore
from certferry.reconcile.run import Run
from certferry.wiring.transparency import look_at_logs, with_current_alarms

if TYPE_CHECKING:
    from certferry.wiring.watching import Shared


@contextmanager
def looking_around(shared: Shared, run: Run, *, is_whole: bool) -> Iterator[None]:
    """Look at watched hosts beside the work in the `with` block, and at public logs after the
    block, if the settings say so and the run is for all certificates. A failed look fails no run.
    """
    settings = shared.settings
    with _looking_at_hosts(shared, run) if is_whole and settings.watches else nullcontext():
        yield
    look_at_logs(settings, shared.state, run, is_whole=is_whole)


@contextmanager
def _looking_at_hosts(shared: Shared, run: Run) -> Iterator[None]:
    from certferry.wiring.watching import looking_beside

    with looking_beside(shared, run):
        yield


def with_current_looks(
    settings: Settings, state: StateStore, records: Recorded | None = None
) -> Callable[[Notices], Notices]:
    """Return a function that replaces the notices about public logs and about watched hosts by the
    present ones. `records`, if given, spare a second reading of versions and sightings. Raises
    `StateError`.
    """
    versions, sightings = None, None
    if records is not None:
        versions, sightings = records.versions, records.sightings
    with_logs = with_current_alarms(settings, state, versions)
    with_hosts = _with_current_hosts(settings, state, sightings)
    return lambda before: with_hosts(with_logs(before))


def _with_current_hosts(
    settings: Settings, state: StateStore, sightings: Sequence[Sighting] | None
) -> Callable[[Notices], Notices]:
    # Other hosts of a shared state may watch, although this host does not.
    if settings.watches or (state.is_shared and state.watched_hosts()):
        from certferry.wiring.watching import with_current_hosts

        return with_current_hosts(settings, state, sightings)
    return lambda before: tuple(notice for notice in before if not notice.subject.watch)
