"""Bad input: one clear message with a hint, the right exit code, and everything as it was."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import dns.message
import dns.query
import pytest

from certferry.sandbox.pebble import Pebble
from certferry.sandbox.qiniu import QiniuService
from certferry.sandbox.world import World
from tests.acceptance.footprint import Footprint
from tests.acceptance.full_disk import FullDisk
from tests.acceptance.host import Host, certificate

NOBODY_ASKED = Footprint()
FAILED, USAGE = 1, 2

AS_ANYBODY = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Takes from root what lets it read every file; what a file's mode says then counts."""


def whoever_may_not_read_all() -> tuple[str, ...]:
    """Give the command before a command, for which permissions count."""
    return AS_ANYBODY if os.geteuid() == 0 else ()


# --- the configuration


def test_configuration_that_is_not_there(host: Host) -> None:
    """A file that was named and is missing is told by its name."""
    host.config.unlink()

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert f"{host.config}: cannot be read: No such file or directory" == run.complaint.error
    assert run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert not host.state.exists()


def test_configuration_that_cannot_be_read(host: Host) -> None:
    """A file without permission to read is told by its name and by what the system says."""
    host.config.chmod(0o000)

    run = host.run("-q", "sync", wrapped_in=whoever_may_not_read_all())

    assert USAGE == run.code
    assert f"{host.config}: cannot be read: Permission denied" == run.complaint.error
    assert run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert not host.state.exists()


def test_secret_in_a_configuration_that_a_group_can_read(host: Host) -> None:
    """A literal secret in a file with a wide mode is refused, with the command that helps."""
    token = host.world.credentials.dnspod_token
    host.rewrite('"env:DP_Key"', f'"{token}"')
    host.config.chmod(0o640)

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert f"run: chmod 600 {host.config}" in run.complaint.error
    assert "[accounts.dnspod] token" in run.complaint.error
    assert token not in run.err
    assert run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert not host.state.exists()

    host.config.chmod(0o600)
    assert 0 == host.run("-q", "plan").code


def test_file_of_secrets_that_others_can_read(host: Host) -> None:
    """An environment file with a wide mode is refused, with the command that helps."""
    file = host.directory / "cdn-env"
    file.write_text("DP_Key=0123456789abcdef0123456789abcdef\n")
    file.chmod(0o644)
    host.config.write_text(f'env_files = ["cdn-env"]\n{host.config.read_text()}')

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert f"{file} is open to other users (mode 0644); run: chmod 600" in run.complaint.error
    assert run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert not host.state.exists()


@pytest.mark.parametrize("command", ["plan", "sync", "status", "history"])
def test_unknown_keys(host: Host, command: str) -> None:
    """Every wrong key is told at once: file, line, table, key, and what was probably meant."""
    host.rewrite("[acme]", '[acme]\nemial = "ops@example.com"')
    host.rewrite("[verify]", "[verify]\ntimout = 60")

    run = host.run("-q", command)

    lines = host.config.read_text().splitlines()
    acme, verify = 1 + lines.index('emial = "ops@example.com"'), 1 + lines.index("timout = 60")
    assert USAGE == run.code
    assert (
        f"{host.config}:{acme}: [acme] emial: unknown key; did you mean email?"
        f" {host.config}:{verify}: [verify] timout: unknown key; did you mean timeout?"
    ) == run.complaint.error
    assert run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert not host.state.exists()


def test_unknown_accounts(host: Host) -> None:
    """An account that is not declared is told with the nearest that is."""
    host.rewrite('dns = "dnspod"', 'dns = "dnspood"')
    host.rewrite('to = "qiniu"', 'to = "qinui"')

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert "dns: there is no account dnspood; did you mean dnspod?" in run.complaint.error
    assert "to: there is no account qinui; did you mean qiniu?" in run.complaint.error
    assert run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert not host.state.exists()


