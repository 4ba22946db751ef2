"""Prove names by DNS-01 challenge records (RFC 8555 §8.4), and remove records that earlier runs
left.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certferry import errors
from certferry.adapters.acme.acme_client import PENDING, VALID, Authorization, Challenge, Client
from certferry.adapters.acme.network import Polling, growing
from certferry.adapters.acme.problems import Refused, refused_proofs
from certferry.adapters.acme.propagation import Propagation, unwritable
from certferry.core.certificates.names import base_name, challenge_name, is_challenge_value
from certferry.core.events import Activity, Counted
from certferry.core.redaction import quoted
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import IssueRequest
from certferry.ports.progress import Pause, Progress
from certferry.ports.state import ChallengeRecord, StateStore
from certferry.text import Text
from certferry.values import replace

VALIDATION = timedelta(minutes=5)
"""How long the CA may take to validate; seconds are usual."""

SETTLING = timedelta(seconds=60)
"""How long a service's lists may lack a new record (up to 30 s, docs/facts/dnspod.md §1.7)."""

GIVING_UP = timedelta(days=7)
"""The age from which a challenge record is forgotten if all accounts lack the zone. The zone of a
younger record may be missing only because the file names a wrong account.
"""

FIRST_REST, LONGEST_REST = 0.5, 5.0  # seconds between searches for a late record

_NOTE = "keys refused"
"""The name of the note in the state for an account with refused keys."""

_NO_VALUE = "certferry-asks-whether-its-keys-are-taken"
"""The value of a removal that only tests the keys. No challenge can have this value: challenges
have 43 characters (RFC 8555 §8.4)."""

_log = logging.getLogger(__name__)


class OrderContext(Struct, frozen=True):
    """The DNS account, the state and the clock with which an order's names are proven."""

    #: The lineage of the certificate.
    lineage: str
    #: The provider that writes the challenge records.
    dns: DnsProvider
    #: The rows of the challenge records and the order.
    state: StateStore
    #: Finds the names for challenges, and waits for the challenge records in DNS.
    propagation: Propagation
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: The clock of the run.
    now: Callable[[], datetime]
    #: Takes events for the display.
    progress: Progress
    #: Names, without `*.`, proven by a permanent record (dns-persist-01).
    standing: frozenset[str] = frozenset()

    def report(
        self, what: Text, since: datetime | None = None, deadline: datetime | None = None
    ) -> None:
        """Show the activity `what` of the order, the beginning (by default now), and the latest
        end.
        """
        self.progress(Activity(self.lineage, what, since or self.now(), deadline))

    def count(self, done: int, names: int) -> None:
        """Show how many of the names in the last report are done."""
        if names > 1:
            self.progress(Counted(self.lineage, done, names))


class _Proof(Struct, frozen=True):
    """A name to prove, with the chosen challenge."""

    #: The authorization of the name.
    authorization: Authorization
    #: The challenge to answer.
    challenge: Challenge
    #: The name at which to write the value; empty for a permanent record (dns-persist-01).
    record_name: str


