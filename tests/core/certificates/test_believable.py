"""What a CA gave, judged before it is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.chain import SKEW, must_be_as_ordered
from certferry.errors import CertificateRejected
from certferry_sandbox.testing.certificates import make_bundle
from tests.core.strategies import NOW

NAMES = ("img.example.com", "*.img.example.com")
ORDERED = make_bundle(*NAMES, not_before=NOW)
END = ORDERED.certificate.not_after

names = st.lists(
    st.sampled_from([*NAMES, "evil.example.net", "example.com"]), min_size=1, unique=True
)
moments = st.timedeltas(timedelta(days=-400), timedelta(days=400)).map(lambda ago: NOW + ago)


@given(
    names.map(tuple),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from([NOW - SKEW, NOW, END, END + SKEW]) | moments,
)
def test_certificate_is_believed_only_when_everything_is_as_ordered(
    had: tuple[str, ...], facts: tuple[bool, bool], now: datetime
) -> None:
    """Exactly the names in any order, our key, its issuers, and valid at this moment, give or take
    the clock's error.
    """
    ours, whole = facts
    bundle = replace(
        ORDERED,
        certificate=replace(ORDERED.certificate, names=had),
        key_matches=ours,
        chain_complete=whole,
    )
    in_time = NOW - SKEW <= now < END + SKEW
    as_ordered = set(had) == set(NAMES) and ours and whole and in_time

    assert as_ordered is is_believed(bundle, now)


@pytest.mark.parametrize("now", [NOW, datetime.max.replace(tzinfo=UTC)])
def test_certificate_without_an_end(now: datetime) -> None:
    """A private CA may write the calendar's last second, which no sum reaches beyond."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    bundle = replace(
        ORDERED,
        certificate=replace(ORDERED.certificate, not_after=last),
        issuer_not_after=last,
    )

    assert is_believed(bundle, now)


def test_certificate_of_the_first_day() -> None:
    """Whatever is written, it is the CA's mistake and no crash."""
    first = datetime.min.replace(tzinfo=UTC)
    certificate = replace(ORDERED.certificate, not_before=first, not_after=first)
    bundle = replace(ORDERED, certificate=certificate)

    assert not is_believed(bundle, NOW)


def test_certificate_whose_signer_has_expired() -> None:
    """Clients would refuse the chain, so it is not kept."""
    ended = replace(ORDERED, issuer_not_after=NOW - timedelta(days=1))

    with pytest.raises(CertificateRejected, match="its issuer certificate expired at 20"):
        must_be_as_ordered(ended, NAMES, NOW)


def is_believed(bundle: CertificateBundle, now: datetime) -> bool:
    """Whether nothing is said against it."""
    try:
        must_be_as_ordered(bundle, NAMES, now)
    except CertificateRejected:
        return False
    return True


def test_certificate_of_thousands_of_names_is_told_in_one_line() -> None:
    """The log and the history, which keeps it for ever, are not filled by a stranger."""
    many = tuple(f"n{number}.example.net" for number in range(5000))
    bundle = replace(ORDERED, certificate=replace(ORDERED.certificate, names=many))

    with pytest.raises(CertificateRejected) as caught:
        must_be_as_ordered(bundle, NAMES, NOW)

    assert len(str(caught.value)) < 300
    assert "n0.example.net" in str(caught.value)
    assert caught.value.hint is not None
