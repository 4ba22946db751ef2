"""A certificate by dynamic updates, from the file to the certificate: a real BIND is the zones'
name server and the only resolver there is, and Pebble asks it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry.sandbox.pebble import Pebble
from tests.support.bind import KEY_NAME, SECRET, Bind
from tests.support.command import Ended, run_here

NAME = "www.example.com"
FAILED = 1


@pytest.fixture(scope="module")
def pebble(one_bind: Bind) -> Iterator[Pebble]:
    """A CA that asks the BIND."""
    with Pebble(one_bind.address) as pebble:
        yield pebble


def written(directory: Path, pebble: Pebble, bind: Bind, names: str) -> Path:
    """Write a configuration with the account."""
    (directory / "ca.pem").write_bytes(pebble.ca_bundle.read_bytes())
    config = directory / "certferry.toml"
    config.write_text(
        f'[state]\nurl = "sqlite:///{directory / "state.db"}"\n'
        f'[acme]\ndirectory = "{pebble.directory_url}"\nca_bundle = "ca.pem"\n'
        f'[dns]\nresolvers = ["{bind.address}"]\nport = {bind.port}\n'
        f'[accounts.bind]\ntype = "rfc2136"\nserver = "{bind.address}"\n'
        f'key_name = "{KEY_NAME}"\nkey_secret = "env:TSIG_SECRET"\n'
        f'[[certificates]]\nname = "www"\nnames = [{names}]\ndns = "bind"\n'
    )
    config.chmod(0o600)
    return config


def run(config: Path, *words: str, secret: str = SECRET) -> Ended:
    """Run the command."""
    return run_here(["--config", str(config), *words], {**os.environ, "TSIG_SECRET": secret})


def test_wildcard_and_apex_are_proven(pebble: Pebble, bind: Bind, tmp_path: Path) -> None:
    """Two values at one name; nothing of ours is left, what was there is, and the second run does
    nothing.
    """
    bind.put("example.com", f"_acme-challenge.{NAME}", "TXT", "theirs")
    config = written(tmp_path, pebble, bind, f'"{NAME}", "*.{NAME}"')

    first, again = run(config, "sync"), run(config, "plan", "--check")

    assert 0 == first.code, first
    assert 0 == again.code, again
    assert ["theirs"] == bind.values(f"_acme-challenge.{NAME}")


def test_zone_that_the_server_lacks_is_told_before_an_order(
    pebble: Pebble, bind: Bind, tmp_path: Path
) -> None:
    """The server is asked for it: it cannot list its zones."""
    config = written(tmp_path, pebble, bind, '"www.away.example.com"')

    ended = run(config, "-q", "sync")

    assert FAILED == ended.code
    assert "delegates away.example.com to other name servers" in ended.err
    assert "primary of away.example.com" in ended.err


def test_secret_that_is_not_the_servers_is_told(pebble: Pebble, bind: Bind, tmp_path: Path) -> None:
    """With what to compare, and without the secret."""
    config = written(tmp_path, pebble, bind, f'"{NAME}"')
    wrong = "MDEyMzQ1Njc4OWFiY2RlZg=="

    ended = run(config, "-q", "sync", secret=wrong)

    assert FAILED == ended.code
    assert "BADSIG" in ended.err
    assert "named-checkconf" in ended.err
    assert wrong not in ended.err
