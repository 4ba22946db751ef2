"""The records of the DNSPod stand-in over real HTTP: made, changed, listed and removed."""

from __future__ import annotations

import pytest

from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.zones import Zones
from tests.support.dnspod_calls import CallApi, code, create


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
    [({"offset": "x"}, "7"), ({"length": "0"}, "8"), ({"sub_domain": "nothing"}, "10")],
)
def test_record_list_refuses(call: CallApi, fields: dict[str, str], expected: str) -> None:
    """Bad offsets and lengths; and emptiness, unless asked not to."""
    assert expected == code(call("Record.List", domain="example.com", **fields))


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


def test_identical_record_is_a_duplicate(call: CallApi) -> None:
    """Same name, type, line and value, whatever the TTL: code 104, and words that say so."""
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
