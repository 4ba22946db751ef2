"""A session that only looks, and what it can say of an account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

from certferry.config.model import Settings
from certferry.core.discovery.survey import FoundZone, Survey
from certferry.ports.progress import Progress, no_listener
from certferry.ports.survey import Looked, ZoneKeeper
from certferry.wiring.session import Session


@contextmanager
def open_to_look(
    settings: Settings, *, progress: Progress = no_listener, language: str = "en"
) -> Iterator[Session]:
    """Open what the settings name to look at it only: not even an empty state is made."""
    with ExitStack() as resources:
        yield Session(settings, progress, resources, language=language, looks_only=True)


def survey_of(session: Session, label: str, looked: Looked) -> Survey:
    """See `ports.survey.Surveyed.survey`, of a target's account."""
    return session.accounts.survey_of(label)(looked)


def zones_of(session: Session, label: str) -> tuple[FoundZone, ...] | None:
    """See `ports.survey.ZoneKeeper.zones`, of a DNS provider's account; `None` where it cannot
    list them.
    """
    account = session.accounts.dns(label)
    return cast("ZoneKeeper", account).zones() if hasattr(account, "zones") else None
