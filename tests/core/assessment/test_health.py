"""Concerns about certificates by the recorded state, and the order in which they need a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.causes import causes_of
from certferry.core.assessment.health import (
    Checkup,
    Concern,
    Expected,
    Recorded,
    by_share_of_life,
    checkup,
    concerns_of,
    worst_first,
)
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighted, Sighting, after_run, sighted
from certferry.core.assessment.status import (
    OF_DOMAINS,
    DomainStatus,
    LastFailure,
    LineageStatus,
    Standing,
    are_in_order,
    most_needed_first,
)
from certferry.core.certificates.certificate import renew_at
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    Served,
)
from certferry.core.observed.records import LastRun
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import Problem, Severity
from certferry.present.check_text import PluginStatus, plugin_status_of
from certferry.text import Text
from certferry.values import replace
from tests.core.strategies import NOW, certificate

# --- Severity by the recorded state


DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NINETY = timedelta(days=90)
LIFETIMES = [NINETY, timedelta(days=64), timedelta(days=45), timedelta(hours=160)]
IMG = Expected("img")
OLD, NEW = "aa" * 32, "bb" * 32


def version(
    left: timedelta, lifetime: timedelta = NINETY, fingerprint: str = NEW, saved: timedelta = DAY
) -> Version:
    """Return a version with so much life left that was saved so long ago."""
    made = certificate(fingerprint, not_before=NOW + left - lifetime, lifetime=lifetime)
    return Version(1, made, NOW - saved)


def place(*, served: bool, fingerprint: str | None = NEW) -> Sighting:
    return Sighting("img", "qiniu", "img.example.com", served, NOW - DAY, fingerprint)


def recorded(
    *versions: Version, places: Sequence[Sighting] = (), notices: Sequence[Notice] = ()
) -> Recorded:
    versions_by_lineage = {"img": versions} if versions else {}
    return Recorded(versions_by_lineage, places, notices, LastRun(NOW - HOUR, NOW - HOUR))


def judged(state: Recorded, expected: Expected = IMG) -> list[tuple[Severity, str]]:
    return [
        (concern.problem.severity, concern.problem.code)
        for concern in concerns_of([expected], state, NOW)
    ]


@pytest.mark.parametrize("lifetime", LIFETIMES, ids=str)
@given(share=st.floats(0, 1))
def test_certificate_that_is_not_due_is_in_order(lifetime: timedelta, share: float) -> None:
    """Until the renewal is due, and for the first half of the time after, there is no warning."""
    made = version(lifetime, lifetime).certificate
    begun, due = made.not_before, renew_at(made)
    half = due + (made.not_after - due) / 2 - timedelta(seconds=1)

    assert Severity.OK is by_share_of_life(made, begun + (due - begun) * share)
    if lifetime > timedelta(days=10):
        assert Severity.OK is by_share_of_life(made, half)


@given(
    lifetime=st.timedeltas(HOUR, timedelta(days=400)),
    moments=st.lists(st.floats(-0.5, 1.5), min_size=2, max_size=5),
)
def test_severity_rises_with_time(lifetime: timedelta, moments: list[float]) -> None:
    """A critical certificate stays critical, and an expired certificate is critical."""
    made = version(lifetime, lifetime).certificate
    severities = [
        by_share_of_life(made, made.not_before + lifetime * share) for share in sorted(moments)
    ]

    ranks = [severity.rank for severity in severities]
    assert sorted(ranks) == ranks
    assert Severity.ERROR is by_share_of_life(made, made.not_after)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (15.1, []),
        (14.9, [(Severity.WARNING, "ends_soon")]),
        (7.4, [(Severity.ERROR, "ends_soon")]),
        (-1, [(Severity.ERROR, "expired")]),
    ],
)
def test_certificate_that_ends(days: float, expected: list[tuple[Severity, str]]) -> None:
    """A certificate of 90 days has a warning with a sixth of its life left and is critical with a
    twelfth.
    """
    assert expected == judged(recorded(version(days * DAY)))


def test_certificate_of_45_days_that_is_renewed_on_time() -> None:
    """With 28 of 45 days left there is no warning; a limit in days would warn for half the life."""
    assert [] == judged(recorded(version(28 * DAY, timedelta(days=45))))


def test_certificate_that_was_never_issued_is_critical() -> None:
    """Also if the first order has just failed, with the moment of the failure."""
    trouble = notice(Topic.TROUBLE, Subject("img"), "ca_unavailable")

    concerns = concerns_of([IMG], recorded(notices=[trouble]), NOW)

    assert [(Severity.ERROR, "never_issued"), (Severity.WARNING, "ca_unavailable")] == [
        (each.problem.severity, each.problem.code) for each in concerns
    ]
    assert trouble.since == concerns[0].problem.since


def test_revoked_certificate_is_critical() -> None:
    """Browsers refuse the certificate, however much life is left."""
    revoked = replace(
        version(60 * DAY), revocation=Revocation(NOW - HOUR, RevocationReason.KEY_COMPROMISE)
    )

    assert [(Severity.ERROR, "revoked")] == judged(recorded(revoked))


def test_certificate_with_an_expired_issuer_is_critical() -> None:
    """Browsers refuse the chain, however much life the certificate has left."""
    ended = replace(version(60 * DAY), issuer_not_after=NOW)
    ends = replace(version(60 * DAY), issuer_not_after=NOW + HOUR)

    assert [(Severity.ERROR, "issuer_expired")] == judged(recorded(ended))
    assert [] == judged(recorded(ends))


def test_unfinished_revocation_is_reported_until_its_end() -> None:
    """An unfinished revocation of the certificate in force is critical. For an earlier certificate
    it is a warning until the certificate expires.
    """
    begun = Revocation(NOW - HOUR, RevocationReason.SUPERSEDED, is_answered=False)
    newest, earlier = version(60 * DAY), replace(version(30 * DAY), revocation=begun)

    assert [(Severity.ERROR, "revoked")] == judged(recorded(replace(newest, revocation=begun)))
    assert [(Severity.WARNING, "revocation_begun")] == judged(recorded(newest, earlier))
    expired = replace(version(-DAY), revocation=begun)
    assert [] == judged(recorded(newest, expired))


def notice(topic: Topic, subject: Subject, code: str = "dns_access_denied") -> Notice:
    return Notice(
        topic, subject, NOW - HOUR, Problem(code, Text("the token is refused"), Text("check it"))
    )


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (notice(Topic.TROUBLE, Subject("img", "qiniu", "a"), "no_edge"), ["no_edge"]),
        (notice(Topic.TROUBLE, Subject(), "ca_unavailable"), ["ca_unavailable"]),
        (notice(Topic.TROUBLE, Subject(channel="ops"), "channel_refused"), ["channel_refused"]),
        (notice(Topic.FOUND, Subject("img", "qiniu", "a"), "found"), ["drifted"]),
        (notice(Topic.FOUND, Subject("img", "qiniu"), "found"), []),
        (notice(Topic.RENEWED, Subject("img")), []),
        (notice(Topic.TROUBLE, Subject("other")), []),
    ],
)
def test_trouble_and_drift_are_warnings(reported: Notice, expected: list[str]) -> None:
    """Trouble and drift are warnings while the certificate has time. A partly unreadable account,
    good news and other certificates' trouble give no concern.
    """
    concerns = concerns_of([IMG], recorded(version(60 * DAY), notices=[reported]), NOW)

    assert expected == [each.problem.code for each in concerns]
    assert all(each.problem.severity is Severity.WARNING for each in concerns)
    assert all(
        (each.problem.since, each.problem.hint) == (reported.since, reported.problem.hint)
        for each in concerns
    )


def test_place_without_a_certificate_comes_before_every_deadline() -> None:
    """Visitors of the place get an error now, even if no certificate ends soon."""
    dark = replace(place(served=False, fingerprint=None), serves_nothing=True)
    about = Subject(*dark.place)
    failed = notice(Topic.TROUBLE, about, "target_rejected")
    ending = replace(notice(Topic.TROUBLE, Subject("img")), deadline=NOW + DAY)

    state = recorded(version(60 * DAY), places=[dark], notices=[ending, failed])
    concerns = concerns_of([IMG], state, NOW)

    assert [Severity.ERROR] * 2 == [each.problem.severity for each in concerns]
    assert [about, Subject("img")] == [each.subject for each in concerns]
    assert [about, Subject("img")] == [cause.subject for cause in causes_of(concerns)]


@pytest.mark.parametrize("code", ["target_access_denied", "dns_access_denied"])
@pytest.mark.parametrize("subject", [Subject("img"), Subject("img", "qiniu", "a"), Subject()])
def test_refused_keys_are_an_error(subject: Subject, code: str) -> None:
    """Every run fails until an operator corrects the keys, even while the certificate has time."""
    reported = notice(Topic.TROUBLE, subject, code)

    (concern,) = concerns_of([IMG], recorded(version(60 * DAY), notices=[reported]), NOW)

    assert (code, Severity.ERROR) == (concern.problem.code, concern.problem.severity)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (37, [(Severity.WARNING, "upload_deadline")]),
        (44, []),
        (29.9, [(Severity.ERROR, "upload_deadline")]),
        (33.7, [(Severity.ERROR, "upload_deadline")]),
    ],
)
def test_new_certificate_that_its_target_will_soon_refuse(
    days: float, expected: list[tuple[Severity, str]]
) -> None:
    """A target with a limit of 30 days takes a certificate of 45 days for 15 days: a warning with
    half of that time left, critical with a quarter.
    """
    lifetime = timedelta(days=45)
    made = version(days * DAY, lifetime, saved=(45 - days) * DAY)
    state = recorded(made, places=[place(served=False, fingerprint=None)])

    assert expected == judged(state, replace(IMG, least_life=30 * DAY))
    assert [] == judged(state)
    here = recorded(made, places=[place(served=True)])
    assert [] == judged(here, replace(IMG, least_life=30 * DAY))


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (33, "the new certificate must be uploaded by 2026-"),
        (29, "the last moment to upload the new certificate was 2026-"),
    ],
)
def test_sentence_about_the_last_moment_to_upload(days: int, sentence: str) -> None:
    """The sentence says that the upload must still come, or that its moment has passed."""
    made = version(days * DAY, timedelta(days=45), saved=(45 - days) * DAY)
    state = recorded(made, places=[place(served=False, fingerprint=None)])
    (concern,) = concerns_of([replace(IMG, least_life=30 * DAY)], state, NOW)

    assert str(concern.problem.message).startswith(sentence)


@pytest.mark.parametrize(
    ("days", "expected"),
    [(20, []), (10, [Severity.WARNING]), (5, [Severity.ERROR]), (-1, [Severity.ERROR])],
)
def test_place_with_the_earlier_certificate(days: int, expected: list[Severity]) -> None:
    """The earlier certificate is judged by its own life while a place serves it."""
    old = version(days * DAY, fingerprint=OLD)
    versions = (version(89 * DAY), old)

    concerns = concerns_of(
        [IMG], recorded(*versions, places=[place(served=False, fingerprint=OLD)]), NOW
    )

    assert [(severity, "earlier_ends") for severity in expected] == [
        (each.problem.severity, each.problem.code) for each in concerns
    ]
    assert [] == judged(recorded(*versions, places=[place(served=True)]))


@pytest.mark.parametrize(
    ("days", "expected"), [(20, []), (10, [Severity.WARNING]), (-1, [Severity.ERROR])]
)
def test_place_with_a_certificate_of_another_tool(days: int, expected: list[Severity]) -> None:
    """The end of the other tool's certificate is judged, whichever of ours the place had before."""
    versions = version(89 * DAY), version(80 * DAY, fingerprint=OLD)
    other = replace(place(served=False, fingerprint=OLD), other_until=NOW + days * DAY)

    concerns = concerns_of([IMG], recorded(*versions, places=[other]), NOW)

    assert [(severity, "earlier_ends", NOW + days * DAY) for severity in expected] == [
        (each.problem.severity, each.problem.code, each.deadline) for each in concerns
    ]


