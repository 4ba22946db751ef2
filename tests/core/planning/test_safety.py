"""What is refused before anything is sent, one situation each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, PemFiles
from certferry.core.observed.observation import Observation, TargetRules
from certferry.core.observed.records import OtherCertificate
from certferry.core.planning.due import Times
from certferry.core.planning.plan import Weight
from certferry.core.planning.planner import Issuing, make_plan
from certferry.core.planning.safety import without_refused
from certferry.core.planning.steps import Deploy
from certferry.core.reasons import ReasonCode
from tests.core.planning.test_planner import CURRENT, copy_of, wish, world
from tests.core.strategies import LINEAGE, NOW, certificate, version

UNLIKE = replace(wish(), names=("other.example.com",))
SHORT = certificate("aa" * 32, not_before=NOW - timedelta(days=1), lifetime=timedelta(days=20))


@pytest.mark.parametrize(
    ("observed", "code"),
    [
        (world(version(3, CURRENT, key_matches=False), bound=None), ReasonCode.KEY_MISMATCH),
        (world(version(3, CURRENT, chain=False), bound=None), ReasonCode.CHAIN_INCOMPLETE),
        (
            world(version(3, SHORT), bound=None, remotes=(copy_of(1, "ff" * 32),)),
            ReasonCode.TOO_LITTLE_LIFE,
        ),
        (
            world(replace(version(3, CURRENT), issuer_not_after=NOW), bound=None),
            ReasonCode.ISSUER_EXPIRED,
        ),
    ],
)
def test_unfit_certificate_is_refused(observed: Observation, code: ReasonCode) -> None:
    """A certificate that the target would refuse is not sent, and the hint says what to do."""
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    safe = without_refused(plan, wish(), observed, NOW)

    assert () == safe.rollouts
    assert [code] == [refusal.problem.code for refusal in safe.having(Weight.REFUSED)]
    assert not safe.is_settled


def under(rules: TargetRules, *uploaded: str, named: bool = True) -> Observation:
    """The world with a target of these rules, and what lies there."""
    leaf = replace(certificate("aa" * 32), common_name="img" if named else "")
    copies = tuple(copy_of(1, fingerprint) for fingerprint in uploaded or ("ff" * 32,))
    found = world(version(3, leaf), bound=None, remotes=copies)
    return replace(found, targets=(replace(found.targets[0], rules=rules),))


@pytest.mark.parametrize(
    ("observed", "codes"),
    [
        (
            under(TargetRules(needs_common_name=True), named=False),
            [ReasonCode.COMMON_NAME_MISSING],
        ),
        (under(TargetRules(needs_common_name=True)), []),
        (under(TargetRules(needs_common_name=True), "aa" * 32, named=False), []),
    ],
    ids=["no name", "a name", "uploaded without a name"],
)
def test_certificate_without_a_common_name(observed: Observation, codes: list[ReasonCode]) -> None:
    """It is refused before anything is sent, unless it lies at the target already."""
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    refusals = without_refused(plan, wish(), observed, NOW).having(Weight.REFUSED)

    assert codes == [refusal.problem.code for refusal in refusals]


def test_expired_certificate_of_ours_is_not_made_anywhere_else() -> None:
    """After a failed issuance the hint leads to what went wrong, not to another client."""
    late = certificate("aa" * 32, not_before=NOW - timedelta(days=95), lifetime=timedelta(days=90))
    observed = world(version(3, late), bound=None)
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    [refusal] = without_refused(plan, wish(), observed, NOW).having(Weight.REFUSED)

    assert ReasonCode.EXPIRED == refusal.problem.code
    assert f"`certferry history {wish().lineage}`" in str(refusal.problem.hint)
    assert "where it is made" not in str(refusal.problem.hint)


def test_expired_certificate_is_replaced_before_a_setting_is_changed() -> None:
    """The settings go along with the new certificate; without one, nothing is changed."""
    late = certificate("aa" * 32, not_before=NOW - timedelta(days=95), lifetime=timedelta(days=90))
    wanted = wish(https=DesiredHttps(http2=True))
    observed = world(version(3, late), https=HttpsSettings(http2=False))

    without_issue = make_plan(wanted, observed, Times.at(NOW), Issuing.NEVER)
    plan = without_refused(make_plan(wanted, observed, Times.at(NOW)), wanted, observed, NOW)

    safe = without_refused(without_issue, wanted, observed, NOW)
    assert [ReasonCode.EXPIRED] == [refusal.problem.code for refusal in safe.having(Weight.REFUSED)]
    assert () == safe.rollouts
    (first, *later) = plan.steps
    assert plan.issue is first
    (deploy,) = (step for step in later if isinstance(step, Deploy))
    assert {"certificate", "http2"} == {change.what for change in deploy.changes}


def test_uncovered_domain_is_refused_before_anything_is_issued() -> None:
    """A name that the certificate would not cover is known before the CA is asked."""
    observed = world(bound=None)
    plan = make_plan(UNLIKE, observed, Times.at(NOW))

    safe = without_refused(plan, UNLIKE, observed, NOW)

    assert plan.issue is not None
    assert [ReasonCode.NAME_NOT_COVERED] == [r.problem.code for r in safe.having(Weight.REFUSED)]


def test_short_certificate_that_lies_there_already_is_bound() -> None:
    """The floor is known for uploads; what is uploaded is only bound."""
    observed = world(version(3, SHORT), bound=None)
    plan = make_plan(wish(), observed, Times.at(NOW), Issuing.NEVER)

    assert () == without_refused(plan, wish(), observed, NOW).having(Weight.REFUSED)


def test_missed_upload_moment_asks_for_a_new_certificate() -> None:
    """A certificate that can no longer be uploaded is replaced, not tried for ever."""
    late = certificate("aa" * 32, not_before=NOW - timedelta(days=35), lifetime=timedelta(days=64))
    observed = world(version(3, late), bound=None, remotes=(copy_of(1, "ff" * 32),))

    plan = make_plan(wish(), observed, Times.at(NOW))

    assert plan.issue is not None
    assert ReasonCode.UPLOAD_DEADLINE_PASSED == plan.issue.reason.code


def test_lifetimes_below_the_floor_are_not_ordered_again() -> None:
    """A CA whose certificates are too short from the start is not asked for more of them."""
    observed = world(version(3, SHORT), bound=None, remotes=(copy_of(1, "ff" * 32),))

    plan = make_plan(wish(), observed, Times.at(NOW))

    assert plan.issue is None


begins = st.integers(-200, 1).map(lambda days: NOW + timedelta(days=days))


@given(
    st.lists(begins, min_size=1, max_size=3),
    st.lists(st.none() | begins, max_size=3),
    st.sampled_from([Issuing.ALWAYS, Issuing.NEVER]),
)
def test_nothing_older_than_what_is_there_is_deployed(
    remembered: list[datetime], there: list[datetime | None], issuing: Issuing
) -> None:
    """A deployment is refused for it exactly when one of the lineage's copies was issued after all
    that the state knows; a certificate that is still to come is newer than any.
    """
    known = [
        version(len(remembered) - number, certificate(f"{number:02x}" * 32, not_before=begin))
        for number, begin in enumerate(remembered)
    ]
    observed = world(*known, bound=None, remotes=(copy_of(3, "00" * 32),))
    others = tuple(
        OtherCertificate(str(number), label_of(LINEAGE, f"{number:02x}ee" * 16), not_before=begin)
        for number, begin in enumerate(there)
    )
    target = replace(observed.targets[0], unremembered=others)
    observed = replace(observed, targets=(target,))
    plan = make_plan(wish(), observed, Times.at(NOW), issuing)

    safe = without_refused(plan, wish(), observed, NOW)

    is_older = any(begin is not None and begin > max(remembered) for begin in there)
    refused = [r for r in safe.having(Weight.REFUSED) if r.problem.code == ReasonCode.STATE_OLDER]
    assert (is_older and issuing is Issuing.NEVER) is bool(refused)
    assert all("--renew" in str(refusal.problem.hint) for refusal in refused)


def test_files_decide_which_ferried_certificate_is_served() -> None:
    """An operator who puts an older one back means it."""
    imported = replace(wish(), files=PemFiles("fullchain.pem", "privkey.pem"))
    newer = OtherCertificate("9", label_of(LINEAGE, "99" * 32), not_before=NOW)
    observed = world(version(3, CURRENT), bound=None)
    observed = replace(observed, targets=(replace(observed.targets[0], unremembered=(newer,)),))
    plan = make_plan(imported, observed, Times.at(NOW), Issuing.NEVER)

    assert () == without_refused(plan, imported, observed, NOW).having(Weight.REFUSED)
