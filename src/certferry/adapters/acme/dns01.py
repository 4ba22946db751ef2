"""The DNS-01 solver (RFC 8555 §8.4): puts the values, waits until they are seen, answers, and
takes away what it put, whatever happens. Names that a standing record proves are only answered for.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certferry.adapters.acme.client import PENDING, VALID, Authorization, Challenge, Client
from certferry.adapters.acme.examination import unwritable
from certferry.adapters.acme.order_context import OrderContext, Polling
from certferry.adapters.acme.problems import FailedProof, Refused, refused_proofs
from certferry.core.certificates.names import base_name, challenge_name
from certferry.core.redaction import quoted
from certferry.errors import (
    CertferryError,
    DnsAccessDenied,
    DnsRejected,
    Interrupted,
    OrderFailed,
    Reported,
    StateError,
    ZoneNotFound,
)
from certferry.ports.state import ChallengeRecord
from certferry.text import Text

VALIDATION = timedelta(minutes=5)
"""How long the CA may take to look the values up; seconds are usual."""


@dataclass(frozen=True, slots=True)
class _Proof:
    """A name to prove. `record_name` is where the value goes, empty for a standing record's."""

    authorization: Authorization
    challenge: Challenge
    record_name: str


class Solver:
    """Proves the names of one order of a lineage, once."""

    def __init__(self, client: Client, lineage: str, context: OrderContext) -> None:
        self._client = client
        self._lineage = lineage
        self._context = context
        self._put: list[ChallengeRecord] = []
        self._stopped: Interrupted | None = None

    def prove(self, urls: Sequence[str], names: Sequence[str]) -> None:
        """Make the authorizations at these URLs valid, which are for the names that were ordered.
        Those that are valid need no record.

        Raises `AuthorizationFailed`, `OrderFailed` and what the ports raise.
        """
        if len(urls) > len(names):
            raise _not_as_ordered(Text("the CA asks for more proofs than there are names"))
        authorizations = [self._client.authorization(url) for url in urls]
        _must_not_have_failed(authorizations)
        pending = [one for one in authorizations if one.status == PENDING]
        _must_be_ordered(pending, names)
        if not pending:
            return
        standing, others = self._sorted_out(pending, names)
        proofs = self._proofs(others)
        try:
            if proofs:
                self._put_all(proofs)
                self._wait_until_seen(proofs)
            proofs += standing
            for proof in proofs:
                self._answer(proof)
            self._wait_until_validated(proofs)
        finally:
            # Also when interrupted: a forgotten challenge record is ours for ever.
            self._take_away()

    def _sorted_out(
        self, authorizations: Sequence[Authorization], names: Sequence[str]
    ) -> tuple[list[_Proof], list[Authorization]]:
        """Return the records that already prove names, where the CA takes them, and the names left
        for DNS-01.
        """
        proven = self._context.proven(names)
        standing = [
            _Proof(one, one.standing, "")
            for one in authorizations
            if one.standing is not None and base_name(one.name.lower()) in proven
        ]
        answered = {proof.authorization.url for proof in standing}
        others = [one for one in authorizations if one.url not in answered]
        self._must_be_writable(
            [one.name for one in others if base_name(one.name.lower()) in proven]
        )
        return standing, others

    def _must_be_writable(self, names: Sequence[str]) -> None:
        """Look for the zones of names that a record proves, and the CA does not ask for it."""
        for name, problem in unwritable(names, self._context.dns, self._context.propagation):
            raise OrderFailed(
                Text(
                    "the CA offers no dns-persist-01 for {name}, and {problem}",
                    name=name,
                    problem=problem.message,
                ),
                hint=problem.hint,
            )

    def _proofs(self, authorizations: Sequence[Authorization]) -> list[_Proof]:
        challenges = [(one, _challenge_of(one)) for one in authorizations]
        names = dict.fromkeys(challenge_name(one.name) for one in authorizations)
        places = {name: self._context.propagation.follow(name) for name in names}
        return [
            _Proof(one, challenge, places[challenge_name(one.name)])
            for one, challenge in challenges
        ]

    # what is in DNS

    def _put_all(self, proofs: Sequence[_Proof]) -> None:
        self._report(Text("writing the challenge records"), None)
        for done, proof in enumerate(proofs):
            self._context.count(done, len(proofs))
            self._put_one(proof.record_name, proof.challenge.txt_value)

    def _put_one(self, name: str, value: str) -> None:
        record = ChallengeRecord(self._lineage, name, value, self._context.now())
        self._context.state.save_challenge_record(record)
        self._put.append(record)
        try:
            handle = self._context.dns.add_txt(name, value)
        except (ZoneNotFound, DnsAccessDenied, DnsRejected):
            # Refused for sure, so there is nothing to look for; after any other failure there is.
            self._forget(record)
            raise
        self._put[-1] = replace(record, handle=handle)
        self._context.state.save_challenge_record(self._put[-1])

    def _take_away(self) -> None:
        if self._put:
            self._report(Text("removing the challenge records"), None)
        put = list(self._put)
        for done, record in enumerate(put):
            self._context.count(done, len(put))
            try:
                found = self._remove(record)
            except (CertferryError, Interrupted) as problem:
                self._report_left_over(record, problem)
            else:
                # What was put without an answer may appear later: the next run sweeps it.
                if found or record.handle is not None:
                    self._forget(record)
        if self._stopped is not None:
            raise self._stopped

    def _remove(self, record: ChallengeRecord) -> bool:
        """Remove a record, also when it is only now told that the run is stopped."""
        remove = self._context.dns.remove_txt
        try:
            return remove(record.name, record.value, record.handle)
        except Interrupted as told:
            self._stopped = told  # passed on when everything is removed
            return remove(record.name, record.value, record.handle)

    def _forget(self, record: ChallengeRecord) -> None:
        self._put.remove(record)
        # A row too many costs one look; an error here would hide why the order failed.
        with contextlib.suppress(StateError):
            self._context.state.drop_challenge_record(record)

    def _report_left_over(self, record: ChallengeRecord, problem: Reported) -> None:
        what = Text(
            "the challenge record at {name} is left to the next run: {problem}",
            name=record.name,
            problem=problem.message,
        )
        self._report(what, None)

    # what is seen

    def _wait_until_seen(self, proofs: Sequence[_Proof]) -> None:
        wanted: dict[str, set[str]] = defaultdict(set)
        for proof in proofs:
            # Apex and wildcard share one name, which must show both values (RFC 8555 §8.4).
            wanted[proof.record_name].add(proof.challenge.txt_value)
        values = {name: frozenset(values) for name, values in wanted.items()}
        self._context.propagation.wait(values, self._context.report)

    # what the CA thinks

    def _answer(self, proof: _Proof) -> None:
        if proof.challenge.status != PENDING:
            return  # an earlier run has answered it
        try:
            self._client.answer(proof.challenge)
        except Refused:
            # When the CA's reply was lost, the answer goes out twice, and the second is refused.
            seen = self._client.authorization(proof.authorization.url)
            challenge = seen.challenge if proof.record_name else seen.standing
            if challenge is not None and challenge.status == PENDING:
                raise

    def _wait_until_validated(self, proofs: Sequence[_Proof]) -> None:
        deadline = self._context.now() + VALIDATION
        what = Text("waiting for the CA to validate the names")
        self._report(what, deadline)
        failed: list[Authorization] = []
        for done, proof in enumerate(proofs):
            self._context.count(done, len(proofs))
            seen = self._client.authorization(proof.authorization.url)
            polling = Polling(what, deadline, self._context.pause, self._context.now)
            # One failure fails the order, so the run looks at the others without waiting.
            while seen.status == PENDING and not failed:
                polling.rest(seen.retry_after)
                seen = self._client.authorization(proof.authorization.url)
            if seen.status not in {PENDING, VALID}:
                failed.append(seen)
        self._context.count(len(proofs), len(proofs))
        _must_not_have_failed(failed)

    def _report(self, what: Text, deadline: datetime | None) -> None:
        self._context.report(what, self._context.now(), deadline)


def _challenge_of(authorization: Authorization) -> Challenge:
    if authorization.challenge is None:
        raise OrderFailed(
            Text("the CA offers no DNS-01 for {name}", name=authorization.name),
            hint=Text("another CA may: see `directory` under [acme]"),
        )
    return authorization.challenge


def _must_be_ordered(authorizations: Sequence[Authorization], names: Sequence[str]) -> None:
    """Refuse to prove what was not asked for: the proof could serve another's order. A wildcard and
    its base name have one and the same proof, whichever of them a CA writes.
    """
    ordered = {challenge_name(name) for name in names}
    for authorization in authorizations:
        if challenge_name(authorization.name.lower()) not in ordered:
            name = quoted(authorization.name)
            raise _not_as_ordered(
                Text("the CA asks for a proof of {name}, which was not ordered", name=name)
            )


def _not_as_ordered(what: Text) -> OrderFailed:
    return OrderFailed(what, hint=Text("this is a mistake of the CA's: the next run orders anew"))


def _must_not_have_failed(authorizations: Sequence[Authorization]) -> None:
    failed = [one for one in authorizations if one.status not in {PENDING, VALID}]
    if failed:
        raise refused_proofs([FailedProof(one.name, one.problem) for one in failed])
