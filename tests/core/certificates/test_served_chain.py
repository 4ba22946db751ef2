"""What is said of a chain that clients refuse."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.chain import EdgeProblemCode, End, Presented, Way, what_is_wrong
from tests.core.strategies import NOW

HOST = "img.example.com"

moments = st.timedeltas(timedelta(days=-400), timedelta(days=400)).map(lambda since: NOW + since)


def presented(names: tuple[str, ...], begins: datetime, ends: datetime) -> Presented:
    """A certificate of a chain."""
    return Presented("ab" * 32, "subject", "issuer", names, begins, ends)


certificates = st.builds(
    presented,
    st.lists(st.sampled_from([HOST, "*.example.com", "other.example.org"])).map(tuple),
    moments,
    moments,
)
ways = st.builds(
    Way, st.lists(certificates, min_size=1, max_size=4).map(tuple), st.sampled_from(End)
)


@given(ways)
def test_the_plainest_fault_is_told(way: Way) -> None:
    """Dates before names, names before issuers: what stands in the leaf itself comes first."""
    leaf = way.certificates[0]
    code = what_is_wrong(way, HOST, NOW).code

    assert (code is EdgeProblemCode.EXPIRED) == (leaf.not_after < NOW)
    if leaf.not_after < NOW:
        return
    assert (code is EdgeProblemCode.NOT_YET_VALID) == (leaf.not_before > NOW)
    if leaf.not_before > NOW:
        return
    assert (code is EdgeProblemCode.NAME_NOT_COVERED) == (not covered_by(leaf.names, HOST))


@given(ways)
def test_everything_that_is_wrong_comes_with_advice(way: Way) -> None:
    """No chain is refused without a sentence and a hint, and both can be said."""
    problem = what_is_wrong(way, HOST, NOW)

    assert str(problem.message)
    assert str(problem.hint)
