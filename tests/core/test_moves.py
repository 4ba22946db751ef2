"""What to do about a rollout now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.desired import HttpsWish, Kind
from certferry.core.moves import LAG, Accepted, Move, next_move
from certferry.core.observed import DomainState, ObservedDomain, Served
from certferry.core.plan import Change, Deploy, Rollout, Verify
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.waiting import Waiting
from certferry.errors import CertferryError, DeployError, TargetBusy, VerificationError
from certferry.text import Text
from tests.core.strategies import NOW

OURS = "aa" * 32
TIMEOUT = timedelta(hours=1)
REASON = Reason(ReasonCode.NOT_SEEN, Text("not seen"))
DEPLOY = Deploy("qiniu", "img.example.com", HttpsWish(), REASON)
VERIFY = Verify("qiniu", "img.example.com", REASON)
DEPLOYING = Rollout("qiniu", "img.example.com", (DEPLOY, VERIFY))
VERIFYING = Rollout("qiniu", "img.example.com", (VERIFY,))


def move(
    rollout: Rollout,
    state: DomainState = DomainState.READY,
    *served: Served,
    accepted: Accepted | None = None,
    since: datetime = NOW,
    bound: str | None = "id",
) -> Move:
    """Choose for one domain."""
    problem = DeployError("verify https crt fail") if state is DomainState.FAILED else None
    domain = ObservedDomain("img.example.com", Kind.CDN, state, bound, problem=problem)
    return next_move(
        rollout,
        domain,
        served,
        fingerprint=OURS,
        accepted=accepted,
        since=since,
        now=NOW,
        timeout=TIMEOUT,
    )


def test_domain_at_rest_is_deployed_to() -> None:
    """Nothing stands in the way: the deployment is carried out."""
    assert DEPLOY == move(DEPLOYING)
    assert DEPLOY == move(DEPLOYING, DomainState.FAILED)


@given(st.sampled_from([DEPLOYING, VERIFYING]), st.sampled_from([None, Accepted()]))
def test_processing_domain_is_never_written_to(rollout: Rollout, accepted: Accepted | None) -> None:
    """While a change is carried out, whoever asked for it, we wait."""
    chosen = move(rollout, DomainState.PROCESSING, accepted=accepted)

    assert isinstance(chosen, Waiting)
    assert NOW + TIMEOUT == chosen.deadline


def test_accepted_change_is_not_asked_for_twice() -> None:
    """A read that lags behind the write does not lead to a second write."""
    assert isinstance(move(DEPLOYING, accepted=Accepted()), Waiting)


def test_failed_change_is_told_with_the_targets_words() -> None:
    """The description of the target is the error."""
    chosen = move(DEPLOYING, DomainState.FAILED, accepted=Accepted())

    assert isinstance(chosen, DeployError)
    assert "verify https crt fail" == str(chosen)


def test_old_failure_is_no_news_for_a_while() -> None:
    """A read that still tells of the failure before the change does not end the change."""
    before = Accepted(DeployError("verify https crt fail"))

    soon = move(DEPLOYING, DomainState.FAILED, accepted=before)
    late = move(DEPLOYING, DomainState.FAILED, accepted=before, since=NOW - LAG)

    assert isinstance(soon, Waiting)
    assert isinstance(late, DeployError)


@given(
    st.sampled_from([DEPLOYING, VERIFYING]),
    st.sampled_from([DomainState.READY, DomainState.PROCESSING]),
)
def test_every_wait_ends(rollout: Rollout, state: DomainState) -> None:
    """At the deadline waiting becomes a failure with a hint."""
    chosen = move(rollout, accepted=Accepted(), since=NOW - TIMEOUT)

    assert isinstance(chosen, CertferryError)
    assert chosen.hint is not None


def test_stuck_change_names_since_when() -> None:
    """Support asks since when a task hangs."""
    chosen = move(VERIFYING, DomainState.PROCESSING, since=NOW - TIMEOUT)

    assert isinstance(chosen, TargetBusy)
    assert "2026-11-24 11:00 UTC" in str(chosen.hint)


def test_lagging_addresses_are_named() -> None:
    """Who does not serve it yet, and of how many."""
    right = Served("192.0.2.1", OURS, valid=True)
    other = Served("192.0.2.2", "bb" * 32, valid=True)
    broken = Served("192.0.2.3", OURS, valid=False, problem=Text("not trusted"))
    silent = Served("192.0.2.4", None, valid=False, problem=Text("no answer"), silent=True)

    chosen = move(VERIFYING, DomainState.READY, right, other, broken, silent, since=NOW - TIMEOUT)

    assert isinstance(chosen, VerificationError)
    words = str(chosen)
    assert "2 of 3" in words
    assert "192.0.2.2" in words
    assert "192.0.2.3: not trusted" in words
    assert "192.0.2.4" not in words


def test_silence_is_told_with_its_reasons() -> None:
    """When no address answers, each says why."""
    problem = Text("connection refused")
    silent = Served("192.0.2.4", None, valid=False, problem=problem, silent=True)

    chosen = move(VERIFYING, DomainState.READY, silent, since=NOW - TIMEOUT)

    assert isinstance(chosen, VerificationError)
    assert "connection refused" in str(chosen)


def test_settings_that_are_ignored_are_named() -> None:
    """The certificate is in force, so nobody is sent to look for another tool."""
    changes = (Change("http2", "false", "true"), Change("tls_versions", "unknown", "TLSv1.3"))
    reason = Reason(ReasonCode.SETTINGS_DRIFTED, Text("settings differ from the file"))
    rollout = replace(DEPLOYING, steps=(replace(DEPLOY, reason=reason, changes=changes), VERIFY))

    chosen = move(rollout, accepted=Accepted(), since=NOW - TIMEOUT)

    assert isinstance(chosen, DeployError)
    assert str(chosen).endswith(": http2 false → true, tls_versions unknown → TLSv1.3")
    assert "the certificate is in force" in str(chosen.hint)
    assert "another tool" not in str(chosen.hint)


@pytest.mark.parametrize(
    ("bound", "words", "hint"),
    [("id", "bound is id", "another tool"), (None, "nothing is bound", "the target's console")],
)
def test_change_without_effect_tells_what_is_bound(
    bound: str | None, words: str, hint: str
) -> None:
    """Another certificate is another tool's work; where HTTPS stays off, the target is at fault."""
    chosen = move(DEPLOYING, accepted=Accepted(), since=NOW - TIMEOUT, bound=bound)

    assert isinstance(chosen, DeployError)
    assert str(chosen).endswith(f"has not taken effect; {words}")
    assert hint in str(chosen.hint)
