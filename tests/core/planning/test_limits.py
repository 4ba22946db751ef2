"""Limits in the plan: rate limits of a CA, the size of an account, and the change to another CA."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version
from certferry.core.certificates.names import registered_domain
from certferry.core.desired.certificate import Authority, Retirement
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import OtherCertificate, Quota, Remembered
from certferry.core.planning.limits import (
    LAST_SHARE,
    LONGEST_HOLD,
    LONGEST_HOLD_FOR_ALL,
    PASSING,
    WITHOUT_ANY,
    Allowance,
    FailedProof,
    Hold,
    Limits,
    PastOrder,
    PlannedOrder,
    Spent,
    authorities_now,
    hold_of,
    in_order,
    may_pass_over,
    rate_limit_hold,
)
from certferry.core.planning.plan import Weight
from certferry.core.planning.planner import make_plan
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.safety import without_refused
from certferry.core.planning.timing import Times
from certferry.core.reasons import ReasonCode
from certferry.values import replace
from tests.core.planning.test_planner import CURRENT, OLDEST, PREVIOUS, copy_of, declared, world
from tests.core.strategies import NOW, version

# --- Rate limits of a CA: orders stay below, and resume later


HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
LIMITS = Limits(
    orders=Allowance(6, 3 * HOUR),
    domain=Allowance(4, WEEK),
    same_names=Allowance(2, WEEK),
    failed_proofs=Allowance(3, HOUR),
)
IMG = ("img.example.com",)
NAMES = [IMG, ("a.example.com",), ("b.example.com", "*.b.example.com"), ("example.org",)]
pauses = st.sampled_from(
    [timedelta(0), timedelta(seconds=1), timedelta(minutes=20), HOUR, DAY, 2 * DAY]
)
tries = st.lists(
    st.tuples(pauses, st.sampled_from(NAMES), st.sampled_from(["issued", "failed", "open"])),
    max_size=60,
)


def most_within(moments: Sequence[datetime], within: timedelta) -> int:
    """Return the number of moments in the fullest window."""
    return max((sum(m <= moment < m + within for moment in moments) for m in moments), default=0)


@given(tries)
def test_no_window_has_more_than_the_limit(
    tries: list[tuple[timedelta, tuple[str, ...], str]],
) -> None:
    """For any sequence of orders and results, by account, domain, names and failures."""
    spent, now = Spent(), NOW
    for pause, names, end in tries:
        now += pause
        if rate_limit_hold(LIMITS, spent, PlannedOrder(names), now) is not None:
            continue
        order = PastOrder(
            names, now, issued_at=now if end == "issued" else None, given_up=end == "failed"
        )
        failed = [FailedProof(name, now) for name in IMG] if end == "failed" else []
        spent = replace(
            spent,
            orders=(*spent.orders, order),
            failed_proofs=(*spent.failed_proofs, *(f for f in failed if f.name in names)),
        )

    ordered = [order.ordered_at for order in spent.orders]
    issued = [order for order in spent.orders if order.counts_since is not None]
    assert most_within(ordered, LIMITS.orders.within) <= LIMITS.orders.most
    for names in NAMES:
        same = [order.ordered_at for order in issued if order.names == names]
        assert most_within(same, WEEK) <= LIMITS.same_names.most
    at_domain = [order.ordered_at for order in issued if order.names != ("example.org",)]
    assert most_within(at_domain, WEEK) <= LIMITS.domain.most
    failures = [proof.at for proof in spent.failed_proofs]
    assert most_within(failures, HOUR) <= LIMITS.failed_proofs.most


@given(tries, st.sampled_from(NAMES))
def test_reported_moment_is_the_first_at_which_an_order_is_allowed(
    tries: list[tuple[timedelta, tuple[str, ...], str]], names: tuple[str, ...]
) -> None:
    """A second earlier the order is still held, and at the moment the order is allowed."""
    now, orders = NOW, []
    for pause, others, end in tries:
        now += pause
        orders.append(PastOrder(others, now, given_up=end == "failed"))
    spent = Spent(tuple(orders))

    error = rate_limit_hold(LIMITS, spent, PlannedOrder(names), now)

    if error is not None:
        until = error.retry.after
        assert until is not None
        assert now < until <= now + WEEK
        assert None is rate_limit_hold(LIMITS, spent, PlannedOrder(names), until)
        before = rate_limit_hold(LIMITS, spent, PlannedOrder(names), until - timedelta(seconds=1))
        assert before is not None
        assert until == before.retry.after


FULL = Spent(
    orders=tuple(PastOrder((f"n{i}.example.com",), NOW, issued_at=NOW) for i in range(6)),
    failed_proofs=tuple(FailedProof("example.org", NOW) for _ in range(3)),
)


@pytest.mark.parametrize(
    ("wanted", "words", "until"),
    [
        (PlannedOrder(("example.net",)), "6 orders were made within 3 hours", 3 * HOUR),
        (
            PlannedOrder(IMG),
            "4 certificates for names of example.com were issued within 7 days",
            WEEK,
        ),
        (PlannedOrder(("*.example.org",), renews=True), "the proof of example.org 3 times", HOUR),
        (PlannedOrder(IMG, renews=True), None, None),
        (PlannedOrder(IMG, exempt=True), None, None),
    ],
)
def test_limit_that_is_used_up_is_reported(
    wanted: PlannedOrder, words: str | None, until: timedelta | None
) -> None:
    """A renewal counts by its names alone, and an exempt order never counts."""
    error = rate_limit_hold(LIMITS, FULL, wanted, NOW)

    assert (words is None) is (error is None)
    if error is not None:
        assert words is not None
        assert until is not None
        assert words in str(error.message)
        assert NOW + until == error.retry.after


def test_same_names_in_another_order() -> None:
    """Names are compared as a set, and renewals count as well."""
    orders = [PastOrder(names, NOW, renews=True, issued_at=NOW) for names in [("a.b", "c.d")] * 2]

    error = rate_limit_hold(
        LIMITS, Spent(tuple(orders)), PlannedOrder(("c.d", "a.b"), renews=True), NOW
    )

    assert error is not None
    assert "exactly these names" in str(error.message)


def test_order_that_goes_on_is_allowed() -> None:
    """An order at a CA with unknown limits is allowed as well."""
    assert None is rate_limit_hold(LIMITS, FULL, PlannedOrder(IMG), NOW, going_on=True)
    assert None is rate_limit_hold(None, FULL, PlannedOrder(IMG), NOW)


def test_clock_that_was_ahead_holds_back_no_order() -> None:
    """Records from the future are ignored."""
    late = NOW + DAY
    spent = Spent(
        orders=tuple(PastOrder(IMG, late, issued_at=late) for _ in range(9)),
        failed_proofs=tuple(FailedProof(IMG[0], late) for _ in range(9)),
        holds=(Hold(IMG, late, late + HOUR, for_all=True),),
    )

    assert None is rate_limit_hold(LIMITS, spent, PlannedOrder(IMG), NOW)


@given(rest_asked_for=st.timedeltas(-DAY, timedelta(days=4000)), for_all=st.booleans())
def test_hold_ends(rest_asked_for: timedelta, *, for_all: bool) -> None:
    """The same names wait as long as the CA asked, for a week at most. Other names wait a few
    hours, or not at all.
    """
    hold = hold_of("later", IMG, NOW + rest_asked_for, NOW)
    hold = replace(hold, for_all=for_all)
    spent = Spent(holds=(hold,))

    mine = rate_limit_hold(None, spent, PlannedOrder(IMG), NOW, going_on=True)
    others = rate_limit_hold(None, spent, PlannedOrder(("b.example.com",), exempt=True), NOW)

    rest_asked_for = max(rest_asked_for, timedelta(0))
    longest = min(rest_asked_for, LONGEST_HOLD)
    assert (longest > timedelta(0)) is (mine is not None)
    assert mine is None or NOW + longest == mine.retry.after
    assert (for_all and rest_asked_for > timedelta(0)) is (others is not None)
    assert others is None or NOW + min(rest_asked_for, LONGEST_HOLD_FOR_ALL) == others.retry.after


@pytest.mark.parametrize(
    ("words", "for_all"),
    [
        ("too many new orders (300) from this account in the last 3h0m0s", True),
        ("Service busy; retry later.", True),
        ('too many certificates (50) already issued for "example.com"', False),
        ('too many failed authorizations (5) for "IMG.example.com" in the last 1h0m0s', False),
        ("too many certificates (5) already issued for this exact set of identifiers", False),
    ],
)
def test_orders_that_a_refusal_is_about(words: str, *, for_all: bool) -> None:
    """A refusal that quotes a name of the order leaves other certificates free."""
    assert for_all is hold_of(words, IMG, NOW + HOUR, NOW).for_all
    assert hold_of(words, IMG, NOW + HOUR, NOW, by_name=False).for_all


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("img.example.com", "example.com"),
        ("*.example.com", "example.com"),
        ("example.com", "example.com"),
        ("a.b.example.com.cn", "example.com.cn"),
        ("*.example.gd.cn", "example.gd.cn"),
        ("www.example.cn", "example.cn"),
        ("example.co.uk", "example.co.uk"),
        ("com.cn", "com.cn"),
        ("com", "com"),
    ],
)
def test_registered_domain(name: str, domain: str) -> None:
    """It has two labels, or three below a known suffix of two."""
    assert domain == registered_domain(name)


# --- A full account: refused uploads, and steps that go on


QUOTA_LASTS = timedelta(days=1)
FULL_ACCOUNT = Quota(held=100, most=100, until=NOW + QUOTA_LASTS)
ALL = declared(retire=Retirement.ALL_UNUSED)


def at(quota: Quota, *uploaded: str) -> Observation:
    """Return a world with an unbound certificate, a quota, and these copies."""
    copies = tuple(
        copy_of(n, fingerprint) for n, fingerprint in enumerate(uploaded or ("ff" * 32,))
    )
    observed_world = world(
        version(3, CURRENT), version(2, PREVIOUS), version(1, OLDEST), bound=None, remotes=copies
    )
    return replace(observed_world, targets=(replace(observed_world.targets[0], quota=quota),))


@given(st.integers(0, 200), st.integers(0, 200), st.timedeltas(-QUOTA_LASTS, QUOTA_LASTS))
def test_upload_is_refused_while_the_account_is_full(held: int, most: int, left: timedelta) -> None:
    """For a day after a refusal, uploads wait until the account has fewer certificates."""
    observed = at(Quota(held, most, NOW + left))
    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.NEVER)

    safe = without_refused(plan, declared(), observed, NOW)

    is_full = held >= most and left > timedelta(0)
    assert [ReasonCode.ACCOUNT_FULL] * is_full == [
        r.problem.code for r in safe.having(Weight.REFUSED)
    ]
    assert is_full == (safe.rollouts == ())


def test_hint_of_a_full_account() -> None:
    """The hint counts our superseded copies, and names the other ways out."""
    observed = at(FULL_ACCOUNT, "bb" * 32, "cc" * 32)
    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.NEVER)

    [refusal] = without_refused(plan, declared(), observed, NOW).having(Weight.REFUSED)

    assert "qiniu holds 100 certificates, and refused the last upload" in str(
        refusal.problem.message
    )
    assert 'set retire = "all-unused"' in str(refusal.problem.hint)
    assert "Superseded certificates of img there: 1." in str(refusal.problem.hint)


def test_copy_in_a_full_account_is_bound() -> None:
    """The change needs no upload."""
    observed = at(FULL_ACCOUNT, "aa" * 32)
    plan = make_plan(declared(), observed, Times.at(NOW), Issuing.NEVER)

    assert () == without_refused(plan, declared(), observed, NOW).having(Weight.REFUSED)


@pytest.mark.parametrize("issuing", [Issuing.ALWAYS, Issuing.NEVER])
def test_unused_certificates_are_removed_from_a_full_account(issuing: Issuing) -> None:
    """The account would stay full otherwise. Our copies stay until their successor is served."""
    observed = at(FULL_ACCOUNT, "bb" * 32, "cc" * 32)
    other = OtherCertificate("f-1", "by hand", NOW + QUOTA_LASTS)
    observed = replace(observed, targets=(replace(observed.targets[0], others=(other,)),))
    plan = make_plan(ALL, observed, Times.at(NOW), issuing)

    safe = without_refused(plan, ALL, observed, NOW)

    assert ["f-1"] == [step.remote_id for step in safe.retirements]


# --- The choice of another CA


ASKED_AT = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
USUAL, ZEROSSL, OWN = (
    Authority(name, f"https://{name}.example.com/directory") for name in ("le", "zerossl", "own")
)
BOTH = (USUAL, ZEROSSL)
REVOKED = Revocation(ASKED_AT, RevocationReason.SUPERSEDED)

spans = st.timedeltas(timedelta(minutes=1), timedelta(days=400))
failures = st.none() | spans.map(lambda past: ASKED_AT - past)
revocations = st.sampled_from([None, REVOKED])


def certificate(lifetime: timedelta, left: timedelta) -> Certificate:
    end, name = ASKED_AT + left, "img.example.com"
    return Certificate("ab" * 32, (name,), name, "1", "CA", end - lifetime, end, "ec256")


def authorities_for(
    current: Certificate | None,
    failing_since: datetime | None,
    revocation: Revocation | None = None,
) -> tuple[Authority, ...]:
    versions = () if current is None else (Version(1, current, ASKED_AT, revocation=revocation),)
    return authorities_now(
        BOTH, Observation(versions, remembered=Remembered(failing_since=failing_since)), ASKED_AT
    )


@given(lifetime=spans, share=st.floats(0.0, 1.0), failing_since=failures)
def test_other_ca_near_the_end_after_lasting_failures(
    lifetime: timedelta, share: float, failing_since: datetime | None
) -> None:
    """Another CA is asked only if the certificate is near its end and the usual CA has failed for a
    while.
    """
    current = certificate(lifetime, lifetime * share)
    is_near = current.remaining(ASKED_AT) <= current.lifetime / LAST_SHARE
    lasts = failing_since is not None and ASKED_AT - failing_since >= PASSING

    assert (BOTH if is_near and lasts else (USUAL,)) == authorities_for(current, failing_since)


@given(lifetime=spans, failing_since=failures)
def test_other_ca_without_a_usable_certificate_after_a_day_of_failures(
    lifetime: timedelta, failing_since: datetime | None
) -> None:
    """For a missing or revoked certificate only the operator's patience sets a deadline."""
    is_over = failing_since is not None and ASKED_AT - failing_since >= WITHOUT_ANY

    for current in (None, certificate(lifetime, lifetime / 2)):
        assert (BOTH if is_over else (USUAL,)) == authorities_for(current, failing_since, REVOKED)


