"""The contract of the ledger: what was spent at a CA, counted over every run."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.planning.limits import (
    Allowance,
    FailedProof,
    Hold,
    Limits,
    PastOrder,
    Spent,
    Wanted,
)
from certferry.errors import LeaseLost, OrderHeldBack
from certferry.ports.state import StateStore
from certferry_sandbox.testing.certificates import make_bundle

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
DIRECTORY = "https://ca.test/directory"
OTHER = "https://other-ca.test/directory"
RACERS = 8

IMG = Wanted(("*.img.example.com", "img.example.com"))
ALLOWED = 3
WEEK = timedelta(days=7)
LIMITS = Limits(
    orders=Allowance(ALLOWED, timedelta(hours=3)),
    domain=Allowance(50, WEEK),
    same_names=Allowance(5, WEEK),
    failed_proofs=Allowance(5, timedelta(hours=1)),
)


class OrderLogContract:
    """`spent`, `claim_order` and what is written down for them."""

    def test_order_counts_until_it_is_given_up(self, store: StateStore, other: StateStore) -> None:
        """As one that may lead to a certificate, then as one that did not."""
        assert Spent() == store.spent(DIRECTORY, IMG)
        lease = store.acquire("img", NOW)
        store.claim_order(lease, DIRECTORY, IMG, LIMITS, NOW)

        assert Spent((PastOrder(IMG.names, NOW),)) == other.spent(DIRECTORY, IMG)
        assert Spent() == other.spent(OTHER, IMG)

        store.drop_order(lease)
        assert Spent((PastOrder(IMG.names, NOW, given_up=True),)) == other.spent(DIRECTORY, IMG)

    def test_later_order_takes_the_place_of_an_earlier_one(self, store: StateStore) -> None:
        """A run that was killed before the CA answered has left one that leads nowhere."""
        lease = store.acquire("img", NOW)
        store.claim_order(lease, DIRECTORY, IMG, LIMITS, NOW)
        store.claim_order(lease, DIRECTORY, IMG, LIMITS, LATER)

        assert (
            PastOrder(IMG.names, NOW, given_up=True),
            PastOrder(IMG.names, LATER),
        ) == store.spent(DIRECTORY, IMG).orders

        store.claim_order(lease, OTHER, IMG, LIMITS, LATER)
        assert not store.spent(DIRECTORY, IMG).orders[-1].given_up

    def test_saving_the_version_says_that_it_was_issued(
        self, store: StateStore, other: StateStore
    ) -> None:
        """And so does dropping an order whose certificate is not kept. Others' orders stay."""
        for lineage, names in (("img", IMG), ("static", Wanted(("static.example.com",)))):
            store.claim_order(store.acquire(lineage, NOW), DIRECTORY, names, LIMITS, NOW)
        lease = store.acquire("pics", NOW)
        store.claim_order(lease, DIRECTORY, IMG, LIMITS, NOW)
        store.drop_order(lease, issued_at=LATER)
        bundle = make_bundle("static.example.com", not_before=NOW)

        store.release(lease)
        renewed = store.acquire("pics", NOW)
        store.save_version(renewed, bundle, LATER + WEEK)

        assert [None, None, LATER] == [
            order.issued_at for order in other.spent(DIRECTORY, IMG).orders
        ]

    def test_renewal_counts_by_its_names_only(self, store: StateStore, other: StateStore) -> None:
        """The questions of others do not show it; what is exempt is not written down at all."""
        lease = store.acquire("img", NOW)
        renewal = Wanted(IMG.names, renews=True)
        store.claim_order(lease, DIRECTORY, renewal, LIMITS, NOW)
        assert (PastOrder(IMG.names, NOW, renews=True),) == other.spent(DIRECTORY, IMG).orders
        assert () == other.spent(DIRECTORY, Wanted(("img.example.com",))).orders

        store.claim_order(lease, DIRECTORY, Wanted(IMG.names, exempt=True), LIMITS, LATER)
        (order,) = other.spent(DIRECTORY, IMG).orders
        assert order.given_up

    def test_budget_that_is_used_up(self, store: StateStore, other: StateStore) -> None:
        """It is refused with the moment, and nothing is written."""
        lease = store.acquire("img", NOW)
        for number in range(ALLOWED):
            wanted = Wanted((f"n{number}.example.com",))
            other.claim_order(lease, DIRECTORY, wanted, LIMITS, NOW)
        before = store.spent(DIRECTORY, IMG)

        with pytest.raises(OrderHeldBack) as held:
            store.claim_order(lease, DIRECTORY, IMG, LIMITS, LATER)

        assert NOW + timedelta(hours=3) == held.value.retry.after
        assert before == store.spent(DIRECTORY, IMG)
        store.claim_order(lease, OTHER, IMG, LIMITS, LATER)

    def test_order_without_the_lease_is_not_let_go(self, store: StateStore) -> None:
        """A run that another one has overtaken orders nothing."""
        lost = store.acquire("img", NOW)
        store.release(lost)

        with pytest.raises(LeaseLost):
            store.claim_order(lost, DIRECTORY, IMG, LIMITS, NOW)

        assert Spent() == store.spent(DIRECTORY, IMG)

    def test_runs_that_ask_at_once(self, store: StateStore, other: StateStore) -> None:
        """No more are let go than the budget has."""
        let_go: list[int] = []
        start = threading.Barrier(RACERS)

        def race(handle: StateStore, number: int) -> None:
            lease = handle.acquire(f"n{number}", NOW)
            start.wait()
            try:
                handle.claim_order(
                    lease, DIRECTORY, Wanted((f"n{number}.example.com",)), LIMITS, NOW
                )
                let_go.append(number)
            except OrderHeldBack:
                pass

        handles = [store, other] * (RACERS // 2)
        racers = [
            threading.Thread(target=race, args=(handle, number))
            for number, handle in enumerate(handles)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()

        assert ALLOWED == len(let_go)

    def test_failed_proofs_are_counted_by_name(self, store: StateStore, other: StateStore) -> None:
        """A wildcard as its base name; each directory for itself."""
        store.save_failed_proofs(DIRECTORY, IMG.names, NOW)
        other.save_failed_proofs(DIRECTORY, ("img.example.com", "b.example.com"), LATER)
        other.save_failed_proofs(OTHER, ("img.example.com",), LATER)

        assert (
            FailedProof("img.example.com", NOW),
            FailedProof("img.example.com", LATER),
        ) == store.spent(DIRECTORY, IMG).failed_proofs

    def test_holds_are_kept(self, store: StateStore, other: StateStore) -> None:
        """The last one of these names, and of others those that are for all."""
        mine = Hold(("img.example.com",), NOW, LATER, for_all=False)
        for hold in (
            Hold(("img.example.com",), NOW, NOW, for_all=True),
            mine,
            Hold(("a.example.com",), NOW, LATER, for_all=False),
        ):
            store.save_hold(DIRECTORY, hold)
        everybodys = Hold(("z.example.com",), NOW, LATER, for_all=True)
        store.save_hold(DIRECTORY, everybodys)

        assert (mine, everybodys) == other.spent(DIRECTORY, Wanted(("img.example.com",))).holds
        assert () == other.spent(OTHER, IMG).holds
