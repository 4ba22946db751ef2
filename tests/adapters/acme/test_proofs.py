"""Failing proofs, failing writes and removals of records, and records of an interrupted run."""

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

# --- Failing proofs, failing records, and a slow CA


def use_another_zone(bench: Bench) -> Zones:
    """Let the account write into a zone that the CA never reads."""
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


def test_failed_proof_quotes_the_ca(bench: Bench) -> None:
    """The error has the name, the CA's detail and advice, and all records are removed."""
    elsewhere = use_another_zone(bench)

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
    """A single run reports all failing names."""
    names = [f"{letter}.{bench.name}" for letter in "abc"]
    use_another_zone(bench)

    with pytest.raises(AuthorizationFailed) as failure:
        bench.issue(*names)

    assert names == [name for name in names if f"for {name}: " in str(failure.value)]


def test_invalid_authorization_is_not_tried(bench: Bench) -> None:
    """An invalid authorization fails the order (RFC 8555 §7.1.6), so a record would be useless."""
    bench.proxy.rewrite = showing_authorization(status="invalid", challenges=[])

    with pytest.raises(AuthorizationFailed, match=f"proof for {bench.name}$"):
        bench.issue()
    assert [] == bench.dns.added


def test_authorization_without_dns01_fails_the_order(bench: Bench) -> None:
    """Certferry has no other method for the name."""
    bench.proxy.rewrite = showing_authorization(challenges=[])

    with pytest.raises(OrderFailed, match=f"no DNS-01 for {bench.name}"):
        bench.issue()


def test_valid_authorization_needs_no_record(
    dns_service: DnsService, zones: Zones, tmp_path: Path
) -> None:
    """The CA remembers the proof of the first order, so the second order needs no proof."""
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


def test_challenge_in_processing_is_not_answered_again(bench: Bench) -> None:
    """An earlier run has answered the challenge, and the CA may refuse a second answer."""
    answered = False

    def rewrite(request: Request, response: Response) -> Response:
        nonlocal answered
        if answered or not request.path.startswith("/authZ/"):
            return response
        answered = True
        challenges = json.loads(response.body)["challenges"]
        return with_fields(response, challenges=[{**c, "status": "processing"} for c in challenges])

    bench.proxy.rewrite = rewrite

    # The CA never gets an answer here, so the run waits until its deadline.
    with pytest.raises(CaUnavailable, match="validate the names"):
        bench.issue()
    assert [] == bench.proxy.requests("POST /chalZ/*")


def test_challenges_of_unknown_types_are_ignored(bench: Bench) -> None:
    """A CA may offer newer types of challenges."""

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


def test_endless_validation_is_given_up(bench: Bench) -> None:
    """The pauses between checks grow; in the end the records are removed and the order is kept."""
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


def test_retry_after_is_observed_while_polling(bench: Bench) -> None:
    """With a Retry-After of seven seconds every pause lasts seven seconds."""
    polls = 0

    def rewrite(request: Request, response: Response) -> Response:
        nonlocal polls
        if not request.path.startswith("/authZ/") or polls > 3:
            return response
        polls += 1
        return with_fields(response, status="pending").with_header("Retry-After", "7")

    bench.proxy.rewrite = rewrite

    bench.issue()

    assert 3 == sum(pause == 7.0 for pause in bench.clock.pauses)


def test_retry_after_beyond_the_deadline_ends_the_wait_at_once(bench: Bench) -> None:
    """The error has the moment of the next attempt."""

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


def test_refused_challenge_answer_fails_the_run(bench: Bench) -> None:
    """While the challenge is pending, a refusal of the answer is final."""
    bench.proxy.faults.add(refusal("malformed", "not like this", 400), on="POST /chalZ/*")

    with pytest.raises(OrderFailed, match="not like this"):
        bench.issue()
    assert [] == bench.txt_left


