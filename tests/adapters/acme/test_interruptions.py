"""A run that is stopped in the middle. That it may be killed is the contract's to show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest

from certferry.errors import Interrupted, StateUnavailable
from certferry.text import Text
from certferry_sandbox.testing.interruptions import Shock
from tests.adapters.acme.bench import Bench
from tests.support.tiers import spread

MOST_CALLS = 100
SETTLED = timedelta(minutes=2)


def finish(bench: Bench) -> None:
    """Do what the engine does in the next run, and look at the world afterwards."""
    bench.clock.advance(SETTLED)
    bench.sweep()
    bundle = bench.issue(bench.name, f"*.{bench.name}")

    assert (bench.name, f"*.{bench.name}") == bundle.certificate.names
    assert bundle.key_matches
    assert 1 == bench.proxy.finalized
    assert [] == bench.txt_left
    assert 0 == bench.rows_left


@pytest.mark.parametrize(
    ("error", "done"),
    [(KeyboardInterrupt(), True), (StateUnavailable(Text("disk full")), False)],
    ids=["Ctrl-C after any call", "disk full at any call"],
)
def test_call_that_fails_leaves_no_record_unknown(
    new_bench: Callable[[], Bench], error: BaseException, *, done: bool
) -> None:
    """What is left in DNS is known to the state, and the next run ends with one certificate and
    no record.
    """
    for call in spread(range(1, MOST_CALLS), 3):
        bench, shock = new_bench(), Shock(call, error, done=done)
        # A failed removal is for the next run, and no failure of this one.
        with contextlib.suppress(type(error)):
            bench.issue_under(shock, bench.name, f"*.{bench.name}")
        if not shock.was_felt:
            break
        known = {record.value for record in bench.state.challenge_records(bench.lineage)}
        assert set(bench.txt_left) <= known
        finish(bench)
    else:
        pytest.fail("the run never came to its end")
    assert call > 10


def test_run_that_is_stopped_at_every_removal_tries_them_all(bench: Bench) -> None:
    """It ends as stopped, and each record that is left is known to the next run."""
    bench.dns.while_removing = Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        bench.issue(bench.name, f"*.{bench.name}")

    assert 2 == len(set(bench.dns.added))
    assert 4 == len(bench.dns.removals)  # each of them twice
    assert 2 == bench.rows_left
