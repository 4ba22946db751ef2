"""The contract of the records that must survive a killed run.

These are lineages and their numbered versions, and accounts, orders and challenge records.
"""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from certferry.core.certificates.certificate import CertificateBundle, KeyType, RenewalWindow
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version
from certferry.core.certificates.pem import parse_bundle
from certferry.core.observed.records import Upload
from certferry.errors import LeaseLost, StateError
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, StateStore
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle, make_key, with_another_chain

COUNTS = 40
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)


class AccountNotesContract:
    """Notes by account and name; each change replaces the whole note."""

    def test_a_note_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """A note comes back by account and name. A change to `None` deletes the note."""
        assert None is store.account_note("qiniu", "way")

        assert "a" == store.update_account_note("qiniu", "way", lambda _: "a")
        store.update_account_note("other", "way", lambda _: "b")
        store.update_account_note("qiniu", "names", lambda _: "c")

        assert "a" == other.account_note("qiniu", "way")
        assert "ab" == other.update_account_note("qiniu", "way", lambda note: f"{note}b")
        assert None is other.update_account_note("qiniu", "way", lambda _: None)
        assert None is store.account_note("qiniu", "way")
        assert ("b", "c") == (
            store.account_note("other", "way"),
            store.account_note("qiniu", "names"),
        )

    def test_no_change_of_a_note_is_lost(self, store: StateStore, other: StateStore) -> None:
        """Concurrent changes in two processes all take effect."""

        def count(number: int) -> None:
            place = (store, other)[number % 2]
            place.update_account_note("dnspod", "spent", lambda note: str(int(note or 0) + 1))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(COUNTS)))

        assert str(COUNTS) == store.account_note("dnspod", "spent")


NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
DIRECTORY = "https://ca.test/directory"
RACERS = 8


