"""The stand-in of DNSPod over real HTTP: what it wants, what it answers, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import dns.message
import dns.query
import pytest
import requests

from certferry.sandbox.dnspod import Call, DnspodService
from certferry.sandbox.faults import Fault
from certferry.sandbox.nameserver import DnsService, NameServer, Resolver
from certferry.sandbox.zones import Zones
from tests.sandbox.manual_clock import ManualClock

USER_AGENT = "certferry/0.1 (ops@example.com)"
TOKEN_ID, TOKEN = "13490", "6b5976c68aba5b14a0558b77c17c3932"
LOGIN = f"{TOKEN_ID},{TOKEN}"
NOW = datetime(2026, 1, 31, 20, 30, tzinfo=UTC)
TIMEOUT = 10.0

Answer = dict[str, Any]
CallApi = Callable[..., Answer]


@pytest.fixture
def clock() -> ManualClock:
    """The clock of zones, index and lockout."""
    return ManualClock()


@pytest.fixture
def zones(clock: ManualClock) -> Zones:
    """The zones that the service writes to."""
    return Zones(clock)


@pytest.fixture
def service(zones: Zones) -> Iterator[DnspodService]:
    """Two accounts with domains of every kind."""
    with DnspodService(zones, nameservers=["ns1.dns.test", "ns2.dns.test"], now=lambda: NOW) as api:
        api.add_account(TOKEN_ID, TOKEN, "ops@example.com")
        other = api.add_account("77777", "0" * 32, "other@example.org")
        api.add_domain("example.com")
        api.add_domain("dev.example.com", min_ttl=120)
        api.add_domain("例子.com", min_ttl=1, grade="DP_Plus")
        for status in ("pause", "spam", "lock"):
            api.add_domain(f"{status}.example.net", status=status)
        api.add_domain("example.org", account=other)
        yield api


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A client that introduces itself as the documentation asks."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["User-Agent"] = USER_AGENT
        yield session


@pytest.fixture
def call(service: DnspodService, session: requests.Session) -> CallApi:
    """Call an action as a good client does, and give the answer."""

    def call(action: str, **fields: str | int) -> Answer:
        form = {"login_token": LOGIN, "format": "json", "lang": "en"} | fields
        response = session.post(f"{service.url}/{action}", data=form, timeout=TIMEOUT)
        assert 200 == response.status_code
        answer: Answer = json.loads(response.content)
        return answer

    return call


def code(answer: Answer) -> str:
    """The status code."""
    return str(answer["status"]["code"])


def create(call: CallApi, **fields: str | int) -> Answer:
    """Create a TXT record at _acme-challenge.example.com, but for what is given."""
    defaults: dict[str, str | int] = {
        "domain": "example.com",
        "sub_domain": "_acme-challenge",
        "record_type": "TXT",
        "record_line": "默认",
        "value": "v",
        "ttl": 600,
    }
    return call("Record.Create", **(defaults | fields))


def names(answer: Answer, list_of: str = "domains") -> list[str]:
    """The names in a list."""
    return [entry["name"] for entry in answer[list_of]]


# --- the wire


def test_answer_is_json_only_when_asked_for(
    service: DnspodService, session: requests.Session
) -> None:
    """Without format=json the answer is XML, with the same content."""
    form = {"login_token": LOGIN}
    response = session.post(f"{service.url}/Domain.List", data=form, timeout=TIMEOUT)
    root = ET.fromstring(response.content)  # noqa: S314 - our own stand-in's answer

    assert ("dnspod", "1") == (root.tag, root.findtext("status/code"))
    found = [item.findtext("punycode") for item in root.findall("domains/item")]
    assert ["example.com", "dev.example.com", "xn--fsqu00a.com"] == found[:3]
    assert "false" == root.findtext("domains/item/remark")


def test_json_is_declared_as_a_page_and_sets_cookies(
    service: DnspodService, session: requests.Session
) -> None:
    """The content type says nothing and cookies come uninvited, with status 200."""
    form = {"login_token": "bad", "format": "json"}
    response = session.post(f"{service.url}/Info.Version", data=form, timeout=TIMEOUT)

    assert (200, "text/html;charset=UTF-8") == (
        response.status_code,
        response.headers["Content-Type"],
    )
    assert {"DNSPODID", "_xsrf"} == set(response.cookies.keys())


def test_moments_are_chinese_time_without_saying_so(call: CallApi) -> None:
    """created_at is UTC+8."""
    assert "2026-02-01 04:30:00" == call("Info.Version")["status"]["created_at"]


def test_message_follows_the_language(call: CallApi) -> None:
    """Codes are strings and the same in both languages; words are not."""
    english, chinese = (call("Domain.Info", domain="no.test", lang=lang) for lang in ("en", "cn"))

    assert "13" == english["status"]["code"] == chinese["status"]["code"]
    assert ("Domain is not exists", "域名不存在") == (
        english["status"]["message"],
        chinese["status"]["message"],
    )


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_anything_but_post_is_refused(
    service: DnspodService, session: requests.Session, method: str
) -> None:
    """Code 2, even with everything else right."""
    response = session.request(
        method,
        f"{service.url}/Info.Version",
        params={"format": "json", "login_token": LOGIN},
        timeout=TIMEOUT,
    )
    assert "2" == response.json()["status"]["code"]


@pytest.mark.parametrize("path", ["/", "/record.create", "/Record.Info", "/v1/Record.Create"])
def test_unknown_path_is_not_found(
    service: DnspodService, session: requests.Session, path: str
) -> None:
    """Actions have one spelling."""
    form = {"login_token": LOGIN, "format": "json"}
    assert 404 == session.post(service.url + path, data=form, timeout=TIMEOUT).status_code
    assert 404 == session.get(f"{service.url}/", timeout=TIMEOUT).status_code


def test_body_that_is_no_form_carries_nothing(
    service: DnspodService, session: requests.Session
) -> None:
    """A JSON body is as good as none: no login, and XML."""
    form = {"login_token": LOGIN, "format": "json"}
    response = session.post(f"{service.url}/Info.Version", json=form, timeout=TIMEOUT)

    assert "-1" == ET.fromstring(response.content).findtext("status/code")  # noqa: S314 - as above


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
    """What could get an account banned gets 403, or code -8 when so switched."""
    session.headers["User-Agent"] = agent or ""
    form = {"login_token": LOGIN, "format": "json"}
    refused = session.post(f"{service.url}/Info.Version", data=form, timeout=TIMEOUT)
    service.refuses_user_agents_with = "-8"
    banned = session.post(f"{service.url}/Info.Version", data=form, timeout=TIMEOUT)

    assert (403, "-8") == (refused.status_code, banned.json()["status"]["code"])
    assert [agent or ""] * 2 == service.refused_user_agents()


# --- the login


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
    """Each way of being wrong has its code, and a refused call does nothing."""
    assert expected == code(create(call, login_token=token))
    assert "10" == code(call("Record.List", domain="example.com", sub_domain="_acme-challenge"))


def test_login_by_email_is_dead(service: DnspodService, session: requests.Session) -> None:
    """The old way of logging in has its own answer."""
    form = {"login_email": "ops@example.com", "login_password": "x", "format": "json"}
    response = session.post(f"{service.url}/Info.Version", data=form, timeout=TIMEOUT)

    assert "Prohibit req by email, Request by token" == response.json()["status"]["message"]


def test_too_many_failed_logins_block_for_an_hour(call: CallApi, clock: ManualClock) -> None:
    """The thirtieth failure within five minutes shuts the right token out as well."""
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


# --- account and domains


def test_version_is_the_message(call: CallApi) -> None:
    """Info.Version answers in the status."""
    assert "4.6" == call("Info.Version")["status"]["message"]


def test_user_detail_tells_whose_token_it_is(call: CallApi) -> None:
    """The account's mail and state."""
    user = call("User.Detail")["info"]["user"]

    assert ("ops@example.com", "enabled") == (user["email"], user["status"])


