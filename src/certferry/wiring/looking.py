"""A session that only looks, and what it can say of an account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import cast

from certferry.config.model import Settings
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.notices import ChannelState
from certferry.core.assessment.status import LineageStatus
from certferry.core.discovery.survey import FoundZone, Survey
from certferry.ports.progress import Progress, no_listener
from certferry.ports.survey import Looked, ZoneKeeper
from certferry.reconcile.status import statuses_of
from certferry.wiring.session import Session


@contextmanager
def open_to_look(
    settings: Settings, *, progress: Progress = no_listener, language: str = "en"
) -> Iterator[Session]:
    """Open what the settings name to look at it only: not even an empty state is made."""
    with ExitStack() as resources:
        yield Session(settings, progress, resources, language=language, looks_only=True)


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands: certificates, what is recorded, and channels."""

    statuses: Sequence[LineageStatus]
    recorded: Recorded
    channels: Mapping[str, ChannelState]


def overview(session: Session, recorded: Recorded) -> Overview:
    """Return how everything that the session declares stands. Changes nothing."""
    statuses = statuses_of(session.reconciler(), session.certificates, recorded)
    return Overview(statuses, recorded, session.teller.channel_states())


def survey_of(session: Session, label: str, looked: Looked) -> Survey:
    """See `ports.survey.Surveyed.survey`, of a target's account."""
    return session.accounts.survey_of(label)(looked)


def zones_of(session: Session, label: str) -> tuple[FoundZone, ...] | None:
    """See `ports.survey.ZoneKeeper.zones`, of a DNS provider's account; `None` where it cannot
    list them.
    """
    account = session.accounts.dns(label)
    return cast("ZoneKeeper", account).zones() if hasattr(account, "zones") else None
