"""The contract of channels, for every built-in channel at the stand-in of its service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from certferry.core.redaction import Secret
from certferry.ports.notifier import Notifier, RefusedForGood
from certferry.wiring.adapters import CHANNELS, installed
from certferry_sandbox.httpd import HttpService, Request, Response
from certferry_sandbox.messages.mail_server import GONE, PASSWORD, USER, MailServer
from certferry_sandbox.messages.service import MessageService
from certferry_sandbox.testing.contracts.notifier import (
    NotifierContract,
    OnlySendsContract,
    Taken,
    message,
    shown,
    side_effects,
)
from tests.adapters.notify.channels import CASES, Case, Clock, connect, context, nothing_listens

ONLY_SEND = {"dingtalk", "feishu", "wecom", "serverchan", "pushplus", "bark", "telegram", "webhook"}
"""The channels that post to an address, without other effects."""


def test_channels_that_may_speak_from_a_file_that_others_can_write() -> None:
    """A channel with a program or with addresses of a library is excluded. Each of these channels
    passes the contract of a channel that only sends, in the classes below.
    """
    names = installed().names(CHANNELS)
    may_speak = {name for name in names if installed().find(CHANNELS, name).only_sends}

    assert ONLY_SEND | {"email"} == may_speak
    assert ONLY_SEND == {case.kind for case in CASES}


def test_program_and_written_file_are_noticed(tmp_path: Path) -> None:
    """Without the notice, every channel would pass the contract."""
    with side_effects() as effects:
        subprocess.run(["true"], check=True)
        (tmp_path / "file").write_text("")

    assert any("subprocess.Popen" in effect for effect in effects)
    assert f"wrote {tmp_path / 'file'}" in effects


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
class TestHttpChannel(OnlySendsContract):
    """Channels that post JSON."""

    @pytest.fixture
    def service(self, case: Case) -> Iterator[MessageService]:
        """Run the stand-in, at a quiet moment."""
        with case.service() as service:
            service.clock = Clock()
            yield service

    @pytest.fixture
    def taken(self, service: MessageService) -> Taken:
        return lambda: service.taken

    @pytest.fixture
    def notifier(self, case: Case, service: MessageService) -> Notifier:
        return connect(case.kind, context(service.clock), **case.settings(service))

    @pytest.fixture
    def denied(self, case: Case, service: MessageService) -> Notifier:
        return connect(case.kind, context(service.clock), **case.wrong(service))

    @pytest.fixture
    def down(self, case: Case, service: MessageService) -> Notifier:
        settings = case.settings(service)
        service.stop()
        return connect(case.kind, **settings)

    @pytest.fixture
    def secrets(self, case: Case) -> Collection[str]:
        """Return the keys, and the secret parts of addresses."""
        return (*case.secrets, "127.0.0.1")


@pytest.mark.parametrize("tls", ["smtps", "starttls"])
class TestMail(OnlySendsContract):
    """SMTP, with TLS from the start or after STARTTLS."""

    @pytest.fixture
    def server(self, tls: str) -> Iterator[MailServer]:
        with MailServer(tls) as server:
            yield server

    @pytest.fixture
    def settings(self, server: MailServer, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "ca.pem").write_text(server.authority.root_pem)
        return {
            "url": server.url,
            "user": USER,
            "password": Secret(PASSWORD),
            "from_": USER,
            "to": ("night@example.com",),
            "ca_bundle": tmp_path / "ca.pem",
        }

    @pytest.fixture
    def taken(self, server: MailServer) -> Taken:
        return lambda: server.taken

    @pytest.fixture
    def notifier(self, settings: dict[str, Any]) -> Notifier:
        return connect("email", **settings)

    @pytest.fixture
    def denied(self, settings: dict[str, Any]) -> Notifier:
        """Return a channel to a removed address."""
        return connect("email", **settings | {"to": (GONE,)})

    @pytest.fixture
    def down(self, settings: dict[str, Any]) -> Iterator[Notifier]:
        """Return a channel to a server that is down."""
        with nothing_listens() as port:
            yield connect("email", **settings | {"url": f"smtps://localhost:{port}"})

    @pytest.fixture
    def secrets(self) -> Collection[str]:
        return (PASSWORD,)


class TestCommand(NotifierContract):
    """A program of the operator's."""

    @pytest.fixture
    def taken(self, tmp_path: Path) -> Taken:
        def given() -> list[str]:
            files = sorted(tmp_path.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
            messages = [json.loads(path.read_text()) for path in files]
            return [json.dumps(fields, ensure_ascii=False) for fields in messages]

        return given

    @pytest.fixture
    def notifier(self, tmp_path: Path) -> Notifier:
        script = (
            "import pathlib, sys, uuid;"
            f"pathlib.Path({str(tmp_path)!r}, uuid.uuid4().hex + '.json')"
            ".write_bytes(sys.stdin.buffer.read())"
        )
        return connect("command", command=(sys.executable, "-c", script))

    @pytest.fixture
    def denied(self) -> Notifier:
        """Return a program that fails without reading."""
        return connect("command", command=("false",))

    def test_a_service_that_does_not_answer(self, down: Notifier, secrets: Collection[str]) -> None:
        """A missing program stays missing, so the refusal is final."""
        assert isinstance(down.send(message()), RefusedForGood)

    @pytest.fixture
    def down(self) -> Notifier:
        """Return a missing program."""
        return connect("command", command=("/no/such/program",))

    @pytest.fixture
    def secrets(self) -> Collection[str]:
        """A program has no secrets."""
        return ()


# The library imports all its services, which use deprecated parts of Python.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestApprise(NotifierContract):
    """The library, posting JSON to a server that accepts every certificate."""

    @pytest.fixture
    def bodies(self) -> list[str]:
        return []

    @pytest.fixture
    def service(self, bodies: list[str]) -> Iterator[HttpService]:
        def answer(request: Request) -> Response:
            if request.path != "/hook":
                return Response.json({}, 403)
            fields = json.loads(request.body)
            bodies.append(f"{fields['title']}\n{fields['message']}")
            return Response.json({})

        with HttpService(answer) as service:
            yield service

    @pytest.fixture
    def taken(self, bodies: list[str]) -> Taken:
        return lambda: bodies

    @pytest.fixture
    def notifier(self, service: HttpService) -> Notifier:
        return connect("apprise", url=Secret(service.url.replace("http", "json") + "/hook"))

    @pytest.fixture
    def denied(self, service: HttpService) -> Notifier:
        return connect("apprise", url=Secret(service.url.replace("http", "json") + "/other"))

    @pytest.fixture
    def down(self) -> Iterator[Notifier]:
        """Return a channel to a port without a listener."""
        with nothing_listens() as port:
            yield connect("apprise", url=Secret(f"json://127.0.0.1:{port}/other"))

    def test_a_service_that_does_not_answer(self, down: Notifier, secrets: Collection[str]) -> None:
        """Apprise reports silence and refusal in the same way."""
        answered = down.send(message())

        assert isinstance(answered, RefusedForGood)
        assert set() == shown(answered, secrets)

    @pytest.fixture
    def secrets(self) -> Collection[str]:
        return ("127.0.0.1", "/other")
