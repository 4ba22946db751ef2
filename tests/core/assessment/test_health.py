"""How certificates stand, and what needs a person first."""

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

# --- How bad it is, by what is recorded


DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NINETY = timedelta(days=90)
LIFETIMES = [NINETY, timedelta(days=64), timedelta(days=45), timedelta(hours=160)]
IMG = Expected("img")
OLD, NEW = "aa" * 32, "bb" * 32


def version(
    left: timedelta, lifetime: timedelta = NINETY, fingerprint: str = NEW, saved: timedelta = DAY
) -> Version:
    """One that ends after so long, and was saved so long ago."""
    made = certificate(fingerprint, not_before=NOW + left - lifetime, lifetime=lifetime)
    return Version(1, made, NOW - saved)


def place(*, served: bool, fingerprint: str | None = NEW) -> Sighting:
    return Sighting("img", "qiniu", "img.example.com", served, NOW - DAY, fingerprint)


def recorded(
    *versions: Version, places: Sequence[Sighting] = (), notices: Sequence[Notice] = ()
) -> Recorded:
    known = {"img": versions} if versions else {}
    return Recorded(known, places, notices, LastRun(NOW - HOUR, NOW - HOUR))


def judged(known: Recorded, expected: Expected = IMG) -> list[tuple[Severity, str]]:
    return [(one.problem.severity, one.problem.code) for one in concerns_of([expected], known, NOW)]


@pytest.mark.parametrize("lifetime", LIFETIMES, ids=str)
@given(share=st.floats(0, 1))
def test_a_certificate_that_is_not_due_is_in_order(lifetime: timedelta, share: float) -> None:
    """Renewed on time, and for half of the time that a renewal may take, there is no warning."""
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
def test_it_only_gets_worse(lifetime: timedelta, moments: list[float]) -> None:
    """What was critical does not become a warning by waiting, and what has ended is critical."""
    made = version(lifetime, lifetime).certificate
    found = [by_share_of_life(made, made.not_before + lifetime * one) for one in sorted(moments)]

    ranks = [one.rank for one in found]
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
def test_a_certificate_that_ends(days: float, expected: list[tuple[Severity, str]]) -> None:
    """Of 90 days: a warning with a sixth left, critical with a twelfth."""
    assert expected == judged(recorded(version(days * DAY)))


def test_one_of_45_days_is_in_no_warning_when_it_is_renewed_on_time() -> None:
    """With 28 days left of 45, nothing is wrong; days alone would warn half of its life."""
    assert [] == judged(recorded(version(28 * DAY, timedelta(days=45))))


def test_what_was_never_issued_is_critical() -> None:
    """Also where its first order has just failed, with since when that is."""
    trouble = notice(Topic.TROUBLE, Subject("img"))

    found = concerns_of([IMG], recorded(notices=[trouble]), NOW)

    assert [(Severity.ERROR, "never_issued"), (Severity.WARNING, "dns_access_denied")] == [
        (one.problem.severity, one.problem.code) for one in found
    ]
    assert trouble.since == found[0].problem.since


def test_a_revoked_certificate_is_critical() -> None:
    """Visitors' browsers refuse it, whatever is left of it."""
    revoked = replace(
        version(60 * DAY), revocation=Revocation(NOW - HOUR, RevocationReason.KEY_COMPROMISE)
    )

    assert [(Severity.ERROR, "revoked")] == judged(recorded(revoked))


def test_a_certificate_whose_signer_has_expired_is_critical() -> None:
    """Visitors' browsers refuse the chain, whatever is left of the certificate."""
    ended = replace(version(60 * DAY), issuer_not_after=NOW)
    ends = replace(version(60 * DAY), issuer_not_after=NOW + HOUR)

    assert [(Severity.ERROR, "issuer_expired")] == judged(recorded(ended))
    assert [] == judged(recorded(ends))


