"""The moments of steps, the owner of a domain, and the settings to be sent."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    DesiredHttps,
    HttpsSettings,
    Kind,
)
from certferry.core.observed.observation import (
    Change,
    DomainState,
    ObservedDomain,
    Served,
    in_sentences,
)
from certferry.core.observed.records import LAG, RolloutRecord
from certferry.core.planning.drift import setting_changes
from certferry.core.planning.plan import Deploy, Rollout, TimedOut, TriedInThisRun, Verify, When
from certferry.core.planning.planner import Claims
from certferry.core.planning.problems import processing
from certferry.core.planning.timing import Times, when_of
from certferry.core.reasons import Reason, ReasonCode, Usual, Waiting
from certferry.errors import CertferryError, DeployError, Problem, TargetStuck, VerificationError
from certferry.text import Text
from certferry.values import replace
from tests.core.strategies import NOW, certificates, settings_found

# --- The moment of a rollout's next step


OURS = "aa" * 32
EXPIRED = Problem(EdgeProblemCode.EXPIRED, Text("the certificate expired"))
TIMED_OUT = Problem(EdgeProblemCode.TIMED_OUT, Text("no answer"))
TIMEOUT = timedelta(hours=1)
START = NOW - 2 * TIMEOUT
REASON = Reason(ReasonCode.NOT_SEEN, Text("not seen"))
DEPLOY = Deploy("qiniu", "img.example.com", DesiredHttps(), REASON)
VERIFY = Verify("qiniu", "img.example.com", REASON)
DEPLOYING = Rollout("qiniu", "img.example.com", (DEPLOY, VERIFY))
VERIFYING = Rollout("qiniu", "img.example.com", (VERIFY,))


def when(
    rollout: Rollout,
    state: DomainState = DomainState.READY,
    *served: Served,
    last: RolloutRecord | None = None,
    bound: str | None = "id",
    begun: datetime = START,
    usual: Usual | None = None,
) -> When:
    """Return the decision for a domain, in a run that began a while ago."""
    problem = DeployError("verify https crt fail") if state is DomainState.FAILED else None
    domain = ObservedDomain("img.example.com", Kind.CDN, state, bound, problem=problem, last=last)
    times = Times(NOW, begun, TIMEOUT, usual=usual)
    return when_of(rollout, domain, served, fingerprint=OURS, times=times)


def record(ago: timedelta = timedelta(0), *, problem: str = "None") -> RolloutRecord:
    """Return the record of a change that the target accepted some time ago."""
    moment = NOW - ago
    return RolloutRecord(
        "img", "qiniu", "img.example.com", OURS, moment, accepted_at=moment, problem_before=problem
    )


def error_of(decision: When) -> CertferryError:
    assert isinstance(decision, TimedOut)
    return decision.error


def test_domain_at_rest_is_deployed_to() -> None:
    """The deployment is carried out at once."""
    assert None is when(DEPLOYING)
    assert None is when(DEPLOYING, DomainState.FAILED)
    assert None is when(DEPLOYING, last=replace(record(), accepted_at=None))


@given(st.sampled_from([DEPLOYING, VERIFYING]), st.sampled_from([None, record()]))
def test_processing_domain_is_never_written_to(
    rollout: Rollout, last: RolloutRecord | None
) -> None:
    """During a change by any program, the run waits."""
    decision = when(rollout, DomainState.PROCESSING, last=last)

    assert isinstance(decision, Waiting)
    assert NOW + TIMEOUT == decision.deadline


@pytest.mark.parametrize("usual", [None, (timedelta(minutes=1), timedelta(minutes=5))])
def test_usual_duration_comes_from_the_target(usual: Usual | None) -> None:
    """The duration is beside the deadline, and in the hint of a change in progress."""
    waiting = when(VERIFYING, last=record(), usual=usual)
    hint = str(processing("qiniu", NOW, usual).hint)

    assert isinstance(waiting, Waiting)
    assert usual == waiting.usual
    assert ("usually take 1 to 5 minutes" in hint) is (usual is not None)
    assert hint.startswith("the change started at 2026-11-24 12:00 UTC")


def test_accepted_change_is_sent_once() -> None:
    """A read that lags behind the write causes no second write, in this run or the next."""
    assert isinstance(when(DEPLOYING, last=record()), Waiting)
    assert isinstance(when(DEPLOYING, last=record(timedelta(minutes=5)), begun=NOW), Waiting)


def test_failed_change_is_reported_with_the_targets_words() -> None:
    """The description of the target is the error; the next run tries again."""
    decision = when(DEPLOYING, DomainState.FAILED, last=record())

    assert "verify https crt fail" == str(error_of(decision))
    earlier = record(timedelta(minutes=5))
    assert None is when(DEPLOYING, DomainState.FAILED, last=earlier, begun=NOW)


def test_old_failure_is_ignored_for_a_while() -> None:
    """A read that still has the failure before the change does not end the change."""
    words = "verify https crt fail"

    soon = when(DEPLOYING, DomainState.FAILED, last=record(problem=words))
    late = when(DEPLOYING, DomainState.FAILED, last=record(LAG, problem=words))

    assert isinstance(soon, Waiting)
    assert isinstance(late, TimedOut)


def test_change_that_failed_is_tried_once_in_a_run() -> None:
    """The next run tries again, and so does a run whose clock was ahead at the failure."""
    failed = replace(record(LAG), accepted_at=None, failed_at=NOW - LAG)
    ahead = replace(failed, failed_at=NOW + 2 * LAG)

    assert TriedInThisRun(NOW - LAG) == when(DEPLOYING, last=failed)
    assert None is when(DEPLOYING, last=failed, begun=NOW)
    assert None is when(DEPLOYING, last=ahead)


def test_change_after_a_served_certificate_begins_anew() -> None:
    """The same holds for another certificate, and for a record from the future. A verification of a
    served domain waits since the last look or the beginning of the run.
    """
    verified = replace(record(TIMEOUT), verified_at=NOW - LAG)
    ahead = replace(record(), started_at=NOW + TIMEOUT)

    for last, begun, since in (
        (verified, NOW - TIMEOUT / 2, NOW - LAG),
        (verified, NOW - LAG / 2, NOW - LAG / 2),
        (replace(verified, verified_at=NOW + LAG), START, NOW),
        (replace(record(), fingerprint="bb" * 32), START, NOW),
        (ahead, START, NOW),
    ):
        assert None is when(DEPLOYING, last=last)
        waiting = when(VERIFYING, last=last, begun=begun)
        assert isinstance(waiting, Waiting)
        assert since == waiting.since


@given(
    st.sampled_from([DEPLOYING, VERIFYING]),
    st.sampled_from([DomainState.READY, DomainState.PROCESSING]),
)
def test_every_wait_ends(rollout: Rollout, state: DomainState) -> None:
    """At the deadline the wait becomes a failure with a hint, and the next run tries again."""
    last = record(TIMEOUT)

    assert error_of(when(rollout, state, last=last)).hint is not None
    assert None is when(DEPLOYING, last=last, begun=NOW)


def test_stuck_change_names_its_beginning() -> None:
    """The provider's support asks for the beginning of a task that hangs."""
    error = error_of(when(VERIFYING, DomainState.PROCESSING, last=record(TIMEOUT)))

    assert isinstance(error, TargetStuck)
    assert "2026-11-24 11:00 UTC" in str(error)
    assert "2026-11-24 11:00 UTC" in "\n".join(map(str, error.ticket))


