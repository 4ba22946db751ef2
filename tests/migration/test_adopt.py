"""Taking over what another client made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import PemFiles
from certferry.errors import LeaseHeld
from certferry.migration.home import OldCertificate
from certferry.migration.takeover import adopt, as_remembered
from certferry.reconcile.run import held_lease
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.memory_state import MemoryState

NOW = datetime(2026, 11, 25, tzinfo=UTC)
LINEAGE = "img"


def made(age: int) -> CertificateBundle:
    """Make a certificate that is some days old."""
    return make_bundle("img.example.com", not_before=NOW - timedelta(days=age))


def adopted(state: MemoryState, bundle: CertificateBundle) -> bool:
    """Adopt it."""
    lease = partial(held_lease, state, lambda: NOW)
    return adopt(LINEAGE, bundle, state=state, lease=lease, now=NOW, who="ops@host")


def fingerprints(state: MemoryState) -> list[str]:
    """Give what the lineage has, newest first."""
    return [version.certificate.fingerprint for version in state.versions(LINEAGE)]


def test_it_becomes_the_current_certificate() -> None:
    """With its key, and written down as what happened."""
    state, bundle = MemoryState(), made(10)

    assert adopted(state, bundle)

    assert [bundle.certificate.fingerprint] == fingerprints(state)
    assert bundle == state.bundle(LINEAGE, 1)
    [entry] = state.history(LINEAGE, 10)
    assert ("adopted", "ops@host") == (entry.event, entry.who)


def test_again_it_changes_nothing() -> None:
    """The second time it is known."""
    state, bundle = MemoryState(), made(10)
    adopted(state, bundle)

    assert not adopted(state, bundle)
    assert 1 == len(state.history(LINEAGE, 10))


@pytest.mark.parametrize(("age", "taken"), [(5, True), (20, False)])
def test_only_a_later_certificate_takes_the_place_of_another(age: int, taken: object) -> None:
    """A lineage that has been renewed here does not go back to what the other client had."""
    state, here, there = MemoryState(), made(10), made(age)
    adopted(state, here)

    assert taken is adopted(state, there)

    newest = there if taken else here
    assert newest.certificate.fingerprint == fingerprints(state)[0]


def test_lineage_that_another_run_works_on_is_left_alone() -> None:
    """The lease says whose turn it is."""
    state = MemoryState()
    state.acquire(LINEAGE, NOW)

    with pytest.raises(LeaseHeld):
        adopted(state, made(10))

    assert [] == fingerprints(state)


def inherited(lineage: str, bundle: CertificateBundle) -> OldCertificate:
    """Find a certificate in another client's directory."""
    return OldCertificate(lineage, bundle, PemFiles("f", "k"), "stop")


def test_certificate_that_is_remembered_keeps_its_name() -> None:
    """Whatever its client calls it, and whatever has been made since; others stay as they are."""
    state, bundle = MemoryState(), made(10)
    adopted(state, bundle)
    adopted(state, made(2))
    found = [inherited("img.example.com", bundle), inherited("b", made(5))]

    assert [LINEAGE, "b"] == [one.lineage for one in as_remembered(found, state)]


def test_certificate_that_is_remembered_twice() -> None:
    """The name that its client has for it goes before the other."""
    state, bundle = MemoryState(), made(10)
    adopted(state, bundle)
    state.save_version(state.acquire("z", NOW), bundle, NOW)

    for name in (LINEAGE, "z"):
        assert [name] == [one.lineage for one in as_remembered([inherited(name, bundle)], state)]


@pytest.mark.parametrize("name", [LINEAGE, "img.example.com"])
def test_name_that_is_another_ones_is_not_given_twice(name: str) -> None:
    """Two lineages never share one."""
    state, bundle = MemoryState(), made(10)
    adopted(state, bundle)
    found = [inherited("a", bundle), inherited(name, bundle)]

    names = [one.lineage for one in as_remembered(found, state)]

    assert 2 == len(set(names))
    assert LINEAGE in names
