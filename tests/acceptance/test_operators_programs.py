"""The programs that certferry runs: their environment, and the end of the programs and of their key
after a run is stopped, loses its terminal, or is killed.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from certferry_sandbox.world import World
from tests.acceptance.site import Site
from tests.support.tiers import sampled, thorough
from tests.support.waiting import eventually

STOPPED = 130
DEADLINE = 30  # the most seconds that a test waits

PUSH = """
trap 'touch asked; until test -e go; do sleep 0.05; done; touch rolled-back; exit 1' TERM
echo $$ > new; mv new pid
until test -e go; do sleep 0.05; done
"""


@pytest.fixture
def site(world: World, tmp_path: Path, new_name: Callable[[], str]) -> Iterator[Site]:
    """A machine whose command runs until the test releases or ends the command."""
    machine = Site(world, tmp_path, new_name())
    machine.let_push(PUSH)
    yield machine
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def is_alive(site: Site) -> bool:
    try:
        stat = Path("/proc", (site.folder / "pid").read_text().strip(), "stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def has_the_key(site: Site) -> bool:
    return "privkey.pem" in {path.name for path in site.handed_over}


@pytest.mark.parametrize("how", sampled([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], 1))
def test_stopped_while_a_command_runs(site: Site, how: signal.Signals) -> None:
    """The command is asked to end, and its files are removed, even after repeated signals to the
    run.
    """
    with site.begin("sync", "--json") as process:
        assert eventually((site.folder / "pid").exists)
        assert has_the_key(site)
        process.send_signal(how)
        assert eventually((site.folder / "asked").exists)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGHUP)
        (site.folder / "go").touch()
        process.communicate(timeout=DEADLINE)

    assert STOPPED == process.returncode
    assert (site.folder / "rolled-back").exists()
    assert not is_alive(site)
    assert [] == site.handed_over

    site.let_push("echo $CERTFERRY_FINGERPRINT > pushed")
    assert "done" == site.outcomes()["push"]
    assert site.fingerprints("site") == site.lines("pushed")


@thorough
def test_stopped_twice_while_a_reload_runs(site: Site) -> None:
    """After Ctrl-C and the supervisor's SIGTERM, the program's children are ended, and all drafts
    are removed.
    """
    site.let_reload(
        "sh -c 'echo $$ > new; mv new pid; sleep 600' &\n"
        "trap 'touch asked; until test -e go; do sleep 0.05; done; exit 1' TERM; wait"
    )
    with site.begin("sync") as process:
        assert eventually((site.folder / "pid").exists)
        process.send_signal(signal.SIGINT)
        assert eventually((site.folder / "asked").exists)
        process.send_signal(signal.SIGTERM)
        (site.folder / "go").touch()
        process.communicate(timeout=DEADLINE)

    assert STOPPED == process.returncode
    assert not is_alive(site)
    assert ["cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"] == sorted(
        path.name for path in site.ssl.iterdir()
    )


IGNORE = """\
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
IGNORING = (sys.executable, "-c", IGNORE)
"""Starts a command like the cron daemons and supervisors that ignore the end of their children."""


@thorough
def test_parent_that_waits_for_no_child(site: Site) -> None:
    """The exit code of a program is known all the same, and the failure quotes the code."""
    site.let_push("exit 3")
    site.let_reload("exit 4")
    run = site.run_apart("sync", "--json", wrapped_in=IGNORING)

    steps = {step["domain"]: step for step in run.steps}
    assert 1 == run.code
    for domain, words in {"push": "exit code 3", str(site.ssl): "exit code 4"}.items():
        assert steps[domain]["detail"].endswith(f"failed with {words}"), steps
    site.let_push("exit 0")
    site.let_reload("exit 0")
    assert 0 == site.run_apart("sync", wrapped_in=IGNORING).code


