"""Mail: TLS is required, and a refused recipient is a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certferry.core.assessment.notices import Message
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry_sandbox.messages.mail_server import GONE, GREY, PASSWORD, USER, MailServer
from certferry_sandbox.testing.contracts.notifier import message
from tests.adapters.notify.channels import connect

NIGHT, DAY = "night@example.com", "day@example.com"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer("starttls") as server:
        yield server


def send(server: MailServer, folder: Path, *to: str, **settings: Any) -> Answered:
    bundle = folder / "ca.pem"
    bundle.write_text(server.authority.root_pem)
    defaults = {"user": USER, "password": Secret(PASSWORD), "from_": USER, "ca_bundle": bundle}
    arguments = {"url": server.url, "to": to or (NIGHT,), **defaults, **settings}
    return connect("email", **arguments).send(message())


def test_server_without_tls(tmp_path: Path) -> None:
    """Password, sender and content are never sent over a plain connection."""
    with MailServer("never") as server:
        answer = send(server, tmp_path)

    assert isinstance(answer, RefusedForGood)
    assert "does not offer TLS" in str(answer.problem)
    assert {"EHLO"} >= set(server.in_the_clear)


def test_untrusted_server(server: MailServer, tmp_path: Path) -> None:
    """The certificate belongs to another host, so certferry sends no password."""
    answer = send(server, tmp_path, ca_bundle=None)

    assert isinstance(answer, RefusedForGood)
    assert "not trusted" in str(answer.problem)
    assert {"EHLO", "STARTTLS"} == set(server.in_the_clear)
    assert [] == server.mails


def test_wrong_password(server: MailServer, tmp_path: Path) -> None:
    """The error is reported and hides the password."""
    answer = send(server, tmp_path, password=Secret("wrong-wrong-wrong"))

    assert isinstance(answer, RefusedForGood)
    assert "535" in str(answer.problem)
    assert "`password`" in str(answer.hint)
    assert "wrong-wrong" not in str(answer.problem)


def test_server_that_requires_a_login(server: MailServer, tmp_path: Path) -> None:
    """The server refuses a sender without a login."""
    answer = send(server, tmp_path, user="", password=None)

    assert isinstance(answer, RefusedForGood)
    assert "530" in str(answer.problem)


def test_one_of_several_recipients_is_refused(server: MailServer, tmp_path: Path) -> None:
    """The other recipients have the mail, so the refusal is partial and the mail is sent once."""
    answer = send(server, tmp_path, NIGHT, GONE, DAY)

    assert isinstance(answer, RefusedForGood)
    assert answer.partly
    assert GONE in str(answer.hint)
    assert [[NIGHT, DAY]] == server.recipients


def test_temporarily_refused_recipient(server: MailServer, tmp_path: Path) -> None:
    """To this recipient alone the mail is sent later; among others, the mail is refused in part."""
    alone = send(server, tmp_path, GREY)
    with_others = send(server, tmp_path, GREY, NIGHT)

    assert isinstance(alone, AgainAt)
    assert isinstance(with_others, RefusedForGood)
    assert with_others.partly
    assert [[NIGHT]] == server.recipients


def test_headers_and_content_of_a_mail(server: MailServer, tmp_path: Path) -> None:
    """The mail names sender, recipients and its automatic origin, and keeps Chinese text."""
    assert Sent() == send(server, tmp_path, NIGHT, DAY)

    (mail,) = server.mails
    assert (USER, f"{NIGHT}, {DAY}") == (mail["From"], mail["To"])
    assert "auto-generated" == mail["Auto-Submitted"]
    assert mail["Message-ID"].endswith("@example.com>")
    assert "问题 (1)" in mail["Subject"]
    assert "问题" in mail.get_content()


def test_line_with_a_single_dot(server: MailServer, tmp_path: Path) -> None:
    """The line does not end the mail (RFC 5321 §4.5.2)."""
    (tmp_path / "ca.pem").write_text(server.authority.root_pem)
    channel = connect(
        "email",
        url=server.url,
        from_=USER,
        to=(NIGHT,),
        user=USER,
        password=Secret(PASSWORD),
        ca_bundle=tmp_path / "ca.pem",
    )

    assert Sent() == channel.send(Message("t", ("before\n.\n..after",)))
    assert "before\n.\n..after" in server.taken[0].replace("\r", "")


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "localhost:25"},
        {"url": "smtp://user:pass@localhost"},
        {"url": "smtps://[::1"},
        {"to": ()},
        {"password": None},
        {"user": ""},
    ],
    ids=str,
)
def test_unusable_settings(settings: dict[str, Any]) -> None:
    """The error comes when the channel is connected."""
    defaults = {"url": "smtps://localhost", "user": USER, "password": Secret(PASSWORD)}
    with pytest.raises(ConfigError):
        connect("email", **{"from_": USER, "to": (NIGHT,), **defaults, **settings})


def test_command_without_a_program() -> None:
    """The error comes when the channel is connected."""
    with pytest.raises(ConfigError):
        connect("command", command=())


ABROAD = "值班@例子.example"


@pytest.mark.parametrize("kind", ["smtps", "starttls"])
def test_addresses_beyond_ascii(tmp_path: Path, kind: str) -> None:
    """A server with SMTPUTF8 accepts the addresses (RFC 6531)."""
    with MailServer(kind, international=True) as server:
        assert Sent() == send(server, tmp_path, ABROAD, NIGHT)

    assert [[ABROAD, NIGHT]] == server.recipients
    assert f"{ABROAD}, {NIGHT}" == server.mails[0]["To"]


def test_addresses_beyond_ascii_at_an_old_server(server: MailServer, tmp_path: Path) -> None:
    """The error names the address, and the hint shows the ASCII form."""
    for settings in ({"to": (NIGHT, ABROAD)}, {"from_": ABROAD}):
        answer = send(server, tmp_path, **settings)

        assert isinstance(answer, RefusedForGood)
        assert f"(SMTPUTF8), for example {ABROAD}" in str(answer.problem)
        assert "xn--" in str(answer.hint)
    assert [] == server.mails


def test_password_beyond_ascii(server: MailServer, tmp_path: Path) -> None:
    """The library only sends ASCII; the error hides the password."""
    answer = send(server, tmp_path, password=Secret("schlüssel-schlüssel"))

    assert isinstance(answer, RefusedForGood)
    assert "non-ASCII" in str(answer.problem)
    assert "schl" not in str(answer.problem)


def test_connection_without_a_login_begins_with_a_greeting(tmp_path: Path) -> None:
    """The client asks for the server's extensions before the mail."""
    with MailServer("smtps") as server:
        answer = send(server, tmp_path, user="", password=None)

    assert isinstance(answer, RefusedForGood)
    assert "Authentication required" in str(answer.problem)