def test_lagging_addresses_are_named() -> None:
    """The error has the addresses without the certificate, and the number of addresses."""
    right = Served("192.0.2.1", OURS, valid=True)
    other = Served("192.0.2.2", "bb" * 32, valid=True)
    broken = Served("192.0.2.3", OURS, valid=False, problem=EXPIRED)
    silent = Served("192.0.2.4", None, valid=False, problem=TIMED_OUT, silent=True)
    served = (right, other, broken, silent)

    error = error_of(when(VERIFYING, DomainState.READY, *served, last=record(TIMEOUT)))

    assert isinstance(error, VerificationError)
    words = str(error)
    assert "2 of 3" in words
    assert "192.0.2.2" in words
    assert "192.0.2.3: the certificate expired" in words
    assert "192.0.2.4" not in words


def test_silence_is_reported_with_its_reasons() -> None:
    """If no address answers, each has its reason in the error."""
    silent = Served("192.0.2.4", None, valid=False, problem=TIMED_OUT, silent=True)

    error = error_of(when(VERIFYING, DomainState.READY, silent, last=record(TIMEOUT)))

    assert isinstance(error, VerificationError)
    assert "no answer" in str(error)


def test_settings_that_are_ignored_are_named() -> None:
    """The certificate is in force, so the hint blames no other tool."""
    changes = (
        Change("http2", "false", "true"),
        Change("tls_versions", None, "TLSv1.3", untold=True),
    )
    reason = Reason(ReasonCode.SETTINGS_DRIFTED, Text("settings differ from the file"))
    rollout = replace(DEPLOYING, steps=(replace(DEPLOY, reason=reason, changes=changes), VERIFY))

    error = error_of(when(rollout, last=record(TIMEOUT)))

    assert isinstance(error, DeployError)
    assert str(error).endswith(": http2 false → true, tls_versions unknown → TLSv1.3")
    assert "the certificate is in force" in str(error.hint)
    assert "another tool" not in str(error.hint)


