"""Mail: nothing without TLS, and a refusal of one recipient is a refusal."""

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
    usual = {"user": USER, "password": Secret(PASSWORD), "from_": USER, "ca_bundle": bundle}
    written = {"url": server.url, "to": to or (NIGHT,), **usual, **settings}
    return connect("email", **written).send(message())


def test_server_without_tls(tmp_path: Path) -> None:
    """Nothing is sent in the clear: no password, no sender, no word."""
    with MailServer("never") as server:
        answered = send(server, tmp_path)

    assert isinstance(answered, RefusedForGood)
    assert "does not offer TLS" in str(answered.problem)
    assert {"EHLO"} >= set(server.in_the_clear)


def test_server_that_is_not_trusted(server: MailServer, tmp_path: Path) -> None:
    """Its certificate is another host's: certferry does not send it the password."""
    answered = send(server, tmp_path, ca_bundle=None)

    assert isinstance(answered, RefusedForGood)
    assert "not trusted" in str(answered.problem)
    assert {"EHLO", "STARTTLS"} == set(server.in_the_clear)
    assert [] == server.mails


def test_wrong_password(server: MailServer, tmp_path: Path) -> None:
    """It is reported, and not shown."""
    answered = send(server, tmp_path, password=Secret("wrong-wrong-wrong"))

    assert isinstance(answered, RefusedForGood)
    assert "535" in str(answered.problem)
    assert "`password`" in str(answered.hint)
    assert "wrong-wrong" not in str(answered.problem)


def test_server_that_wants_a_login(server: MailServer, tmp_path: Path) -> None:
    """Without one it refuses the sender."""
    answered = send(server, tmp_path, user="", password=None)

    assert isinstance(answered, RefusedForGood)
    assert "530" in str(answered.problem)


def test_one_of_several_recipients_is_refused(server: MailServer, tmp_path: Path) -> None:
    """The others have the mail, and it counts as refused: in part, so it is not sent again."""
    answered = send(server, tmp_path, NIGHT, GONE, DAY)

    assert isinstance(answered, RefusedForGood)
    assert answered.partly
    assert GONE in str(answered.hint)
    assert [[NIGHT, DAY]] == server.recipients


def test_recipient_that_may_be_written_to_later(server: MailServer, tmp_path: Path) -> None:
    """Alone, the mail is sent later; with others, who have it, it is refused in part."""
    alone = send(server, tmp_path, GREY)
    with_others = send(server, tmp_path, GREY, NIGHT)

    assert isinstance(alone, AgainAt)
    assert isinstance(with_others, RefusedForGood)
    assert with_others.partly
    assert [[NIGHT]] == server.recipients


def test_what_the_mail_says_of_itself(server: MailServer, tmp_path: Path) -> None:
    """Who it is from and to, that a program wrote it, and Chinese as it is."""
    assert Sent() == send(server, tmp_path, NIGHT, DAY)

    (mail,) = server.mails
    assert (USER, f"{NIGHT}, {DAY}") == (mail["From"], mail["To"])
    assert "auto-generated" == mail["Auto-Submitted"]
    assert mail["Message-ID"].endswith("@example.com>")
    assert "问题 (1)" in mail["Subject"]
    assert "问题" in mail.get_content()


def test_line_that_is_a_dot(server: MailServer, tmp_path: Path) -> None:
    """It does not end the mail (RFC 5321 §4.5.2)."""
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
def test_settings_that_can_be_none(settings: dict[str, Any]) -> None:
    """They are reported when the channel is connected."""
    usual = {"url": "smtps://localhost", "user": USER, "password": Secret(PASSWORD)}
    with pytest.raises(ConfigError):
        connect("email", **{"from_": USER, "to": (NIGHT,), **usual, **settings})


def test_command_that_names_no_program() -> None:
    """The same, of the operator's own program."""
    with pytest.raises(ConfigError):
        connect("command", command=())


ABROAD = "值班@例子.example"


@pytest.mark.parametrize("kind", ["smtps", "starttls"])
def test_addresses_beyond_ascii(tmp_path: Path, kind: str) -> None:
    """They are written to where the server takes them (RFC 6531)."""
    with MailServer(kind, international=True) as server:
        assert Sent() == send(server, tmp_path, ABROAD, NIGHT)

    assert [[ABROAD, NIGHT]] == server.recipients
    assert f"{ABROAD}, {NIGHT}" == server.mails[0]["To"]


def test_addresses_beyond_ascii_that_the_server_does_not_take(
    server: MailServer, tmp_path: Path
) -> None:
    """The error says which, and what to write; it is no mistake of the adapter's."""
    for settings in ({"to": (NIGHT, ABROAD)}, {"from_": ABROAD}):
        answered = send(server, tmp_path, **settings)

        assert isinstance(answered, RefusedForGood)
        assert f"(SMTPUTF8), for example {ABROAD}" in str(answered.problem)
        assert "xn--" in str(answered.hint)
    assert [] == server.mails


def test_password_beyond_ascii(server: MailServer, tmp_path: Path) -> None:
    """The library cannot send it, which is reported without it."""
    answered = send(server, tmp_path, password=Secret("schlüssel-schlüssel"))

    assert isinstance(answered, RefusedForGood)
    assert "non-ASCII" in str(answered.problem)
    assert "schl" not in str(answered.problem)


def test_server_without_a_login_is_greeted(tmp_path: Path) -> None:
    """What it takes is asked for before a mail is begun."""
    with MailServer("smtps") as server:
        answered = send(server, tmp_path, user="", password=None)

    assert isinstance(answered, RefusedForGood)
    assert "Authentication required" in str(answered.problem)
