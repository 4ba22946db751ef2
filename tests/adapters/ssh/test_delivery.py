"""Deliveries to a real sshd."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from certferry.adapters.files.directory import NAMES
from certferry.core.reasons import ReasonCode
from certferry.errors import DeployError, Interrupted
from certferry.ports.receiver import Receiver
from certferry.text import Text
from certferry.values import replace
from tests.adapters.receivers.bench import LINEAGE, directory, holds, issue, mode, program
from tests.adapters.ssh.bench import account, remote, to
from tests.support.programs import needs
from tests.support.sshd import Sshd
from tests.support.tiers import thorough

pytestmark = needs("sshd")


@pytest.fixture
def receiver(sshd: Sshd, ssl: Path) -> Receiver:
    return remote(sshd, to(ssl))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of change of the directory and of each file in the directory."""
    paths = [folder, *folder.iterdir()]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_second_delivery_writes_nothing(receiver: Receiver, ssl: Path) -> None:
    """Digests are compared before anything is written."""
    bundle = issue()
    receiver.deliver(LINEAGE, bundle)
    assert holds(ssl, bundle)
    assert [0o600, 0o644] == [mode(ssl / name) for name in ("privkey.pem", "cert.pem")]
    before = snapshot(ssl)

    receiver.deliver(LINEAGE, bundle)
    observed = receiver.observe(None)

    assert before == snapshot(ssl)
    assert (bundle.certificate.fingerprint, None) == (observed.bound, observed.drift)


def test_host_that_changes_between_files_and_ssh(receiver: Receiver, ssl: Path) -> None:
    """The files and the receipt are the same, so each reads what the other wrote."""
    old, new = issue(), issue()
    receiver.deliver(LINEAGE, old)

    assert directory(to(ssl)).observe(None).drift is None
    directory(to(ssl)).deliver(LINEAGE, new)

    assert receiver.observe(None).drift is None
    before = snapshot(ssl)
    receiver.deliver(LINEAGE, new)
    assert before == snapshot(ssl)


def test_files_that_another_program_changed(receiver: Receiver, ssl: Path) -> None:
    """The look names each difference, and a delivery mends the files."""
    bundle = issue()
    receiver.deliver(LINEAGE, bundle)
    (ssl / "cert.pem").write_text("changed")
    (ssl / "chain.pem").unlink()
    (ssl / "privkey.pem").chmod(0o640)

    drift = receiver.observe(None).drift

    assert drift is not None
    assert ReasonCode.DELIVERY_DRIFTED is drift.reason.code
    changes = [(change.setting, change.before) for change in drift.changes]
    assert [("chain.pem", "missing"), ("privkey.pem", "0640"), ("cert.pem", "changed")] == changes
    receiver.deliver(LINEAGE, bundle)
    assert holds(ssl, bundle)


def test_programs_of_the_server(sshd: Sshd, ssl: Path, tmp_path: Path) -> None:
    """`test` and `reload` run on the server with the variables; a failed `test` puts all back."""
    ran = tmp_path / "ran"
    say = f'echo "$0 $CERTFERRY_FINGERPRINT $CERTFERRY_DIRECTORY" >> {ran}; test ! -e {tmp_path}/no'
    both = replace(
        to(ssl),
        test=program(Path("/"), "/bin/sh", "-c", say, "test"),
        reload=program(Path("/"), "/bin/sh", "-c", say, "reload it's"),
    )
    old, new = issue(), issue()
    remote(sshd, both).deliver(LINEAGE, old)
    fingerprint = old.certificate.fingerprint
    lines = [f"test {fingerprint} {ssl}", f"reload it's {fingerprint} {ssl}"]
    assert lines == ran.read_text().splitlines()
    before = {name: (ssl / name).stat().st_ino for name in NAMES}
    (tmp_path / "no").touch()

    with pytest.raises(DeployError) as failed:
        remote(sshd, both).deliver(LINEAGE, new)

    assert "exit code 1; the files are as before" in str(failed.value.message)
    assert before == {name: (ssl / name).stat().st_ino for name in NAMES}
    assert holds(ssl, old)
    assert remote(sshd, both).observe(None).drift is None


def test_failed_reload_is_repeated(sshd: Sshd, ssl: Path, tmp_path: Path) -> None:
    """The words of the program are in the error, and the next delivery runs `reload` again."""
    reload = program(Path("/"), "sh", "-c", f"echo no luck >&2; test -e {tmp_path}/yes")
    receiver, bundle = remote(sshd, replace(to(ssl), reload=reload)), issue()

    with pytest.raises(DeployError, match="exit code 1: no luck"):
        receiver.deliver(LINEAGE, bundle)

    drift = receiver.observe(None).drift
    assert drift is not None
    assert ReasonCode.DELIVERY_UNFINISHED is drift.reason.code
    (tmp_path / "yes").touch()
    receiver.deliver(LINEAGE, bundle)
    assert receiver.observe(None).drift is None
    assert holds(ssl, bundle)


