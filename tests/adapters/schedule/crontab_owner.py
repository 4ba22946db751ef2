"""A user whose crontab a test may write: one made for it, or, without root, the one who runs the
tests, one test at a time, and their crontab is put back. A process called crond runs meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import program_path

SPOOL = Path("/var/spool/cron/crontabs")
DENY = Path("/etc/cron.deny")

AS_ROOT = os.geteuid() == 0

_PROGRAM = """#!/bin/sh
exec setpriv --reuid={name} --regid={name} --init-groups {crontab} "$@"
"""


@dataclass(frozen=True)
class CrontabOwner:
    """A user, and the directory in whose `crontab`, the real one, runs as that user."""

    name: str | None
    programs: Path | None

    @property
    def environ(self) -> dict[str, str]:
        path = os.environ["PATH"]
        return {**os.environ, "PATH": f"{self.programs}:{path}" if self.programs else path}

    def run(
        self, option: str, content: bytes = b"", **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `crontab`."""
        return subprocess.run(
            ["crontab", option],
            input=content,
            capture_output=True,
            env={**self.environ, "LC_ALL": "C", **environ},
            check=False,
        )

    def read(self) -> bytes | None:
        """Return the crontab, `None` when there is none.

        A listing is not exact, so this asks in the way in which an editor gets it.
        """
        result = self.run("-l")
        if result.returncode == 0:
            result = self.run("-e", VISUAL="cat")
        assert result.returncode == 0 or b"no crontab for" in result.stderr, result
        return result.stdout if result.returncode == 0 else None

    def write(self, content: bytes | None) -> None:
        if content is not None:
            result = self.run("-", content)
            assert 0 == result.returncode, result
        elif self.read() is not None:
            assert 0 == self.run("-r").returncode

    @property
    def stored(self) -> Path:
        """Where cron keeps the crontab; only root can reach it."""
        return SPOOL / str(self.name)

    @contextmanager
    def denied(self) -> Iterator[None]:
        """Forbid the user to have a crontab, for a `with` block."""
        with _alone():
            before = DENY.read_bytes() if DENY.exists() else None
            DENY.write_bytes((before or b"") + f"{self.name}\n".encode())
            DENY.chmod(0o644)
            try:
                yield
            finally:
                if before is None:
                    DENY.unlink()
                else:
                    DENY.write_bytes(before)


@contextmanager
def crontab_owner() -> Iterator[CrontabOwner]:
    """Return a user without a crontab; afterwards everything is as it was."""
    with ExitStack() as stack:
        stack.enter_context(cron_daemon())
        if AS_ROOT:
            owner = stack.enter_context(_somebody())
        else:
            stack.enter_context(_alone())
            owner = CrontabOwner(None, None)
        before = owner.read()
        try:
            owner.write(None)
            yield owner
        finally:
            owner.write(before)


@contextmanager
def cron_daemon() -> Iterator[None]:
    """Have a process that is called as a cron daemon is, and starts nothing."""
    script = "open('/proc/self/comm', 'w').write('crond'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate(b"\n")


@contextmanager
def _somebody() -> Iterator[CrontabOwner]:
    name = f"cft-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "crontab"
        program.write_text(
            _PROGRAM.format(name=name, crontab=program_path("crontab")), encoding="ascii"
        )
        program.chmod(0o755)
        with _alone():  # the user database is locked by one program at a time
            _must("useradd", "--system", "--no-create-home", "--user-group", name)
        try:
            yield CrontabOwner(name, Path(folder))
        finally:
            with _alone():
                _must("userdel", name)


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other test is at the system's files."""
    path = Path(tempfile.gettempdir()) / f"certferry-tests-{os.geteuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _must(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
