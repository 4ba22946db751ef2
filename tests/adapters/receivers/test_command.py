"""A certificate handed to a command: the command's environment, its files, and their removal."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from certferry.adapters.files.directory import contents
from certferry.adapters.receivers import command
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import CommandDelivery, Program
from certferry.core.observed.observation import Change, DomainState
from certferry.errors import DeployError, Interrupted, TargetRejected
from certferry.ports.receiver import Delivered, Receiver
from certferry.text import Text
from tests.adapters.receivers.bench import LINEAGE, issue, no_pause, program

RECORD = 'env | grep ^CERTFERRY_ > told; cp -p "$CERTFERRY_DIRECTORY"/* .; stat -c %a . * > modes'


@pytest.fixture
def bundle() -> CertificateBundle:
    return issue()


def receiver(folder: Path, does: Program, label: str = "push") -> Receiver:
    delivery = CommandDelivery(label, does)
    return command.CommandReceiver(delivery, workspace=folder / "handover", pause=no_pause)


def shell(folder: Path, script: str) -> Receiver:
    return receiver(folder, program(folder, "/bin/sh", "-c", script))


def remaining_files(folder: Path) -> list[Path]:
    return list((folder / "handover").iterdir())


def test_command_gets_everything(tmp_path: Path, bundle: CertificateBundle) -> None:
    """The environment has names, fingerprint, end of validity, and four paths that lead to the four
    files.
    """
    shell(tmp_path, RECORD).deliver(LINEAGE, bundle)

    lines = (tmp_path / "told").read_text().splitlines()
    reported = dict(line.split("=", 1) for line in lines)
    place = Path(reported["CERTFERRY_DIRECTORY"])
    certificate = bundle.certificate
    assert {
        "CERTFERRY_LINEAGE": LINEAGE,
        "CERTFERRY_NAMES": "img.example.com *.img.example.com",
        "CERTFERRY_FINGERPRINT": certificate.fingerprint,
        "CERTFERRY_NOT_AFTER": certificate.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "CERTFERRY_DIRECTORY": str(place),
        "CERTFERRY_CERT": f"{place}/cert.pem",
        "CERTFERRY_CHAIN": f"{place}/chain.pem",
        "CERTFERRY_FULLCHAIN": f"{place}/fullchain.pem",
        "CERTFERRY_PRIVKEY": f"{place}/privkey.pem",
    } == reported
    copied = {name: (tmp_path / name).read_bytes() for name in contents(bundle)}
    assert contents(bundle) == copied
    assert tmp_path / "handover" == place.parent


def test_files_of_a_command_are_private(tmp_path: Path, bundle: CertificateBundle) -> None:
    """Only the command's user can read the files; they are removed when the command ends."""
    script = 'stat -c %a "$CERTFERRY_DIRECTORY" "$CERTFERRY_DIRECTORY"/* > modes'

    shell(tmp_path, script).deliver(LINEAGE, bundle)

    assert ["700", "600", "600", "600", "600"] == (tmp_path / "modes").read_text().split()
    assert [] == remaining_files(tmp_path)
    assert 0o700 == (tmp_path / "handover").stat().st_mode & 0o777


def test_files_are_gone_after_a_failure(tmp_path: Path, bundle: CertificateBundle) -> None:
    """The files are removed after a failed command as well."""
    with pytest.raises(DeployError, match="exit code 1: no route to the load balancer"):
        shell(tmp_path, "echo no route to the load balancer; exit 1").deliver(LINEAGE, bundle)

    assert [] == remaining_files(tmp_path)


def test_leftover_of_a_killed_run(tmp_path: Path, bundle: CertificateBundle) -> None:
    """The next command removes the directory: a directory without a lock belongs to a dead
    process.
    """
    leftover = tmp_path / "handover" / "leftover"
    (leftover / "more").mkdir(parents=True)
    (leftover / "privkey.pem").write_text("an old key")

    shell(tmp_path, f"test ! -e {leftover}").deliver(LINEAGE, bundle)

    assert [] == remaining_files(tmp_path)


