"""The choice of domains for a deployment, and the obstacles of patterns without a match."""

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
def test_chosen_domains_are_covered_and_meant(
    domains: tuple[str, ...] | None, globs: tuple[str, ...], exclude: tuple[str, ...]
) -> None:
    """Each covered domain that the deployment means is either wanted or excluded; a named domain is
    in neither list.
    """
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
        assert [other for other in THERE if not covered_by(NAMES, other)] == chosen.uncovered


def test_wildcard_domain_under_a_glob() -> None:
    """The wildcard domain is matched by a star before its name, and can be left out or taken
    separately.
    """
    below = choose(look((), ("*.example.com",)), THERE)
    others = choose(look((), ("*.example.com",), (".example.com",)), THERE)

    expected = ["*.example.com", "img.example.com", "img-1.example.com", "a.img.example.com"]
    assert (expected, []) == (below.wanted, below.excluded)
    assert (expected[1:], ["*.example.com"]) == (others.wanted, others.excluded)


def test_word_that_selects_a_domain() -> None:
    """The plan shows the word of the file; a domain that is named needs no such word."""
    assert "auto" == found_by(DesiredDeployment("qiniu"), "img.example.com")
    globs = DesiredDeployment("qiniu", ("img.example.com",), globs=("*.org", "*.com"))
    assert "*.com" == found_by(globs, "www.example.com")
    assert None is found_by(globs, "img.example.com")
    assert None is found_by(globs, "img.example.net")


# --- The plan and its sentences

CURRENT = certificate("aa" * 32, NAMES)


def domain(name: str, *, seen_ago: timedelta | None = None) -> ObservedDomain:
    """Return a domain without HTTPS, last seen served some time ago or never."""
    last = None
    if seen_ago is not None:
        last = RolloutRecord(
            LINEAGE,
            "qiniu",
            name,
            "aa" * 32,
            NOW - seen_ago,
            NOW - seen_ago,
            verified_at=NOW - seen_ago,
        )
    return ObservedDomain(name, Kind.CDN, DomainState.READY, last=last)


def observed(deployment: DesiredDeployment, target: ObservedTarget) -> Observation:
    reported = with_unmatched(replace(target, label="qiniu"), deployment)
    return Observation(versions=(version(1, CURRENT),), targets=(reported,))


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
def test_new_domain_is_reported_with_the_word_that_selects_it(
    deployment: DesiredDeployment, words: str
) -> None:
    """Served domains are left out of the sentence; the code gives the reason, as for any other
    domain.
    """
    there = (domain("img.example.com", seen_ago=timedelta(days=1)), domain("img-1.example.com"))

    plan = planned(deployment, ObservedTarget(domains=there))

    new = f'new to the certificate, found by domains = "{words}"; HTTPS is off → will be turned on'
    assert {"img.example.com": "HTTPS is off → will be turned on", "img-1.example.com": new} == why(
        plan
    )
    assert {ReasonCode.HTTPS_OFF} == {s.reason.code for s in plan.steps if isinstance(s, Deploy)}


@pytest.mark.parametrize(
    ("deployment", "seen_ago"),
    [
        (DesiredDeployment("qiniu", ("img.example.com", "www.example.com")), timedelta(days=1)),
        (DesiredDeployment("qiniu"), timedelta(seconds=30)),
        (DesiredDeployment("qiniu"), None),
    ],
    ids=["named", "the first was seen in this run", "none was seen"],
)
def test_domains_that_are_not_new(
    deployment: DesiredDeployment, seen_ago: timedelta | None
) -> None:
    """In a first run every domain counts as old, and so does a domain that the operator named."""
    there = (domain("img.example.com", seen_ago=seen_ago), domain("www.example.com"))

    assert (
        "HTTPS is off → will be turned on"
        == why(planned(deployment, ObservedTarget(domains=there)))["www.example.com"]
    )


