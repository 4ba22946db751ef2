"""Which CA, which profile, which chain: the whole command at Pebble."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from josepy.b64 import b64encode

from certferry.core.certificates.pem import common_name
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host, certificate
from tests.support.tiers import thorough

FAILED, USAGE = 1, 2
HMAC_KEY = b64encode(bytes(range(32))).decode()
BINDING = f'eab_kid = "customer-1"\neab_hmac_key = "{HMAC_KEY}"'
DEAD = "https://127.0.0.1:1/dir"


@pytest.fixture(scope="module")
def other_ca(shared_world: World) -> Iterator[Pebble]:
    """A second CA in the same DNS, with three chains, which asks for an external account."""
    dns, eab = shared_world.dns.resolver_endpoint, {"customer-1": HMAC_KEY}
    with Pebble(dns, nonce_reject=0, alternate_roots=2, eab=eab) as pebble:
        yield pebble


@pytest.fixture
def host(world: World, tmp_path: Path, name: str) -> Host:
    """A machine that only keeps its certificate."""
    return Host(world, tmp_path, certificate(name, to=None))


def with_acme(host: Host, lines: str) -> None:
    """Add settings to [acme]."""
    host.rewrite("[acme]\n", f"[acme]\n{lines}\n")


def with_fallback(host: Host, other: Pebble) -> None:
    """Ask another CA when the usual one fails near the deadline."""
    with_acme(host, 'fallback = ["spare"]')
    (host.directory / "spare-ca.pem").write_bytes(other.ca_bundle.read_bytes())
    host.rewrite(
        "[dns]\n",
        f'[acme.spare]\ndirectory = "{other.directory_url}"\nca_bundle = "spare-ca.pem"\n'
        f"{BINDING}\n[dns]\n",
    )


def fail_since(host: Host, name: str, past: timedelta) -> None:
    """Let the usual CA have failed for so long."""
    with host.remembering() as store:
        store.save_issue_try(name, datetime.now(UTC) - past, failed=True, by_ca=True)


@pytest.mark.parametrize("written", ['"classic"', '["shortlived", "classic"]'])
def test_profile_that_the_directory_does_not_know(host: Host, name: str, written: str) -> None:
    """It is told with what there is, and nothing is ordered."""
    with_acme(host, f"profile = {written}")

    run = host.run("sync", name)

    assert FAILED == run.code
    assert "the CA lists no profiles; asked for: " in run.out + run.err
    assert 0 == run.left.orders
    assert_nothing_written(run.left)


def test_chain_is_the_preferred_one(host: Host, name: str, other_ca: Pebble) -> None:
    """As certbot's: by who issued the topmost certificate."""
    root = common_name(x509.load_pem_x509_certificate(other_ca.root_pem(2)).subject)
    host.rewrite(host.world.pebble.directory_url, other_ca.directory_url)
    host.rewrite('"directory-ca.pem"', f'"{other_ca.ca_bundle}"')
    with_acme(host, f'preferred_chain = "{root}"\n{BINDING}')

    assert 0 == host.run("sync", name).code

    with host.remembering() as store:
        bundle = store.bundle(name, 1)
    [*_, topmost] = x509.load_pem_x509_certificates(bundle.fullchain_pem.encode())
    assert root == common_name(topmost.issuer)


def test_key_is_used_again(host: Host, name: str) -> None:
    """With `reuse_key`, as long as it is of the kind that is asked for."""
    with_acme(host, "reuse_key = true")
    for _ in range(2):
        assert 0 == host.run("sync", "--renew", name).code
    host.rewrite("[acme]\n", '[acme]\nkey_type = "rsa2048"\n')
    assert 0 == host.run("sync", name).code

    with host.remembering() as store:
        first, second, third = (store.bundle(name, number).privkey_pem for number in (1, 2, 3))
    assert first == second
    assert third != second


def test_other_ca_near_the_deadline(host: Host, name: str, other_ca: Pebble) -> None:
    """The plan names both, the history says which it was; the usual one is asked first."""
    with_fallback(host, other_ca)
    host.rewrite(host.world.pebble.directory_url, DEAD)
    assert FAILED == host.run("sync", name).code
    again = host.run("sync", name)
    assert FAILED == again.code
    assert "spare" not in host.run("plan", name).out
    with host.remembering() as store:
        store.save_issue_try(name, datetime.now(UTC))  # as if a certificate had come since
    fail_since(host, name, timedelta(hours=25))

    plan = host.run("plan", "--json", name).document
    (issue,) = plan["certificates"][0]["steps"]
    assert ["127.0.0.1:1", "spare"] == issue["authorities"]
    assert "(at 127.0.0.1:1; if that fails, at spare)" in host.run("plan", name).out
    run = host.run("sync", name)

    assert 0 == run.code, run
    history = host.run("history", name).out
    assert "ca=spare" in history
    assert "ca failed" in history
    with host.remembering() as store:
        (version,) = store.versions(name)
        assert other_ca.directory_url == version.directory
        assert None is store.remembered(name).failing_since


@thorough
def test_every_ca_that_failed_is_told(host: Host, name: str, other_ca: Pebble) -> None:
    """In one sentence, with the hint of the usual one."""
    with_fallback(host, other_ca)
    host.rewrite(host.world.pebble.directory_url, DEAD)
    host.rewrite(other_ca.directory_url, f"{DEAD}2")
    fail_since(host, name, timedelta(days=2))

    run = host.run("sync", name)

    assert FAILED == run.code
    assert "spare: the CA could not be reached" in " ".join((run.out + run.err).split())
