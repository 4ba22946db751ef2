"""The HTTP client: requests, repetitions, the pace, and the report about calls."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.http.exchange import Exchange, HttpFailure, Request, seconds_asked_for
from certferry.adapters.http.http_client import (
    LONGEST_BACK_OFF,
    LONGEST_RETRY_AFTER,
    HttpClient,
    Pacer,
    ahead_of,
    is_server_error,
)
from certferry.adapters.http.journal import reported, shape
from certferry.errors import DatabaseUnavailable, Interrupted
from certferry.ports.adapter import Answer
from certferry.text import Text
from certferry_sandbox import httpd
from certferry_sandbox.faults import Fault
from tests.adapters.http.calls import SECRET, at_once, get, new_client, post, unused_port
from tests.adapters.http.peers import peer, read_request
from tests.adapters.recorded_pauses import RecordedPauses

# --- Requests, at a real server that misbehaves on demand


def test_the_request_is_sent_unchanged(client: HttpClient, service: httpd.HttpService) -> None:
    """Method, path, query, headers and body arrive as prepared; added headers are never signed."""
    headers = {"Content-Type": "application/json", "Authorization": "QBox ak:token="}
    url = f"{service.url}/domain/.example.com?marker=&limit=50"

    answer = client.exchange(
        lambda: Request("PUT", url, headers, '{"name":"证书"}'.encode()), repeatable=False
    )

    [request] = service.requests()
    assert 200 == answer.status
    line = ("PUT", "/domain/.example.com", "marker=&limit=50")
    assert line == (request.method, request.path, request.query)
    assert '{"name":"证书"}'.encode() == request.body
    assert headers.items() <= dict(request.headers).items()
    assert {"Host", "User-Agent", "Accept-Encoding", "Connection", "Content-Length"} >= (
        set(request.headers) - set(headers)
    )


def test_a_request_without_a_body_has_no_content_type(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """Content-Type is part of the signature, so the library must not add the header."""
    client.exchange(get(f"{service.url}/x"), repeatable=True)

    [request] = service.requests()
    assert "Content-Type" not in request.headers
    assert request.headers["User-Agent"].startswith("certferry/")


def test_the_requests_own_user_agent_is_sent(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """Some services require a certain User-Agent."""
    request = Request("GET", f"{service.url}/x", {"User-Agent": "mine/1 (me@example.com)"})

    client.exchange(lambda: request, repeatable=True)

    assert "mine/1 (me@example.com)" == service.requests()[0].headers["User-Agent"]


def test_headers_of_an_answer_ignore_case(client: HttpClient, service: httpd.HttpService) -> None:
    """`X-Reqid` and `x-reqid` are the same header."""
    service.faults.add(Fault.status(400, b"{}", headers=[("X-Reqid", "abc")]))

    answer = client.exchange(get(service.url), repeatable=True)

    assert ("abc", 400, b"{}") == (answer.headers["x-reqid"], answer.status, answer.body)


def test_cookies_are_dropped(client: HttpClient, service: httpd.HttpService) -> None:
    """A cookie from an answer is absent from the next request."""
    for _ in range(2):
        client.exchange(get(f"{service.url}/x"), repeatable=True)

    assert ["Cookie" in request.headers for request in service.requests()] == [False, False]


def test_a_redirect_is_returned(client: HttpClient, service: httpd.HttpService) -> None:
    """Redirects are not followed, because a signed request is meant for a single address."""
    answer = client.exchange(get(f"{service.url}/elsewhere"), repeatable=True)

    assert 302 == answer.status
    assert 1 == len(service.requests())


def test_a_netrc_entry_does_not_replace_the_signature(
    client: HttpClient, service: httpd.HttpService, clean_environment: Path
) -> None:
    """Credentials in the operator's ~/.netrc are ignored."""
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)

    client.exchange(get(f"{service.url}/x"), repeatable=True)

    assert SECRET == service.requests()[0].headers["Authorization"]


