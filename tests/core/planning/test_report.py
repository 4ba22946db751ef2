"""How a certificate stands that another host has seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import Withdrawal
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    FileDelivery,
    delivered,
)
from certferry.core.observed.records import Ordered, Remembered, RolloutRecord
from certferry.core.planning.report import Outcome, verified_since
from tests.core.strategies import NOW, certificate, version

DOMAINS = ("a.example.com", "b.example.com")
NEWEST = version(2, certificate("aa" * 32))
DESIRED = DesiredCertificate(
    "img", ("*.example.com",), dns="dns", deployments=(DesiredDeployment("qiniu", DOMAINS),)
)
SEEN = tuple(
    RolloutRecord(
        "img",
        "qiniu",
        domain,
        NEWEST.fingerprint,
        NOW - timedelta(minutes=1),
        verified_at=NOW + timedelta(seconds=30),
    )
    for domain in DOMAINS
)
REMEMBERED = Remembered(versions=(NEWEST,), rollouts=SEEN)

doubts = st.sampled_from(
    [
        replace(REMEMBERED, versions=()),
        replace(REMEMBERED, rollouts=SEEN[:1]),
        replace(REMEMBERED, rollouts=(SEEN[0], replace(SEEN[1], verified_at=None))),
        replace(
            REMEMBERED,
            rollouts=(SEEN[0], replace(SEEN[1], verified_at=NOW - timedelta(seconds=1))),
        ),
        replace(REMEMBERED, rollouts=(SEEN[0], replace(SEEN[1], fingerprint="bb" * 32))),
        replace(REMEMBERED, ordered=Ordered(NOW, DESIRED.names)),
        replace(REMEMBERED, withdrawals=(Withdrawal("img", "qiniu", DOMAINS[0], "bb" * 32, NOW),)),
    ]
)


def test_every_domain_was_seen_since() -> None:
    """Each of them is in order."""
    found = verified_since(DESIRED, REMEMBERED, NOW)
    assert {("qiniu", domain) for domain in DOMAINS} == {(one.target, one.domain) for one in found}
    assert {Outcome.UNCHANGED} == {one.outcome for one in found}


@given(doubts)
def test_anything_else_has_to_be_observed(remembered: Remembered) -> None:
    """One domain that is missing, on its way, seen earlier, or with another certificate is enough;
    so is an order, or a certificate that is not to be bound again.
    """
    assert not verified_since(DESIRED, remembered, NOW)


def test_receiver_of_this_host_has_its_own_record() -> None:
    """Where it has none since, the certificate is installed."""
    files = delivered(FileDelivery("/etc/nginx/tls"))
    both = replace(DESIRED, deployments=(*DESIRED.deployments, files))
    assert not verified_since(both, REMEMBERED, NOW)


def test_second_target_that_nobody_has_seen() -> None:
    """It has to be observed, whichever domains it is for."""
    other = DesiredDeployment("qiniu-2")
    both = replace(DESIRED, deployments=(*DESIRED.deployments, other))
    assert not verified_since(both, REMEMBERED, NOW)
