"""The addresses that count as refusing a certificate."""

from __future__ import annotations

import pytest

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import DomainState, ObservedDomain, Served
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.rollbacks import all_work, with_refusal
from certferry.errors import Problem
from certferry.text import Text
from tests.core.strategies import NOW

WORKS = Served("192.0.2.1", "ab" * 32, valid=True)


@pytest.mark.parametrize(
    ("code", "refuses"),
    [(EdgeProblemCode.HANDSHAKE_FAILED, True), (EdgeProblemCode.NOT_ASKED, False)],
)
def test_address_that_this_host_could_not_ask(code: EdgeProblemCode, *, refuses: bool) -> None:
    """A host without free file handles withdraws no certificate, and proves none."""
    domain = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, None)
    record = RolloutRecord("img", "qiniu", domain.domain, "ab" * 32, NOW, worked_before=True)
    served = [WORKS, Served("192.0.2.2", None, valid=False, problem=Problem(code, Text("no")))]

    after = with_refusal(record, domain, served, NOW)

    assert (after.refused_since is not None) is refuses
    assert not all_work(served)
    assert all_work([WORKS])
