"""Mistakes in the configuration file and in its files of variables."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run, certificate
from tests.acceptance.requests_made import NO_REQUESTS, RequestsMade, assert_nothing_written

# --- Mistakes: one clear message with a hint, the right exit code, and an unchanged machine


FAILED, USAGE = 1, 2


def test_secret_in_a_configuration_that_a_group_can_read(host: Host) -> None:
    """A literal secret in a file with a wide mode is refused, with the command that closes the
    file.
    """
    token = host.world.credentials.dnspod_token
    host.rewrite('"env:DP_Key"', f'"{token}"')
    host.config.chmod(0o640)

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert f"run: chmod 600 {host.config}" in run.complaint.error
    assert "[accounts.dnspod] token" in run.complaint.error
    assert token not in run.err
    assert run.complaint.hint
    assert NO_REQUESTS == run.left
    assert not host.state.exists()

    host.config.chmod(0o600)
    assert 0 == host.run("-q", "plan").code


@pytest.mark.parametrize("command", ["plan", "sync", "status", "history"])
def test_unknown_keys(host: Host, command: str) -> None:
    """The message lists every wrong key at once: file, line, table, key, and the most similar valid
    key.
    """
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
    assert NO_REQUESTS == run.left
    assert not host.state.exists()


def test_mistakes_of_every_kind(host: Host) -> None:
    """The message also lists the mistakes that only an account's adapter can find, and an unset
    variable.
    """
    host.rewrite("[accounts.qiniu]", '[accounts.qiniu]\nacces_key = "env:X"')
    host.rewrite('"env:DP_Key"', '"env:NOBODY_SETS_IT"')
    host.rewrite('to = "qiniu"', 'to = "qiniu"\nretire = "all_unused"')

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert "retire: must be one of superseded, all-unused, never" in run.complaint.error
    assert "acces_key: unknown key; did you mean access_key?" in run.complaint.error
    assert "the environment variable NOBODY_SETS_IT is not set" in run.complaint.error
    assert NO_REQUESTS == run.left
    assert not host.state.exists()


@pytest.mark.parametrize("variable", ["QINIU_ACCESS_KEY", "QINIU_SECRET_KEY"])
def test_wrong_keys_of_qiniu(host: Host, name: str, variable: str) -> None:
    """Each way to Qiniu gets one request; the message names both keys, and the page where the
    operator can compare them.
    """
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
    assert RequestsMade(qiniu_requests=2) == run.left
    assert [] == host.fingerprints(name)

    assert 0 == host.run("sync").code


def test_plan_with_wrong_keys_of_qiniu(host: Host) -> None:
    """The plan lists the refusal as an obstacle, and no steps."""
    run = host.run("plan", "--json", QINIU_SECRET_KEY="wrong")

    (planned,) = run.document["certificates"]
    (obstacle,) = planned["obstacles"]
    assert FAILED == run.code
    assert [] == planned["steps"]
    assert "target_access_denied" == obstacle["error"]["code"]
    assert "密钥管理" in obstacle["error"]["hint"]
    assert RequestsMade(qiniu_requests=2) == run.left


@pytest.mark.parametrize(
    ("variable", "wrong", "hint"),
    [
        ("DP_Id", "999999999", "the token does not exist"),
        ("DP_Key", "0123456789abcdef" * 2, "`token` does not belong to `id`"),
    ],
)
def test_wrong_keys_of_dnspod(
    world: World, tmp_path: Path, new_name: Callable[[], str], variable: str, wrong: str, hint: str
) -> None:
    """All certificates share one request to DNSPod, which keeps the account from being banned. The
    hint names the wrong half of the pair, and the CA counts no order.
    """
    names = [new_name(), new_name()]
    for domain in names:
        world.add_http_domain(domain)
    host = Host(world, tmp_path, "".join(map(certificate, names)))

    run = host.run("sync", "--json", **{variable: wrong})

    steps = [step for lineage in run.document["certificates"] for step in lineage["steps"]]
    assert FAILED == run.code
    assert [("issue", "failed")] * 2 == [(step["action"], step["outcome"]) for step in steps]
    assert {"dns_access_denied"} == {step["code"] for step in steps}
    for step in steps:
        assert "DNSPod" in step["detail"]
        assert hint in step["hint"]
        assert "console.dnspod.cn" in step["hint"]
    if variable == "DP_Key":
        assert wrong not in run.out + run.err
    assert (1, 0) == (run.left.dnspod_requests, run.left.orders)
    assert_nothing_written(run.left)
    assert [[], []] == [host.fingerprints(domain) for domain in names]

    cured = host.run("sync")

    assert 0 == cured.code
    assert (2, 2) == (cured.left.orders, cured.left.certificates)


def test_zone_that_is_not_in_the_account(world: World, tmp_path: Path) -> None:
    """The message names the challenge that no zone can hold, and the hint lists the account's
    zones.
    """
    name = "img.elsewhere.net"
    world.qiniu.add_domain(name)
    host = Host(world, tmp_path, certificate(name))

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert (
        f"{name}: issue failed: no zone of the account holds _acme-challenge.{name}"
        == run.complaint.error
    )
    # Other tests of the worker may have added zones to the account.
    zones, _, _ = run.complaint.hint.partition(": add the domain to the account")
    assert "example.com" in zones.removeprefix("the account has ").split(", ")
    assert 0 == run.left.orders
    assert_nothing_written(run.left)
    assert [] == host.fingerprints(name)


def test_domain_that_is_not_known(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The message quotes Qiniu's code, and the hint says what to correct."""
    name = new_name()
    host = Host(world, tmp_path, certificate(name))

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"qiniu → {name}: " in run.complaint.error
    assert "the domain is not a CDN domain of the account (404001" in run.complaint.error
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
            "bring the domain online in Qiniu's console",
        ),
        (
            lambda qiniu, name: qiniu.add_domain(name, could_operate=False),
            "is locked against self-service at Qiniu",
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
    """The message says why the domain cannot be changed; no certificate is issued."""
    name = new_name()
    put_in(world.qiniu, name)
    host = Host(world, tmp_path, certificate(name))

    run = host.run("-q", "sync")

    assert FAILED == run.code
    assert f"{name} {error}" in run.complaint.error
    assert hint in run.complaint.hint
    assert_untouched(host, name, run.left)


def assert_untouched(host: Host, name: str, left: RequestsMade) -> None:
    """Assert that the run only read at Qiniu, and stored no certificate."""
    assert RequestsMade(qiniu_requests=left.qiniu_requests) == left
    assert [] == host.fingerprints(name)


# --- The keys file of the well-known recipe: read for its keys, never executed


NO_KEYS = {"DP_Id": "", "DP_Key": "", "QINIU_ACCESS_KEY": "", "QINIU_SECRET_KEY": ""}
"""An environment without keys: the keys come from the file alone."""


@pytest.fixture
def keys(world: World, tmp_path: Path) -> Path:
    made_up = world.credentials
    path = tmp_path / ".cdn-env"
    path.write_text(
        f"""\
# sourced by the old scripts
export QINIU_AK="{made_up.access_key}"
export QINIU_SK="{made_up.secret_key}"

export DP_Id="{made_up.dnspod_id}"   # DNSPod
DP_Key='{made_up.dnspod_token}'
"""
    )
    path.chmod(0o600)
    return path


@pytest.fixture
def host_of_env_files(host: Host, keys: Path) -> Host:
    text = host.config.read_text().replace("env:QINIU_ACCESS_KEY", "env:QINIU_AK")
    text = text.replace("env:QINIU_SECRET_KEY", "env:QINIU_SK")
    host.config.write_text(f'env_files = ["{keys}"]\n{text}')
    return host


def refused(host_of_env_files: Host) -> Run:
    """Run with a file that certferry must refuse, and assert that all services are unchanged."""
    run = host_of_env_files.run("-q", "sync", **NO_KEYS)
    assert 2 == run.code, run
    assert (0, 0, 0) == (run.left.qiniu_writes, run.left.dnspod_writes, run.left.orders)
    return run


def test_the_file_is_all_it_takes(world: World, host_of_env_files: Host, name: str) -> None:
    """Both accounts have their keys from the file: a certificate is issued, deployed and served."""
    run = host_of_env_files.run("sync", **NO_KEYS)

    assert 0 == run.code, run
    assert f"verify   done      {name}: served by every address that answers" in run.out
    assert world.qiniu.bound(name) is not None


@pytest.mark.parametrize("line", ['QINIU_SK="$(touch {trace})"', "QINIU_SK=`touch {trace}`"])
def test_a_command_in_it_is_refused_and_not_run(
    host_of_env_files: Host, keys: Path, tmp_path: Path, line: str
) -> None:
    """A command in the file is an error that names file, line and variable. The command is not run;
    a shell that reads the file does run the command.
    """
    trace = tmp_path / "was-run"
    keys.write_text(keys.read_text() + "export " + line.format(trace=trace) + "\n")

    complaint = refused(host_of_env_files).complaint

    assert f"{keys}:7: QINIU_SK: a shell would " in complaint.error
    assert not trace.exists()
    subprocess.run(["sh", str(keys)], check=True)
    assert trace.exists()


def test_a_file_that_others_can_read_is_refused(host_of_env_files: Host, keys: Path) -> None:
    """The error includes the command that closes the file."""
    keys.chmod(0o644)

    assert f"run: chmod 600 {keys}" in refused(host_of_env_files).complaint.error
