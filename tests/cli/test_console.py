"""`certferry console`: users and tokens, in sentences and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.config.load import load
from certferry.core.access import Role, Session, digest_of_secret
from certferry.core.observed.records import ACCESS, VerifiedHistory
from certferry.ports.state import StateStore
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import who_runs
from tests.cli.consoles import TestConsole
from tests.support.schemas import must_fit

Command = Callable[..., TestConsole]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a configuration without certificates, with a state in a file."""
    path = tmp_path / "certferry.toml"
    path.write_text(f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n')
    path.chmod(0o600)
    return tmp_path


@pytest.fixture
def console(folder: Path) -> Command:
    """Return a function that runs `certferry console` and checks the exit code."""

    def command(*words: str, code: Exit = Exit.OK, before: tuple[str, ...] = ()) -> TestConsole:
        console = TestConsole()
        arguments = ["--config", str(folder / "certferry.toml"), *before, "console", *words]
        assert code == run(arguments, console.console), console.err
        return console

    return command


def stored(folder: Path) -> closing[StateStore]:
    return closing(connect(folder / "state.db", folder / "secret.key"))


def secret_in(link: str) -> str:
    """Return the secret of a link, which is the only line on stdout."""
    before, _, secret = link.removesuffix("\n").partition("/welcome/")
    assert "http://127.0.0.1:8080" == before
    assert "\n" not in secret
    return secret


def test_added_user_gets_a_link(console: Command, folder: Path) -> None:
    """The link is the only line on stdout, also with `-q`, and is valid for the user for an
    hour.
    """
    verbose = console("user", "add", "Anna")
    quiet = console("user", "add", "bob", "--role", "viewer", before=("-q",))

    assert "Anna can see everything and start runs." in verbose.err
    assert "valid once, for an hour" in verbose.err
    assert "" == quiet.err
    with stored(folder) as state:
        [anna, bob] = state.users()
        now = state.now()
        for link, user in ((verbose.out, anna), (quiet.out, bob)):
            link_of_user = state.link(digest_of_secret(secret_in(link)), now)
            assert link_of_user is not None
            assert user.name == link_of_user.user
            assert timedelta(minutes=59) < link_of_user.expires_at - now <= timedelta(hours=1)
        assert (
            state.link(digest_of_secret(secret_in(verbose.out)), now + timedelta(hours=1)) is None
        )
    assert [Role.OPERATOR, Role.VIEWER] == [anna.role, bob.role]


def test_new_link_replaces_the_password(console: Command, folder: Path) -> None:
    """A new link replaces the previous link and the password, and ends the user's sessions."""
    first = console("user", "add", "Anna").out
    with stored(folder) as state:
        now = state.now()
        state.choose_password(digest_of_secret(secret_in(first)), "hash", now)
        state.save_session(Session("a session", "Anna", now, now, "192.0.2.7"))
    second = console("user", "reset", "ANNA")

    assert "Anna has been logged out, and the old password no longer works." in second.err
    with stored(folder) as state:
        [anna] = state.users()
        assert anna.password is None
        assert state.link(digest_of_secret(secret_in(first)), state.now()) is None
        assert state.link(digest_of_secret(secret_in(second.out)), state.now()) is not None
        assert state.session("a session", now) is None


def test_changes_of_users_and_tokens_are_in_the_history(console: Command, folder: Path) -> None:
    """Each entry has the name and the role, and the user of this machine, and the chain of entries
    is unbroken.
    """
    for words in (
        "user add Anna",
        "user role anna viewer",
        "user reset anna",
        "token add ci --role viewer --days 3",
        "token remove CI",
        "user remove anna",
    ):
        console(*words.split())
    with stored(folder) as state:
        entries = state.history(ACCESS, 10)
        assert VerifiedHistory(6, 1, of_console=6) == state.verify_history()

    user, token = {"user": "Anna"}, {"token": "ci"}
    assert [
        ("user removed", user),
        ("token removed", token),
        ("token added", token | {"role": "viewer"}),
        ("user reset", user),
        ("role changed", user | {"role": "viewer"}),
        ("user added", user | {"role": "operator"}),
    ] == [(entry.event, entry.facts) for entry in entries]
    assert {who_runs(load(folder / "certferry.toml", {}, ADAPTERS))} == {
        entry.who for entry in entries
    }


def test_user_is_changed_and_removed(console: Command, folder: Path) -> None:
    """The name is found in any case."""
    console("user", "add", "Anna")
    output = console("user", "role", "anna", "viewer").out
    assert "Anna can see everything.\n" == output
    with stored(folder) as state:
        assert [Role.VIEWER] == [user.role for user in state.users()]

    assert (
        "Anna has been removed and logged out everywhere.\n"
        == console("user", "remove", "aNNa").out
    )
    with stored(folder) as state:
        assert () == state.users()


def test_users_are_listed(console: Command) -> None:
    """The list is a table, or a document that fits its schema."""
    assert "certferry.toml console user add NAME" in console("user", "list").out
    empty = json.loads(console("user", "list", "--json").out)
    assert {"users": []} == empty

    console("user", "add", "bob", "--role", "viewer")
    console("user", "add", "Anna")
    table = console("user", "list").out.splitlines()
    assert ["USER", "ROLE", "PASSWORD", "CHOSEN", "LAST", "SEEN"] == table[0].split()
    assert ["Anna", "operator", "—", "—"] == table[1].split()
    assert ["bob", "viewer", "—", "—"] == table[2].split()
    document = json.loads(console("user", "list", "--json").out)
    must_fit(document, "users")
    assert ["Anna", "bob"] == [user["name"] for user in document["users"]]
    assert document["users"][0]["password_at"] is None


def test_added_token_is_printed_once(console: Command, folder: Path) -> None:
    """The token is the only line on stdout and is never printed again; the token has a role, and
    optionally an end.
    """
    added = console("token", "add", "ci", "--role", "viewer", "--days", "30")
    token = added.out.removesuffix("\n")

    assert token.startswith("cf_")
    assert "ci can see everything." in added.err
    assert "not shown again" in added.err
    with stored(folder) as state:
        stored_token = state.token(digest_of_secret(token), now := state.now())
        assert stored_token is not None
        assert stored_token.expires_at is not None
        assert Role.VIEWER == stored_token.role
        assert timedelta(days=29) < stored_token.expires_at - now <= timedelta(days=30)
    console("token", "add", "deploy")
    assert token not in console("token", "list").out + console("token", "list", "--json").out


def test_tokens_are_listed_and_removed(console: Command, folder: Path) -> None:
    """A list shows the beginnings of tokens, as a table and as a document."""
    assert "certferry.toml console token add NAME" in console("token", "list").out
    token = console("token", "add", "CI", "--days", "1").out.removesuffix("\n")
    console("token", "add", "deploy")

    document = json.loads(console("token", "list", "--json").out)
    must_fit(document, "tokens")
    assert ["CI", "deploy"] == [entry["name"] for entry in document["tokens"]]
    assert [token[:8], False] == [document["tokens"][0][key] for key in ("begins", "expired")]
    assert document["tokens"][1]["expires_at"] is None
    assert token[:8] + "…" in console("token", "list").out

    assert "Token CI has been removed.\n" == console("token", "remove", "ci").out
    with stored(folder) as state:
        assert ["deploy"] == [remaining.name for remaining in state.tokens()]
        assert state.token(digest_of_secret(token), state.now()) is None


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("user add anna", "the user anna already exists", "certferry.toml console user reset anna"),
        ("user reset Ana", "there is no user Ana", "did you mean `Anna`?"),
        ("user remove bob", "there is no user bob", "known: Anna"),
        ("user role bob viewer", "there is no user bob", "known: Anna"),
        ("user role anna boss", "'boss' is not one of", "--help"),
        ("user add a/b", "'a/b' cannot be a name: use 1 to 64 of A–Z", "--help"),
        ("user add", "missing argument 'NAME'", "--help"),
        (f"token add {'x' * 65}", "cannot be a name", "--help"),
        ("token add CI", "the token CI already exists", "certferry.toml console token remove CI"),
        ("token add x --days 0", "0 is not in the range", "--help"),
        ("token add x --days soon", "'soon' is not a whole number", "--help"),
        ("token remove x", "there is no token x", "known: ci"),
        ("user ad", "no such command: ad", "did you mean"),
    ],
)
def test_mistake_has_a_hint(
    console: Command, folder: Path, words: str, message: str, hint: str
) -> None:
    """The error is one sentence with a hint, and nothing is changed."""
    console("user", "add", "Anna")
    console("token", "add", "ci")
    with stored(folder) as state:
        before = state.users(), state.tokens()

    result = console(*words.split(), code=Exit.USAGE)

    assert f"error: {message}" in result.err or message in result.err.splitlines()[0]
    assert hint in result.err
    assert "" == result.out
    with stored(folder) as state:
        assert before == (state.users(), state.tokens())


def test_unknown_user_without_any_users(console: Command) -> None:
    """The error omits the list of known names."""
    assert "known" not in console("user", "reset", "anna", code=Exit.USAGE).err


def test_console_at_another_address(console: Command, folder: Path) -> None:
    """The link has the address of the console for browsers."""
    file = folder / "certferry.toml"
    file.write_text(file.read_text() + '[console]\nurl = "https://ops.example.com/certs/"\n')

    assert console("user", "add", "anna").out.startswith("https://ops.example.com/certs/welcome/")
