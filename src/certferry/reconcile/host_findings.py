"""What a look at the machine itself finds: the seal of the state, the daily run, the last try."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import PurePath

from certferry.core.findings import Code, Finding, info, of_error, warning
from certferry.core.history import HistoryEntry, LastRun
from certferry.errors import ScheduleError, StateError, StateUnavailable
from certferry.ports.scheduler import Scheduler
from certferry.ports.state import StateStore
from certferry.text import Text

ENTRIES = 500
"""The newest of the history: enough to find the last try of anything that still fails."""

_FAILED = " failed"
"""How the event of a try ends that failed; without it, that of one that did not."""


def look_at_state(
    state: StateStore,
    path: PurePath,
    key_file: PurePath,
    declared: Collection[str],
    now: datetime,
) -> Iterator[Finding]:
    """Try the seal, and tell what to back up, and what happened last to the `declared` lineages."""
    try:
        state.must_unseal()
    except StateUnavailable as problem:
        yield of_error(Code.STATE_UNUSABLE, str(path), problem)
    except StateError as problem:
        yield of_error(Code.SEAL_BROKEN, str(key_file), problem)
    message = Text(
        "back up this file, which holds all that certferry remembers, and apart from it {key_file},"
        " which opens it",
        key_file=str(key_file),
    )
    yield info(Code.BACK_UP, str(path), message)
    yield from _of_last_run(state.last_run(), now)
    entries = state.history(None, ENTRIES)
    yield from _from_history([entry for entry in entries if entry.lineage in declared])


_LATE = timedelta(days=2)
"""How long ago the last run may have been, of two a day, before something keeps them away."""


def _of_last_run(last: LastRun | None, now: datetime) -> Iterator[Finding]:
    """Tell when the last run was, and when the last one was in which nothing failed."""
    if last is None:
        return
    said = Text("the last run ended at {moment}", moment=last.ended_at)
    if last.succeeded_at is None:
        said = Text("{said}; none has ended without a failure", said=said)
    elif last.succeeded_at != last.ended_at:
        moment = last.succeeded_at
        said = Text("{said}; the last without a failure at {moment}", said=said, moment=moment)
    if now - last.ended_at < _LATE:
        yield info(Code.LAST_RUN, "sync", said)
    else:
        fix = Text(
            "run `certferry sync`, and see by `certferry schedule show` that the system starts it"
        )
        yield warning(Code.LAST_RUN, "sync", said, fix)


_LOOKS = ("drift found", "drift over", "verified")
"""Events that report a sighting and nothing that certferry did."""


def look_at_schedule(schedulers: Iterable[Scheduler]) -> Iterator[Finding]:
    """Tell which daily run is installed, and whether the system will start it."""
    found = False
    for scheduler in schedulers:
        try:
            scheduled = scheduler.find()
        except ScheduleError as problem:
            found = True
            yield of_error(Code.NOT_LOOKED_AT, "schedule", problem)
            continue
        if scheduled is None:
            continue
        found = True
        message = Text("{place}: {when}", place=scheduled.place, when=scheduled.when)
        yield info(Code.SCHEDULE, "schedule", message)
        if scheduled.to_do is not None:
            said = Text("the daily run is installed, and the system may not start it")
            yield warning(Code.SCHEDULE_TO_DO, "schedule", said, scheduled.to_do)
    if not found:
        yield warning(
            Code.SCHEDULE_MISSING,
            "schedule",
            Text("no daily run is installed for this user, so nothing renews by itself"),
            Text(
                "run `certferry schedule install`, unless another program starts `certferry sync`"
            ),
        )


def look_at_telling(*, has_channel: bool, has_heartbeat: bool) -> Iterator[Finding]:
    """Tell where neither a channel nor a heartbeat is declared: what fails at night is then read
    by no operator.
    """
    if not (has_channel or has_heartbeat):
        yield warning(
            Code.NOBODY_TOLD,
            "notify",
            Text("no channel and no heartbeat is declared: a run that fails reaches no one"),
            Text(
                "declare a channel under [notify.ops] (`certferry help notify`), and a [heartbeat]"
                " (`certferry help monitoring`)"
            ),
        )


def _from_history(entries: Sequence[HistoryEntry]) -> Iterator[Finding]:
    """Tell the newest change, and the tries that failed and did not succeed since."""
    changes = (entry for entry in entries if not entry.event.endswith((_FAILED, *_LOOKS)))
    if (newest := next(changes, None)) is not None:
        said = Text("the last change was at {moment}, by {who}", moment=newest.at, who=newest.who)
        yield info(Code.LAST_CHANGE, newest.lineage, said)
    seen: set[tuple[str | None, ...]] = set()
    for entry in entries:
        action = entry.event.removesuffix(_FAILED)
        tried = (entry.lineage, _ENDINGS.get(action, action), *map(entry.facts.get, _PLACE))
        if entry.event.endswith(_FAILED) and tried not in seen:
            yield _failed(entry)
        seen.add(tried)


_PLACE = ("target", "domain")
_ENDINGS = {"issued": "issue", "adopted": "adopt", "deployed": "deploy", "verified": "deploy"}


def _failed(entry: HistoryEntry) -> Finding:
    message = Text(
        "the last try at {moment} failed: {problem}",
        moment=entry.at,
        problem=entry.facts.get("problem", entry.event),
    )
    fix = Text("run `certferry sync {lineage}`, which says what to do", lineage=entry.lineage)
    return warning(Code.LAST_TRY_FAILED, entry.facts.get("domain", entry.lineage), message, fix)
