"""The stand-in of DNSPod over real HTTP: its requirements, its answers and its failures."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from certferry_sandbox.dnspod.service import Call, DnspodService
from certferry_sandbox.faults import Fault
from certferry_sandbox.zones import Zones
from tests.support.dnspod_calls import (
    LOGIN,
    NOW,
    TIMEOUT,
    TOKEN,
    TOKEN_ID,
    USER_AGENT,
    Answer,
    CallApi,
    code,
    create,
)
from tests.support.manual_clock import ManualClock

# --- Fixtures: accounts, zones, a clock, and a client


@pytest.fixture
def zones(clock: ManualClock) -> Zones:
    return Zones(clock)


@pytest.fixture
def service(zones: Zones) -> Iterator[DnspodService]:
    with DnspodService(zones, nameservers=["ns1.dns.test", "ns2.dns.test"], now=lambda: NOW) as api:
        api.add_account(TOKEN_ID, TOKEN, "ops@example.com")
        other = api.add_account("77777", "0" * 32, "other@example.org")
        api.add_domain("example.com")
        api.add_domain("dev.example.com", min_ttl=120)
        api.add_domain("例子.com", grade="DP_Ultra")
        for status in ("pause", "spam", "lock"):
            api.add_domain(f"{status}.example.net", status=status)
        api.add_domain("example.org", account=other)
        yield api


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["User-Agent"] = USER_AGENT
        yield session


@pytest.fixture
def call(service: DnspodService, session: requests.Session) -> CallApi:
    """Return a function that calls an action as a good client does."""

    def call(action: str, **fields: str | int) -> Answer:
        form = {"login_token": LOGIN, "format": "json", "lang": "en"} | fields
        response = session.post(f"{service.url}/{action}", data=form, timeout=TIMEOUT)
        assert 200 == response.status_code
        answer: Answer = json.loads(response.content)
        return answer

    return call


# --- Requests and logins


def test_answer_is_json_only_when_asked_for(
    service: DnspodService, session: requests.Session
) -> None:
    """Without format=json the answer is XML."""
    response = session.post(
        f"{service.url}/Domain.List", data={"login_token": LOGIN}, timeout=TIMEOUT
    )

    assert "text/xml;charset=UTF-8" == response.headers["Content-Type"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_anything_but_post_is_refused(
    service: DnspodService, session: requests.Session, method: str
) -> None:
    """The code is 2, for an otherwise right request."""
    response = session.request(
        method,
        f"{service.url}/Info.Version",
        params={"format": "json", "login_token": LOGIN},
        timeout=TIMEOUT,
    )
    assert "2" == response.json()["status"]["code"]


@pytest.mark.parametrize("path", ["/", "/record.create", "/Record.Status", "/v1/Record.Create"])
def test_unknown_path_is_not_found(
    service: DnspodService, session: requests.Session, path: str
) -> None:
    """Actions have a single spelling."""
    form = {"login_token": LOGIN, "format": "json"}
    assert 404 == session.post(service.url + path, data=form, timeout=TIMEOUT).status_code
    assert 404 == session.get(f"{service.url}/", timeout=TIMEOUT).status_code


@pytest.mark.parametrize(
    "agent",
    [
        None,
        "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
        "python-requests/2.32",
        "certferry/0.1",
        "certferry (ops@example.com)",
    ],
)
def test_user_agent_of_another_form_is_refused_and_remembered(
    service: DnspodService, session: requests.Session, agent: str | None
) -> None:
    """A user agent for which DNSPod bans accounts gets 403."""
    session.headers["User-Agent"] = agent or ""
    form = {"login_token": LOGIN, "format": "json"}
    refused = session.post(f"{service.url}/Info.Version", data=form, timeout=TIMEOUT)

    assert 403 == refused.status_code
    assert [agent or ""] == service.refused_user_agents()


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("", "-1"),
        ("AKIDEXAMPLE,secret", "10002"),
        (TOKEN_ID, "10002"),
        (f" {TOKEN_ID},{TOKEN}", "10002"),
        (f"99999,{TOKEN}", "10003"),
        (f"{TOKEN_ID},{'0' * 32}", "10004"),
        (f"{TOKEN_ID}, {TOKEN}", "10004"),
    ],
    ids=["missing", "cloud key", "no comma", "space first", "unknown", "wrong", "space between"],
)
def test_wrong_login_is_refused(
    service: DnspodService, call: CallApi, token: str, expected: str
) -> None:
    """Each wrong login has its code, and the call changes nothing."""
    assert expected == code(create(call, login_token=token))
    assert "10" == code(call("Record.List", domain="example.com", sub_domain="_acme-challenge"))


def test_too_many_failed_logins_block_for_an_hour(call: CallApi, clock: ManualClock) -> None:
    """The thirtieth failure within five minutes locks out the right token as well."""
    for _ in range(30):
        assert "10004" == code(call("Info.Version", login_token=f"{TOKEN_ID},wrong"))

    assert "-8" == code(call("Info.Version"))
    assert "1" == code(call("Info.Version", login_token=f"77777,{'0' * 32}"))
    clock.advance(3599)
    assert "-8" == code(call("Info.Version"))
    clock.advance(1)
    assert "1" == code(call("Info.Version"))


def test_failed_logins_far_apart_do_not_block(call: CallApi, clock: ManualClock) -> None:
    """Failures count for five minutes."""
    for _ in range(29):
        call("Info.Version", login_token=f"{TOKEN_ID},wrong")
    clock.advance(300)

    assert "10004" == code(call("Info.Version", login_token=f"{TOKEN_ID},wrong"))
    assert "1" == code(call("Info.Version"))


@pytest.mark.parametrize(
    ("fields", "info", "records", "write"),
    [
        ({"domain": "www.example.com"}, "13", "6", "6"),
        ({"domain_id": "1"}, "6", "6", "6"),
        ({}, "13", "6", "6"),
        ({"domain": "example.org"}, "8", "9", "7"),
    ],
    ids=["not a domain", "no such id", "nothing", "another account's"],
)
def test_domain_that_is_not_ours_is_refused(
    call: CallApi, fields: dict[str, str], info: str, records: str, write: str
) -> None:
    """Each call has its own code for a foreign domain."""
    record = {"record_type": "TXT", "record_line_id": "0", "value": "v"}

    assert info == code(call("Domain.Info", **fields))
    assert info == code(call("Domain.Purview", **fields))
    assert records == code(call("Record.List", **fields))
    assert write == code(call("Record.Create", **record, **fields))
    assert write == code(call("Record.Remove", record_id=1, **fields))


def test_journal_holds_every_call_without_the_token(service: DnspodService, call: CallApi) -> None:
    """The journal has calls and writes in their order, also refused and lost ones."""
    call("Domain.List", login_token="wrong")
    create(call, value="a")
    service.faults.add(Fault.reset_before(), on="POST /Record.Remove")
    with pytest.raises(requests.ConnectionError):
        call("Record.Remove", domain="example.com", record_id=1)

    actions = [entry.action for entry in service.calls()]
    assert ["Domain.List", "Record.Create", "Record.Remove"] == actions
    assert ["Record.Create", "Record.Remove"] == [entry.action for entry in service.writes()]
    (listed,) = service.calls("Domain.List")
    assert Call("Domain.List", {"format": "json", "lang": "en"}) == listed
    assert "a" == service.calls("Record.Create")[0].params["value"]
    assert TOKEN not in repr(service.calls())


# --- Records: added, changed, listed and removed


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
    """A record id is valid in its own domain alone."""
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
        ({"record_type": "A"}, []),
    ],
)
def test_record_list_can_be_narrowed(
    call: CallApi, fields: dict[str, str | int], expected: list[str]
) -> None:
    """sub_domain is exact; pages are cut after the selection."""
    create(call, value="a", domain="例子.com")
    create(call, value="b", domain="例子.com")
    create(call, value="c", domain="例子.com", sub_domain="@")
    choice = {"record_type": "TXT", "error_on_empty": "no"} | fields

    answer = call("Record.List", domain="xn--fsqu00a.com", **choice)
    assert ("1", expected) == (code(answer), [record["value"] for record in answer["records"]])


@pytest.mark.parametrize(
    ("action", "fields", "expected"),
    [
        ("Domain.List", {"offset": "-1"}, "6"),
        ("Domain.List", {"offset": "x"}, "6"),
        ("Domain.List", {"length": "0"}, "7"),
        ("Domain.List", {"type": "nonsense"}, "6"),
        ("Record.List", {"offset": "x"}, "7"),
        ("Record.List", {"length": "0"}, "8"),
        ("Record.List", {"sub_domain": "nothing"}, "10"),
    ],
)
def test_list_that_is_refused(
    call: CallApi, action: str, fields: dict[str, str], expected: str
) -> None:
    """Wrong offsets, lengths and types are refused, and so is an empty result by default."""
    assert expected == code(call(action, domain="example.com", **fields))


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
    """Line, type, TTL, value, status and host are each checked before any write."""
    assert expected == code(create(call, **fields))
    assert {"NS"} == {record.rtype for record in zones.records("example.com")}


def test_identical_record_is_a_duplicate(call: CallApi) -> None:
    """The same name, type, line and value with any TTL give code 104 and a sentence."""
    create(call)
    answer = create(call, ttl=900)

    assert "104" == code(answer)
    assert "Domain record already exists" in answer["status"]["message"]


def test_alias_excludes_everything_else_at_its_name(call: CallApi, zones: Zones) -> None:
    """A CNAME stands alone, before or after other records (RFC 1034 §3.6.2)."""
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
def test_plan_bounds_the_records_at_a_name(
    service: DnspodService, call: CallApi, rtype: str, values: tuple[str, ...], expected: str
) -> None:
    """A record beyond the plan is refused, with a code for each type."""
    service.add_domain("small.test", records_per_name=2)

    answers = [
        create(call, domain="small.test", record_type=rtype, value=value) for value in values
    ]
    assert ["1", "1", expected] == [code(answer) for answer in answers]


@pytest.mark.parametrize(("status", "expected"), [("spam", "-15"), ("lock", "21"), ("pause", "1")])
def test_blocked_domain_takes_no_records(
    call: CallApi, zones: Zones, status: str, expected: str
) -> None:
    """A banned and a locked domain refuse every write; a paused domain accepts."""
    domain = f"{status}.example.net"
    held = zones.seed(f"x.{domain}", "TXT", "v")

    assert expected == code(create(call, domain=domain))
    assert expected == code(call("Record.Remove", domain=domain, record_id=held.id))
    assert "1" == code(call("Record.List", domain=domain))
