"""What a certificate costs the CA, the DNS service and the CDN stays what is promised."""

from __future__ import annotations

from benchmarks.run_cost import MOST, Cost, measure, missed
from tests.support.tiers import thorough


@thorough
def test_runs_cost_what_is_promised() -> None:
    """First issue, renewal, and runs that find nothing due, by the whole command."""
    found = measure()

    assert [] == missed(found)
    assert all(found[what].ca > 0 for what in list(MOST)[:3])


def test_run_that_costs_more_is_found() -> None:
    """Whichever service it costs more."""
    for more in (Cost(1, 0, 0), Cost(0, 1, 0), Cost(0, 0, 1)):
        for what, most in MOST.items():
            cost = Cost(most.ca + more.ca, most.dns + more.dns, most.cdn + more.cdn)
            assert [what] == missed({**MOST, what: cost})
