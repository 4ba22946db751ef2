"""The survey of all accounts, made by the process itself: the first screen names expired domains
that no certificate covers, although no operator has opened Discover.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.console.observing import Found
from certferry.core.discovery.inventory import DiscoveredDomain, Discovery
from certferry.core.discovery.proposal import Proposal
from certferry.errors import Problem

APART = timedelta(hours=3)
"""The least time between two surveys that the process makes by itself. A survey reads every account
and asks every edge, as Discover does.
"""


class SurveyedAccounts(Struct, frozen=True):
    """The result of reading the contents of all accounts."""

    #: The contents of the accounts.
    discovery: Discovery
    #: Certificates to declare for uncovered domains.
    proposal: Proposal
    #: A problem for each DNS account whose zones could not be read.
    unread: Sequence[Problem]


class Unmanaged(Struct, frozen=True):
    """The domains with an expired certificate that no declared certificate covers."""

    #: The first to expire at the top; never empty.
    domains: tuple[DiscoveredDomain, ...]
    #: When the accounts were surveyed.
    surveyed_at: datetime | None

    @property
    def expired_at(self) -> datetime | None:
        """The earliest of the ends."""
        return self.domains[0].not_after


def unmanaged_of(survey: Found[object], now: datetime) -> Unmanaged | None:
    """Return the expired domains of the last survey that no declared certificate covers; `None`
    without a survey and without such a domain.
    """
    if not isinstance(survey.value, SurveyedAccounts):
        return None
    expired = [
        domain
        for domain in survey.value.discovery.domains
        if domain.is_uncovered and domain.not_after is not None and domain.not_after <= now
    ]
    expired.sort(key=lambda domain: (domain.not_after or now, domain.listed.domain))
    return Unmanaged(tuple(expired), survey.at) if expired else None


@dataclass(eq=False)
class Surveys:
    """Surveys the accounts at the start, and after runs, while the process lives."""

    #: Returns the last survey, without starting another.
    latest: Callable[[], Found[object]]
    #: Starts a survey in the background.
    begin: Callable[[], object]
    #: Returns the end of the last run on any host; `None` before the first. May raise
    #: `CertferryError`.
    last_run: Callable[[], datetime | None]
    #: Returns whether a run is in progress. A survey waits for the end, because both share the pace
    #: of each account.
    is_running: Callable[[], bool]
    now: Callable[[], datetime]
    #: When the last survey began here.
    _begun_at: datetime | None = field(default=None, init=False)

    def forget(self) -> None:
        """Begin the next survey without waiting for `APART`, because the settings have changed."""
        self._begun_at = None

    def begin_if_due(self) -> bool:
        """Begin a survey if none has been made since the last run, or ever. Return whether a survey
        was begun. Surveys begun here are `APART`, also after a failure. Raises the errors of
        `last_run`.
        """
        now, survey = self.now(), self.latest()
        is_early = is_within(APART, self._begun_at, now)
        if is_early or survey.is_being_observed or self.is_running():
            return False
        last_run = self.last_run()
        if survey.at is not None and (last_run is None or survey.at > last_run):
            return False
        self._begun_at = now
        self.begin()
        return True


def is_within(time: timedelta, moment: datetime | None, now: datetime) -> bool:
    """Return whether less than `time` has passed since a moment. A moment ahead does not count,
    because the clock was set back; nor does `None`.
    """
    return moment is not None and timedelta(0) <= now - moment < time
