"""Writes and removals at every service that names records by id."""

from __future__ import annotations

import pytest

from certferry.errors import DnsAccessDenied, DnsRejected, DnsUnavailable, Retry
from certferry.ports.dns import DnsProvider
from certferry_sandbox.faults import Fault
from tests.adapters.dns.by_id.any_account import READ_BACK, AnAccount
from tests.adapters.dnspod.account import DnspodAccount

NAME = "_acme-challenge.img.example.com"
APEX = "_acme-challenge.example.com"

BROKEN = [
    Fault.reset_before(),
    Fault.reset_after(),
    Fault.truncated(),
    Fault.html(502),
    Fault.status(500, b"{}"),
    Fault.status(200, b"no JSON"),
    Fault.status(200, b"[1]"),
]
LOST = pytest.mark.parametrize(
    "fault", BROKEN, ids=["before", "after", "truncated", "page", "500", "words", "list"]
)


@READ_BACK
def test_new_record_is_checked(account: AnAccount, provider: DnsProvider) -> None:
    """A write takes a single call and a single check, and the handle names the record."""
    handle = provider.add_txt(NAME, "value")

    [record] = account.zones.records(name=NAME, rtype="TXT")
    assert handle.rpartition("|")[2].lstrip("0") in {str(record.id), f"{record.id:x}"}
    assert ("value", 1, 1) == (
        record.value,
        len(account.calls(account.CREATE)),
        len(account.calls(account.READ)),
    )


@READ_BACK
def test_accepted_record_is_missing(account: AnAccount, provider: DnsProvider) -> None:
    """A service that accepts a record and drops it is noticed before the CA looks."""
    assert not isinstance(account, DnspodAccount)
    account.service.forgets_records = True

    with pytest.raises(DnsUnavailable, match="does not list it") as unknown:
        provider.add_txt(NAME, "value")

    assert Retry.LATER == unknown.value.retry
    assert 2 == len(account.calls(account.CREATE))


def test_record_is_listed_late(account: AnAccount, provider: DnsProvider) -> None:
    """The search is repeated; the write is not."""
    account.service.index_delay = 3

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert 1 == len(account.calls(account.CREATE))


@READ_BACK
def test_record_that_cannot_be_checked(account: AnAccount, provider: DnsProvider) -> None:
    """The service has confirmed the write, so a failed check keeps the handle."""
    account.refuse_next(account.READ, account.NOT_ALLOWED)

    handle = provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert account.connect().remove_txt(NAME, "value", handle)


@LOST
def test_lost_answer_to_a_write_leaves_a_single_record(
    account: AnAccount, provider: DnsProvider, fault: Fault
) -> None:
    """A search comes before the second write, because the first may have succeeded."""
    account.service.faults.add(fault, on=account.CREATE)

    handle = provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert provider.remove_txt(NAME, "value", handle)
    assert 1 <= len(account.calls(account.LIST))


@pytest.mark.parametrize("does_the_work", [True, False])
def test_server_error_leaves_a_single_record(
    account: AnAccount, provider: DnsProvider, does_the_work: object
) -> None:
    """The server may have written the record before the error."""
    account.refuse_next(account.CREATE, account.BROKEN, does_the_work=bool(does_the_work))

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


def test_uncertain_write_is_sent_at_most_twice(account: AnAccount, provider: DnsProvider) -> None:
    """After two uncertain writes the next run continues, and finds the record."""
    account.service.index_delay = 1e9
    account.service.faults.add(Fault.reset_after(), on=account.CREATE, times=None)

    with pytest.raises(DnsUnavailable, match="unknown whether the change took effect") as unknown:
        provider.add_txt(NAME, "value")

    assert Retry.LATER == unknown.value.retry
    assert 2 == len(account.calls(account.CREATE))
    assert ["value"] == account.values(NAME)
    account.service.index_delay = 0
    account.service.faults.clear()
    assert provider.remove_txt(NAME, "value", None)


def test_refused_search_leaves_a_write_uncertain(account: AnAccount, provider: DnsProvider) -> None:
    """The record may exist although the search is refused, so a later run must remove it."""
    account.service.faults.add(Fault.reset_after(), on=account.CREATE)
    account.refuse_next(account.LIST, account.NOT_ALLOWED, times=9)

    with pytest.raises(DnsUnavailable, match="unknown whether the change took effect"):
        provider.add_txt(NAME, "value")