WANTED, FOREIGN = "cc" * 32, "dd" * 32


def seen_of(*addresses: Served, bound: str | None = "other") -> Sighting:
    """Return a run's sighting of a domain whose bound certificate ends in ten days."""
    until = NOW + 10 * DAY if bound == "other" else None
    domain = ObservedDomain(
        "img.example.com", Kind.CDN, DomainState.READY, bound, bound_until=until
    )
    ours = RemoteCertificate("ours", "certferry", WANTED, NOW + 80 * DAY)
    target = ObservedTarget("qiniu", domains=(domain,), remotes=(ours,))
    target = replace(target, served={"img.example.com": addresses})
    versions = (version(80 * DAY, fingerprint=WANTED),)
    [place_seen] = sighted("img", Observation(versions, (target,)), NOW).places
    return place_seen


def address(fingerprint: str | None, days: int = 80, *, silent: bool = False) -> Served:
    end = None if fingerprint is None else NOW + days * DAY
    return Served("192.0.2.1", fingerprint, valid=True, not_after=end, silent=silent)


def test_end_of_another_tools_certificate_is_stored() -> None:
    """The first end among the addresses counts; with no address asked, the end of the bound
    certificate.
    """
    own, silent = address(WANTED), address(None, silent=True)
    mixed = own, address(FOREIGN, 30), address("ee" * 32, 20)

    assert NOW + 10 * DAY == seen_of().other_until == seen_of(silent).other_until
    assert NOW + 20 * DAY == seen_of(*mixed).other_until
    assert seen_of(own, bound="ours").other_until is None
    assert seen_of(bound="ours").other_until is None


