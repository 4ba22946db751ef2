"""The contract of `certferry.ports.state.StateStore`, as tests for any implementation.

This module has the tests of leases, notices, sightings and `remembered`. Other modules have the
tests of the other records.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.assessment.notices import (
    REFUSED,
    ChannelState,
    Notice,
    SentNotice,
    Subject,
    Topic,
)
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Revocation, RevocationReason
from certferry.core.observed.records import Ordered, Remembered
from certferry.errors import LeaseHeld, LeaseLost, Problem, Retry
from certferry.ports.state import Lease, StateStore, held_leases, holding, must_still_hold
from certferry.text import Quoted, Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.contracts.state_console import AccessContract, RunsContract
from certferry_sandbox.testing.contracts.state_declarations import DeclarationsContract
from certferry_sandbox.testing.contracts.state_deployments import (
    HistoryContract,
    OrderLogContract,
    TargetsContract,
    rollout,
    upload,
)
from certferry_sandbox.testing.contracts.state_hosts import HostsContract
from certferry_sandbox.testing.contracts.state_issuance import (
    AccountNotesContract,
    AcmeContract,
    VersionsContract,
    challenge,
    make_order,
)
from certferry_sandbox.testing.contracts.state_logs import LogsContract
from certferry_sandbox.testing.contracts.state_watch import WatchContract

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
RACERS = 8


class LeasesContract:
    """`acquire`, `extend`, `release`, and the calls that take a lease."""

    def test_free_lease_is_taken(self, store: StateStore) -> None:
        """A lease names its lineage and its holder."""
        lease = store.acquire("img", NOW)

        assert "img" == lease.lineage
        assert lease.holder

    def test_held_lease_is_refused(self, store: StateStore, other: StateStore) -> None:
        """The refusal names the lineage and the lease's start, and allows a later try.

        A clock that jumps ends no lease.
        """
        store.acquire("img", NOW)

        with pytest.raises(LeaseHeld, match=r"^img: ") as refused:
            other.acquire("img", NOW + timedelta(days=400))

        assert Retry.LATER == refused.value.retry
        assert refused.value.hint is not None
        assert "since 2026-03-01 12:00 UTC" in str(refused.value)

    def test_second_run_of_the_same_process_is_another_holder(self, store: StateStore) -> None:
        """A lease of the same process is refused like another process's lease."""
        store.acquire("img", NOW)

        with pytest.raises(LeaseHeld):
            store.acquire("img", NOW)

    def test_lineages_do_not_hold_one_another_up(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Each lineage has its own lease."""
        store.acquire("img", NOW)

        assert "static" == other.acquire("static", NOW).lineage

    def test_released_lease_is_free_and_its_token_is_not_used_again(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A released lease can be taken at once, and the next token is greater."""
        first = store.acquire("img", NOW)
        store.release(first)
        second = other.acquire("img", NOW)

        assert second.token > first.token

    def test_release_of_a_lost_lease_takes_nothing_from_its_new_holder(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A release of a lost lease does nothing, and neither does a second release."""
        lost = store.acquire("img", NOW)
        store.release(lost)
        held = other.acquire("img", NOW)
        store.release(lost)
        other.release(lost)

        other.extend(held)
        with pytest.raises(LeaseHeld):
            store.acquire("img", NOW)

    def test_lease_ends_with_its_store(self, store: StateStore, other: StateStore) -> None:
        """`close` releases the leases that the store still holds."""
        first = store.acquire("img", NOW)
        store.close()

        assert first.token < other.acquire("img", NOW).token

    def test_lease_that_is_held_is_in_force(self, store: StateStore) -> None:
        """A held lease stays in force, even 400 days later."""
        lease = store.acquire("img", NOW)

        store.extend(lease)
        later = NOW + timedelta(days=400)
        store.save_version(lease, make_bundle("img.example.com", not_before=NOW), later)

        assert 1 == len(store.versions("img"))

    def test_lease_that_is_held_may_be_used(self, store: StateStore) -> None:
        """`must_still_hold` passes with a held lease, and passes without any lease."""
        must_still_hold()
        lease = store.acquire("img", NOW)
        with holding(store, lease):
            must_still_hold()
            assert (lease,) == held_leases()
        assert () == held_leases()

    def test_lost_lease_writes_nothing(self, store: StateStore, other: StateStore) -> None:
        """Every call with a lost lease raises `LeaseLost` and changes nothing."""
        lost = store.acquire("img", NOW)
        store.release(lost)
        held = other.acquire("img", NOW)
        order = make_order("img")
        other.save_order(held, order)

        with pytest.raises(LeaseLost, match=r"^img: "):
            store.extend(lost)
        with pytest.raises(LeaseLost):
            store.save_order(lost, make_order("img"))
        with pytest.raises(LeaseLost):
            store.drop_order(lost)
        with pytest.raises(LeaseLost):
            store.save_version(lost, make_bundle("img.example.com", not_before=NOW), NOW)

        assert order == other.order("img")
        assert () == other.versions("img")

    @pytest.mark.parametrize("end", ["released", "made up"])
    def test_lease_that_is_not_in_force_writes_nothing(self, store: StateStore, end: str) -> None:
        """A released lease is not in force, and neither is a lease with another holder."""
        lease = store.acquire("img", NOW)
        if end == "released":
            store.release(lease)
        else:
            lease = Lease("img", "another", lease.token)

        with pytest.raises(LeaseLost):
            store.save_order(lease, make_order("img"))

        assert None is store.order("img")

    def test_threads_that_race_for_a_lease(self, store: StateStore, other: StateStore) -> None:
        """Exactly one thread gets the lease; the other threads get `LeaseHeld`."""
        won: list[Lease] = []
        held: list[LeaseHeld] = []
        start = threading.Barrier(RACERS)

        def race(handle: StateStore) -> None:
            start.wait()
            try:
                won.append(handle.acquire("img", NOW))
            except LeaseHeld as refusal:
                held.append(refusal)

        racers = [
            threading.Thread(target=race, args=(handle,))
            for handle in [store, other] * (RACERS // 2)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()

        assert (1, RACERS - 1) == (len(won), len(held))


RUNS = 12

TROUBLE = Notice(
    Topic.TROUBLE,
    Subject("img", "qiniu", "img.example.com"),
    NOW,
    Problem(
        "target_rejected",
        Text(
            "{where}: {problem}, after {time}, at {moments}, {count} times",
            where=Text("the target"),
            problem=Quoted("七牛说不行"),
            time=timedelta(minutes=3),
            moments=[NOW, NOW],
            count=3,
        ),
        Text("wait"),
    ),
    NOW + timedelta(days=9),
)
RENEWED = Notice(Topic.RENEWED, Subject("img"), NOW, Problem("renewed", Text("issued")))


class NoticesContract:
    """`notices` and `channel`: each change replaces the whole record."""

    def test_notices_are_read_back(self, store: StateStore, other: StateStore) -> None:
        """Notices come back sorted, with their messages.

        An update deletes the notices that the update leaves out.
        """
        assert () == store.notices()

        assert (TROUBLE, RENEWED) == store.update_notices(lambda _: (TROUBLE, RENEWED))
        assert (RENEWED, TROUBLE) == other.notices()
        assert str(TROUBLE.problem.message) == str(other.notices()[1].problem.message)

        later = replace(
            TROUBLE, problem=replace(TROUBLE.problem, code="target_busy", hint=None), deadline=None
        )
        other.update_notices(lambda before: (later,) if RENEWED in before else ())
        assert (later,) == store.notices()

    def test_notices_of_hosts_are_apart(self, store: StateStore, other: StateStore) -> None:
        """Notices with the same subject, of two hosts and of all hosts, are separate."""
        subjects = [replace(TROUBLE.subject, host=host) for host in ("", "web-1", "web-2")]
        stands = tuple(replace(TROUBLE, subject=subject) for subject in subjects)
        sent = ChannelState(tuple(SentNotice(*notice.key, NOW, NOW, "code") for notice in stands))
        store.update_notices(lambda _: stands)
        store.update_channel("ops", lambda *_: (sent, None))
        assert stands == other.notices()
        assert sent == other.channel("ops")

        other.update_notices(lambda before: before[:2])
        assert stands[:2] == store.notices()

    def test_a_channel_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """The whole state of a channel comes back, for this channel's name only."""
        refusal = Problem(REFUSED, Text("no {why}", why="key"), Text("look"), since=NOW)
        sent_notice = SentNotice(*TROUBLE.key, NOW, NOW + timedelta(seconds=1), "target_rejected")
        state = ChannelState((sent_notice,), (NOW,), NOW, refusal)
        assert ChannelState() == store.channel("ops")

        assert "known" == store.update_channel("ops", lambda *_: (state, "known"))
        assert state == other.channel("ops")
        assert ChannelState() == other.channel("boss")

        less = replace(state, sent_notices=(), refusal=None)
        assert other.update_channel("ops", lambda before, _: (less, before == state))
        assert less == store.channel("ops")

    def test_one_of_many_claims(self, store: StateStore, other: StateStore) -> None:
        """If two processes claim a notice many times at once, a single claim succeeds.

        Each change gets the state that is stored at that moment.
        """
        store.update_notices(lambda _: (TROUBLE,))

        def claim(number: int) -> bool:
            place = (store, other)[number % 2]

            def change(
                before: ChannelState, notices: tuple[Notice, ...]
            ) -> tuple[ChannelState, bool]:
                is_first = not before.sent_notices and notices == (TROUBLE,)
                return replace(before, sent_notices=(SentNotice(*TROUBLE.key, NOW, NOW),)), is_first

            return place.update_channel("ops", change)

        with ThreadPoolExecutor(4) as threads:
            claims = list(threads.map(claim, range(RUNS)))

        assert 1 == sum(claims)

    def test_a_change_that_fails_changes_nothing(self, store: StateStore) -> None:
        """If the change raises, the stored notices stay."""
        store.update_notices(lambda _: (TROUBLE,))

        def fail(_: object) -> tuple[Notice, ...]:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            store.update_notices(fail)

        assert (TROUBLE,) == store.notices()


IMG = Sighting("img", "qiniu", "img.example.com", served=True, since=NOW, fingerprint="ab" * 32)
OTHER = Sighting(
    *("img", "qiniu", "www.example.com"),
    served=False,
    since=NOW,
    other_until=NOW,
    is_uploaded=True,
    answered=2,
    lagging=("192.0.2.2",),
)


class SightingsContract:
    """`sightings`, where each change replaces all sightings, and `versions_in_use`."""

    def test_sightings_are_read_back(self, store: StateStore, other: StateStore) -> None:
        """Sightings come back sorted by lineage, target and domain.

        An update deletes the sightings that the update leaves out.
        """
        assert () == store.sightings()

        assert (IMG, OTHER) == store.update_sightings(lambda _: (OTHER, IMG))
        assert (IMG, OTHER) == other.sightings()

        later = replace(OTHER, served=True, since=NOW + timedelta(days=1), fingerprint="cd" * 32)
        other.update_sightings(lambda before: (later,) if IMG in before else ())
        assert (later,) == store.sightings()

    def test_versions_in_use_are_the_newest_and_what_a_place_has(
        self, store: StateStore, other: StateStore
    ) -> None:
        """The result has each lineage's newest version, and the versions in sightings."""
        assert {} == store.versions_in_use()
        bundles = [make_bundle("img.example.com", not_before=NOW) for _ in range(3)]
        for lineage, kept in (("img", bundles), ("other", bundles[:2])):
            lease = store.acquire(lineage, NOW)
            for bundle in kept:
                store.save_version(lease, bundle, NOW)
            store.release(lease)
        first, second, third = (bundle.certificate.fingerprint for bundle in bundles)

        seen = replace(OTHER, fingerprint=first)
        other.update_sightings(lambda _: (seen, replace(IMG, fingerprint=third)))

        in_use = other.versions_in_use()
        assert {"img": [third, first], "other": [second]} == {
            lineage: [version.fingerprint for version in versions]
            for lineage, versions in in_use.items()
        }
        assert store.versions("img")[0] == in_use["img"][0]

    def test_version_whose_revocation_did_not_end_is_in_use(self, store: StateStore) -> None:
        """A version with a begun revocation is in use until the CA has answered."""
        lease = store.acquire("img", NOW)
        for _ in range(2):
            store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
        for is_answered, expected in ((False, [2, 1]), (True, [2])):
            revocation = Revocation(NOW, RevocationReason.SUPERSEDED, is_answered=is_answered)
            store.save_revocation(lease, 1, revocation)
            in_use = store.versions_in_use()["img"]
            assert expected == [version.number for version in in_use]


HOUR = timedelta(hours=1)
ROUNDS = 10


class RememberedContract:
    """`remembered`: a single reading of a lineage."""

    def test_lineage_of_which_nothing_is_known(self, store: StateStore) -> None:
        """The result is empty, even with a held lease and with records of other lineages."""
        store.acquire("img", NOW)
        keep_everything(store, "static")

        assert Remembered() == store.remembered("img")

    def test_everything_is_read_at_once(self, store: StateStore, other: StateStore) -> None:
        """`remembered` agrees with the methods that read a single kind of record."""
        keep_everything(store, "static")
        keep_everything(store, "img")

        remembered = other.remembered("img")

        assert other.versions("img") == remembered.versions
        assert [2, 1] == [version.number for version in remembered.versions]
        order = other.order("img")
        assert order is not None
        assert Ordered(NOW, order.names, order.key_type) == remembered.ordered
        assert NOW + HOUR == remembered.issue_tried_at
        assert NOW + HOUR == remembered.rejected_at
        assert remembered.has_challenge_records
        assert remembered.rollouts == (rollout("qiniu", "a"), rollout("qiniu", "b"))
        everywhere = other.uploads("img", "files") + other.uploads("img", "qiniu")
        assert everywhere == remembered.uploads
        assert ["img-file", "img-new", "img-old"] == [kept.remote_id for kept in remembered.uploads]

    def test_readings_while_another_process_writes(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Each reading shows a single moment: never an order together with the order's version."""
        readings: list[Remembered] = []
        is_over = threading.Event()

        def read() -> None:
            while not is_over.is_set():
                readings.append(other.remembered("img"))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            issue_in_rounds(store)
        finally:
            is_over.set()
            reader.join()

        assert readings
        for reading in readings:
            assert (
                reading.ordered is None or reading.ordered.at == NOW + len(reading.versions) * HOUR
            )


def issue_in_rounds(store: StateStore) -> None:
    """Order and save versions in turn; each order is an hour later than the last."""
    lease = store.acquire("img", NOW)
    for number in range(ROUNDS):
        created_at = NOW + number * HOUR
        store.save_order(lease, replace(make_order("img"), created_at=created_at))
        bundle = make_bundle("img.example.com", not_before=NOW)
        store.save_version(lease, bundle, created_at)


def keep_everything(store: StateStore, lineage: str) -> None:
    """Save a record of each kind for a lineage."""
    lease = store.acquire(lineage, NOW)
    for _ in range(2):
        store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
    store.save_order(lease, make_order(lineage))
    store.save_issue_try(lineage, NOW + HOUR, rejected=True)
    store.save_challenge_record(challenge(lineage, "apex", NOW))
    for domain in ("b", "a"):
        store.save_rollout(replace(rollout("qiniu", domain), lineage=lineage))
    store.save_upload(upload(f"{lineage}-old", NOW, lineage=lineage))
    store.save_upload(upload(f"{lineage}-new", NOW + HOUR, lineage=lineage))
    store.save_upload(upload(f"{lineage}-file", NOW, "files", lineage))


class StateStoreContract(
    LeasesContract,
    VersionsContract,
    AcmeContract,
    OrderLogContract,
    TargetsContract,
    RememberedContract,
    AccountNotesContract,
    LogsContract,
    WatchContract,
    NoticesContract,
    SightingsContract,
    HistoryContract,
    HostsContract,
    DeclarationsContract,
    RunsContract,
    AccessContract,
):
    """Every promise of the port.

    Inherit from `StateStoreContract` in a class that pytest collects, and define three fixtures.
    Each fixture closes its handle.

    - `store`: an empty store.
    - `other`: a second handle on the same data, as in another process.
    - `elsewhere`: a third handle on the same data, as in a process of another host.

    Each implementation has its own tests for the remains of a killed process, and for a full disk.

    ```python
    class TestMyState(StateStoreContract):
        @pytest.fixture
        def store(self, place: Place) -> Iterator[StateStore]: ...

        @pytest.fixture
        def other(self, place: Place) -> Iterator[StateStore]: ...

        @pytest.fixture
        def elsewhere(self, place: Place) -> Iterator[StateStore]: ...
    ```
    """
