"""The grouping of concerns by cause, for a single certificate and for thousands."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.causes import (
    Cause,
    causes_of,
    causes_of_run,
    concern_of,
    severities_of,
)
from certferry.core.assessment.health import UPLOAD_DEADLINE, Concern
from certferry.core.assessment.notices import Subject
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.errors import (
    CertferryError,
    DatabaseUnavailable,
    DnsRejected,
    Problem,
    RateLimited,
    Retry,
    Severity,
    TargetAccessDenied,
)
from certferry.text import Quoted, Text, verbatim
from certferry.values import replace
from tests.core.strategies import NOW

DAY = timedelta(days=1)


def concern(
    code: str, message: Text, subject: Subject | None = None, *, days: int | None = None
) -> Concern:
    """Return a concern that ends in so many days."""
    deadline = None if days is None else NOW + days * DAY
    problem = Problem(code, message, severity=Severity.WARNING, since=NOW)
    return Concern(problem, subject or Subject(), deadline)


def denied(lineage: str, account: str = "qiniu") -> Concern:
    """Return the concern of an account that refuses its key.

    The service quotes each request's id.
    """
    message = Text(
        "{target} refuses the key: {answer}", target=account, answer=Quoted(f"bad token {lineage}")
    )
    return concern(TargetAccessDenied.code, message, Subject(lineage, account, f"{lineage}.cn"))


def ends(lineage: str, days: int) -> Concern:
    """Return the concern of a certificate that ends without a renewal."""
    message = Text("the certificate ends at {end}, and is not renewed", end=NOW + days * DAY)
    return concern("ends_soon", message, Subject(lineage), days=days)


LINEAGES = st.sampled_from([f"m{number}" for number in range(6)])
SUBJECTS = st.builds(
    Subject, LINEAGES | st.just(""), st.sampled_from(["", "qiniu", "aliyun"]), st.sampled_from("ab")
)
CODES = st.sampled_from(
    [
        *("ends_soon", "expired", "upload_deadline", "earlier_ends", "never_issued"),
        *("too_little_life", "drifted", "revoked", "run_overdue", "undeclared", "certificate"),
        *("target_access_denied", "ca_unavailable"),
    ]
)
CONCERNS = st.lists(
    st.builds(
        lambda code, subject, words, days: concern(
            code, Text("{words} of {name}", words=words, name=subject.lineage), subject, days=days
        ),
        CODES,
        SUBJECTS,
        st.sampled_from(["refused", "away"]),
        st.none() | st.integers(-3, 90),
    ),
    max_size=30,
)


@given(CONCERNS)
def test_every_concern_belongs_to_exactly_one_cause(concerns: list[Concern]) -> None:
    """No concern is lost or counted twice, and every cause has a concern of its own."""
    causes = causes_of(concerns)

    assert Counter(map(repr, concerns)) == Counter(
        repr(grouped) for cause in causes for grouped in cause.everything
    )
    assert all(cause.concerns for cause in causes)


@given(CONCERNS)
def test_no_deadline_is_lost_in_a_group(concerns: list[Concern]) -> None:
    """A cause has the earliest deadline and the highest severity of its certificates."""
    for cause in causes_of(concerns):
        for grouped in cause.everything:
            assert grouped.problem.severity.rank <= cause.problem.severity.rank
            if grouped.deadline is not None:
                assert cause.deadline is not None
                assert cause.deadline <= grouped.deadline
            if grouped.subject.lineage:
                assert grouped.subject.lineage in cause.lineages


@given(CONCERNS, st.randoms(use_true_random=False))
def test_order_of_concerns_does_not_matter(concerns: list[Concern], random: Random) -> None:
    """Two screens that read the concerns in different orders show the same causes."""
    shuffled = list(concerns)
    random.shuffle(shuffled)

    assert summary(causes_of(concerns)) == summary(causes_of(shuffled))


def summary(causes: tuple[Cause, ...]) -> list[tuple[str, tuple[str, ...], object]]:
    """Return the first line of each cause, for an operator."""
    return sorted(
        (cause.problem.code, tuple(sorted(cause.lineages)), str(cause.deadline)) for cause in causes
    )


def test_key_that_an_account_refuses_is_one_cause() -> None:
    """The certificates that end because of the key are consequences of the cause."""
    lineages = [f"m{number}" for number in range(20)]
    concerns = [denied(lineage) for lineage in lineages]
    concerns += [ends(lineage, 30 - number) for number, lineage in enumerate(lineages)]

    (cause,) = causes_of(concerns)

    assert TargetAccessDenied.code == cause.problem.code
    assert set(lineages) == set(cause.lineages)
    assert "m19" == cause.lineages[0]
    assert NOW + 11 * DAY == cause.deadline
    assert (20, 20) == (len(cause.concerns), len(cause.consequences))
    assert Subject(target="qiniu") == cause.subject


def test_keys_of_two_accounts_are_two_causes() -> None:
    """Each account is fixed apart."""
    causes = causes_of([denied("m1"), denied("m2", "aliyun"), denied("m3", "aliyun")])

    assert [("m1",), ("m2", "m3")] == sorted(cause.lineages for cause in causes)


def test_client_that_stopped_renewing_is_the_cause_of_later_concerns() -> None:
    """The target rejects the old files, then the time for an upload ends, then the certificate."""
    message = Text("{path}: not renewed yet, and expires at {moment}", path="/tls/a", moment=NOW)
    too_old = Text("the certificate has too little life left")
    chain = [
        ends("m1", 5),
        concern(
            "upload_deadline", Text("must be uploaded"), Subject("m1", "qiniu", "a.cn"), days=2
        ),
        concern("too_little_life", too_old, Subject("m1", "qiniu")),
        concern("certificate", message, Subject("m1")),
    ]

    (cause,) = causes_of(chain)

    assert ("certificate", NOW + 2 * DAY) == (cause.problem.code, cause.deadline)
    assert 3 == len(cause.consequences)


def test_runs_that_no_longer_start_are_the_cause_of_certificates_that_end() -> None:
    """The schedule has a single sentence, with the certificates that the missing runs would
    renew.
    """
    overdue = concern("run_overdue", Text("the last run ended at {moment}", moment=NOW))

    (cause,) = causes_of([ends("m1", 3), ends("m2", 4), overdue])

    assert ("run_overdue", ("m1", "m2")) == (cause.problem.code, cause.lineages)


def test_missed_upload_does_not_hide_the_coming_expiry() -> None:
    """The next end of a cause is the first event that visitors notice, or that an operator can
    still prevent; an upload deadline in the past counts only without such an event.
    """
    subject = Subject("m0", "qiniu", "m0.cn")
    missed = concern(UPLOAD_DEADLINE, Text("missed"), subject, days=-18)
    late = concern("source_late", Text("late"), subject, days=9)

    [cause] = causes_of([missed, late])
    [missed_only] = causes_of([missed])

    assert NOW - 18 * DAY == cause.deadline
    assert late == cause.next_end(NOW)
    assert missed == missed_only.next_end(NOW)
    assert late == cause.next_end(NOW + 10 * DAY)


def test_causes_without_a_deadline_sort_by_reach() -> None:
    """A refused key of thirty certificates comes before a channel; a deadline before both."""
    many = [denied(f"m{number}") for number in range(30)]
    channel = concern("channel_refused", Text("no"), Subject(channel="a"))
    pressing = ends("x", 9)

    causes = causes_of([channel, *many, pressing])

    assert [1, 30, 0] == [len(cause.lineages) for cause in causes]
    assert "ends_soon" == causes[0].problem.code


def test_edge_that_lags_for_many_domains_is_one_cause() -> None:
    """The addresses are the cause; the domains are touched."""
    message = Text("{count} of {all} addresses do not serve the certificate yet ({addresses})")
    concerns = [
        concern(
            "target_stuck",
            message.filled(count=1, all=3, addresses=["198.51.100.7"]),
            Subject(f"m{number}", "qiniu", f"m{number}.cn"),
        )
        for number in range(30)
    ]

    (cause,) = causes_of(concerns)

    assert 30 == len(cause.places)


def failed(lineage: str, error: CertferryError, target: str | None = None) -> StepOutcome:
    """Return a failed step: an order, or a deployment to `target`."""
    action = Action.ISSUE if target is None else Action.DEPLOY
    message = Text(error.message.template, **{**error.message.values, "lineage": lineage})
    return StepOutcome.of(action, type(error)(message), target=target)


ERRORS = st.sampled_from(
    [
        TargetAccessDenied(Text("{lineage}: the key is refused")),
        DnsRejected(Text("{lineage}: the zone is frozen")),
        DatabaseUnavailable(Text("the database is gone")),
    ]
)
STEPS = st.one_of(
    st.builds(failed, LINEAGES, ERRORS),
    st.builds(failed, LINEAGES, ERRORS, target=st.sampled_from(["qiniu", "aliyun"])),
    st.just(StepOutcome(Action.ISSUE, Outcome.DONE, Text("issued"))),
)
REPORTS = st.dictionaries(
    LINEAGES, st.tuples(st.lists(STEPS, max_size=4).map(tuple), st.lists(st.integers(-3, 90)))
).map(
    lambda lineages: SyncReport(
        tuple(
            LineageReport(name, None, steps, ends=tuple(NOW + days * DAY for days in ends))
            for name, (steps, ends) in lineages.items()
        )
    )
)


@given(REPORTS)
def test_every_failed_step_of_a_run_belongs_to_exactly_one_cause(report: SyncReport) -> None:
    """Every step and every deadline of a certificate is grouped."""
    causes = causes_of_run(report)

    bad = [
        (lineage.lineage, step, lineage.ends)
        for lineage in report.lineages
        for step in lineage.having(Outcome.FAILED)
    ]
    assert Counter(repr(concern_of(step, name, ends)) for name, step, ends in bad) == Counter(
        repr(concern) for cause in causes for concern in cause.everything
    )
    for name, step, ends in bad:
        served = ends[:1] if step.target is None else ends[1:2]
        assert all(
            any(
                name in cause.lineages and cause.deadline is not None and cause.deadline <= end
                for cause in causes
            )
            for end in served
        )


def test_database_that_goes_away_is_one_cause_of_a_run() -> None:
    """The cause is the same for 200 certificates at all accounts."""
    gone = DatabaseUnavailable(Text("the database is gone"), hint=Text("start the database"))
    targets = [None, "qiniu", "aliyun"]
    lineages = tuple(
        LineageReport(f"m{n}", None, (StepOutcome.of(None, gone, target=targets[n % 3]),))
        for n in range(200)
    )

    (cause,) = causes_of_run(SyncReport(lineages, problem=gone))

    assert (200, gone.hint) == (len(cause.lineages), cause.problem.hint)


def test_limit_of_a_ca_is_one_cause_with_a_warning() -> None:
    """The orders wait; the certificate that ends first gives the deadline."""
    lineages = []
    for n in range(50):
        moment = NOW + n * timedelta(minutes=1)
        limit = RateLimited(Text("the CA takes orders again at {moment}", moment=moment))
        limit.retry = Retry.at(moment)
        held = StepOutcome.of(Action.ISSUE, limit, Outcome.WAITING)
        lineages.append(LineageReport(f"m{n}", None, (held,), ends=(NOW + (50 - n) * DAY,)))

    (cause,) = causes_of_run(SyncReport(tuple(lineages)))

    assert (50, NOW + DAY) == (len(cause.lineages), cause.deadline)
    assert Severity.WARNING is cause.problem.severity


def test_ten_thousand_problems_take_a_moment() -> None:
    """The time is a small multiple of sorting the concerns, which every checkup does."""
    concerns = [
        each
        for number in range(5000)
        for each in (denied(f"m{number}", f"account{number % 50}"), ends(f"m{number}", number))
    ]
    begin = time.process_time()

    causes = causes_of(concerns)

    assert 50 == len(causes)
    assert time.process_time() - begin < 2


def test_message_of_a_cause_counts_the_names_that_differ() -> None:
    """A name shared by all concerns stays, and so does the message of a single concern."""
    concerns = [
        Concern(
            Problem(
                "target_rejected",
                Text("{domain}: {target} refuses it", domain=f"d{number}", target="qiniu"),
            ),
            Subject(f"c{number}", "qiniu", f"d{number}"),
        )
        for number in range(3)
    ]

    (cause,) = causes_of(concerns)
    (alone,) = causes_of(concerns[:1])

    assert "d0, and 2 more: qiniu refuses it" == str(cause.problem.message)
    assert "d0: qiniu refuses it" == str(alone.problem.message)


@given(CONCERNS)
def test_severity_of_a_cause_is_found_from_each_of_its_problems(concerns: list[Concern]) -> None:
    """A page that finds a problem by itself gets the severity of a known cause with the same code
    and subject. Without such a cause, the problem keeps its severity.
    """
    causes = causes_of(concerns)
    known = severities_of(causes)

    for concern in concerns:
        about, code = concern.subject, concern.problem.code
        found = Problem(code, verbatim("found"), severity=Severity.NOTICE)
        alike = {
            cause.problem.severity
            for cause in causes
            for other in cause.concerns
            if (other.problem.code, other.subject) == (code, about)
        }
        if about.domain and alike:
            assert known.of(found, about).rank >= max(severity.rank for severity in alike)
    other = Problem("unknown", verbatim("found"), severity=Severity.NOTICE)
    assert Severity.NOTICE is known.of(other, Subject("img"))


def test_severity_of_an_account_whose_keys_are_refused() -> None:
    """The account and each certificate have the severity of the cause; another account has not."""
    known = severities_of(causes_of([denied("m1", "qiniu"), denied("m2", "qiniu")]))
    found = replace(denied("m1", "qiniu").problem, severity=Severity.NOTICE)

    for about in (Subject(target="qiniu"), Subject("m1", "qiniu"), Subject("m9", "qiniu", "a")):
        assert denied("m1").problem.severity is known.of(found, about)
    assert denied("m1").problem.severity is known.of(replace(found, subject="qiniu"), Subject())
    assert Severity.NOTICE is known.of(found, Subject("m9", "aliyun"))
