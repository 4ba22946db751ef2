"""What a step changes: as it is for programs, in words for people."""

from __future__ import annotations

import pytest

from certferry.core.observed.observation import Change

OLD, NEW = "0123456789abcdef" * 4, "fedcba9876543210" * 4
ID = "5f3c8a0e7b9d4c21a6f01e37"


@pytest.mark.parametrize(
    ("change", "was", "becomes"),
    [
        (Change("certificate", OLD, NEW, remote_id="5f3c"), OLD[:12], NEW[:12]),
        (Change("certificate", None, NEW, remote_id=ID), ID[:12], NEW[:12]),
        (Change("certificate", None, None), "—", "…"),
        (Change("certificate", None, None, untold=True), "unknown", "…"),
        (Change("http2", None, "true", untold=True), "unknown", "true"),
        (Change("http2", "false", "true"), "false", "true"),
        (Change("privkey.pem", "missing", "delivered"), "missing", "delivered"),
    ],
)
def test_people_read_a_short_form(change: Change, was: str, becomes: str) -> None:
    """A certificate by the beginning of its fingerprint, or by the target's id where no more is
    known of it. What there was not, and what is to come, has a mark that no document has.
    """
    assert (was, becomes) == (change.was, change.becomes)
