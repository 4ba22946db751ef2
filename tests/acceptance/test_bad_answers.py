"""What the CA or a resolver answers, or does not: told in their words, and everything as it was."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import dns.message
import dns.query
import pytest

from certferry_sandbox.pebble import Pebble
from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host
from tests.support.tiers import thorough

FAILED = 1


def ask_for_challenge(world: World, name: str) -> None:
    """Ask the resolver as the CA does."""
    question = dns.message.make_query(f"_acme-challenge.{name}", "TXT")
    dns.query.udp(question, world.dns.resolver.address, port=world.dns.port, timeout=5)


# --- what the CA says


class ChoosyPebble(Pebble):
    """A CA whose policy forbids one name (`domainBlocklist` of Pebble's configuration)."""

    def __init__(self, dns_server: str, forbidden: str) -> None:
        super().__init__(dns_server)
        self._settings["domainBlocklist"] = [forbidden]


@thorough
def test_name_that_the_ca_forbids(host: Host, name: str) -> None:
    """The CA's problem document is shown in its own words, those of each part too."""
    with ChoosyPebble(host.world.dns.resolver_endpoint, name) as choosy:
        host.rewrite(host.world.pebble.directory_url, choosy.directory_url)
        (host.directory / "directory-ca.pem").write_bytes(choosy.ca_bundle.read_bytes())

        run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"{name}: issue failed: the CA refused: " in run.complaint.error
    assert "issuance is forbidden by policy" in run.complaint.error
    assert f"{name} is a forbidden domain (rejectedIdentifier)" in run.complaint.error
    assert "the CA's policy does not allow the name" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@thorough
def test_proof_that_the_ca_does_not_accept(host: Host, name: str) -> None:
    """What the CA saw in place of the value is shown; the record is removed, and the next run
    begins a new order.
    """
    resolver = host.world.dns.resolver
    resolver.negative_caching = 600.0
    try:
        ask_for_challenge(host.world, name)  # from now on, the CA's resolver denies the name
        run = host.run("-q", "sync")
    finally:
        resolver.negative_caching = 0.0

    assert FAILED == run.code
    assert f"the CA does not accept the proof for {name}" in run.complaint.error
    assert "Error retrieving TXT records for DNS challenge" in run.complaint.error
    assert "(unauthorized)" in run.complaint.error
    assert "the CA did not see our TXT value" in run.complaint.hint
    assert (0, 0) == (run.left.qiniu_writes, run.left.certificates)
    assert 0 == run.left.challenges
    assert [] == host.fingerprints(name)


@thorough
def test_directory_that_cannot_be_reached(host: Host, name: str) -> None:
    """A port without a server is told with the host and with what the system says."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        host.rewrite(host.world.pebble.directory_url, f"https://127.0.0.1:{port}/dir")

        run = host.run("-q", "sync")

    assert FAILED == run.code
    said = f"issue failed: the CA could not be reached: 127.0.0.1:{port}: Connection refused"
    assert said in run.complaint.error
    assert "`directory` under [acme]" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@thorough
def test_directory_that_is_none(host: Host, name: str) -> None:
    """An address that leads to something else is told as such."""
    url = host.world.pebble.directory_url
    host.rewrite(url, f"{url}ectory-of-somebody")

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert "the CA's answer is not understood: 404 Not Found" in run.complaint.error
    assert "`directory` under [acme]" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@thorough
def test_directory_that_is_not_trusted(host: Host, name: str) -> None:
    """A directory whose certificate no CA signed is not used; the hint names a private CA."""
    host.rewrite('ca_bundle = "directory-ca.pem"', "")

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert "certificate verify failed" in run.complaint.error
    assert "a private CA needs `ca_bundle` under [acme]" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


# --- resolvers


@pytest.fixture
def silent_resolver() -> Iterator[str]:
    """Where questions arrive and are never answered, as `address:port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{silent.getsockname()[1]}"


@thorough
def test_resolver_of_dns_that_does_not_answer(host: Host, name: str, silent_resolver: str) -> None:
    """Without a resolver the zone is not found: nothing is written, and the setting is named."""
    working = f'resolvers = ["{host.world.dns.resolver_endpoint}"]'
    host.rewrite("[verify]", f"[verify]\n{working}")
    host.rewrite(working, f'resolvers = ["{silent_resolver}"]')

    run = host.run_apart("-q", "sync")

    assert FAILED == run.code
    assert (
        f"{name}: issue failed: no resolver answered when asked for _acme-challenge.{name}:"
        f" {silent_resolver} (no answer)"
    ) == run.complaint.error
    assert "[dns].resolvers" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


@thorough
def test_resolver_of_verify_that_does_not_answer(
    host: Host, name: str, silent_resolver: str
) -> None:
    """What cannot be looked at is not done; nothing is undone for it, and with a resolver it is
    seen at once.
    """
    host.rewrite("[verify]", f'[verify]\nresolvers = ["{silent_resolver}"]\ntimeout = 5')

    run = host.run_apart("-q", "sync")

    assert FAILED == run.code
    assert f"{name}: verify failed: no address answers" in run.complaint.error
    assert "the resolver 127.0.0.1 does not answer" in run.complaint.error
    assert "the resolvers under [verify]" in run.complaint.hint
    assert 1 == run.left.qiniu_uploads
    assert 0 == run.left.challenges

    host.rewrite(f'resolvers = ["{silent_resolver}"]', "")
    cured = host.run("sync")

    assert 0 == cured.code
    assert_nothing_written(cured.left)
    (stored,) = [c for c in host.world.qiniu.certificates.stored() if name in c.names]
    assert stored.id == host.world.qiniu.bound(name)
