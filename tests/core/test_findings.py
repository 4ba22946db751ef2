"""Findings: what is in order, in which order they are reported, and what the core finds itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.cli.exits import Exit, of_problems
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.findings import Code, heaviest_first, of_refusal
from certferry.core.network import REFUSED, WANTED, is_made_up, judge_clock
from certferry.core.observed.observation import ObservedTarget, TargetRules
from certferry.core.planning.safety import judge_at_target, judge_version
from certferry.errors import (
    CaUnavailable,
    CertferryError,
    ClockWrong,
    DnsAccessDenied,
    DnsRejected,
    DnsUnavailable,
    Problem,
    Severity,
    TargetAccessDenied,
    TargetRejected,
    TargetUnavailable,
    ZoneNotFound,
)
from certferry.text import Text
from certferry.values import replace
from tests.core import strategies
from tests.core.strategies import NOW, certificate

subjects = st.sampled_from(["a.test", "b.test"])
found = st.builds(
    Problem,
    st.sampled_from(Code),
    st.just(Text("so")),
    st.none(),
    st.sampled_from(Severity),
    subjects,
)
DESIRED = DesiredCertificate("img", ("img.example.com",), "dnspod")
PAUSED = Text("the domain example.com is paused")


@given(st.lists(found))
def test_one_error_is_enough(findings: list[Problem]) -> None:
    """Warnings and what is to be known leave everything in order; where the only error is that the
    database does not answer, waiting helps.
    """
    errors = {one.code for one in findings if one.severity is Severity.ERROR}
    wrong = Exit.TRY_LATER if errors == {Code.DATABASE_UNAVAILABLE} else Exit.FAILED

    assert (wrong if errors else Exit.OK) is of_problems(findings)


@given(st.lists(found))
def test_heaviest_come_first_and_each_once(findings: list[Problem]) -> None:
    """Nothing is lost but what was found twice."""
    said = heaviest_first(findings)

    weights = [-one.severity.rank for one in said]
    assert sorted(weights) == weights
    identities = [(one.code, one.subject) for one in said]
    assert {(one.code, one.subject) for one in findings} == set(identities)
    assert len(set(identities)) == len(identities)


def test_what_is_wrong_with_a_whole_account_is_reported_once() -> None:
    """Each look at it meets the same, with other words; another account is another matter."""
    refusals = [TargetUnavailable(Text("no answer about {what}", what=what)) for what in "ab"]
    findings = [of_refusal(label, one) for label in ("qiniu", "other") for one in refusals]

    said = [(one.code, one.subject, str(one.message)) for one in heaviest_first(findings)]

    words = "no answer about a"
    assert [(Code.UNREACHABLE, "qiniu", words), (Code.UNREACHABLE, "other", words)] == said


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (ClockWrong("so"), Code.CLOCK_OFF),
        (TargetAccessDenied("so"), Code.KEYS_REFUSED),
        (DnsAccessDenied("so"), Code.KEYS_REFUSED),
        (TargetUnavailable("so"), Code.UNREACHABLE),
        (DnsUnavailable("so"), Code.UNREACHABLE),
        (CaUnavailable("so"), Code.UNREACHABLE),
        (TargetRejected("so"), Code.NOT_LOOKED_AT),
    ],
)
def test_what_keeps_an_account_from_being_looked_at(problem: CertferryError, code: Code) -> None:
    """The clock, the keys, the way there, or something else."""
    assert code == of_refusal("qiniu", problem).code


def test_error_becomes_a_finding_with_its_hint_as_the_fix() -> None:
    """Nothing of it is said again in other words."""
    problem = TargetRejected(Text("it is frozen"), hint=Text("pay the bill"))

    finding = problem.problem("a.test", code=Code.DOMAIN_UNUSABLE)

    assert (problem.message, problem.hint) == (finding.message, finding.hint)
    assert Severity.ERROR is finding.severity


# --- the clock


@given(st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_clock_is_judged_alike_both_ways(ahead: timedelta) -> None:
    """Half a minute is let pass; from a quarter of an hour on requests are refused."""
    one, other = judge_clock("qiniu", "qiniu", ahead), judge_clock("qiniu", "qiniu", -ahead)

    assert (one and one.severity) == (other and other.severity)
    amount = timedelta(seconds=int(abs(ahead).total_seconds()))
    if amount <= WANTED:
        assert one is None
    else:
        assert one is not None
        assert (Severity.ERROR if amount > REFUSED else Severity.WARNING) is one.severity
        assert Code.CLOCK_OFF == one.code


def test_clock_is_reported_by_how_much_and_which_way() -> None:
    """The service's is right, and the machine's is what is set."""
    behind = judge_clock("qiniu", "qiniu", timedelta(minutes=20))
    ahead = judge_clock("qiniu", "qiniu", timedelta(minutes=-20))

    assert behind is not None
    assert ahead is not None
    assert "this host's clock is 20 minutes behind that of qiniu" == str(behind.message)
    assert "this host's clock is 20 minutes ahead of that of qiniu" == str(ahead.message)


# --- addresses


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("198.18.0.5", True),
        ("198.19.255.255", True),
        ("198.20.0.1", False),
        ("0.0.0.0", True),  # noqa: S104 - what a filter answers with
        ("127.0.0.1", True),
        ("::1", True),
        ("::", True),
        ("fc00::7", True),
        ("fd00::7", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_which_addresses_stand_for_no_host(address: str, expected: object) -> None:
    """Those of benchmarks and of proxies, of no host, and of this one."""
    assert expected is is_made_up(address)


@pytest.mark.parametrize("address", ["127.0.0.3", "::1"])
def test_loopback_is_true_at_home(address: str) -> None:
    """In a world that is on loopback as a whole."""
    assert not is_made_up(address, at_home=True)
    assert is_made_up("198.18.0.5", at_home=True)


# --- zones


@given(st.lists(strategies.hostnames, min_size=1, max_size=5, unique=True), strategies.labels)
def test_longest_zone_holds_the_name(zones: list[str], label: str) -> None:
    """Of all that the account has."""
    wanted = max(zones, key=len)

    chosen = must_have_zone(f"{label}.{wanted}", [FoundZone(zone) for zone in zones])

    assert wanted == chosen.name


def test_zone_that_takes_no_records_gives_way_to_one_that_does() -> None:
    """Only where none fits is the reason given."""
    paused = FoundZone("a.example.com", PAUSED)

    assert (
        "example.com" == must_have_zone("x.a.example.com", [paused, FoundZone("example.com")]).name
    )
    with pytest.raises(DnsRejected, match="is paused"):
        must_have_zone("x.a.example.com", [paused])


@pytest.mark.parametrize(
    ("zones", "held"),
    [
        ([], "the account has no zones"),
        (["a.test", "b.test"], "the account has a.test, b.test:"),
        ([f"z{n}.test" for n in range(7)], "z4.test, and 2 more"),
    ],
)
def test_what_the_account_has_instead_is_named(zones: list[str], held: str) -> None:
    """As far as a message can hold it."""
    with pytest.raises(ZoneNotFound, match=r"_acme-challenge\.x\.org") as caught:
        must_have_zone("_acme-challenge.x.org", [FoundZone(zone) for zone in zones])

    assert held in str(caught.value.hint)


def test_cname_that_would_do_is_written_out() -> None:
    """For a challenge, into a zone that takes records; no other name has one."""
    zones = [FoundZone("a.test", PAUSED), FoundZone("b.test")]
    with pytest.raises(ZoneNotFound) as caught:
        must_have_zone("_acme-challenge.x.org", zones)
    with pytest.raises(ZoneNotFound) as other:
        must_have_zone("x.org", zones)

    record = "_acme-challenge.x.org. CNAME _acme-challenge.b.test."
    assert str(caught.value.hint).endswith(record)
    assert "CNAME" not in str(other.value.hint)


# --- certificates


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (Version(1, certificate(), NOW, key_matches=False), Code.KEY_MISMATCH),
        (Version(1, certificate(), NOW, chain_complete=False), Code.CHAIN_INCOMPLETE),
        (Version(1, certificate(), NOW, issuer_not_after=NOW), Code.ISSUER_EXPIRED),
    ],
)
def test_version_that_could_not_be_served(version: Version, code: Code) -> None:
    """It is renewed where it is made."""
    [finding] = judge_version(DESIRED, version, NOW)

    assert (code, "img") == (finding.code, finding.subject)
    assert "run `certferry sync --renew img`" == str(finding.hint)


def test_version_that_is_fit_is_not_reported() -> None:
    """And one that has ended is."""
    version = Version(1, certificate(), NOW)

    assert [] == list(judge_version(DESIRED, version, NOW))
    [expired] = judge_version(DESIRED, version, NOW + timedelta(days=81))
    assert Code.EXPIRED == expired.code


@pytest.mark.parametrize(
    ("lifetime", "code"),
    [
        (6, Code.LIFETIME_TOO_SHORT),
        (30, Code.LIFETIME_TOO_SHORT),
        (35, Code.LIFETIME_TIGHT),
        (45, None),
        (64, None),
        (90, None),
    ],
)
def test_lifetime_beside_what_the_target_wants(lifetime: int, code: Code | None) -> None:
    """Of 45 days 15 are left to upload it, which is enough; of 30 none is."""
    version = Version(1, certificate(lifetime=timedelta(days=lifetime)), NOW)
    target = ObservedTarget("qiniu", TargetRules(timedelta(days=30)))

    found = [finding.code for finding in judge_at_target(DESIRED, version, target)]

    assert ([] if code is None else [code]) == found


def test_target_that_wants_no_life_left_takes_a_short_one() -> None:
    """There is no deadline then."""
    version = Version(1, certificate(lifetime=timedelta(days=3)), NOW)

    assert [] == list(judge_at_target(DESIRED, version, ObservedTarget("other")))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [(TargetRules(needs_common_name=True), [Code.COMMON_NAME_MISSING]), (TargetRules(), [])],
)
def test_target_that_wants_a_common_name(rules: TargetRules, expected: list[Code]) -> None:
    """As safety would refuse it before an upload."""
    version = Version(1, replace(certificate(), common_name=""), NOW)

    found = judge_at_target(DESIRED, version, ObservedTarget("qiniu", rules))

    assert expected == [finding.code for finding in found]