def test_addresses_that_lag_are_stored() -> None:
    """A sighting names the addresses without the certificate, and counts those that answered."""
    early, late = address(WANTED), replace(address(FOREIGN, 30), address="192.0.2.7")
    silent = replace(address(None, silent=True), address="192.0.2.8")

    lagging = seen_of(early, late, silent)
    served = seen_of(early, silent)

    assert (2, ("192.0.2.7",), True) == (lagging.answered, lagging.lagging, lagging.is_uploaded)
    assert (True, 0, ()) == (served.served, served.answered, served.lagging)


def test_domain_without_https_at_every_address() -> None:
    """Visitors get an error: the failure of the deployment is an error, and elsewhere a warning."""
    refusing = address(None)
    dark = seen_of(refusing, refusing)
    trouble = Notice(
        Topic.TROUBLE,
        Subject("img", "qiniu", "img.example.com"),
        NOW,
        Problem("deploy_failed", Text("Qiniu refused the certificate")),
    )

    assert dark.serves_nothing
    assert not seen_of(refusing, address(FOREIGN)).serves_nothing
    assert not seen_of(address(None, silent=True)).serves_nothing
    assert not seen_of().serves_nothing
    assert seen_of(bound=None).serves_nothing
    for seen, severity in ((dark, Severity.ERROR), (place(served=False), Severity.WARNING)):
        state = recorded(version(80 * DAY), places=[seen], notices=[trouble])
        assert (severity, "deploy_failed") in judged(state)