def test_leftovers_during_a_command(tmp_path: Path, bundle: CertificateBundle) -> None:
    """Another run of certferry removes a directory without a lock, and leaves the files of the
    running command alone.
    """
    leftover = tmp_path / "handover" / "leftover"
    leftover.mkdir(parents=True)
    (tmp_path / "sweep").write_text(
        "import pathlib, sys\n"
        "from certferry.adapters.files.directory import sweep_handovers\n"
        "sweep_handovers(pathlib.Path(sys.argv[1]))\n"
    )
    paths = os.pathsep.join(filter(None, sys.path))
    script = (
        f"mkdir {leftover}; PYTHONPATH={shlex.quote(paths)} {sys.executable} sweep handover &&"
        f' test ! -e {leftover} && cat "$CERTFERRY_PRIVKEY" > key'
    )

    shell(tmp_path, script).deliver(LINEAGE, bundle)

    assert bundle.privkey_pem.reveal() == (tmp_path / "key").read_text()
    assert [] == remaining_files(tmp_path)


def test_leftover_that_cannot_be_removed(
    tmp_path: Path, bundle: CertificateBundle, caplog: pytest.LogCaptureFixture
) -> None:
    """The command runs, and the log names the leftover."""
    workspace = tmp_path / "handover"
    workspace.mkdir()
    (workspace / "link").symlink_to(tmp_path)

    shell(tmp_path, "touch ran").deliver(LINEAGE, bundle)

    assert (tmp_path / "ran").exists()
    assert f"{workspace}/link cannot be removed: Not a directory" in caplog.text
    assert (workspace / "link").is_symlink()


def test_command_that_removes_its_files_itself(tmp_path: Path, bundle: CertificateBundle) -> None:
    """The delivery succeeds."""
    shell(tmp_path, 'rm -r "$CERTFERRY_DIRECTORY"').deliver(LINEAGE, bundle)

    assert [] == remaining_files(tmp_path)


REMOVES_ITSELF = 'mv "$CERTFERRY_DIRECTORY" moved; ln -s "$PWD/moved" "$CERTFERRY_DIRECTORY"'
"""The command replaces its directory with a link that certferry cannot remove."""


def test_irremovable_files_after_a_success(
    tmp_path: Path, bundle: CertificateBundle, caplog: pytest.LogCaptureFixture
) -> None:
    """The delivery succeeds, so the command is not run again; the log names the files."""
    shell(tmp_path, REMOVES_ITSELF).deliver(LINEAGE, bundle)

    [link] = remaining_files(tmp_path)
    assert f"{link} cannot be removed: " in caplog.text
    assert "the file may contain a private key" in caplog.text


@pytest.mark.parametrize("stopped", [True, False])
def test_irremovable_files_after_a_failure(tmp_path: Path, *, stopped: bool) -> None:
    """The delivery reports the command's failure or the stop of the run."""

    def pause(seconds: float) -> None:
        if stopped and (tmp_path / "moved").exists():
            raise Interrupted(Text("stopped"))

    does = program(
        tmp_path, "/bin/sh", "-c", f"{REMOVES_ITSELF}; {'sleep 60' if stopped else 'exit 3'}"
    )
    delivery = CommandDelivery("push", does)
    port = command.CommandReceiver(delivery, workspace=tmp_path / "handover", pause=pause)

    with pytest.raises(Interrupted if stopped else DeployError, match=r"stopped|exit code 3"):
        port.deliver(LINEAGE, issue())


def test_observation_repeats_the_state(tmp_path: Path, bundle: CertificateBundle) -> None:
    """A command's effect is invisible, so the observation repeats the delivery in the state."""
    observed = shell(tmp_path, "true").observe(Delivered(bundle.certificate.fingerprint))

    assert (bundle.certificate.fingerprint, None, "push") == (
        observed.bound,
        observed.drift,
        observed.domain,
    )
    assert None is shell(tmp_path, "true").observe(None).bound


