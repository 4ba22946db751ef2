"""Minimal machines of the suites that the Debian package supports.

A machine is a folder, in which programs run as root in their own namespace of processes. The tests
need root and mmdebstrap.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import program_path

ROOTS = Path(__file__).parents[2] / "build" / "roots"
"""The folder of the archives of new machines, which several test runs share."""
PARTS = {
    "bookworm": "ca-certificates,python3",
    "trixie": "ca-certificates,cron,python3,systemd",
    "noble": "ca-certificates,python3",
}
"""The packages that the Debian package depends on: apt then installs certferry without a network.
The suite trixie also has systemd, to check the units.
"""
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_ENVIRON = (
    *("/usr/bin/env", "-i", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"),
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


def archive_of(suite: str) -> Path:
    """Return the archive of a new machine. Make a missing archive, which takes a minute."""
    assert 0 == os.geteuid(), "a machine of another suite is made, and entered, by root"
    program_path("mmdebstrap")
    ROOTS.mkdir(parents=True, exist_ok=True)
    archive = ROOTS / f"{suite}.tar"
    with (ROOTS / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            part = ROOTS / f"{suite}.part.tar"
            command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PARTS[suite]}"]
            subprocess.run([*command, suite, part], check=True, timeout=600)
            part.rename(archive)
    return archive


@dataclass(frozen=True)
class Machine:
    """A new machine of a suite."""

    root: Path

    def path(self, absolute: str) -> Path:
        """Return the path of a file of the machine."""
        return self.root / absolute.lstrip("/")

    def command(self, line: str) -> list[str]:
        """Return the command that runs a line of shell in the machine, and ends all processes of
        the line.
        """
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        inside += [f"--mount-proc={self.path('/proc')}", "chroot", str(self.root)]
        return [*inside, *_ENVIRON, "/bin/sh", "-c", line]

    def run(self, line: str, *, code: int = 0) -> str:
        """Run a line of shell, and return the output."""
        process = subprocess.run(
            self.command(line),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert code == process.returncode, process.stdout
        return process.stdout

    def install(self, package: Path, *, code: int = 0) -> str:
        """Install a package with apt, as an operator does."""
        shutil.copy(package, self.path("/srv"))
        return self.run(f"apt-get install -y /srv/{package.name}", code=code)

    def mode_of(self, path: str) -> str:
        """Return the mode, the user and the group of a file."""
        return self.run(f"stat -c '%a %U:%G' {path}").strip()


@contextmanager
def machine_of(suite: str, folder: Path) -> Iterator[Machine]:
    """Make a new machine in a folder, and remove the folder afterwards."""
    root = folder / "root"
    root.mkdir()
    try:
        archive = ["tar", "--extract", f"--file={archive_of(suite)}", f"--directory={root}"]
        subprocess.run([*archive, "--exclude=./dev/*"], check=True)
        for name, (major, minor) in _DEVICES.items():
            os.mknod(root / "dev" / name, 0o020666, os.makedev(major, minor))
            (root / "dev" / name).chmod(0o666)
        yield Machine(root)
    finally:
        # A machine mounts file systems in its own namespace. The option protects the host's files
        # if a mount should ever appear here.
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
