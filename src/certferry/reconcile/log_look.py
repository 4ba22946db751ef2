"""A look at the public logs: read the new certificates of each domain that is due, page by page.

Each page is stored before the next request, so the run after a killed run goes on there. The look
is bounded in pages, seconds and failures; later runs read the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from certferry.core.assessment.transparency import (
    ExpectedCertificate,
    Transparency,
    after_read,
    counts_by_issuer,
    is_over,
    judged,
)
from certferry.core.observed.public_logs import FoundCertificate, LoggedCertificate, WatchedDomain
from certferry.core.redaction import without_secrets
from certferry.errors import LogSearchFailed
from certferry.ports.log_search import LogSearch
from certferry.ports.progress import Clock
from certferry.ports.state import StateStore
from certferry.text import Text
from certferry.values import replace

_log = logging.getLogger(__name__)

MOST_PAGES = 10
"""The most pages of a domain that a run reads."""
LONGEST = timedelta(minutes=2)
"""After this time a look begins no further page."""
MOST_FAILURES = 3
"""After so many failures a look ends: the service probably does not answer at all."""

_NEVER = datetime.min.replace(tzinfo=UTC)


def look(domains: Collection[str], search: LogSearch, state: StateStore, now: Clock) -> None:
    """Read the lists of the domains that are due. The domain that no run has tried for the longest
    time comes first. A failure is stored with the domain. Raises `StateError` and `Interrupted`.
    """
    began, failures = now(), 0
    stored = {watched.domain: watched for watched in state.watched_domains()}
    due = [domain for domain in domains if domain not in stored or stored[domain].is_due(began)]
    # Not by the last complete look: a domain that the service always refuses would come first in
    # every run, and hold up the others.
    due.sort(key=lambda domain: _last_try(stored.get(domain)))
    for place, domain in enumerate(due):
        reading = _Reading(domain, stored.get(domain), search, state, now, began + LONGEST)
        try:
            reading.read()
        except LogSearchFailed as error:
            failures += 1
            reading.fail(error)
            if error.retry.after is not None:  # the service refuses all further requests
                for later in due[place + 1 :]:
                    waiting = _Reading(later, stored.get(later), search, state, now, began)
                    waiting.fail(error, is_tried=False)
                return
        if failures >= MOST_FAILURES or reading.is_late:
            return


def _last_try(watched: WatchedDomain | None) -> datetime:
    return _NEVER if watched is None or watched.tried_at is None else watched.tried_at


class _Reading:
    """Reads the list of one domain, and stores each page."""

    def __init__(
        self,
        domain: str,
        stored: WatchedDomain | None,
        search: LogSearch,
        state: StateStore,
        now: Clock,
        until: datetime,
    ) -> None:
        self._stored = stored
        self._watched = stored or WatchedDomain(domain, now())
        self._search, self._state, self._now, self._until = search, state, now, until

    @property
    def is_late(self) -> bool:
        """Whether the time of the look is over."""
        return self._now() >= self._until

    def read(self) -> None:
        """Read pages up to the end of the list or to a bound. Raises `LogSearchFailed`."""
        seen = {self._watched.cursor}
        for _ in range(MOST_PAGES):
            page = self._search.page_after(self._watched.domain, self._watched.cursor)
            if not page:
                self._end()
                return
            ids = {logged.id for logged in page}
            if len(ids) < len(page) or ids & seen:
                raise LogSearchFailed(
                    Text("the service lists a certificate twice, so the list may have no end"),
                    hint=Text("the next run of all certificates tries again"),
                )
            seen |= ids
            if not self._store(page) or self.is_late:
                return
        message = Text("the list is longer than a run reads; the next run goes on")
        self._save(replace(self._watched, problem=message))

    def _store(self, page: Sequence[LoggedCertificate]) -> bool:
        """Store a page. Return False if another run has read the domain meanwhile."""
        own, now = _own_among(self._state, page), self._now()
        stored, is_first = self._of_domain(), self._watched.baseline_at is None
        known = {each.logged.identity for each in stored}
        new = [logged for logged in page if logged.identity not in known]
        # A long baseline must not keep a later certificate out.
        count = sum(each.is_baseline == is_first for each in stored)
        watched, found = after_read(self._watched, new, own, count, now)
        return self._save(replace(watched, cursor=page[-1].id), found)

    def _end(self) -> None:
        """Store that the look reached the end of the list, and delete what is over."""
        now, stored = self._now(), self._of_domain()
        own = _own_among(self._state, (each.logged for each in stored))
        gone = [
            each for each in stored if is_over(each, now) or not each.logged.digests.isdisjoint(own)
        ]
        watched = self._watched
        if watched.baseline_at is None:
            _say_baseline(watched.domain, [each for each in stored if each not in gone])
        self._save(
            replace(
                watched,
                baseline_at=watched.baseline_at or now,
                looked_at=now,
                again_at=None,
                problem=None,
            ),
            gone=gone,
        )

    def fail(self, error: LogSearchFailed, *, is_tried: bool = True) -> None:
        """Store why the look failed; without `is_tried`, the failure is that of another domain."""
        problem = without_secrets(error.message)
        _log.info(Text("{domain}: {problem}", domain=self._watched.domain, problem=problem))
        failed = replace(self._watched, problem=problem, again_at=error.retry.after)
        self._save(failed, is_tried=is_tried)

    def _of_domain(self) -> Sequence[FoundCertificate]:
        return self._state.found_certificates(self._watched.domain)

    def _save(
        self,
        watched: WatchedDomain,
        found: Collection[FoundCertificate] = (),
        gone: Collection[FoundCertificate] = (),
        *,
        is_tried: bool = True,
    ) -> bool:
        watched = replace(watched, tried_at=self._now()) if is_tried else watched
        is_saved = self._state.save_look(self._stored, watched, found, gone)
        if is_saved:
            self._stored = self._watched = watched
        return is_saved


def _own_among(state: StateStore, certificates: Iterable[LoggedCertificate]) -> frozenset[str]:
    """Return those of the certificates' digests that belong to certferry's own certificates."""
    return state.own_among({digest for logged in certificates for digest in logged.digests})


def _say_baseline(domain: str, foreign: Sequence[FoundCertificate]) -> None:
    counts = counts_by_issuer(foreign)
    message = Text("{domain}: the first look at public logs found no certificates of others")
    if counts:
        message = Text("{domain}: certificates of others in the first look: {issuers}")
    issuers = [f"{issuer or '?'} {count}" for issuer, count in counts.items()]
    _log.info(message.filled(domain=domain, issuers=issuers))


def shown_in(
    state: StateStore,
    domains: Collection[str],
    expected: Sequence[ExpectedCertificate],
    now: datetime,
) -> Transparency:
    """Return what the logs show about all of the domains, from the records of earlier looks. Raises
    `StateError`.
    """
    known = {each.domain: each for each in state.watched_domains()}
    watched = [known.get(domain) or WatchedDomain(domain, now) for domain in domains]
    stored = state.found_certificates()
    own = _own_among(state, (each.logged for each in stored))
    return judged(stored, watched, own, expected, now)
