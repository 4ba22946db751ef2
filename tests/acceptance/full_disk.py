"""A disk that takes no more of a machine's state, for one run of the command."""

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
    """What goes before the command, and what is then said to be wrong.

    Where the system lets no process mount a disk, files that may not grow stand in for it.
    """

    command: tuple[str, ...]
    words: str

    @classmethod
    def of(cls, host: Host) -> FullDisk:
        """Lay the state on a disk that another program has filled; `after` is what has become of
        it.
        """
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
    """Return what goes before a command to which a folder's file system takes no writes."""
    name = shlex.quote(str(folder))
    script = f'mount --bind {name} {name} && mount -o remount,bind,ro {name} && "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]
