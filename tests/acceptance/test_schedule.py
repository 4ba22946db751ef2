"""Scheduled runs do the whole job: the exact line of the crontab and the exact command of the
service, in an almost empty environment.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.world import World
from tests.acceptance.full_disk import read_only
from tests.acceptance.host import LONGEST_RUN, Host
from tests.adapters.schedule.crontab_owner import AS_ROOT, CrontabOwner
from tests.house.tree import ROOT

MARK = " # certferry schedule"


@pytest.fixture
def prepared(host: Host, world: World) -> Host:
    keys = host.directory / "keys.env"
    keys.touch(0o600)
    keys.write_text("".join(f"{name}='{value}'\n" for name, value in world.environment.items()))
    host.config.write_text(f'env_files = ["{keys}"]\n{host.config.read_text()}')
    host.config.chmod(0o600)
    return host


def started(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the system does: in another directory, with an almost empty environment."""
    return subprocess.run(
        ["/usr/bin/env", "-i", "HOME=/", *command],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )


def test_the_crontabs_line_does_the_job(
    prepared: Host, owner: CrontabOwner, world: World, name: str
) -> None:
    """With no variable but HOME the line issues, deploys and verifies, and prints nothing, so cron
    sends no mail.
    """
    installed = prepared.run("schedule", "install", PATH=owner.environ["PATH"])
    assert Exit.OK == installed.code
    assert installed.err.startswith("warning: neither a channel nor a heartbeat is declared")
    line = (owner.read() or b"").decode().removesuffix("\n")
    # The test skips the wait at the beginning of the line.
    command = re.sub(r"^/bin/sleep \d+; ", "/bin/sleep 0; ", line.split(" ", 5)[5])
    assert " sync --scheduled || " in command
    assert command.endswith(MARK)
    log = prepared.state.with_name("certferry.log")
    assert f"  log       {log}\n" in installed.out

    first = started("/bin/sh", "-c", command)

    assert (Exit.OK, "", "") == (first.returncode, first.stdout, first.stderr)
    assert "ended with exit code 0" in log.read_text()
    [fingerprint] = prepared.fingerprints(name)
    assert Exit.OK == started("/bin/sh", "-c", command).returncode
    assert [fingerprint] == prepared.fingerprints(name)


SANDBOX = """
set -e
mkdir -p {state}
mount --make-rprivate /
mount --bind {state} {state}
mount -o remount,bind,ro /
if touch {config} 2>/dev/null; then echo "not read-only" >&2; exit 99; fi
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all {command}
"""


@pytest.mark.skipif(not AS_ROOT, reason="only root can take away from a process what systemd takes")
def test_the_services_command_does_the_job_in_its_sandbox(
    prepared: Host, name: str, tmp_path: Path
) -> None:
    """The run is root with the capabilities for files alone, and can write only to the state."""
    units = tmp_path / "units"
    script = f"""
        mkdir -p {units} /etc/systemd/system && mount --bind {units} /etc/systemd/system
        mount -t tmpfs none /run
        exec "$@"
    """
    installed = prepared.run_apart(
        "schedule",
        "install",
        "--systemd",
        wrapped_in=["unshare", "--mount", "sh", "-c", script, "sh"],
    )
    assert Exit.OK == installed.code
    assert re.match(r"warning: .*: to do: systemctl enable --now .*\n", installed.err)
    unit = (units / "certferry.service").read_text()
    [start] = [row for row in unit.splitlines() if row.startswith("ExecStart=")]
    assert f"\nReadWritePaths={prepared.state.parent}\n" in unit
    assert "\nCapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER\n" in unit
    words = shlex.split(start.removeprefix("ExecStart="))

    result = started(
        *("/usr/bin/unshare", "--mount", "/bin/sh", "-c"),
        SANDBOX.format(
            state=prepared.state.parent, config=prepared.config, command=shlex.join(words)
        ),
    )

    assert (Exit.OK, "", "") == (result.returncode, result.stdout, result.stderr)
    assert 1 == len(prepared.fingerprints(name))
    assert os.access(prepared.config, os.W_OK)


