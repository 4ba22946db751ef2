"""What a run leaves to be reported."""

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

# --- What a run leaves to be sent


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


def test_a_failure_is_trouble_with_what_to_do_and_the_time_left() -> None:
    """What happened where, what to do, and until when the certificate at hand is valid."""
    version = Version(1, certificate(), NOW)

    (found,) = after(report(ISSUE_DENIED), versions=[version])

    assert (Topic.TROUBLE, Subject("img")) == found.key
    assert ("dns_access_denied", "the token is refused") == (
        found.problem.code,
        str(found.problem.message),
    )
    assert Text("check it") == found.problem.hint
    assert version.certificate.not_after == found.deadline


def test_what_is_one_hosts_alone() -> None:
    """Its receivers and its file are trouble of that host, which no run of another one ends; of a
    target it is trouble of all. A state of one host has no hosts in it.
    """
    failed = [step(Action.DEPLOY, Outcome.FAILED, target) for target in ("files", "qiniu")]
    old = StepOutcome.of(None, DeclarationOutdated(Text("older")))
    whole = report(*failed, old)
    known: dict[str, Any] = {"versions": {"img": ()}, "declared": ["img"]}

    found = noticed(whole, (), NOW, **known, host="web-1")
    about = {("files", "web-1"), ("qiniu", ""), ("", "web-1")}
    assert about == {(one.subject.target, one.subject.host) for one in found}

    well = report(step(Action.DEPLOY, Outcome.UNCHANGED))
    left = noticed(well, found, LATER, **known, host="web-2")
    assert {*about} - {("qiniu", "")} == {(one.subject.target, one.subject.host) for one in left}
    assert () == noticed(well, left, LATER, **known, host="web-1")
    assert {""} == {one.subject.host for one in noticed(whole, (), NOW, **known)}


def test_what_ends_one_hosts_run() -> None:
    """A mistake in its file, metrics that it cannot write, a channel that it cannot reach: they are
    over when this host's next run says so, and not by the run of another.
    """
    error = ConfigError(Text("a mistake"))
    problem = error.problem()
    stood = failed_run(error, (), NOW, host="web-1")
    stood = of_channel("[metrics]", problem, stood, NOW, host="web-1")
    known: dict[str, Any] = {"versions": {}, "declared": ["img"]}
    well = report(step(Action.DEPLOY, Outcome.UNCHANGED))

    other = of_channel("[metrics]", None, without_channels(stood, (), "web-2"), LATER, host="web-2")
    assert stood == noticed(well, other, LATER, **known, host="web-2")

    own = of_channel("[metrics]", None, stood, LATER, host="web-1")
    assert () == noticed(well, own, LATER, **known, host="web-1")


def test_a_deployment_that_failed_has_the_time_of_the_certificate_before() -> None:
    """The newest is not served: its end says nothing. Without one before, there is no time."""
    old = Version(1, certificate(lifetime=timedelta(days=12)), NOW)
    new = Version(2, certificate("cd" * 32), NOW)
    failed = step(Action.DEPLOY, Outcome.FAILED)

    (with_old,) = after(report(failed), versions=[new, old])
    (first,) = after(report(failed), versions=[new])

    assert old.certificate.not_after == with_old.deadline
    assert None is first.deadline


def held_until(until: datetime) -> StepOutcome:
    """An order that no CA is asked for before a moment."""
    error = OrderPostponed(Text("certferry orders nothing before then"), retry=Retry.at(until))
    said = StepOutcome.of(Action.ISSUE, error)
    return replace(said, outcome=Outcome.WAITING)


@given(lifetime=st.timedeltas(timedelta(days=6), timedelta(days=400)), share=st.floats(0.0, 1.5))
def test_order_that_is_postponed_too_long_is_trouble(lifetime: timedelta, share: float) -> None:
    """Where it ends in time for the renewal, nothing is wrong; later, the operator is notified
    until when it is, and how long the certificate in force is valid.
    """
    fresh = replace(certificate(), not_before=NOW, not_after=NOW + lifetime)
    current = Version(1, fresh, NOW)
    until = NOW + lifetime * share

    found = after(report(held_until(until)), versions=[current])

    assert is_overdue(current.certificate, until) is bool(found)
    for notice in found:
        assert (Topic.TROUBLE, "order_held_back") == (notice.topic, notice.problem.code)
        assert current.certificate.not_after == notice.deadline


def test_first_certificate_that_is_postponed_for_long_is_trouble() -> None:
    """A day is no trouble; a revoked certificate counts as none. It stands until one comes."""
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
    """It is one trouble, whatever the service says today."""
    before = after(report(step(Action.DEPLOY, Outcome.FAILED)))
    (found,) = after(report(step(Action.DEPLOY, Outcome.REFUSED)), before)

    assert (NOW, "refused") == (found.since, found.problem.code)


def test_trouble_is_over_when_a_run_has_seen_it() -> None:
    """A run of other topics, one that was stopped or found nothing leaves it as it was."""
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


def test_a_certificate_that_came_ends_the_trouble_of_issuing() -> None:
    """Although a domain waits still."""
    before = after(report(ISSUE_DENIED))

    came = report(
        step(Action.ISSUE, Outcome.UNCHANGED, None, None), step(Action.DEPLOY, Outcome.WAITING)
    )

    assert () == after(came, before)


def test_trouble_of_a_whole_target_is_not_over_before_its_domains_are_seen() -> None:
    """One of its domains says nothing of the others."""
    before = after(report(step(None, Outcome.FAILED, domain=None)))

    assert before == after(report(step(Action.VERIFY, Outcome.WAITING)), before)
    assert () == after(report(step(Action.VERIFY, Outcome.UNCHANGED)), before)


