"""When a rollout's next step is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import Change, DomainState, ObservedDomain, Served
from certferry.core.observed.records import LAG, RolloutRecord
from certferry.core.planning.due import Times, due_of, processing
from certferry.core.planning.plan import Rollout
from certferry.core.planning.steps import Deploy, Due, TimedOut, TriedInThisRun, Verify
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.waiting import Usual, Waiting
from certferry.errors import CertferryError, DeployError, TargetStuck, VerificationError
from certferry.problem import Problem
from certferry.text import Text
from tests.core.strategies import NOW

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


def due(
    rollout: Rollout,
    state: DomainState = DomainState.READY,
    *served: Served,
    last: RolloutRecord | None = None,
    bound: str | None = "id",
    begun: datetime = START,
    usual: Usual | None = None,
) -> Due:
    """Choose for one domain, in a run that began a while ago."""
    problem = DeployError("verify https crt fail") if state is DomainState.FAILED else None
    domain = ObservedDomain("img.example.com", Kind.CDN, state, bound, problem=problem, last=last)
    times = Times(NOW, begun, TIMEOUT, usual=usual)
    return due_of(rollout, domain, served, fingerprint=OURS, times=times)


def record(ago: timedelta = timedelta(0), *, problem: str = "None") -> RolloutRecord:
    """Remember that the target took this certificate for the domain, some time ago."""
    moment = NOW - ago
    return RolloutRecord(
        "img",
        "qiniu",
        "img.example.com",
        OURS,
        moment,
        accepted_at=moment,
        problem_before=problem,
    )


def error_of(found: Due) -> CertferryError:
    """Give the error that a step is blocked by."""
    assert isinstance(found, TimedOut)
    return found.error


def test_domain_at_rest_is_deployed_to() -> None:
    """Nothing stands in the way: the deployment is due now."""
    assert None is due(DEPLOYING)
    assert None is due(DEPLOYING, DomainState.FAILED)
    assert None is due(DEPLOYING, last=replace(record(), accepted_at=None))


@given(st.sampled_from([DEPLOYING, VERIFYING]), st.sampled_from([None, record()]))
def test_processing_domain_is_never_written_to(
    rollout: Rollout, last: RolloutRecord | None
) -> None:
    """While a change is carried out, whichever program asked for it, we wait."""
    found = due(rollout, DomainState.PROCESSING, last=last)

    assert isinstance(found, Waiting)
    assert NOW + TIMEOUT == found.deadline


@pytest.mark.parametrize("usual", [None, (timedelta(minutes=1), timedelta(minutes=5))])
def test_what_is_usual_is_the_targets(usual: Usual | None) -> None:
    """It stands beside the deadline, and in what is said of a change that is still under way."""
    waiting = due(VERIFYING, last=record(), usual=usual)
    hint = str(processing("qiniu", NOW, usual).hint)

    assert isinstance(waiting, Waiting)
    assert usual == waiting.usual
    assert ("usually takes 1 to 5 minutes" in hint) is (usual is not None)
    assert hint.startswith("the change began at 2026-11-24 12:00 UTC")


def test_accepted_change_is_not_asked_for_twice() -> None:
    """A read that lags behind the write leads to no second write, in this run or the next."""
    assert isinstance(due(DEPLOYING, last=record()), Waiting)
    assert isinstance(due(DEPLOYING, last=record(timedelta(minutes=5)), begun=NOW), Waiting)


def test_failed_change_is_told_with_the_targets_words() -> None:
    """The description of the target is the error; the next run tries again."""
    found = due(DEPLOYING, DomainState.FAILED, last=record())

    assert "verify https crt fail" == str(error_of(found))
    earlier = record(timedelta(minutes=5))
    assert None is due(DEPLOYING, DomainState.FAILED, last=earlier, begun=NOW)


def test_old_failure_is_no_news_for_a_while() -> None:
    """A read that still tells of the failure before the change does not end the change."""
    words = "verify https crt fail"

    soon = due(DEPLOYING, DomainState.FAILED, last=record(problem=words))
    late = due(DEPLOYING, DomainState.FAILED, last=record(LAG, problem=words))

    assert isinstance(soon, Waiting)
    assert isinstance(late, TimedOut)


def test_a_try_that_failed_for_good_is_one_in_a_run() -> None:
    """The next run tries again, and so does one whose clock was ahead when it failed."""
    failed = replace(record(LAG), accepted_at=None, failed_at=NOW - LAG)
    ahead = replace(failed, failed_at=NOW + 2 * LAG)

    assert TriedInThisRun(NOW - LAG) == due(DEPLOYING, last=failed)
    assert None is due(DEPLOYING, last=failed, begun=NOW)
    assert None is due(DEPLOYING, last=ahead)


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
        assert None is due(DEPLOYING, last=last)
        waiting = due(VERIFYING, last=last, begun=begun)
        assert isinstance(waiting, Waiting)
        assert since == waiting.since


@given(
    st.sampled_from([DEPLOYING, VERIFYING]),
    st.sampled_from([DomainState.READY, DomainState.PROCESSING]),
)
def test_every_wait_ends(rollout: Rollout, state: DomainState) -> None:
    """At the deadline waiting becomes a failure with a hint; the next run asks for it again."""
    last = record(TIMEOUT)

    assert error_of(due(rollout, state, last=last)).hint is not None
    assert None is due(DEPLOYING, last=last, begun=NOW)


def test_stuck_change_names_since_when() -> None:
    """Support asks since when a task hangs."""
    error = error_of(due(VERIFYING, DomainState.PROCESSING, last=record(TIMEOUT)))

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

    error = error_of(due(VERIFYING, DomainState.READY, *served, last=record(TIMEOUT)))

    assert isinstance(error, VerificationError)
    words = str(error)
    assert "2 of 3" in words
    assert "192.0.2.2" in words
    assert "192.0.2.3: the certificate expired" in words
    assert "192.0.2.4" not in words


def test_silence_is_told_with_its_reasons() -> None:
    """When no address answers, each says why."""
    silent = Served("192.0.2.4", None, valid=False, problem=TIMED_OUT, silent=True)

    error = error_of(due(VERIFYING, DomainState.READY, silent, last=record(TIMEOUT)))

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

    error = error_of(due(rollout, last=record(TIMEOUT)))

    assert isinstance(error, DeployError)
    assert str(error).endswith(": http2 false → true, tls_versions unknown → TLSv1.3")
    assert "the certificate is in force" in str(error.hint)
    assert "another tool" not in str(error.hint)


def test_change_of_a_moment_ago_is_being_applied() -> None:
    """Reads may lag behind writes: what is bound still is held against the target a minute later,
    and not at once.
    """
    early = due(DEPLOYING, last=record(LAG / 2))
    late = due(DEPLOYING, last=record(2 * LAG))

    assert isinstance(early, Waiting)
    assert isinstance(late, Waiting)
    assert "qiniu is applying the change" == str(early.why)
    assert "the accepted change has not taken effect; bound is id" == str(late.why)


@pytest.mark.parametrize(
    ("bound", "words", "hint"),
    [("id", "bound is id", "another tool"), (None, "nothing is bound", "the target's console")],
)
def test_change_without_effect_tells_what_is_bound(
    bound: str | None, words: str, hint: str
) -> None:
    """Another certificate is another tool's work; where HTTPS stays off, the target is at fault."""
    error = error_of(due(DEPLOYING, last=record(TIMEOUT), bound=bound))

    assert isinstance(error, DeployError)
    assert str(error).endswith(f"has not taken effect; {words}")
    assert hint in str(error.hint)
