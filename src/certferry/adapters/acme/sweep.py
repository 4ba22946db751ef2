"""Removing the challenge records that an interrupted run left behind."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.adapters.acme.order_context import growing
from certferry.core.certificates.names import is_challenge_value
from certferry.errors import DnsError, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.ports.state import ChallengeRecord, StateStore
from certferry.text import Text

SETTLING = timedelta(seconds=60)
"""After this time a provider finds every record that was ever sent to it. New records can be
missing in its lists for up to 30 s (docs/facts/dnspod.md §1.7); the rest is for the request.
"""

GIVING_UP = timedelta(days=7)
"""After this time a zone that the account has not has left it. Until then another account may be
named by mistake, and the right one could still remove the record.
"""

FIRST_REST = 0.5  # seconds between looks for a record that may still turn up
LONGEST_REST = 5.0  # seconds

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Removes a lineage's challenge records from DNS, and forgets those that are gone from there.

    `accounts` are those that may have the zones: certferry gives a record up only when none has its
    zone. `settling` is how long a record may take to appear in the provider's own lists.
    """

    state: StateStore
    accounts: Sequence[DnsProvider]
    pause: Pause
    settling: timedelta = SETTLING

    def run(self, lineage: str, now: datetime) -> None:
        """Try every record. Raises the first `DnsError` at the end."""
        failures: list[DnsError] = []
        for record in self.state.challenge_records(lineage):
            try:
                self._remove(record, now)
            except ZoneNotFound as failure:
                if now - record.created_at < GIVING_UP:
                    failures.append(failure)
                else:
                    self._forget(record)
            except DnsError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def _remove(self, record: ChallengeRecord, now: datetime) -> None:
        if not is_challenge_value(record.value):
            _log.warning(
                Text(
                    "{lineage}: the state names a TXT record at {name} that is no challenge; it is"
                    " left alone. See who can write to the state",
                    lineage=record.lineage,
                    name=record.name,
                )
            )
        elif not record.is_ours:
            _log.warning(
                Text(
                    "{lineage}: the state names the TXT record {value} at {name} in a row that"
                    " certferry did not write; it is left alone. See who can write to the state",
                    lineage=record.lineage,
                    name=record.name,
                    value=record.value,
                )
            )
        else:
            self._remove_anywhere(record, now)
            return
        # It may be another program's.
        self.state.drop_challenge_record(record)

    def _remove_anywhere(self, record: ChallengeRecord, now: datetime) -> None:
        """Remove a record at the first account that has its zone. Raises `ZoneNotFound` when none
        has.
        """
        missing: ZoneNotFound | None = None
        for dns in self.accounts:
            try:
                self._remove_at(dns, record, now)
            except ZoneNotFound as failure:
                missing = missing or failure
            else:
                return
        if missing is not None:
            raise missing

    def _remove_at(self, dns: DnsProvider, record: ChallengeRecord, now: datetime) -> None:
        found = dns.remove_txt(record.name, record.value, record.handle)
        # With a handle the provider has had the record, so it is gone. Without one, its run was
        # interrupted before the answer, and it may still turn up.
        if not found and record.handle is None:
            self._look_until_settled(dns, record, now)
        self.state.drop_challenge_record(record)

    def _forget(self, record: ChallengeRecord) -> None:
        """Give up a record whose zone has left the account: it would fail every run for ever."""
        _log.warning(
            Text(
                "{lineage}: the account has no zone for {name} any more; if the TXT record {value}"
                " of an earlier run is still there, remove it by hand",
                lineage=record.lineage,
                name=record.name,
                value=record.value,
            )
        )
        self.state.drop_challenge_record(record)

    def _look_until_settled(self, dns: DnsProvider, record: ChallengeRecord, now: datetime) -> None:
        # Counted in rests rather than by the clock: it may have been set back in the meantime.
        left = min(record.created_at + self.settling - now, self.settling).total_seconds()
        for rest in growing(FIRST_REST, LONGEST_REST):
            if left <= 0:
                return
            self.pause(min(rest, left))
            if dns.remove_txt(record.name, record.value, None):
                return
            left -= rest
