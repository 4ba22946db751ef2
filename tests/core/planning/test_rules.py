"""Rules of the plan: orders, safety, rejections, retirements and unmanaged certificates."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import KeyType, RenewalWindow
from certferry.core.certificates.lineage import Version, label_of
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredHttps,
    HttpsSettings,
    PemFiles,
    Retirement,
)
from certferry.core.observed.observation import Observation, TargetRules
from certferry.core.observed.records import Ordered, OtherCertificate, Remembered
from certferry.core.planning.limits import ANEW_AFTER, rejection_pause
from certferry.core.planning.plan import Action, Deploy, Plan, Retire, Weight
from certferry.core.planning.planner import make_plan
from certferry.core.planning.removals import MOST_SUPERSEDED, MOST_UNMANAGED, in_one_run, unclaimed
from certferry.core.planning.renewal import LEAST_GAP, Issuing, why_order
from certferry.core.planning.report import Outcome, standings
from certferry.core.planning.safety import without_refused
from certferry.core.planning.timing import Times
from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text
from certferry.values import replace
from tests.core.planning.test_planner import CURRENT, PREVIOUS, Situation, copy_of, declared, world
from tests.core.strategies import LINEAGE, NOW, certificate, fingerprints, situations, version

# --- Reasons for an order


DUE = certificate("aa" * 32, not_before=NOW - timedelta(days=61))


@pytest.mark.parametrize(
    ("desired", "observed", "code"),
    [
        (declared(), world(bound=None), ReasonCode.MISSING),
        (
            replace(declared(), names=("img.example.com", "b.example.com")),
            world(version(3, CURRENT)),
            ReasonCode.NAMES_CHANGED,
        ),
        (
            replace(declared(), key_type=KeyType.RSA4096),
            world(version(3, CURRENT)),
            ReasonCode.KEY_TYPE_CHANGED,
        ),
        (declared(), world(version(3, DUE)), ReasonCode.RENEWAL_DUE),
        (
            declared(),
            replace(
                world(version(3, CURRENT)),
                remembered=Remembered(ordered=Ordered(NOW - timedelta(days=6), declared().names)),
            ),
            ReasonCode.ORDERED,
        ),
    ],
)
def test_each_violated_rule_gives_its_reason(
    desired: DesiredCertificate, observed: Observation, code: ReasonCode
) -> None:
    """The reason has a code for programs and a sentence for people."""
    reason = why_order(desired, observed, NOW)

    assert reason is not None
    assert code == reason.code
    assert str(reason.message)


def test_old_order_is_ignored() -> None:
    """The CA has dropped the order, and its run had a week to order again."""
    ordered = Ordered(NOW - timedelta(days=7), declared().names)
    observed = replace(world(version(3, CURRENT)), remembered=Remembered(ordered=ordered))

    assert why_order(declared(), observed, NOW) is None


@pytest.mark.parametrize(
    ("names", "key_type"),
    [
        (("img.example.com", "x.notmine.org"), KeyType.EC256),
        (("b.example.com",), None),
        (declared().names, KeyType.RSA2048),
    ],
)
def test_order_for_an_earlier_declaration_is_ignored(
    names: tuple[str, ...], key_type: KeyType | None
) -> None:
    """A slip in the file causes no order after its correction."""
    observed = replace(
        world(version(3, CURRENT)), remembered=Remembered(ordered=Ordered(NOW, names, key_type))
    )

    assert why_order(declared(), observed, NOW) is None


def test_order_of_names_is_ignored() -> None:
    """Names are compared as a set."""
    leaf = certificate("aa" * 32, names=("b.example.com", "img.example.com"))
    desired = replace(declared(), names=("img.example.com", "b.example.com"))

    assert why_order(desired, world(version(3, leaf)), NOW) is None


@pytest.mark.parametrize(
    ("stored", "offered", "words"),
    [
        ("aa", "aa", None),
        (None, "aa", None),
        ("aa", "bb", "holds other issuer certificates for the same leaf"),
    ],
)
def test_imported_leaf_with_another_chain(
    stored: str | None, offered: str, words: str | None
) -> None:
    """A change of the client is adopted; for an early version of the state the chain is unknown."""
    files = PemFiles("/ssl/fullchain.pem", "/ssl/privkey.pem")
    desired = replace(declared(), files=files, offered=CURRENT, offered_fullchain=offered)
    current = replace(version(3, CURRENT), fullchain_digest=stored)

    reason = why_order(desired, world(current), NOW)

    assert words == (None if reason is None else str(reason.message).partition(" ")[2])
    assert reason is None or reason.code is ReasonCode.FILES_CHANGED


@given(
    st.lists(
        st.tuples(
            st.timedeltas(timedelta(0), timedelta(hours=3)),  # until the next run
            st.timedeltas(
                timedelta(days=-30), timedelta(days=60)
            ),  # the beginning of the CA's window
            st.timedeltas(
                timedelta(hours=1), timedelta(days=90)
            ),  # the life of the next certificate
            st.timedeltas(
                timedelta(0), timedelta(days=1)
            ),  # the backdating of the next certificate
        ),
        max_size=30,
    )
)
def test_at_most_a_certificate_an_hour(
    looks: list[tuple[timedelta, timedelta, timedelta, timedelta]],
) -> None:
    """For any window, lifetime and backdating of the CA, with an unchanged declaration."""
    now, issued = NOW, list[datetime]()
    current = version(1, certificate(not_before=NOW, lifetime=timedelta(days=9)))
    for passed, start, lifetime, backdated in looks:
        now += passed
        window = RenewalWindow(now + start, now + start + timedelta(days=1))
        current = replace(current, window=window)
        if why_order(declared(), world(current), now) is not None:
            issued.append(now)
            leaf = certificate(
                names=declared().names, not_before=now - backdated, lifetime=lifetime + backdated
            )
            current = replace(version(current.number + 1, leaf), saved_at=now)

    assert all(later - former >= LEAST_GAP for former, later in pairwise(issued))


def test_adopted_certificate_that_is_due_is_renewed_at_once() -> None:
    """It came from another client just now, and was issued two months ago."""
    adopted = replace(version(1, DUE), saved_at=NOW)

    reason = why_order(declared(), world(adopted), NOW)

    assert reason is not None
    assert ReasonCode.RENEWAL_DUE is reason.code


def test_reason_names_the_cas_window_and_page() -> None:
    """The page is quoted, since the CA chose the text; an implausible window is left out."""
    leaf = replace(CURRENT, not_before=NOW - timedelta(days=20))
    window = RenewalWindow(
        NOW - timedelta(days=2), NOW - timedelta(days=1), "https://ca.example/\x1b[31mwhy"
    )
    for page, end in ((window.page, "why"), (None, "UTC")):
        current = replace(version(3, leaf), window=replace(window, page=page))
        reason = why_order(declared(), world(current), NOW)
        assert reason is not None
        assert "the CA asks for renewal between 2026-11-22" in str(reason.message)
        assert str(reason.message).endswith(end)
        assert "\x1b" not in str(reason.message)

    strange = replace(version(3, leaf), window=RenewalWindow(NOW, leaf.not_before))
    assert why_order(declared(), world(strange), NOW) is None


# --- Refusals before any request


UNLIKE = replace(declared(), names=("other.example.com",))
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
    """A certificate that the target would refuse is not sent, and the refusal has a hint."""
    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.NEVER)

    safe = without_refused(plan, declared(), observed, NOW)

    assert () == safe.rollouts
    assert [code] == [refusal.problem.code for refusal in safe.having(Weight.REFUSED)]
    assert not safe.is_settled


def under(rules: TargetRules, *uploaded: str, named: bool = True) -> Observation:
    """Return a world whose target has these rules and copies."""
    leaf = replace(certificate("aa" * 32), common_name="img" if named else "")
    copies = tuple(copy_of(1, fingerprint) for fingerprint in uploaded or ("ff" * 32,))
    observed_world = world(version(3, leaf), bound=None, remotes=copies)
    return replace(observed_world, targets=(replace(observed_world.targets[0], rules=rules),))


@pytest.mark.parametrize(
    ("observed", "codes"),
    [
        (under(TargetRules(needs_common_name=True), named=False), [ReasonCode.COMMON_NAME_MISSING]),
        (under(TargetRules(needs_common_name=True)), []),
        (under(TargetRules(needs_common_name=True), "aa" * 32, named=False), []),
    ],
    ids=["no name", "a name", "uploaded without a name"],
)
def test_certificate_without_a_common_name(observed: Observation, codes: list[ReasonCode]) -> None:
    """The certificate is refused before any request, unless already uploaded."""
    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.NEVER)

    refusals = without_refused(plan, declared(), observed, NOW).having(Weight.REFUSED)

    assert codes == [refusal.problem.code for refusal in refusals]


def test_hint_for_an_expired_certificate_of_ours() -> None:
    """After a failed order the hint names the history of the failure, and no other client."""
    late = certificate("aa" * 32, not_before=NOW - timedelta(days=95), lifetime=timedelta(days=90))
    observed = world(version(3, late), bound=None)
    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.NEVER)

    [refusal] = without_refused(plan, declared(), observed, NOW).having(Weight.REFUSED)

    assert ReasonCode.EXPIRED == refusal.problem.code
    assert f"`certferry history {declared().lineage}`" in str(refusal.problem.hint)
    assert "where it is made" not in str(refusal.problem.hint)


def test_expired_certificate_is_replaced_before_a_setting_is_changed() -> None:
    """The settings change together with the new certificate, and never without."""
    late = certificate("aa" * 32, not_before=NOW - timedelta(days=95), lifetime=timedelta(days=90))
    wanted = declared(https=DesiredHttps(http2=True))
    observed = world(version(3, late), https=HttpsSettings(http2=False))

    without_issue = make_plan(wanted, observed, Times.at(NOW), Issuing.NEVER)
    plan = without_refused(make_plan(wanted, observed, Times.at(NOW)), wanted, observed, NOW)

    safe = without_refused(without_issue, wanted, observed, NOW)
    assert [ReasonCode.EXPIRED] == [refusal.problem.code for refusal in safe.having(Weight.REFUSED)]
    assert () == safe.rollouts
    (first, *later) = plan.steps
    assert plan.issue is first
    (deploy,) = (step for step in later if isinstance(step, Deploy))
    assert {"certificate", "http2"} == {change.setting for change in deploy.changes}


def test_uncovered_domain_is_refused_before_an_order() -> None:
    """A missing name is noticed before the request to the CA."""
    observed = world(bound=None)
    plan = make_plan(UNLIKE, observed, Times.at(NOW))

    safe = without_refused(plan, UNLIKE, observed, NOW)

    assert plan.issue is not None
    assert [ReasonCode.NAME_NOT_COVERED] == [r.problem.code for r in safe.having(Weight.REFUSED)]


def test_short_certificate_that_is_uploaded_is_bound() -> None:
    """The floor is known for uploads; an uploaded copy is only bound."""
    observed = world(version(3, SHORT), bound=None)
    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.NEVER)

    assert () == without_refused(plan, declared(), observed, NOW).having(Weight.REFUSED)


def test_missed_upload_moment_asks_for_a_new_certificate() -> None:
    """A certificate that can no longer be uploaded is replaced, instead of endless tries."""
    late = certificate("aa" * 32, not_before=NOW - timedelta(days=35), lifetime=timedelta(days=64))
    observed = world(version(3, late), bound=None, remotes=(copy_of(1, "ff" * 32),))

    plan = make_plan(declared(), observed, Times.at(NOW))

    assert plan.issue is not None
    assert ReasonCode.UPLOAD_DEADLINE_PASSED == plan.issue.reason.code


def test_lifetimes_below_the_floor_are_not_ordered_again() -> None:
    """A CA with lifetimes below the floor is not asked for more certificates."""
    observed = world(version(3, SHORT), bound=None, remotes=(copy_of(1, "ff" * 32),))

    plan = make_plan(declared(), observed, Times.at(NOW))

    assert plan.issue is None


begins = st.integers(-200, 1).map(lambda days: NOW + timedelta(days=days))


@given(
    st.lists(begins, min_size=1, max_size=3),
    st.lists(st.none() | begins, max_size=3),
    st.sampled_from([Issuing.ALWAYS, Issuing.NEVER]),
)
def test_certificate_older_than_a_copy_at_the_target_is_refused(
    remembered: list[datetime], there: list[datetime | None], issuing: Issuing
) -> None:
    """A deployment is refused exactly if a copy of the lineage was issued after every version of
    the state. A certificate that is still to be ordered is newer.
    """
    versions = [
        version(len(remembered) - number, certificate(f"{number:02x}" * 32, not_before=begin))
        for number, begin in enumerate(remembered)
    ]
    observed = world(*versions, bound=None, remotes=(copy_of(3, "00" * 32),))
    others = tuple(
        OtherCertificate(str(number), label_of(LINEAGE, f"{number:02x}ee" * 16), not_before=begin)
        for number, begin in enumerate(there)
    )
    target = replace(observed.targets[0], unremembered=others)
    observed = replace(observed, targets=(target,))
    plan = make_plan(declared(), observed, Times.at(NOW), issuing)

    safe = without_refused(plan, declared(), observed, NOW)

    is_older = any(begin is not None and begin > max(remembered) for begin in there)
    refused = [r for r in safe.having(Weight.REFUSED) if r.problem.code == ReasonCode.STATE_OLDER]
    assert (is_older and issuing is Issuing.NEVER) is bool(refused)
    assert all("--renew" in str(refusal.problem.hint) for refusal in refused)


def test_files_decide_which_imported_certificate_is_served() -> None:
    """An operator may restore an older certificate on purpose."""
    imported = replace(declared(), files=PemFiles("fullchain.pem", "privkey.pem"))
    newer = OtherCertificate("9", label_of(LINEAGE, "99" * 32), not_before=NOW)
    observed = world(version(3, CURRENT), bound=None)
    observed = replace(observed, targets=(replace(observed.targets[0], unremembered=(newer,)),))
    plan = make_plan(imported, observed, Times.at(NOW), Issuing.NEVER)

    assert () == without_refused(plan, imported, observed, NOW).having(Weight.REFUSED)


# --- The pause after a certificate with wrong contents


@pytest.mark.parametrize(
    ("since", "held"),
    [
        (timedelta(0), True),
        (ANEW_AFTER - timedelta(seconds=1), True),
        (ANEW_AFTER, False),
        (timedelta(seconds=-1), False),
    ],
)
def test_orders_pause_for_a_day(since: timedelta, *, held: bool) -> None:
    """The end of the pause is reported; a moment from a clock that was ahead causes none."""
    error = rejection_pause(NOW - since, NOW)

    assert held is (error is not None)
    if error is not None:
        assert error.retry.after == NOW - since + ANEW_AFTER


# --- The number of certificates that a run removes


WHY = Reason(ReasonCode.SUPERSEDED, Text("superseded"))

steps = st.lists(
    st.builds(
        Retire,
        target=st.sampled_from(["qiniu", "other"]),
        remote_id=st.uuids().map(str),
        label=st.just("certferry"),
        reason=st.just(WHY),
        unmanaged=st.booleans(),
        again=st.booleans(),
    ),
    max_size=300,
)


@given(steps)
def test_run_removes_a_limited_number(candidates: list[Retire]) -> None:
    """A run removes twenty copies of the lineage and fifty others of each account, and counts the
    remaining copies.
    """
    chosen, left = in_one_run(candidates)

    own = [step for step in chosen if not step.unmanaged]
    others = Counter(step.target for step in chosen if step.unmanaged)
    assert len(own) <= MOST_SUPERSEDED
    assert all(count <= MOST_UNMANAGED for count in others.values())
    assert Counter(step.target for step in candidates) == Counter(s.target for s in chosen) + left
    assert set(chosen) <= set(candidates)


@given(steps)
def test_removals_refused_before_come_last(candidates: list[Retire]) -> None:
    """An account full of used certificates still loses its unused certificates."""
    chosen, _ = in_one_run(candidates)

    def own(some: list[Retire], *, again: bool) -> set[str]:
        return {s.remote_id for s in some if not s.unmanaged and s.again is again}

    if own(list(chosen), again=True):
        assert own(candidates, again=False) == own(list(chosen), again=False)


@given(st.lists(st.just(WHY), max_size=MOST_SUPERSEDED))
def test_few_removals_keep_their_order(reasons: list[Reason]) -> None:
    """A number within the limit is removed unchanged."""
    candidates = [Retire("qiniu", str(n), "certferry", why) for n, why in enumerate(reasons)]

    assert (tuple(candidates), Counter()) == in_one_run(candidates)


def test_run_shows_the_removals_it_leaves() -> None:
    """The report has the count for each target."""
    plan = Plan("img", ("img.example.com",), retire_later=(("qiniu", 3),))

    [standing] = standings(plan, Observation())

    assert (Action.RETIRE, Outcome.UNCHANGED, "qiniu") == (
        standing.action,
        standing.outcome,
        standing.target,
    )
    assert "certificates that later runs remove: 3" == str(standing.detail)


# --- Unmanaged certificates of an account, and their removal


EXPIRED = certificate("dd" * 32, not_before=NOW - timedelta(days=100))
FOREIGN = OtherCertificate("f-1", "by hand", NOW + timedelta(days=9))
ALL = declared(retire=Retirement.ALL_UNUSED)

labels = st.one_of(
    st.sampled_from(["", "by hand", "certferry", "certferry-img"]),
    st.builds(label_of, st.sampled_from(["img", "IMG", "static", "图片"]), fingerprints),
)


def with_others(*others: OtherCertificate, unsettled: bool = False) -> Observation:
    """Return a world in order, with certificates of other owners."""
    observed = world(version(3, CURRENT), version(2, PREVIOUS))
    since = NOW if unsettled else None
    return replace(
        observed, targets=(replace(observed.targets[0], others=others, unsettled_since=since),)
    )


# --- Unmanaged certificates


@given(st.lists(labels), st.sets(st.sampled_from(["img", "static", "图片"])))
def test_certificate_with_the_label_of_a_declared_lineage_stays(
    there: list[str], declared: set[str]
) -> None:
    """The certificate may be bound soon; a certificate without our label belongs to no lineage."""
    others = [OtherCertificate(str(number), label) for number, label in enumerate(there)]

    left = {other.label for other in unclaimed(others, declared, {}, NOW)}

    marks = {label_of(lineage, fp * 32) for lineage in declared for fp in ("aa", "bb", "cc")}
    assert set() == left & marks
    assert {label for label in there if not label.startswith("certferry-")} <= left


def test_undeclared_lineage_keeps_its_newest_certificates() -> None:
    """The certificate in force and its predecessor stay until they expire; older copies are
    removed.
    """
    versions = tuple(
        version(number, certificate(fp * 32)) for number, fp in ((4, "aa"), (3, "bb"), (2, "cc"))
    )
    others = [OtherCertificate(fp, label_of("old", fp * 32)) for fp in ("aa", "bb", "cc", "dd")]

    def left(*stored: Version) -> list[str]:
        return [o.remote_id for o in unclaimed(others, set(), {"old": stored}, NOW)]

    assert ["cc", "dd"] == left(*versions)
    assert ["aa", "bb", "cc", "dd"] == left()
    assert ["aa", "bb", "cc", "dd"] == left(version(1, EXPIRED))


# --- Removals in the plan


@given(situations(), st.lists(st.builds(OtherCertificate, st.uuids().map(str), labels)))
def test_unmanaged_certificates_stay_without_the_setting(
    situation: Situation, others: list[OtherCertificate]
) -> None:
    """`superseded` and `never` plan no removal of unmanaged certificates."""
    desired, observed = situation
    targets = tuple(replace(target, others=tuple(others)) for target in observed.targets)

    plan = make_plan(desired, replace(observed, targets=targets), Times.at(NOW))

    assert not any(step.unmanaged for step in plan.retirements)


def test_removals_are_listed_with_their_labels_and_days() -> None:
    """The earliest end comes first; a certificate with an unknown end is listed as well."""
    untold, later = OtherCertificate("f-0", ""), replace(FOREIGN, remote_id="f-2", label="later")
    later = replace(later, not_after=NOW + timedelta(days=40))

    plan = make_plan(ALL, with_others(later, FOREIGN, untold), Times.at(NOW))

    assert [("f-0", "", None), ("f-1", "by hand", 9), ("f-2", "later", 40)] == [
        (step.remote_id, step.label, step.left and step.left.days) for step in plan.retirements
    ]
    assert {ReasonCode.UNUSED} == {step.reason.code for step in plan.retirements}
    assert all(step.unmanaged for step in plan.retirements)


def test_our_previous_certificate_stays_with_all_unused() -> None:
    """The setting leaves the certificate that a rollback needs."""
    plan = make_plan(ALL, with_others(), Times.at(NOW))

    assert () == plan.retirements


@pytest.mark.parametrize("hours", [0, 2])
def test_unmanaged_certificate_that_is_reported_as_used_waits(hours: int) -> None:
    """The moment is stored as for our own copies, and the removal is tried again later."""
    used = replace(FOREIGN, in_use_until=NOW + timedelta(hours=1))

    plan = make_plan(ALL, with_others(used), Times.at(NOW + timedelta(hours=hours)))

    assert bool(hours) == bool(plan.retirements)


def test_two_deployments_to_an_account_list_a_certificate_once() -> None:
    """A single deployment with the setting is enough."""
    observed = with_others(FOREIGN)
    twice = replace(ALL, deployments=(*ALL.deployments, *ALL.deployments, *declared().deployments))

    plan = make_plan(twice, replace(observed, targets=observed.targets * 3), Times.at(NOW))

    assert ["f-1"] == [step.remote_id for step in plan.retirements]


def test_removal_that_waits_for_another_certificate_is_planned() -> None:
    """The plan shows the removal also while another certificate must come first."""
    plan = make_plan(ALL, with_others(FOREIGN, unsettled=True), Times.at(NOW))

    assert ["f-1"] == [step.remote_id for step in plan.retirements]
