"""What is kept of a run while it is under way, so that one that is killed, or ended by a package's
adapter with the whole process, is told by the next one and by `status`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime

from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.observed.records import BegunRun
from certferry.errors import RunCutShort, StateError
from certferry.ports.state import StateStore
from certferry.problem import Problem
from certferry.text import Text

_log = logging.getLogger(__name__)

_HINT = Text(
    "run: certferry sync, which goes on from there; if that does not end either, look into the"
    " system's log, and at the packages whose adapters it uses"
)


@contextmanager
def in_progress(state: Callable[[], StateStore], now: Callable[[], datetime]) -> Iterator[None]:
    """Keep that a run is under way, where that can be kept, and tell of those that had no end."""
    with ExitStack() as ending:
        try:
            store = state()
            for run in store.unended_runs():
                _log.warning(Text("{words}", words=_words(run)))
            ending.callback(_end, store, store.begin_run(now()))
        except StateError as error:  # told where the run itself needs the state
            _log.debug("%s", error.message)
        yield


def _end(state: StateStore, run: BegunRun) -> None:
    with suppress(StateError):
        state.end_run(run)


def notices_of_unended(state: StateStore) -> tuple[Notice, ...]:
    """Return what stands of runs that did not end, until the next one begins. Changes nothing."""
    try:
        unended = state.unended_runs()
    except StateError:  # no lock can be tried, as on a disk that is only read
        return ()
    return tuple(
        Notice(
            Topic.TROUBLE, Subject(), run.began_at, Problem(RunCutShort.code, _words(run), _HINT)
        )
        for run in unended
    )


def _words(run: BegunRun) -> Text:
    return Text(
        "the run that process {pid} on {host} began at {moment} did not end: it was killed or"
        " crashed, or the machine stopped",
        pid=run.pid,
        host=run.host,
        moment=run.began_at,
    )
