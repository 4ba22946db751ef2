"""A full disk under a machine's state, during a run of the command."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.host import Host

_SCRIPT = """
cp -a {state}/. {original} && mount -t tmpfs -o size=512k,mode=0700 tmpfs {state} || exit 99
cp -a {original}/. {state}
cat /dev/zero >{state}/filler 2>/dev/null
"$@"; code=$?
rm {state}/filler
cp -a {state}/. {original}
exit $code
"""


@dataclass(frozen=True)
class FullDisk:
    """The words before a command, and the words of the resulting error.

    On a system that forbids mounts, a limit on the size of files replaces the full disk.
    """

    command: tuple[str, ...]
    words: str

    @classmethod
    def of(cls, host: Host) -> FullDisk:
        """Lay the state on a full disk; `after` is the folder with the state after the run."""
        cls.after(host).mkdir()
        unshare = ("unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]))
        trial = [*unshare, "mount", "-t", "tmpfs", "tmpfs", str(cls.after(host))]
        if subprocess.run(trial, capture_output=True, check=False).returncode:
            return cls(("prlimit", "--fsize=0"), "cannot be read or written")
        folders = {"state": host.state.parent, "original": cls.after(host)}
        quoted = {name: shlex.quote(str(folder)) for name, folder in folders.items()}
        command = (*unshare, "sh", "-c", _SCRIPT.format(**quoted), "sh")
        return cls(command, "cannot be written: the disk is full")

    @staticmethod
    def after(host: Host) -> Path:
        return host.directory / "after"


def read_only(folder: Path) -> list[str]:
    """Return the words before a command that make a folder's file system read-only."""
    name = shlex.quote(str(folder))
    script = f'mount --bind {name} {name} && mount -o remount,bind,ro {name} && "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]