def test_domain_list_shows_the_accounts_own_domains(call: CallApi) -> None:
    """States and both spellings are there; ids are numbers; another account's are not there."""
    answer = call("Domain.List")

    assert ["example.com", "dev.example.com", "例子.com"] == names(answer)[:3]
    assert "xn--fsqu00a.com" == answer["domains"][2]["punycode"]
    assert ["pause", "spam", "lock"] == [domain["status"] for domain in answer["domains"][3:]]
    assert all(type(domain["id"]) is int for domain in answer["domains"])
    assert 6 == answer["info"]["domain_total"] == answer["info"]["all_total"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"offset": 1, "length": 2}, ["dev.example.com", "例子.com"]),
        ({"keyword": "dev"}, ["dev.example.com"]),
        ({"keyword": "例"}, ["例子.com"]),
        ({"type": "pause"}, ["pause.example.net"]),
        ({"type": "vip"}, ["例子.com"]),
        ({"type": "share", "error_on_empty": "no"}, []),
    ],
)
def test_domain_list_can_be_narrowed(
    call: CallApi, fields: dict[str, str | int], expected: list[str]
) -> None:
    """Paging, keyword and type."""
    assert expected == names(call("Domain.List", **fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"offset": "-1"}, "6"),
        ({"offset": "x"}, "6"),
        ({"length": "0"}, "7"),
        ({"type": "nonsense"}, "6"),
        ({"type": "share"}, "9"),
    ],
)
def test_domain_list_refuses(call: CallApi, fields: dict[str, str], expected: str) -> None:
    """Bad offsets, lengths and types; and emptiness, unless asked not to."""
    assert expected == code(call("Domain.List", **fields))


def test_domain_list_longer_than_a_page_comes_in_pages(zones: Zones) -> None:
    """No answer holds more than the limit, whatever length is asked for."""
    with (
        DnspodService(zones, nameservers=["ns1.dns.test"], page_limit=3) as api,
        requests.Session() as session,
    ):
        api.add_account(TOKEN_ID, TOKEN)
        for number in range(5):
            api.add_domain(f"d{number}.test")
        session.trust_env = False
        session.headers["User-Agent"] = USER_AGENT
        form = {"login_token": LOGIN, "format": "json", "length": "100"}
        pages = [
            session.post(
                f"{api.url}/Domain.List", data=form | {"offset": offset}, timeout=TIMEOUT
            ).json()
            for offset in ("0", "3")
        ]

    assert [["d0.test", "d1.test", "d2.test"], ["d3.test", "d4.test"]] == [
        names(page) for page in pages
    ]
    assert [5, 5] == [page["info"]["domain_total"] for page in pages]


