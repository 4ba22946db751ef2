"""Proofs that fail, records that cannot be put or removed, and what an interrupted run left."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certferry.adapters.acme.dns01 import GIVING_UP, SETTLING, VALIDATION
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    Interrupted,
    OrderFailed,
    Retry,
    ZoneNotFound,
)
from certferry.ports.dns import DnsProvider
from certferry.ports.state import ChallengeRecord
from certferry.text import Text
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import ZONE, Bench
from tests.adapters.acme.ports import AtOnce, ZoneDns, unavailable
from tests.adapters.acme.proxy import ERROR, refusal, with_fields

# --- Proofs that fail, records that cannot be put or removed, and a CA that takes its time


def write_elsewhere(bench: Bench) -> Zones:
    """Let the records go to an account whose zone is not the delegated one."""
    elsewhere = Zones()
    elsewhere.add_zone(ZONE, ["ns1.other.test"])
    bench.dns = ZoneDns(elsewhere)
    bench.propagation = AtOnce(elsewhere, bench.clock)
    return elsewhere


def showing_authorization(**fields: Any) -> Callable[[Request, Response], Response]:
    def rewrite(request: Request, response: Response) -> Response:
        is_authorization = request.path.startswith("/authZ/")
        return with_fields(response, **fields) if is_authorization else response

    return rewrite


def test_failed_proof_shows_what_the_ca_says(bench: Bench) -> None:
    """The name, the problem document's detail and advice; nothing stays behind."""
    elsewhere = write_elsewhere(bench)

    with pytest.raises(AuthorizationFailed) as failure:
        bench.issue()

    assert f"the CA does not accept the proof for {bench.name}: " in str(failure.value)
    assert "Error retrieving TXT records" in str(failure.value)
    assert "zone" in str(failure.value.hint)
    assert Retry.LATER == failure.value.retry
    assert [] == elsewhere.records(rtype="TXT")
    assert 0 == bench.rows_left
    assert bench.state.order(bench.lineage) is None


def test_every_name_whose_proof_failed_is_reported(bench: Bench) -> None:
    """The operator need not find them one by one."""
    names = [f"{letter}.{bench.name}" for letter in "abc"]
    write_elsewhere(bench)

    with pytest.raises(AuthorizationFailed) as failure:
        bench.issue(*names)

    assert names == [name for name in names if f"for {name}: " in str(failure.value)]


def test_authorization_that_has_failed_before_is_not_tried(bench: Bench) -> None:
    """It fails the order (RFC 8555 §7.1.6), so no record is put for it."""
    bench.proxy.rewrite = showing_authorization(status="invalid", challenges=[])

    with pytest.raises(AuthorizationFailed, match=f"proof for {bench.name}$"):
        bench.issue()
    assert [] == bench.dns.added


def test_authorization_without_dns01_fails_the_order(bench: Bench) -> None:
    """There is no other way to prove it here."""
    bench.proxy.rewrite = showing_authorization(challenges=[])

    with pytest.raises(OrderFailed, match=f"no DNS-01 for {bench.name}"):
        bench.issue()


def test_authorization_that_is_valid_needs_no_record(
    dns_service: DnsService, zones: Zones, tmp_path: Path
) -> None:
    """The CA remembers the proof of the first order, so the second has nothing to prove."""
    with (
        Pebble(dns_service.resolver_endpoint, nonce_reject=0, authz_reuse=100) as pebble,
        Bench(pebble, zones, tmp_path) as bench,
    ):
        first = bench.issue(bench.name, f"*.{bench.name}")
        bench.state.drop_order(bench.lease())
        bench.dns.added.clear()
        second = bench.issue(bench.name, f"*.{bench.name}")

    assert first.certificate.fingerprint != second.certificate.fingerprint
    assert [] == bench.dns.added