@pytest.mark.parametrize("command", ["plan", "sync", "status"])
def test_missing_secrets(host: Host, command: str) -> None:
    """Every secret that is nowhere is told at once, with its place and the variable's name."""
    run = host.run("-q", command, DP_Key="", QINIU_SECRET_KEY="")

    assert USAGE == run.code
    assert "token: the environment variable DP_Key is not set" in run.complaint.error
    assert "secret_key: the environment variable QINIU_SECRET_KEY is not set" in run.complaint.error
    assert run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert not host.state.exists()


def test_error_in_json(host: Host) -> None:
    """A program reads the same message, with a code, on stdout."""
    run = host.run("sync", "--json", DP_Key="")

    error = run.document["error"]
    assert USAGE == run.code
    assert "config" == error["code"]
    assert "the environment variable DP_Key is not set" in error["message"]
    assert error["hint"]
    assert NOBODY_ASKED == run.left


# --- keys that are not accepted


@pytest.mark.parametrize("variable", ["QINIU_ACCESS_KEY", "QINIU_SECRET_KEY"])
def test_wrong_keys_of_qiniu(host: Host, name: str, variable: str) -> None:
    """Qiniu is asked once; the message names both keys and where the right ones stand."""
    wrong = secrets.token_urlsafe(30)

    run = host.run("-q", "sync", **{variable: wrong})

    assert FAILED == run.code
    assert run.complaint.error.startswith(f"{name}: deploy failed: qiniu: ")
    assert "does not accept access_key and secret_key" in run.complaint.error
    assert "401 bad token" in run.complaint.error
    assert "个人中心 → 密钥管理" in run.complaint.hint
    assert "clock" in run.complaint.hint
    assert "X-Reqid" in run.complaint.hint
    assert wrong not in run.err
    assert Footprint(qiniu_requests=1) == run.left
    assert [] == host.fingerprints(name)

    assert 0 == host.run("sync").code


def test_plan_with_wrong_keys_of_qiniu(host: Host) -> None:
    """A plan says what stands in the way, and plans nothing that could not be served."""
    run = host.run("plan", "--json", QINIU_SECRET_KEY="wrong")

    (planned,) = run.document["certificates"]
    (obstacle,) = planned["obstacles"]
    assert FAILED == run.code
    assert [] == planned["steps"]
    assert "target_access_denied" == obstacle["error"]["code"]
    assert "密钥管理" in obstacle["error"]["hint"]
    assert Footprint(qiniu_requests=1) == run.left


@pytest.mark.parametrize(
    ("variable", "wrong", "said"),
    [
        ("DP_Id", "999999999", "there is no such token"),
        ("DP_Key", "0123456789abcdef" * 2, "the `token` does not belong to the `id`"),
    ],
)
def test_wrong_keys_of_dnspod(
    world: World,
    tmp_path: Path,
    new_name: Callable[[], str],
    variable: str,
    wrong: str,
    said: str,
) -> None:
    """DNSPod is asked once for all certificates, which keeps the account from being banned; the
    hint says which of the two is wrong. The order that was begun is finished by the next run.
    """
    names = [new_name(), new_name()]
    for one in names:
        world.add_http_domain(one)
    host = Host(world, tmp_path, "".join(map(certificate, names)))

    run = host.run("sync", "--json", **{variable: wrong})

    steps = [step for found in run.document["certificates"] for step in found["steps"]]
    assert FAILED == run.code
    assert [("issue", "failed")] * 2 == [(step["action"], step["outcome"]) for step in steps]
    assert {"dns_access_denied"} == {step["code"] for step in steps}
    for step in steps:
        assert "DNSPod" in step["detail"]
        assert said in step["hint"]
        assert "console.dnspod.cn" in step["hint"]
    if variable == "DP_Key":
        assert wrong not in run.out + run.err
    assert 1 == run.left.dnspod_requests
    assert_nothing_written(run.left)
    assert [[], []] == [host.fingerprints(one) for one in names]

    cured = host.run("sync")

    assert 0 == cured.code
    assert 0 == cured.left.orders
    assert 2 == cured.left.certificates


