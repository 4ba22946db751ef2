"""The HTTP client against a real server that misbehaves on demand."""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from certferry.adapters.clients.http import (
    LONGEST_BACK_OFF,
    LONGEST_RETRY_AFTER,
    TIMEOUTS,
    HttpClient,
    HttpFailure,
    Request,
    is_server_error,
    seconds_asked_for,
)
from certferry.adapters.clients.http_bounds import CHUNK, LONGEST_ANSWER
from certferry.adapters.clients.http_problems import Contact, Timeouts
from certferry.adapters.clients.pacing import Pacer
from certferry.adapters.clients.told_time import ahead_of
from certferry.errors import Interrupted
from certferry.ports.http import Answer
from certferry.sandbox import httpd
from certferry.sandbox.faults import Fault
from tests.adapters.clients.peers import drip, peer, read_request
from tests.adapters.clients.waits import Waits

SHORT = Timeouts(connect=timedelta(seconds=5), read=timedelta(seconds=0.5))
SECRET = "very-secret-value"


@pytest.fixture
def waits() -> Waits:
    """Give pauses that return at once."""
    return Waits()


@pytest.fixture
def service() -> Iterator[httpd.HttpService]:
    """Start a server that answers everything, and one path with a redirect."""
    with httpd.HttpService(_serve) as running:
        yield running


def _serve(request: httpd.Request) -> httpd.Response:
    if request.path == "/elsewhere":
        return httpd.Response(302, headers=(("Location", "/here"),))
    return httpd.Response.json({"path": request.path}, Set_Cookie="session=1; Path=/")


@pytest.fixture
def client(waits: Waits) -> HttpClient:
    """Give the client under test."""
    return _client(waits)


@pytest.fixture
def impatient(waits: Waits) -> HttpClient:
    """Give the client with a short read timeout."""
    return _client(waits, timeouts=SHORT)


def _at_once(seconds: float) -> None:
    """Pause for nothing."""


def _client(
    waits: Callable[[float], None], attempts: int = 4, timeouts: Timeouts = TIMEOUTS
) -> HttpClient:
    return HttpClient(
        pace=Pacer(1000, pause=_at_once),
        pause=waits,
        attempts=attempts,
        timeouts=timeouts,
        jitter=lambda: 1.0,
    )


def _get(url: str) -> Callable[[], Request]:
    return lambda: Request("GET", url, {"Authorization": SECRET})


def _post(url: str) -> Callable[[], Request]:
    return lambda: Request("POST", url, {"Authorization": SECRET}, SECRET.encode())


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# --- what is sent ---------------------------------------------------------------------------


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
    assert ("PUT", "/domain/.example.com", "marker=&limit=50") == (
        sent.method,
        sent.path,
        sent.query,
    )
    assert '{"name":"证书"}'.encode() == sent.body
    assert headers.items() <= dict(sent.headers).items()
    assert {"Host", "User-Agent", "Accept-Encoding", "Connection", "Content-Length"} >= (
        set(sent.headers) - set(headers)
    )


def test_a_request_without_a_body_carries_no_content_type(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """Content-Type is signed, so the library must not make one up."""
    client.exchange(_get(f"{service.url}/x"), repeatable=True)

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

    answer = client.exchange(_get(service.url), repeatable=True)

    assert ("abc", 400, b"{}") == (answer.headers["x-reqid"], answer.status, answer.body)


def test_no_cookie_is_kept(client: HttpClient, service: httpd.HttpService) -> None:
    """A cookie that one answer sets does not return with the next request."""
    for _ in range(2):
        client.exchange(_get(f"{service.url}/x"), repeatable=True)

    assert ["Cookie" in request.headers for request in service.requests()] == [False, False]


def test_a_redirect_is_given_back_and_not_followed(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """A signed request is meant for one address."""
    answer = client.exchange(_get(f"{service.url}/elsewhere"), repeatable=True)

    assert 302 == answer.status
    assert 1 == len(service.requests())


def test_a_netrc_entry_does_not_replace_the_signature(
    client: HttpClient, service: httpd.HttpService, clean_environment: Path
) -> None:
    """Credentials for the host in the operator's ~/.netrc are not ours to send."""
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)

    client.exchange(_get(f"{service.url}/x"), repeatable=True)

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
            client.exchange(_get(f"http://{host}/"), repeatable=True)

        assert 1 == next(opened)


def test_every_attempt_waits_for_its_turn(service: httpd.HttpService) -> None:
    """Repeated requests count against the rate too."""
    turns = Waits()
    client = HttpClient(pace=Pacer(5, clock=lambda: 0.0, pause=turns), pause=_at_once, attempts=3)
    service.faults.add(Fault.status(503), times=None)

    client.exchange(_get(service.url), repeatable=True)

    assert pytest.approx([0.2, 0.4]) == turns.seconds


# --- what is repeated -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(500),
        Fault.status(502),
        Fault.status(503),
        Fault.html(),
        Fault.reset_before(),
        Fault.reset_after(),
        Fault.truncated(),
    ],
    ids=lambda fault: f"{fault.kind.value} {fault.code or ''} {fault.content_type}",
)
def test_a_repeatable_request_outlives_a_fault(
    fault: Fault, client: HttpClient, service: httpd.HttpService, waits: Waits
) -> None:
    """Two faults in a row are got over, with a growing pause between the attempts."""
    service.faults.add(fault, times=2)

    answer = client.exchange(_get(f"{service.url}/x"), repeatable=True)

    assert (200, b'{"path":"/x"}') == (answer.status, answer.body)
    assert 3 == len(service.requests())
    assert [0.2, 0.4] == waits.seconds


