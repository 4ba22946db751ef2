"""When steps are carried out, for whom, and with which settings."""

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

# --- When a rollout's next step is carried out


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
    """Choose for one domain, in a run that began a while ago."""
    problem = DeployError("verify https crt fail") if state is DomainState.FAILED else None
    domain = ObservedDomain("img.example.com", Kind.CDN, state, bound, problem=problem, last=last)
    times = Times(NOW, begun, TIMEOUT, usual=usual)
    return when_of(rollout, domain, served, fingerprint=OURS, times=times)


def record(ago: timedelta = timedelta(0), *, problem: str = "None") -> RolloutRecord:
    """Remember that the target took this certificate for the domain, some time ago."""
    moment = NOW - ago
    return RolloutRecord(
        "img", "qiniu", "img.example.com", OURS, moment, accepted_at=moment, problem_before=problem
    )


def error_of(found: When) -> CertferryError:
    assert isinstance(found, TimedOut)
    return found.error


def test_domain_at_rest_is_deployed_to() -> None:
    """Nothing stands in the way: the deployment is carried out now."""
    assert None is when(DEPLOYING)
    assert None is when(DEPLOYING, DomainState.FAILED)
    assert None is when(DEPLOYING, last=replace(record(), accepted_at=None))


@given(st.sampled_from([DEPLOYING, VERIFYING]), st.sampled_from([None, record()]))
def test_processing_domain_is_never_written_to(
    rollout: Rollout, last: RolloutRecord | None
) -> None:
    """While a change is carried out, whichever program asked for it, we wait."""
    found = when(rollout, DomainState.PROCESSING, last=last)

    assert isinstance(found, Waiting)
    assert NOW + TIMEOUT == found.deadline


@pytest.mark.parametrize("usual", [None, (timedelta(minutes=1), timedelta(minutes=5))])
def test_what_is_usual_is_the_targets(usual: Usual | None) -> None:
    """It stands beside the deadline, and in what is said of a change that is still in progress."""
    waiting = when(VERIFYING, last=record(), usual=usual)
    hint = str(processing("qiniu", NOW, usual).hint)

    assert isinstance(waiting, Waiting)
    assert usual == waiting.usual
    assert ("usually take 1 to 5 minutes" in hint) is (usual is not None)
    assert hint.startswith("the change started at 2026-11-24 12:00 UTC")


def test_accepted_change_is_not_asked_for_twice() -> None:
    """A read that lags behind the write leads to no second write, in this run or the next."""
    assert isinstance(when(DEPLOYING, last=record()), Waiting)
    assert isinstance(when(DEPLOYING, last=record(timedelta(minutes=5)), begun=NOW), Waiting)


def test_failed_change_is_reported_with_the_targets_words() -> None:
    """The description of the target is the error; the next run tries again."""
    found = when(DEPLOYING, DomainState.FAILED, last=record())

    assert "verify https crt fail" == str(error_of(found))
    earlier = record(timedelta(minutes=5))
    assert None is when(DEPLOYING, DomainState.FAILED, last=earlier, begun=NOW)


def test_old_failure_is_no_news_for_a_while() -> None:
    """A read that still tells of the failure before the change does not end the change."""
    words = "verify https crt fail"

    soon = when(DEPLOYING, DomainState.FAILED, last=record(problem=words))
    late = when(DEPLOYING, DomainState.FAILED, last=record(LAG, problem=words))

    assert isinstance(soon, Waiting)
    assert isinstance(late, TimedOut)


def test_a_try_that_failed_for_good_is_one_in_a_run() -> None:
    """The next run tries again, and so does one whose clock was ahead when it failed."""
    failed = replace(record(LAG), accepted_at=None, failed_at=NOW - LAG)
    ahead = replace(failed, failed_at=NOW + 2 * LAG)

    assert TriedInThisRun(NOW - LAG) == when(DEPLOYING, last=failed)
    assert None is when(DEPLOYING, last=failed, begun=NOW)
    assert None is when(DEPLOYING, last=ahead)


