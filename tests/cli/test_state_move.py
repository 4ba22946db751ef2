"""`certferry state move` and `state key --rotate`: what is said, and the lines to write."""

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
    """A host with a state in a file, which was called otherwise when that was made."""
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


def written(said: str) -> str:
    """Return the table that is to be written."""
    return said[said.index("[state]") : said.index("\n", said.rindex(' = "'))]


def test_move_to_a_server(host: Path, postgresql: Postgresql) -> None:
    """The lines that are printed are those that make it work, with the host's own name; before they
    are written, every command says where the state went.
    """
    name = postgresql.new_database()
    url = postgresql.url(name)

    moved = run(host, "state", "move", url, "--key", "env:KEY")

    assert (Exit.OK, "") == (moved.code, moved.err)
    assert f"Moved to postgresql:///{name}" in moved.out
    assert {"state": {"url": url, "key": "env:KEY", "host": "web-1"}} == tomllib.loads(
        written(moved.out)
    )
    for command in ("status", "history", "plan", "sync", "state check", "state init"):
        ended = run(host, *command.split())
        assert Exit.USAGE == ended.code
        assert f"state.db was moved to postgresql:///{name}" in ended.err
        assert "`url` of [state]" in ended.err
    configured(host, written(moved.out))
    assert "is in order" in run(host, "state", "check").out
    assert "issued" in run(host, "history").out


def test_move_back_into_a_file(host: Path, postgresql: Postgresql) -> None:
    """Without another key it is the same one, by its file where the state is in a file."""
    url = postgresql.url(postgresql.new_database())
    first = run(host, "state", "move", url)
    key = f"file:{host / 'secret.key'}"
    assert {"url": url, "key": key, "host": "web-1"} == tomllib.loads(written(first.out))["state"]
    configured(host, written(first.out))

    back = run(host, "state", "move", "sqlite:///new/state.db")

    assert (Exit.OK, "") == (back.code, back.err)
    assert {"state": {"url": "sqlite:///new/state.db", "key": key}} == tomllib.loads(
        written(back.out)
    )
    configured(host, written(back.out))
    assert "is in order" in run(host, "state", "check").out


def test_move_into_a_bucket(host: Path, postgresql: Postgresql) -> None:
    """The password of the database is not carried there."""
    url = postgresql.url(postgresql.new_database())
    first = run(host, "state", "move", url, "--key", "env:KEY", "--password", "env:NEW")
    configured(host, written(first.out))
    with S3Service("access", "secret") as s3:
        s3.add_bucket("states")
        there = f"s3://states/x?endpoint={s3.url}"
        keys = {"AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "secret"}

        moved = run(host, "state", "move", there, **keys)

        assert (Exit.OK, "") == (moved.code, moved.err)
        table = tomllib.loads(written(moved.out))["state"]
        assert {"url": there, "key": "env:KEY"} == table
        configured(host, written(moved.out))
        assert "is in order" in run(host, "state", "check", **keys).out


def test_move_that_is_refused(host: Path, postgresql: Postgresql) -> None:
    """While a run is in progress with 75; what is wrong with the command line with 2, and no secret
    of it is shown.
    """
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


def test_key_of_a_file_that_is_changed(host: Path) -> None:
    """The file has a new key; what it opens is not said."""
    before = (host / "secret.key").read_text()

    ended = run(host, "state", "key", "--rotate")

    assert (Exit.OK, "") == (ended.code, ended.err)
    assert ended.out.startswith("Sealed with the new key: 16 keys and proofs\n")
    after = (host / "secret.key").read_text()
    assert before != after
    assert after.strip() not in ended.out
    assert "is in order" in run(host, "state", "check").out
    (host / "secret.key").write_text(before)
    assert "the key of the state was changed at" in run(host, "state", "check").out


def test_key_of_several_hosts_that_is_changed(host: Path, postgresql: Postgresql) -> None:
    """The line to write is printed; a host without it is refused, and told when it was changed."""
    url = postgresql.url(postgresql.new_database())
    configured(host, written(run(host, "state", "move", url, "--key", "env:KEY").out))
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
