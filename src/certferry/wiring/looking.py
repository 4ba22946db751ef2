"""A session that only looks, and what it can say of an account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from certferry.config.model import Settings
from certferry.core.assessment.notices import ChannelState
from certferry.core.assessment.status import LineageStatus, Remembering
from certferry.core.assessment.trouble import Trouble
from certferry.core.discovery.survey import FoundZone, Survey
from certferry.errors import StateMissing
from certferry.ports.progress import Progress, no_listener
from certferry.ports.state import StateStore
from certferry.ports.survey import Looked, ZoneKeeper
from certferry.reconcile.status import remembering, statuses_of
from certferry.text import Text
from certferry.wiring.session import Session
from certferry.wiring.undeclared import undeclared


@contextmanager
def open_to_look(
    settings: Settings, *, progress: Progress = no_listener, language: str = "en"
) -> Iterator[Session]:
    """Open what the settings name to look at it only: not even an empty state is made."""
    with ExitStack() as resources:
        yield Session(settings, progress, resources, language=language, looks_only=True)


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands: certificates, what is stored of runs, and channels."""

    statuses: Sequence[LineageStatus]
    remembering: Remembering
    channels: Mapping[str, ChannelState]


def overview(session: Session) -> Overview:
    """Return how everything that the session declares stands. Changes nothing."""
    reconciler = session.reconciler()
    stored = remembering(reconciler.doors)
    statuses = statuses_of(reconciler, session.wishes)
    return Overview(statuses, stored, session.teller.channel_states())


def compared(found: Overview, settings: Settings, state: StateStore, now: datetime) -> Overview:
    """Add what the file declares no more, and whether a state was expected."""
    stored, lost = found.remembering, lost_state(settings, state)
    problem = stored.problem or (None if lost is None else Trouble.of(lost))
    gone = undeclared(settings, state, now)
    return replace(found, remembering=replace(stored, problem=problem, undeclared=gone))


def lost_state(settings: Settings, state: StateStore) -> StateMissing | None:
    """Return what is wrong where there is the key file of a state, and the state remembers nothing:
    the next run would issue every certificate again. Raises `StateError`.
    """
    where = settings.state
    try:
        where.key_file.stat()
    except OSError:
        return None
    if state.last_run() is not None or state.lineages() or state.accounts():
        return None
    return StateMissing(
        Text(
            "there is the key file {key_file}, and {path} remembers nothing: a state was expected",
            key_file=where.key_file,
            path=where.path,
        ),
        hint=Text(
            "put {path} back from a backup, or correct `url` under [state]; otherwise the next"
            " `certferry sync` issues every certificate again",
            path=where.path,
        ),
    )


def survey_of(session: Session, label: str, looked: Looked) -> Survey:
    """See `ports.survey.Surveyed.survey`, of a target's account."""
    return session.accounts.survey_of(label)(looked)


def zones_of(session: Session, label: str) -> tuple[FoundZone, ...] | None:
    """See `ports.survey.ZoneKeeper.zones`, of a DNS provider's account; `None` where it cannot
    list them.
    """
    account = session.accounts.dns(label)
    return cast("ZoneKeeper", account).zones() if hasattr(account, "zones") else None
