"""The HTTP service of the stand-ins: exact requests, a journal, faults, a clean end."""

from __future__ import annotations

import contextlib
import gc
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
import requests

from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Request, Response


class Echo:
    """A handler that answers with its request and counts its work."""

    def __init__(self) -> None:
        self.worked: list[str] = []

    def __call__(self, request: Request) -> Response:
        self.worked.append(request.label)
        if request.path == "/broken":
            raise ValueError("a defect of the stand-in")
        return Response.json(
            {
                "path": request.path,
                "query": request.query,
                "host": request.headers["host"],
                "body": request.body.decode(),
            },
            X_Seen="yes",
        )


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def service(echo: Echo) -> Iterator[HttpService]:
    with HttpService(echo) as running:
        yield running


@pytest.fixture
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def raw_get(service: HttpService, target: str) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=5)
    with contextlib.closing(connection):
        connection.putrequest("GET", target, skip_accept_encoding=True)
        connection.endheaders()
        return connection.getresponse().read()


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/domain/.example.com?marker=&limit=10", "/domain/.example.com", "marker=&limit=10"),
        ("//a//b%2Fc/?x=%20&y=+", "//a//b%2Fc/", "x=%20&y=+"),
        ("/a/../b?", "/a/../b", ""),
    ],
)
def test_request_target_arrives_as_sent(
    service: HttpService, target: str, path: str, query: str
) -> None:
    """Neither path nor query is decoded, collapsed or normalised, since signatures cover both."""
    raw_get(service, target)

    assert [(path, query)] == [(r.path, r.query) for r in service.requests()]


def test_headers_are_found_in_any_case(service: HttpService, client: requests.Session) -> None:
    """Header names are compared without case and keep their spelling."""
    client.get(service.url, headers={"X-Qiniu-Date": "now"}, timeout=5)

    headers = service.requests()[0].headers
    assert "now" == headers["x-qiniu-date"] == headers["X-QINIU-DATE"]
    assert "X-Qiniu-Date" in list(headers)
    assert "X-Absent" not in headers
    assert None is headers.get("X-Absent")
    assert len(list(headers)) == len(headers)


def test_head_is_an_answer_without_its_body(service: HttpService, client: requests.Session) -> None:
    """The head is that of GET, no body follows, and the connection goes on (RFC 9110 §9.3.2)."""
    head = client.head(service.url + "/a", timeout=5)
    answer = client.get(service.url + "/a", timeout=5)

    assert (200, b"", "yes") == (head.status_code, head.content, head.headers["X-Seen"])
    assert str(len(answer.content)) == head.headers["Content-Length"]
    assert ["HEAD /a", "GET /a"] == [request.label for request in service.requests()]
    assert [] == service.writes()


def test_journal_and_writes(service: HttpService, client: requests.Session) -> None:
    """Every exchange is stored with time and status; writes are POST, PUT and DELETE."""
    before = datetime.now(UTC)
    client.get(service.url + "/a", timeout=5)
    client.post(service.url + "/b", timeout=5)
    client.put(service.url + "/c", timeout=5)
    client.delete(service.url + "/d", timeout=5)

    assert ["GET /a", "POST /b", "PUT /c", "DELETE /d"] == [
        c.request.label for c in service.journal
    ]
    assert {200} == {c.status for c in service.journal}
    assert all(before <= c.at <= datetime.now(UTC) for c in service.journal)
    assert ["POST /b", "PUT /c", "DELETE /d"] == [r.label for r in service.writes()]
    assert ["PUT /c"] == [r.label for r in service.requests("PUT *")]


def test_request_does_not_print_its_secrets() -> None:
    """The repr hides body and headers, which carry private keys and tokens."""
    request = Request("POST", "/sslcert", body=b"PRIVATE KEY")

    assert "PRIVATE" not in repr(request)
    assert "/sslcert" in repr(request)