def test_key_of_tencent_cloud_in_place_of_a_token(host: Host) -> None:
    """What cannot be a DNSPod token is told before anybody is asked."""
    run = host.run("-q", "sync", DP_Id="AKIDz8krbsJ5yKBZQpn74WFkmLPx3")

    assert USAGE == run.code
    assert "Tencent Cloud (AKID…)" in run.complaint.error
    assert "make one at console.dnspod.cn" in run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert not host.state.exists()


# --- names that are not there


def test_zone_that_is_not_in_the_account(world: World, tmp_path: Path) -> None:
    """The name without a zone is told, with the zones that the account has."""
    name = "img.elsewhere.net"
    world.qiniu.add_domain(name)
    host = Host(world, tmp_path, certificate(name))

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert (
        f"{name}: issue failed: the DNSPod account has no domain for _acme-challenge.{name}"
        == run.complaint.error
    )
    assert "it has example.com: add the domain at DNSPod" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


def test_source_domain_of_a_bucket(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """A domain that is Kodo's, and was asked for as a CDN domain, is said to be Kodo's."""
    name = new_name()
    world.qiniu.add_bucket("pictures")
    world.qiniu.add_bucket_domain(name, "pictures")
    host = Host(world, tmp_path, certificate(name).replace("domains", 'kind = "cdn"\ndomains', 1))

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert (
        f"{name} is a source domain of the Kodo bucket pictures, not a CDN domain"
        in run.complaint.error
    )
    assert 'set kind = "kodo"' in run.complaint.hint
    assert_untouched(host, name, run.left)


def test_domain_that_nobody_knows(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """A domain that Qiniu does not have is told with Qiniu's code and what to correct."""
    name = new_name()
    host = Host(world, tmp_path, certificate(name))

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"qiniu → {name}: " in run.complaint.error
    assert "it is not a CDN domain of this account (404001" in run.complaint.error
    assert "correct `domains`" in run.complaint.hint
    assert_untouched(host, name, run.left)


@pytest.mark.parametrize(
    ("put_in", "error", "hint"),
    [
        (
            lambda qiniu, name: qiniu.add_domain(name, state="frozen"),
            "is frozen at Qiniu",
            "unpaid bill",
        ),
        (
            lambda qiniu, name: qiniu.add_domain(name, state="offlined"),
            "is offline at Qiniu",
            "bring it online in Qiniu's console",
        ),
        (
            lambda qiniu, name: qiniu.add_domain(name, could_operate=False),
            "cannot be changed by self-service at Qiniu",
            "ask Qiniu's support",
        ),
    ],
    ids=["frozen", "offline", "not self-service"],
)
def test_domain_that_cannot_be_changed(
    world: World,
    tmp_path: Path,
    new_name: Callable[[], str],
    put_in: Callable[[QiniuService, str], object],
    error: str,
    hint: str,
) -> None:
    """A domain that Qiniu would refuse to change is told so; nothing is issued for it alone."""
    name = new_name()
    put_in(world.qiniu, name)
    host = Host(world, tmp_path, certificate(name))

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"{name} {error}" in run.complaint.error
    assert hint in run.complaint.hint
    assert_untouched(host, name, run.left)


# --- what the CA says


class ChoosyPebble(Pebble):
    """A CA whose policy forbids one name (`domainBlocklist` of Pebble's configuration)."""

    def __init__(self, dns_server: str, forbidden: str) -> None:
        super().__init__(dns_server)
        self._settings["domainBlocklist"] = [forbidden]


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


def test_directory_that_cannot_be_reached(host: Host, name: str) -> None:
    """A CA where nobody listens is told with what the system says."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        host.rewrite(host.world.pebble.directory_url, f"https://127.0.0.1:{port}/dir")

        run = host.run("-q", "sync")

    assert FAILED == run.code
    assert "issue failed: the CA could not be reached: Connection refused" in run.complaint.error
    assert "`directory` under [acme]" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


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


def test_directory_that_is_not_trusted(host: Host, name: str) -> None:
    """A directory with a certificate of nobody's is not used; a private CA is hinted at."""
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


def test_resolver_of_dns_that_does_not_answer(host: Host, name: str, silent_resolver: str) -> None:
    """Without a resolver the zone is not found: nothing is written, and the setting is named."""
    working = f'resolvers = ["{host.world.dns.resolver_endpoint}"]'
    host.rewrite("[verify]", f"[verify]\n{working}")
    host.rewrite(working, f'resolvers = ["{silent_resolver}"]')

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert (
        f"{name}: issue failed: no resolver answered when asked for _acme-challenge.{name}:"
        f" {silent_resolver} (no answer)"
    ) == run.complaint.error
    assert "[dns].resolvers" in run.complaint.hint
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


def test_resolver_of_verify_that_does_not_answer(
    host: Host, name: str, silent_resolver: str
) -> None:
    """What cannot be looked at is not done; nothing is undone for it, and with a resolver it is
    seen at once.
    """
    host.rewrite("[verify]", f'[verify]\nresolvers = ["{silent_resolver}"]\ntimeout = 1')

    run = host.run("-q", "sync")

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


# --- the state


def test_state_of_a_newer_version(synced: Host, name: str) -> None:
    """A newer schema is told with both numbers, and the file is left alone."""
    with closing(sqlite3.connect(synced.state)) as database, database:
        database.execute("INSERT INTO certferry_migration VALUES (999, '0999_to_come')")
    before = synced.state.read_bytes()

    for command in (["sync", "--renew"], ["plan"], ["status"], ["history"]):
        run = synced.run("-q", *command)

        assert FAILED == run.code
        assert f"{synced.state} was written by a newer certferry" in run.complaint.error
        assert "schema 999" in run.complaint.error
        assert "install the newest certferry" in run.complaint.hint
        assert NOBODY_ASKED == run.left
    assert before == synced.state.read_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"this is a diary, not a database\n" * 999,
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:4096] + b"\xff" * 12288 + whole[16384:],
    ],
    ids=["another file", "half of it", "pages overwritten"],
)
def test_state_that_is_damaged(synced: Host, name: str, spoil: Callable[[bytes], bytes]) -> None:
    """A file that is no state any more is told by its name, and not written to."""
    whole = synced.state.read_bytes()
    spoilt = spoil(whole)
    synced.state.write_bytes(spoilt)

    run = synced.run("-q", "sync", "--renew")

    assert FAILED == run.code
    assert f"{synced.state} is not a state of certferry" in run.complaint.error
    assert f"put {synced.state} back from a backup" in run.complaint.hint
    assert NOBODY_ASKED == run.left
    assert spoilt == synced.state.read_bytes()

    synced.state.write_bytes(whole)
    assert 0 == synced.run("-q", "sync").code


