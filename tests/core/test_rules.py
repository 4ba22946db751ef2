"""Why a certificate is issued, one rule each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certferry.core.certificate import KeyType
from certferry.core.desired import DesiredCertificate, PemFiles
from certferry.core.ferried import why_adopt
from certferry.core.observed import Observation
from certferry.core.ordered import Ordered
from certferry.core.reasons import ReasonCode
from certferry.core.rules import first_violated
from tests.core.strategies import NOW, certificate, version
from tests.core.test_planner import CURRENT, wish, world

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
                world(version(3, CURRENT)), ordered=Ordered(NOW - timedelta(days=6), wish().names)
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
    """It cannot be gone on with, and whoever wanted it has had a week to ask again."""
    ordered = Ordered(NOW - timedelta(days=7), wish().names)
    observed = replace(world(version(3, CURRENT)), ordered=ordered)

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
    observed = replace(world(version(3, CURRENT)), ordered=Ordered(NOW, names, key_type))

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