class Solver:
    """Proves the names of one order, once."""

    def __init__(self, client: Client, context: OrderContext) -> None:
        self._client = client
        self._context = context
        self._put: list[ChallengeRecord] = []
        self._stopped: errors.Interrupted | None = None

    def prove(self, urls: Sequence[str], names: Sequence[str]) -> None:
        """Make the authorizations at `urls` valid, for an order of `names`.

        Raises `AuthorizationFailed`, `OrderFailed` and the errors of the ports.
        """
        if len(urls) > len(names):
            raise _not_as_ordered(Text("the CA asks for more proofs than there are names"))
        authorizations = [self._client.authorization(url) for url in urls]
        _must_not_have_failed(authorizations)
        pending = [
            authorization for authorization in authorizations if authorization.status == PENDING
        ]
        _must_be_ordered(pending, names)
        if not pending:
            return
        standing = [
            _Proof(authorization, authorization.standing, "")
            for authorization in pending
            if authorization.standing is not None and self._is_standing(authorization)
        ]
        answered = {proof.authorization.url for proof in standing}
        proofs = self._proofs(
            [authorization for authorization in pending if authorization.url not in answered]
        )
        try:
            if proofs:
                self._put_all(proofs)
                self._wait_until_seen(proofs)
            proofs += standing
            for proof in proofs:
                self._answer(proof)
            self._wait_until_validated(proofs)
        finally:
            # Remove the records even if the run is stopped, or the records would stay in DNS.
            self._take_away()

    def _is_standing(self, authorization: Authorization) -> bool:
        return base_name(authorization.name.lower()) in self._context.standing

    def _proofs(self, authorizations: Sequence[Authorization]) -> list[_Proof]:
        """Return the proofs by DNS-01. Raises `OrderFailed` for a name that cannot be proven."""
        context = self._context
        unasked = [
            authorization.name
            for authorization in authorizations
            if self._is_standing(authorization)
        ]
        for name, problem in unwritable(unasked, context.dns, context.propagation):
            sentence = Text("the CA offers no dns-persist-01 for {name}, and {problem}")
            message = sentence.filled(name=name, problem=problem.message)
            raise errors.OrderFailed(message, hint=problem.hint)
        challenges = [
            (authorization, _challenge_of(authorization)) for authorization in authorizations
        ]
        names = dict.fromkeys(
            challenge_name(authorization.name) for authorization in authorizations
        )
        places = {name: context.propagation.follow(name) for name in names}
        return [
            _Proof(authorization, challenge, places[challenge_name(authorization.name)])
            for authorization, challenge in challenges
        ]

    def _put_all(self, proofs: Sequence[_Proof]) -> None:
        self._context.report(Text("writing the challenge records"))
        for done, proof in enumerate(proofs):
            self._context.count(done, len(proofs))
            self._put_one(proof.record_name, proof.challenge.txt_value)

    def _put_one(self, name: str, value: str) -> None:
        record = ChallengeRecord(self._context.lineage, name, value, self._context.now())
        self._context.state.save_challenge_record(record)
        self._put.append(record)
        try:
            handle = self._context.dns.add_txt(name, value)
        except (errors.ZoneNotFound, errors.DnsAccessDenied, errors.DnsRejected):
            # After these refusals no record exists at the account, so the row is deleted. After any
            # other failure a record may exist.
            self._forget(record)
            raise
        self._put[-1] = replace(record, handle=handle)
        self._context.state.save_challenge_record(self._put[-1])

    def _take_away(self) -> None:
        if self._put:
            self._context.report(Text("removing the challenge records"))
        put = list(self._put)
        for done, record in enumerate(put):
            self._context.count(done, len(put))
            try:
                was_there = self._remove(record)
            except (errors.CertferryError, errors.Interrupted) as problem:
                sentence = Text("the next run removes the challenge record at {name}: {problem}")
                self._context.report(sentence.filled(name=record.name, problem=problem.message))
            else:
                # Without a handle, the service has not confirmed the record, which may appear
                # later. The row then stays, and the next run removes the record.
                if was_there or record.handle is not None:
                    self._forget(record)
        if self._stopped is not None:
            raise self._stopped

    def _remove(self, record: ChallengeRecord) -> bool:
        """Remove a record, and return whether the record was there. If the run is stopped
        meanwhile, try once more; `_take_away` raises the stop after all removals.
        """
        remove = self._context.dns.remove_txt
        try:
            return remove(record.name, record.value, record.handle)
        except errors.Interrupted as stop:
            self._stopped = stop  # raised once all records are removed
            return remove(record.name, record.value, record.handle)

    def _forget(self, record: ChallengeRecord) -> None:
        self._put.remove(record)
        # A left-over row costs one request; an error here would hide why the order failed.
        with contextlib.suppress(errors.StateError):
            self._context.state.drop_challenge_record(record)

    def _wait_until_seen(self, proofs: Sequence[_Proof]) -> None:
        wanted: dict[str, set[str]] = defaultdict(set)
        for proof in proofs:
            # Apex and wildcard share a name, and the name must show both values (RFC 8555 §8.4).
            wanted[proof.record_name].add(proof.challenge.txt_value)
        values = {name: frozenset(values) for name, values in wanted.items()}
        self._context.propagation.wait(values, self._context.report)

    def _answer(self, proof: _Proof) -> None:
        if proof.challenge.status != PENDING:
            return  # an earlier run has answered
        try:
            self._client.answer(proof.challenge)
        except Refused:
            # If the CA's reply was lost, this is the second time that the answer is sent, and the
            # CA refuses. The challenge's status tells whether the first answer arrived.
            seen = self._client.authorization(proof.authorization.url)
            challenge = seen.challenge if proof.record_name else seen.standing
            if challenge is not None and challenge.status == PENDING:
                raise

    def _wait_until_validated(self, proofs: Sequence[_Proof]) -> None:
        deadline = self._context.now() + VALIDATION
        activity = Text("waiting for the CA to validate the names")
        self._context.report(activity, deadline=deadline)
        failed: list[Authorization] = []
        for done, proof in enumerate(proofs):
            self._context.count(done, len(proofs))
            seen = self._client.authorization(proof.authorization.url)
            polling = Polling(activity, deadline, self._context.pause, self._context.now)
            # A single failed name fails the order. The remaining names are then read once, without
            # waiting, so that the error has every failed name.
            while seen.status == PENDING and not failed:
                polling.rest(seen.retry_after)
                seen = self._client.authorization(proof.authorization.url)
            if seen.status not in {PENDING, VALID}:
                failed.append(seen)
        self._context.count(len(proofs), len(proofs))
        _must_not_have_failed(failed)


def _challenge_of(authorization: Authorization) -> Challenge:
    if authorization.challenge is None:
        raise errors.OrderFailed(
            Text("the CA offers no DNS-01 for {name}", name=authorization.name),
            hint=Text("another CA may offer the method: set `directory` under [acme]"),
        )
    return authorization.challenge


