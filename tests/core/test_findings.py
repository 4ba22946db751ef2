"""Findings: the exit status, the order of reports, and the findings of the core."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given
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
drawn_findings = st.builds(
    Problem,
    st.sampled_from(Code),
    st.just(Text("so")),
    st.none(),
    st.sampled_from(Severity),
    subjects,
)
DESIRED = DesiredCertificate("img", ("img.example.com",), "dnspod")
PAUSED = Text("the domain example.com is paused")


@given(st.lists(drawn_findings))
def test_single_error_is_enough(findings: list[Problem]) -> None:
    """Warnings and notes leave the exit status at success. If the only error is an unreachable
    database, the status asks for a later try.
    """
    errors = {finding.code for finding in findings if finding.severity is Severity.ERROR}
    wrong = Exit.TRY_LATER if errors == {Code.DATABASE_UNAVAILABLE} else Exit.FAILED

    assert (wrong if errors else Exit.OK) is of_problems(findings)


def of_domain(code: Code) -> Problem:
    """Return a warning about a domain."""
    return Problem(code, Text("so"), None, Severity.WARNING, "a.test")


@example([of_domain(Code.LAST_TRY_FAILED), of_domain(Code.DOMAIN_FAILED)])
@given(st.lists(drawn_findings))
def test_heaviest_findings_come_first(findings: list[Problem]) -> None:
    """Every finding is reported, and equal findings once; but a failed try of a domain is left out
    if the target itself reports the failure.
    """
    ordered = heaviest_first(findings)
    reported = {
        finding.subject
        for finding in findings
        if finding.code in {Code.DOMAIN_FAILED, Code.DOMAIN_UNUSABLE}
    }
    findings = [
        finding
        for finding in findings
        if not (finding.code == Code.LAST_TRY_FAILED and finding.subject in reported)
    ]

    weights = [-finding.severity.rank for finding in ordered]
    assert sorted(weights) == weights
    identities = [(finding.code, finding.subject) for finding in ordered]
    assert {(finding.code, finding.subject) for finding in findings} == set(identities)
    assert len(set(identities)) == len(identities)


def test_problem_of_a_whole_account_is_reported_once() -> None:
    """Each request meets the same problem with other words; another account has its own finding."""
    refusals = [TargetUnavailable(Text("no answer about {what}", what=subject)) for subject in "ab"]
    findings = [of_refusal(label, error) for label in ("qiniu", "other") for error in refusals]

    reported = [
        (finding.code, finding.subject, str(finding.message))
        for finding in heaviest_first(findings)
    ]

    words = "no answer about a"
    assert [(Code.UNREACHABLE, "qiniu", words), (Code.UNREACHABLE, "other", words)] == reported


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
def test_reason_why_an_account_was_not_examined(problem: CertferryError, code: Code) -> None:
    """The clock, the keys, the connection, or another reason."""
    assert code == of_refusal("qiniu", problem).code


def test_error_becomes_a_finding_with_its_hint_as_the_fix() -> None:
    """The finding has the same words as the error."""
    problem = TargetRejected(Text("it is frozen"), hint=Text("pay the bill"))

    finding = problem.problem("a.test", code=Code.DOMAIN_UNUSABLE)

    assert (problem.message, problem.hint) == (finding.message, finding.hint)
    assert Severity.ERROR is finding.severity


# --- The clock


@given(st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_clock_is_judged_alike_both_ways(ahead: timedelta) -> None:
    """Half a minute is tolerated in both directions; from a quarter of an hour on, requests are
    refused.
    """
    behind, opposite = judge_clock("qiniu", "qiniu", ahead), judge_clock("qiniu", "qiniu", -ahead)

    assert (behind and behind.severity) == (opposite and opposite.severity)
    amount = timedelta(seconds=int(abs(ahead).total_seconds()))
    if amount <= WANTED:
        assert behind is None
    else:
        assert behind is not None
        assert (Severity.ERROR if amount > REFUSED else Severity.WARNING) is behind.severity
        assert Code.CLOCK_OFF == behind.code


def test_sentence_about_the_clock() -> None:
    """The sentence has amount and direction; the service's clock counts as right."""
    behind = judge_clock("qiniu", "qiniu", timedelta(minutes=20))
    ahead = judge_clock("qiniu", "qiniu", timedelta(minutes=-20))

    assert behind is not None
    assert ahead is not None
    assert "this host's clock is 20 minutes behind that of qiniu" == str(behind.message)
    assert "this host's clock is 20 minutes ahead of that of qiniu" == str(ahead.message)