def test_recent_change_is_being_applied() -> None:
    """Reads may lag behind writes: the bound certificate contradicts the change only a minute
    later.
    """
    early = when(DEPLOYING, last=record(LAG / 2))
    late = when(DEPLOYING, last=record(2 * LAG))

    assert isinstance(early, Waiting)
    assert isinstance(late, Waiting)
    assert "qiniu is applying the change" == str(early.why)
    assert "the accepted change has not taken effect; id is bound" == str(late.why)


@pytest.mark.parametrize(
    ("bound", "words", "hint"),
    [("id", "id is bound", "another tool"), (None, "nothing is bound", "the target's console")],
)
def test_change_without_effect_shows_the_bound_certificate(
    bound: str | None, words: str, hint: str
) -> None:
    """Another certificate points to another tool; HTTPS that stays off points to the target."""
    error = error_of(when(DEPLOYING, last=record(TIMEOUT), bound=bound))

    assert isinstance(error, DeployError)
    assert str(error).endswith(f"has not taken effect; {words}")
    assert hint in str(error.hint)


# --- Differences between a domain's settings and the file


DOMAIN = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, "id-3")
VERSIONS = ("TLSv1.2", "TLSv1.3")
NAMES = [field.name for field in fields(DesiredHttps)]
BEGUN = RolloutRecord("img", "qiniu", DOMAIN.domain, "3f", datetime(2026, 7, 1, tzinfo=UTC))


def sent_before(sent: DesiredHttps | None, domain: ObservedDomain = DOMAIN) -> ObservedDomain:
    """Return the domain after these settings were sent."""
    return replace(domain, last=replace(BEGUN, sent=sent))


@given(certificates, settings_found, st.frozensets(st.sampled_from(NAMES)))
def test_setting_that_was_sent_and_is_not_reported_is_in_order(
    desired: DesiredHttps, observed_settings: HttpsSettings, untold: frozenset[str]
) -> None:
    """Only a reported value can differ from a setting that was sent as declared."""
    reported = replace(observed_settings, **dict.fromkeys(untold))
    domain = sent_before(desired, replace(DOMAIN, https=reported))

    assert not untold & {change.setting for change in setting_changes(desired, domain)}


@given(certificates, settings_found, st.none() | certificates)
def test_reported_setting_counts_before_the_sent_setting(
    desired: DesiredHttps, observed_settings: HttpsSettings, sent: DesiredHttps | None
) -> None:
    """The target's report decides."""
    reported = replace(observed_settings, tls_versions=observed_settings.tls_versions or VERSIONS)
    domain = replace(DOMAIN, https=reported)

    assert setting_changes(desired, domain) == setting_changes(desired, sent_before(sent, domain))


@pytest.mark.parametrize(
    ("desired", "after"),
    [
        (DesiredHttps(force_https=False), "false"),
        (DesiredHttps(http2=True), "true"),
        (DesiredHttps(tls_versions=VERSIONS), "TLSv1.2, TLSv1.3"),
    ],
)
def test_setting_that_is_not_reported_differs_until_it_was_sent(
    desired: DesiredHttps, after: str
) -> None:
    """The value before is unknown; a different setting that was sent does not count."""
    others = DesiredHttps(force_https=True, http2=False, tls_versions=("TLSv1.3",))

    for sent in (None, DesiredHttps(), others):
        [change] = setting_changes(desired, sent_before(sent))

        assert ("unknown", after) == (change.was, change.becomes)
    assert () == setting_changes(desired, sent_before(desired))


@pytest.mark.parametrize("versions", [VERSIONS, VERSIONS[::-1]])
def test_tls_versions_are_a_set(versions: tuple[str, ...]) -> None:
    """Another order than declared is equal, for reported and for sent versions."""
    desired = DesiredHttps(tls_versions=VERSIONS)

    reported = replace(DOMAIN, https=HttpsSettings(tls_versions=versions))
    sent = sent_before(DesiredHttps(tls_versions=versions))

    assert () == setting_changes(desired, reported)
    assert () == setting_changes(desired, sent)