def test_glob_that_matches_nothing_is_an_obstacle() -> None:
    """The obstacle has a hint, and domains of the other globs are deployed."""
    deployment = DesiredDeployment("qiniu", (), globs=("img.*", "*.example.ogr"))

    plan = planned(deployment, ObservedTarget(domains=(domain("img.example.com"),)))

    [obstacle] = plan.having(Weight.BLOCKED)
    assert (
        "*.example.ogr matches no online domain of the account qiniu that the certificate covers"
    ) == str(obstacle.problem.message)
    assert "target_rejected" == obstacle.problem.code
    assert obstacle.problem.hint
    assert {"img.example.com"} == set(why(plan))


def test_glob_that_matches_domains_of_other_certificates_is_in_order() -> None:
    """The glob has a match, and another certificate has the better claim."""
    deployment = DesiredDeployment("qiniu", (), globs=("img.*",))
    reported = with_unmatched(ObservedTarget(domains=(domain("img.example.com"),)), deployment)

    plan = planned(
        deployment, ObservedTarget(owned_elsewhere=("other",), excluded=("img.example.com",))
    )

    assert () == reported.unmatched
    assert () == plan.having(Weight.BLOCKED)


def test_exclude_that_leaves_nothing_is_an_obstacle() -> None:
    """The account has domains, but `exclude` removes all: the sentence says so."""
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
    """The sentence has the names of the certificate, the hint has the closest domains of the
    account, so that a slip is visible, and the command that reads the DNS account.
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
    """The hint asks for a domain instead of a correction."""
    plan = planned(DesiredDeployment("qiniu"), ObservedTarget())

    [obstacle] = plan.having(Weight.BLOCKED)
    assert "the account has no domain yet: add it at the target first" == str(obstacle.problem.hint)


def test_kind_may_leave_the_domain_out() -> None:
    """The observation lacks domains of other kinds, so the hint names the setting."""
    deployment = DesiredDeployment("qiniu", kind=Kind.CDN)
    seen = ObservedTarget(), ObservedTarget(uncovered=("www.example.com",))

    plans = [planned(deployment, target) for target in seen]

    hints = [str(plan.having(Weight.BLOCKED)[0].problem.hint) for plan in plans]
    remark = '; or remove kind = "cdn", which leaves domains of other kinds out'
    assert [True, True] == [hint.endswith(remark) for hint in hints]


def test_account_whose_domain_is_switched_off() -> None:
    """The domain is covered, so the names are right."""
    off = replace(domain("img.example.com"), problem=TargetRejected(Text("it is offline")))

    plan = planned(DesiredDeployment("qiniu"), ObservedTarget(left_out=(off,)))

    [obstacle] = plan.having(Weight.BLOCKED)
    assert str(obstacle.problem.message).endswith("is online")
    assert "bring the domain online" in str(obstacle.problem.hint)


def test_excluded_name_without_a_domain_is_a_notice() -> None:
    """A misspelt name leaves its domain deployed, so the plan reports the name; a glob may be for
    later domains.
    """
    deployment = DesiredDeployment("qiniu", exclude=("tset.example.com", ".example.com", "x*"))
    target = ObservedTarget(domains=(domain("img.example.com"),), excluded=("*.example.com",))

    plan = planned(deployment, target)

    [remark] = plan.having(Weight.UNMATCHED)
    assert "`exclude` lists tset.example.com, which the deployment would not contain anyway" == str(
        remark.problem.message
    )
    assert () == plan.having(Weight.BLOCKED)
    assert {"img.example.com"} == set(why(plan))


def test_glob_without_a_match_at_a_partly_unreadable_target() -> None:
    """An unread domain may match, so the glob is a notice. With all domains unread the glob is an
    obstacle.
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


def test_status_agrees_with_the_plan() -> None:
    """Status reports patterns without a match, and lists an unreadable target by the patterns of
    the file.
    """
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
        domain.domain for domain in status_of(declared(deployment), failed, NOW).domains
    ]
