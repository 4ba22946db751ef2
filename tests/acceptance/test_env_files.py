"""The keys file of the well-known recipe, as it is: read for its keys, never executed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run

NO_KEYS = {"DP_Id": "", "DP_Key": "", "QINIU_ACCESS_KEY": "", "QINIU_SECRET_KEY": ""}
"""Nothing in the environment but what the file says."""


@pytest.fixture
def keys(world: World, tmp_path: Path) -> Path:
    """A file as the old scripts source it."""
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
def host(host: Host, keys: Path) -> Host:
    """A machine whose configuration takes every key from that file."""
    text = host.config.read_text().replace("env:QINIU_ACCESS_KEY", "env:QINIU_AK")
    text = text.replace("env:QINIU_SECRET_KEY", "env:QINIU_SK")
    host.config.write_text(f'env_files = ["{keys}"]\n{text}')
    return host


def refused(host: Host) -> Run:
    """Run into a file that must not be used: nothing is asked for at any service."""
    run = host.run("-q", "sync", **NO_KEYS)
    assert 2 == run.code, run
    assert (0, 0, 0) == (run.left.qiniu_writes, run.left.dnspod_writes, run.left.orders)
    return run


def test_the_file_is_all_it_takes(world: World, host: Host, name: str) -> None:
    """Both accounts' keys come from it: issued, deployed, and served."""
    run = host.run("sync", **NO_KEYS)

    assert 0 == run.code, run
    assert f"verify   done      {name}: served by every address that answers" in run.out
    assert world.qiniu.bound(name) is not None


@pytest.mark.parametrize("line", ['QINIU_SK="$(touch {trace})"', "QINIU_SK=`touch {trace}`"])
def test_a_command_in_it_is_refused_and_not_run(
    host: Host, keys: Path, tmp_path: Path, line: str
) -> None:
    """What a shell would carry out is an error that names file, line and variable; its effect is
    not there, as it is when a shell does read the file.
    """
    trace = tmp_path / "was-run"
    keys.write_text(keys.read_text() + "export " + line.format(trace=trace) + "\n")

    complaint = refused(host).complaint

    assert f"{keys}:7: QINIU_SK: a shell would " in complaint.error
    assert not trace.exists()
    subprocess.run(["sh", str(keys)], check=True)
    assert trace.exists()


def test_a_file_that_others_can_read_is_refused(host: Host, keys: Path) -> None:
    """The error says how to close it."""
    keys.chmod(0o644)

    assert f"run: chmod 600 {keys}" in refused(host).complaint.error