def test_a_repeatable_request_outlives_a_slow_answer(
    impatient: HttpClient, service: httpd.HttpService
) -> None:
    """An answer that does not come in time is asked for again."""
    service.faults.add(Fault.delay(10))

    assert 200 == impatient.exchange(_get(f"{service.url}/x"), repeatable=True).status


@pytest.mark.parametrize(
    "fault",
    [Fault.reset_before(), Fault.reset_after(), Fault.truncated(), Fault.html()],
    ids=lambda fault: fault.kind.value,
)
def test_a_request_that_may_be_done_is_not_repeated(
    fault: Fault, client: HttpClient, service: httpd.HttpService
) -> None:
    """Without an answer, an upload may have been carried out: the caller is told so."""
    service.faults.add(fault)

    with pytest.raises(HttpFailure) as caught:
        client.exchange(_post(f"{service.url}/x"), repeatable=False)

    assert caught.value.maybe_done
    assert 1 == len(service.requests())


def test_a_server_error_on_a_write_is_given_back_at_once(
    client: HttpClient, service: httpd.HttpService
) -> None:
    """Whether a failing server did the work is the caller's to find out."""
    service.faults.add(Fault.status(503))

    answer = client.exchange(_post(f"{service.url}/x"), repeatable=False)

    assert 503 == answer.status
    assert is_server_error(answer)
    assert 1 == len(service.requests())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 612])
def test_a_refusal_is_an_answer(
    status: int, client: HttpClient, service: httpd.HttpService
) -> None:
    """Refusals are not repeated; Qiniu's 612 is one of them."""
    service.faults.add(Fault.status(status, b"{}"))

    answer = client.exchange(_get(service.url), repeatable=True)

    assert status == answer.status
    assert not is_server_error(answer)
    assert 1 == len(service.requests())


def test_a_write_turned_down_for_the_rate_is_repeated(
    client: HttpClient, service: httpd.HttpService, waits: Waits
) -> None:
    """429 means that nothing was done, and Retry-After says when to come back."""
    service.faults.add(Fault.too_many(3))

    answer = client.exchange(_post(f"{service.url}/x"), repeatable=False)

    assert 200 == answer.status
    assert [3] == waits.seconds


def test_a_rate_limit_without_a_time_is_backed_off_from(
    client: HttpClient, service: httpd.HttpService, waits: Waits
) -> None:
    """Rates are counted by the second, so the pauses are of seconds."""
    service.faults.add(Fault.too_many(), times=3)

    answer = client.exchange(_post(f"{service.url}/x"), repeatable=False)

    assert 200 == answer.status
    assert [1.0, 2.0, 4.0] == waits.seconds