def test_domain_without_https_has_no_settings_yet() -> None:
    """A change has no value before, and settings sent before HTTPS went off are gone."""
    desired = DesiredHttps(http2=True)
    off = sent_before(desired, replace(DOMAIN, bound=None))

    assert ["—"] == [change.was for change in setting_changes(desired, off)]


def test_domain_of_a_target_without_settings() -> None:
    """The target only binds certificates, so settings for other targets are no difference."""
    desired = DesiredHttps(force_https=True, http2=True, tls_versions=VERSIONS)

    assert () == setting_changes(desired, replace(DOMAIN, has_settings=False))


def test_changes_are_reported_in_sentences() -> None:
    """The word for an unknown value is translated; names of settings stay."""
    desired = DesiredHttps(http2=True, tls_versions=VERSIONS)
    domain = replace(DOMAIN, https=HttpsSettings(http2=False))

    sentences = in_sentences(setting_changes(desired, domain))

    assert ["http2 false → true", "tls_versions unknown → TLSv1.2, TLSv1.3"] == list(
        map(str, sentences)
    )
    assert "tls_versions 未知 → TLSv1.2, TLSv1.3" == sentences[1].render(
        lambda template: template.replace("unknown", "未知")
    )


# --- The owner of a domain that several certificates cover


OWNED_NAMES = ("img.example.com", "*.example.com", "*.img.example.com", "a.img.example.com")
GLOBS = ("*.example.com", "a.*", "*.img.*", "*img.example.com")
DOMAINS = (*OWNED_NAMES, "b.example.com", "b.img.example.com")