def test_state_that_cannot_be_opened(synced: Host) -> None:
    """A state of somebody else's is told by its name."""
    synced.state.chmod(0o000)

    run = synced.run("-q", "sync", "--renew", wrapped_in=whoever_may_not_read_all())

    assert FAILED == run.code
    assert f"{synced.state} cannot be opened" in run.complaint.error
    assert "must be a file of the user who runs certferry" in run.complaint.hint
    assert NOBODY_ASKED == run.left


@pytest.mark.parametrize(
    ("spoil", "error", "hint"),
    [
        (lambda key: key.chmod(0o640), "can be read by others", "chmod 600 "),
        (lambda key: key.chmod(0o000), "cannot be opened: Permission denied", "must be a file of"),
        (lambda key: key.write_bytes(b"a diary\n"), "does not hold a key", "from a backup"),
        (
            lambda key: key.write_bytes(base64.b64encode(secrets.token_bytes(32))),
            "does not open what the state holds",
            "from the backup that belongs to this state",
        ),
        (lambda key: key.unlink(), "is missing", "set `key_file` of [state]"),
    ],
    ids=["open to others", "unreadable", "no key", "another key", "missing"],
)
def test_key_file_that_is_of_no_use(
    synced: Host, name: str, spoil: Callable[[Path], object], error: str, hint: str
) -> None:
    """Without the key nothing is ordered and nothing exported; nobody makes another key."""
    whole = synced.key_file.read_bytes()
    versions = synced.fingerprints(name)
    spoil(synced.key_file)
    exported = synced.directory / "exported"

    run = synced.run("-q", "sync", "--renew", wrapped_in=whoever_may_not_read_all())
    export = synced.run(
        "-q", "export", name, "--dir", str(exported), wrapped_in=whoever_may_not_read_all()
    )

    for complaint in (run.complaint, export.complaint):
        assert str(synced.key_file) in complaint.error
        assert error in complaint.error
        assert hint in complaint.hint
    assert (FAILED, FAILED) == (run.code, export.code)
    assert_nothing_written(run.left)
    assert 0 == run.left.orders
    assert NOBODY_ASKED == export.left
    assert not exported.exists()
    assert versions == synced.fingerprints(name)

    synced.key_file.unlink(missing_ok=True)
    synced.key_file.write_bytes(whole)
    synced.key_file.chmod(0o600)
    renewed = synced.run("-q", "sync", "--renew")
    assert (0, "") == (renewed.code, renewed.err)