@pytest.mark.parametrize("name", ["例子.com", "xn--fsqu00a.com", "XN--FSQU00A.com"])
def test_domain_info_knows_both_spellings(call: CallApi, name: str) -> None:
    """A domain is found in Unicode and in A-labels; its id is a string here."""
    domain = call("Domain.Info", domain=name)["domain"]

    assert ("例子.com", "xn--fsqu00a.com", "1") == (
        domain["name"],
        domain["punycode"],
        domain["ttl"],
    )
    assert domain == call("Domain.Info", domain_id=domain["id"])["domain"]
    assert type(domain["id"]) is str


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
    """Each call has its own code for it."""
    record = {"record_type": "TXT", "record_line_id": "0", "value": "v"}

    assert info == code(call("Domain.Info", **fields))
    assert info == code(call("Domain.Purview", **fields))
    assert records == code(call("Record.List", **fields))
    assert write == code(call("Record.Create", **record, **fields))
    assert write == code(call("Record.Remove", record_id=1, **fields))


def test_purview_tells_the_least_ttl(call: CallApi) -> None:
    """The plan's limits come under Chinese names, as strings and as numbers."""
    purview = {
        entry["name"]: entry["value"]
        for entry in call("Domain.Purview", domain="dev.example.com")["purview"]
    }

    assert ("120", 100) == (purview["记录TTL最低"], purview["负载均衡数量"])


# --- records


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


# --- faults and the journal


@pytest.mark.parametrize("answer_code", ["-2", "-99", "3", "-7", "4711"])
def test_status_can_be_scripted_without_the_work(
    service: DnspodService, call: CallApi, zones: Zones, answer_code: str
) -> None:
    """The next N calls of an action get the code and nothing is done; other actions are as ever."""
    service.answer_next("Record.Create", answer_code, times=2)

    assert "1" == code(call("Domain.List"))
    assert [answer_code] * 2 == [code(create(call)) for _ in range(2)]
    assert [] == zones.records(rtype="TXT")
    assert "1" == code(create(call))


def test_status_can_be_scripted_although_the_work_is_done(
    service: DnspodService, call: CallApi, zones: Zones
) -> None:
    """The answer lies: the record is there."""
    service.answer_next("Record.*", "3", "Unknown failure", does_the_work=True)

    assert "Unknown failure" == create(call)["status"]["message"]
    assert 1 == len(zones.records(rtype="TXT"))
    assert "104" == code(create(call))


def test_scripted_status_is_for_those_who_are_logged_in(
    service: DnspodService, call: CallApi
) -> None:
    """A wrong token uses nothing up."""
    service.answer_next("*", "-2")

    assert "10003" == code(call("Domain.List", login_token="1,x"))
    assert ("-2", "1") == (code(call("Domain.List")), code(call("Domain.List")))


@pytest.mark.parametrize(
    ("fault", "written"), [(Fault.reset_before(), 0), (Fault.reset_after(), 1)]
)
def test_connection_lost_before_and_after_the_work(
    service: DnspodService, call: CallApi, zones: Zones, fault: Fault, written: int
) -> None:
    """The client can't tell; the zone can."""
    service.faults.add(fault, on="POST /Record.Create")

    with pytest.raises(requests.ConnectionError):
        create(call)
    assert written == len(zones.records(rtype="TXT"))


def test_page_in_place_of_an_answer(
    service: DnspodService, session: requests.Session, zones: Zones
) -> None:
    """A gateway's page is neither JSON nor status 200."""
    service.faults.add(Fault.html(502), on="POST /Domain.List")
    response = session.post(f"{service.url}/Domain.List", timeout=TIMEOUT)

    assert (502, "<html>") == (response.status_code, response.text[:6])


def test_journal_holds_every_call_without_the_token(service: DnspodService, call: CallApi) -> None:
    """Calls and writes in the order of arrival, also those that were refused or lost."""
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


def test_domain_without_an_account_is_refused(zones: Zones) -> None:
    """A domain belongs to somebody."""
    with pytest.raises(LookupError):
        DnspodService(zones).add_domain("example.com")


def test_existing_zone_is_taken_over(zones: Zones, service: DnspodService, call: CallApi) -> None:
    """A domain's zone may have been made before, with servers and records of its own."""
    zones.add_zone("made.test", ["ns.made.test"])
    zones.seed("www.made.test", "A", "192.0.2.1")
    service.add_domain("made.test")

    listed = call("Record.List", domain="made.test", record_type="A")["records"]
    assert [("www", "192.0.2.1", "2015-01-18 20:21:45")] == [
        (record["name"], record["value"], record["updated_on"]) for record in listed
    ]
    assert ("ns.made.test",) == zones.zone("made.test").nameservers
