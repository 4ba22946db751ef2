"""The contract of what is remembered of accounts between runs."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from certferry.ports.state import StateStore

COUNTS = 40


class AccountNotesContract:
    """Notes by account and name, changed whole."""

    def test_a_note_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """By account and name; a note that is changed to nothing is gone."""
        assert None is store.account_note("qiniu", "way")

        assert "a" == store.update_account_note("qiniu", "way", lambda _: "a")
        store.update_account_note("other", "way", lambda _: "b")
        store.update_account_note("qiniu", "names", lambda _: "c")

        assert "a" == other.account_note("qiniu", "way")
        assert "ab" == other.update_account_note("qiniu", "way", lambda said: f"{said}b")
        assert None is other.update_account_note("qiniu", "way", lambda _: None)
        assert None is store.account_note("qiniu", "way")
        assert ("b", "c") == (
            store.account_note("other", "way"),
            store.account_note("qiniu", "names"),
        )

    def test_no_change_of_a_note_is_lost(self, store: StateStore, other: StateStore) -> None:
        """Many that count at once, in two processes, count each."""

        def count(number: int) -> None:
            place = (store, other)[number % 2]
            place.update_account_note("dnspod", "spent", lambda said: str(int(said or 0) + 1))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(COUNTS)))

        assert str(COUNTS) == store.account_note("dnspod", "spent")