class AcmeContract:
    """Accounts by directory; by lineage, one order and any number of challenge records."""

    def test_the_last_try_to_issue_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """Each lineage has its last try; a later try replaces an earlier try."""
        assert None is store.remembered("img").issue_tried_at

        store.save_issue_try("img", NOW)
        store.save_issue_try("static", NOW)
        store.save_issue_try("img", NOW + timedelta(hours=1))

        assert NOW + timedelta(hours=1) == other.remembered("img").issue_tried_at
        assert NOW == other.remembered("static").issue_tried_at

    def test_many_lineages_are_read_as_each_of_them(
        self, store: StateStore, other: StateStore
    ) -> None:
        """`remembered_of` returns for each lineage the result of `remembered`, unknown ones too."""
        for number, name in enumerate(("img", "static", "video")):
            store.save_issue_try(name, NOW + timedelta(hours=number), failed=True)
            lease = store.acquire(name, NOW)
            for _ in range(number):
                store.save_version(lease, make_bundle(f"{name}.example.com", not_before=NOW), NOW)
            store.release(lease)
        store.save_challenge_record(ChallengeRecord("img", "_acme-challenge.img", "value", NOW))
        upload = Upload("static", "qiniu", "id-1", "label", "f" * 64, NOW)
        store.save_upload(upload)
        names = ("video", "unknown", "img", "static")

        remembered = other.remembered_of(names)

        assert {name: other.remembered(name) for name in names} == remembered
        assert [2, 0, 0, 1] == [len(remembered[name].versions) for name in names]
        assert (upload,) == remembered["static"].uploads
        assert remembered["img"].has_challenge_records

    def test_certificate_that_was_rejected_is_remembered_until_the_next_try(
        self, store: StateStore, other: StateStore
    ) -> None:
        """The rejection is part of the last try, so the next try removes the rejection."""
        store.save_issue_try("img", NOW, rejected=True)
        store.save_issue_try("static", NOW)

        assert NOW == other.remembered("img").rejected_at
        assert None is other.remembered("static").rejected_at

        store.save_issue_try("img", LATER)
        assert None is other.remembered("img").rejected_at

    def test_failures_are_counted_until_a_certificate_comes(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Each lineage counts the failed tries of all processes until a try succeeds."""
        for tries, handle in enumerate((store, other, store), start=1):
            handle.save_issue_try("img", LATER, failed=True)
            assert tries == store.remembered("img").issue_tries
        assert 0 == store.remembered("static").issue_tries

        other.save_issue_try("img", LATER)
        assert 0 == store.remembered("img").issue_tries

    def test_since_when_a_ca_fails(self, store: StateStore, other: StateStore) -> None:
        """`failing_since` is the first failure of the CA itself, until a try succeeds."""
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
        """`replace_account` changes or deletes an account only if the stored account is `before`.

        A process that knows an older account changes nothing.
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
        """`accounts` returns all accounts, sorted by directory."""
        assert () == store.accounts()
        second = AcmeAccount("https://b.test/directory", make_key(), next_key_pem=make_key())
        first = AcmeAccount("https://a.test/directory", make_key(), "https://a.test/1")
        store.save_account(second)
        store.save_account(first)

        assert (first, second) == other.accounts()

    def test_account_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """An account comes back without and with a URL. Directories are separate."""
        account = AcmeAccount(DIRECTORY, make_key())
        assert None is store.account(DIRECTORY)

        assert account == store.save_account(account)
        assert account == other.account(DIRECTORY)

        registered = replace(account, url="https://ca.test/account/1")
        assert registered == store.save_account(registered)
        assert registered == other.account(DIRECTORY)
        assert None is store.account("https://other-ca.test/directory")

    def test_account_keeps_its_url(self, store: StateStore) -> None:
        """If a run without the URL saves the account again, the stored URL stays."""
        registered = AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/1")
        store.save_account(registered)

        assert registered == store.save_account(replace(registered, url=None))
        assert registered == store.account(DIRECTORY)

    def test_first_account_key_wins(self, store: StateStore, other: StateStore) -> None:
        """A later caller gets the stored account, and the stored account does not change."""
        first = AcmeAccount(DIRECTORY, make_key())
        store.save_account(first)

        late = AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/2")
        assert first == other.save_account(late)
        assert first == store.account(DIRECTORY)

    def test_threads_that_race_with_account_keys(
        self, store: StateStore, other: StateStore
    ) -> None:
        """All threads get the same account."""
        returned: list[AcmeAccount] = []
        start = threading.Barrier(RACERS)

        def race(handle: StateStore) -> None:
            account = AcmeAccount(DIRECTORY, make_key())
            start.wait()
            returned.append(handle.save_account(account))

        racers = [
            threading.Thread(target=race, args=(handle,))
            for handle in [store, other] * (RACERS // 2)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()

        assert RACERS == len(returned)
        assert {store.account(DIRECTORY)} == set(returned)

    def test_account_is_forgotten_only_with_its_key(
        self, store: StateStore, other: StateStore
    ) -> None:
        """An account with another key stays, because another run has registered anew."""
        account = AcmeAccount(DIRECTORY, make_key(), "https://ca.test/account/1")
        store.save_account(account)

        other.forget_account(DIRECTORY, make_key())
        assert account == store.account(DIRECTORY)

        other.forget_account(DIRECTORY, account.key_pem)
        other.forget_account(DIRECTORY, account.key_pem)
        assert None is store.account(DIRECTORY)

    def test_order_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """A lineage has one order; a later order replaces an earlier order."""
        assert None is store.order("img")
        lease = store.acquire("img", NOW)

        for _ in range(2):
            order = make_order("img")
            store.save_order(lease, order)
            assert order == other.order("img")
        assert None is store.order("static")

    def test_order_is_dropped(self, store: StateStore) -> None:
        """`drop_order` deletes the order. A second call does nothing."""
        lease = store.acquire("img", NOW)
        store.save_order(lease, make_order("img"))

        store.drop_order(lease)
        store.drop_order(lease)

        assert None is store.order("img")

    def test_saving_the_version_forgets_its_order(self, store: StateStore) -> None:
        """`save_version` deletes the lineage's order. Orders of other lineages stay."""
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
        """A lineage has several records, oldest first, as apex and wildcard share a name."""
        older = challenge("img", "apex", NOW)
        newer = challenge("img", "wildcard", LATER)
        for record in (newer, challenge("static", "apex", NOW), older):
            store.save_challenge_record(record)

        assert (older, newer) == other.challenge_records("img")
        assert ("img", "static") == other.lineages_in_challenge_records()

    def test_challenge_record_gets_its_handle(self, store: StateStore) -> None:
        """A record that is saved again stays a single record, and keeps a stored handle."""
        record = challenge("img", "apex", NOW)
        with_handle = replace(record, handle="5021")

        for saved in (record, with_handle, record, replace(record, created_at=LATER)):
            store.save_challenge_record(saved)

        assert (with_handle,) == store.challenge_records("img")

    def test_challenge_record_is_dropped_with_or_without_its_handle(
        self, store: StateStore, other: StateStore
    ) -> None:
        """`drop_challenge_record` finds a record by name and value, and other records stay."""
        record = challenge("img", "apex", NOW)
        stays = challenge("img", "wildcard", NOW)
        store.save_challenge_record(replace(record, handle="5021"))
        store.save_challenge_record(stays)

        other.drop_challenge_record(record)
        other.drop_challenge_record(record)

        assert (stays,) == store.challenge_records("img")


def make_order(lineage: str) -> AcmeOrder:
    """Return an order in progress, with a new key."""
    return AcmeOrder(
        lineage,
        directory="https://ca.test/directory",
        url=f"https://ca.test/order/{secrets.token_hex(4)}",
        names=(f"{lineage}.example.com", f"*.{lineage}.example.com"),
        key_pem=make_key(),
        created_at=NOW,
        key_type=KeyType.EC256,
    )


def challenge(lineage: str, value: str, created_at: datetime) -> ChallengeRecord:
    """Return a challenge record of a lineage's only name."""
    return ChallengeRecord(lineage, f"_acme-challenge.{lineage}.example.com", value, created_at)


class VersionsContract:
    """`lineages`, `versions`, `bundle`, `save_version`, `save_revocation`."""

    def test_new_state_knows_nothing(self, store: StateStore) -> None:
        """Lists of a new state are empty. A missing version number is an error."""
        assert () == store.lineages()
        assert () == store.versions("img")
        with pytest.raises(StateError, match="img has no version 1"):
            store.bundle("img", 1)
        store.must_unseal()
        assert () == store.unopened()

    def test_state_that_has_a_secret_is_sealed(self, store: StateStore, other: StateStore) -> None:
        """A state with a secret is sealed, and the store opens every secret in the state."""
        save(store, "img", make_bundle("img.example.com", not_before=NOW))
        store.save_account(AcmeAccount(DIRECTORY, make_key()))

        assert other.is_sealed()
        assert () == other.unopened()

    def test_saved_version_is_read_back_by_others(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Facts, chain and key come back unchanged, in another process too."""
        bundle = make_bundle("img.example.com", "*.img.example.com", not_before=NOW)

        saved = save(store, "img", bundle)

        assert first_version(bundle) == saved
        assert (saved,) == other.versions("img")
        assert bundle == other.bundle("img", 1)

    def test_moment_may_be_written_in_any_time_zone(self, store: StateStore) -> None:
        """The same moment comes back, to the microsecond."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        save(store, "img", bundle, NOW.astimezone(timezone(timedelta(hours=8))))

        assert [NOW] == [version.saved_at for version in store.versions("img")]

    def test_versions_are_numbered_in_their_lineage_newest_first(self, store: StateStore) -> None:
        """Each lineage numbers its versions from 1, and lists the newest version first."""
        for lineage in ("img", "img", "static"):
            save(store, lineage, make_bundle("img.example.com", not_before=NOW))

        assert [2, 1] == [version.number for version in store.versions("img")]
        assert [1] == [version.number for version in store.versions("static")]

    def test_lineages_are_in_the_order_of_their_names(self, store: StateStore) -> None:
        """`lineages` has lineages with a version; a lease alone makes no lineage."""
        store.acquire("leased", NOW)
        for lineage in ("static", "img", "图片", "img"):
            save(store, lineage, make_bundle("img.example.com", not_before=NOW))

        assert ("img", "static", "图片") == store.lineages()

    def test_same_certificate_twice_is_the_same_version(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A certificate that is saved again keeps its version, as after a killed run."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        first = save(store, "img", bundle)
        save(store, "img", make_bundle("img.example.com", not_before=NOW))

        assert first == save(other, "img", bundle, LATER)
        assert [2, 1] == [version.number for version in store.versions("img")]

    def test_same_certificate_may_belong_to_two_lineages(self, store: StateStore) -> None:
        """Each lineage has its own version of the certificate."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        save(store, "img", bundle)
        save(store, "static", bundle)

        assert bundle == store.bundle("img", 1) == store.bundle("static", 1)

    def test_certificate_that_came_without_its_key_and_chain_is_completed(
        self, store: StateStore
    ) -> None:
        """A second save adds key and chain to the same version, which can then be deployed."""
        whole = make_bundle("img.example.com", not_before=NOW)
        torn = parse_bundle(whole.cert_pem, make_key())

        first = save(store, "img", torn)
        assert (False, False) == (first.key_matches, first.chain_complete)
        assert torn == store.bundle("img", 1)

        second = save(store, "img", whole, LATER)
        assert first_version(whole) == second
        assert (second,) == store.versions("img")
        assert whole == store.bundle("img", 1)

    def test_key_that_fits_is_not_replaced_by_one_that_does_not(self, store: StateStore) -> None:
        """A second save with a wrong key, or with a shorter chain, changes nothing."""
        whole = make_bundle("img.example.com", not_before=NOW)
        save(store, "img", whole)
        save(store, "img", parse_bundle(whole.fullchain_pem, make_key()))
        save(store, "img", parse_bundle(whole.cert_pem, whole.privkey_pem))

        assert whole == store.bundle("img", 1)
        assert (first_version(whole),) == store.versions("img")

    def test_same_leaf_with_another_chain_replaces_the_chain(
        self, store: StateStore, other: StateStore
    ) -> None:
        """The version keeps its number, and has the chain of the last save."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        save(store, "img", bundle)
        newer = with_another_chain(bundle)

        replaced = save(store, "img", newer, LATER)

        assert first_version(newer) == replaced
        assert (replaced,) == other.versions("img")
        assert newer == other.bundle("img", 1)

    def test_where_a_certificate_was_ordered(self, store: StateStore, other: StateStore) -> None:
        """A version has the directory of its order. An adopted certificate has no directory."""
        order = make_order("img")
        lease = store.acquire("img", NOW)
        store.save_order(lease, order)
        saved = store.save_version(lease, make_bundle(*order.names, not_before=NOW), NOW)
        assert order.directory == saved.directory
        assert (saved,) == other.versions("img")

        store.save_order(lease, order)
        adopted = store.save_version(lease, make_bundle("b.example.com", not_before=NOW), NOW)
        assert None is adopted.directory
        assert (adopted, saved) == other.versions("img")

    def test_revocation_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """A revocation belongs to a single version, and is saved under a lease in force."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        for saved in (bundle, make_bundle("img.example.com", not_before=NOW)):
            save(store, "img", saved)
        revocation = Revocation(LATER, RevocationReason.KEY_COMPROMISE)
        lease = store.acquire("img", NOW)

        store.save_revocation(lease, 1, revocation)

        assert [None, revocation] == [v.revocation for v in other.versions("img")]
        assert revocation == store.save_version(lease, bundle, LATER).revocation
        store.save_revocation(lease, 2, None)
        assert [None, revocation] == [v.revocation for v in other.versions("img")]
        store.release(lease)
        with pytest.raises(LeaseLost):
            store.save_revocation(lease, 2, revocation)

    def test_revocation_that_is_begun_is_read_back(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A begun revocation is stored as unanswered, until the CA answers or the run gives up."""
        save(store, "img", make_bundle("img.example.com", not_before=NOW))
        begun = Revocation(LATER, RevocationReason.SUPERSEDED, is_answered=False)
        lease = store.acquire("img", NOW)

        for revocation in (begun, replace(begun, is_answered=True), None):
            store.save_revocation(lease, 1, revocation)
            assert [revocation] == [version.revocation for version in other.versions("img")]

    def test_renewal_window_belongs_to_its_certificate(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A version has its window, the window's page and the moment of the next query.

        Information about a certificate outside the lineage is ignored.
        """
        older, newer, strange = (make_bundle("img.example.com", not_before=NOW) for _ in range(3))
        first, second = (save(store, "img", bundle) for bundle in (older, newer))
        save(store, "static", newer)
        window = RenewalWindow(NOW, LATER, "https://ca.example/why")

        store.save_renewal_info("img", newer.certificate.fingerprint, window, LATER)
        store.save_renewal_info("img", strange.certificate.fingerprint, window, LATER)

        with_window = replace(second, window=window, ask_after=LATER)
        assert (with_window, first) == other.versions("img")
        assert [None] == [version.window for version in other.versions("static")]

        store.save_renewal_info("img", newer.certificate.fingerprint, None, NOW)
        assert replace(second, ask_after=NOW) == other.remembered("img").versions[0]


def first_version(bundle: CertificateBundle) -> Version:
    """Return the expected first version of a lineage."""
    return Version(
        1,
        bundle.certificate,
        NOW,
        fullchain_digest=bundle.fullchain_digest,
        issuer_not_after=bundle.issuer_not_after,
    )


def save(
    store: StateStore, lineage: str, bundle: CertificateBundle, now: datetime = NOW
) -> Version:
    """Save a version under a new lease, and return the version."""
    lease = store.acquire(lineage, now)
    try:
        return store.save_version(lease, bundle, now)
    finally:
        store.release(lease)
