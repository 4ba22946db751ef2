"""The contract of the leases: one holder at a time, and nothing written by a former one."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.certificates.certificate import KeyType
from certferry.errors import LeaseHeld, LeaseLost, Retry
from certferry.ports.state import AcmeOrder, Lease, StateStore
from certferry_sandbox.testing.certificates import make_bundle, make_key

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
        """The refusal names the lineage, says since when, and that another try may succeed; a clock
        that jumps ends no lease.
        """
        store.acquire("img", NOW)

        with pytest.raises(LeaseHeld, match=r"^img: ") as refused:
            other.acquire("img", NOW + timedelta(days=400))

        assert Retry.LATER == refused.value.retry
        assert refused.value.hint is not None
        assert "since 2026-03-01 12:00 UTC" in str(refused.value)

    def test_second_run_of_the_same_process_is_another_holder(self, store: StateStore) -> None:
        """A lease is not taken twice by its holder."""
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
        """Giving back frees at once; the next token is still greater."""
        first = store.acquire("img", NOW)
        store.release(first)
        second = other.acquire("img", NOW)

        assert second.token > first.token

    def test_release_of_a_lost_lease_takes_nothing_from_its_new_holder(
        self, store: StateStore, other: StateStore
    ) -> None:
        """It is silent, and so is releasing twice."""
        lost = store.acquire("img", NOW)
        store.release(lost)
        held = other.acquire("img", NOW)
        store.release(lost)
        other.release(lost)

        other.extend(held)
        with pytest.raises(LeaseHeld):
            store.acquire("img", NOW)

    def test_lease_ends_with_its_store(self, store: StateStore, other: StateStore) -> None:
        """Closing releases the leases that are still held."""
        first = store.acquire("img", NOW)
        store.close()

        assert first.token < other.acquire("img", NOW).token

    def test_lease_that_is_held_is_in_force(self, store: StateStore) -> None:
        """However much later."""
        lease = store.acquire("img", NOW)

        store.extend(lease)
        later = NOW + timedelta(days=400)
        store.save_version(lease, make_bundle("img.example.com", not_before=NOW), later)

        assert 1 == len(store.versions("img"))

    def test_lost_lease_writes_nothing(self, store: StateStore, other: StateStore) -> None:
        """Every call with a lost lease raises `LeaseLost` and leaves all as it was."""
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
        """A lease given back is lost, and so is one with another's holder or token."""
        lease = store.acquire("img", NOW)
        if end == "released":
            store.release(lease)
        else:
            lease = Lease("img", "another", lease.token)

        with pytest.raises(LeaseLost):
            store.save_order(lease, make_order("img"))

        assert None is store.order("img")

    def test_threads_that_race_for_a_lease(self, store: StateStore, other: StateStore) -> None:
        """Exactly one of them gets it; the others are told that it is held."""
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


def make_order(lineage: str) -> AcmeOrder:
    """Make an order under way, with a key of its own."""
    return AcmeOrder(
        lineage,
        directory="https://ca.test/directory",
        url=f"https://ca.test/order/{secrets.token_hex(4)}",
        names=(f"{lineage}.example.com", f"*.{lineage}.example.com"),
        key_pem=make_key(),
        created_at=NOW,
        key_type=KeyType.EC256,
    )
