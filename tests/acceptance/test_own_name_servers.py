"""A certificate by the operator's own name server, from the file to the certificate: a real BIND or
PowerDNS is the zone's name server and the only resolver there is, and Pebble asks it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from certferry_sandbox.pebble import Pebble
from tests.support.bind import KEY_NAME, SECRET, Bind
from tests.support.command import Ended, run_here
from tests.support.powerdns import KEY, PowerDns

NAME = "www.example.com"
FAILED = 1


@dataclass(frozen=True)
class Running:
    """A name server, its account's table, and what the environment holds for it."""

    address: str
    table: str
    values: Callable[[str], list[str]]
    environ: dict[str, str] = field(repr=False)


@pytest.fixture
def at_bind(bind: Bind) -> Running:
    """A BIND, by dynamic updates."""
    table = (
        f'type = "rfc2136"\nserver = "env:RFC2136_NAMESERVER"\nkey_name = "{KEY_NAME}"\n'
        'key_secret = "env:RFC2136_TSIG_SECRET"\n'
    )
    environ = {"RFC2136_NAMESERVER": bind.address, "RFC2136_TSIG_SECRET": SECRET}
    return Running(bind.address, table, bind.values, environ)


@pytest.fixture
def at_powerdns(powerdns: PowerDns) -> Running:
    """A PowerDNS, by lexicon."""
    table = (
        'type = "lexicon"\nprovider = "powerdns"\nauth_token = "env:LEXICON_TOKEN"\n'
        f'pdns_server = "{powerdns.url}"\n'
    )
    return Running(powerdns.address, table, powerdns.values, {"LEXICON_TOKEN": KEY})


def written(directory: Path, pebble: Pebble, running: Running, *names: str) -> Path:
    """Write a configuration with the account."""
    (directory / "ca.pem").write_bytes(pebble.ca_bundle.read_bytes())
    config = directory / "certferry.toml"
    listed = ", ".join(f'"{name}"' for name in names)
    config.write_text(
        f'[state]\nurl = "sqlite:///{directory / "state.db"}"\n'
        f'[acme]\ndirectory = "{pebble.directory_url}"\nca_bundle = "ca.pem"\n'
        f'[dns]\nresolvers = ["{running.address}"]\nport = {running.address.partition(":")[2]}\n'
        f"[accounts.own]\n{running.table}"
        f'[[certificates]]\nname = "www"\nnames = [{listed}]\ndns = "own"\n'
    )
    config.chmod(0o600)
    return config


def run(config: Path, running: Running, *words: str, **environ: str) -> Ended:
    """Run the command."""
    variables = {**os.environ, **running.environ, **environ}
    return run_here(["--config", str(config), *words], variables)


@pytest.fixture(scope="module")
def ca_of_bind(one_bind: Bind) -> Iterator[Pebble]:
    """A CA that asks the BIND."""
    with Pebble(one_bind.address) as pebble:
        yield pebble


@pytest.fixture(scope="module")
def ca_of_powerdns(one_powerdns: PowerDns) -> Iterator[Pebble]:
    """A CA that asks the PowerDNS."""
    with Pebble(one_powerdns.address) as pebble:
        yield pebble


def assert_proven(running: Running, pebble: Pebble, directory: Path) -> None:
    """Two values at one name are written, seen and removed; the second run has nothing to do."""
    config = written(directory, pebble, running, NAME, f"*.{NAME}")

    first, again = run(config, running, "sync"), run(config, running, "plan", "--check")

    assert 0 == first.code, first
    assert 0 == again.code, again
    for secret in running.environ.values():
        if secret != running.address:
            assert secret not in first.out + first.err


def test_dynamic_updates_prove_wildcard_and_apex(
    at_bind: Running, ca_of_bind: Pebble, bind: Bind, tmp_path: Path
) -> None:
    """And what another client has at the name stays."""
    bind.put("example.com", f"_acme-challenge.{NAME}", "TXT", "theirs")

    assert_proven(at_bind, ca_of_bind, tmp_path)

    assert ["theirs"] == at_bind.values(f"_acme-challenge.{NAME}")


def test_lexicon_proves_wildcard_and_apex(
    at_powerdns: Running, ca_of_powerdns: Pebble, tmp_path: Path
) -> None:
    """And leaves nothing."""
    assert_proven(at_powerdns, ca_of_powerdns, tmp_path)

    assert [] == at_powerdns.values(f"_acme-challenge.{NAME}")


def test_zone_that_the_server_lacks_is_told_before_an_order(
    at_bind: Running, ca_of_bind: Pebble, tmp_path: Path
) -> None:
    """The server is asked for it: it cannot list its zones."""
    config = written(tmp_path, ca_of_bind, at_bind, "www.away.example.com")

    ended = run(config, at_bind, "-q", "sync")

    assert FAILED == ended.code
    assert "delegates away.example.com to other name servers" in ended.err
    assert "primary of away.example.com" in ended.err


def test_secret_that_is_not_the_servers_is_told(
    at_bind: Running, ca_of_bind: Pebble, tmp_path: Path
) -> None:
    """With what to compare, and without the secret."""
    config = written(tmp_path, ca_of_bind, at_bind, NAME)
    wrong = "MDEyMzQ1Njc4OWFiY2RlZg=="

    ended = run(config, at_bind, "-q", "sync", RFC2136_TSIG_SECRET=wrong)

    assert FAILED == ended.code
    assert "BADSIG" in ended.err
    assert "named-checkconf" in ended.err
    assert wrong not in ended.err


def test_doctor_looks_at_the_name_server(
    at_bind: Running, ca_of_bind: Pebble, tmp_path: Path
) -> None:
    """Whether its key is taken and it has the zone, by questions alone."""
    config = written(tmp_path, ca_of_bind, at_bind, NAME, "www.away.example.com")

    wrong = "MDEyMzQ1Njc4OWFiY2RlZg=="

    looked = found(run(config, at_bind, "doctor", "--json"))
    refused = found(run(config, at_bind, "doctor", "--json", RFC2136_TSIG_SECRET=wrong))

    assert "delegates away.example.com" in looked["_acme-challenge.www.away.example.com"]
    assert f"_acme-challenge.{NAME}" not in looked
    assert "BADSIG" in refused[f"_acme-challenge.{NAME}"]


def found(ended: Ended) -> dict[str, str]:
    """Give what doctor says, by whom it says it of."""
    return {one["subject"]: one["message"] for one in json.loads(ended.out)["findings"]}