def test_refused_connection_is_certain(account: AnAccount, provider: DnsProvider) -> None:
    """The request was never sent, so a search is unnecessary."""
    provider.add_txt(NAME, "one")
    account.service.http.stop()

    with pytest.raises(DnsUnavailable, match="cannot connect") as lost:
        provider.add_txt(NAME, "two")

    assert "may or may not" not in str(lost.value)
    account.service.http.start()


@LOST
def test_removal_is_certain_after_a_lost_answer(
    account: AnAccount, provider: DnsProvider, fault: Fault
) -> None:
    """The removal is repeated by id, and a record that the lost call removed counts as removed."""
    handle = provider.add_txt(NAME, "value")
    account.service.faults.add(fault, on=account.REMOVE)

    assert provider.remove_txt(NAME, "value", handle)
    assert [] == account.values(NAME)
    assert 2 == len(account.calls(account.REMOVE))


def test_uncertain_removal_is_sent_at_most_three_times(
    account: AnAccount, provider: DnsProvider
) -> None:
    """The next run can use the same handle."""
    handle = provider.add_txt(NAME, "value")
    account.service.faults.add(Fault.reset_before(), on=account.REMOVE, times=None)

    with pytest.raises(DnsUnavailable, match="unknown whether the change took effect"):
        provider.remove_txt(NAME, "value", handle)

    assert 3 == len(account.calls(account.REMOVE))
    account.service.faults.clear()
    assert provider.remove_txt(NAME, "value", handle)


@READ_BACK
@LOST
@pytest.mark.parametrize("action", ["ZONES", "LIST"])
def test_failed_read_is_repeated(
    account: AnAccount, provider: DnsProvider, action: str, fault: Fault
) -> None:
    """A repeated read is harmless. An undecodable answer with status 200 is an error at once."""
    account.zones.create(NAME, "TXT", "value")
    account.service.faults.add(fault, on=getattr(account, action))
    if fault.code == 200:
        with pytest.raises(DnsUnavailable, match="cannot be read"):
            provider.remove_txt(NAME, "value", None)
        return

    assert provider.remove_txt(NAME, "value", None)
    assert [] == account.values(NAME)


@pytest.mark.parametrize("action", ["ZONES", "CREATE", "REMOVE"])
def test_rate_limited_call_is_repeated(
    account: AnAccount, provider: DnsProvider, action: str
) -> None:
    """With status 429 the service did nothing, so even a write is repeated after Retry-After."""
    account.service.faults.add(Fault.too_many(retry_after=7), on=getattr(account, action))

    provider.remove_txt(NAME, "value", provider.add_txt(NAME, "value"))

    assert 7.0 in account.waits.seconds
    assert [] == account.values(NAME)


def test_refusal_is_reported_with_name_and_code(account: AnAccount, provider: DnsProvider) -> None:
    """A CNAME at the name conflicts with a TXT record, and the error has the service's own code."""
    account.zones.create(NAME, "CNAME", "elsewhere.example.net.")

    with pytest.raises(DnsRejected, match=f"{NAME}: .* code {account.CONFLICT[0]}") as refused:
        provider.add_txt(NAME, "value")

    assert "remove the other record" in str(refused.value.hint)
    assert Retry.NEVER == refused.value.retry
    assert 1 == len(account.calls(account.CREATE))


def test_refused_keys_are_sent_once(account: AnAccount) -> None:
    """Later calls repeat the error without a request; a service may lock out the account."""
    provider = account.denied()
    with pytest.raises(DnsAccessDenied) as denied:
        provider.add_txt(NAME, "value")

    with pytest.raises(DnsAccessDenied, match="certferry does not ask") as again:
        provider.remove_txt(NAME, "value", None)

    assert 1 == len(account.calls())
    assert denied.value.hint == again.value.hint
    assert Retry.NEVER == again.value.retry


@READ_BACK
def test_permission_denied_for_a_single_zone(account: AnAccount, provider: DnsProvider) -> None:
    """Keys can be restricted to zones, so a refusal for one zone leaves the other zones usable."""
    account.add_zone("example.org")
    account.refuse_next(account.CREATE, account.NOT_ALLOWED)

    with pytest.raises(DnsAccessDenied) as denied:
        provider.add_txt(NAME, "value")
    provider.add_txt("_acme-challenge.example.org", "value")

    assert denied.value.hint is not None
    assert ["value"] == account.values("_acme-challenge.example.org")