def test_domains_behind_a_lagging_address() -> None:
    """The message names the lagging addresses, and all domains behind them share one cause."""
    names = [f"img{number}" for number in range(30)]
    expected = [replace(IMG, lineage=name) for name in names]
    late = replace(
        place(served=False),
        other_until=NOW + DAY,
        is_uploaded=True,
        answered=2,
        lagging=("192.0.2.7",),
    )
    state = recorded(version(89 * DAY), places=[])
    state = replace(
        state,
        versions=dict.fromkeys(names, state.versions["img"]),
        sightings=[replace(late, lineage=name, domain=f"{name}.example.com") for name in names],
    )

    [cause] = causes_of(concerns_of(expected, state, NOW))

    assert "earlier_ends" == cause.problem.code
    assert "1 of 2 addresses (192.0.2.7) still serves" in str(cause.problem.message)
    assert set(names) == set(cause.lineages)
    assert "qiniu" in str(cause.problem.hint)


def test_copy_that_the_target_has_already() -> None:
    """No deadline for an upload is reported once the target holds a copy."""
    made = version(29 * DAY, timedelta(days=45), saved=16 * DAY)
    uploaded = replace(place(served=False, fingerprint=None), is_uploaded=True)
    imported = replace(IMG, least_life=30 * DAY)

    assert [] == judged(recorded(made, places=[uploaded]), imported)
    assert [] != judged(recorded(made, places=[replace(uploaded, is_uploaded=False)]), imported)


def test_upload_that_a_domain_without_https_waits_for() -> None:
    """An outage is an error, and no part of the cause of domains that still serve a certificate."""
    made = version(34.5 * DAY, timedelta(days=45), saved=10 * DAY)
    dark = replace(place(served=False, fingerprint=None), serves_nothing=True)
    light = replace(dark, domain="other.example.com", serves_nothing=False)
    imported = replace(IMG, least_life=30 * DAY)

    found = concerns_of([imported], recorded(made, places=[dark, light]), NOW)

    severities = {each.subject.domain: each.problem.severity for each in found}
    assert {dark.domain: Severity.ERROR, light.domain: Severity.WARNING} == severities
    assert 2 == len(causes_of(found))


