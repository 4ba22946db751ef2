"""The twin in memory and SQLite give the same answers to the same questions, in whatever order."""

# ruff: noqa: D102 - a rule is named for the call it makes

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from certferry.adapters.state.connect import connect
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.pem import parse_bundle
from certferry.core.observed.records import HistoryEntry, RolloutRecord, Upload
from certferry.core.planning.limits import Allowance, Hold, Limits, Wanted
from certferry.core.secret import Secret
from certferry.errors import CertferryError
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, Lease, StateStore
from certferry.testing.certificates import make_bundle, make_key, with_another_chain
from certferry.testing.memory_state import MemoryState
from tests.adapters.state.child_program import NOW
from tests.core.strategies import wishes

WHOLE = [make_bundle("img.example.com", not_before=NOW) for _ in range(2)]
TORN = [parse_bundle(bundle.cert_pem, make_key()) for bundle in WHOLE]
LONGER = [with_another_chain(bundle) for bundle in WHOLE]
KEYS = [make_key() for _ in range(2)]
STEPS = 30
LIMITS = Limits(*[Allowance(2, timedelta(hours=2))] * 4)

Answer = object
Held = tuple[Lease, Lease]
Question = Callable[[StateStore, str], Answer]

words = st.sampled_from(["a", "b"])
durations = st.integers(0, 3).map(lambda count: timedelta(hours=count))
moments = durations.map(lambda ago: NOW + ago)
unknown_or_moments = st.none() | moments
keys = st.sampled_from(KEYS)
bundles = st.sampled_from([*WHOLE, *TORN, *LONGER])
accounts = st.builds(AcmeAccount, words, keys, st.none() | words)
records = st.builds(ChallengeRecord, words, words, words, moments, st.none() | words)
uploads = st.builds(Upload, words, words, words, words, words, moments, unknown_or_moments)
rollouts = st.builds(
    RolloutRecord,
    words,
    words,
    words,
    words,
    moments,
    unknown_or_moments,
    st.none() | st.text(),
    unknown_or_moments,
    unknown_or_moments,
    st.none() | wishes,
    st.none() | words,
    st.none() | words,
)
entries = st.builds(
    HistoryEntry, moments, words, words, words, st.dictionaries(words, st.text(), max_size=2)
)
picks = st.integers(0, STEPS)


