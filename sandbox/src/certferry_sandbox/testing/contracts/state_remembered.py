"""The contract of the one reading of a lineage: all of it, and all of one moment."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from certferry.core.observed.records import Ordered, Remembered
from certferry.ports.state import StateStore
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.contracts.state_acme import challenge
from certferry_sandbox.testing.contracts.state_leases import make_order
from certferry_sandbox.testing.contracts.state_targets import rollout, upload

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROUNDS = 10


class RememberedContract:
    """`remembered`."""

    def test_lineage_of_which_nothing_is_known(self, store: StateStore) -> None:
        """It has nothing, whatever others have and although its lease is held."""
        store.acquire("img", NOW)
        keep_everything(store, "static")

        assert Remembered() == store.remembered("img")

    def test_everything_is_read_at_once(self, store: StateStore, other: StateStore) -> None:
        """It is what the single questions answer, of this lineage only."""
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
        assert ["img-file", "img-new", "img-old"] == [one.remote_id for one in remembered.uploads]

    def test_readings_while_another_process_writes(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Each is of one moment: an order is there before its version, and never beside it."""
        seen: list[Remembered] = []
        is_over = threading.Event()

        def read() -> None:
            while not is_over.is_set():
                seen.append(other.remembered("img"))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            issue_in_rounds(store)
        finally:
            is_over.set()
            reader.join()

        assert seen
        for one in seen:
            assert one.ordered is None or one.ordered.at == NOW + len(one.versions) * HOUR


def issue_in_rounds(store: StateStore) -> None:
    """Order and save one version after the other; each order is an hour later."""
    lease = store.acquire("img", NOW)
    for number in range(ROUNDS):
        created_at = NOW + number * HOUR
        store.save_order(lease, replace(make_order("img"), created_at=created_at))
        bundle = make_bundle("img.example.com", not_before=NOW)
        store.save_version(lease, bundle, created_at)


def keep_everything(store: StateStore, lineage: str) -> None:
    """Keep something of each kind for a lineage."""
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