def test_what_is_declared_no_more_is_over() -> None:
    """An operator who took the certificate out of the file waits for nothing."""
    before = after(report(ISSUE_DENIED))

    assert () == after(SyncReport(()), before, declared=["other"])
    assert before == after(SyncReport(()), before)


def test_one_trouble_a_place() -> None:
    """The first that happened there: the others follow from it."""
    verify = step(Action.VERIFY, Outcome.FAILED)
    (found,) = after(report(step(Action.DEPLOY, Outcome.REFUSED), verify))

    assert "refused" == found.problem.code


def test_what_was_done_is_reported_of_each_place_when_it_is_seen() -> None:
    """Bound is not served; a receiver has nothing to be seen at."""
    found = after(
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
    ] == [one.key for one in found]


def test_an_event_is_kept_for_a_day() -> None:
    """For a channel that takes no message now; then it is news no more."""
    before = after(report(step(Action.ISSUE, Outcome.DONE, None, None)))
    quiet = report(step(Action.VERIFY, Outcome.UNCHANGED))

    assert before == noticed(quiet, before, NOW + KEPT / 2, versions={}, declared=["img"])
    assert () == noticed(quiet, before, NOW + KEPT, versions={}, declared=["img"])


def test_what_was_found_and_what_ends_soon() -> None:
    """A target that cannot be read in part, another tool's change, a certificate near its end."""
    unread = replace(step(None, Outcome.SKIPPED, "qiniu", None), notice=True)
    left = StepOutcome(
        Action.DEPLOY, Outcome.UNCHANGED, Text("changed"), "qiniu", "a", hint=Text("find out")
    )
    ending = Version(
        1, certificate(not_before=NOW - timedelta(days=85), lifetime=timedelta(days=90)), NOW
    )

    found = after(report(unread, left), versions=[ending])
    again = after(report(unread, left), found, [ending])

    assert [
        (Topic.FOUND, Subject("img", "qiniu")),
        (Topic.FOUND, Subject("img", "qiniu", "a")),
        (Topic.DEADLINE, Subject("img")),
    ] == [one.key for one in found]
    assert found == again
    assert ending.certificate.not_after == found[-1].deadline
    assert () == after(report(step(Action.VERIFY, Outcome.UNCHANGED)), found)


def test_a_run_without_a_report_is_trouble_until_there_is_one() -> None:
    """With the error's code; what stood before stands."""
    before = after(report(ISSUE_DENIED))
    error = ConfigError(Text("DP_Key is not set"), hint=Text("set it"))

    failed = failed_run(error, before, LATER)

    assert [Subject("img"), Subject()] == [one.subject for one in failed]
    assert "config" == failed[-1].problem.code
    assert before == after(report(ISSUE_DENIED), failed)


def test_a_channel_that_takes_no_messages_is_trouble() -> None:
    """Until it takes one, or is in the file no more; no run ends it."""
    first, again = (refused("ops", Text(said)) for said in ("wrong key", "still"))
    found = of_channel("ops", first, (), NOW)

    assert found == after(report(), found)
    assert [NOW] == [one.since for one in of_channel("ops", again, found, LATER)]
    assert () == of_channel("ops", None, found, LATER)
    assert found == without_channels(found, ["ops"])
    assert () == without_channels(found, ["boss"])


OUTCOMES = st.builds(
    step,
    st.sampled_from([Action.ISSUE, Action.DEPLOY, Action.VERIFY, Action.RETIRE, None]),
    st.sampled_from(list(Outcome)),
    st.sampled_from([None, "qiniu", "files"]),
    st.sampled_from([None, "a", "b"]),
)


@given(first=st.lists(OUTCOMES, max_size=5), second=st.lists(OUTCOMES, max_size=5))
def test_any_two_runs(first: list[StepOutcome], second: list[StepOutcome]) -> None:
    """One notice a key; every failure is trouble; where all is in order, nothing is."""
    found = after(report(*second), after(report(*first)))

    keys = [one.key for one in found]
    assert len(keys) == len(set(keys))
    troubles = {one.subject for one in found if one.topic is Topic.TROUBLE}
    bad = {Outcome.FAILED, Outcome.REFUSED}
    assert {
        Subject("img", one.target or "", one.domain or "") for one in second if one.outcome in bad
    } <= troubles
    if report(*second).ok:
        assert set() == troubles


# --- Messages fit what a service takes, in bytes


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
lines = words.map(lambda said: " ".join(said.split()))


@given(title=lines, paragraphs=st.lists(words, max_size=6), most=st.integers(20, 400))
def test_any_message_fits(title: str, paragraphs: list[str], most: int) -> None:
    """Never more bytes than may be; what fits is whole, and what was cut shows it."""
    message = Message(title, tuple(paragraphs))
    whole = "\n\n".join(paragraphs)

    body, text = message.body(most), message.text(most)

    assert len(body.encode()) <= most
    assert len(text.encode()) <= most
    assert (body == whole) or body.endswith(CUT)
    assert (len(whole.encode()) > most) or body == whole
    kept = body.removesuffix(CUT).rstrip()
    assert whole.startswith(kept) or body == whole


@given(said=words, most=st.integers(3, 80))
def test_no_character_is_cut(said: str, most: int) -> None:
    """What is left is the beginning of the words."""
    short = shortened(said, most)

    assert len(short.encode()) <= max(most, 0)
    assert short == said or said.startswith(short.removesuffix(CUT))


def test_the_title_stays_whatever_is_cut() -> None:
    """It says how many there are."""
    message = Message("certferry on web1: Trouble (9)", ("证书" * 500,))

    assert message.text(120).startswith("certferry on web1: Trouble (9)\n\n证书")
