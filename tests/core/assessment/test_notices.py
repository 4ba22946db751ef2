"""The notices that a run leaves for channels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.notices import (
    CUT,
    KEPT,
    Message,
    Notice,
    Subject,
    Topic,
    failed_run,
    noticed,
    of_channel,
    refused,
    shortened,
    without_channels,
)
from certferry.core.certificates.certificate import is_overdue
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version
from certferry.core.planning.plan import Action
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.errors import (
    ConfigError,
    DeclarationOutdated,
    DnsAccessDenied,
    OrderPostponed,
    Retry,
)
from certferry.text import Text
from certferry.values import replace
from tests.core.strategies import NOW, certificate

# --- Notices of a run


LATER = NOW + timedelta(hours=5)
ISSUE_DENIED = StepOutcome.of(
    Action.ISSUE, DnsAccessDenied(Text("the token is refused"), hint=Text("check it"))
)


def step(
    action: Action | None, outcome: Outcome, target: str | None = "qiniu", domain: str | None = "a"
) -> StepOutcome:
    return StepOutcome(action, outcome, Text("what became of it"), target, domain)


def report(*steps: StepOutcome, lineage: str = "img", complete: bool = True) -> SyncReport:
    return SyncReport((LineageReport(lineage, "ab" * 32, steps),), complete=complete)


def after(
    ran: SyncReport,
    before: tuple[Notice, ...] = (),
    versions: Sequence[Version] = (),
    declared: Sequence[str] = ("img", "other"),
) -> tuple[Notice, ...]:
    now = LATER if before else NOW
    return noticed(ran, before, now, versions={"img": versions}, declared=declared)


def test_failure_is_trouble_with_a_hint_and_a_deadline() -> None:
    """The notice has the place, the problem, the hint, and the end of the certificate in force."""
    version = Version(1, certificate(), NOW)

    (notice,) = after(report(ISSUE_DENIED), versions=[version])

    assert (Topic.TROUBLE, Subject("img")) == notice.key
    assert ("dns_access_denied", "the token is refused") == (
        notice.problem.code,
        str(notice.problem.message),
    )
    assert Text("check it") == notice.problem.hint
    assert version.certificate.not_after == notice.deadline


def test_trouble_of_a_single_host() -> None:
    """Trouble of a receiver or of the declaration belongs to its host, and ends with that host's
    run. Trouble of a target belongs to all hosts. A state of a single host names no host.
    """
    failed = [step(Action.DEPLOY, Outcome.FAILED, target) for target in ("files", "qiniu")]
    old = StepOutcome.of(None, DeclarationOutdated(Text("older")))
    whole = report(*failed, old)
    recorded: dict[str, Any] = {"versions": {"img": ()}, "declared": ["img"]}

    notices = noticed(whole, (), NOW, **recorded, host="web-1")
    about = {("files", "web-1"), ("qiniu", ""), ("", "web-1")}
    assert about == {(notice.subject.target, notice.subject.host) for notice in notices}

    well = report(step(Action.DEPLOY, Outcome.UNCHANGED))
    left = noticed(well, notices, LATER, **recorded, host="web-2")
    assert {*about} - {("qiniu", "")} == {
        (notice.subject.target, notice.subject.host) for notice in left
    }
    assert () == noticed(well, left, LATER, **recorded, host="web-1")
    assert {""} == {notice.subject.host for notice in noticed(whole, (), NOW, **recorded)}


def test_error_that_ends_the_run_of_a_host() -> None:
    """An error in the file, unwritable metrics and an unreachable channel end with the next run of
    the same host, never with another host's run.
    """
    error = ConfigError(Text("a mistake"))
    problem = error.problem()
    stood = failed_run(error, (), NOW, host="web-1")
    stood = of_channel("[metrics]", problem, stood, NOW, host="web-1")
    recorded: dict[str, Any] = {"versions": {}, "declared": ["img"]}
    well = report(step(Action.DEPLOY, Outcome.UNCHANGED))

    other = of_channel("[metrics]", None, without_channels(stood, (), "web-2"), LATER, host="web-2")
    assert stood == noticed(well, other, LATER, **recorded, host="web-2")

    own = of_channel("[metrics]", None, stood, LATER, host="web-1")
    assert () == noticed(well, own, LATER, **recorded, host="web-1")


def test_deployment_that_failed_has_the_end_of_the_certificate_before() -> None:
    """Visitors still get the certificate before; a first certificate has no deadline."""
    old = Version(1, certificate(lifetime=timedelta(days=12)), NOW)
    new = Version(2, certificate("cd" * 32), NOW)
    failed = step(Action.DEPLOY, Outcome.FAILED)

    (with_old,) = after(report(failed), versions=[new, old])
    (first,) = after(report(failed), versions=[new])

    assert old.certificate.not_after == with_old.deadline
    assert None is first.deadline


def held_until(until: datetime) -> StepOutcome:
    """Return an order that is postponed until a moment."""
    error = OrderPostponed(Text("certferry orders nothing before then"), retry=Retry.at(until))
    outcome = StepOutcome.of(Action.ISSUE, error)
    return replace(outcome, outcome=Outcome.WAITING)


@given(lifetime=st.timedeltas(timedelta(days=6), timedelta(days=400)), share=st.floats(0.0, 1.5))
def test_order_that_is_postponed_too_long_is_trouble(lifetime: timedelta, share: float) -> None:
    """A delay that ends in time for the renewal is in order. A longer delay is reported with its
    end and with the end of the certificate in force.
    """
    fresh = replace(certificate(), not_before=NOW, not_after=NOW + lifetime)
    current = Version(1, fresh, NOW)
    until = NOW + lifetime * share

    notices = after(report(held_until(until)), versions=[current])

    assert is_overdue(current.certificate, until) is bool(notices)
    for notice in notices:
        assert (Topic.TROUBLE, "order_held_back") == (notice.topic, notice.problem.code)
        assert current.certificate.not_after == notice.deadline


def test_first_certificate_that_is_postponed_for_long_is_trouble() -> None:
    """A delay of a day is in order, a week is trouble until a certificate comes. A revoked
    certificate counts as missing.
    """
    revoked = Version(
        1, certificate(), NOW, revocation=Revocation(NOW, RevocationReason.SUPERSEDED)
    )
    week, day = (held_until(NOW + timedelta(days=days)) for days in (7, 1))

    assert () == after(report(day))
    assert () == after(report(day), versions=[revoked])
    assert 1 == len(after(report(week), versions=[revoked]))
    before = after(report(week))
    assert 1 == len(before)
    assert before == after(report(day), before)
    assert () == after(report(step(Action.ISSUE, Outcome.UNCHANGED, None, None)), before)


def test_trouble_that_goes_on_keeps_its_beginning_and_gets_its_newest_cause() -> None:
    """The trouble stays the same if the service's answer changes."""
    before = after(report(step(Action.DEPLOY, Outcome.FAILED)))
    (notice,) = after(report(step(Action.DEPLOY, Outcome.REFUSED)), before)

    assert (NOW, "refused") == (notice.since, notice.problem.code)