def declared(
    lineage: str,
    *names: str,
    domains: tuple[str, ...] | None = None,
    target: str = "qiniu",
    kind: Kind = Kind.AUTO,
    globs: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> DesiredCertificate:
    """Return a certificate deployed to its covered domains, to named domains, or to matches of
    globs.
    """
    domains = () if globs and domains is None else domains
    deployment = DesiredDeployment(target, domains, kind, globs=globs, exclude=exclude)
    return DesiredCertificate(lineage, names, "dnspod", deployments=(deployment,))


def owners(certificates: list[DesiredCertificate], domain: str, kind: Kind = Kind.CDN) -> list[str]:
    """Return the lineages that would serve a domain of this kind."""
    claims = Claims(certificates)
    return [
        certificate.lineage
        for certificate in certificates
        for deployment in certificate.deployments
        if _takes(certificate.names, deployment, domain, kind)
        and claims.owns(certificate.lineage, deployment, domain, kind)
    ]


def _takes(names: tuple[str, ...], deployment: DesiredDeployment, domain: str, kind: Kind) -> bool:
    as_written = {Kind.DCDN: {Kind.CDN}}.get(kind, set())
    if deployment.kind not in {Kind.AUTO, kind} | as_written:
        return False
    if domain in (deployment.domains or ()):
        return True
    if any(_like(glob, domain) for glob in deployment.exclude):
        return False
    is_meant = deployment.domains is None or any(_like(glob, domain) for glob in deployment.globs)
    return is_meant and covered_by(names, domain)


def _like(glob: str, domain: str) -> bool:
    return fnmatchcase(domain, glob)


@st.composite
def declarations(draw: st.DrawFn) -> list[DesiredCertificate]:
    """Draw certificates that overlap in every way; each named domain has a single certificate."""
    names = st.lists(st.sampled_from(OWNED_NAMES), min_size=1, max_size=3, unique=True)
    kinds = st.sampled_from([Kind.AUTO, Kind.AUTO, Kind.CDN, Kind.DCDN, Kind("kodo")])
    globs = st.lists(st.sampled_from(GLOBS), max_size=2, unique=True).map(tuple)
    certificates = [
        declared(
            f"l{number}", *draw(names), kind=draw(kinds), globs=draw(globs), exclude=draw(globs)
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    if draw(st.booleans()):
        certificates.append(
            declared("named", *OWNED_NAMES, domains=(draw(st.sampled_from(DOMAINS)),))
        )
    return draw(st.permutations(certificates))


@given(
    declarations(), st.sampled_from(DOMAINS), st.sampled_from([Kind.CDN, Kind.DCDN, Kind("kodo")])
)
def test_covered_domain_has_exactly_one_owner(
    certificates: list[DesiredCertificate], domain: str, kind: Kind
) -> None:
    """Two certificates never contend for a domain, and every covered domain is served."""
    wanted = any(
        _takes(certificate.names, certificate.deployments[0], domain, kind)
        for certificate in certificates
    )

    assert int(wanted) == len(owners(certificates, domain, kind))


def test_named_domain_goes_to_the_certificate_that_names_it() -> None:
    """A name in the file counts before mere coverage."""
    certificates = [
        declared("exact", "img.example.com"),
        declared("named", "*.example.com", domains=("img.example.com",)),
    ]

    for order in itertools.permutations(certificates):
        assert ["named"] == owners(list(order), "img.example.com")


def test_exact_name_comes_before_a_wildcard() -> None:
    """For any order of the declaration."""
    certificates = [declared("wide", "*.example.com"), declared("exact", "img.example.com")]

    for order in itertools.permutations(certificates):
        assert ["exact"] == owners(list(order), "img.example.com")
        assert ["wide"] == owners(list(order), "b.example.com")


def test_longer_glob_comes_before_a_shorter_glob_and_before_coverage() -> None:
    """The closest description of a domain wins over mere coverage."""
    certificates = [
        declared("auto", "img.example.com", "*.example.com"),
        declared("wide", "*.example.com", globs=("*.example.com",)),
        declared("near", "*.example.com", globs=("b*", "im*.example.com")),
    ]

    for order in itertools.permutations(certificates):
        assert ["near"] == owners(list(order), "img.example.com")
        assert ["wide"] == owners(list(order), "a.example.com")
        assert ["auto"] == owners(
            [certificates[0], declared("x", "*.example.com", globs=("a*",))], "img.example.com"
        )


def test_name_comes_before_any_glob() -> None:
    """A named domain stays, however close the globs of others are."""
    named = declared("named", "*.example.com", domains=("img.example.com",))
    glob = declared("glob", "img.example.com", globs=("img.example.co*",))

    assert ["named"] == owners([glob, named], "img.example.com")


def test_excluded_domain_goes_to_the_next_certificate() -> None:
    """`exclude` removes the claim of its own certificate alone."""
    first = declared("first", "*.example.com", exclude=("img.*",))
    second = declared("second", "*.example.com")

    assert ["second"] == owners([first, second], "img.example.com")
    assert ["first"] == owners([first, second], "b.example.com")
    assert None is Claims([first]).owner("qiniu", "img.example.com", Kind.CDN)


def test_glob_claims_covered_domains_alone() -> None:
    """A match beyond the names of the certificate is ignored."""
    certificates = [
        declared("narrow", "img.example.com", globs=("*.example.com",)),
        declared("wide", "*.example.com"),
    ]

    assert ["wide"] == owners(certificates, "b.example.com")


def test_equal_claims_go_to_the_first() -> None:
    """Two certificates for the same names are served in the order of the file."""
    first, second = declared("first", "*.example.com"), declared("second", "*.example.com")

    assert ["first"] == owners([first, second], "b.example.com")


def test_claims_at_different_targets() -> None:
    """The same domain may be served from two places."""
    certificates = [
        declared("one", "img.example.com"),
        declared("two", "img.example.com", target="other"),
    ]

    assert ["one", "two"] == owners(certificates, "img.example.com")


def test_claims_of_different_kinds_of_domain() -> None:
    """A deployment for CDN domains leaves source domains to other certificates."""
    certificates = [
        declared("cdn", "*.example.com", kind=Kind.CDN),
        declared("kodo", "*.example.com", kind=Kind("kodo")),
    ]

    assert ["cdn"] == owners(certificates, "img.example.com", Kind.CDN)
    assert ["kodo"] == owners(certificates, "img.example.com", Kind("kodo"))
    assert ["cdn"] == owners(certificates, "img.example.com", Kind.DCDN)


def test_certificate_with_two_deployments_serves_a_domain_once() -> None:
    """The deployment that names the domain decides the settings."""
    named = DesiredDeployment("qiniu", ("img.example.com",))
    wide = DesiredDeployment("qiniu")
    certificate = DesiredCertificate("one", ("*.example.com",), deployments=(wide, named))
    claims = Claims([certificate])

    assert claims.owns("one", named, "img.example.com", Kind.CDN)
    assert not claims.owns("one", wide, "img.example.com", Kind.CDN)
    assert claims.owns("one", wide, "b.example.com", Kind.CDN)


def test_domain_that_is_not_declared_is_left_to_the_caller() -> None:
    """Without a configuration, a client's certificate is the only claim."""
    assert Claims().owns("one", DesiredDeployment("qiniu"), "img.example.com", Kind.CDN)