def test_replaced_certificate_of_another_tool_is_forgotten() -> None:
    """Its end goes; the moment since which the place was not served stays."""
    first = replace(seen_of(), since=NOW - DAY)
    again = replace(seen_of(address(FOREIGN, 30)), since=NOW)
    served = replace(seen_of(address(WANTED)), since=NOW)

    [stored] = after_run([first], {"img": Sighted((again,))})
    [ended] = after_run([stored], {"img": Sighted((served,))})

    assert (NOW - DAY, NOW + 30 * DAY) == (stored.since, stored.other_until)
    assert (NOW, True, None) == (ended.since, ended.served, ended.other_until)


def test_runs_that_are_missing() -> None:
    """A run that is later than allowed is reported, and so is a state without a run."""
    state = recorded(version(60 * DAY))
    late = replace(state, last_run=LastRun(NOW - 49 * HOUR))

    assert [(Severity.WARNING, "run_overdue")] == judged(late)
    assert [] == list(concerns_of([IMG], late, NOW, timedelta(hours=50)))
    assert [(Severity.WARNING, "run_missing")] == judged(replace(state, last_run=None))


@pytest.mark.parametrize("recorded_in_future", ["run", "certificate"])
def test_clock_that_is_years_behind(recorded_in_future: str) -> None:
    """Recorded moments lie in the future, so the result is UNKNOWN."""
    state = recorded(version(60 * DAY))
    if recorded_in_future == "run":
        state = replace(state, last_run=LastRun(NOW + 700 * DAY))
    else:
        state = replace(state, versions={"img": [version(800 * DAY)]})

    assert (Severity.WARNING, "clock_off") in judged(state)
    assert PluginStatus.UNKNOWN is plugin_status_of(checkup([IMG], state, NOW).concerns)


def test_files_that_are_gone_are_counted() -> None:
    """Each missing file is a concern with its path."""
    gone = replace(IMG, gone=("/opt/a.pem", "/opt/b.pem"))

    concerns = concerns_of([gone], recorded(version(60 * DAY)), NOW)

    assert ["files_gone"] * 2 == [each.problem.code for each in concerns]
    assert ["/opt/a.pem is missing", "/opt/b.pem is missing"] == [
        str(o.problem.message) for o in concerns
    ]


def test_certificate_that_others_serve_may_end() -> None:
    """Other lineages serve all its domains, so the renewal is left out on purpose."""
    owned_elsewhere = Sighting("img", "qiniu", "", served=True, since=NOW)

    assert [] == judged(recorded(version(-1 * DAY), places=[owned_elsewhere]))


def test_certificate_that_others_serve_need_not_be_issued() -> None:
    """A run orders nothing for the certificate, as `status` says, so advice to start a run would be
    wrong.
    """
    owned_elsewhere = Sighting("img", "qiniu", "", served=True, since=NOW)

    assert [] == judged(recorded(places=[owned_elsewhere]))
    unread = notice(Topic.TROUBLE, Subject("img", "other"), "target_unavailable")
    assert [Severity.ERROR, Severity.WARNING] == [
        health for health, _ in judged(recorded(places=[owned_elsewhere], notices=[unread]))
    ]
    elsewhere = Sighting("img", "other", "a.example.com", served=False, since=NOW)
    assert [(Severity.ERROR, "never_issued")] == judged(
        recorded(places=[owned_elsewhere, elsewhere])
    )


def concern(code: str, severity: Severity, deadline: datetime | None = None) -> Concern:
    return Concern(Problem(code, Text("so"), severity=severity), deadline=deadline)


def test_order_of_concerns() -> None:
    """Critical concerns come first, then unknown ones, then warnings by their deadline."""
    concerns = [
        concern("late", Severity.WARNING, NOW + DAY),
        concern("clock_off", Severity.WARNING),
        concern("early", Severity.WARNING, NOW),
        concern("over", Severity.ERROR),
    ]

    assert ["over", "clock_off", "early", "late"] == [
        each.problem.code for each in worst_first(concerns)
    ]
    assert PluginStatus.CRITICAL is plugin_status_of(concerns)
    assert PluginStatus.UNKNOWN is plugin_status_of(concerns[:2])
    assert PluginStatus.OK is plugin_status_of([])


def test_counts_of_a_checkup() -> None:
    """A checkup counts served places, and names the first end, also of an earlier certificate in
    use.
    """
    old = version(30 * DAY, fingerprint=OLD)
    before = recorded(version(89 * DAY), old, places=[place(served=False, fingerprint=OLD)])

    def glance(state: Recorded) -> tuple[int, int, int, int]:
        counted: Checkup = checkup([IMG], state, NOW)
        assert counted.soonest is not None
        left = (counted.soonest.certificate.not_after - NOW).days
        return counted.certificates, counted.served, counted.places, left

    assert (1, 0, 1, 30) == glance(before)
    assert (1, 1, 1, 89) == glance(replace(before, sightings=[place(served=True)]))
    assert None is checkup([IMG], Recorded(), NOW).soonest