@given(lifetime=spans, share=st.floats(-1.0, 1.0), ahead=spans, revocation=revocations)
def test_failure_in_the_future_is_ignored(
    lifetime: timedelta, share: float, ahead: timedelta, revocation: Revocation | None
) -> None:
    """The moment was stored by a clock that was ahead."""
    current = certificate(lifetime, lifetime * share)

    assert (USUAL,) == authorities_for(current, ASKED_AT + ahead, revocation)


def test_order_in_progress_is_finished_at_its_ca() -> None:
    """The other CAs follow in their order; an order at an unknown directory is ignored."""
    everywhere = (USUAL, ZEROSSL, OWN)

    assert everywhere == in_order(everywhere, None)
    assert everywhere == in_order(everywhere, "https://gone.example.com")
    assert (OWN, USUAL, ZEROSSL) == in_order(everywhere, OWN.directory)


@given(lifetime=spans, share=st.floats(0.0, 1.0), hold=spans)
def test_ca_that_is_postponed_is_passed_over_near_the_deadline_only(
    lifetime: timedelta, share: float, hold: timedelta
) -> None:
    """A hold shorter than a passing error is waited for."""
    current = certificate(lifetime, lifetime * share)
    is_near = current.remaining(ASKED_AT) <= current.lifetime / LAST_SHARE

    assert (is_near and hold > PASSING) is may_pass_over(current, ASKED_AT + hold, ASKED_AT)
    assert (hold > WITHOUT_ANY) is may_pass_over(None, ASKED_AT + hold, ASKED_AT)