@pytest.mark.parametrize("error", [ZoneNotFound, DnsAccessDenied, DnsRejected])
def test_refused_record_is_not_searched(bench: Bench, error: type[DnsError]) -> None:
    """The record was never written, so no removal is needed; the order waits for the next run."""
    bench.dns.before_adding = error(Text("no"))

    with pytest.raises(error, match="no"):
        bench.issue()

    assert [] == bench.dns.removals
    assert 0 == bench.rows_left
    assert bench.state.order(bench.lineage) is not None


def test_record_with_a_lost_answer_is_removed_by_its_value(bench: Bench) -> None:
    """The record may exist in spite of the lost answer, as here."""
    bench.dns.after_adding = unavailable()

    with pytest.raises(DnsUnavailable):
        bench.issue()

    assert [None] == bench.dns.removals
    assert [] == bench.txt_left
    assert 0 == bench.rows_left


def test_uncertain_record_stays_in_the_state(bench: Bench) -> None:
    """The record may appear later, so the next run must know the record."""
    bench.dns.before_adding = unavailable()

    with pytest.raises(DnsUnavailable):
        bench.issue()

    assert [None] == bench.dns.removals
    assert 1 == bench.rows_left


def test_failed_removal_does_not_hide_the_error(bench: Bench) -> None:
    """The CA's error is reported. The remaining record is mentioned, and stays in the state."""
    elsewhere = use_another_zone(bench)
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


def test_failed_removal_does_not_prevent_the_certificate(bench: Bench) -> None:
    """The name is proven, and the next run removes the record."""
    bench.dns.while_removing = unavailable()

    assert (bench.name,) == bench.issue().certificate.names
    assert 1 == len(bench.txt_left) == bench.rows_left


def test_all_parts_of_a_compound_problem_are_reported(bench: Bench) -> None:
    """The error has every subproblem of the CA (RFC 8555 §6.7.1)."""
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

    message = f"two things (compound); {bench.name}: CAA says no (caa); SERVFAIL (dns)"
    assert str(failure.value).endswith(message)
    assert "CAA record" in str(failure.value.hint)


def identifier(name: str) -> dict[str, str]:
    return {"type": "dns", "value": name}


# --- Records of an interrupted run


VALUE, ANOTHER = "v" * 43, "w" * 43


def leave_record(
    bench: Bench, value: str = VALUE, *, in_dns: bool = True, handle: bool = True
) -> ChallengeRecord:
    name = f"_acme-challenge.{bench.name}"
    record_id = bench.dns.add_txt(name, value) if in_dns else "0"
    record = ChallengeRecord(
        bench.lineage, name, value, bench.clock.now(), record_id if handle else None
    )
    bench.state.save_challenge_record(record)
    return record


def test_sweep_without_records(bench: Bench) -> None:
    """The provider gets no request."""
    bench.sweep()

    assert [] == bench.dns.removals


def test_absent_record_is_forgotten(bench: Bench) -> None:
    """The handle shows that the record existed, so a later appearance is impossible."""
    leave_record(bench, in_dns=False)

    bench.sweep()

    assert 0 == bench.rows_left
    assert [] == bench.clock.pauses


def test_record_that_appears_late_is_removed(bench: Bench) -> None:
    """A provider's lists may lag (docs/facts/dnspod.md §1.7)."""
    leave_record(bench, handle=False)
    bench.dns.finds_nothing = 3

    bench.sweep()

    assert 4 == len(bench.dns.removals)
    assert [] == bench.txt_left
    assert 0 == bench.rows_left


def test_record_that_never_appears_is_forgotten(bench: Bench) -> None:
    """The search goes on until the provider's lists must be complete, and then ends."""
    leave_record(bench, in_dns=False, handle=False)

    bench.sweep()

    assert 0 == bench.rows_left
    assert abs(sum(bench.clock.pauses) - SETTLING.total_seconds()) < 1
    assert bench.clock.pauses[:-1] == sorted(bench.clock.pauses[:-1])