# --- The order in which certificates and domains need a person


REFUSED = LastFailure(Problem("target_rejected", Text("refused")), NOW, NOW)
DOMAINS = st.builds(
    DomainStatus,
    st.just("qiniu"),
    st.just(Kind.CDN),
    st.text("abc", min_size=1, max_size=3),
    st.sampled_from(sorted(OF_DOMAINS)),
    last_failure=st.sampled_from([None, REFUSED]),
)
STATUSES = st.builds(
    LineageStatus,
    st.text("abc", min_size=1, max_size=3),
    st.just(()),
    st.none(),
    st.none(),
    st.none(),
    st.lists(DOMAINS, max_size=3).map(tuple),
    standing=st.sampled_from(sorted({*Standing} - OF_DOMAINS)),
    until=st.integers(-90, 90).map(lambda days: NOW + timedelta(days=days)),
    last_failure=st.sampled_from([None, REFUSED]),
)


@given(st.lists(STATUSES, max_size=6))
def test_rows_are_ordered_by_need(statuses: list[LineageStatus]) -> None:
    """Certificates and their domains are ordered by severity; each row stays, and ordering again
    changes nothing.
    """
    ordered = most_needed_first(statuses)

    needs = [-status.severity.rank for status in ordered]
    assert sorted(needs) == needs
    for status in ordered:
        of_domains = [-each.severity.rank for each in status.domains]
        assert sorted(of_domains) == of_domains
    assert sorted(status.lineage for status in statuses) == sorted(
        status.lineage for status in ordered
    )
    assert ordered == most_needed_first(ordered)


@given(STATUSES)
def test_failed_certificate_needs_a_person(status: LineageStatus) -> None:
    """A failure needs a person whatever else is in order; a certificate in order needs none."""
    assert Severity.ERROR is replace(status, last_failure=REFUSED).severity
    in_order = [
        replace(domain, standing=Standing.VERIFIED, last_failure=None) for domain in status.domains
    ]
    calm = replace(status, domains=tuple(in_order), standing=Standing.VALID, last_failure=None)
    assert Severity.OK is calm.severity


@pytest.mark.parametrize(
    "code", [ReasonCode.REVOKED, ReasonCode.ISSUER_EXPIRED, ReasonCode.OVERDUE]
)
def test_certificate_that_check_calls_critical_needs_a_person(code: ReasonCode) -> None:
    """A certificate that browsers may refuse needs a person before the next run; a due certificate
    waits for the run.
    """
    due = LineageStatus("img", (), None, None, None, (), standing=Standing.DUE)
    refused = replace(due, reason=Reason(code, Text("revoked")))

    assert are_in_order([due], Recorded())
    assert not are_in_order([refused], Recorded())


def test_certificates_of_equal_severity_are_ordered_by_their_ends() -> None:
    """A certificate that another client should have renewed comes first; equals keep the order of
    the file.
    """
    late = LineageStatus("late", (), None, None, None, (), until=NOW + timedelta(days=9))
    soon = replace(late, lineage="soon", until=NOW + timedelta(days=1))
    missing = replace(late, lineage="missing", until=None)
    overdue = replace(
        late, lineage="overdue", reason=Reason(ReasonCode.OVERDUE, Text("not renewed"))
    )
    twin = replace(soon, lineage="twin")

    ordered = most_needed_first([missing, late, soon, overdue, twin])

    assert ["overdue", "soon", "twin", "late", "missing"] == [status.lineage for status in ordered]


def test_receiver_without_a_proof_counts_as_delivered() -> None:
    """Only places that handshakes prove count as served."""
    places = [
        Sighting("img", "files", "/proven", served=True, since=NOW),
        Sighting("img", "files", "/unproven", served=True, since=NOW),
        Sighting("img", "command", "push", served=False, since=NOW),
    ]
    unproven = frozenset({("files", "/unproven"), ("command", "push")})
    recorded = Recorded({"img": ()}, places)

    found = checkup([Expected("img", unproven=unproven)], recorded, NOW)

    assert (1, 1, 1, 2) == (found.served, found.places, found.delivered, found.receivers)