def test_connections_are_used_again(client: HttpClient) -> None:
    """A second request to a host uses the connection of the first request."""
    opened = itertools.count()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def two_answers(connection: socket.socket) -> None:
        next(opened)
        for _ in range(2):
            read_request(connection)
            connection.sendall(answer)

    with peer(two_answers) as host:
        for _ in range(2):
            client.exchange(get(f"http://{host}/"), repeatable=True)

        assert 1 == next(opened)


def test_every_attempt_counts_against_the_rate(service: httpd.HttpService) -> None:
    """Repeated requests wait for a turn like first requests."""
    waits = RecordedPauses()
    client = HttpClient(pace=Pacer(5, clock=lambda: 0.0, pause=waits), pause=at_once, attempts=3)
    service.faults.add(Fault.status(503), times=None)

    client.exchange(get(service.url), repeatable=True)

    assert pytest.approx([0.2, 0.4]) == waits.seconds


# --- Repetitions


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.status(code) for code in (500, 502, 503)),
        Fault.html(),
        Fault.reset_before(),
        Fault.reset_after(),
        Fault.truncated(),
    ],
    ids=lambda fault: f"{fault.kind.value} {fault.code or ''} {fault.content_type}",
)
def test_a_repeatable_request_survives_two_faults(
    fault: Fault, client: HttpClient, service: httpd.HttpService, waits: RecordedPauses
) -> None:
    """The pause grows between the attempts."""
    service.faults.add(fault, times=2)

    answer = client.exchange(get(f"{service.url}/x"), repeatable=True)

    assert (200, b'{"path":"/x"}') == (answer.status, answer.body)
    assert 3 == len(service.requests())
    assert [0.2, 0.4] == waits.seconds


def test_a_repeatable_request_survives_a_slow_answer(
    short_timeout_client: HttpClient, service: httpd.HttpService
) -> None:
    """The request is sent again after the read timeout."""
    service.faults.add(Fault.delay(10))

    assert 200 == short_timeout_client.exchange(get(f"{service.url}/x"), repeatable=True).status


@pytest.mark.parametrize(
    "fault",
    [Fault.reset_before(), Fault.reset_after(), Fault.truncated(), Fault.html()],
    ids=lambda fault: fault.kind.value,
)
def test_an_uncertain_request_is_sent_once(
    fault: Fault, client: HttpClient, service: httpd.HttpService
) -> None:
    """The server may have carried out an upload without an answer, and the caller learns so."""
    service.faults.add(fault)

    with pytest.raises(HttpFailure) as caught:
        client.exchange(post(f"{service.url}/x"), repeatable=False)

    assert caught.value.maybe_done
    assert 1 == len(service.requests())


def test_a_server_error_on_a_write_is_returned_at_once(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """The caller has to find out whether the failing server did the work."""
    service.faults.add(Fault.status(503))

    answer = client.exchange(post(f"{service.url}/x"), repeatable=False)

    assert 503 == answer.status
    assert is_server_error(answer)
    assert 1 == len(service.requests())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 612])
def test_a_refusal_is_an_answer(
    status: int, client: HttpClient, service: httpd.HttpService
) -> None:
    """Refusals are returned at once, including Qiniu's 612."""
    service.faults.add(Fault.status(status, b"{}"))

    answer = client.exchange(get(service.url), repeatable=True)

    assert status == answer.status
    assert not is_server_error(answer)
    assert 1 == len(service.requests())


@pytest.mark.parametrize(
    ("retry_after", "times", "pauses"),
    [
        (3, 1, [3]),
        (None, 3, [1.0, 2.0, 4.0]),
        *((nonsense, 1, [1.0]) for nonsense in ("soon", "", "-5", "Fri, 99 Foo 2026 99:99:99 GMT")),
    ],
    ids=["seconds", "none", "a word", "empty", "negative", "no date"],
)
def test_a_write_beyond_the_rate_is_repeated(
    retry_after: str | int | None,
    times: int,
    pauses: list[float],
    client: HttpClient,
    service: httpd.HttpService,
    waits: RecordedPauses,
) -> None:
    """With status 429 the server did nothing, and Retry-After gives the pause. Without a usable
    value the pauses last seconds, like the rates of services.
    """
    service.faults.add(Fault.too_many(retry_after), times=times)

    answer = client.exchange(post(f"{service.url}/x"), repeatable=False)

    assert 200 == answer.status
    assert pauses == waits.seconds