def test_a_date_in_retry_after_is_obeyed(
    client: HttpClient, service: httpd.HttpService, waits: Waits
) -> None:
    """Retry-After may be an HTTP date."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    service.faults.add(Fault.too_many(date))

    client.exchange(_get(service.url), repeatable=True)

    [waited] = waits.seconds
    assert 10 < waited <= 20


def test_a_long_retry_after_is_left_to_the_caller(
    client: HttpClient, service: httpd.HttpService, waits: Waits
) -> None:
    """Nobody is held for an hour, and nobody comes back before the hour has passed."""
    service.faults.add(Fault.too_many(3600))

    answer = client.exchange(_get(service.url), repeatable=True)

    assert (429, 3600) == (answer.status, seconds_asked_for(answer))
    assert 3600 > LONGEST_RETRY_AFTER
    assert [] == waits.seconds


@pytest.mark.parametrize("absurd", ["9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_of_ages_counts_as_hours(
    absurd: str, client: HttpClient, service: httpd.HttpService
) -> None:
    """What it is added to stays within the calendar."""
    service.faults.add(Fault.too_many(absurd))

    answer = client.exchange(_get(service.url), repeatable=True)

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


@pytest.mark.parametrize("nonsense", ["soon", "", "-5", "Fri, 99 Foo 2026 99:99:99 GMT"])
def test_nonsense_in_retry_after_is_backed_off_from(
    nonsense: str, client: HttpClient, service: httpd.HttpService, waits: Waits
) -> None:
    """A Retry-After that says nothing leaves the usual pause."""
    service.faults.add(Fault.too_many(nonsense))

    client.exchange(_get(service.url), repeatable=True)

    assert [1.0] == waits.seconds


def test_a_rate_limit_may_be_told_in_another_way(service: httpd.HttpService, waits: Waits) -> None:
    """A service whose limit is no 429 brings its own recogniser."""
    client = HttpClient(
        pace=Pacer(1000, pause=waits),
        pause=_at_once,
        too_many=lambda answer: b"403024" in answer.body,
    )
    service.faults.add(Fault.status(403, b'{"code":403024}'), times=2)

    answer = client.exchange(_post(f"{service.url}/x"), repeatable=False)

    assert 200 == answer.status


def test_attempts_are_bounded_and_the_last_answer_is_given(
    waits: Waits, service: httpd.HttpService
) -> None:
    """A server that keeps failing is asked so many times, and its last word is handed on."""
    service.faults.add(Fault.status(500, b"last"), times=None)

    answer = _client(waits, attempts=8).exchange(_get(service.url), repeatable=True)

    assert (500, b"last") == (answer.status, answer.body)
    assert 8 == len(service.requests())
    assert [0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_BACK_OFF, LONGEST_BACK_OFF] == pytest.approx(
        waits.seconds
    )


def test_a_lost_answer_is_remembered_through_later_attempts(
    waits: Waits, service: httpd.HttpService
) -> None:
    """When the first attempt may have been carried out, a later refused connection does not
    make it undone.
    """
    urls = iter([f"{service.url}/x", f"http://127.0.0.1:{_unused_port()}/x"])
    service.faults.add(Fault.reset_after())

    with pytest.raises(HttpFailure) as caught:
        _client(waits, attempts=2).exchange(lambda: Request("GET", next(urls)), repeatable=True)

    assert caught.value.maybe_done


def test_back_off_is_jittered(service: httpd.HttpService) -> None:
    """Runs that failed together do not come back together: the pause is 50 to 100 per cent."""
    waits = Waits()
    client = HttpClient(pace=Pacer(1000, pause=_at_once), pause=waits, jitter=lambda: 0.0)
    service.faults.add(Fault.status(500), times=2)

    client.exchange(_get(service.url), repeatable=True)

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
        _client(stop).exchange(_get(service.url), repeatable=True)


# --- what is said ---------------------------------------------------------------------------


def _failure(client: HttpClient, url: str, *, repeatable: bool = True) -> HttpFailure:
    with pytest.raises(HttpFailure) as caught:
        client.exchange(_post(url), repeatable=repeatable)
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.problem!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


def test_a_refused_connection(client: HttpClient, waits: Waits) -> None:
    """Nothing was done, so even an upload is tried again before it is given up."""
    host = f"127.0.0.1:{_unused_port()}"

    failure = _failure(client, f"http://{host}/", repeatable=False)

    assert f"no connection to {host}: Connection refused" == str(failure.problem)
    assert not failure.maybe_done
    assert 3 == len(waits.seconds)


def test_a_name_that_does_not_exist(client: HttpClient) -> None:
    """The sentence names the name."""
    failure = _failure(client, "http://qiniu.invalid/", repeatable=False)

    assert "qiniu.invalid is not found in DNS" == str(failure.problem)
    assert not failure.maybe_done


def test_an_answer_that_does_not_come(impatient: HttpClient, service: httpd.HttpService) -> None:
    """The read timeout is bounded and told, and the request not repeated: it may yet be done."""
    service.faults.add(Fault.delay(10), times=None)

    failure = _failure(impatient, service.url, repeatable=False)

    host = service.url.removeprefix("http://")
    assert f"{host} did not answer within 0 seconds" == str(failure.problem)
    assert failure.maybe_done
    assert 1 == len(service.requests())


def test_a_connection_that_is_reset(client: HttpClient, service: httpd.HttpService) -> None:
    """The sentence says who closed."""
    service.faults.add(Fault.reset_before(), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith("closed the connection without an answer")


def test_half_an_answer(client: HttpClient, service: httpd.HttpService) -> None:
    """A body shorter than announced is no answer."""
    service.faults.add(Fault.truncated(), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith("ended early")


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 1000000", b"Transfer-Encoding: chunked\r\n\r\nF4240", b"Connection: close"],
)
def test_an_answer_that_drips(head: bytes, waits: Waits) -> None:
    """Every byte comes in time and the whole never does: given up after its time, once."""
    hurried = _client(waits, timeouts=replace(SHORT, whole=timedelta(seconds=0.3)))

    with peer(drip(head)) as host, pytest.raises(HttpFailure) as caught:
        hurried.exchange(_get(f"http://{host}/"), repeatable=True)

    assert f"the answer of {host} was not complete within 0 seconds" == str(caught.value)
    assert (True, Contact.SILENCE) == (caught.value.maybe_done, caught.value.contact)
    assert [] == waits.seconds


def test_an_answer_without_an_end(client: HttpClient, waits: Waits) -> None:
    """Read up to a size that no answer should have, and not asked for again."""

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            connection.sendall(bytes(CHUNK))

    with peer(flood) as host, pytest.raises(HttpFailure, match="longer than any") as caught:
        client.exchange(_get(f"http://{host}/"), repeatable=True)

    assert caught.value.maybe_done
    assert [] == waits.seconds


def test_a_long_answer(client: HttpClient) -> None:
    """Of the greatest size that is taken: every byte is given."""
    body = bytes(range(256)) * (LONGEST_ANSWER // 256)
    with httpd.HttpService(lambda _: httpd.Response(body=body)) as service:
        answer = client.exchange(_get(service.url + "/"), repeatable=True)

    assert body == answer.body


@pytest.mark.parametrize(("status", "passing"), [(200, True), (404, False), (502, True)])
def test_a_web_page_is_no_answer(
    status: int, passing: object, client: HttpClient, service: httpd.HttpService
) -> None:
    """A gateway's page is told with its status; a refusing one is not asked again."""
    service.faults.add(Fault.html(status), times=None)

    failure = _failure(client, service.url)

    assert str(failure.problem).endswith(f"answered with a web page (status {status})")
    assert passing is failure.maybe_done
    assert passing is (len(service.requests()) > 1)


