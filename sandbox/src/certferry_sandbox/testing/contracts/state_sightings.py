"""The contract of what runs saw where certificates are to be served."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Revocation, RevocationReason
from certferry.ports.state import StateStore
from certferry_sandbox.testing.certificates import make_bundle

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

IMG = Sighting("img", "qiniu", "img.example.com", served=True, since=NOW, fingerprint="ab" * 32)
OTHER = Sighting("img", "qiniu", "www.example.com", served=False, since=NOW)


class SightingsContract:
    """`sightings`, changed whole, and `versions_in_use`."""

    def test_sightings_are_read_back(self, store: StateStore, other: StateStore) -> None:
        """By lineage, target and domain; one that is left out is gone."""
        assert () == store.sightings()

        assert (IMG, OTHER) == store.update_sightings(lambda _: (OTHER, IMG))
        assert (IMG, OTHER) == other.sightings()

        later = replace(OTHER, served=True, since=NOW + timedelta(days=1), fingerprint="cd" * 32)
        other.update_sightings(lambda known: (later,) if IMG in known else ())
        assert (later,) == store.sightings()

    def test_versions_in_use_are_the_newest_and_what_a_place_has(
        self, store: StateStore, other: StateStore
    ) -> None:
        """Of every lineage; an earlier one that no place has is not among them."""
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

        found = other.versions_in_use()
        assert {"img": [third, first], "other": [second]} == {
            lineage: [version.certificate.fingerprint for version in versions]
            for lineage, versions in found.items()
        }
        assert store.versions("img")[0] == found["img"][0]

    def test_version_whose_revocation_did_not_end_is_in_use(self, store: StateStore) -> None:
        """As long as its CA has not answered."""
        lease = store.acquire("img", NOW)
        for _ in range(2):
            store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
        for is_answered, expected in ((False, [2, 1]), (True, [2])):
            said = Revocation(NOW, RevocationReason.SUPERSEDED, is_answered=is_answered)
            store.save_revocation(lease, 1, said)
            found = store.versions_in_use()["img"]
            assert expected == [version.number for version in found]