def test_a_date_in_retry_after_is_obeyed(
    client: HttpClient, service: httpd.HttpService, waits: RecordedPauses
) -> None:
    """Retry-After may be an HTTP date."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    service.faults.add(Fault.too_many(date))

    client.exchange(get(service.url), repeatable=True)

    [pause] = waits.seconds
    assert 10 < pause <= 20


def test_a_long_retry_after_is_left_to_the_caller(
    client: HttpClient, service: httpd.HttpService, waits: RecordedPauses
) -> None:
    """The call returns at once, and the caller learns the time of the next attempt."""
    service.faults.add(Fault.too_many(3600))

    answer = client.exchange(get(service.url), repeatable=True)

    assert (429, 3600) == (answer.status, seconds_asked_for(answer))
    assert 3600 > LONGEST_RETRY_AFTER
    assert [] == waits.seconds


@pytest.mark.parametrize("absurd", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_absurd_retry_after_counts_as_six_hours(
    absurd: str, client: HttpClient, service: httpd.HttpService
) -> None:
    """The sum of a date and the pause stays within the calendar."""
    service.faults.add(Fault.too_many(absurd))

    answer = client.exchange(get(service.url), repeatable=True)

    assert 6 * 3600 == seconds_asked_for(answer)


@pytest.mark.parametrize(
    ("header", "date"),
    [
        ("Tue, 24 Nov 2026 12:00:00 GMT", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("Tue, 24 Nov 2026 12:00:00 -0000", None),
        ("Tue, 24 Nov 2026 12:00:00 +" + "9" * 30, None),
        ("Tue, 24 Nov 99999 12:00:00 GMT", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_date_header_of_a_server(header: str, date: datetime | None) -> None:
    """Any header is a date or is ignored."""
    now = datetime(2026, 11, 24, tzinfo=UTC)

    assert (date and date - now) == ahead_of({"Date": header}, now)


def test_a_service_can_have_its_own_rate_limit_answer(
    service: httpd.HttpService, waits: RecordedPauses
) -> None:
    """A service whose limit is not a 429 supplies its own test of an answer."""
    client = HttpClient(
        pace=Pacer(1000, pause=waits),
        pause=at_once,
        too_many=lambda answer: b"403024" in answer.body,
    )
    service.faults.add(Fault.status(403, b'{"code":403024}'), times=2)

    answer = client.exchange(post(f"{service.url}/x"), repeatable=False)

    assert 200 == answer.status


def test_attempts_are_limited_and_the_last_answer_is_returned(
    waits: RecordedPauses, service: httpd.HttpService
) -> None:
    """A failing server gets a fixed number of requests, and the caller gets its last answer."""
    service.faults.add(Fault.status(500, b"last"), times=None)

    answer = new_client(waits, attempts=8).exchange(get(service.url), repeatable=True)

    assert (500, b"last") == (answer.status, answer.body)
    assert 8 == len(service.requests())
    pauses = [0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_BACK_OFF, LONGEST_BACK_OFF]
    assert pytest.approx(pauses) == waits.seconds


def test_an_uncertain_attempt_stays_uncertain(
    waits: RecordedPauses, service: httpd.HttpService
) -> None:
    """The first attempt may have been carried out, whatever happens to later attempts."""
    urls = iter([f"{service.url}/x", f"http://127.0.0.1:{unused_port()}/x"])
    service.faults.add(Fault.reset_after())

    with pytest.raises(HttpFailure) as caught:
        new_client(waits, attempts=2).exchange(lambda: Request("GET", next(urls)), repeatable=True)

    assert caught.value.maybe_done


def test_back_off_is_jittered(service: httpd.HttpService) -> None:
    """Runs that failed together return at different times: the pause is 50 to 100 per cent."""
    waits = RecordedPauses()
    client = HttpClient(pace=Pacer(1000, pause=at_once), pause=waits, jitter=lambda: 0.0)
    service.faults.add(Fault.status(500), times=2)

    client.exchange(get(service.url), repeatable=True)

    assert [0.1, 0.2] == waits.seconds


def test_each_attempt_is_signed_again(client: HttpClient, service: httpd.HttpService) -> None:
    """A signature contains its date, so each attempt needs a new signature."""
    dates = itertools.count()
    service.faults.add(Fault.status(500), times=2)

    client.exchange(
        lambda: Request("GET", service.url, {"X-Qiniu-Date": str(next(dates))}), repeatable=True
    )

    assert ["0", "1", "2"] == [r.headers["X-Qiniu-Date"] for r in service.requests()]


def test_a_stop_ends_the_pause_between_attempts(service: httpd.HttpService) -> None:
    """The exception of the pause reaches the caller unchanged."""

    def stop(seconds: float) -> None:
        raise Interrupted("stopped")

    service.faults.add(Fault.status(500))

    with pytest.raises(Interrupted):
        new_client(stop).exchange(get(service.url), repeatable=True)


# --- The report about a call: public words and the shape of the body, without values


PUBLIC = {"api.example.com", "domain", "limit", "Qiniu"}


def shown(url: str, body: bytes, **headers: str) -> str:
    answer = Answer(200, {}, body)
    [line] = reported([Exchange(Request("GET", url, headers), answer)], PUBLIC)
    return str(line)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, "null"),
        ([], "[]"),
        ({}, "{}"),
        (["a", None, 1, 1.5, True], "[5 × boolean | null | number | string]"),
        ([{"a": 1, "b": []}, {"a": None}], "[2 × {a: null | number, b?: []}]"),
        ({"www.example.com": 1, "图片": 2, "a" * 31: 3, "state": "on"}, "{…, state: string}"),
    ],
)
def test_shape(document: object, expected: str) -> None:
    """Fields and types are shown; a field that may be a name of the operator's is hidden."""
    assert expected == shape(document)