def test_trouble_is_over_when_a_run_has_seen_its_end() -> None:
    """A run of other lineages, a stopped run and a run without observations leave the trouble."""
    before = after(report(step(Action.DEPLOY, Outcome.FAILED)))
    unread = step(None, Outcome.SKIPPED, None, None)

    assert before == after(report(step(Action.VERIFY, Outcome.DONE), lineage="other"), before)[:1]
    assert before == after(report(complete=False), before)
    assert before == after(report(unread), before)
    assert before == after(report(step(Action.VERIFY, Outcome.WAITING)), before)
    assert () == after(report(step(Action.VERIFY, Outcome.UNCHANGED)), before)
    assert () == after(report(step(Action.VERIFY, Outcome.WAITING, domain="b")), before)
    assert () == after(report(step(Action.RETIRE, Outcome.WAITING, domain=None)), before)
    assert () == after(report(step(Action.VERIFY, Outcome.WAITING, target="files")), before)


def test_issued_certificate_ends_the_trouble_of_its_order() -> None:
    """Also while a domain still waits."""
    before = after(report(ISSUE_DENIED))

    came = report(
        step(Action.ISSUE, Outcome.UNCHANGED, None, None), step(Action.DEPLOY, Outcome.WAITING)
    )

    assert () == after(came, before)


