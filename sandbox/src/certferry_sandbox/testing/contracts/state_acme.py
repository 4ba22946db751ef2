"""The contract of what must survive a killed run at the CA: accounts, orders, challenge records."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from certferry.ports.state import AcmeAccount, ChallengeRecord, StateStore
from certferry_sandbox.testing.certificates import make_bundle, make_key
from certferry_sandbox.testing.contracts.state_leases import make_order

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
DIRECTORY = "https://ca.test/directory"
RACERS = 8


class AcmeContract:
    """Accounts by directory, one order and any number of challenge records by lineage."""

    def test_the_last_try_to_issue_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """By lineage; a later one takes its place."""
        assert None is store.remembered("img").issue_tried_at

        store.save_issue_try("img", NOW)
        store.save_issue_try("static", NOW)
        store.save_issue_try("img", NOW + timedelta(hours=1))

        assert NOW + timedelta(hours=1) == other.remembered("img").issue_tried_at
        assert NOW == other.remembered("static").issue_tried_at

    def test_certificate_that_was_rejected_is_remembered_until_the_next_try(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Whatever the last try brought is what counts."""
        store.save_issue_try("img", NOW, rejected=True)
        store.save_issue_try("static", NOW)

        assert NOW == other.remembered("img").rejected_at
        assert None is other.remembered("static").rejected_at

        store.save_issue_try("img", LATER)
        assert None is other.remembered("img").rejected_at

    def test_failures_are_counted_until_a_certificate_comes(
        self, store: StateStore, other: StateStore
    ) -> None:
        """By lineage; what other runs have counted counts as well."""
        for tries, one in enumerate((store, other, store), start=1):
            one.save_issue_try("img", LATER, failed=True)
            assert tries == store.remembered("img").issue_tries
        assert 0 == store.remembered("static").issue_tries

        other.save_issue_try("img", LATER)
        assert 0 == store.remembered("img").issue_tries

    def test_since_when_a_ca_fails(self, store: StateStore, other: StateStore) -> None:
        """The first of its failures, until a certificate comes; those of others do not count."""
        store.save_issue_try("img", NOW, failed=True)
        assert None is other.remembered("img").failing_since

        store.save_issue_try("img", NOW, failed=True, by_ca=True)
        other.save_issue_try("img", LATER, failed=True, by_ca=True)
        store.save_issue_try("img", LATER, failed=True)
        assert NOW == other.remembered("img").failing_since
        assert None is store.remembered("static").failing_since

        other.save_issue_try("img", LATER)
        assert None is store.remembered("img").failing_since

    def test_account_is_replaced_only_as_it_is_known(
        self, store: StateStore, other: StateStore
    ) -> None:
        """With its next key, with that in force, with none of it; a run that knows it as it was
        changes nothing.
        """
        before = AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/1")
        changing = replace(before, next_key_pem=make_key())
        changed = replace(before, key_pem=make_key())
        store.save_account(before)

        assert store.replace_account(before, changing)
        assert changing == other.account(DIRECTORY)
        assert not other.replace_account(before, None)
        other.forget_account(DIRECTORY, before.key_pem)
        assert changing == store.save_account(before)
        assert other.replace_account(changing, changed)
        assert changed == store.account(DIRECTORY)
        assert store.replace_account(changed, None)
        assert None is other.account(DIRECTORY)
        assert not store.replace_account(changed, before)

    def test_every_account_is_listed(self, store: StateStore, other: StateStore) -> None:
        """By directory."""
        assert () == store.accounts()
        second = AcmeAccount("https://b.test/directory", make_key(), next_key_pem=make_key())
        first = AcmeAccount("https://a.test/directory", make_key(), "https://a.test/1")
        store.save_account(second)
        store.save_account(first)

        assert (first, second) == other.accounts()

    def test_account_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """First without a URL, then with the one the CA gave; each directory has its own."""
        account = AcmeAccount(DIRECTORY, make_key())
        assert None is store.account(DIRECTORY)

        assert account == store.save_account(account)
        assert account == other.account(DIRECTORY)

        registered = replace(account, url="https://ca.test/account/1")
        assert registered == store.save_account(registered)
        assert registered == other.account(DIRECTORY)
        assert None is store.account("https://other-ca.test/directory")

    def test_account_keeps_its_url(self, store: StateStore) -> None:
        """Saved again by a run that does not know the URL yet, the known one is in force."""
        registered = AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/1")
        store.save_account(registered)

        assert registered == store.save_account(replace(registered, url=None))
        assert registered == store.account(DIRECTORY)

    def test_first_account_key_wins(self, store: StateStore, other: StateStore) -> None:
        """A later caller gets the account that is in force, and works with that."""
        first = AcmeAccount(DIRECTORY, make_key())
        store.save_account(first)

        late = AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/2")
        assert first == other.save_account(late)
        assert first == store.account(DIRECTORY)

    def test_threads_that_race_with_account_keys(
        self, store: StateStore, other: StateStore
    ) -> None:
        """All of them get the same key."""
        given: list[AcmeAccount] = []
        start = threading.Barrier(RACERS)

        def race(handle: StateStore) -> None:
            account = AcmeAccount(DIRECTORY, make_key())
            start.wait()
            given.append(handle.save_account(account))

        racers = [
            threading.Thread(target=race, args=(handle,))
            for handle in [store, other] * (RACERS // 2)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()

        assert RACERS == len(given)
        assert {store.account(DIRECTORY)} == set(given)

    def test_account_is_forgotten_only_with_its_key(
        self, store: StateStore, other: StateStore
    ) -> None:
        """An account that another run has registered anew in the meantime stays."""
        account = AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/1")
        store.save_account(account)

        other.forget_account(DIRECTORY, make_key())
        assert account == store.account(DIRECTORY)

        other.forget_account(DIRECTORY, account.key_pem)
        other.forget_account(DIRECTORY, account.key_pem)
        assert None is store.account(DIRECTORY)

    def test_order_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """One order for each lineage; the later takes the earlier one's place."""
        assert None is store.order("img")
        lease = store.acquire("img", NOW)

        for _ in range(2):
            order = make_order("img")
            store.save_order(lease, order)
            assert order == other.order("img")
        assert None is store.order("static")

    def test_order_is_dropped(self, store: StateStore) -> None:
        """Dropping is fine also when there is none."""
        lease = store.acquire("img", NOW)
        store.save_order(lease, make_order("img"))

        store.drop_order(lease)
        store.drop_order(lease)

        assert None is store.order("img")

    def test_saving_the_version_forgets_its_order(self, store: StateStore) -> None:
        """The order of the lineage is gone with the version it led to; others' stay."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        leases = {lineage: store.acquire(lineage, NOW) for lineage in ("img", "static")}
        for lineage, lease in leases.items():
            store.save_order(lease, make_order(lineage))

        store.save_version(leases["img"], bundle, NOW)
        assert None is store.order("img")
        assert None is not store.order("static")

        store.save_order(leases["img"], make_order("img"))
        store.save_version(leases["img"], bundle, NOW)
        assert None is store.order("img")

    def test_challenge_records_are_kept_without_a_lease(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Oldest first, and each lineage for itself; apex and wildcard share a name."""
        older = challenge("img", "apex", NOW)
        newer = challenge("img", "wildcard", LATER)
        for record in (newer, challenge("static", "apex", NOW), older):
            store.save_challenge_record(record)

        assert (older, newer) == other.challenge_records("img")
        assert ("img", "static") == other.lineages_in_challenge_records()

    def test_challenge_record_gets_its_handle(self, store: StateStore) -> None:
        """Saved again it is the same record; a handle once known is not forgotten."""
        record = challenge("img", "apex", NOW)
        known = replace(record, handle="5021")

        for saved in (record, known, record, replace(record, created_at=LATER)):
            store.save_challenge_record(saved)

        assert (known,) == store.challenge_records("img")

    def test_challenge_record_is_dropped_with_or_without_its_handle(
        self, store: StateStore, other: StateStore
    ) -> None:
        """It is found by what it is, and only it goes; dropping again is fine."""
        record = challenge("img", "apex", NOW)
        stays = challenge("img", "wildcard", NOW)
        store.save_challenge_record(replace(record, handle="5021"))
        store.save_challenge_record(stays)

        other.drop_challenge_record(record)
        other.drop_challenge_record(record)

        assert (stays,) == store.challenge_records("img")


def challenge(lineage: str, value: str, created_at: datetime) -> ChallengeRecord:
    """Make a challenge record of a lineage's only name."""
    return ChallengeRecord(lineage, f"_acme-challenge.{lineage}.example.com", value, created_at)