def test_words_of_the_operator_are_hidden() -> None:
    """Words in the path, the query, the host and the signing header are hidden unless public."""
    public = shown("https://api.example.com/domain?limit=10", b"[]", Authorization="Qiniu key:sign")
    hidden = shown(
        "https://cdn.example.org/domain/a?tbl=b&limit=c", b"[]", Authorization="key sign"
    )

    assert "GET /domain?limit at api.example.com (Qiniu): 200, `[]`" == public
    assert "GET /domain/…?limit at …: 200, `[]`" == hidden


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"<html>", "200, no JSON"),
        (b"[" * 100_000, "200, no JSON"),
        (json.dumps({"code": 401001}).encode(), "200, code 401001, `{code: number}`"),
        (
            json.dumps({"status": {"code": "-1"}}).encode(),
            "200, code -1, `{status: {code: string}}`",
        ),
        (json.dumps({"code": "www.example.com"}).encode(), "200, `{code: string}`"),
    ],
)
def test_answers(body: bytes, answer: str) -> None:
    """A numeric code is shown, as Qiniu or DNSPod writes the code; other values appear as types."""
    assert shown("https://api.example.com/", body).endswith(f": {answer}")


# --- The pace: a limited number of requests in a second


class Moment:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@given(per_second=st.integers(1, 50), idle=st.lists(st.floats(0, 3), min_size=2, max_size=40))
def test_requests_are_an_interval_apart(per_second: int, idle: list[float]) -> None:
    """Requests that arrive unevenly leave evenly, and wait only as long as necessary."""
    moment = Moment()
    pacer = Pacer(per_second, clock=moment.clock, pause=moment.pause)
    departures: list[float] = []
    for seconds in idle:
        moment.now += seconds
        arrival = moment.now
        pacer.wait()
        earliest = departures[-1] + 1 / per_second if departures else 0.0
        departures.append(moment.now)
        assert pytest.approx(max(arrival, earliest)) == moment.now