# --- Addresses


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("198.18.0.5", True),
        ("198.19.255.255", True),
        ("198.20.0.1", False),
        ("0.0.0.0", True),  # noqa: S104 - the answer of a filter
        ("127.0.0.1", True),
        ("::1", True),
        ("::", True),
        ("fc00::7", True),
        ("fd00::7", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_addresses_without_a_host(address: str, expected: object) -> None:
    """Addresses of benchmarks and proxies, empty addresses, and loopback."""
    assert expected is is_made_up(address)


@pytest.mark.parametrize("address", ["127.0.0.3", "::1"])
def test_loopback_is_true_at_home(address: str) -> None:
    """Loopback is accepted in a sandbox that runs on loopback."""
    assert not is_made_up(address, at_home=True)
    assert is_made_up("198.18.0.5", at_home=True)


# --- Zones


@given(st.lists(strategies.hostnames, min_size=1, max_size=5, unique=True), strategies.labels)
def test_longest_zone_holds_the_name(zones: list[str], label: str) -> None:
    """The longest matching zone of the account is chosen."""
    wanted = max(zones, key=len)

    chosen = must_have_zone(f"{label}.{wanted}", [FoundZone(zone) for zone in zones])

    assert wanted == chosen.name


def test_paused_zone_gives_way_to_a_zone_that_takes_records() -> None:
    """The reason is given only if every matching zone is paused."""
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
def test_zones_of_the_account_are_named(zones: list[str], held: str) -> None:
    """The hint lists as many zones as fit into a message."""
    with pytest.raises(ZoneNotFound, match=r"_acme-challenge\.x\.org") as caught:
        must_have_zone("_acme-challenge.x.org", [FoundZone(zone) for zone in zones])

    assert held in str(caught.value.hint)


def test_hint_with_a_cname_for_a_challenge() -> None:
    """The CNAME leads into a zone that takes records; other names have no such hint."""
    zones = [FoundZone("a.test", PAUSED), FoundZone("b.test")]
    with pytest.raises(ZoneNotFound) as caught:
        must_have_zone("_acme-challenge.x.org", zones)
    with pytest.raises(ZoneNotFound) as other:
        must_have_zone("x.org", zones)

    record = "_acme-challenge.x.org. CNAME _acme-challenge.b.test."
    assert str(caught.value.hint).endswith(record)
    assert "CNAME" not in str(other.value.hint)


# --- Certificates


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (Version(1, certificate(), NOW, key_matches=False), Code.KEY_MISMATCH),
        (Version(1, certificate(), NOW, chain_complete=False), Code.CHAIN_INCOMPLETE),
        (Version(1, certificate(), NOW, issuer_not_after=NOW), Code.ISSUER_EXPIRED),
    ],
)
def test_version_that_could_not_be_served(version: Version, code: Code) -> None:
    """The hint is to renew the certificate."""
    [finding] = judge_version(DESIRED, version, NOW)

    assert (code, "img") == (finding.code, finding.subject)
    assert "run `certferry sync --renew img`" == str(finding.hint)


def test_version_that_is_fit() -> None:
    """A fit version has no finding until its end."""
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
def test_lifetime_beside_the_targets_minimum(lifetime: int, code: Code | None) -> None:
    """A certificate of 45 days has 15 days for its upload, which is enough; a certificate of 30
    days has none.
    """
    version = Version(1, certificate(lifetime=timedelta(days=lifetime)), NOW)
    target = ObservedTarget("qiniu", TargetRules(timedelta(days=30)))

    codes = [finding.code for finding in judge_at_target(DESIRED, version, target)]

    assert ([] if code is None else [code]) == codes


def test_short_certificate_at_a_target_without_a_minimum() -> None:
    """Such a target has no deadline for uploads."""
    version = Version(1, certificate(lifetime=timedelta(days=3)), NOW)

    assert [] == list(judge_at_target(DESIRED, version, ObservedTarget("other")))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [(TargetRules(needs_common_name=True), [Code.COMMON_NAME_MISSING]), (TargetRules(), [])],
)
def test_target_that_wants_a_common_name(rules: TargetRules, expected: list[Code]) -> None:
    """The same rule refuses an upload."""
    version = Version(1, replace(certificate(), common_name=""), NOW)

    findings = judge_at_target(DESIRED, version, ObservedTarget("qiniu", rules))

    assert expected == [finding.code for finding in findings]