def test_program_that_takes_too_long(sshd: Sshd, ssl: Path) -> None:
    """The program is ended on the server."""
    reload = program(Path("/"), "sleep", "60", timeout=1)

    with pytest.raises(DeployError, match="still running after"):
        remote(sshd, replace(to(ssl), reload=reload)).deliver(LINEAGE, issue())


def test_program_that_leaves_a_server_in_the_background(sshd: Sshd, ssl: Path) -> None:
    """The connection ends with the last answer, although a program keeps the output open."""
    reload = program(Path("/"), "sh", "-c", "sleep 30 &")
    bundle, start = issue(), time.monotonic()

    remote(sshd, replace(to(ssl), reload=reload)).deliver(LINEAGE, bundle)

    assert time.monotonic() - start < 25
    assert holds(ssl, bundle)


def test_rights_of_the_files(sshd: Sshd, ssl: Path) -> None:
    """Owner, group and modes are as declared, by name or by number."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    delivery = replace(to(ssl), owner="nobody", group="65534", mode=0o640, key_mode=0o440)
    bundle = issue()

    remote(sshd, delivery).deliver(LINEAGE, bundle)

    facts = (ssl / "privkey.pem").stat()
    assert (65534, 65534, 0o440) == (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode))
    assert remote(sshd, delivery).observe(None).drift is None
    drift = remote(sshd, replace(delivery, owner="root")).observe(None).drift
    assert drift is not None
    assert drift.changes[0].before == "0640 nobody:65534"


def test_no_key_in_arguments_environment_or_files(
    sshd: Sshd, ssl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a delivery runs, no argument and no environment of any process has either key, and no
    file that the delivery made can be read by others with a key in the file.
    """
    reload = program(Path("/"), "sleep", "2")
    bundle, seen = issue(), list[str]()
    needles = [
        bundle.privkey_pem.reveal().splitlines()[1].encode(),
        sshd.key.read_bytes().splitlines()[2],
    ]
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for process in Path("/proc").iterdir():
                if process.name.isdecimal() and process.name != str(os.getpid()):
                    for what in ("cmdline", "environ"):
                        try:
                            content = (process / what).read_bytes()
                        except OSError:
                            continue
                        seen.extend(f"{process}/{what}" for n in needles if n in content)
            paths = [Path(top, name) for top, _, names in os.walk(ssl.parent) for name in names]
            for path in paths:  # os.walk passes over folders that are removed meanwhile
                try:
                    facts = path.lstat()
                    if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o077:
                        seen.extend(str(path) for n in needles if n in path.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        remote(sshd, replace(to(ssl), reload=reload)).deliver(LINEAGE, bundle)
    finally:
        done.set()
        watcher.join()

    assert [] == seen
    assert holds(ssl, bundle)


def test_stopped_run(sshd: Sshd, ssl: Path) -> None:
    """A signal to stop ends `ssh`; the next run finishes."""
    reload = program(Path("/"), "sleep", "1")
    bundle, started = issue(), time.monotonic()

    def pause(_: float) -> None:
        if time.monotonic() - started > 0.5:
            raise Interrupted(Text("stopped"))

    stopped = account(sshd, pause=pause).receiver(
        replace(to(ssl), reload=reload), withheld=(), hidden=()
    )
    with pytest.raises(Interrupted):
        stopped.deliver(LINEAGE, bundle)

    remote(sshd, to(ssl)).deliver(LINEAGE, bundle)
    assert holds(ssl, bundle)


def test_configuration_of_ssh_counts(
    sshd: Sshd, ssl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`host` may be a `Host` of the user's configuration, with port, key and known hosts."""
    (tmp_path / "known").write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    (tmp_path / "config").write_text(
        f"Host shop\n HostName 127.0.0.1\n Port {sshd.port}\n IdentityFile {sshd.key}\n"
        f" UserKnownHostsFile {tmp_path}/known\n StrictHostKeyChecking no\n"
        " RemoteCommand true\n RequestTTY yes\n"
    )
    # OpenSSH finds the user's file by the account's home, which no variable moves.
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/config "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    bundle = issue()
    usual: dict[str, Any] = {"host": "shop", "port": None, "key": None, "host_key": None}

    remote(sshd, to(ssl), **usual).deliver(LINEAGE, bundle)

    assert holds(ssl, bundle)
    (tmp_path / "known").write_text("")
    observed = remote(sshd, to(ssl), **usual).observe(None)
    assert "host_key_unknown" == (observed.problem and observed.problem.code)


@thorough
@needs("sudo")
def test_sudo(sshd: Sshd, ssl: Path) -> None:
    """With `sudo`, root places the files and runs the programs."""
    if os.geteuid() != 0:
        pytest.skip("the user of the tests may not use sudo without a password")
    reload = program(Path("/"), "sh", "-c", 'test "$SUDO_COMMAND" && test "$(id -u)" = 0')
    bundle = issue()

    remote(sshd, replace(to(ssl), reload=reload), sudo=True).deliver(LINEAGE, bundle)

    assert holds(ssl, bundle)
