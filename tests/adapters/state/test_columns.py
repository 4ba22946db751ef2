"""Moments and windows as they stand in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.state.columns import (
    from_moment,
    to_facts,
    to_moment,
    to_optional_settings,
    to_optional_wish,
    to_text,
    to_validity,
)
from certferry.core.certificates.lineage import Revocation, RevocationReason
from certferry.errors import StateError
from certferry.ports.state import StateStore
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.state.child_program import NOW

moments = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - the zone is drawn beside it
    max_value=datetime(8999, 12, 30),  # noqa: DTZ001 - the zone is drawn beside it
    timezones=st.timezones(),
)


@pytest.mark.parametrize(
    "written", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9000-01-01T00:00:00Z"]
)
def test_moment_at_an_end_of_the_calendar(written: str) -> None:
    """It is none of ours: what is added to one, or taken from it, is a moment again."""
    with pytest.raises(StateError, match="certferry did not write"):
        to_moment(written)


def test_certificate_without_an_end_is_read_back() -> None:
    """The last second of the calendar is what RFC 5280 §4.1.2.5 writes for it."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

    assert last == to_validity(from_moment(last))
    with pytest.raises(StateError):
        to_validity("0001-01-01T00:00:00Z")


@given(moments, moments)
def test_moments_sort_as_text(one: datetime, other: datetime) -> None:
    """The database may compare them without knowing what they are."""
    in_time = one.astimezone(UTC) < other.astimezone(UTC)

    assert in_time == (from_moment(one) < from_moment(other))


@pytest.mark.parametrize(
    "spoilt", ["", "soon", "2026-11-26T12:00:00", "[", "7", "null", "[" * 100_000, "{" * 100_000]
)
@pytest.mark.parametrize("read", [to_moment, to_facts, to_optional_wish, to_optional_settings])
def test_column_that_another_program_wrote(read: Callable[[str], object], spoilt: str) -> None:
    """A state that was tampered with is told as such, whatever stands in it."""
    with pytest.raises(StateError, match="holds what certferry did not write") as caught:
        read(spoilt)

    assert caught.value.hint is not None


@pytest.mark.parametrize("spoilt", ["", "[", "7", "[" * 100_000])
def test_names_that_another_program_wrote(path: Path, store: StateStore, spoilt: str) -> None:
    """The lineage fails with the state's own error."""
    lease = store.acquire("img", NOW)
    store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE version SET names = ?", (spoilt,))

    with pytest.raises(StateError, match="holds what certferry did not write"):
        store.remembered("img")


def test_revocation_that_another_program_wrote(path: Path, store: StateStore) -> None:
    """A reason that there is not is no reason to read on."""
    lease = store.acquire("img", NOW)
    store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
    store.save_revocation(lease, 1, Revocation(NOW, RevocationReason.SUPERSEDED))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE version SET revocation_reason = 'because'")

    with pytest.raises(StateError, match="holds what certferry did not write"):
        store.versions("img")


@pytest.mark.parametrize(
    "written",
    [
        "",
        "{",
        "7",
        "null",
        '{"text": "a"}',
        '{"text": "a", "values": 7}',
        '{"moment": "2026"}',
        '"a"',
    ],
)
def test_a_sentence_that_certferry_did_not_write(written: str) -> None:
    """It is told as that, whatever it is."""
    with pytest.raises(StateError):
        to_text(written)