def _must_be_ordered(authorizations: Sequence[Authorization], names: Sequence[str]) -> None:
    """Raise `OrderFailed` for a name that was not ordered: the proof could serve another order."""
    ordered = {challenge_name(name) for name in names}
    for authorization in authorizations:
        if challenge_name(authorization.name.lower()) not in ordered:
            sentence = Text("the CA asks for proof of {name}, which was not ordered")
            raise _not_as_ordered(sentence.filled(name=quoted(authorization.name)))


def _not_as_ordered(message: Text) -> errors.OrderFailed:
    hint = Text("the CA made a mistake: the next run orders again")
    return errors.OrderFailed(message, hint=hint)


def _must_not_have_failed(authorizations: Sequence[Authorization]) -> None:
    failed = [
        authorization
        for authorization in authorizations
        if authorization.status not in {PENDING, VALID}
    ]
    if failed:
        raise refused_proofs(
            [(authorization.name, authorization.problem) for authorization in failed]
        )


class Sweep(Struct, frozen=True):
    """Removes the challenge records that earlier runs left for a lineage."""

    #: The rows of the challenge records.
    state: StateStore
    #: Accounts that may have the records' zones, in the order to try.
    accounts: Sequence[DnsProvider]
    #: Waits, and ends when the run is stopped.
    pause: Pause

    def run(self, lineage: str, now: datetime) -> None:
        """Try to remove every record of a lineage, then raise the first `DnsError`, if any.

        If all accounts lack the zone of a record older than `GIVING_UP`, only delete the row.
        """
        failures: list[errors.DnsError] = []
        for record in self.state.challenge_records(lineage):
            try:
                self._remove(record, now)
            except errors.ZoneNotFound as failure:
                if now - record.created_at < GIVING_UP:
                    failures.append(failure)
                else:
                    self._forget(record)
            except errors.DnsError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def _remove(self, record: ChallengeRecord, now: datetime) -> None:
        """Remove a record at the first account with the record's zone. Raise `ZoneNotFound` if all
        accounts lack the zone. If certferry did not write the row, leave the record alone, and
        delete the row with a warning.
        """
        if record.is_ours and is_challenge_value(record.value):
            missing: errors.ZoneNotFound | None = None
            for dns in self.accounts:
                try:
                    return self._remove_at(dns, record, now)
                except errors.ZoneNotFound as failure:
                    missing = missing or failure
            if missing is not None:
                raise missing
            return None
        sentence = Text(
            "{lineage}: a row in the state names the TXT record {value} at {name}, but certferry "
            "did not write the row; the record is left alone. Check who can write to the state"
        )
        value = quoted(record.value)
        _log.warning(sentence.filled(lineage=record.lineage, name=record.name, value=value))
        return self.state.drop_challenge_record(record)

    def _remove_at(self, dns: DnsProvider, record: ChallengeRecord, now: datetime) -> None:
        was_there = dns.remove_txt(record.name, record.value, record.handle)
        # A handle proves that the provider had the record, so a missing record is gone. Without a
        # handle, the run ended before the provider's answer, and the record may still appear.
        if not was_there and record.handle is None:
            self._look_until_settled(dns, record, now)
        self.state.drop_challenge_record(record)

    def _forget(self, record: ChallengeRecord) -> None:
        """Delete the row of a record whose zone has left the accounts, or every run would fail."""
        sentence = Text(
            "{lineage}: the account no longer has a zone for {name}; if an earlier run left the "
            "TXT record {value}, remove the record by hand"
        )
        _log.warning(sentence.filled(lineage=record.lineage, name=record.name, value=record.value))
        self.state.drop_challenge_record(record)

    def _look_until_settled(self, dns: DnsProvider, record: ChallengeRecord, now: datetime) -> None:
        # The rests are added up, because the clock may be set back during the wait.
        left = min(record.created_at + SETTLING - now, SETTLING).total_seconds()
        for rest in growing(FIRST_REST, LONGEST_REST):
            if left <= 0:
                return
            self.pause(min(rest, left))
            if dns.remove_txt(record.name, record.value, None):
                return
            left -= rest


@contextlib.contextmanager
def known_to_be_taken(request: IssueRequest, dns: DnsProvider, state: StateStore) -> Iterator[None]:
    """If the DNS service refuses an account's keys inside the `with` block, store the refusal.

    After a stored refusal, the keys are tested before the block, so no order is wasted on refused
    keys. Raises `DnsAccessDenied`.
    """
    account = request.dns
    if state.account_note(account, _NOTE) is not None and _takes_keys(request.names[0], dns):
        state.update_account_note(account, _NOTE, lambda _: None)
    try:
        yield
    except errors.DnsAccessDenied:
        state.update_account_note(account, _NOTE, lambda _: "yes")
        raise


def _takes_keys(name: str, dns: DnsProvider) -> bool:
    """Return whether the service has just accepted the keys. Raises `DnsAccessDenied`."""
    try:
        dns.remove_txt(challenge_name(name), _NO_VALUE, None)
    except errors.DnsAccessDenied:
        raise
    except errors.DnsError:
        return False  # undecided: the order will show whether the keys are accepted
    return True