def test_trouble_of_a_whole_target_is_over_when_all_its_domains_are_seen() -> None:
    """A single waiting domain leaves the trouble."""
    before = after(report(step(None, Outcome.FAILED, domain=None)))

    assert before == after(report(step(Action.VERIFY, Outcome.WAITING)), before)
    assert () == after(report(step(Action.VERIFY, Outcome.UNCHANGED)), before)


def test_trouble_of_a_certificate_that_left_the_file_is_over() -> None:
    """An operator who removed the certificate expects no further notice."""
    before = after(report(ISSUE_DENIED))

    assert () == after(SyncReport(()), before, declared=["other"])
    assert before == after(SyncReport(()), before)


def test_place_has_a_single_trouble() -> None:
    """The first failure at a place is its trouble; later failures follow from it."""
    verify = step(Action.VERIFY, Outcome.FAILED)
    (notice,) = after(report(step(Action.DEPLOY, Outcome.REFUSED), verify))

    assert "refused" == notice.problem.code


def test_deployments_are_reported_by_place_once_served() -> None:
    """A bound certificate is reported when a visitor gets it; a receiver's files are reported at
    once.
    """
    notices = after(
        report(
            step(Action.ISSUE, Outcome.DONE, None, None),
            step(Action.DEPLOY, Outcome.DONE, domain="a"),
            step(Action.VERIFY, Outcome.DONE, domain="a"),
            step(Action.DEPLOY, Outcome.DONE, domain="b"),
            step(Action.VERIFY, Outcome.WAITING, domain="b"),
            step(Action.DEPLOY, Outcome.DONE, "files", "/etc/ssl"),
        )
    )

    assert [
        (Topic.RENEWED, Subject("img")),
        (Topic.DEPLOYED, Subject("img", "qiniu", "a")),
        (Topic.DEPLOYED, Subject("img", "files", "/etc/ssl")),
    ] == [notice.key for notice in notices]


def test_event_is_stored_for_a_day() -> None:
    """A channel that takes no message now may get the event later, until it is old."""
    before = after(report(step(Action.ISSUE, Outcome.DONE, None, None)))
    quiet = report(step(Action.VERIFY, Outcome.UNCHANGED))

    assert before == noticed(quiet, before, NOW + KEPT / 2, versions={}, declared=["img"])
    assert () == noticed(quiet, before, NOW + KEPT, versions={}, declared=["img"])


def test_observations_of_a_run_and_an_end_that_is_near() -> None:
    """A partly unreadable target, another tool's change and a near end are each a notice."""
    unread = replace(step(None, Outcome.SKIPPED, "qiniu", None), notice=True)
    left = StepOutcome(
        Action.DEPLOY, Outcome.UNCHANGED, Text("changed"), "qiniu", "a", hint=Text("find out")
    )
    ending = Version(
        1, certificate(not_before=NOW - timedelta(days=85), lifetime=timedelta(days=90)), NOW
    )

    notices = after(report(unread, left), versions=[ending])
    again = after(report(unread, left), notices, [ending])

    assert [
        (Topic.FOUND, Subject("img", "qiniu")),
        (Topic.FOUND, Subject("img", "qiniu", "a")),
        (Topic.DEADLINE, Subject("img")),
    ] == [notice.key for notice in notices]
    assert notices == again
    assert ending.certificate.not_after == notices[-1].deadline
    assert () == after(report(step(Action.VERIFY, Outcome.UNCHANGED)), notices)


