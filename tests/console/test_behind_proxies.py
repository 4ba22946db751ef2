"""Headers of a proxy: trusted peers, client addresses, and the user named at the unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from starlette.requests import Request

from certferry.config.model import ConsoleSettings
from certferry.console.app import console_app
from certferry.console.guard import peer_of
from certferry.core.access import Role, Token, User, digest_of_secret
from tests.console.serving import Console, asgi, console

AT_SOCKET = {"server": ("/run/certferry/console.sock", None), "client": None}


@pytest.fixture
def at_socket(tmp_path: Path) -> Iterator[Console]:
    """A console with a proxy that names the user in a header."""
    settings = ConsoleSettings(user_header="X-Forwarded-User", url="https://ops.example.com")
    with console(tmp_path, settings) as served:
        served.state.add_user(User("anna", Role.OPERATOR, datetime.now(UTC)))
        yield served


def test_proxy_at_the_socket_names_the_user(at_socket: Console) -> None:
    """A known user is logged in, and an unknown user is refused. A request without a name goes to
    the login page.
    """
    guard = console_app(at_socket.site)
    host = "ops.example.com"

    as_anna = asgi(guard, "/account", AT_SOCKET, Host=host, X_Forwarded_User="anna")
    assert 200 == as_anna["status"]
    cookies = dict(as_anna["headers"])[b"set-cookie"]
    assert cookies.startswith(b"__Host-certferry=")
    for name, status in (("mallory", 403), ("", 303)):
        reply = asgi(guard, "/account", AT_SOCKET, Host=host, X_Forwarded_User=name)
        assert status == reply["status"]


@pytest.mark.parametrize("client", [("127.0.0.1", 5000), ("192.0.2.7", 5000), None])
def test_user_named_at_a_port(client: object, at_socket: Console) -> None:
    """The console ignores the header at a TCP port, because any program on the machine can send the
    header.
    """
    guard = console_app(at_socket.site)
    peer = {"server": ("127.0.0.1", 8080), "client": client}

    reply = asgi(guard, "/account", peer, Host="ops.example.com", X_Forwarded_User="anna")

    assert 303 == reply["status"]


def test_forwarded_host_from_a_stranger(tmp_path: Path) -> None:
    """The console accepts `X-Forwarded-Host` only from a trusted proxy."""
    settings = ConsoleSettings(url="https://ops.example.com", trusted_proxies=("10.0.0.0/8",))
    with console(tmp_path, settings) as served:
        guard = console_app(served.site)
        sent = {"Host": "backend:8080", "X_Forwarded_Host": "ops.example.com"}
        for address, status in (("10.1.2.3", 200), ("::ffff:10.1.2.3", 200), ("192.0.2.7", 421)):
            peer = {"server": ("10.0.0.1", 8080), "client": (address, 5000)}
            assert status == asgi(guard, "/login", peer, **sent)["status"]


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("evil, 192.0.2.7", "192.0.2.7"),
        ("203.0.113.9, 192.0.2.7, 10.0.0.2 , 10.0.0.3", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1, ::ffff:10.0.0.9", "2001:db8::1"),
        ("10.0.0.2", "10.0.0.1"),
        (" , ", "10.0.0.1"),
    ],
)
def test_address_behind_proxies(passed: str, expected: str) -> None:
    """The client has the last forwarded address outside the trusted networks, because the client
    itself may forge earlier addresses. Headers of an untrusted peer are ignored.
    """
    console = ConsoleSettings(trusted_proxies=("10.0.0.0/8",))
    headers = [(b"x-forwarded-for", passed.encode())]
    for client, address in (("10.0.0.1", expected), ("198.51.100.1", "198.51.100.1")):
        scope = {"type": "http", "server": ("10.0.0.9", 80), "client": (client, 1)}

        assert address == peer_of(Request({**scope, "headers": headers}), console).address


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)], ids=["no proxies", "proxies"])
def test_metrics(trusted: tuple[str, ...], tmp_path: Path) -> None:
    """A loopback peer reads `/metrics` without a token, unless the file has trusted proxies. A
    forwarded request needs a token, and may use any host name with the token.
    """
    with console(tmp_path, ConsoleSettings(trusted_proxies=trusted)) as served:
        now = served.site.now()
        served.state.add_token(Token("m", digest_of_secret("cf_m"), "cf_m", Role.VIEWER, now))
        token, name = "Bearer cf_m", "web-1.internal"

        def status(path: str, **headers: str) -> int:
            return served.get(requests.Session(), path, **headers).status_code

        alone = status("/metrics")
        proxied = status("/metrics", X_Forwarded_For="192.0.2.7")
        foreign = status("/metrics", Host=name)

        assert (bool(trusted), 401, 421) == (alone == 401, proxied, foreign)
        assert status("/metrics", Authorization=token, Host=name) in {200, 404}
        assert status("/healthz", Host=name) in {200, 404, 503}