def test_challenge_that_was_answered_is_not_answered_again(bench: Bench) -> None:
    """An earlier run did that; the CA is at work on it, and may refuse to hear it twice."""
    answered = False

    def rewrite(request: Request, response: Response) -> Response:
        nonlocal answered
        if answered or not request.path.startswith("/authZ/"):
            return response
        answered = True
        challenges = json.loads(response.body)["challenges"]
        return with_fields(response, challenges=[{**c, "status": "processing"} for c in challenges])

    bench.proxy.rewrite = rewrite

    # No server answers now, so the CA waits for it until the run gives up.
    with pytest.raises(CaUnavailable, match="validate the names"):
        bench.issue()
    assert [] == bench.proxy.requests("POST /chalZ/*")


def test_challenges_of_unknown_types_are_passed_over(bench: Bench) -> None:
    """A CA may offer what did not exist when this was written."""

    def rewrite(request: Request, response: Response) -> Response:
        return response if b"dns-01" not in response.body else with_new_challenge(response)

    bench.proxy.rewrite = rewrite

    assert (bench.name,) == bench.issue().certificate.names


def with_new_challenge(response: Response) -> Response:
    challenges = json.loads(response.body).get("challenges")
    if challenges is None:
        return response
    new = {"type": "dns-next-02", "url": "https://ca.example/1", "status": "pending"}
    return with_fields(response, challenges=[new, *challenges])


def test_validation_without_end_is_given_up(bench: Bench) -> None:
    """Looks begin soon and grow rarer; the records are removed and the order is kept."""
    bench.proxy.rewrite = showing_authorization(status="pending")

    with pytest.raises(CaUnavailable, match="waiting for the CA to validate the names"):
        bench.issue()

    pauses = bench.clock.pauses
    assert 0.1 == pauses[0]
    assert pauses[:-1] == sorted(pauses[:-1])
    assert 10.0 == max(pauses)
    assert abs(sum(pauses) - VALIDATION.total_seconds()) < 10
    assert [] == bench.txt_left
    assert bench.state.order(bench.lineage) is not None


def test_retry_after_is_obeyed_while_polling(bench: Bench) -> None:
    """A CA that asks for seven seconds is not looked at before."""
    looks = 0

    def rewrite(request: Request, response: Response) -> Response:
        nonlocal looks
        if not request.path.startswith("/authZ/") or looks > 3:
            return response
        looks += 1
        return with_fields(response, status="pending").with_header("Retry-After", "7")

    bench.proxy.rewrite = rewrite

    bench.issue()

    assert 3 == sum(pause == 7.0 for pause in bench.clock.pauses)


def test_retry_after_beyond_the_deadline_ends_the_wait_at_once(bench: Bench) -> None:
    """The error carries the moment for the engine."""

    def rewrite(request: Request, response: Response) -> Response:
        if not request.path.startswith("/authZ/"):
            return response
        return with_fields(response, status="pending").with_header("Retry-After", "86400")

    bench.proxy.rewrite = rewrite

    with pytest.raises(CaUnavailable) as failure:
        bench.issue()

    assert failure.value.retry.after is not None
    assert 86300 < (failure.value.retry.after - bench.clock.now()).total_seconds() <= 86400
    assert [] == bench.clock.pauses


def test_answer_that_is_refused_fails_the_run(bench: Bench) -> None:
    """As long as the challenge is pending, the refusal is meant."""
    bench.proxy.faults.add(refusal("malformed", "not like this", 400), on="POST /chalZ/*")

    with pytest.raises(OrderFailed, match="not like this"):
        bench.issue()
    assert [] == bench.txt_left


@pytest.mark.parametrize("error", [ZoneNotFound, DnsAccessDenied, DnsRejected])
def test_record_that_was_refused_is_not_looked_for(bench: Bench, error: type[DnsError]) -> None:
    """Nothing was put, so nothing is left to remove; the order waits for the next run."""
    bench.dns.before_adding = error(Text("no"))

    with pytest.raises(error, match="no"):
        bench.issue()

    assert [] == bench.dns.removals
    assert 0 == bench.rows_left
    assert bench.state.order(bench.lineage) is not None


def test_record_whose_answer_was_lost_is_removed_by_its_value(bench: Bench) -> None:
    """It may be there, and it is."""
    bench.dns.after_adding = unavailable()

    with pytest.raises(DnsUnavailable):
        bench.issue()

    assert [None] == bench.dns.removals
    assert [] == bench.txt_left
    assert 0 == bench.rows_left


