"""Who holds a lease, so that others can say so, and tell on this very host when it has ended."""

from __future__ import annotations

import os
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from certferry.text import Text

_BETWEEN = "/"
_PROC = Path("/proc")
_STATE, _START_TIME = 0, 19
"""Fields 3 and 22 of `/proc/PID/stat`, counted from behind the command's name (proc(5))."""
_ENDED_STATES = {"Z", "X"}


@dataclass(frozen=True, slots=True)
class Holder:
    """One acquisition by one process.

    A process id says something on one boot of one host, within one namespace, and until it is
    given to the next process; hence the other fields. What the system does not tell is empty.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    acquisition: str

    @classmethod
    def here(cls) -> Self:
        """Describe this process, anew for each acquisition: its own threads are strangers too."""
        _, started = _look_at(os.getpid()) or ("", "")
        return cls(
            host=platform.node(),
            boot=_boot(),
            namespace=_namespace(),
            pid=os.getpid(),
            started=started,
            acquisition=secrets.token_hex(8),
        )

    @classmethod
    def parse(cls, written: str) -> Self:
        """Read what `str` wrote."""
        host, boot, namespace, pid, started, acquisition = written.rsplit(_BETWEEN, 5)
        return cls(host, boot, namespace, int(pid), started, acquisition)

    def __str__(self) -> str:
        fields = (self.host, self.boot, self.namespace, self.pid, self.started, self.acquisition)
        return _BETWEEN.join(map(str, fields))

    def described(self) -> Text:
        """Name the process for a person."""
        return Text("process {pid} on {host}", pid=self.pid, host=self.host)

    def lives_beside_us(self) -> bool:
        """Tell whether it is certainly another process of this host, and at work: then its lease
        does not end with its time, which a clock that jumps or a suspended host can pass over.
        """
        if not self._is_within_sight() or self.pid == os.getpid() or not _exists(self.pid):
            return False
        state, started = _look_at(self.pid) or ("", "")
        return state not in _ENDED_STATES and started == self.started

    def _is_within_sight(self) -> bool:
        known = bool(self.boot and self.started)
        return known and (self.boot, self.namespace) == (_boot(), _namespace())

    def has_ended(self) -> bool:
        """Tell whether the process is certainly gone; of one elsewhere that is never certain."""
        if not self._is_within_sight():
            return False
        if not _exists(self.pid):
            return True
        # A process that exists and cannot be looked at belongs to somebody else, on a system that
        # hides such processes (`hidepid`, proc(5)); its lease ends by its time.
        state, started = _look_at(self.pid) or ("", self.started)
        return state in _ENDED_STATES or started != self.started


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _look_at(pid: int) -> tuple[str, str] | None:
    """Give state and start time of a process."""
    stat = _read(_PROC / str(pid) / "stat")
    # The command's name stands in brackets and may hold spaces and brackets itself.
    _, _, fields = stat.rpartition(")")
    words = fields.split()
    return (words[_STATE], words[_START_TIME]) if words else None


def _boot() -> str:
    return _read(_PROC / "sys/kernel/random/boot_id").strip()


def _namespace() -> str:
    try:
        return (_PROC / "self/ns/pid").readlink().name
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
