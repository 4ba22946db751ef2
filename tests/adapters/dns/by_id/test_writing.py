"""What every service that names its records by id does: look, write, read back, take away."""

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
def test_new_record_is_read_back(account: AnAccount, provider: DnsProvider) -> None:
    """One write, one look at what became of it, and a handle that names the record."""
    handle = provider.add_txt(NAME, "value")

    [record] = account.zones.records(name=NAME, rtype="TXT")
    assert handle.rpartition("|")[2].lstrip("0") in {str(record.id), f"{record.id:x}"}
    assert ("value", 1, 1) == (
        record.value,
        len(account.calls(account.CREATE)),
        len(account.calls(account.READ)),
    )


@READ_BACK
def test_record_that_was_accepted_and_never_written(
    account: AnAccount, provider: DnsProvider
) -> None:
    """A service that says yes and does nothing is found out before the CA looks."""
    assert not isinstance(account, DnspodAccount)
    account.service.forgets_records = True

    with pytest.raises(DnsUnavailable, match="does not list it") as unknown:
        provider.add_txt(NAME, "value")

    assert Retry.LATER == unknown.value.retry
    assert 2 == len(account.calls(account.CREATE))


def test_record_that_is_shown_late(account: AnAccount, provider: DnsProvider) -> None:
    """It is looked for again, and not written twice."""
    account.service.index_delay = 3

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert 1 == len(account.calls(account.CREATE))


@READ_BACK
def test_record_that_cannot_be_read_back(account: AnAccount, provider: DnsProvider) -> None:
    """The write was answered: the handle is not given up because a look fails."""
    account.refuse_next(account.READ, account.NOT_ALLOWED)

    handle = provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert account.connect().remove_txt(NAME, "value", handle)


@LOST
def test_record_is_there_once_after_a_lost_answer(
    account: AnAccount, provider: DnsProvider, fault: Fault
) -> None:
    """Whether it was written before the answer was lost or not, it is looked for first."""
    account.service.faults.add(fault, on=account.CREATE)

    handle = provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert provider.remove_txt(NAME, "value", handle)
    assert 1 <= len(account.calls(account.LIST))


@pytest.mark.parametrize("does_the_work", [True, False])
def test_record_is_there_once_after_an_error_of_the_server(
    account: AnAccount, provider: DnsProvider, does_the_work: object
) -> None:
    """A server that failed may have done the work."""
    account.refuse_next(account.CREATE, account.BROKEN, does_the_work=bool(does_the_work))

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


def test_write_is_not_repeated_without_end(account: AnAccount, provider: DnsProvider) -> None:
    """After two writes in doubt the next run goes on, and finds what came of them."""
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


def test_record_in_doubt_is_not_reported_as_refused(
    account: AnAccount, provider: DnsProvider
) -> None:
    """When the look for it is refused, it may be there all the same, and must be swept later."""
    account.service.faults.add(Fault.reset_after(), on=account.CREATE)
    account.refuse_next(account.LIST, account.NOT_ALLOWED, times=9)

    with pytest.raises(DnsUnavailable, match="unknown whether the change took effect"):
        provider.add_txt(NAME, "value")


def test_connection_that_is_refused_leaves_no_doubt(
    account: AnAccount, provider: DnsProvider
) -> None:
    """Nothing was sent, so nothing is looked for."""
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
    """It is repeated by id, and what was removed by the lost call counts as removed."""
    handle = provider.add_txt(NAME, "value")
    account.service.faults.add(fault, on=account.REMOVE)

    assert provider.remove_txt(NAME, "value", handle)
    assert [] == account.values(NAME)
    assert 2 == len(account.calls(account.REMOVE))


def test_removal_is_not_repeated_without_end(account: AnAccount, provider: DnsProvider) -> None:
    """The handle stays good for the next run."""
    handle = provider.add_txt(NAME, "value")
    account.service.faults.add(Fault.reset_before(), on=account.REMOVE, times=None)

    with pytest.raises(DnsUnavailable, match="unknown whether the change took effect"):
        provider.remove_txt(NAME, "value", handle)

    assert 3 == len(account.calls(account.REMOVE))
    account.service.faults.clear()
    assert provider.remove_txt(NAME, "value", handle)


@READ_BACK
@LOST
@pytest.mark.parametrize("which", ["ZONES", "LIST"])
def test_read_without_an_answer_is_repeated(
    account: AnAccount, provider: DnsProvider, which: str, fault: Fault
) -> None:
    """A read changes nothing, so it is asked again; words that are none end it."""
    account.zones.create(NAME, "TXT", "value")
    account.service.faults.add(fault, on=getattr(account, which))
    if fault.code == 200:
        with pytest.raises(DnsUnavailable, match="cannot be read"):
            provider.remove_txt(NAME, "value", None)
        return

    assert provider.remove_txt(NAME, "value", None)
    assert [] == account.values(NAME)


@pytest.mark.parametrize("which", ["ZONES", "CREATE", "REMOVE"])
def test_too_many_calls_are_waited_out(
    account: AnAccount, provider: DnsProvider, which: str
) -> None:
    """429 says that nothing was done, so a write is made again as well, when that is asked for."""
    account.service.faults.add(Fault.too_many(retry_after=7), on=getattr(account, which))

    provider.remove_txt(NAME, "value", provider.add_txt(NAME, "value"))

    assert 7.0 in account.waits.seconds
    assert [] == account.values(NAME)


