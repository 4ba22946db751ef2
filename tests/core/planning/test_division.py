"""How hosts that share a state divide the work, and how what another has seen stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from itertools import combinations

import pytest
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
    """No certificate, an order, a domain on its way or with another certificate: another host may
    be doing it. Where all was seen served, nothing is left, however long ago.
    """
    assert has_open_work(remembered)
    assert not has_open_work(REMEMBERED)


ON_THE_WAY = replace(SEEN[1], accepted_at=NOW, verified_at=None)
BOUND = replace(REMEMBERED, rollouts=(SEEN[0], ON_THE_WAY))


@pytest.mark.parametrize("rollouts", [(SEEN[0], ON_THE_WAY), (ON_THE_WAY,) * 2])
def test_host_that_has_only_to_see_it_served_is_left_to_it(
    rollouts: tuple[RolloutRecord, ...],
) -> None:
    """It is at work, and a target took the newest version at every domain that is not served."""
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
def test_host_that_may_have_more_to_do_is_not_left_to_it(remembered: Remembered) -> None:
    """All was seen served; or one domain was not asked for, failed, has no record or an older
    certificate, or was bound before that host was at work; or there is more to do.
    """
    assert not awaits_another(DESIRED, remembered, NOW)


def test_receiver_of_this_host_waits_for_no_other() -> None:
    """The certificate is installed at once, whatever the other host still has to see."""
    files = delivered(FileDelivery("/etc/nginx/tls"))
    both = replace(DESIRED, deployments=(*DESIRED.deployments, files))
    assert awaits_another(DESIRED, BOUND, NOW)
    assert not awaits_another(both, BOUND, NOW)


# --- Which certificates each of several hosts tries first


names = st.sets(st.text("abcdefgh-", min_size=1, max_size=8), min_size=1, max_size=8)
LINEAGES = [f"img{number}.example.com" for number in range(400)]


def shares(hosts: Collection[str]) -> dict[str, list[str]]:
    """Return with which lineages each host begins, all of which are due alike."""
    owners = {one: [host for host in hosts if owns(host, hosts, one)] for one in LINEAGES}
    first = {host: in_turn(LINEAGES, host, hosts, {}, NOW) for host in hosts}
    counts = Counter(owner for (owner,) in owners.values())
    return {host: first[host][: counts[host]] for host in hosts}


@given(names)
def test_hosts_begin_with_different_parts_of_about_equal_size(hosts: set[str]) -> None:
    """Without talking: no two begin with the same lineage, and none is left out."""
    found = shares(hosts)

    assert sorted(LINEAGES) == sorted(one for part in found.values() for one in part)
    mean = len(LINEAGES) / len(hosts)
    assert all(abs(len(part) - mean) < 6 * mean**0.5 for part in found.values())
    for host in hosts:
        assert sorted(LINEAGES) == sorted(in_turn(LINEAGES, host, hosts, {}, NOW))


@given(names.filter(lambda hosts: len(hosts) > 1))
def test_hosts_that_do_not_know_each_other_begin_with_different_ones(hosts: set[str]) -> None:
    """Each believes all to be its own, and few are among the first of two hosts."""
    first = [in_turn(LINEAGES, host, {host}, {}, NOW)[:20] for host in sorted(hosts)]

    assert all(len({*one} & {*other}) < 10 for one, other in combinations(first, 2))


@given(names.filter(lambda hosts: len(hosts) > 1))
def test_host_that_goes_moves_only_its_own_lineages(hosts: set[str]) -> None:
    """The others keep theirs, and get some more."""
    gone = min(hosts)
    before, after = shares(hosts), shares(hosts - {gone})

    for host, part in after.items():
        assert set(before[host]) <= set(part)
        assert set(part) - set(before[host]) <= set(before[gone])


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_what_is_due_comes_before_the_rest(days: list[int]) -> None:
    """Whosoever share it is; and in a share, what is due soonest."""
    renew_at = {one: NOW + timedelta(days=n) for one, n in zip(LINEAGES, days, strict=False)}
    hosts = ["web-1", "web-2", "web-3"]

    found = in_turn(LINEAGES[:40], "web-2", hosts, renew_at, NOW)

    due = [renew_at.get(one, NOW) for one in found]
    assert [moment <= NOW for moment in due] == sorted((m <= NOW for m in due), reverse=True)
    own = [one for one in found if owns("web-2", hosts, one)]
    assert own == sorted(own, key=lambda one: renew_at.get(one, NOW))