class Pair(RuleBasedStateMachine):
    """Both stores, asked the same. What they gave for a lease is kept side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.held: list[Held] = []
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.real = connect(path / "state.db", path / "secret.key")
        self.twin: StateStore = MemoryState()

    def teardown(self) -> None:
        """Close the file and remove it, after a last look at everything that can be read."""
        for word in ("a", "b"):
            for question in QUESTIONS:
                self.ask_about(word, question)
        self.real.close()
        self.folder.cleanup()

    def ask(self, question: Callable[[StateStore], Answer]) -> None:
        """Ask both, and compare."""
        assert answer(question, self.real) == answer(question, self.twin)

    def ask_about(self, word: str, question: Question) -> None:
        """Ask both about a lineage, directory or target of this name."""
        self.ask(lambda store: question(store, word))

    def ask_with_lease(self, pick: int, question: Callable[[StateStore, Lease], Answer]) -> None:
        """Ask both, each with the lease it gave."""
        real, twin = self.held[pick % len(self.held)]
        assert answer(lambda store: question(store, real), self.real) == answer(
            lambda store: question(store, twin), self.twin
        )

    @rule(duration=durations)
    def time_passes(self, duration: timedelta) -> None:
        self.now += duration

    @rule(lineage=words)
    def acquire(self, lineage: str) -> None:
        given: list[Lease] = []

        def question(store: StateStore) -> Answer:
            given.append(store.acquire(lineage, self.now))
            return given[-1].token

        self.ask(question)
        if given:
            real, twin = given
            self.held.append((real, twin))

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def extend(self, pick: int) -> None:
        self.ask_with_lease(pick, lambda store, lease: store.extend(lease))

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        self.ask_with_lease(pick, lambda store, lease: store.release(lease))

    @precondition(lambda self: self.held)
    @rule(pick=picks, bundle=bundles)
    def save_version(self, pick: int, bundle: CertificateBundle) -> None:
        self.ask_with_lease(pick, lambda store, lease: store.save_version(lease, bundle, self.now))

    @precondition(lambda self: self.held)
    @rule(pick=picks, url=words, key=keys)
    def save_order(self, pick: int, url: str, key: Secret) -> None:
        def question(store: StateStore, lease: Lease) -> None:
            order = AcmeOrder(lease.lineage, "ca", url, ("a", "b"), key, self.now)
            store.save_order(lease, order)

        self.ask_with_lease(pick, question)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def drop_order(self, pick: int) -> None:
        self.ask_with_lease(pick, lambda store, lease: store.drop_order(lease))

    @precondition(lambda self: self.held)
    @rule(pick=picks, directory=words, name=words, renews=st.booleans(), exempt=st.booleans())
    def claim_order(
        self, pick: int, directory: str, name: str, *, renews: bool, exempt: bool
    ) -> None:
        wanted = Wanted((name,), renews=renews, exempt=exempt)
        self.ask_with_lease(
            pick,
            lambda store, lease: store.claim_order(lease, directory, wanted, LIMITS, self.now),
        )

    @rule(directory=words, name=words)
    def save_failed_proofs(self, directory: str, name: str) -> None:
        self.ask(lambda store: store.save_failed_proofs(directory, (name,), self.now))

    @rule(directory=words, name=words, duration=durations, for_all=st.booleans())
    def save_hold(self, directory: str, name: str, duration: timedelta, *, for_all: bool) -> None:
        hold = Hold((name,), self.now, self.now + duration, for_all=for_all)
        self.ask(lambda store: store.save_hold(directory, hold))

    @rule(account=accounts)
    def save_account(self, account: AcmeAccount) -> None:
        self.ask(lambda store: store.save_account(account))

    @rule(directory=words, key=keys)
    def forget_account(self, directory: str, key: Secret) -> None:
        self.ask(lambda store: store.forget_account(directory, key))

    @rule(record=records)
    def save_challenge_record(self, record: ChallengeRecord) -> None:
        self.ask(lambda store: store.save_challenge_record(record))

    @rule(record=records)
    def drop_challenge_record(self, record: ChallengeRecord) -> None:
        self.ask(lambda store: store.drop_challenge_record(record))

    @rule(upload=uploads)
    def save_upload(self, upload: Upload) -> None:
        self.ask(lambda store: store.save_upload(upload))

    @rule(at=words, remote_id=words)
    def drop_upload(self, at: str, remote_id: str) -> None:
        self.ask(lambda store: store.drop_upload(at, remote_id))

    @rule(rollout=rollouts)
    def save_rollout(self, rollout: RolloutRecord) -> None:
        self.ask(lambda store: store.save_rollout(rollout))

    @rule(entry=entries)
    def append_history(self, entry: HistoryEntry) -> None:
        self.ask(lambda store: store.append_history(entry))

    @rule(word=words, pick=picks)
    def read(self, word: str, pick: int) -> None:
        self.ask_about(word, QUESTIONS[pick % len(QUESTIONS)])


QUESTIONS: tuple[Question, ...] = (
    lambda store, _: store.lineages(),
    lambda store, word: store.remembered(word),
    lambda store, word: store.versions(word),
    lambda store, word: store.bundle(word, 1),
    lambda store, word: store.bundle(word, 2),
    lambda store, word: store.account(word),
    lambda store, word: store.order(word),
    lambda store, word: store.challenge_records(word),
    lambda store, _: store.lineages_in_challenge_records(),
    lambda store, word: store.uploads(word, "a"),
    lambda store, word: store.uploads(word, "b"),
    lambda store, word: store.spent(word, Wanted(("a",))),
    lambda store, word: store.history(word, 3),
    lambda store, _: store.history(None, 3),
    lambda store, _: store.history(None, 0),
)


def answer(question: Callable[[StateStore], Answer], store: StateStore) -> Answer:
    """Give what a store answers, an error as its kind and when to come again."""
    try:
        return question(store)
    except CertferryError as error:
        return type(error), error.retry


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=25, stateful_step_count=STEPS)
