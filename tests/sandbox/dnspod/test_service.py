"""The stand-in of DNSPod over real HTTP: what it wants, what it answers, and how it fails."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
import requests

from certferry_sandbox.dnspod.service import Call, DnspodService
from certferry_sandbox.faults import Fault
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


@pytest.mark.parametrize("path", ["/", "/record.create", "/Record.Status", "/v1/Record.Create"])
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


@pytest.mark.parametrize(
    ("grade", "title", "least"),
    [
        ("D_Free", "免费套餐", "600"),
        ("DP_Free", "新免费套餐", "600"),
        ("DP_Plus", "个人专业版", "60"),
        ("DP_Ultra", "企业旗舰版", "1"),
    ],
)
def test_plan_of_a_domain_is_told_everywhere(
    service: DnspodService, call: CallApi, grade: str, title: str, least: str
) -> None:
    """List and info name it, purview tells what TTL it allows."""
    service.add_domain("plan.test", grade=grade)

    listed = call("Domain.List", keyword="plan.test")["domains"]
    shown = call("Domain.Info", domain="plan.test")["domain"]
    purview = call("Domain.Purview", domain="plan.test")["purview"]
    assert [(grade, title)] * 2 == [(one["grade"], one["grade_title"]) for one in (*listed, shown)]
    assert least == shown["ttl"]
    assert [least] == [entry["value"] for entry in purview if entry["name"] == "记录TTL最低"]


# --- the limit of an hour


def test_calls_beyond_an_hours_limit_are_refused(
    service: DnspodService, call: CallApi, clock: ManualClock
) -> None:
    """An hour ends with each call's own; what was refused counts as well, and does nothing."""
    service.calls_per_hour = 3
    assert ["1", "1"] == [code(call("Info.Version")) for _ in range(2)]
    clock.advance(1800)
    assert ["1", "-2", "-2"] == [code(create(call, value=value)) for value in "abc"]

    clock.advance(1800)
    assert "-2" == code(create(call, value="d"))
    clock.advance(1800)
    assert ["1"] == [code(create(call, value="e"))]
    service.calls_per_hour = None
    listed = call("Record.List", domain="example.com", record_type="TXT")["records"]
    assert ["a", "e"] == [record["value"] for record in listed]


def test_limit_of_an_hour_is_each_accounts_own(service: DnspodService, call: CallApi) -> None:
    """Other accounts go on, and a wrong token uses nothing up."""
    service.calls_per_hour = 1

    assert "10004" == code(call("Info.Version", login_token=f"{TOKEN_ID},wrong"))
    assert ["1", "-2"] == [code(call("Info.Version")) for _ in range(2)]
    assert "1" == code(call("Info.Version", login_token=f"77777,{'0' * 32}"))


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
    """A domain belongs to an account."""
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
