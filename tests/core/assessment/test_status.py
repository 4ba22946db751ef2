"""The standing of a domain in each situation."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given

from certferry.core.assessment.health import Expected, Recorded, concerns_of
from certferry.core.assessment.status import Standing, status_of
from certferry.core.desired.certificate import DesiredCertificate, DesiredHttps, HttpsSettings
from certferry.core.observed.observation import DomainState, Observation, ObservedTarget
from certferry.core.observed.records import LastRun
from certferry.core.planning.planner import make_plan
from certferry.core.planning.timing import Times
from certferry.errors import Severity, TargetRejected
from certferry.values import replace
from tests.core.planning.test_planner import CURRENT, PREVIOUS, declared, world
from tests.core.strategies import NOW, situations, version

THIS = version(3, CURRENT)


@pytest.mark.parametrize(
    ("observed", "standing"),
    [
        (world(THIS), Standing.VERIFIED),
        (world(THIS, served="bb" * 32), Standing.PROPAGATING),
        (world(THIS, served=None), Standing.BOUND),
        (world(THIS, state=DomainState.PROCESSING), Standing.PROCESSING),
        (world(THIS, bound=None), Standing.PENDING),
        (world(THIS, version(2, PREVIOUS), bound="id-2"), Standing.PENDING),
        (world(THIS, bound="theirs"), Standing.DRIFTED),
        (world(bound="theirs"), Standing.PENDING),
        (world(THIS, bound="theirs", state=DomainState.FAILED), Standing.FAILED),
        (world(THIS, state=DomainState.UNAVAILABLE), Standing.UNKNOWN),
    ],
)
def test_each_situation_has_its_word(observed: Observation, standing: Standing) -> None:
    """Every situation of a domain has a single word."""
    status = status_of(declared(), observed, NOW)

    assert [standing] == [domain.standing for domain in status.domains]


def test_drifted_settings_show() -> None:
    """A domain that serves the certificate with other settings than the file has drifted."""
    desired = declared(https=DesiredHttps(http2=True))

    observed = without_problem(world(THIS, https=HttpsSettings(http2=False)))

    status = status_of(desired, observed, NOW)

    [domain] = status.domains
    assert Standing.DRIFTED is domain.standing
    assert domain.problem is not None
    assert ("settings_drifted", "settings differ from the file: http2 false → true") == (
        domain.problem.code,
        str(domain.problem.message),
    )


def test_settings_of_a_domain_that_waits_for_its_certificate() -> None:
    """The settings come with the certificate, so they are no problem yet."""
    desired = declared(https=DesiredHttps(http2=True))
    observed = without_problem(world(THIS, bound=None, https=HttpsSettings(http2=False)))

    [domain] = status_of(desired, observed, NOW).domains

    assert (Standing.PENDING, None) == (domain.standing, domain.problem)


def without_problem(observed: Observation) -> Observation:
    [target] = observed.targets
    domains = tuple(replace(domain, problem=None) for domain in target.domains)
    return replace(observed, targets=(replace(target, domains=domains),))


def test_upload_deadline_is_the_moment_from_which_the_target_refuses() -> None:
    """The last moment to upload lies the target's floor before the end."""
    status = status_of(declared(), world(THIS), NOW)

    assert CURRENT.not_after - timedelta(days=30) == status.domains[0].upload_deadline


def test_copy_that_is_at_the_target_is_reported_as_uploaded() -> None:
    """Also if the domain is bound to another certificate."""
    observed = world(THIS, bound="theirs")

    assert [True] == [domain.is_uploaded for domain in status_of(declared(), observed, NOW).domains]
    (target,) = observed.targets
    gone = replace(observed, targets=(replace(target, remotes=()),))
    assert [False] == [domain.is_uploaded for domain in status_of(declared(), gone, NOW).domains]


def test_unreadable_target_leaves_named_domains_unknown() -> None:
    """Domains of an unreadable target are reported as unknown, with the reason."""
    failure = TargetRejected("bad token")
    observed = Observation((THIS,), (ObservedTarget("qiniu", failure=failure),))

    for desired in (declared(), declared(domains=("img.example.com",))):
        status = status_of(desired, observed, NOW)

        assert [Standing.UNKNOWN] == [domain.standing for domain in status.domains]
        assert failure.problem() == status.domains[0].problem


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.93, 0.99])
def test_end_of_a_certificate_is_judged_as_by_check(share: float) -> None:
    """If `check` is CRITICAL for the end of the newest certificate, `status` exits with 1."""
    certificate = THIS.certificate
    now = certificate.not_before + certificate.lifetime * share

    recorded = Recorded({"img": (THIS,)}, last_run=LastRun(now, now))
    concerns = concerns_of([Expected("img")], recorded, now)
    status = status_of(declared(), world(THIS), now)

    is_critical = any(concern.problem.is_error for concern in concerns)
    assert is_critical == (Severity.ERROR is status.severity)


@given(situations())
def test_verified_exactly_if_the_plan_is_silent(
    situation: tuple[DesiredCertificate, Observation],
) -> None:
    """Status and plan never contradict each other about a domain."""
    desired, observed = situation
    status = status_of(desired, observed, NOW)

    if status.reason is None and not any(t.failure for t in observed.targets):
        plan = make_plan(desired, observed, Times.at(NOW))
        verified = {
            (domain.target, domain.domain)
            for domain in status.domains
            if domain.standing is Standing.VERIFIED
        }
        assert set(plan.unchanged) == verified
