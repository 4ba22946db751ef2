"""The division of work among hosts that share a state, and the use of another host's
observations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import Withdrawal
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, FileDelivery
from certferry.core.desired.declaration import delivered
from certferry.core.observed.records import Ordered, Remembered, RolloutRecord
from certferry.core.planning.division import (
    awaits_another,
    has_open_work,
    in_turn,
    owns,
    verified_since,
)
from certferry.core.planning.report import Outcome
from certferry.values import replace
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


def test_every_domain_was_seen_since_the_moment() -> None:
    """Each domain is reported as in order."""
    outcomes = verified_since(DESIRED, REMEMBERED, NOW)
    assert {("qiniu", domain) for domain in DOMAINS} == {
        (outcome.target, outcome.domain) for outcome in outcomes
    }
    assert {Outcome.UNCHANGED} == {outcome.outcome for outcome in outcomes}


@given(doubts)
def test_anything_else_has_to_be_observed(remembered: Remembered) -> None:
    """A single domain that is missing, on its way, seen earlier or with another certificate is
    enough, and so is an order or a withdrawn certificate.
    """
    assert not verified_since(DESIRED, remembered, NOW)


def test_receiver_of_this_host_has_its_own_record() -> None:
    """Without a recent record of the receiver, the certificate is installed."""
    files = delivered(FileDelivery("/etc/nginx/tls"))
    with_files = replace(DESIRED, deployments=(*DESIRED.deployments, files))
    assert not verified_since(with_files, REMEMBERED, NOW)


def test_second_target_without_a_record() -> None:
    """The target must be observed, whatever its domains are."""
    other = DesiredDeployment("qiniu-2")
    two_targets = replace(DESIRED, deployments=(*DESIRED.deployments, other))
    assert not verified_since(two_targets, REMEMBERED, NOW)


@pytest.mark.parametrize(
    "remembered",
    [
        Remembered(),
        replace(REMEMBERED, ordered=Ordered(NOW, DESIRED.names)),
        replace(REMEMBERED, rollouts=(SEEN[0], replace(SEEN[1], verified_at=None))),
        replace(REMEMBERED, rollouts=(replace(SEEN[0], fingerprint="bb" * 32), SEEN[1])),
    ],
)
def test_work_that_is_left(remembered: Remembered) -> None:
    """A missing certificate, an order, and a domain on its way or with another certificate may be
    the work of another host. After all was seen served, the work is done for any length of time.
    """
    assert has_open_work(remembered)
    assert not has_open_work(REMEMBERED)


ON_THE_WAY = replace(SEEN[1], accepted_at=NOW, verified_at=None)
BOUND = replace(REMEMBERED, rollouts=(SEEN[0], ON_THE_WAY))


@pytest.mark.parametrize("rollouts", [(SEEN[0], ON_THE_WAY), (ON_THE_WAY,) * 2])
def test_host_that_waits_for_served_domains_is_left_alone(
    rollouts: tuple[RolloutRecord, ...],
) -> None:
    """The other host is at work, and the target took the newest version for every domain that is
    not served.
    """
    each = zip(rollouts, DOMAINS, strict=True)
    whole = tuple(replace(record, domain=domain) for record, domain in each)
    assert awaits_another(DESIRED, replace(REMEMBERED, rollouts=whole), NOW)


@pytest.mark.parametrize(
    "remembered",
    [
        REMEMBERED,
        replace(BOUND, rollouts=(SEEN[0], replace(ON_THE_WAY, accepted_at=None))),
        replace(
            BOUND, rollouts=(SEEN[0], replace(ON_THE_WAY, accepted_at=NOW - timedelta(seconds=1)))
        ),
        replace(BOUND, rollouts=(SEEN[0], replace(ON_THE_WAY, failed_at=NOW))),
        replace(BOUND, rollouts=(ON_THE_WAY,)),
        replace(BOUND, rollouts=(replace(SEEN[0], fingerprint="bb" * 32), ON_THE_WAY)),
        replace(BOUND, versions=()),
        replace(BOUND, ordered=Ordered(NOW, DESIRED.names)),
        replace(BOUND, withdrawals=(Withdrawal("img", "qiniu", DOMAINS[0], "bb" * 32, NOW),)),
    ],
)
def test_host_with_more_work_is_not_waited_for(remembered: Remembered) -> None:
    """All was seen served; or a domain was not changed, failed, has no record or an older
    certificate, or was bound before that host began; or there is an order or a withdrawal.
    """
    assert not awaits_another(DESIRED, remembered, NOW)


def test_receiver_of_this_host_is_served_at_once() -> None:
    """The certificate is installed while the other host still waits for served domains."""
    files = delivered(FileDelivery("/etc/nginx/tls"))
    with_files = replace(DESIRED, deployments=(*DESIRED.deployments, files))
    assert awaits_another(DESIRED, BOUND, NOW)
    assert not awaits_another(with_files, BOUND, NOW)


# --- The order of certificates at each of several hosts


names = st.sets(st.text("abcdefgh-", min_size=1, max_size=8), min_size=1, max_size=8)
LINEAGES = [f"img{number}.example.com" for number in range(400)]


def shares(hosts: Collection[str]) -> dict[str, list[str]]:
    """Return the lineages with which each host begins, all equally due."""
    owners = {
        lineage: [host for host in hosts if owns(host, hosts, lineage)] for lineage in LINEAGES
    }
    first = {host: in_turn(LINEAGES, host, hosts, {}, NOW) for host in hosts}
    counts = Counter(owner for (owner,) in owners.values())
    return {host: first[host][: counts[host]] for host in hosts}


@given(names)
def test_hosts_begin_with_different_parts_of_about_equal_size(hosts: set[str]) -> None:
    """Without messages between hosts, each lineage is first at exactly one host."""
    parts = shares(hosts)

    assert sorted(LINEAGES) == sorted(lineage for part in parts.values() for lineage in part)
    mean = len(LINEAGES) / len(hosts)
    assert all(abs(len(part) - mean) < 6 * mean**0.5 for part in parts.values())
    for host in hosts:
        assert sorted(LINEAGES) == sorted(in_turn(LINEAGES, host, hosts, {}, NOW))


@given(names.filter(lambda hosts: len(hosts) > 1))
def test_hosts_unknown_to_each_other_begin_with_different_lineages(hosts: set[str]) -> None:
    """Each host takes all lineages as its own, and two hosts share few of the first twenty."""
    first = [in_turn(LINEAGES, host, {host}, {}, NOW)[:20] for host in sorted(hosts)]

    assert all(len({*part} & {*other}) < 10 for part, other in combinations(first, 2))


@given(names.filter(lambda hosts: len(hosts) > 1))
def test_host_that_goes_moves_only_its_own_lineages(hosts: set[str]) -> None:
    """The other hosts keep their lineages, and get some more."""
    gone = min(hosts)
    before, after = shares(hosts), shares(hosts - {gone})

    for host, part in after.items():
        assert set(before[host]) <= set(part)
        assert set(part) - set(before[host]) <= set(before[gone])


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_due_lineages_come_first(days: list[int]) -> None:
    """Lineages that are due come first, of any share; within the own share, the earliest comes
    first.
    """
    renew_at = {
        lineage: NOW + timedelta(days=n) for lineage, n in zip(LINEAGES, days, strict=False)
    }
    hosts = ["web-1", "web-2", "web-3"]

    order = in_turn(LINEAGES[:40], "web-2", hosts, renew_at, NOW)

    due = [renew_at.get(lineage, NOW) for lineage in order]
    assert [moment <= NOW for moment in due] == sorted((m <= NOW for m in due), reverse=True)
    own = [lineage for lineage in order if owns("web-2", hosts, lineage)]
    assert own == sorted(own, key=lambda lineage: renew_at.get(lineage, NOW))