def test_a_revocation_that_did_not_end_is_reported_until_it_has() -> None:
    """Of the certificate in force, it is as bad as one that did; an earlier one is to be finished,
    while it is valid.
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
    ("said", "expected"),
    [
        (notice(Topic.TROUBLE, Subject("img", "qiniu", "a")), ["dns_access_denied"]),
        (notice(Topic.TROUBLE, Subject()), ["dns_access_denied"]),
        (notice(Topic.TROUBLE, Subject(channel="ops"), "channel_refused"), ["channel_refused"]),
        (notice(Topic.FOUND, Subject("img", "qiniu", "a"), "found"), ["drifted"]),
        (notice(Topic.FOUND, Subject("img", "qiniu"), "found"), []),
        (notice(Topic.RENEWED, Subject("img")), []),
        (notice(Topic.TROUBLE, Subject("other")), []),
    ],
)
def test_trouble_and_drift_are_warnings(said: Notice, expected: list[str]) -> None:
    """While a certificate has time; an account that is unreadable in part and good news are none,
    and other certificates' trouble is not asked for.
    """
    found = concerns_of([IMG], recorded(version(60 * DAY), notices=[said]), NOW)

    assert expected == [one.problem.code for one in found]
    assert all(one.problem.severity is Severity.WARNING for one in found)
    assert all(
        (one.problem.since, one.problem.hint) == (said.since, said.problem.hint) for one in found
    )


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (37, [(Severity.WARNING, "upload_deadline")]),
        (44, []),
        (29.9, [(Severity.ERROR, "upload_deadline")]),
        (33.7, [(Severity.ERROR, "upload_deadline")]),
    ],
)
def test_a_new_certificate_that_its_target_takes_no_longer(
    days: float, expected: list[tuple[Severity, str]]
) -> None:
    """A target that wants 30 days takes one of 45 for 15 days: a warning with half of that left,
    critical with a quarter.
    """
    lifetime = timedelta(days=45)
    made = version(days * DAY, lifetime, saved=(45 - days) * DAY)
    known = recorded(made, places=[place(served=False, fingerprint=None)])

    assert expected == judged(known, replace(IMG, least_life=30 * DAY))
    assert [] == judged(known)
    here = recorded(made, places=[place(served=True)])
    assert [] == judged(here, replace(IMG, least_life=30 * DAY))


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (33, "the new certificate must be uploaded by 2026-"),
        (29, "the last moment to upload the new certificate was 2026-"),
    ],
)
def test_last_moment_to_upload_is_told_as_one(days: int, said: str) -> None:
    """No sentence reads as if a target had the new certificate until then."""
    made = version(days * DAY, timedelta(days=45), saved=(45 - days) * DAY)
    known = recorded(made, places=[place(served=False, fingerprint=None)])
    (concern,) = concerns_of([replace(IMG, least_life=30 * DAY)], known, NOW)

    assert str(concern.problem.message).startswith(said)


@pytest.mark.parametrize(
    ("days", "expected"),
    [(20, []), (10, [Severity.WARNING]), (5, [Severity.ERROR]), (-1, [Severity.ERROR])],
)
def test_a_place_that_still_has_the_earlier_certificate(
    days: int, expected: list[Severity]
) -> None:
    """Judged by that one's life, which visitors get. What no place has any more says nothing."""
    old = version(days * DAY, fingerprint=OLD)
    kept = (version(89 * DAY), old)

    found = concerns_of([IMG], recorded(*kept, places=[place(served=False, fingerprint=OLD)]), NOW)

    assert [(one, "earlier_ends") for one in expected] == [
        (o.problem.severity, o.problem.code) for o in found
    ]
    assert [] == judged(recorded(*kept, places=[place(served=True)]))


@pytest.mark.parametrize(
    ("days", "expected"), [(20, []), (10, [Severity.WARNING]), (-1, [Severity.ERROR])]
)
def test_a_place_that_has_another_certificate(days: int, expected: list[Severity]) -> None:
    """Judged by the end of what visitors get, whichever of ours it had before."""
    known = version(89 * DAY), version(80 * DAY, fingerprint=OLD)
    other = replace(place(served=False, fingerprint=OLD), other_until=NOW + days * DAY)

    found = concerns_of([IMG], recorded(*known, places=[other]), NOW)

    assert [(one, "earlier_ends", NOW + days * DAY) for one in expected] == [
        (one.problem.severity, one.problem.code, one.deadline) for one in found
    ]


WANTED, FOREIGN = "cc" * 32, "dd" * 32


