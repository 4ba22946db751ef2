"""The records of the DNSPod stand-in over real HTTP: made, changed, listed and removed."""

from __future__ import annotations

import dns.message
import dns.query
import pytest
import requests

from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.nameserver.service import DnsService, NameServer, Resolver
from certferry_sandbox.zones import Zones
from tests.support.dnspod_calls import (
    LOGIN,
    TIMEOUT,
    TOKEN,
    TOKEN_ID,
    USER_AGENT,
    CallApi,
    code,
    create,
    names,
)
from tests.support.manual_clock import ManualClock


def test_created_record_is_listed_and_removed(
    service: DnspodService, call: CallApi, zones: Zones
) -> None:
    """The id of Record.Create, a string, is the one to list and to remove."""
    record = create(call, value="abc")["record"]
    listed = call("Record.List", domain="example.com", sub_domain="_acme-challenge")

    assert {"name": "_acme-challenge", "status": "enabled", "weight": None} == {
        key: record[key] for key in ("name", "status", "weight")
    }
    assert [(record["id"], "TXT", "abc", "600", "1", "默认", "0")] == [
        tuple(r[k] for k in ("id", "type", "value", "ttl", "enabled", "line", "line_id"))
        for r in listed["records"]
    ]
    assert ("1", "1") == (listed["info"]["record_total"], listed["info"]["sub_domains"])
    assert "2026-02-01 04:30:00" == listed["records"][0]["updated_on"]

    removed = call("Record.Remove", domain="example.com", record_id=record["id"])
    assert ("1", {"status"}) == (code(removed), set(removed))
    assert [] == zones.records("example.com", rtype="TXT")
    again = call("Record.Remove", domain="example.com", record_id=record["id"])
    assert "8" == code(again)


def test_record_is_shown_by_its_id(call: CallApi) -> None:
    """With the fields of the vendor's page (DNSPod/dnspod-api-doc, source/records.rst), which are
    called otherwise than in lists.
    """
    record_id = create(call, value="abc")["record"]["id"]

    shown = call("Record.Info", domain="example.com", record_id=record_id)

    assert {"id", "domain", "domain_grade"} == set(shown["domain"])
    domain_id = str(shown["domain"]["id"])
    assert {
        "id": record_id,
        "domain_id": domain_id,
        "sub_domain": "_acme-challenge",
        "record_type": "TXT",
        "record_line": "默认",
        "record_line_id": "0",
        "value": "abc",
        "weight": None,
        "mx": "0",
        "ttl": "600",
        "enabled": "1",
        "monitor_status": "",
        "remark": "",
        "updated_on": "2026-02-01 04:30:00",
    } == shown["record"]
    assert "8" == code(call("Record.Info", domain="example.com", record_id=1))
    assert "6" == code(call("Record.Info", domain_id=1, record_id=record_id))


def test_list_holds_the_delegation_and_every_value_is_a_string(call: CallApi) -> None:
    """NS records at the apex are marked as held and cannot be removed."""
    records = call("Record.List", domain="example.com")["records"]

    assert [("@", "NS", "86400", "hold")] * 2 == [
        (r["name"], r["type"], r["ttl"], r["hold"]) for r in records
    ]
    scalars = [v for r in records for k, v in r.items() if k != "weight"]
    assert all(type(value) is str for value in scalars)
    removal = call("Record.Remove", domain="example.com", record_id=records[0]["id"])
    assert "7" == code(removal)


def test_several_values_at_one_name_have_their_own_ids(call: CallApi) -> None:
    """Apex and wildcard need two values at one name; ids grow."""
    first, second = (create(call, value=value)["record"]["id"] for value in "ab")

    assert int(first) < int(second)
    call("Record.Remove", domain="example.com", record_id=first)
    left = call("Record.List", domain="example.com", sub_domain="_acme-challenge")["records"]
    assert [(second, "b")] == [(record["id"], record["value"]) for record in left]


def test_record_of_another_domain_is_not_removed(call: CallApi, zones: Zones) -> None:
    """A record id is good in its own domain only."""
    record_id = create(call)["record"]["id"]

    assert "8" == code(call("Record.Remove", domain="dev.example.com", record_id=record_id))
    assert "8" == code(call("Record.Remove", domain="example.com"))
    assert 1 == len(zones.records("example.com", rtype="TXT"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"offset": 1, "length": 1}, ["b"]),
        ({"sub_domain": "_acme-challenge"}, ["a", "b"]),
        ({"sub_domain": "_acme"}, []),
        ({"keyword": "CHALL"}, ["a", "b"]),
        ({"record_type": "A"}, []),
    ],
)
def test_record_list_can_be_narrowed(
    call: CallApi, fields: dict[str, str | int], expected: list[str]
) -> None:
    """sub_domain is exact, keyword is not; pages are cut after the choice."""
    create(call, value="a", domain="例子.com")
    create(call, value="b", domain="例子.com")
    create(call, value="c", domain="例子.com", sub_domain="@")
    choice = {"record_type": "TXT", "error_on_empty": "no"} | fields

    answer = call("Record.List", domain="xn--fsqu00a.com", **choice)
    assert ("1", expected) == (code(answer), [record["value"] for record in answer["records"]])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"offset": "x"}, "7"),
        ({"length": "0"}, "8"),
        ({"sub_domain": "nothing"}, "10"),
    ],
)
def test_record_list_refuses(call: CallApi, fields: dict[str, str], expected: str) -> None:
    """Bad offsets and lengths; and emptiness, unless asked not to."""
    assert expected == code(call("Record.List", domain="example.com", **fields))