@pytest.mark.parametrize(
    ("result", "status", "words"),
    [
        ("timeout", "TERM", "the run took longer than allowed"),
        ("oom-kill", "KILL", "the machine ran out of memory"),
        ("exit-code", "2", "the run ended with status 2"),
        ("", "", "the scheduled run was cut short"),
        ("", "137", "a signal ended the run"),
        ("", "2", "the run ended with status 2"),
    ],
)
def test_a_run_that_the_system_ended_is_reported(
    prepared: Host, result: str, status: str, words: str
) -> None:
    """The unit under OnFailure= explains systemd's words and reports once, until a run has ended:
    `check` reports the failure, and a channel gets a message. If the run has reported its own
    error, the unit reports nothing.
    """
    with EventReceiver() as hook:
        prepared.config.write_text(
            f'{prepared.config.read_text()}\n[notify.hook]\ntype = "webhook"\n'
            f'url = "{hook.address}"\nsecret = "{SECRET}"\n'
        )
        assert Exit.OK == prepared.run("sync").code
        for reported_itself in ("exit-code 1", "exit-code 3", "exit-code 130", " 1", " 75"):
            must_be_taken(prepared, *reported_itself.split(" "))
        assert [] == hook.events
        assert 0 == prepared.run("check").code

        for _ in range(2):
            must_be_taken(prepared, result, status)

        [(code, message)] = [(each["code"], each["message"]) for each in hook.events]
        assert "run_cut_short" == code
        assert words in message
        assert 1 == prepared.run("check").code
        assert Exit.OK == prepared.run("sync").code
        assert 0 == prepared.run("check").code
        assert ["trouble", "recovered"] == [each["event"] for each in hook.events]


def must_be_taken(host: Host, result: str, status: str) -> None:
    """Report the end of a run as the unit under OnFailure= does."""
    how = {"MONITOR_SERVICE_RESULT": result, "MONITOR_EXIT_STATUS": status}
    done = host.run("-q", "notify", "failed", **how)
    assert (Exit.OK, "", "") == (done.code, done.out, done.err)


def test_a_run_that_was_refused_is_reported_once(prepared: Host, name: str) -> None:
    """A run that ends with 2 over an unset variable or a wrong file reports the error itself."""
    with EventReceiver() as hook:
        prepared.config.write_text(
            f'{prepared.config.read_text()}\n[notify.hook]\ntype = "webhook"\n'
            f'url = "{hook.address}"\nsecret = "{SECRET}"\n'
        )
        assert Exit.OK == prepared.run("sync").code
        for old, new in (("env:QINIU_ACCESS_KEY", "env:GONE"), ("names = [", "nams = [")):
            prepared.rewrite(old, new)
            assert Exit.USAGE == prepared.run("sync").code
            reported = prepared.run("notify", "failed", MONITOR_EXIT_STATUS="2")
            assert (Exit.OK, "", "") == (reported.code, reported.out, reported.err)

    assert ["config"] == [event["code"] for event in hook.events]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a file system of its own to try")
@pytest.mark.parametrize("gone", ["disk", "directory"])
def test_a_run_whose_log_cannot_be_written_is_reported(
    prepared: Host, owner: CrontabOwner, tmp_path: Path, gone: str, name: str
) -> None:
    """On a disk that takes no writes, the crontab's line starts a run, which reports the failed
    writes. If the log's directory is gone, the report says that no run began.
    """
    logs = tmp_path / "logs"
    logs.mkdir()
    options = ["--log-file", str(logs / "log")] if gone == "directory" else []
    with EventReceiver() as hook:
        prepared.config.write_text(
            f'{prepared.config.read_text()}\n[notify.hook]\ntype = "webhook"\n'
            f'url = "{hook.address}"\nsecret = "{SECRET}"\n'
        )
        assert Exit.OK == prepared.run("sync").code
        prepared.run(*options, "schedule", "install", PATH=owner.environ["PATH"])
        line = (owner.read() or b"").decode().removesuffix("\n")
        shutil.rmtree(logs)
        wrapped = read_only(prepared.state.parent) if gone == "disk" else []
        words = re.sub(r"^/bin/sleep \d+; ", "", line.split(" ", 5)[5])
        ended = started(*wrapped, "/bin/sh", "-c", words)

    expected = {"disk": "the file system is read-only", "directory": "the run ended with status 2"}[
        gone
    ]
    assert (Exit.FAILED if gone == "disk" else Exit.USAGE) == ended.returncode, ended
    assert "cannot be written" in ended.stderr
    [message] = [event["message"] for event in hook.events]
    assert expected in message


def test_logrotate_takes_the_snippet(prepared: Host, tmp_path: Path) -> None:
    """The printed snippet for /etc/logrotate.d rotates the log of scheduled runs; the guide's
    snippet is the same for another path.
    """
    snippet = prepared.run("schedule", "logrotate")
    elsewhere = prepared.run("--log-file", str(tmp_path / "c.log"), "schedule", "logrotate")

    assert f'"{prepared.state.with_name("certferry.log")}" {{' in snippet.out
    guide = (ROOT / "docs" / "how-to" / "logrotate").read_text()
    assert guide == elsewhere.out.replace(f'"{tmp_path / "c.log"}"', "/var/log/certferry.log")
    if logrotate := shutil.which("logrotate"):
        (tmp_path / "snippet").write_text(snippet.out)
        checked = subprocess.run(
            [logrotate, "--debug", str(tmp_path / "snippet")], capture_output=True, check=False
        )
        assert 0 == checked.returncode, checked.stderr