def test_record_whose_fate_is_unknown_stays_in_the_state(bench: Bench) -> None:
    """It may be there later, so the next run must know."""
    bench.dns.before_adding = unavailable()

    with pytest.raises(DnsUnavailable):
        bench.issue()

    assert [None] == bench.dns.removals
    assert 1 == bench.rows_left


def test_record_that_cannot_be_removed_does_not_hide_the_failure(bench: Bench) -> None:
    """The failure is the CA's; the record is said to be left, and stays known."""
    elsewhere = write_elsewhere(bench)
    bench.dns.while_removing = unavailable()

    with pytest.raises(AuthorizationFailed):
        bench.issue(bench.name, f"*.{bench.name}")

    assert 2 == len(elsewhere.records(rtype="TXT")) == bench.rows_left
    assert 2 == sum(
        "the next run removes the challenge record" in activity for activity in bench.activities
    )

    bench.dns.while_removing = None
    bench.sweep()
    assert [] == elsewhere.records(rtype="TXT")
    assert 0 == bench.rows_left


def test_record_that_cannot_be_removed_does_not_cost_the_certificate(bench: Bench) -> None:
    """The proof has been seen; the rest is for the next run."""
    bench.dns.while_removing = unavailable()

    assert (bench.name,) == bench.issue().certificate.names
    assert 1 == len(bench.txt_left) == bench.rows_left


def test_proof_with_sub_problems_is_reported_whole(bench: Bench) -> None:
    """Every part of a compound problem is shown (RFC 8555 §6.7.1)."""
    parts = [
        {"type": f"{ERROR}caa", "detail": "CAA says no", "identifier": identifier(bench.name)},
        {"type": f"{ERROR}dns", "detail": "SERVFAIL"},
    ]
    problem = {"type": f"{ERROR}compound", "detail": "two things", "subproblems": parts}
    challenge = {"type": "dns-01", "url": "https://ca.example/1", "token": "x" * 43}
    bench.proxy.rewrite = showing_authorization(
        status="invalid", challenges=[{**challenge, "status": "invalid", "error": problem}]
    )

    with pytest.raises(AuthorizationFailed) as failure:
        bench.issue()

    said = f"two things (compound); {bench.name}: CAA says no (caa); SERVFAIL (dns)"
    assert str(failure.value).endswith(said)
    assert "CAA record" in str(failure.value.hint)


def identifier(name: str) -> dict[str, str]:
    return {"type": "dns", "value": name}


# --- What an interrupted run left in DNS is removed by the next one


VALUE, ANOTHER = "v" * 43, "w" * 43


def leave_record(
    bench: Bench, value: str = VALUE, *, in_dns: bool = True, handle: bool = True
) -> ChallengeRecord:
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
    bench.dns.finds_nothing = 3

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


def test_record_whose_zone_has_left_the_account_is_forgotten(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """This account could never remove it: it is reported once, and fails no run after that."""
    record = leave_record(bench)
    bench.dns.while_removing = ZoneNotFound(Text("no zone"), hint=Text("add it"))
    bench.clock.advance(GIVING_UP)

    bench.sweep()

    assert 0 == bench.rows_left
    (reported,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in reported
    assert record.value in reported


def test_account_that_is_named_by_mistake_costs_no_record(bench: Bench) -> None:
    """Another account has no such zone either: that is reported, and the right one removes it."""
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
    """Another program wrote it into the state to have it removed: certferry reports that, and asks
    no service.
    """
    record = leave_record(bench, value)

    bench.sweep()

    assert [] == bench.dns.removals
    assert [value] == bench.txt_left
    assert 0 == bench.rows_left
    (reported,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in reported
    assert "Check who can write to the state" in reported


def test_record_that_the_state_cannot_prove_is_left_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be the challenge of another program: that is reported, and nothing is asked."""
    record = leave_record(bench)
    bench.state.write("UPDATE challenge_record SET proof = NULL")

    bench.sweep()

    assert [] == bench.dns.removals
    assert [VALUE] == bench.txt_left
    assert 0 == bench.rows_left
    (reported,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in reported
    assert "certferry did not write the row" in reported
