"""Why a certificate is issued, one rule each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import KeyType
from certferry.core.certificates.renewal import RenewalWindow
from certferry.core.desired.certificate import DesiredCertificate, PemFiles
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import Ordered, Remembered
from certferry.core.planning.planner import why_adopt
from certferry.core.planning.rules import LEAST_GAP, first_violated
from certferry.core.reasons import ReasonCode
from tests.core.planning.test_planner import CURRENT, wish, world
from tests.core.strategies import NOW, certificate, version

DUE = certificate("aa" * 32, not_before=NOW - timedelta(days=61))


@pytest.mark.parametrize(
    ("desired", "observed", "code"),
    [
        (wish(), world(bound=None), ReasonCode.MISSING),
        (
            replace(wish(), names=("img.example.com", "b.example.com")),
            world(version(3, CURRENT)),
            ReasonCode.NAMES_CHANGED,
        ),
        (
            replace(wish(), key_type=KeyType.RSA4096),
            world(version(3, CURRENT)),
            ReasonCode.KEY_TYPE_CHANGED,
        ),
        (wish(), world(version(3, DUE)), ReasonCode.RENEWAL_DUE),
        (
            wish(),
            replace(
                world(version(3, CURRENT)),
                remembered=Remembered(ordered=Ordered(NOW - timedelta(days=6), wish().names)),
            ),
            ReasonCode.ORDERED,
        ),
    ],
)
def test_each_violated_rule_gives_its_reason(
    desired: DesiredCertificate, observed: Observation, code: ReasonCode
) -> None:
    """The reason has a code for programs and a sentence for people."""
    reason = first_violated(desired, observed, NOW)

    assert reason is not None
    assert code == reason.code
    assert str(reason.message)


def test_order_of_long_ago_is_no_reason() -> None:
    """The CA has dropped it, and the run that wanted it has had a week to ask again."""
    ordered = Ordered(NOW - timedelta(days=7), wish().names)
    observed = replace(world(version(3, CURRENT)), remembered=Remembered(ordered=ordered))

    assert first_violated(wish(), observed, NOW) is None


@pytest.mark.parametrize(
    ("names", "key_type"),
    [
        (("img.example.com", "x.notmine.org"), KeyType.EC256),
        (("b.example.com",), None),
        (wish().names, KeyType.RSA2048),
    ],
)
def test_order_for_what_is_declared_no_more_is_no_reason(
    names: tuple[str, ...], key_type: KeyType | None
) -> None:
    """A slip in the file that was put right orders nothing."""
    observed = replace(
        world(version(3, CURRENT)), remembered=Remembered(ordered=Ordered(NOW, names, key_type))
    )

    assert first_violated(wish(), observed, NOW) is None


def test_order_of_names_is_no_reason() -> None:
    """Names are compared as a set."""
    leaf = certificate("aa" * 32, names=("b.example.com", "img.example.com"))
    desired = replace(wish(), names=("img.example.com", "b.example.com"))

    assert first_violated(desired, world(version(3, leaf)), NOW) is None


@pytest.mark.parametrize(
    ("known", "offered", "words"),
    [
        ("aa", "aa", None),
        (None, "aa", None),
        ("aa", "bb", "holds other issuer certificates for the same leaf"),
    ],
)
def test_ferried_leaf_with_another_chain(
    known: str | None, offered: str, words: str | None
) -> None:
    """What its client changes is adopted; of what was kept long ago, the chain is not known."""
    files = PemFiles("/ssl/fullchain.pem", "/ssl/privkey.pem")
    desired = replace(wish(), files=files, offered=CURRENT, offered_fullchain=offered)
    current = replace(version(3, CURRENT), fullchain_digest=known)

    reason = why_adopt(desired, world(current))

    assert words == (None if reason is None else str(reason.message).partition(" ")[2])
    assert reason is None or reason.code is ReasonCode.FILES_CHANGED


@given(
    st.lists(
        st.tuples(
            st.timedeltas(timedelta(0), timedelta(hours=3)),  # until the next look
            st.timedeltas(timedelta(days=-30), timedelta(days=60)),  # where the CA's window begins
            st.timedeltas(timedelta(hours=1), timedelta(days=90)),  # how long the next one lives
            st.timedeltas(timedelta(0), timedelta(days=1)),  # how far the CA dates it back
        ),
        max_size=30,
    )
)
def test_no_two_certificates_within_an_hour(
    looks: list[tuple[timedelta, timedelta, timedelta, timedelta]],
) -> None:
    """Whatever the CA says, gives, and dates back, while the wish stays as it is."""
    now, issued = NOW, list[datetime]()
    current = version(1, certificate(not_before=NOW, lifetime=timedelta(days=9)))
    for passed, start, lifetime, backdated in looks:
        now += passed
        window = RenewalWindow(now + start, now + start + timedelta(days=1))
        current = replace(current, window=window)
        if first_violated(wish(), world(current), now) is not None:
            issued.append(now)
            leaf = certificate(
                names=wish().names, not_before=now - backdated, lifetime=lifetime + backdated
            )
            current = replace(version(current.number + 1, leaf), saved_at=now)

    assert all(later - former >= LEAST_GAP for former, later in pairwise(issued))


def test_adopted_certificate_that_is_due_is_renewed_at_once() -> None:
    """It came from another client just now, and was issued two months ago."""
    adopted = replace(version(1, DUE), saved_at=NOW)

    reason = first_violated(wish(), world(adopted), NOW)

    assert reason is not None
    assert ReasonCode.RENEWAL_DUE is reason.code


def test_reason_names_the_cas_window_and_page() -> None:
    """Quoted, since the address is the CA's; a window that cannot be its own is not mentioned."""
    leaf = replace(CURRENT, not_before=NOW - timedelta(days=20))
    window = RenewalWindow(
        NOW - timedelta(days=2), NOW - timedelta(days=1), "https://ca.example/\x1b[31mwhy"
    )
    for page, said in ((window.page, "why"), (None, "UTC")):
        known = replace(version(3, leaf), window=replace(window, page=page))
        reason = first_violated(wish(), world(known), NOW)
        assert reason is not None
        assert "the CA asks for renewal between 2026-11-22" in str(reason.message)
        assert str(reason.message).endswith(said)
        assert "\x1b" not in str(reason.message)

    strange = replace(version(3, leaf), window=RenewalWindow(NOW, leaf.not_before))
    assert first_violated(wish(), world(strange), NOW) is None