def test_records_of_others_stay(account: AnAccount, provider: DnsProvider) -> None:
    """Another client's challenge and records of other types remain unchanged."""
    account.zones.create(APEX, "TXT", "another client's")
    account.zones.create("example.com", "TXT", "v=spf1 -all")
    ours = provider.add_txt(APEX, "ours")

    provider.remove_txt(APEX, "ours", ours)
    provider.remove_txt(APEX, "ours", None)

    assert ["another client's"] == account.values(APEX)
    assert ["v=spf1 -all"] == account.values("example.com")


@pytest.mark.parametrize(
    ("name", "rtype", "value"),
    [
        ("www.example.com", "A", "192.0.2.1"),
        ("example.com", "TXT", "value"),
        (NAME, "TXT", "another value"),
        (NAME, "CNAME", "value.example.net"),
    ],
)
def test_forged_handle_removes_nothing(
    account: AnAccount, provider: DnsProvider, name: str, rtype: str, value: str
) -> None:
    """A user with write access to the state must have no way to remove other records."""
    handle = provider.add_txt("_acme-challenge.other.example.com", "known")
    record = account.zones.create(name, rtype, value)
    zone_id, _, own_id = handle.partition("|")
    forged_id = f"{record.id:032x}" if len(own_id) == 32 else str(record.id)

    assert not account.connect().remove_txt(NAME, "value", f"{zone_id}|{forged_id}")
    assert [record.id] == [r.id for r in account.zones.records(name=name, rtype=rtype)]


@READ_BACK
@pytest.mark.parametrize("handle", ["", "|", "12|", "|34", "garbage", "ZONE|../..", "ZONE|1&a=b"])
def test_malformed_handle_is_ignored(
    account: AnAccount, provider: DnsProvider, handle: str
) -> None:
    """The handle never becomes part of a request, and the value is found by name."""
    zone_id = provider.add_txt(NAME, "value").partition("|")[0]
    before = len(account.calls(account.READ))

    assert provider.remove_txt(NAME, "value", handle.replace("ZONE", zone_id))
    assert [] == account.values(NAME)
    assert before == len(account.calls(account.READ))


def test_unreadable_record_is_found_in_the_list(account: AnAccount, provider: DnsProvider) -> None:
    """The list confirms a record that cannot be read by id."""
    handle = provider.add_txt(NAME, "value")
    account.refuse_next(account.READ, account.CONFLICT)

    assert account.connect().remove_txt(NAME, "value", handle)
    assert [] == account.values(NAME)


def test_identical_record_is_reused(account: AnAccount, provider: DnsProvider) -> None:
    """The record is found among others at the same name, and a second record is unnecessary."""
    account.zones.create(NAME, "TXT", "another")
    account.zones.create(NAME, "TXT", "value")

    handle = provider.add_txt(NAME, "value")

    assert ["another", "value"] == account.values(NAME)
    assert account.connect().remove_txt(NAME, "value", handle)
    assert ["another"] == account.values(NAME)


def test_identical_record_is_never_listed(account: AnAccount, provider: DnsProvider) -> None:
    """The search ends with an error, and the next run can continue."""
    account.refuse_next(account.CREATE, account.DUPLICATE, times=9)

    with pytest.raises(DnsUnavailable, match=r"does not (show|list) it"):
        provider.add_txt(NAME, "value")


def test_long_list_of_records_is_read_to_its_end(account: AnAccount, provider: DnsProvider) -> None:
    """The value is found after hundreds of other values at the same name."""
    for number in range(600):
        account.zones.create(NAME, "TXT", f"value-{number}")

    assert provider.remove_txt(NAME, "value-599", None)


def test_value_is_compared_exactly(account: AnAccount, provider: DnsProvider) -> None:
    """Case matters, and a part of the value is insufficient."""
    provider.add_txt(NAME, "Value")

    assert not provider.remove_txt(NAME, "value", None)
    assert not provider.remove_txt(NAME, "Val", None)
    assert ["Value"] == account.values(NAME)
