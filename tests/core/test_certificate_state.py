"""How a certificate stands by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certferry.core.certificate_state import CertificateState, state_of
from certferry.core.lineage import Version
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.revocation import Revocation, RevocationReason
from certferry.core.status import status_of
from certferry.text import Text
from tests.core.strategies import NOW, version
from tests.core.test_planner import CURRENT, wish, world

THIS = version(3, CURRENT)
REVOKED = replace(THIS, revocation=Revocation(NOW, RevocationReason.SUPERSEDED))
PAST = replace(THIS, certificate=replace(CURRENT, not_after=NOW))
DUE = Reason(ReasonCode.RENEWAL_DUE, Text("renewal due"))


@pytest.mark.parametrize(
    ("current", "reason", "state"),
    [
        (None, None, CertificateState.MISSING),
        (None, DUE, CertificateState.MISSING),
        (THIS, None, CertificateState.VALID),
        (THIS, DUE, CertificateState.DUE),
        (REVOKED, DUE, CertificateState.REVOKED),
        (PAST, None, CertificateState.EXPIRED),
        (PAST, DUE, CertificateState.EXPIRED),
    ],
)
def test_the_worst_word_is_told(
    current: Version | None, reason: Reason | None, state: CertificateState
) -> None:
    """A certificate that is past its end is expired, also where its renewal is due."""
    assert state is state_of(current, reason, NOW)


def test_status_judges_the_version_in_force() -> None:
    """As of the moment of the look."""
    world_ = world(THIS)

    assert CertificateState.VALID is status_of(wish(), world_, NOW).state
    later = CURRENT.not_after + timedelta(seconds=1)
    assert CertificateState.EXPIRED is status_of(wish(), world_, later).state
