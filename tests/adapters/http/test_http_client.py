"""The HTTP client: what is sent, how fast, and what is written down of it."""

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

# --- what is sent: to a real server that misbehaves on demand


def test_the_bytes_given_are_the_bytes_sent(client: HttpClient, service: httpd.HttpService) -> None:
    """Method, path, query, headers and body arrive as they were prepared, and nothing is added
    that a signature would have had to cover.
    """
    headers = {"Content-Type": "application/json", "Authorization": "QBox ak:token="}
    url = f"{service.url}/domain/.example.com?marker=&limit=50"

    answer = client.exchange(
        lambda: Request("PUT", url, headers, '{"name":"证书"}'.encode()), repeatable=False
    )

    [sent] = service.requests()
    assert 200 == answer.status
    way = ("PUT", "/domain/.example.com", "marker=&limit=50")
    assert way == (sent.method, sent.path, sent.query)
    assert '{"name":"证书"}'.encode() == sent.body
    assert headers.items() <= dict(sent.headers).items()
    assert {"Host", "User-Agent", "Accept-Encoding", "Connection", "Content-Length"} >= (
        set(sent.headers) - set(headers)
    )


def test_a_request_without_a_body_carries_no_content_type(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """Content-Type is signed, so the library must not make one up."""
    client.exchange(get(f"{service.url}/x"), repeatable=True)

    [sent] = service.requests()
    assert "Content-Type" not in sent.headers
    assert sent.headers["User-Agent"].startswith("certferry/")


def test_a_user_agent_of_its_own_is_kept(client: HttpClient, service: httpd.HttpService) -> None:
    """A service that asks for a certain User-Agent gets it."""
    request = Request("GET", f"{service.url}/x", {"User-Agent": "mine/1 (me@example.com)"})

    client.exchange(lambda: request, repeatable=True)

    assert "mine/1 (me@example.com)" == service.requests()[0].headers["User-Agent"]


def test_headers_of_an_answer_are_found_in_any_case(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """`X-Reqid` and `x-reqid` are the same header."""
    service.faults.add(Fault.status(400, b"{}", headers=[("X-Reqid", "abc")]))

    answer = client.exchange(get(service.url), repeatable=True)

    assert ("abc", 400, b"{}") == (answer.headers["x-reqid"], answer.status, answer.body)


def test_no_cookie_is_kept(client: HttpClient, service: httpd.HttpService) -> None:
    """A cookie that one answer sets does not return with the next request."""
    for _ in range(2):
        client.exchange(get(f"{service.url}/x"), repeatable=True)

    assert ["Cookie" in request.headers for request in service.requests()] == [False, False]


def test_a_redirect_is_given_back_and_not_followed(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """A signed request is meant for one address."""
    answer = client.exchange(get(f"{service.url}/elsewhere"), repeatable=True)

    assert 302 == answer.status
    assert 1 == len(service.requests())


def test_a_netrc_entry_does_not_replace_the_signature(
    client: HttpClient, service: httpd.HttpService, clean_environment: Path
) -> None:
    """Credentials for the host in the operator's ~/.netrc are not ours to send."""
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)

    client.exchange(get(f"{service.url}/x"), repeatable=True)

    assert SECRET == service.requests()[0].headers["Authorization"]


def test_connections_are_used_again(client: HttpClient) -> None:
    """A second request to a host opens no second connection."""
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


def test_every_attempt_waits_for_its_turn(service: httpd.HttpService) -> None:
    """Repeated requests count against the rate too."""
    turns = RecordedPauses()
    client = HttpClient(pace=Pacer(5, clock=lambda: 0.0, pause=turns), pause=at_once, attempts=3)
    service.faults.add(Fault.status(503), times=None)

    client.exchange(get(service.url), repeatable=True)

    assert pytest.approx([0.2, 0.4]) == turns.seconds


# --- what is repeated


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
def test_a_repeatable_request_outlives_a_fault(
    fault: Fault, client: HttpClient, service: httpd.HttpService, waits: RecordedPauses
) -> None:
    """Two faults in a row are got over, with a growing pause between the attempts."""
    service.faults.add(fault, times=2)

    answer = client.exchange(get(f"{service.url}/x"), repeatable=True)

    assert (200, b'{"path":"/x"}') == (answer.status, answer.body)
    assert 3 == len(service.requests())
    assert [0.2, 0.4] == waits.seconds


def test_a_repeatable_request_outlives_a_slow_answer(
    impatient: HttpClient, service: httpd.HttpService
) -> None:
    """An answer that does not come in time is asked for again."""
    service.faults.add(Fault.delay(10))

    assert 200 == impatient.exchange(get(f"{service.url}/x"), repeatable=True).status


@pytest.mark.parametrize(
    "fault",
    [Fault.reset_before(), Fault.reset_after(), Fault.truncated(), Fault.html()],
    ids=lambda fault: fault.kind.value,
)
def test_a_request_that_may_be_done_is_not_repeated(
    fault: Fault, client: HttpClient, service: httpd.HttpService
) -> None:
    """Without an answer, an upload may have been carried out: the caller learns that."""
    service.faults.add(fault)

    with pytest.raises(HttpFailure) as caught:
        client.exchange(post(f"{service.url}/x"), repeatable=False)

    assert caught.value.maybe_done
    assert 1 == len(service.requests())


def test_a_server_error_on_a_write_is_given_back_at_once(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """Whether a failing server did the work is the caller's to find out."""
    service.faults.add(Fault.status(503))

    answer = client.exchange(post(f"{service.url}/x"), repeatable=False)

    assert 503 == answer.status
    assert is_server_error(answer)
    assert 1 == len(service.requests())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 612])
def test_a_refusal_is_an_answer(
    status: int, client: HttpClient, service: httpd.HttpService
) -> None:
    """Refusals are not repeated; Qiniu's 612 is one of them."""
    service.faults.add(Fault.status(status, b"{}"))

    answer = client.exchange(get(service.url), repeatable=True)

    assert status == answer.status
    assert not is_server_error(answer)
    assert 1 == len(service.requests())


@pytest.mark.parametrize(
    ("retry_after", "times", "waited"),
    [
        (3, 1, [3]),
        (None, 3, [1.0, 2.0, 4.0]),
        *((nonsense, 1, [1.0]) for nonsense in ("soon", "", "-5", "Fri, 99 Foo 2026 99:99:99 GMT")),
    ],
    ids=["seconds", "none", "a word", "empty", "negative", "no date"],
)
def test_a_write_turned_down_for_the_rate_is_repeated(
    retry_after: str | int | None,
    times: int,
    waited: list[float],
    client: HttpClient,
    service: httpd.HttpService,
    waits: RecordedPauses,
) -> None:
    """429 means that nothing was done, and Retry-After says when to come back. Where it says
    nothing the pauses are of seconds, by which rates are counted.
    """
    service.faults.add(Fault.too_many(retry_after), times=times)

    answer = client.exchange(post(f"{service.url}/x"), repeatable=False)

    assert 200 == answer.status
    assert waited == waits.seconds


def test_a_date_in_retry_after_is_obeyed(
    client: HttpClient, service: httpd.HttpService, waits: RecordedPauses
) -> None:
    """Retry-After may be an HTTP date."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    service.faults.add(Fault.too_many(date))

    client.exchange(get(service.url), repeatable=True)

    [waited] = waits.seconds
    assert 10 < waited <= 20


def test_a_long_retry_after_is_left_to_the_caller(
    client: HttpClient, service: httpd.HttpService, waits: RecordedPauses
) -> None:
    """No call waits for an hour, and none is made again before the hour has passed."""
    service.faults.add(Fault.too_many(3600))

    answer = client.exchange(get(service.url), repeatable=True)

    assert (429, 3600) == (answer.status, seconds_asked_for(answer))
    assert 3600 > LONGEST_RETRY_AFTER
    assert [] == waits.seconds


@pytest.mark.parametrize("absurd", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_of_ages_counts_as_hours(
    absurd: str, client: HttpClient, service: httpd.HttpService
) -> None:
    """What it is added to stays within the calendar."""
    service.faults.add(Fault.too_many(absurd))

    answer = client.exchange(get(service.url), repeatable=True)

    assert 6 * 3600 == seconds_asked_for(answer)


@pytest.mark.parametrize(
    ("written", "date"),
    [
        ("Tue, 24 Nov 2026 12:00:00 GMT", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("Tue, 24 Nov 2026 12:00:00 -0000", None),
        ("Tue, 24 Nov 2026 12:00:00 +" + "9" * 30, None),
        ("Tue, 24 Nov 99999 12:00:00 GMT", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_time_of_a_server(written: str, date: datetime | None) -> None:
    """Whatever stands there is a moment or none."""
    now = datetime(2026, 11, 24, tzinfo=UTC)

    assert (date and date - now) == ahead_of({"Date": written}, now)


def test_a_rate_limit_may_be_reported_in_another_way(
    service: httpd.HttpService, waits: RecordedPauses
) -> None:
    """A service whose limit is no 429 brings its own recogniser."""
    client = HttpClient(
        pace=Pacer(1000, pause=waits),
        pause=at_once,
        too_many=lambda answer: b"403024" in answer.body,
    )
    service.faults.add(Fault.status(403, b'{"code":403024}'), times=2)

    answer = client.exchange(post(f"{service.url}/x"), repeatable=False)

    assert 200 == answer.status


def test_attempts_are_bounded_and_the_last_answer_is_given(
    waits: RecordedPauses, service: httpd.HttpService
) -> None:
    """A server that keeps failing is asked so many times, and its last word is handed on."""
    service.faults.add(Fault.status(500, b"last"), times=None)

    answer = new_client(waits, attempts=8).exchange(get(service.url), repeatable=True)

    assert (500, b"last") == (answer.status, answer.body)
    assert 8 == len(service.requests())
    pauses = [0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_BACK_OFF, LONGEST_BACK_OFF]
    assert pytest.approx(pauses) == waits.seconds


def test_a_lost_answer_is_remembered_through_later_attempts(
    waits: RecordedPauses, service: httpd.HttpService
) -> None:
    """When the first attempt may have been carried out, a later refused connection does not
    make it undone.
    """
    urls = iter([f"{service.url}/x", f"http://127.0.0.1:{unused_port()}/x"])
    service.faults.add(Fault.reset_after())

    with pytest.raises(HttpFailure) as caught:
        new_client(waits, attempts=2).exchange(lambda: Request("GET", next(urls)), repeatable=True)

    assert caught.value.maybe_done


def test_back_off_is_jittered(service: httpd.HttpService) -> None:
    """Runs that failed together do not come back together: the pause is 50 to 100 per cent."""
    waits = RecordedPauses()
    client = HttpClient(pace=Pacer(1000, pause=at_once), pause=waits, jitter=lambda: 0.0)
    service.faults.add(Fault.status(500), times=2)

    client.exchange(get(service.url), repeatable=True)

    assert [0.1, 0.2] == waits.seconds


def test_each_attempt_is_prepared_anew(client: HttpClient, service: httpd.HttpService) -> None:
    """A signature carries its date, so it is not sent a second time."""
    dates = itertools.count()
    service.faults.add(Fault.status(500), times=2)

    client.exchange(
        lambda: Request("GET", service.url, {"X-Qiniu-Date": str(next(dates))}), repeatable=True
    )

    assert ["0", "1", "2"] == [r.headers["X-Qiniu-Date"] for r in service.requests()]


def test_a_stopped_run_leaves_between_attempts(service: httpd.HttpService) -> None:
    """What the pause raises passes unchanged."""

    def stop(seconds: float) -> None:
        raise Interrupted("stopped")

    service.faults.add(Fault.status(500))

    with pytest.raises(Interrupted):
        new_client(stop).exchange(get(service.url), repeatable=True)


# --- What a report shows of a call: its words, its way and its shape, and never a value


PUBLIC = {"api.example.com", "domain", "limit", "Qiniu"}


def shown(url: str, body: bytes, **headers: str) -> str:
    came = Answer(200, {}, body)
    [line] = reported([Exchange(Request("GET", url, headers), came)], PUBLIC)
    return str(line)


@pytest.mark.parametrize(
    ("found", "written"),
    [
        (None, "null"),
        ([], "[]"),
        ({}, "{}"),
        (["a", None, 1, 1.5, True], "[5 × boolean | null | number | string]"),
        ([{"a": 1, "b": []}, {"a": None}], "[2 × {a: null | number, b?: []}]"),
        ({"www.example.com": 1, "图片": 2, "a" * 31: 3, "state": "on"}, "{…, state: string}"),
    ],
)
def test_shape(found: object, written: str) -> None:
    """Fields and kinds; a key that could be a name of the operator's is hidden."""
    assert written == shape(found)


def test_words_that_are_not_public_are_hidden() -> None:
    """Of the path, of the query, of the host and of the header that signs."""
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
    """A code is a number, as Qiniu has it or DNSPod; all else of the body is shape."""
    assert shown("https://api.example.com/", body).endswith(f": {answer}")


# --- Pacing: never more requests in a second than a service allows


class Moment:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@given(per_second=st.integers(1, 50), idle=st.lists(st.floats(0, 3), min_size=2, max_size=40))
def test_any_two_requests_are_an_interval_apart(per_second: int, idle: list[float]) -> None:
    """However unevenly requests come, they leave evenly spaced, and none waits without need."""
    moment = Moment()
    pacer = Pacer(per_second, clock=moment.clock, pause=moment.pause)
    left: list[float] = []
    for seconds in idle:
        moment.now += seconds
        came = moment.now
        pacer.wait()
        earliest = left[-1] + 1 / per_second if left else 0.0
        left.append(moment.now)
        assert pytest.approx(max(came, earliest)) == moment.now


def test_many_threads_share_one_pace() -> None:
    """Twenty threads that ask at once are each given a moment of their own."""
    waits = RecordedPauses()
    pacer = Pacer(10, clock=lambda: 0.0, pause=waits)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: pacer.wait(), range(20)))

    assert pytest.approx([n / 10 for n in range(1, 20)]) == sorted(waits.seconds)


