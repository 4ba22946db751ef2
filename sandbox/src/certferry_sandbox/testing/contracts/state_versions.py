"""The contract of lineages and versions: numbered, found again whole, each certificate once."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version
from certferry.core.certificates.pem import parse_bundle
from certferry.core.certificates.renewal import RenewalWindow
from certferry.errors import LeaseLost, StateError
from certferry.ports.state import StateStore
from certferry_sandbox.testing.certificates import make_bundle, make_key, with_another_chain
from certferry_sandbox.testing.contracts.state_leases import make_order

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)


class VersionsContract:
    """`lineages`, `versions`, `bundle`, `save_version`, `save_revocation`."""

    def test_new_state_knows_nothing(self, store: StateStore) -> None:
        """What is not there is empty, not an error; a version that is asked for by number is."""
        assert () == store.lineages()
        assert () == store.versions("img")
        with pytest.raises(StateError, match="img has no version 1"):
            store.bundle("img", 1)
        store.must_unseal()

    def test_saved_version_is_read_back_by_others(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Facts, chain and key come back as they were saved."""
        bundle = make_bundle("img.example.com", "*.img.example.com", not_before=NOW)

        saved = save(store, "img", bundle)

        assert first_version(bundle) == saved
        assert (saved,) == other.versions("img")
        assert bundle == other.bundle("img", 1)

    def test_moment_may_be_told_in_any_time_zone(self, store: StateStore) -> None:
        """The same moment comes back, to the microsecond."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        save(store, "img", bundle, NOW.astimezone(timezone(timedelta(hours=8))))

        assert [NOW] == [version.saved_at for version in store.versions("img")]

    def test_versions_are_numbered_in_their_lineage_newest_first(self, store: StateStore) -> None:
        """Numbers grow by one, each lineage for itself."""
        for lineage in ("img", "img", "static"):
            save(store, lineage, make_bundle("img.example.com", not_before=NOW))

        assert [2, 1] == [version.number for version in store.versions("img")]
        assert [1] == [version.number for version in store.versions("static")]

    def test_lineages_are_in_the_order_of_their_names(self, store: StateStore) -> None:
        """Only lineages with a version count; an order or a lease makes none."""
        store.acquire("leased", NOW)
        for lineage in ("static", "img", "图片", "img"):
            save(store, lineage, make_bundle("img.example.com", not_before=NOW))

        assert ("img", "static", "图片") == store.lineages()

    def test_same_certificate_twice_is_the_same_version(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A run that was killed after saving may save again."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        first = save(store, "img", bundle)
        save(store, "img", make_bundle("img.example.com", not_before=NOW))

        assert first == save(other, "img", bundle, LATER)
        assert [2, 1] == [version.number for version in store.versions("img")]

    def test_same_certificate_may_belong_to_two_lineages(self, store: StateStore) -> None:
        """Lineages share nothing."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        save(store, "img", bundle)
        save(store, "static", bundle)

        assert bundle == store.bundle("img", 1) == store.bundle("static", 1)

    def test_certificate_that_came_without_its_key_and_chain_is_completed(
        self, store: StateStore
    ) -> None:
        """Saved again with both it is the same version, and can now be deployed."""
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
        """Saved again with a worse key or chain, the version stays as it was."""
        whole = make_bundle("img.example.com", not_before=NOW)
        save(store, "img", whole)
        save(store, "img", parse_bundle(whole.fullchain_pem, make_key()))
        save(store, "img", parse_bundle(whole.cert_pem, whole.privkey_pem))

        assert whole == store.bundle("img", 1)
        assert (first_version(whole),) == store.versions("img")

    def test_same_leaf_with_another_chain_replaces_the_chain(
        self, store: StateStore, other: StateStore
    ) -> None:
        """It is the same version, with the issuers that it came with last."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        save(store, "img", bundle)
        newer = with_another_chain(bundle)

        replaced = save(store, "img", newer, LATER)

        assert first_version(newer) == replaced
        assert (replaced,) == other.versions("img")
        assert newer == other.bundle("img", 1)

    def test_where_a_certificate_was_ordered(self, store: StateStore, other: StateStore) -> None:
        """The directory of its order; of one that was made elsewhere, it is not known."""
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
        """Of this version alone."""
        bundle = make_bundle("img.example.com", not_before=NOW)
        for one in (bundle, make_bundle("img.example.com", not_before=NOW)):
            save(store, "img", one)
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
        """As one that the CA has not answered, until it has, or it is taken back."""
        save(store, "img", make_bundle("img.example.com", not_before=NOW))
        begun = Revocation(LATER, RevocationReason.SUPERSEDED, is_answered=False)
        lease = store.acquire("img", NOW)

        for said in (begun, replace(begun, is_answered=True), None):
            store.save_revocation(lease, 1, said)
            assert [said] == [version.revocation for version in other.versions("img")]

    def test_renewal_window_belongs_to_its_certificate(
        self, store: StateStore, other: StateStore
    ) -> None:
        """It is kept with that version alone, with its page and the moment of the next question;
        what is said of a certificate that the lineage does not have counts for nothing.
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
    """Give the first version of a lineage, with everything it should have."""
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
    """Save a version under a lease of its own."""
    lease = store.acquire(lineage, now)
    try:
        return store.save_version(lease, bundle, now)
    finally:
        store.release(lease)