def test_refusal_is_reported_with_name_and_code(account: AnAccount, provider: DnsProvider) -> None:
    """A CNAME at the name excludes the record, whatever the service calls it."""
    account.zones.create(NAME, "CNAME", "elsewhere.example.net.")

    with pytest.raises(DnsRejected, match=f"{NAME}: .* code {account.CONFLICT[0]}") as refused:
        provider.add_txt(NAME, "value")

    assert "remove the other record" in str(refused.value.hint)
    assert Retry.NEVER == refused.value.retry
    assert 1 == len(account.calls(account.CREATE))


def test_keys_that_are_refused_are_not_sent_again(account: AnAccount) -> None:
    """The first refusal is reported again; a service may lock out who goes on."""
    provider = account.denied()
    with pytest.raises(DnsAccessDenied) as denied:
        provider.add_txt(NAME, "value")

    with pytest.raises(DnsAccessDenied, match="certferry does not ask") as again:
        provider.remove_txt(NAME, "value", None)

    assert 1 == len(account.calls())
    assert denied.value.hint == again.value.hint
    assert Retry.NEVER == again.value.retry


@READ_BACK
def test_permission_that_lacks_for_one_zone_does_not_end_all(
    account: AnAccount, provider: DnsProvider
) -> None:
    """Keys may be narrowed to zones: what is refused for one says nothing about another."""
    account.add_zone("example.org")
    account.refuse_next(account.CREATE, account.NOT_ALLOWED)

    with pytest.raises(DnsAccessDenied) as denied:
        provider.add_txt(NAME, "value")
    provider.add_txt("_acme-challenge.example.org", "value")

    assert denied.value.hint is not None
    assert ["value"] == account.values("_acme-challenge.example.org")


def test_records_of_others_are_left_alone(account: AnAccount, provider: DnsProvider) -> None:
    """Neither another client's challenge nor a record of another type is touched."""
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
def test_handle_that_was_made_another_records_removes_nothing(
    account: AnAccount, provider: DnsProvider, name: str, rtype: str, value: str
) -> None:
    """A user who can write to the state must not have other records removed by it."""
    handle = provider.add_txt("_acme-challenge.other.example.com", "known")
    record = account.zones.create(name, rtype, value)
    zone_id, _, known = handle.partition("|")
    meddled = f"{record.id:032x}" if len(known) == 32 else str(record.id)

    assert not account.connect().remove_txt(NAME, "value", f"{zone_id}|{meddled}")
    assert [record.id] == [r.id for r in account.zones.records(name=name, rtype=rtype)]


@READ_BACK
@pytest.mark.parametrize("handle", ["", "|", "12|", "|34", "garbage", "ZONE|../..", "ZONE|1&a=b"])
def test_handle_that_is_none_is_as_good_as_none(
    account: AnAccount, provider: DnsProvider, handle: str
) -> None:
    """It is never made part of a request, and the value is removed all the same."""
    zone_id = provider.add_txt(NAME, "value").partition("|")[0]
    before = len(account.calls(account.READ))

    assert provider.remove_txt(NAME, "value", handle.replace("ZONE", zone_id))
    assert [] == account.values(NAME)
    assert before == len(account.calls(account.READ))


def test_record_that_cannot_be_looked_at_is_looked_for(
    account: AnAccount, provider: DnsProvider
) -> None:
    """A list tells what cannot be read by its id."""
    handle = provider.add_txt(NAME, "value")
    account.refuse_next(account.READ, account.CONFLICT)

    assert account.connect().remove_txt(NAME, "value", handle)
    assert [] == account.values(NAME)


def test_identical_record_gives_its_id(account: AnAccount, provider: DnsProvider) -> None:
    """It is found among the others at its name; nothing is written beside it."""
    account.zones.create(NAME, "TXT", "another")
    account.zones.create(NAME, "TXT", "value")

    handle = provider.add_txt(NAME, "value")

    assert ["another", "value"] == account.values(NAME)
    assert account.connect().remove_txt(NAME, "value", handle)
    assert ["another"] == account.values(NAME)


def test_identical_record_that_is_never_shown(account: AnAccount, provider: DnsProvider) -> None:
    """The search ends, and the next run may go on with it."""
    account.refuse_next(account.CREATE, account.DUPLICATE, times=9)

    with pytest.raises(DnsUnavailable, match=r"does not (show|list) it"):
        provider.add_txt(NAME, "value")


def test_long_list_of_records_is_read_to_its_end(account: AnAccount, provider: DnsProvider) -> None:
    """The value is found behind hundreds of others at the same name."""
    for number in range(600):
        account.zones.create(NAME, "TXT", f"value-{number}")

    assert provider.remove_txt(NAME, "value-599", None)


def test_value_is_compared_exactly(account: AnAccount, provider: DnsProvider) -> None:
    """Neither case nor a part of the value is enough."""
    provider.add_txt(NAME, "Value")

    assert not provider.remove_txt(NAME, "value", None)
    assert not provider.remove_txt(NAME, "Val", None)
    assert ["Value"] == account.values(NAME)