# --- a full disk


def test_full_disk(synced: Host, name: str) -> None:
    """On a disk without room nothing is ordered and nothing changed; with room it goes on."""
    versions = synced.fingerprints(name)
    disk = FullDisk.of(synced)

    run = synced.run("-q", "sync", "--renew", wrapped_in=disk.command)

    assert FAILED == run.code
    assert f"{synced.state} {disk.words}" in run.complaint.error
    assert f"free some space at {synced.state.parent}" in run.complaint.hint
    assert NOBODY_ASKED == run.left

    for file in FullDisk.after(synced).iterdir():
        (synced.state.parent / file.name).write_bytes(file.read_bytes())
    assert versions == synced.fingerprints(name)
    assert 0 == synced.run("sync", "--renew").code


@pytest.mark.parametrize("kilobytes", [8, 36, 48, 72, 100, 140])
def test_disk_that_fills_up_on_the_way(host: Host, name: str, kilobytes: int) -> None:
    """Wherever writing ends, it is told, and no record is left; the next run goes on to one
    certificate and one upload.

    A limit on the size of files stands in for the disk, since it can be set to any number.
    """
    assert 0 == host.run("plan").code  # makes the state

    run = host.run("-q", "sync", wrapped_in=("prlimit", f"--fsize={kilobytes * 1024}"))

    assert FAILED == run.code
    assert f"{host.state} cannot be read or written" in run.complaint.error
    assert f"free some space at {host.state.parent}" in run.complaint.hint
    assert 0 == run.left.challenges

    cured = host.run("sync")

    assert 0 == cured.code
    assert 1 == run.left.certificates + cured.left.certificates
    assert 1 == run.left.qiniu_uploads + cured.left.qiniu_uploads
    assert 0 == cured.left.challenges
    assert 1 == len(host.fingerprints(name))


# --- all


@pytest.fixture
def synced(host: Host) -> Host:
    """A machine whose certificate is served."""
    assert 0 == host.run("sync").code
    return host


def assert_nothing_written(left: Footprint) -> None:
    """No provider was asked for a change, no certificate issued, nothing left in DNS."""
    written = (left.qiniu_writes, left.dnspod_writes, left.certificates, left.challenges)
    assert (0, 0, 0, 0) == written


def assert_untouched(host: Host, name: str, left: Footprint) -> None:
    """Nobody but Qiniu was asked, for reading alone, and nothing is remembered."""
    assert Footprint(qiniu_requests=left.qiniu_requests) == left
    assert [] == host.fingerprints(name)


def ask_for_challenge(world: World, name: str) -> None:
    """Ask the resolver as the CA does."""
    question = dns.message.make_query(f"_acme-challenge.{name}", "TXT")
    dns.query.udp(question, world.dns.resolver.address, port=world.dns.port, timeout=5)
