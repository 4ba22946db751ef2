"""A real sshd on loopback, as the user of the tests, with keys made at run time. Sessions have an
empty home, so the user's own files for shells do not run.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.ports import free_port
from tests.support.programs import program_path

CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
SetEnv HOME={folder}
{more}
"""


class Sshd:
    """An sshd that lets the user of the tests in with `key`."""

    def __init__(self, folder: Path, *more: str, wrapped_in: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self.user = folder, free_port(), getpass.getuser()
        self.key = folder / "key"
        self._wrapped_in = wrapped_in
        make_key(self.key)
        make_key(folder / "host_key")
        (folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        self.configure(*more)

    @property
    def host_key(self) -> str:
        """The type and the public key of the server."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def configure(self, *more: str) -> None:
        """Add lines to the configuration; for a server that is not running."""
        text = CONFIGURATION.format(port=self.port, folder=self.folder, more="\n".join(more))
        (self.folder / "sshd_config").write_text(text)

    def new_host_key(self) -> None:
        """Give the server another host key, as after an installation."""
        (self.folder / "host_key").unlink()
        make_key(self.folder / "host_key")

    def start(self) -> None:
        # sshd's directory for privilege separation: Debian's unit makes the directory.
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        program = program_path("sshd")
        file = str(self.folder / "sshd_config")
        # From OpenSSH 9.8 on, sshd turns a source away after connections that were cut.
        lenient = ["-o", "PerSourcePenalties=no"]
        if subprocess.run(
            [program, "-t", *lenient, "-f", file], capture_output=True, check=False
        ).returncode:
            lenient = []
        log = [*lenient, "-E", str(self.folder / "log")]
        self._process = subprocess.Popen(
            [*self._wrapped_in, program, "-D", *log, "-f", file],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """Stop the server, and wait for the end. Sessions go on."""
        self._process.terminate()
        self._process.wait()


def make_key(path: Path, passphrase: str = "") -> None:
    """Make a key of OpenSSH."""
    path.with_suffix(".pub").unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
