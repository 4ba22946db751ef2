"""Services that answer with something else than they should, or not at all."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certferry.adapters.http.client import HttpClient, Pacer
from certferry.adapters.http.problems import Timeouts
from certferry.core.secret import Secret
from certferry.ports.adapter import Context
from certferry.ports.http import Http
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry.wiring.channels import LONGEST_ANSWER
from certferry_sandbox.faults import Fault
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.messages.service import MessageService
from certferry_sandbox.testing.contracts.notifier import message, shown
from tests.adapters.notify.channels import CASES, Case, connect, context

SHORT = timedelta(seconds=0.3)
MEGABYTES = b'{"ok": true, "code": 0, "errcode": 0, "more": "' + b"x" * 4_000_000 + b'"}'


def impatient() -> Context:
    """A run's context, with a fraction of its patience."""

    def open_http(per_second: float) -> Http:
        return HttpClient(
            pace=Pacer(per_second, pause=time.sleep),
            pause=time.sleep,
            attempts=1,
            timeouts=Timeouts(SHORT, SHORT, SHORT * 2),
            longest=LONGEST_ANSWER,
            called="the service",
        )

    return replace(context(), http=open_http)


def answer_to(fault: Fault, case: Case, service: MessageService) -> Answered:
    """Send a message to a service that commits a fault."""
    service.faults.add(fault)
    answered = connect(case.kind, impatient(), **case.settings(service)).send(message())
    assert set() == shown(answered, (*case.secrets, "127.0.0.1", "elsewhere.example"))
    assert 1 == len(service.journal)  # sent once, whatever comes
    return answered


LATER = {
    "hangs": Fault.delay(5),
    "breaks off": Fault.reset_before(),
    "loses the answer": Fault.reset_after(),
    "answers half": Fault.truncated(),
    "answers megabytes": Fault.status(200, MEGABYTES),
    "fails": Fault.status(503, b"{}", headers=[("Retry-After", "120")]),
    "is a gateway's page": Fault.html(502),
}
FOR_GOOD = {
    "redirects": Fault.status(302, b"", headers=[("Location", "https://elsewhere.example/")]),
    "refuses in words": Fault.status(403, b"forbidden", "text/plain"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("fault", LATER.values(), ids=list(LATER))
def test_what_may_pass(case: Case, fault: Fault) -> None:
    """The message may be sent again, and no run waits longer than it said."""
    with case.service() as service:
        begun = time.monotonic()
        answered = answer_to(fault, case, service)

    assert time.monotonic() - begun < 3
    assert isinstance(answered, AgainAt)
    assert datetime.now(UTC) < answered.moment < datetime.now(UTC) + timedelta(minutes=3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("fault", FOR_GOOD.values(), ids=list(FOR_GOOD))
def test_what_an_operator_has_to_put_right(case: Case, fault: Fault) -> None:
    """No redirect is followed, and no words are taken for a yes."""
    with case.service() as service:
        assert isinstance(answer_to(fault, case, service), RefusedForGood)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("body", [b"", b"ok", b"[]", b'"ok"', b"{}", b"null", b"[" * 9000])
def test_200_without_a_yes(case: Case, body: bytes) -> None:
    """The body decides: for a webhook of the operator's own any is a yes that is no refusal."""
    with case.service() as service:
        answered = answer_to(Fault.status(200, body), case, service)

    assert isinstance(answered, Sent if case.kind == "webhook" else RefusedForGood)
    assert isinstance(answered, Sent) or "None" not in str(answered.problem)


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (b'{"ok": false, "error": "no such key"}', False),
        (b'{"success": false}', False),
        (b'{"error": {"code": 7}}', False),
        (b'{"ok": true, "error": null}', True),
        (b'{"id": 7}', True),
    ],
)
def test_webhook_that_refuses_inside_200(body: bytes, *, taken: bool) -> None:
    """As many do."""
    with EventReceiver() as service:
        service.faults.add(Fault.status(200, body))
        settings: dict[str, Any] = {"url": Secret(service.address), "secret": Secret(SECRET)}
        answered = connect("webhook", **settings).send(message())

    assert isinstance(answered, Sent if taken else RefusedForGood)


def test_webhook_that_is_sent_too_many() -> None:
    """It says when."""
    with EventReceiver() as service:
        service.faults.add(Fault.too_many(90))
        answered = connect("webhook", url=Secret(service.address)).send(message())

    assert isinstance(answered, AgainAt)
    left = answered.moment - datetime.now(UTC)
    assert timedelta(seconds=80) < left <= timedelta(seconds=90)


def test_words_of_a_service_that_repeats_what_it_was_sent() -> None:
    """Keys in its answer are not told."""
    case = CASES[0]
    with case.service() as service:
        said = f'{{"errcode": 1, "errmsg": "no {case.secrets[0]} {case.secrets[1]}"}}'
        answered = answer_to(Fault.status(200, said.encode()), case, service)

    assert isinstance(answered, RefusedForGood)
    assert "•••" in str(answered.problem)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_key_that_a_service_quotes_by_itself(case: Case) -> None:
    """The key of an address is hidden without the rest of it, also one that is written as the ids
    of requests are.
    """
    key = case.secrets[0].rpartition("/")[2]
    with case.service() as service:
        said = f"there is no {key} here"
        words = dict.fromkeys(("errmsg", "msg", "message", "description", "error"), said)
        body = json.dumps({"errcode": 1, "code": 1, **words}).encode()
        answered = answer_to(Fault.status(200, body), case, service)

    assert isinstance(answered, RefusedForGood)
    assert "there is no ••• here" in str(answered.problem)
