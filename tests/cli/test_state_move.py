"""`certferry state move` and `state key --rotate`: the output, and the lines to write."""

from __future__ import annotations

import os
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.adapters.state.sealing import new_key
from certferry.cli.exits import Exit
from certferry_sandbox.s3 import S3Service
from tests.adapters.state.child_program import NOW
from tests.adapters.state.every_row import store_everything
from tests.support.command import Ended, run_here
from tests.support.postgresql import KEY, Postgresql

NEW = new_key()
CERTIFICATE = """\
[[certificates]]
name = "img"
fullchain = "fullchain.pem"
privkey = "privkey.pem"
[[certificates.deploy]]
to = "files"
directory = "served"
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return a host with a state in a file, with another name than at the time of the state's
    creation.
    """
    folder = tmp_path / "host"
    folder.mkdir(0o700)
    with closing(connect(folder / "state.db", folder / "secret.key", host="web-1")) as store:
        store_everything(store)
    return configured(folder, '[state]\nurl = "sqlite:///state.db"\nhost = "renamed"')


def configured(folder: Path, state: str) -> Path:
    path = folder / "certferry.toml"
    path.write_text(f"{state}\n{CERTIFICATE}")
    path.chmod(0o600)
    return folder


def run(host: Path, *arguments: str, **variables: str) -> Ended:
    environ = {"HOME": str(host), "PATH": os.environ["PATH"], "KEY": KEY.reveal(), "NEW": NEW}
    return run_here(("--lang", "en", *arguments), environ | variables, host)


def table_in(output: str) -> str:
    """Return the table to write from the output."""
    return output[output.index("[state]") : output.index("\n", output.rindex(' = "'))]


def test_move_to_a_server(host: Path, postgresql: Postgresql) -> None:
    """The printed lines work and have the host's name; before the lines are written, every command
    names the new place of the state.
    """
    name = postgresql.new_database()
    url = postgresql.url(name)

    moved = run(host, "state", "move", url, "--key", "env:KEY")

    assert (Exit.OK, "") == (moved.code, moved.err)
    assert f"Moved to postgresql:///{name}" in moved.out
    assert {"state": {"url": url, "key": "env:KEY", "host": "web-1"}} == tomllib.loads(
        table_in(moved.out)
    )
    for command in ("status", "history", "plan", "sync", "state check", "state init"):
        ended = run(host, *command.split())
        assert Exit.USAGE == ended.code
        assert f"state.db was moved to postgresql:///{name}" in ended.err
        assert "`url` of [state]" in ended.err
    configured(host, table_in(moved.out))
    assert "is in order" in run(host, "state", "check").out
    assert "issued" in run(host, "history").out


def test_literal_key_is_not_printed(host: Path) -> None:
    """The output says that the key stays as written in the file."""
    configured(host, f'[state]\nurl = "sqlite:///literal.db"\nkey = "{KEY.reveal()}"')
    assert Exit.OK == run(host, "state", "init").code

    moved = run(host, "state", "move", "sqlite:///new/state.db")

    assert (Exit.OK, "") == (moved.code, moved.err)
    assert KEY.reveal() not in moved.out
    assert "Keep `key` of [state] as in the present file" in " ".join(moved.out.split())
    assert {"state": {"url": "sqlite:///new/state.db"}} == tomllib.loads(table_in(moved.out))


def test_move_back_into_a_file(host: Path, postgresql: Postgresql) -> None:
    """Without an option the key stays the same; a key in a file is named by the file."""
    url = postgresql.url(postgresql.new_database())
    first = run(host, "state", "move", url)
    key = f"file:{host / 'secret.key'}"
    assert {"url": url, "key": key, "host": "web-1"} == tomllib.loads(table_in(first.out))["state"]
    configured(host, table_in(first.out))

    back = run(host, "state", "move", "sqlite:///new/state.db")

    assert (Exit.OK, "") == (back.code, back.err)
    assert {"state": {"url": "sqlite:///new/state.db", "key": key}} == tomllib.loads(
        table_in(back.out)
    )
    configured(host, table_in(back.out))
    assert "is in order" in run(host, "state", "check").out


def test_move_into_a_bucket(host: Path, postgresql: Postgresql) -> None:
    """The new table omits the password of the database."""
    url = postgresql.url(postgresql.new_database())
    first = run(host, "state", "move", url, "--key", "env:KEY", "--password", "env:NEW")
    configured(host, table_in(first.out))
    with S3Service("access", "secret") as s3:
        s3.add_bucket("states")
        bucket_url = f"s3://states/x?endpoint={s3.url}"
        keys = {"AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "secret"}

        moved = run(host, "state", "move", bucket_url, **keys)

        assert (Exit.OK, "") == (moved.code, moved.err)
        table = tomllib.loads(table_in(moved.out))["state"]
        assert {"url": bucket_url, "key": "env:KEY"} == table
        configured(host, table_in(moved.out))
        assert "is in order" in run(host, "state", "check", **keys).out


def test_refused_moves(host: Path, postgresql: Postgresql) -> None:
    """A move during a run ends with 75, a wrong command line with 2; no error shows a secret."""
    url = postgresql.url(postgresql.new_database())
    with closing(connect(host / "state.db", host / "secret.key")) as store:
        store.begin_run(NOW)
        ended = run(host, "state", "move", url, "--key", "env:KEY")
        assert Exit.TRY_LATER == ended.code
        assert "has been working since" in ended.err
    secret = "s3cret-of-the-tests"
    for arguments in (
        (url, "--key", NEW),
        (url, "--key", "env:NOT_SET"),
        (url, "--key", "env:KEY", "--password", secret),
        (f"postgresql://me:{secret}@127.0.0.1/state", "--key", "env:KEY"),
        ("mysql://127.0.0.1/state",),
        ("sqlite:///state.db",),
    ):
        ended = run(host, "state", "move", *arguments)
        assert Exit.USAGE == ended.code
        assert NEW not in ended.err
        assert secret not in ended.err
    assert "issued" in run(host, "history").out


def test_rotation_of_a_key_in_a_file(host: Path) -> None:
    """The file has a new key, and the output does not show the key."""
    before = (host / "secret.key").read_text()

    ended = run(host, "state", "key", "--rotate")

    assert (Exit.OK, "") == (ended.code, ended.err)
    assert ended.out.startswith("Sealed with the new key: 19 keys and proofs\n")
    after = (host / "secret.key").read_text()
    assert before != after
    assert after.strip() not in ended.out
    assert "is in order" in run(host, "state", "check").out
    (host / "secret.key").write_text(before)
    assert "the key of the state was changed at" in run(host, "state", "check").out


def test_rotation_of_a_key_of_several_hosts(host: Path, postgresql: Postgresql) -> None:
    """The output has the line to write; a host with the old key is refused, with the time of the
    rotation.
    """
    url = postgresql.url(postgresql.new_database())
    configured(host, table_in(run(host, "state", "move", url, "--key", "env:KEY").out))
    assert Exit.USAGE == run(host, "state", "key", "--rotate").code
    assert Exit.USAGE == run(host, "state", "key", "--rotate", NEW).code

    ended = run(host, "state", "key", "--rotate", "env:NEW")

    assert Exit.OK == ended.code
    assert 'key = "env:NEW"' in ended.out
    refused = run(host, "history")
    assert Exit.USAGE == refused.code
    assert "the key of the state was changed at" in refused.err
    assert "on host web-1" in refused.err
    assert "set `key` of [state]" in refused.err
    configured(host, f'[state]\nurl = "{url}"\nkey = "env:NEW"\nhost = "web-1"')
    assert "issued" in run(host, "history").out