def test_run_without_a_report_is_trouble_until_the_next_report() -> None:
    """The trouble has the code of the error; earlier notices stay."""
    before = after(report(ISSUE_DENIED))
    error = ConfigError(Text("DP_Key is not set"), hint=Text("set it"))

    failed = failed_run(error, before, LATER)

    assert [Subject("img"), Subject()] == [notice.subject for notice in failed]
    assert "config" == failed[-1].problem.code
    assert before == after(report(ISSUE_DENIED), failed)


def test_channel_that_takes_no_messages_is_trouble() -> None:
    """The trouble ends when the channel takes a message or leaves the file, with or without a
    run.
    """
    first, again = (refused("ops", Text(answer)) for answer in ("wrong key", "still"))
    notices = of_channel("ops", first, (), NOW)

    assert notices == after(report(), notices)
    assert [NOW] == [notice.since for notice in of_channel("ops", again, notices, LATER)]
    assert () == of_channel("ops", None, notices, LATER)
    assert notices == without_channels(notices, ["ops"])
    assert () == without_channels(notices, ["boss"])


OUTCOMES = st.builds(
    step,
    st.sampled_from([Action.ISSUE, Action.DEPLOY, Action.VERIFY, Action.RETIRE, None]),
    st.sampled_from(list(Outcome)),
    st.sampled_from([None, "qiniu", "files"]),
    st.sampled_from([None, "a", "b"]),
)


@given(first=st.lists(OUTCOMES, max_size=5), second=st.lists(OUTCOMES, max_size=5))
def test_any_two_runs(first: list[StepOutcome], second: list[StepOutcome]) -> None:
    """Each key has one notice, every failure is trouble, and a run that did all its work itself,
    without a failure, leaves no trouble.
    """
    notices = after(report(*second), after(report(*first)))

    keys = [notice.key for notice in notices]
    assert len(keys) == len(set(keys))
    troubles = {notice.subject for notice in notices if notice.topic is Topic.TROUBLE}
    bad = {Outcome.FAILED, Outcome.REFUSED}
    assert {
        Subject("img", outcome.target or "", outcome.domain or "")
        for outcome in second
        if outcome.outcome in bad
    } <= troubles
    is_elsewhere = any(lineage.is_elsewhere for lineage in report(*second).lineages)
    if report(*second).ok and not is_elsewhere:
        assert set() == troubles


# --- Messages fit what a service takes, in bytes


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
lines = words.map(lambda text: " ".join(text.split()))


@given(title=lines, paragraphs=st.lists(words, max_size=6), most=st.integers(20, 400))
def test_any_message_fits(title: str, paragraphs: list[str], most: int) -> None:
    """The message has at most the given number of bytes. A text that fits is whole, and a cut text
    shows the cut.
    """
    message = Message(title, tuple(paragraphs))
    whole = "\n\n".join(paragraphs)

    body, text = message.body(most), message.text(most)

    assert len(body.encode()) <= most
    assert len(text.encode()) <= most
    assert (body == whole) or body.endswith(CUT)
    assert (len(whole.encode()) > most) or body == whole
    beginning = body.removesuffix(CUT).rstrip()
    assert whole.startswith(beginning) or body == whole


@given(text=words, most=st.integers(3, 80))
def test_no_character_is_cut(text: str, most: int) -> None:
    """The shortened text is a beginning of the whole text."""
    short = shortened(text, most)

    assert len(short.encode()) <= max(most, 0)
    assert short == text or text.startswith(short.removesuffix(CUT))


def test_title_stays_when_the_text_is_cut() -> None:
    """The title says how many notices there are."""
    message = Message("certferry on web1: Trouble (9)", ("证书" * 500,))

    assert message.text(120).startswith("certferry on web1: Trouble (9)\n\n证书")