def test_a_stopped_run_is_not_held() -> None:
    """What the pause raises passes."""

    def stop(seconds: float) -> None:
        raise Interrupted("stopped")

    pacer = Pacer(1, clock=lambda: 0.0, pause=stop)
    pacer.wait()

    with pytest.raises(Interrupted):
        pacer.wait()


class Shared:
    """Where turns of ten a second are reserved, by a clock that stands still."""

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
def test_lone_request_reserves_one_turn(*, is_shared: bool) -> None:
    """It waits for no other, and nothing is lost to those who share the pace; where the store
    reserves nothing, the process keeps the pace alone.
    """
    shared, waits = Shared(), RecordedPauses()
    reserve = shared.reserve if is_shared else lambda _: None
    pacer = Pacer(10, clock=lambda: 0.0, pause=waits, reserve=reserve)

    for _ in range(3):
        pacer.wait()

    assert [1, 1, 1] * is_shared == shared.batches
    assert pytest.approx([0.1, 0.2]) == waits.seconds


def test_requests_that_wait_reserve_together() -> None:
    """While one asks, those that come wait; each turn is used, and no batch exceeds a second."""
    shared, waits = Shared(), RecordedPauses()
    meeting = threading.Barrier(15)

    def reserve(count: int) -> timedelta:
        if not shared.batches:
            meeting.wait(timeout=30)
            time.sleep(0.2)  # the others come meanwhile
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


def test_turns_that_cannot_be_reserved() -> None:
    """Each request gets the error; none is counted that was not reserved."""
    shared, waits = Shared(), RecordedPauses()
    pacer = Pacer(10, clock=lambda: 0.0, pause=waits, reserve=shared.reserve)
    shared.is_gone = True
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            pacer.wait()
    shared.is_gone = False

    pacer.wait()

    assert [1] == shared.batches


def test_process_that_was_frozen_takes_another_turn() -> None:
    """The one that it waited for has passed, and others have sent since."""
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