def test_chunked_body_is_refused(service: HttpService, client: requests.Session) -> None:
    """A body of undeclared length cannot be signed for, and gets 411."""
    answer = client.post(service.url, data=iter([b"a", b"b"]), timeout=5)

    assert 411 == answer.status_code


def test_body_that_ends_early_is_no_request(service: HttpService, echo: Echo) -> None:
    """A client that hangs up in the middle of its body is ignored."""
    with socket.create_connection(("127.0.0.1", urlsplit(service.url).port or 0)) as half:
        half.sendall(b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        half.shutdown(socket.SHUT_WR)
        assert b"" == half.recv(1)

    assert [] == echo.worked
    assert [] == service.journal


def test_defect_in_the_handler_answers_500(
    service: HttpService, client: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """A stand-in that raises answers 500, logs the failure, and goes on."""
    assert 500 == client.get(service.url + "/broken", timeout=5).status_code
    assert "stand-in failed on GET /broken" in caplog.text
    assert 200 == client.get(service.url, timeout=5).status_code


def test_faults_are_taken_in_order_by_pattern(
    service: HttpService, client: requests.Session
) -> None:
    """A fault waits for a matching request, as often as declared, until cleared."""
    service.faults.add(Fault.status(503), on="PUT /domain/*/httpsconf", times=2)
    service.faults.add(Fault.status(500), on="GET *", times=None)
    domain = service.url + "/domain/a.test/httpsconf"

    assert 500 == client.get(domain, timeout=5).status_code
    assert 200 == client.put(service.url + "/domain/a.test/sslize", timeout=5).status_code
    assert [503, 503, 200] == [client.put(domain, timeout=5).status_code for _ in range(3)]
    assert 500 == client.get(domain, timeout=5).status_code
    service.faults.clear()
    assert 200 == client.get(domain, timeout=5).status_code


def test_stop_closes_idle_and_busy_connections_at_once() -> None:
    """Neither a kept-alive connection nor a long delay delays the end, and every socket is
    closed.
    """
    service = HttpService(lambda _: Response()).start()
    idle = socket.create_connection(("127.0.0.1", urlsplit(service.url).port or 0))
    service.faults.add(Fault.delay(60), on="GET /slow")
    busy = threading.Thread(target=_get_quietly, args=(service.url + "/slow",))
    busy.start()
    _wait_until(lambda: bool(service.journal))

    started = time.monotonic()
    service.stop()
    service.stop()
    took = time.monotonic() - started

    busy.join(5)
    assert 2 > took
    assert b"" == idle.recv(1)
    idle.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = service.url
    gc.collect()  # a leaked socket would warn here, and warnings are errors


def _get_quietly(url: str) -> None:
    with contextlib.suppress(requests.RequestException):
        requests.get(url, timeout=10)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("fault", "worked", "status", "noted"),
    [
        (Fault.delay(0.05), True, 200, 200),
        (Fault.reset_before(), False, None, None),
        (Fault.reset_after(), True, None, None),
        (Fault.truncated(), True, None, 200),
        (Fault.status(612, b"{}", headers=[("X-Reqid", "r")]), False, 612, 612),
        (Fault.html(), False, 502, 502),
        (Fault.too_many(7), False, 429, 429),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Fault) else None,
)
def test_fault(
    service: HttpService,
    client: requests.Session,
    echo: Echo,
    fault: Fault,
    status: int | None,
    noted: int | None,
    *,
    worked: bool,
) -> None:
    """Each fault decides about the work, the answer and the journal, which has no status for a
    reset. The next request is answered as usual.
    """
    service.faults.add(fault)
    with contextlib.nullcontext() if status else pytest.raises(requests.RequestException):
        answer = client.post(service.url, timeout=5)
        assert status == answer.status_code
        assert answer.headers.get("X-Reqid") == ("r" if status == 612 else None)
        assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)

    assert worked == bool(echo.worked)
    assert [noted] == [exchange.status for exchange in service.journal]
    assert 200 == client.get(service.url, timeout=5).status_code
