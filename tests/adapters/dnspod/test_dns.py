"""DNSPod as a DNS provider: records, TTLs and zones."""

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

LINE = "line_not_default"
NAME = "_acme-challenge.img.example.com"


# --- Records


def test_record_is_a_plain_txt_on_the_default_line(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The value is sent unquoted with the free plans' TTL; the handle names domain and record."""
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


def test_every_call_requests_english_json_and_empty_lists(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """By default DNSPod answers in XML, and with an error for an empty list."""
    provider.add_txt(NAME, "value")
    provider.remove_txt(NAME, "another", None)

    common = {"format": "json", "lang": "en", "error_on_empty": "no"}
    calls = account.service.calls()
    assert ["Domain.List", "Record.Create", "Record.List"] == [call.action for call in calls]
    assert all(common.items() <= call.params.items() for call in calls)


@pytest.mark.parametrize(("line", "codes"), [("默认", []), ("default", []), ("境内", [LINE])])
def test_line_that_only_some_regions_see(
    account: DnspodAccount, line: str, codes: list[str]
) -> None:
    """The examination warns without a request: a CA that asks from abroad finds no challenge."""
    findings = cast("Any", account.connect(line=line)).examine("main")

    assert codes == [finding.code for finding in findings]
    assert [] == account.service.calls()
    assert all(line in str(finding.message) for finding in findings)


def test_default_line_of_the_international_service(account: DnspodAccount) -> None:
    """api.dnspod.com has another name for the default line, which the operator can set."""
    with pytest.raises(DnsRejected, match="code 26") as refused:
        account.connect(line="default").add_txt(NAME, "value")

    assert "默认" in str(refused.value.hint)


def test_removal_by_the_writing_process_is_a_single_call(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """DNSPod itself returned the id for this name and value, so a check is unnecessary."""
    handle = provider.add_txt(NAME, "value")
    before = len(account.actions())

    assert provider.remove_txt(NAME, "value", handle)
    assert ["Record.Remove"] == account.actions()[before:]


def test_another_process_checks_a_record_before_removal(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The check is a single call, without the list, which may lack a new record."""
    account.service.index_delay = 30.0
    handle = provider.add_txt(NAME, "value")
    before = len(account.actions())

    assert account.connect().remove_txt(NAME, "value", handle)
    assert ["Domain.List", "Record.Info", "Record.Remove"] == account.actions()[before:]
    assert [] == account.values(NAME)


def test_record_in_an_unexpected_form_is_found_in_the_list(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """DNSPod's documentation of the record's fields dates from 2016."""
    handle = provider.add_txt(NAME, "value")
    as_in_lists = b'{"status":{"code":"1"},"record":{"id":"1","type":"TXT","value":"value"}}'
    account.service.faults.add(Fault.status(200, as_in_lists), on="POST /Record.Info")

    assert account.connect().remove_txt(NAME, "value", handle)
    assert [] == account.values(NAME)


@pytest.mark.parametrize("handle", ["", "|", "12|", "|34", "garbage", "1|2"])
def test_handle_of_no_record_is_ignored(
    account: DnspodAccount, provider: DnsProvider, handle: str
) -> None:
    """The value is found and removed in spite of a malformed handle."""
    provider.add_txt(NAME, "value")
    domain_id = account.service.calls("Record.Create")[0].params["domain_id"]

    assert provider.remove_txt(NAME, "value", handle.replace("1|", f"{domain_id}|"))
    assert [] == account.values(NAME)


def test_disabled_record_is_an_error(account: DnspodAccount, provider: DnsProvider) -> None:
    """Name servers hide a disabled record, so a wait for the value would end in a timeout."""
    account.zones.create(NAME, "TXT", "value", enabled=False)

    with pytest.raises(DnsRejected, match="switched off"):
        provider.add_txt(NAME, "value")


# --- Identical records


def test_identical_record_is_recognised_by_its_message(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """Code 104 is undocumented, so another code with the same message means the same."""
    record = account.zones.create(NAME, "TXT", "value")
    account.service.answer_next("Record.Create", "1041", "Domain record already exists")

    assert provider.add_txt(NAME, "value").endswith(f"|{record.id}")


def test_identical_record_is_listed_late(account: DnspodAccount, provider: DnsProvider) -> None:
    """The list is read again at growing intervals, for as long as DNSPod may need."""
    account.service.index_delay = 30
    record = account.zones.create(NAME, "TXT", "value")

    assert provider.add_txt(NAME, "value").endswith(f"|{record.id}")
    assert 30 <= account.waits.clock() <= 42
    assert len(account.service.calls("Record.List")) <= 7


# --- TTL


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
def test_first_attempt_has_the_ttl_of_the_plan(
    account: DnspodAccount, provider: DnsProvider, grade: str, ttl: int
) -> None:
    """The list of domains contains the plan, so neither a refusal nor a further request occurs."""
    account.service.add_domain("example.org", grade=grade)

    provider.add_txt("_acme-challenge.example.org", "value")

    [record] = account.zones.records(name="_acme-challenge.example.org", rtype="TXT")
    assert ttl == record.ttl
    assert ["Domain.List", "Record.Create"] == account.actions()


@pytest.mark.parametrize("grade", ["", "DP_Gold", "Plus", "dp_free"])
def test_unknown_plan_has_the_ttl_of_a_free_plan(grade: str) -> None:
    """Every plan allows the TTL of the free plans."""
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
    """Domain.Purview gives the minimum, which may exceed the plan's usual TTL."""
    account.service.add_domain("example.org", grade=grade, min_ttl=minimum)

    provider.add_txt("_acme-challenge.example.org", "value")

    assert ttls == [call.params["ttl"] for call in account.service.calls("Record.Create")]
    [record] = account.zones.records(name="_acme-challenge.example.org", rtype="TXT")
    assert int(ttls[-1]) == record.ttl


@pytest.mark.parametrize("code", ["29", "32"])
def test_refused_ttl_of_a_paid_plan_becomes_the_ttl_of_a_free_plan(
    account: DnspodAccount, provider: DnsProvider, code: str
) -> None:
    """An expired plan allows 600 seconds, although its minimum is lower."""
    account.service.add_domain("example.org", grade="DP_Plus")
    account.service.answer_next("Record.Create", code, "Record ttl is limited(600)")

    for value in ("one", "two"):
        provider.add_txt("_acme-challenge.example.org", value)

    assert ["60", "600", "600"] == [
        call.params["ttl"] for call in account.service.calls("Record.Create")
    ]


def test_minimum_ttl_is_read_once_for_each_domain(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """Further values at the domain have the right TTL at once, and other domains keep their TTL."""
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
    """The plan's minimum is not the reason, so a second attempt would fail too."""
    account.service.answer_next("Record.Create", code, times=9)

    with pytest.raises(DnsRejected, match=f"code {code}"):
        provider.add_txt(NAME, "value")

    assert 1 == len(account.service.calls("Record.Create"))


# --- Zones


def test_international_domain_is_found_by_its_a_labels(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """DNSPod lists the domain in Unicode."""
    account.service.add_domain("例子.com")

    provider.add_txt("_acme-challenge.xn--fsqu00a.com", "value")

    assert ["value"] == account.values("_acme-challenge.xn--fsqu00a.com")


def test_long_list_of_domains_is_read_to_its_end(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """A domain on the third page is found, with one call for each page."""
    for number in range(1100):
        account.service.add_domain(f"example-{number}.net")

    provider.add_txt("_acme-challenge.example-1099.net", "value")

    assert ["0", "500", "1000"] == [
        call.params["offset"] for call in account.service.calls("Domain.List")
    ]


@pytest.mark.parametrize(
    ("status", "words"), [("pause", "paused"), ("spam", "banned"), ("lock", "locked")]
)
def test_unusable_zone_is_reported(
    account: DnspodAccount, provider: DnsProvider, status: str, words: str
) -> None:
    """The error names the domain and its state, and the record is not sent."""
    account.service.add_domain("example.org", status=status)  # type: ignore[arg-type]  # from the list above

    with pytest.raises(DnsRejected, match=f"example.org is {words}") as refused:
        provider.add_txt("_acme-challenge.example.org", "value")

    assert refused.value.hint is not None
    assert [] == account.service.writes()


def test_paused_sub_zone_is_skipped(
    account: DnspodAccount, provider: DnsProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning reports the skipped domain, and the parent zone holds the name."""
    account.service.add_domain("dev.example.com", status="pause")

    provider.add_txt("_acme-challenge.dev.example.com", "value")

    assert "_acme-challenge.dev" == account.service.calls("Record.Create")[0].params["sub_domain"]
    assert "the domain dev.example.com is paused at DNSPod; certferry skips the zone" in caplog.text


LABEL = st.sampled_from(["a", "b", "ab", "ba", "x"])
NAMES = st.lists(LABEL, min_size=2, max_size=5).map(".".join)


@given(NAMES, st.sets(NAMES, max_size=12))
def test_place_is_in_the_longest_zone_by_whole_labels(name: str, zones: set[str]) -> None:
    """Host and zone form the name again, and a longer zone does not hold the name."""
    held_by = {zone for zone in zones if f".{name}".endswith(f".{zone}")}

    holding = zones_holding(name, [Zone(zone, zone) for zone in sorted(zones)])

    assert sorted(held_by, key=len, reverse=True) == [zone.name for zone in holding]
    assert all(name == zone.name_of(zone.host_of(name)) for zone in holding)


def test_zones_are_listed_with_their_problems(account: DnspodAccount) -> None:
    """Every domain of the account is listed, a paused domain with its problem."""
    account.service.add_domain("example.com")
    account.service.add_domain("example.net", status="pause")
    provider = account.connect()
    assert isinstance(provider, DnspodRecords)

    zones = {zone.name: zone.problem for zone in provider.zones()}

    assert {"example.com", "example.net"} == set(zones)
    assert zones["example.com"] is None
    assert "is paused at DNSPod" in str(zones["example.net"])


def test_clock_of_dnspod_is_reported_without_the_token(account: DnspodAccount) -> None:
    """The time comes from `GET /`, which answers 404."""
    ahead = cast("Any", account.connect()).clock_ahead()

    assert abs(ahead - (datetime.now(UTC) - account.now())) < timedelta(seconds=10)
    [request] = account.service.http.requests("GET /")
    assert "token" not in request.query


def test_clock_of_a_silent_service(account: DnspodAccount) -> None:
    """The error says that the time is missing."""
    account.service.faults.add(Fault.reset_before(), on="GET /", times=None)

    with pytest.raises(DnsUnavailable, match="the time"):
        cast("Any", account.connect()).clock_ahead()
