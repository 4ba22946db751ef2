"""DNSPod as a provider: the zone, the record, and nothing but our own record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.dns.txt_records import Zone, zones_holding
from certferry.adapters.dnspod.dnspod_client import DnspodRecords, DnspodZone
from certferry.errors import DnsRejected, DnsUnavailable
from certferry.ports.dns import DnsProvider
from certferry_sandbox.faults import Fault
from tests.adapters.dnspod.account import DnspodAccount

NAME = "_acme-challenge.img.example.com"


# the record


def test_record_is_a_plain_txt_on_the_default_line(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The value is sent raw, with the free plans' TTL, and the handle names domain and record."""
    handle = provider.add_txt(NAME, "gfj9Xq-_Rg85nM")

    [record] = account.zones.records(name=NAME, rtype="TXT")
    [create] = account.service.calls("Record.Create")
    domain_id = create.params["domain_id"]
    assert ("gfj9Xq-_Rg85nM", 600) == (record.value, record.ttl)
    assert ("_acme-challenge.img", "默认") == (
        create.params["sub_domain"],
        create.params["record_line"],
    )
    assert f"{domain_id}|{record.id}" == handle


def test_every_call_asks_for_english_json_and_empty_lists(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The default answer would be XML, and an error for what is merely empty."""
    provider.add_txt(NAME, "value")
    provider.remove_txt(NAME, "another", None)

    common = {"format": "json", "lang": "en", "error_on_empty": "no"}
    calls = account.service.calls()
    assert ["Domain.List", "Record.Create", "Record.List"] == [call.action for call in calls]
    assert all(common.items() <= call.params.items() for call in calls)


def test_line_of_the_international_sibling_is_a_setting(account: DnspodAccount) -> None:
    """The default line has another name at api.dnspod.com."""
    with pytest.raises(DnsRejected, match="code 26") as refused:
        account.connect(line="default").add_txt(NAME, "value")

    assert "默认" in str(refused.value.hint)


def test_removal_of_what_was_just_written_is_a_single_call(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The record is known: it was DNSPod that said its id, in answer to its name and value."""
    handle = provider.add_txt(NAME, "value")
    before = len(account.actions())

    assert provider.remove_txt(NAME, "value", handle)
    assert ["Record.Remove"] == account.actions()[before:]


def test_another_process_looks_at_a_record_before_it_removes_it(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """One more call; a list, in which a new record may be missing, is not needed."""
    account.service.index_delay = 30.0
    handle = provider.add_txt(NAME, "value")
    before = len(account.actions())

    assert account.connect().remove_txt(NAME, "value", handle)
    assert ["Domain.List", "Record.Info", "Record.Remove"] == account.actions()[before:]
    assert [] == account.values(NAME)


def test_record_that_is_reported_otherwise_is_looked_for(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The page that says what a record's fields are called is of 2016."""
    handle = provider.add_txt(NAME, "value")
    as_in_lists = b'{"status":{"code":"1"},"record":{"id":"1","type":"TXT","value":"value"}}'
    account.service.faults.add(Fault.status(200, as_in_lists), on="POST /Record.Info")

    assert account.connect().remove_txt(NAME, "value", handle)
    assert [] == account.values(NAME)


@pytest.mark.parametrize("handle", ["", "|", "12|", "|34", "garbage", "1|2"])
def test_handle_of_no_record_is_as_good_as_none(
    account: DnspodAccount, provider: DnsProvider, handle: str
) -> None:
    """A handle that is no handle does not keep the value from being removed."""
    provider.add_txt(NAME, "value")
    domain_id = account.service.calls("Record.Create")[0].params["domain_id"]

    assert provider.remove_txt(NAME, "value", handle.replace("1|", f"{domain_id}|"))
    assert [] == account.values(NAME)


def test_record_that_is_switched_off_is_not_taken_for_ours(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """It would never be seen, so it is an error at once, instead of a wait."""
    account.zones.create(NAME, "TXT", "value", enabled=False)

    with pytest.raises(DnsRejected, match="switched off"):
        provider.add_txt(NAME, "value")


# an identical record that is there already


def test_identical_record_is_recognised_by_its_words(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The number 104 is not documented, so another number with these words means the same."""
    record = account.zones.create(NAME, "TXT", "value")
    account.service.answer_next("Record.Create", "1041", "Domain record already exists")

    assert provider.add_txt(NAME, "value").endswith(f"|{record.id}")


def test_identical_record_is_listed_late(account: DnspodAccount, provider: DnsProvider) -> None:
    """The list is asked again, ever more rarely, for as long as DNSPod may need."""
    account.service.index_delay = 30
    record = account.zones.create(NAME, "TXT", "value")

    assert provider.add_txt(NAME, "value").endswith(f"|{record.id}")
    assert 30 <= account.waits.clock() <= 42
    assert len(account.service.calls("Record.List")) <= 7


# the TTL


@pytest.mark.parametrize(
    ("grade", "ttl"),
    [
        ("D_Free", 600),
        ("D_Plus", 60),
        ("D_Ultra", 60),
        ("DP_Free", 600),
        ("DP_Plus", 60),
        ("DP_Extra", 60),
        ("DP_Expert", 60),
        ("DP_Ultra", 60),
    ],
)
def test_ttl_is_that_of_the_plan_at_once(
    account: DnspodAccount, provider: DnsProvider, grade: str, ttl: int
) -> None:
    """The list of domains tells the plan, so nothing is refused, and nothing more is asked."""
    account.service.add_domain("example.org", grade=grade)

    provider.add_txt("_acme-challenge.example.org", "value")

    [record] = account.zones.records(name="_acme-challenge.example.org", rtype="TXT")
    assert ttl == record.ttl
    assert ["Domain.List", "Record.Create"] == account.actions()


@pytest.mark.parametrize("grade", ["", "DP_Gold", "Plus", "dp_free"])
def test_unknown_plan_is_taken_for_a_free_one(grade: str) -> None:
    """Every plan allows what the free ones do."""
    assert 600 == DnspodZone("7", "example.com", grade=grade).ttl


@pytest.mark.parametrize(
    ("grade", "minimum", "ttls"),
    [
        ("DP_Free", 1, ["600"]),
        ("DP_Free", 1800, ["600", "1800"]),
        ("DP_Plus", 120, ["60", "120"]),
        ("DP_Plus", 600, ["60", "600"]),
        ("DP_Ultra", 1800, ["60", "1800"]),
    ],
)
def test_refused_ttl_is_raised_to_the_minimum(
    account: DnspodAccount, provider: DnsProvider, grade: str, minimum: int, ttls: list[str]
) -> None:
    """Domain.Purview tells it, whatever the plan was thought to allow."""
    account.service.add_domain("example.org", grade=grade, min_ttl=minimum)

    provider.add_txt("_acme-challenge.example.org", "value")

    assert ttls == [call.params["ttl"] for call in account.service.calls("Record.Create")]
    [record] = account.zones.records(name="_acme-challenge.example.org", rtype="TXT")
    assert int(ttls[-1]) == record.ttl


@pytest.mark.parametrize("code", ["29", "32"])
def test_refused_ttl_of_a_paid_plan_becomes_that_of_a_free_one(
    account: DnspodAccount, provider: DnsProvider, code: str
) -> None:
    """Where the minimum is no reason for the refusal: a plan that has run out allows 600."""
    account.service.add_domain("example.org", grade="DP_Plus")
    account.service.answer_next("Record.Create", code, "Record ttl is limited(600)")

    for value in ("one", "two"):
        provider.add_txt("_acme-challenge.example.org", value)

    assert ["60", "600", "600"] == [
        call.params["ttl"] for call in account.service.calls("Record.Create")
    ]


def test_minimum_ttl_is_learned_once_for_each_domain(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The second value at a domain is written with the right TTL at once; others keep theirs."""
    account.service.add_domain("example.org", min_ttl=1800)

    provider.add_txt("_acme-challenge.example.org", "of-apex")
    provider.add_txt("_acme-challenge.example.org", "of-wildcard")
    provider.add_txt(NAME, "of-another")

    assert 1 == len(account.service.calls("Domain.Purview"))
    assert ["600", "1800", "1800", "600"] == [
        call.params["ttl"] for call in account.service.calls("Record.Create")
    ]


@pytest.mark.parametrize("code", ["29", "32"])
def test_ttl_that_stays_refused_is_reported(
    account: DnspodAccount, provider: DnsProvider, code: str
) -> None:
    """When the plan's minimum is no reason for the refusal, nothing is tried again."""
    account.service.answer_next("Record.Create", code, times=9)

    with pytest.raises(DnsRejected, match=f"code {code}"):
        provider.add_txt(NAME, "value")

    assert 1 == len(account.service.calls("Record.Create"))


# the zone


def test_international_domain_is_found_by_its_a_labels(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """DNSPod's own name for it is in Unicode."""
    account.service.add_domain("例子.com")

    provider.add_txt("_acme-challenge.xn--fsqu00a.com", "value")

    assert ["value"] == account.values("_acme-challenge.xn--fsqu00a.com")


def test_long_list_of_domains_is_read_to_its_end(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """A domain on the third page is found, in as many calls as there are pages."""
    for number in range(1100):
        account.service.add_domain(f"example-{number}.net")

    provider.add_txt("_acme-challenge.example-1099.net", "value")

    assert ["0", "500", "1000"] == [
        call.params["offset"] for call in account.service.calls("Domain.List")
    ]


@pytest.mark.parametrize(
    ("status", "words"), [("pause", "paused"), ("spam", "banned"), ("lock", "locked")]
)
def test_zone_that_may_not_be_used_is_reported(
    account: DnspodAccount, provider: DnsProvider, status: str, words: str
) -> None:
    """The error names the domain and its state, and nothing is written."""
    account.service.add_domain("example.org", status=status)  # type: ignore[arg-type]  # from the list above

    with pytest.raises(DnsRejected, match=f"example.org is {words}") as refused:
        provider.add_txt("_acme-challenge.example.org", "value")

    assert refused.value.hint is not None
    assert [] == account.service.writes()


def test_paused_sub_zone_gives_way_to_its_parent(
    account: DnspodAccount, provider: DnsProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """A domain that is not used is reported, and the next longer one holds the name."""
    account.service.add_domain("dev.example.com", status="pause")

    provider.add_txt("_acme-challenge.dev.example.com", "value")

    assert "_acme-challenge.dev" == account.service.calls("Record.Create")[0].params["sub_domain"]
    assert "the domain dev.example.com is paused at DNSPod; certferry skips the zone" in caplog.text


LABEL = st.sampled_from(["a", "b", "ab", "ba", "x"])
NAMES = st.lists(LABEL, min_size=2, max_size=5).map(".".join)


@given(NAMES, st.sets(NAMES, max_size=12))
def test_place_is_in_the_longest_zone_by_whole_labels(name: str, zones: set[str]) -> None:
    """Host and zone make up the name again, and no longer zone holds it."""
    held_by = {zone for zone in zones if f".{name}".endswith(f".{zone}")}

    holding = zones_holding(name, [Zone(zone, zone) for zone in sorted(zones)])

    assert sorted(held_by, key=len, reverse=True) == [zone.name for zone in holding]
    assert all(name == zone.name_of(zone.host_of(name)) for zone in holding)


def test_zones_are_listed_with_what_is_in_their_way(account: DnspodAccount) -> None:
    """Every domain of the account; one that is paused is reported as such."""
    account.service.add_domain("example.com")
    account.service.add_domain("example.net", status="pause")
    provider = account.connect()
    assert isinstance(provider, DnspodRecords)

    zones = {zone.name: zone.problem for zone in provider.zones()}

    assert {"example.com", "example.net"} == set(zones)
    assert zones["example.com"] is None
    assert "is paused at DNSPod" in str(zones["example.net"])


def test_clock_of_dnspod_is_reported_without_the_token(account: DnspodAccount) -> None:
    """By `GET /`, which answers 404."""
    ahead = cast("Any", account.connect()).clock_ahead()

    assert abs(ahead - (datetime.now(UTC) - account.now())) < timedelta(seconds=10)
    [request] = account.service.http.requests("GET /")
    assert "token" not in request.query


def test_dnspod_that_does_not_answer_shows_no_time(account: DnspodAccount) -> None:
    """That is reported as it is."""
    account.service.faults.add(Fault.reset_before(), on="GET /", times=None)

    with pytest.raises(DnsUnavailable, match="the time"):
        cast("Any", account.connect()).clock_ahead()