def seen_of(*addresses: Served, bound: str = "other") -> Sighting:
    """Return what a run stores of a domain whose bound certificate ends in ten days."""
    until = NOW + 10 * DAY if bound == "other" else None
    domain = ObservedDomain(
        "img.example.com", Kind.CDN, DomainState.READY, bound, bound_until=until
    )
    ours = RemoteCertificate("ours", "certferry", WANTED, NOW + 80 * DAY)
    target = ObservedTarget("qiniu", domains=(domain,), remotes=(ours,))
    target = replace(target, served={"img.example.com": addresses})
    versions = (version(80 * DAY, fingerprint=WANTED),)
    [found] = sighted("img", Observation(versions, (target,)), NOW).places
    return found


def address(fingerprint: str | None, days: int = 80, *, silent: bool = False) -> Served:
    end = None if fingerprint is None else NOW + days * DAY
    return Served("192.0.2.1", fingerprint, valid=True, not_after=end, silent=silent)


def test_the_end_of_another_certificate_is_stored() -> None:
    """The first of those that addresses present; where none was asked, of what is bound."""
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


def test_another_certificate_that_is_replaced_is_forgotten() -> None:
    """Its end goes with it; since when the place was not served stays."""
    first = replace(seen_of(), since=NOW - DAY)
    again = replace(seen_of(address(FOREIGN, 30)), since=NOW)
    served = replace(seen_of(address(WANTED)), since=NOW)

    [kept] = after_run([first], {"img": Sighted((again,))})
    [ended] = after_run([kept], {"img": Sighted((served,))})

    assert (NOW - DAY, NOW + 30 * DAY) == (kept.since, kept.other_until)
    assert (NOW, True, None) == (ended.since, ended.served, ended.other_until)


def test_runs_that_stay_away() -> None:
    """After the time that is allowed; where there is none at all, that is reported too."""
    known = recorded(version(60 * DAY))
    late = replace(known, last_run=LastRun(NOW - 49 * HOUR))

    assert [(Severity.WARNING, "run_overdue")] == judged(late)
    assert [] == list(concerns_of([IMG], late, NOW, timedelta(hours=50)))
    assert [(Severity.WARNING, "run_missing")] == judged(replace(known, last_run=None))


@pytest.mark.parametrize("what", ["run", "certificate"])
def test_a_clock_that_is_years_behind(what: str) -> None:
    """Nothing is known then: what is recorded lies in the future."""
    known = recorded(version(60 * DAY))
    if what == "run":
        known = replace(known, last_run=LastRun(NOW + 700 * DAY))
    else:
        known = replace(known, versions={"img": [version(800 * DAY)]})

    assert (Severity.WARNING, "clock_off") in judged(known)
    assert PluginStatus.UNKNOWN is plugin_status_of(checkup([IMG], known, NOW).concerns)


def test_files_that_are_gone_are_counted() -> None:
    """Each with its path."""
    gone = replace(IMG, gone=("/opt/a.pem", "/opt/b.pem"))

    found = concerns_of([gone], recorded(version(60 * DAY)), NOW)

    assert ["files_gone"] * 2 == [one.problem.code for one in found]
    assert ["/opt/a.pem is missing", "/opt/b.pem is missing"] == [
        str(o.problem.message) for o in found
    ]


def test_a_certificate_that_others_serve_may_end() -> None:
    """Other lineages serve everything that it was for: it is not renewed, on purpose."""
    owned_elsewhere = Sighting("img", "qiniu", "", served=True, since=NOW)

    assert [] == judged(recorded(version(-1 * DAY), places=[owned_elsewhere]))


def test_a_certificate_that_others_serve_need_not_be_issued() -> None:
    """As `status` has it: a run orders nothing for it, so the advice to run one would be wrong."""
    owned_elsewhere = Sighting("img", "qiniu", "", served=True, since=NOW)

    assert [] == judged(recorded(places=[owned_elsewhere]))
    unread = notice(Topic.TROUBLE, Subject("img", "other"))
    assert [Severity.ERROR, Severity.WARNING] == [
        health for health, _ in judged(recorded(places=[owned_elsewhere], notices=[unread]))
    ]
    elsewhere = Sighting("img", "other", "a.example.com", served=False, since=NOW)
    assert [(Severity.ERROR, "never_issued")] == judged(
        recorded(places=[owned_elsewhere, elsewhere])
    )