def test_records_beyond_the_page_limit_need_an_offset(call: CallApi, zones: Zones) -> None:
    """Three thousand come at once, the rest with an offset."""
    for number in range(3005):
        zones.seed(f"h{number}.dev.example.com", "TXT", "v")

    first = call("Record.List", domain="dev.example.com", length=5000)
    rest = call("Record.List", domain="dev.example.com", offset=3000, length=5000)
    assert (3000, 7) == (len(first["records"]), len(rest["records"]))
    assert "3007" == first["info"]["record_total"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"record_line": "境外"}, "26"),
        ({"record_line": "default"}, "26"),
        ({"record_line": ""}, "26"),
        ({"record_line_id": "7"}, "26"),
        ({"record_type": "txt"}, "27"),
        ({"record_type": ""}, "27"),
        ({"ttl": 599}, "32"),
        ({"ttl": 604801}, "32"),
        ({"ttl": "soon"}, "32"),
        ({"value": ""}, "34"),
        ({"record_type": "A", "value": "not an address"}, "34"),
        ({"status": "off"}, "6"),
        ({"sub_domain": "under score"}, "22"),
        ({"sub_domain": "a..b"}, "22"),
        ({"sub_domain": "-a"}, "22"),
        ({"sub_domain": "x" * 64}, "22"),
        ({"sub_domain": "_acme-challenge.*"}, "24"),
        ({"sub_domain": "a*"}, "24"),
        ({"sub_domain": ".".join("abcdefghijk")}, "23"),
    ],
)
def test_record_create_refuses(
    call: CallApi, zones: Zones, fields: dict[str, str | int], expected: str
) -> None:
    """Line, type, TTL, value, status and host are each looked at, and nothing is written."""
    assert expected == code(create(call, **fields))
    assert {"NS"} == {record.rtype for record in zones.records("example.com")}


def test_line_id_wins_over_the_lines_name(call: CallApi) -> None:
    """The id is looked at first, and alone."""
    assert "1" == code(create(call, record_line="境外", record_line_id=0))


def test_default_line_can_have_another_name(zones: Zones) -> None:
    """The international sibling calls it `default`."""
    with (
        DnspodService(zones, nameservers=["ns1.dns.test"], line="default") as api,
        requests.Session() as session,
    ):
        api.add_account(TOKEN_ID, TOKEN)
        api.add_domain("example.com")
        session.trust_env = False
        form = {
            "login_token": LOGIN,
            "format": "json",
            "domain": "example.com",
            "record_type": "TXT",
            "value": "v",
        }
        codes = [
            session.post(
                f"{api.url}/Record.Create",
                data=form | {"record_line": line},
                headers={"User-Agent": USER_AGENT},
                timeout=TIMEOUT,
            ).json()["status"]["code"]
            for line in ("默认", "default")
        ]
    assert ["26", "1"] == codes


def test_least_ttl_is_each_domains_own(call: CallApi) -> None:
    """A TTL that one plan refuses another takes; without one it is the least."""
    assert "32" == code(create(call, ttl=120))
    assert "1" == code(create(call, ttl=120, domain="dev.example.com"))
    listed = call("Record.List", domain="dev.example.com", record_type="TXT")["records"]
    assert "120" == listed[0]["ttl"]


@pytest.mark.parametrize(("grade", "least"), [("DP_Free", 600), ("DP_Plus", 60), ("DP_Ultra", 1)])
def test_ttl_below_that_of_the_plan_is_refused_with_the_least(
    service: DnspodService, call: CallApi, grade: str, least: int
) -> None:
    """The words say it, in English; one that is too high has other words."""
    service.add_domain("plan.test", grade=grade)

    low, high = (create(call, domain="plan.test", ttl=ttl) for ttl in (least - 1, 604_801))
    assert ("32", f"Record ttl is limited({least})") == (code(low), low["status"]["message"])
    assert ("32", "TTL is out of range") == (code(high), high["status"]["message"])
    chinese = create(call, domain="plan.test", ttl=least - 1, lang="cn")
    assert "记录的 TTL 值超出了限制" == chinese["status"]["message"]
    assert "1" == code(create(call, domain="plan.test", ttl=least))


def test_text_is_stored_as_it_was_sent(call: CallApi, zones: Zones) -> None:
    """Quotes are the client's mistake and become part of the value."""
    create(call, value='"quoted"')

    assert ['"quoted"'] == [record.value for record in zones.records(rtype="TXT")]


