"""Which certificates and domains need a person first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.assessment.health import Recorded
from certferry.core.assessment.status import (
    OF_DOMAINS,
    DomainStatus,
    LastFailure,
    LineageStatus,
    Standing,
    are_in_order,
    most_needed_first,
)
from certferry.core.desired.certificate import Kind
from certferry.core.reasons import Reason, ReasonCode
from certferry.problem import Problem, Severity
from certferry.text import Text
from tests.core.strategies import NOW

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
