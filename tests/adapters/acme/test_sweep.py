"""What an interrupted run left in DNS is removed by the next one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.adapters.acme.sweep import GIVING_UP, SETTLING
from certferry.errors import DnsUnavailable, Interrupted, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.state import ChallengeRecord
from certferry.text import Text
from tests.adapters.acme.bench import Bench

VALUE, ANOTHER = "v" * 43, "w" * 43


def leave_record(
    bench: Bench, value: str = VALUE, *, in_dns: bool = True, handle: bool = True
) -> ChallengeRecord:
    """Leave a record as a run does that is killed."""
    name = f"_acme-challenge.{bench.name}"
    known = bench.dns.add_txt(name, value) if in_dns else "0"
    record = ChallengeRecord(
        bench.lineage, name, value, bench.clock.now(), known if handle else None
    )
    bench.state.save_challenge_record(record)
    return record


def test_nothing_left_is_nothing_to_do(bench: Bench) -> None:
    """The provider is not asked."""
    bench.sweep()

    assert [] == bench.dns.removals


def test_record_that_is_gone_already_is_forgotten(bench: Bench) -> None:
    """The provider knew it once, so it will not appear any more."""
    leave_record(bench, in_dns=False)

    bench.sweep()

    assert 0 == bench.rows_left
    assert [] == bench.clock.pauses


def test_record_that_may_still_appear_is_looked_for_until_it_does(bench: Bench) -> None:
    """A provider's lists may lag (docs/facts/dnspod.md §1.7)."""
    leave_record(bench, handle=False)
    bench.dns.looks_in_vain = 3

    bench.sweep()

    assert 4 == len(bench.dns.removals)
    assert [] == bench.txt_left
    assert 0 == bench.rows_left


def test_record_that_never_appears_is_forgotten_in_the_end(bench: Bench) -> None:
    """The looks go on until the lists must be right, and not for longer."""
    leave_record(bench, in_dns=False, handle=False)

    bench.sweep()

    assert 0 == bench.rows_left
    assert abs(sum(bench.clock.pauses) - SETTLING.total_seconds()) < 1
    assert bench.clock.pauses[:-1] == sorted(bench.clock.pauses[:-1])


def test_record_that_is_old_is_not_waited_for(bench: Bench) -> None:
    """What the lists do not show by now was never written."""
    leave_record(bench, in_dns=False, handle=False)
    bench.clock.advance(SETTLING)

    bench.sweep()

    assert 0 == bench.rows_left
    assert [] == bench.clock.pauses


def test_clock_that_was_set_back_does_not_prolong_the_wait(bench: Bench) -> None:
    """A record from the future is as good as one from now."""
    leave_record(bench, in_dns=False, handle=False)
    bench.clock.advance(-timedelta(days=30))

    bench.sweep()

    assert sum(bench.clock.pauses) <= SETTLING.total_seconds() + 1


def test_time_to_settle_can_be_set(bench: Bench) -> None:
    """The run does not wait for a provider whose lists are right at once."""
    leave_record(bench, in_dns=False, handle=False)

    issuer = bench.issuer(settling=timedelta(0))
    issuer.sweep(bench.lineage, [bench.dns], bench.clock.now())

    assert 0 == bench.rows_left
    assert [] == bench.clock.pauses


def test_record_whose_zone_has_left_the_account_is_forgotten(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """This account could never remove it: it is told once, and fails no run after that."""
    record = leave_record(bench)
    bench.dns.while_removing = ZoneNotFound(Text("no zone"), hint=Text("add it"))
    bench.clock.advance(GIVING_UP)

    bench.sweep()

    assert 0 == bench.rows_left
    (told,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in told
    assert record.value in told


def test_account_that_is_named_by_mistake_costs_no_record(bench: Bench) -> None:
    """Another account has no such zone either: that is told, and the right one removes it."""
    leave_record(bench)
    bench.dns.while_removing = ZoneNotFound(Text("no zone"), hint=Text("name another account"))
    with pytest.raises(ZoneNotFound):
        bench.sweep()
    bench.dns.while_removing = None

    bench.sweep()

    assert [] == bench.txt_left
    assert 0 == bench.rows_left


def test_record_goes_at_the_account_that_has_its_zone(bench: Bench) -> None:
    """However old it is: that another account has no such zone says nothing."""
    leave_record(bench)
    bench.clock.advance(2 * GIVING_UP)

    accounts: list[DnsProvider] = [WithoutZones(), bench.dns]
    bench.issuer().sweep(bench.lineage, accounts, bench.clock.now())

    assert [] == bench.txt_left
    assert 0 == bench.rows_left


class WithoutZones:
    """An account that has no zone at all."""

    def add_txt(self, name: str, value: str) -> str:
        """Find no zone."""
        raise ZoneNotFound(Text("no zone for {name}", name=name))

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """Find no zone."""
        raise ZoneNotFound(Text("no zone for {name}", name=name))


def test_failure_with_one_record_does_not_keep_the_others(bench: Bench) -> None:
    """Every record is tried."""
    leave_record(bench)
    leave_record(bench, ANOTHER)
    bench.dns.fails_for = {VALUE}

    with pytest.raises(DnsUnavailable):
        bench.sweep()

    assert [VALUE] == bench.txt_left
    assert 1 == bench.rows_left


def test_run_that_is_stopped_while_it_looks_keeps_the_record(bench: Bench) -> None:
    """Run is no answer to whether it is there."""
    leave_record(bench, in_dns=False, handle=False)
    bench.clock.stopped = Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        bench.sweep()
    assert 1 == bench.rows_left


@pytest.mark.parametrize("value", ["v=spf1 -all", "google-site-verification=" + VALUE, VALUE + "="])
def test_record_that_is_no_challenge_is_left_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """Another program wrote it into the state to have it removed: certferry tells that, and asks no
    service.
    """
    record = leave_record(bench, value)

    bench.sweep()

    assert [] == bench.dns.removals
    assert [value] == bench.txt_left
    assert 0 == bench.rows_left
    (told,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in told
    assert "See who can write to the state" in told


def test_record_that_the_state_cannot_prove_is_left_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be the challenge of another program: that is told, and nothing is asked."""
    record = leave_record(bench)
    bench.state.write("UPDATE challenge_record SET proof = NULL")

    bench.sweep()

    assert [] == bench.dns.removals
    assert [VALUE] == bench.txt_left
    assert 0 == bench.rows_left
    (told,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in told
    assert "a row that certferry did not write" in told
