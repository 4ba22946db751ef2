"""Requests of the HTTP client that fail, and what is told of them."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from datetime import timedelta

import pytest
import trustme

from certferry.adapters.http.bounds import CHUNK, LONGEST_ANSWER
from certferry.adapters.http.client import HttpClient, Request
from certferry.adapters.http.problems import Contact, HttpFailure
from certferry.ports.http import Answer
from certferry_sandbox import httpd
from certferry_sandbox.faults import Fault
from tests.adapters.http.calls import SECRET, SHORT, get, new_client, post, unused_port
from tests.adapters.http.peers import drip, peer, read_request
from tests.adapters.waits import Waits

# --- what is said ---------------------------------------------------------------------------


def _failure(client: HttpClient, url: str, *, repeatable: bool = True) -> HttpFailure:
    with pytest.raises(HttpFailure) as caught:
        client.exchange(post(url), repeatable=repeatable)
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.problem!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


def test_a_refused_connection(client: HttpClient, waits: Waits) -> None:
    """Nothing was done, so even an upload is tried again before it is given up."""
    host = f"127.0.0.1:{unused_port()}"

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
    hurried = new_client(waits, timeouts=replace(SHORT, whole=timedelta(seconds=0.3)))

    with peer(drip(head)) as host, pytest.raises(HttpFailure) as caught:
        hurried.exchange(get(f"http://{host}/"), repeatable=True)

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
        client.exchange(get(f"http://{host}/"), repeatable=True)

    assert caught.value.maybe_done
    assert [] == waits.seconds


def test_a_long_answer(client: HttpClient) -> None:
    """Of the greatest size that is taken: every byte is given."""
    body = bytes(range(256)) * (LONGEST_ANSWER // 256)
    with httpd.HttpService(lambda _: httpd.Response(body=body)) as service:
        answer = client.exchange(get(service.url + "/"), repeatable=True)

    assert body == answer.body


@pytest.mark.parametrize(
    ("status", "passing"), [(200, True), (404, False), (408, True), (502, True)]
)
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
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")

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