def test_what_was_served_once_is_begun_anew() -> None:
    """So is another certificate, and what a clock that was ahead has written. A look at one that
    was seen waits since then, or since the run began.
    """
    seen = replace(record(TIMEOUT), verified_at=NOW - LAG)
    ahead = replace(record(), started_at=NOW + TIMEOUT)

    for last, begun, since in (
        (seen, NOW - TIMEOUT / 2, NOW - LAG),
        (seen, NOW - LAG / 2, NOW - LAG / 2),
        (replace(seen, verified_at=NOW + LAG), START, NOW),
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
    """At the deadline waiting becomes a failure with a hint; the next run asks for it again."""
    last = record(TIMEOUT)

    assert error_of(when(rollout, state, last=last)).hint is not None
    assert None is when(DEPLOYING, last=last, begun=NOW)


def test_stuck_change_names_since_when() -> None:
    """Support asks since when a task hangs."""
    error = error_of(when(VERIFYING, DomainState.PROCESSING, last=record(TIMEOUT)))

    assert isinstance(error, TargetStuck)
    assert "2026-11-24 11:00 UTC" in str(error)
    assert "2026-11-24 11:00 UTC" in "\n".join(map(str, error.ticket))


def test_lagging_addresses_are_named() -> None:
    """Which do not serve it yet, and of how many."""
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
    """When no address answers, each says why."""
    silent = Served("192.0.2.4", None, valid=False, problem=TIMED_OUT, silent=True)

    error = error_of(when(VERIFYING, DomainState.READY, silent, last=record(TIMEOUT)))

    assert isinstance(error, VerificationError)
    assert "no answer" in str(error)


def test_settings_that_are_ignored_are_named() -> None:
    """The certificate is in force, so no operator is sent to look for another tool."""
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


def test_change_of_a_moment_ago_is_being_applied() -> None:
    """Reads may lag behind writes: what is bound still is held against the target a minute later,
    and not at once.
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
def test_change_without_effect_shows_what_is_bound(
    bound: str | None, words: str, hint: str
) -> None:
    """Another certificate is another tool's work; where HTTPS stays off, the target is at fault."""
    error = error_of(when(DEPLOYING, last=record(TIMEOUT), bound=bound))

    assert isinstance(error, DeployError)
    assert str(error).endswith(f"has not taken effect; {words}")
    assert hint in str(error.hint)


# --- Where a domain's settings differ from what is asked for


DOMAIN = ObservedDomain("img.example.com", Kind.CDN, DomainState.READY, "id-3")
VERSIONS = ("TLSv1.2", "TLSv1.3")
NAMES = [field.name for field in fields(DesiredHttps)]
BEGUN = RolloutRecord("img", "qiniu", DOMAIN.domain, "3f", datetime(2026, 7, 1, tzinfo=UTC))


def sent_before(sent: DesiredHttps | None, domain: ObservedDomain = DOMAIN) -> ObservedDomain:
    """Return the domain as it is known after these settings were sent."""
    return replace(domain, last=replace(BEGUN, sent=sent))


@given(certificates, settings_found, st.frozensets(st.sampled_from(NAMES)))
def test_what_was_sent_is_no_difference_where_it_is_not_reported(
    desired: DesiredHttps, found: HttpsSettings, untold: frozenset[str]
) -> None:
    """Only what the target reports can differ from a setting that was sent as it is."""
    said = replace(found, **dict.fromkeys(untold))
    domain = sent_before(desired, replace(DOMAIN, https=said))

    assert not untold & {change.setting for change in setting_changes(desired, domain)}


@given(certificates, settings_found, st.none() | certificates)
def test_what_was_sent_is_no_matter_where_it_is_reported(
    desired: DesiredHttps, found: HttpsSettings, sent: DesiredHttps | None
) -> None:
    """What the target tells decides."""
    said = replace(found, tls_versions=found.tls_versions or VERSIONS)
    domain = replace(DOMAIN, https=said)

    assert setting_changes(desired, domain) == setting_changes(desired, sent_before(sent, domain))


@pytest.mark.parametrize(
    ("desired", "after"),
    [
        (DesiredHttps(force_https=False), "false"),
        (DesiredHttps(http2=True), "true"),
        (DesiredHttps(tls_versions=VERSIONS), "TLSv1.2, TLSv1.3"),
    ],
)
def test_what_is_not_reported_differs_until_it_was_sent(desired: DesiredHttps, after: str) -> None:
    """What is in force until then is not known; another setting that was sent is not this one."""
    others = DesiredHttps(force_https=True, http2=False, tls_versions=("TLSv1.3",))

    for sent in (None, DesiredHttps(), others):
        [change] = setting_changes(desired, sent_before(sent))

        assert ("unknown", after) == (change.was, change.becomes)
    assert () == setting_changes(desired, sent_before(desired))


@pytest.mark.parametrize("versions", [VERSIONS, VERSIONS[::-1]])
def test_tls_versions_are_a_set(versions: tuple[str, ...]) -> None:
    """In another order than they are declared they are the same, reported or sent."""
    desired = DesiredHttps(tls_versions=VERSIONS)

    said = replace(DOMAIN, https=HttpsSettings(tls_versions=versions))
    sent = sent_before(DesiredHttps(tls_versions=versions))

    assert () == setting_changes(desired, said)
    assert () == setting_changes(desired, sent)


def test_domain_without_https_has_no_settings_yet() -> None:
    """There is nothing to be unknown, and what was sent before HTTPS went off is gone with it."""
    desired = DesiredHttps(http2=True)
    off = sent_before(desired, replace(DOMAIN, bound=None))

    assert ["—"] == [change.was for change in setting_changes(desired, off)]


def test_domain_without_settings_has_none_to_ask_for() -> None:
    """Its target binds a certificate and nothing else: what is asked of others is no difference."""
    desired = DesiredHttps(force_https=True, http2=True, tls_versions=VERSIONS)

    assert () == setting_changes(desired, replace(DOMAIN, has_settings=False))


def test_changes_are_reported_in_sentences() -> None:
    """The word for what is not known can be translated; the settings' are not."""
    desired = DesiredHttps(http2=True, tls_versions=VERSIONS)
    domain = replace(DOMAIN, https=HttpsSettings(http2=False))

    sentences = in_sentences(setting_changes(desired, domain))

    assert ["http2 false → true", "tls_versions unknown → TLSv1.2, TLSv1.3"] == list(
        map(str, sentences)
    )
    assert "tls_versions 未知 → TLSv1.2, TLSv1.3" == sentences[1].render(
        lambda template: template.replace("unknown", "未知")
    )


# --- Who serves a domain that several certificates cover


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
    """A certificate, deployed to what it covers, to what is named, or to what globs match."""
    domains = () if globs and domains is None else domains
    deployment = DesiredDeployment(target, domains, kind, globs=globs, exclude=exclude)
    return DesiredCertificate(lineage, names, "dnspod", deployments=(deployment,))


def owners(certificates: list[DesiredCertificate], domain: str, kind: Kind = Kind.CDN) -> list[str]:
    """Who would serve the domain, which is such at its target."""
    claims = Claims(certificates)
    return [
        one.lineage
        for one in certificates
        for deployment in one.deployments
        if _takes(one.names, deployment, domain, kind)
        and claims.owns(one.lineage, deployment, domain, kind)
    ]


def _takes(names: tuple[str, ...], one: DesiredDeployment, domain: str, kind: Kind) -> bool:
    as_written = {Kind.DCDN: {Kind.CDN}}.get(kind, set())
    if one.kind not in {Kind.AUTO, kind} | as_written:
        return False
    if domain in (one.domains or ()):
        return True
    if any(_like(glob, domain) for glob in one.exclude):
        return False
    is_meant = one.domains is None or any(_like(glob, domain) for glob in one.globs)
    return is_meant and covered_by(names, domain)


def _like(glob: str, domain: str) -> bool:
    return fnmatchcase(domain, glob)


@st.composite
def declarations(draw: st.DrawFn) -> list[DesiredCertificate]:
    """Certificates that overlap in every way; no two name the same domain."""
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
    """No two certificates contend for a domain, and none falls between two."""
    wanted = any(_takes(one.names, one.deployments[0], domain, kind) for one in certificates)

    assert int(wanted) == len(owners(certificates, domain, kind))


def test_who_names_a_domain_has_it() -> None:
    """A name in the file says more than a certificate that happens to cover it."""
    certificates = [
        declared("exact", "img.example.com"),
        declared("named", "*.example.com", domains=("img.example.com",)),
    ]

    for order in itertools.permutations(certificates):
        assert ["named"] == owners(list(order), "img.example.com")


def test_exact_name_comes_before_a_wildcard() -> None:
    """Whichever is declared first."""
    certificates = [declared("wide", "*.example.com"), declared("exact", "img.example.com")]

    for order in itertools.permutations(certificates):
        assert ["exact"] == owners(list(order), "img.example.com")
        assert ["wide"] == owners(list(order), "b.example.com")


def test_longer_glob_comes_before_a_shorter_one_and_before_none() -> None:
    """Who describes a domain more closely means it, and not who merely covers it."""
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
    """A domain that is named has its place, however closely others describe it."""
    named = declared("named", "*.example.com", domains=("img.example.com",))
    glob = declared("glob", "img.example.com", globs=("img.example.co*",))

    assert ["named"] == owners([glob, named], "img.example.com")


def test_what_is_excluded_goes_to_the_next() -> None:
    """It is none's claim that `exclude` takes away."""
    first = declared("first", "*.example.com", exclude=("img.*",))
    second = declared("second", "*.example.com")

    assert ["second"] == owners([first, second], "img.example.com")
    assert ["first"] == owners([first, second], "b.example.com")
    assert None is Claims([first]).owner("qiniu", "img.example.com", Kind.CDN)


def test_glob_claims_nothing_that_its_certificate_does_not_cover() -> None:
    """Whatever it matches."""
    certificates = [
        declared("narrow", "img.example.com", globs=("*.example.com",)),
        declared("wide", "*.example.com"),
    ]

    assert ["wide"] == owners(certificates, "b.example.com")


def test_equal_claims_go_to_the_first() -> None:
    """Two certificates for the same names are served in the order of the file."""
    first, second = declared("first", "*.example.com"), declared("second", "*.example.com")

    assert ["first"] == owners([first, second], "b.example.com")


def test_other_targets_are_no_rivals() -> None:
    """The same domain may be served from two places."""
    certificates = [
        declared("one", "img.example.com"),
        declared("two", "img.example.com", target="other"),
    ]

    assert ["one", "two"] == owners(certificates, "img.example.com")


def test_kinds_of_domain_are_no_rivals() -> None:
    """A deployment for CDN domains only leaves source domains to other certificates."""
    certificates = [
        declared("cdn", "*.example.com", kind=Kind.CDN),
        declared("kodo", "*.example.com", kind=Kind("kodo")),
    ]

    assert ["cdn"] == owners(certificates, "img.example.com", Kind.CDN)
    assert ["kodo"] == owners(certificates, "img.example.com", Kind("kodo"))
    assert ["cdn"] == owners(certificates, "img.example.com", Kind.DCDN)


def test_one_certificate_with_two_deployments_serves_a_domain_once() -> None:
    """The one that names it decides how."""
    named = DesiredDeployment("qiniu", ("img.example.com",))
    wide = DesiredDeployment("qiniu")
    one = DesiredCertificate("one", ("*.example.com",), deployments=(wide, named))
    claims = Claims([one])

    assert claims.owns("one", named, "img.example.com", Kind.CDN)
    assert not claims.owns("one", wide, "img.example.com", Kind.CDN)
    assert claims.owns("one", wide, "b.example.com", Kind.CDN)


def test_domain_that_is_not_declared_is_left_to_the_caller() -> None:
    """As without a configuration, where a client's certificate is all there is."""
    assert Claims().owns("one", DesiredDeployment("qiniu"), "img.example.com", Kind.CDN)