def test_identical_record_is_a_duplicate(call: CallApi) -> None:
    """Same name, type, line and value, whatever the TTL: code 104, told in words too."""
    create(call)
    answer = create(call, ttl=900)

    assert "104" == code(answer)
    assert "Domain record already exists" in answer["status"]["message"]


def test_alias_excludes_everything_else_at_its_name(call: CallApi, zones: Zones) -> None:
    """A CNAME stands alone, whichever came first (RFC 1034 §3.6.2)."""
    zones.seed("_acme-challenge.img.example.com", "CNAME", "x.example.net.")
    assert "31" == code(create(call, sub_domain="_acme-challenge.img"))

    create(call)
    assert "31" == code(create(call, record_type="CNAME", value="x.example.net"))


@pytest.mark.parametrize(
    ("rtype", "values", "expected"),
    [
        ("TXT", ("a", "b", "c"), "25"),
        ("A", ("192.0.2.1", "192.0.2.2", "192.0.2.3"), "500025"),
        ("CNAME", ("a.test", "b.test", "c.test"), "500026"),
    ],
)
def test_plan_bounds_the_records_at_one_name(
    service: DnspodService, call: CallApi, rtype: str, values: tuple[str, ...], expected: str
) -> None:
    """One more than the plan allows is refused, with a code for each type."""
    service.add_domain("small.test", records_per_name=2)

    answers = [
        create(call, domain="small.test", record_type=rtype, value=value) for value in values
    ]
    assert ["1", "1", expected] == [code(answer) for answer in answers]


@pytest.mark.parametrize(("status", "expected"), [("spam", "-15"), ("lock", "21"), ("pause", "1")])
def test_blocked_domain_takes_no_records(
    call: CallApi, zones: Zones, status: str, expected: str
) -> None:
    """A banned and a locked domain refuse every write; a paused one does not."""
    domain = f"{status}.example.net"
    held = zones.seed(f"x.{domain}", "TXT", "v")

    assert expected == code(create(call, domain=domain))
    assert expected == code(call("Record.Remove", domain=domain, record_id=held.id))
    assert "1" == code(call("Record.List", domain=domain))


def test_modified_record_keeps_its_id_and_tells_it_as_a_number(call: CallApi) -> None:
    """Record.Modify checks as Record.Create does, with its own code for the TTL."""
    record_id = create(call, value="old")["record"]["id"]
    create(call, value="taken")
    wish = {
        "domain": "example.com",
        "record_id": record_id,
        "sub_domain": "_acme-challenge",
        "record_type": "TXT",
        "record_line_id": 0,
    }

    answer = call("Record.Modify", **wish, value="new")
    assert {
        "id": int(record_id),
        "name": "_acme-challenge",
        "value": "new",
        "status": "enabled",
    } == (answer["record"])
    assert "104" == code(call("Record.Modify", **wish, value="taken"))
    assert "29" == code(call("Record.Modify", **wish, value="new", ttl=1))
    assert "8" == code(call("Record.Modify", **(wish | {"record_id": 1}), value="x"))


def test_disabled_record_is_listed_as_such(call: CallApi) -> None:
    """A record may be created without being served."""
    assert "disabled" == create(call, status="disable")["record"]["status"]
    listed = call("Record.List", domain="example.com", record_type="TXT")["records"]
    assert [("0", "disabled")] == [(record["enabled"], record["status"]) for record in listed]


def test_new_record_is_missing_in_lists_for_a_while(
    service: DnspodService, call: CallApi, clock: ManualClock
) -> None:
    """The index lags, while the duplicate is known at once."""
    service.index_delay = 30
    create(call)
    clock.advance(29)

    query = {"domain": "example.com", "sub_domain": "_acme-challenge"}
    assert "10" == code(call("Record.List", **query))
    assert "104" == code(create(call))
    clock.advance(1)
    assert ["_acme-challenge"] == names(call("Record.List", **query), "records")


def test_created_record_is_answered_by_the_name_servers(
    call: CallApi, zones: Zones, clock: ManualClock
) -> None:
    """What the API wrote, real DNS shows, each server after its lag; also below a sub-zone."""
    servers = [
        NameServer(zones, "ns1.dns.test", "127.0.53.1"),
        NameServer(zones, "ns2.dns.test", "127.0.53.2", lag=5),
    ]
    query = dns.message.make_query("_acme-challenge.x.dev.example.com", "TXT")
    with DnsService(zones, servers, Resolver(zones, servers, "127.0.53.9")) as running:

        def shown() -> list[int]:
            return [
                len(dns.query.udp(query, server.address, TIMEOUT, running.port).answer)
                for server in servers
            ]

        # The sub-zone answers for names below it, so a record in the parent is not seen.
        create(call, sub_domain="_acme-challenge.x.dev", value="hidden")
        clock.advance(5)
        assert [0, 0] == shown()
        create(call, domain="dev.example.com", sub_domain="_acme-challenge.x", value="seen")
        assert [1, 0] == shown()
        clock.advance(5)
        assert [1, 1] == shown()