def test_something_that_is_not_http(client: HttpClient) -> None:
    """Another protocol on the port."""

    def greet(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"220 mail.example.com ESMTP\r\n")

    with peer(greet) as host:
        failure = _failure(client, f"http://{host}/")

    assert f"{host} answered with something that is not HTTP" == str(failure.problem)


def test_a_broken_encoding(client: HttpClient) -> None:
    """A body that is not what its encoding says."""

    def claim_gzip(connection: socket.socket) -> None:
        read_request(connection)
        # It hangs up after that, and says so: who asks again must not do so on this connection.
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
            b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
        )

    with peer(claim_gzip) as host:
        failure = _failure(client, f"http://{host}/")

    assert str(failure.problem).endswith("not HTTP")


def test_a_certificate_that_is_not_trusted(client: HttpClient, waits: Waits) -> None:
    """An untrusted server is not asked again: that would not make it trusted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def shake_hands(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with peer(shake_hands) as host:
        failure = _failure(client, f"https://{host}/")

    assert str(failure.problem).startswith(f"the certificate of {host} is not trusted: unable to")
    assert not failure.maybe_done
    assert [] == waits.seconds


def test_a_port_that_speaks_no_tls(client: HttpClient) -> None:
    """HTTPS to a plain port."""

    def answer_plainly(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with peer(answer_plainly) as host:
        failure = _failure(client, f"https://{host}/")

    assert str(failure.problem).startswith(f"no secure connection to {host}: ")


def test_a_proxy_that_is_not_there(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is used, and named as the culprit."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{_unused_port()}")

    failure = _failure(client, "http://api.example.com/")

    assert "cannot reach api.example.com through the proxy: Connection refused" == str(
        failure.problem
    )
    assert not failure.maybe_done


@pytest.mark.parametrize("url", ["http://[::1/", "no-scheme"])
def test_an_address_that_cannot_be_written(url: str, client: HttpClient, waits: Waits) -> None:
    """A malformed address is not tried twice."""
    failure = _failure(client, url)

    assert not failure.maybe_done
    assert [] == waits.seconds


def test_a_secret_that_cannot_be_written_is_not_shown(client: HttpClient) -> None:
    """The library quotes a bad header's value; we do not."""
    request = Request("GET", "http://127.0.0.1:1/", {"Authorization": f"{SECRET}\nX: y"})

    with pytest.raises(HttpFailure) as caught:
        client.exchange(lambda: request, repeatable=True)

    assert "the request to 127.0.0.1:1 cannot be written" == str(caught.value)


def test_requests_and_answers_do_not_print_what_they_carry() -> None:
    """Neither headers nor bodies are in a repr."""
    request = Request("POST", "https://example.com/", {"Authorization": SECRET}, SECRET.encode())
    answer = Answer(200, {"Set-Cookie": SECRET}, SECRET.encode())

    assert SECRET not in f"{request!r} {answer!r}"