def test_old_record_is_searched_once(bench: Bench) -> None:
    """A record that is still missing from the lists was never written."""
    leave_record(bench, in_dns=False, handle=False)
    bench.clock.advance(SETTLING)

    bench.sweep()

    assert 0 == bench.rows_left
    assert [] == bench.clock.pauses


def test_clock_set_back_does_not_prolong_the_search(bench: Bench) -> None:
    """A record from the future counts as a record from now."""
    leave_record(bench, in_dns=False, handle=False)
    bench.clock.advance(-timedelta(days=30))

    bench.sweep()

    assert sum(bench.clock.pauses) <= SETTLING.total_seconds() + 1


def test_old_record_of_a_lost_zone_is_forgotten(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The account can never remove the record, so the sweep reports and forgets the record."""
    record = leave_record(bench)
    bench.dns.while_removing = ZoneNotFound(Text("no zone"), hint=Text("add it"))
    bench.clock.advance(GIVING_UP)

    bench.sweep()

    assert 0 == bench.rows_left
    (reported,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in reported
    assert record.value in reported


def test_record_survives_a_wrong_account(bench: Bench) -> None:
    """The wrong account lacks the zone, which is reported; the right account removes the record."""
    leave_record(bench)
    bench.dns.while_removing = ZoneNotFound(Text("no zone"), hint=Text("name another account"))
    with pytest.raises(ZoneNotFound):
        bench.sweep()
    bench.dns.while_removing = None

    bench.sweep()

    assert [] == bench.txt_left
    assert 0 == bench.rows_left


def test_record_is_removed_at_the_account_with_its_zone(bench: Bench) -> None:
    """An account without the zone has no influence, however old the record is."""
    leave_record(bench)
    bench.clock.advance(2 * GIVING_UP)

    accounts: list[DnsProvider] = [WithoutZones(), bench.dns]
    bench.issuer().sweep(bench.lineage, accounts, bench.clock.now())

    assert [] == bench.txt_left
    assert 0 == bench.rows_left


class WithoutZones:
    """An account without zones."""

    def add_txt(self, name: str, value: str) -> str:
        """Find no zone."""
        raise ZoneNotFound(Text("no zone for {name}", name=name))

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """Find no zone."""
        raise ZoneNotFound(Text("no zone for {name}", name=name))


def test_sweep_tries_every_record(bench: Bench) -> None:
    """A failed removal leaves the other removals unaffected."""
    leave_record(bench)
    leave_record(bench, ANOTHER)
    bench.dns.fails_for = {VALUE}

    with pytest.raises(DnsUnavailable):
        bench.sweep()

    assert [VALUE] == bench.txt_left
    assert 1 == bench.rows_left


def test_stopped_search_keeps_the_record(bench: Bench) -> None:
    """A stopped search leaves open whether the record exists."""
    leave_record(bench, in_dns=False, handle=False)
    bench.clock.stopped = Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        bench.sweep()
    assert 1 == bench.rows_left


@pytest.mark.parametrize("value", ["v=spf1 -all", "google-site-verification=" + VALUE, VALUE + "="])
def test_value_that_is_no_challenge_stays_in_dns(
    bench: Bench, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """Another program wrote the row to have a record removed: certferry only reports the row."""
    record = leave_record(bench, value)

    bench.sweep()

    assert [] == bench.dns.removals
    assert [value] == bench.txt_left
    assert 0 == bench.rows_left
    (reported,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in reported
    assert "Check who can write to the state" in reported


def test_row_without_a_proof_stays_in_dns(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The record may be another program's challenge, so certferry only reports the row."""
    record = leave_record(bench)
    bench.state.write("UPDATE challenge_record SET proof = NULL")

    bench.sweep()

    assert [] == bench.dns.removals
    assert [VALUE] == bench.txt_left
    assert 0 == bench.rows_left
    (reported,) = (logged.getMessage() for logged in caplog.records)
    assert record.name in reported
    assert "certferry did not write the row" in reported