def test_command_that_was_edited(tmp_path: Path, bundle: CertificateBundle) -> None:
    """An edited command is due again; a delivery without a digest of its command counts as
    current.
    """
    fingerprint = bundle.certificate.fingerprint
    edited = shell(tmp_path, "true")
    as_it_is, as_it_was = (program(tmp_path, "/bin/sh", "-c", s) for s in ("true", "false"))

    drift = edited.observe(Delivered(fingerprint, program_digest=as_it_was.digest)).drift

    assert drift is not None
    assert "the command was edited after its last run" == str(drift.reason.message)
    assert (Change("command", "edited", "run"),) == drift.changes
    for digest in (as_it_is.digest, None):
        assert None is edited.observe(Delivered(fingerprint, program_digest=digest)).drift


def test_missing_command(tmp_path: Path, bundle: CertificateBundle) -> None:
    """The observation reports the missing command with a hint, and no key is written."""
    missing = receiver(tmp_path, program(tmp_path, "no-such-command"))

    observed = missing.observe(None)
    with pytest.raises(TargetRejected) as refused:
        missing.deliver(LINEAGE, bundle)

    assert DomainState.UNAVAILABLE is observed.state
    assert refused.value == observed.problem
    assert not (tmp_path / "handover").exists()


def test_workspace_that_cannot_be_created(tmp_path: Path, bundle: CertificateBundle) -> None:
    """A single error with a hint reports the workspace, and the command is not run."""
    (tmp_path / "handover").touch()

    with pytest.raises(TargetRejected, match=r"cannot be read or written: File exists") as refused:
        shell(tmp_path, "touch ran").deliver(LINEAGE, bundle)

    assert refused.value.hint is not None
    assert not (tmp_path / "ran").exists()


def test_key_that_a_command_prints_is_not_logged(
    tmp_path: Path, bundle: CertificateBundle, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the command's other output."""
    caplog.set_level(logging.INFO)

    shell(tmp_path, 'echo pushing; cat "$CERTFERRY_PRIVKEY"').deliver(LINEAGE, bundle)

    assert "pushing" in caplog.text
    for line in bundle.privkey_pem.reveal().splitlines()[1:-1]:
        assert line not in caplog.text


@pytest.mark.parametrize(
    "dump", ["fold -w 8", "sed 's/./&,/g'", "rev", "od -An -tx1", "od -An -tu1", "base64 -w 20"]
)
def test_key_that_a_command_dumps_is_neither_logged_nor_quoted(
    tmp_path: Path, bundle: CertificateBundle, caplog: pytest.LogCaptureFixture, dump: str
) -> None:
    """Output with pieces of the key is left out of the log and of the error."""
    caplog.set_level(logging.INFO)
    dump = f"sed '1d;$d' | {dump}"
    dumping = shell(tmp_path, f'cat "$CERTFERRY_PRIVKEY" | {dump}; exit 1')

    with pytest.raises(DeployError) as failed:
        dumping.deliver(LINEAGE, bundle)

    dumped = subprocess.run(
        ["sh", "-c", dump],
        input=bundle.privkey_pem.reveal(),
        capture_output=True,
        text=True,
        check=True,
    )
    pieces = [line.strip() for line in dumped.stdout.splitlines() if len(line.strip()) >= 8]
    assert pieces
    assert [] == [piece for piece in pieces if piece in f"{caplog.text}{failed.value}"]


@pytest.mark.parametrize("lineage", ["../../out", "/out", ".."])
def test_lineage_with_the_name_of_a_path(
    tmp_path: Path, bundle: CertificateBundle, lineage: str
) -> None:
    """The files stay within the workspace: states of earlier versions may hold such a name."""
    workspace = tmp_path / "a" / "b"
    workspace.mkdir(parents=True)

    shell(workspace, RECORD).deliver(lineage, bundle)

    reported = dict(line.split("=", 1) for line in (workspace / "told").read_text().splitlines())
    assert workspace / "handover" == Path(reported["CERTFERRY_DIRECTORY"]).parent
    assert lineage == reported["CERTFERRY_LINEAGE"]
    assert [tmp_path / "a"] == list(tmp_path.iterdir())