@thorough
def test_hang_up_that_is_ignored(site: Site) -> None:
    """With nohup a run outlives its terminal."""
    with site.begin("sync", wrapped_in=("nohup",)) as process:
        assert eventually((site.folder / "pid").exists)
        process.send_signal(signal.SIGHUP)
        (site.folder / "go").touch()
        process.communicate(timeout=DEADLINE)

    assert 0 == process.returncode
    assert [] == site.handed_over


@thorough
def test_terminal_that_goes_away(site: Site) -> None:
    """As in a lost ssh connection, the output is not read, and the run still ends in order."""
    command = [sys.executable, "-m", "certferry", "--config", str(site.config), "sync"]
    terminal = subprocess.Popen(
        ["script", "-qec", f"echo $$ > certferry; exec {shlex.join(command)}", "/dev/null"],
        env={**os.environ, **site.world.environment, "TERM": "xterm", "SHELL": "/bin/sh"},
        cwd=site.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert eventually((site.folder / "pid").exists)
        assert has_the_key(site)
    finally:
        terminal.kill()
        terminal.wait()
    assert eventually((site.folder / "asked").exists)
    (site.folder / "go").touch()

    run = Path("/proc", (site.folder / "certferry").read_text().strip())
    assert eventually(lambda: not run.exists())
    assert (site.folder / "rolled-back").exists()
    assert not is_alive(site)
    assert [] == site.handed_over


def test_key_of_a_run_that_was_killed(site: Site) -> None:
    """The next run removes the key, although the command has left the file; a run during the
    command leaves the key alone.
    """
    with site.begin("sync") as process:
        assert eventually((site.folder / "pid").exists)
        assert 0 == site.run("plan").code
        assert has_the_key(site)
        process.kill()
        process.wait()
    assert has_the_key(site)
    site.rewrite('[[certificates.deploy]]\nto = "command"\ncommand = ["./push", "to lb"]\n', "")

    assert 0 == site.run("sync").code

    assert [] == site.handed_over


def test_keys_of_the_accounts_are_not_for_programs(site: Site) -> None:
    """The programs' environment lacks the file's variables, the usual names and all copies of the
    secrets. Other variables stay, because a command may need its own token.
    """
    site.rewrite("env:DP_Key", "env:OUR_DNS_TOKEN")
    variables = {
        "OUR_DNS_TOKEN": site.world.credentials.dnspod_token,
        "OUR_COPY": site.world.credentials.dnspod_token,
        "QINIU_SK": "not-read-by-this-configuration",
        "LB_TOKEN": "of-the-load-balancer",
        "CERTFERRY_FINGERPRINT": "of-another-certificate",
    }
    tell = f"exec {sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))' > {{}}"
    site.let_reload(tell.format("reload.json"))
    site.let_push(tell.format("push.json"))

    run = site.run("sync", **variables)

    assert 0 == run.code, run
    given = {*site.world.environment, *variables}
    keys = {name for name in given if name.startswith(("DP_", "QINIU_", "OUR_"))}
    assert {"DP_Id", "DP_Key", "QINIU_ACCESS_KEY", "QINIU_SECRET_KEY"} < keys
    for program in ("reload", "push"):
        has = json.loads((site.folder / f"{program}.json").read_text())
        assert set() == keys & set(has)
        assert given - keys <= set(has)
        assert variables["LB_TOKEN"] == has["LB_TOKEN"]
        assert site.fingerprints("site") == [has["CERTFERRY_FINGERPRINT"]]
        assert os.environ["PATH"] == has["PATH"]


def test_leftovers_of_a_killed_run_are_removed_by_sync_alone(site: Site) -> None:
    """`plan` and `status` leave the handover folder unchanged."""
    left = site.state.parent / "handover" / "left"
    left.mkdir(parents=True, mode=0o700)
    site.let_push("exit 0")

    assert 0 == site.run("plan").code
    assert 1 == site.run("status").code
    assert left.exists()
    assert 0 == site.run("sync").code

    assert [] == site.handed_over
