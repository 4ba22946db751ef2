"""The stand-in of DNSPod over real HTTP: what it wants, what it answers, and how it fails."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
import requests

from certferry_sandbox.dnspod.service import Call, DnspodService
from certferry_sandbox.faults import Fault
from tests.support.dnspod_calls import LOGIN, TIMEOUT, TOKEN, TOKEN_ID, CallApi, code, create
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


# --- the limit of an hour


# --- faults and the journal


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
