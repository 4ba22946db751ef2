"""Which domains a deployment is for, and what is said of patterns that match nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.status import WHOLE_ACCOUNT, Standing, status_of
from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.names import match_of
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.observed.inferred import with_unmatched
from certferry.core.observed.observation import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
)
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.choice import choose, found_by
from certferry.core.planning.plan import Deploy, Plan, Weight
from certferry.core.planning.planner import make_plan
from certferry.core.planning.timing import Times
from certferry.core.reasons import ReasonCode
from certferry.errors import TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry.text import Text
from certferry.values import replace
from tests.core.strategies import LINEAGE, NOW, certificate, version

NAMES = ("example.com", "*.example.com", "*.img.example.com")
THERE = (
    "example.com",
    "*.example.com",
    "img.example.com",
    "img-1.example.com",
    "a.img.example.com",
    "a.b.img.example.com",
    "www.example.org",
)
patterns = st.lists(
    st.sampled_from(["*", "*.example.com", "img*", "*.img.example.com", "*a*", "x*"]), max_size=2
).map(tuple)
named = st.one_of(st.none(), st.lists(st.sampled_from(THERE), max_size=2).map(tuple))


def look(
    domains: tuple[str, ...] | None = None,
    globs: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> Scope:
    return Scope(LINEAGE, NAMES, domains, Kind.AUTO, (), globs=globs, exclude=exclude)


@given(named, patterns, patterns)
def test_what_is_found_is_covered_meant_and_not_excluded(
    domains: tuple[str, ...] | None, globs: tuple[str, ...], exclude: tuple[str, ...]
) -> None:
    """Each covered domain that is meant is wanted or excluded, and what is named is neither."""
    chosen = choose(look(domains, globs, exclude), THERE)

    meant = {
        domain
        for domain in THERE
        if covered_by(NAMES, domain)
        and domain not in (domains or ())
        and (domains is None or match_of(globs, domain))
    }
    assert meant == {*chosen.wanted, *chosen.excluded}
    assert {domain for domain in meant if match_of(exclude, domain)} == set(chosen.excluded)
    assert not set(chosen.wanted) & set(chosen.excluded)
    if domains is None or globs:
        assert [one for one in THERE if not covered_by(NAMES, one)] == chosen.uncovered


def test_wildcard_domain_under_a_glob() -> None:
    """It is one of those below its name, and can be left out or taken by itself."""
    below = choose(look((), ("*.example.com",)), THERE)
    others = choose(look((), ("*.example.com",), (".example.com",)), THERE)

    expected = ["*.example.com", "img.example.com", "img-1.example.com", "a.img.example.com"]
    assert (expected, []) == (below.wanted, below.excluded)
    assert (expected[1:], ["*.example.com"]) == (others.wanted, others.excluded)


def test_what_finds_a_domain() -> None:
    """The word of the file, for the plan; a name needs no word."""
    assert "auto" == found_by(DesiredDeployment("qiniu"), "img.example.com")
    globs = DesiredDeployment("qiniu", ("img.example.com",), globs=("*.org", "*.com"))
    assert "*.com" == found_by(globs, "www.example.com")
    assert None is found_by(globs, "img.example.com")
    assert None is found_by(globs, "img.example.net")


# --- what is planned and reported -------------------------------------------------------

CURRENT = certificate("aa" * 32, NAMES)


def domain(name: str, *, seen: timedelta | None = None) -> ObservedDomain:
    """A domain without HTTPS, which was or was not seen served some time ago."""
    last = None
    if seen is not None:
        last = RolloutRecord(
            LINEAGE, "qiniu", name, "aa" * 32, NOW - seen, NOW - seen, verified_at=NOW - seen
        )
    return ObservedDomain(name, Kind.CDN, DomainState.READY, last=last)


def observed(deployment: DesiredDeployment, target: ObservedTarget) -> Observation:
    found = with_unmatched(replace(target, label="qiniu"), deployment)
    return Observation(versions=(version(1, CURRENT),), targets=(found,))


def declared(deployment: DesiredDeployment) -> DesiredCertificate:
    return DesiredCertificate(LINEAGE, NAMES, "dnspod", deployments=(deployment,))


def planned(deployment: DesiredDeployment, target: ObservedTarget) -> Plan:
    times = Times(NOW, NOW - timedelta(minutes=1))
    return make_plan(declared(deployment), observed(deployment, target), times)


def why(plan: Plan) -> dict[str, str]:
    return {
        step.domain: str(step.reason.message) for step in plan.steps if isinstance(step, Deploy)
    }


@pytest.mark.parametrize(
    ("deployment", "words"),
    [
        (DesiredDeployment("qiniu"), "auto"),
        (DesiredDeployment("qiniu", (), globs=("x*", "*.example.com")), "*.example.com"),
    ],
)
def test_new_domain_is_reported_with_what_found_it(
    deployment: DesiredDeployment, words: str
) -> None:
    """Beside those that are served; the code says what is wrong with it, as for any other."""
    there = (domain("img.example.com", seen=timedelta(days=1)), domain("img-1.example.com"))

    plan = planned(deployment, ObservedTarget(domains=there))

    new = f'new to the certificate, found by domains = "{words}"; HTTPS is off → will be turned on'
    assert {"img.example.com": "HTTPS is off → will be turned on", "img-1.example.com": new} == why(
        plan
    )
    assert {ReasonCode.HTTPS_OFF} == {s.reason.code for s in plan.steps if isinstance(s, Deploy)}


@pytest.mark.parametrize(
    ("deployment", "seen"),
    [
        (DesiredDeployment("qiniu", ("img.example.com", "www.example.com")), timedelta(days=1)),
        (DesiredDeployment("qiniu"), timedelta(seconds=30)),
        (DesiredDeployment("qiniu"), None),
    ],
    ids=["named", "the first was seen in this run", "none was seen"],
)
def test_nothing_else_is_new(deployment: DesiredDeployment, seen: timedelta | None) -> None:
    """In a first run all are; what is named was written down by the operator."""
    there = (domain("img.example.com", seen=seen), domain("www.example.com"))

    assert (
        "HTTPS is off → will be turned on"
        == why(planned(deployment, ObservedTarget(domains=there)))["www.example.com"]
    )


def test_glob_that_matches_nothing_is_an_obstacle() -> None:
    """With what to do; what the other globs match goes on."""
    deployment = DesiredDeployment("qiniu", (), globs=("img.*", "*.example.ogr"))

    plan = planned(deployment, ObservedTarget(domains=(domain("img.example.com"),)))

    [obstacle] = plan.having(Weight.BLOCKED)
    assert (
        "*.example.ogr matches no online domain of the account qiniu that the certificate covers"
    ) == str(obstacle.problem.message)
    assert "target_rejected" == obstacle.problem.code
    assert obstacle.problem.hint
    assert {"img.example.com"} == set(why(plan))


def test_glob_that_matches_what_others_serve_is_in_order() -> None:
    """It matches, and another certificate has the better claim."""
    deployment = DesiredDeployment("qiniu", (), globs=("img.*",))
    found = with_unmatched(ObservedTarget(domains=(domain("img.example.com"),)), deployment)

    plan = planned(
        deployment, ObservedTarget(owned_elsewhere=("other",), excluded=("img.example.com",))
    )

    assert () == found.unmatched
    assert () == plan.having(Weight.BLOCKED)


def test_exclude_that_leaves_nothing_is_an_obstacle() -> None:
    """The account has domains, and every one is taken away: said instead of "nothing is there"."""
    deployment = DesiredDeployment("qiniu", exclude=("img*",))
    target = ObservedTarget(excluded=("img.example.com", "img-1.example.com"))

    plan = planned(deployment, target)

    [obstacle] = plan.having(Weight.BLOCKED)
    assert (
        "`exclude` excludes every covered domain of the account qiniu: img.example.com,"
        " img-1.example.com"
    ) == str(obstacle.problem.message)
    assert obstacle.problem.hint
    assert "all_excluded" == obstacle.problem.code
    assert () == plan.steps
    [row] = status_of(declared(deployment), observed(deployment, target), NOW).domains
    assert (WHOLE_ACCOUNT, Standing.UNKNOWN) == (row.domain, row.standing)


def test_account_without_a_domain_for_the_certificate() -> None:
    """Both sides are named: what the certificate is for, and what the account has that is nearest,
    so that a slip is seen; and where the DNS account is looked at.
    """
    deployment = DesiredDeployment("qiniu")
    there = ("b.example.org", "www.example.com", "imgg.example.com", "a", "c", "d")

    plan = planned(deployment, ObservedTarget(uncovered=there))

    [obstacle] = plan.having(Weight.BLOCKED)
    names = ", ".join(declared(deployment).names)
    assert f"no domain of the account qiniu is covered by {names}" == str(obstacle.problem.message)
    assert (
        "the account has imgg.example.com, www.example.com, a, b.example.org, c, and 1 more:"
        " correct `names`, or add the domain at the target; `certferry doctor img` also looks for"
        f" the zones of {names} in the DNS account"
    ) == str(obstacle.problem.hint)


def test_account_without_any_domain() -> None:
    """There is nothing to be corrected."""
    plan = planned(DesiredDeployment("qiniu"), ObservedTarget())

    [obstacle] = plan.having(Weight.BLOCKED)
    assert "the account has no domain yet: add it at the target first" == str(obstacle.problem.hint)


def test_account_whose_domain_is_switched_off() -> None:
    """It is covered, so the names are right."""
    off = replace(domain("img.example.com"), problem=TargetRejected(Text("it is offline")))

    plan = planned(DesiredDeployment("qiniu"), ObservedTarget(left_out=(off,)))

    [obstacle] = plan.having(Weight.BLOCKED)
    assert str(obstacle.problem.message).endswith("is online")
    assert "bring the domain online" in str(obstacle.problem.hint)


def test_excluded_name_that_no_domain_has_is_reported_and_stands_in_no_way() -> None:
    """Misspelt, it leaves deployed to what it means; a glob may be for domains to come."""
    deployment = DesiredDeployment("qiniu", exclude=("tset.example.com", ".example.com", "x*"))
    target = ObservedTarget(domains=(domain("img.example.com"),), excluded=("*.example.com",))

    plan = planned(deployment, target)

    [remark] = plan.having(Weight.UNMATCHED)
    assert "`exclude` lists tset.example.com, which the deployment would not contain anyway" == str(
        remark.problem.message
    )
    assert () == plan.having(Weight.BLOCKED)
    assert {"img.example.com"} == set(why(plan))


def test_what_could_not_be_read_might_be_meant() -> None:
    """While half of the target hides its domains, a glob that matches nothing is only reported,
    unless nothing is left at all.
    """
    deployment = DesiredDeployment("qiniu", (), globs=("img.*", "src.*"))
    unread = (TargetUnavailable(Text("away")),)

    partly = planned(
        deployment, ObservedTarget(domains=(domain("img.example.com"),), unread=unread)
    )
    wholly = planned(deployment, ObservedTarget(unread=unread))

    assert () == partly.having(Weight.BLOCKED)
    assert ["src.*"] == [
        str(remark.error).partition(" ")[0] for remark in partly.having(Weight.UNMATCHED)
    ]
    assert ["img.*", "src.*"] == [
        str(o.error).partition(" ")[0] for o in wholly.having(Weight.BLOCKED)
    ]


def test_status_says_the_same() -> None:
    """What matches nothing, and what cannot be asked for: by the patterns of the file."""
    deployment = DesiredDeployment(
        "qiniu", ("img.example.com",), globs=("x*",), exclude=("tset.example.com",)
    )
    target = ObservedTarget(domains=(domain("img.example.com"),))

    status = status_of(declared(deployment), observed(deployment, target), NOW)
    failed = Observation(targets=(ObservedTarget("qiniu", failure=TargetRejected(Text("no"))),))

    [remark] = status.notices
    assert "qiniu" == remark.subject.target
    assert "`exclude` lists tset.example.com" in str(remark.problem.message)
    [_, row] = status.domains
    assert ("x*", Standing.UNKNOWN) == (row.domain, row.standing)
    assert "x* matches no" in str(row.problem.message if row.problem else None)
    assert ["img.example.com", "x*"] == [
        one.domain for one in status_of(declared(deployment), failed, NOW).domains
    ]