def test_threads_share_a_pace() -> None:
    """Twenty simultaneous threads each get a moment of their own."""
    waits = RecordedPauses()
    pacer = Pacer(10, clock=lambda: 0.0, pause=waits)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: pacer.wait(), range(20)))

    assert pytest.approx([n / 10 for n in range(1, 20)]) == sorted(waits.seconds)


def test_a_stop_ends_the_wait_for_a_turn() -> None:
    """The exception of the pause reaches the caller."""

    def stop(seconds: float) -> None:
        raise Interrupted("stopped")

    pacer = Pacer(1, clock=lambda: 0.0, pause=stop)
    pacer.wait()

    with pytest.raises(Interrupted):
        pacer.wait()


class Shared:
    """Reserves ten turns a second, by a clock that stands still."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.is_gone = False

    def reserve(self, count: int) -> timedelta:
        if self.is_gone:
            raise DatabaseUnavailable(Text("the database is gone"))
        ahead = timedelta(seconds=sum(self.batches) / 10)
        self.batches.append(count)
        return ahead


@pytest.mark.parametrize("is_shared", [True, False], ids=["shared", "of one host"])
def test_single_request_reserves_a_single_turn(*, is_shared: bool) -> None:
    """A request waits for no other request, and reserves no spare turn. Without a shared store the
    process keeps the pace alone.
    """
    shared, waits = Shared(), RecordedPauses()
    reserve = shared.reserve if is_shared else lambda _: None
    pacer = Pacer(10, clock=lambda: 0.0, pause=waits, reserve=reserve)

    for _ in range(3):
        pacer.wait()

    assert [1, 1, 1] * is_shared == shared.batches
    assert pytest.approx([0.1, 0.2]) == waits.seconds


def test_waiting_requests_reserve_together() -> None:
    """Requests that arrive during a reservation wait and share the next reservation. Each turn is
    used, and a reservation covers at most a second.
    """
    shared, waits = Shared(), RecordedPauses()
    meeting = threading.Barrier(15)

    def reserve(count: int) -> timedelta:
        if not shared.batches:
            meeting.wait(timeout=30)
            time.sleep(0.2)  # the other requests arrive meanwhile
        return shared.reserve(count)

    def late(pacer: Pacer, *, first: bool) -> None:
        if not first:
            meeting.wait(timeout=30)
        pacer.wait()

    pacer = Pacer(10, clock=lambda: 0.0, pause=waits, reserve=reserve)
    with ThreadPoolExecutor(15) as pool:
        for number in range(15):
            pool.submit(late, pacer, first=number == 0)

    assert 15 == sum(shared.batches)
    assert 10 >= max(shared.batches)
    assert len(shared.batches) < 15
    assert pytest.approx([number / 10 for number in range(1, 15)]) == sorted(waits.seconds)


def test_failed_reservation() -> None:
    """Each request gets the error, and only reserved turns count."""
    shared, waits = Shared(), RecordedPauses()
    pacer = Pacer(10, clock=lambda: 0.0, pause=waits, reserve=shared.reserve)
    shared.is_gone = True
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            pacer.wait()
    shared.is_gone = False

    pacer.wait()

    assert [1] == shared.batches


def test_suspended_process_takes_another_turn() -> None:
    """The reserved turn has passed, and other processes have sent requests since."""
    shared, moment = Shared(), Moment()
    pacer = Pacer(
        10,
        clock=moment.clock,
        pause=lambda seconds: moment.pause(seconds + 5 * (len(shared.batches) == 2)),
        reserve=shared.reserve,
    )

    pacer.wait()
    pacer.wait()

    assert [1, 1, 1] == shared.batches