def concern(code: str, severity: Severity, deadline: datetime | None = None) -> Concern:
    return Concern(Problem(code, Text("so"), severity=severity), deadline=deadline)


def test_what_is_certainly_bad_comes_first() -> None:
    """Critical, then what is not known, then warnings; of those, what ends first."""
    found = [
        concern("late", Severity.WARNING, NOW + DAY),
        concern("clock_off", Severity.WARNING),
        concern("early", Severity.WARNING, NOW),
        concern("over", Severity.ERROR),
    ]

    assert ["over", "clock_off", "early", "late"] == [
        one.problem.code for one in worst_first(found)
    ]
    assert PluginStatus.CRITICAL is plugin_status_of(found)
    assert PluginStatus.UNKNOWN is plugin_status_of(found[:2])
    assert PluginStatus.OK is plugin_status_of([])


def test_all_at_a_glance() -> None:
    """What is served, and what ends first: also an earlier certificate that a place still has."""
    old = version(30 * DAY, fingerprint=OLD)
    known = recorded(version(89 * DAY), old, places=[place(served=False, fingerprint=OLD)])

    def glance(known: Recorded) -> tuple[int, int, int, int]:
        found: Checkup = checkup([IMG], known, NOW)
        assert found.soonest is not None
        left = (found.soonest.certificate.not_after - NOW).days
        return found.certificates, found.served, found.places, left

    assert (1, 0, 1, 30) == glance(known)
    assert (1, 1, 1, 89) == glance(replace(known, sightings=[place(served=True)]))
    assert None is checkup([IMG], Recorded(), NOW).soonest


# --- Which certificates and domains need a person first


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
def test_no_row_stands_before_one_that_needs_a_person_more(statuses: list[LineageStatus]) -> None:
    """Neither a certificate nor a domain of one; none is lost, and order stays order."""
    ordered = most_needed_first(statuses)

    needs = [-one.severity.rank for one in ordered]
    assert sorted(needs) == needs
    for one in ordered:
        of_domains = [-each.severity.rank for each in one.domains]
        assert sorted(of_domains) == of_domains
    assert sorted(one.lineage for one in statuses) == sorted(one.lineage for one in ordered)
    assert ordered == most_needed_first(ordered)


@given(STATUSES)
def test_what_failed_needs_a_person(status: LineageStatus) -> None:
    """Whatever else is in order; and nothing does where all is."""
    assert Severity.ERROR is replace(status, last_failure=REFUSED).severity
    in_order = [
        replace(one, standing=Standing.VERIFIED, last_failure=None) for one in status.domains
    ]
    calm = replace(status, domains=tuple(in_order), standing=Standing.VALID, last_failure=None)
    assert Severity.OK is calm.severity


@pytest.mark.parametrize(
    "code", [ReasonCode.REVOKED, ReasonCode.ISSUER_EXPIRED, ReasonCode.OVERDUE]
)
def test_what_check_calls_critical_needs_a_person(code: ReasonCode) -> None:
    """A certificate that visitors' clients may refuse does not wait for the next run, which would
    replace it; what is only due does.
    """
    due = LineageStatus("img", (), None, None, None, (), standing=Standing.DUE)
    refused = replace(due, reason=Reason(code, Text("revoked")))

    assert are_in_order([due], Recorded())
    assert not are_in_order([refused], Recorded())


def test_of_two_alike_the_one_that_ends_first_stands_first() -> None:
    """What another client should have renewed stands before both; equals stay as in the file."""
    late = LineageStatus("late", (), None, None, None, (), until=NOW + timedelta(days=9))
    soon = replace(late, lineage="soon", until=NOW + timedelta(days=1))
    missing = replace(late, lineage="missing", until=None)
    overdue = replace(
        late, lineage="overdue", reason=Reason(ReasonCode.OVERDUE, Text("not renewed"))
    )
    twin = replace(soon, lineage="twin")

    ordered = most_needed_first([missing, late, soon, overdue, twin])

    assert ["overdue", "soon", "twin", "late", "missing"] == [one.lineage for one in ordered]
