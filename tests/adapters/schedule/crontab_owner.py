"""A user whose crontab a test may write, beside a process called crond. Root creates a user;
without root, the crontab of the current user is lent to one test at a time and restored afterwards.
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
    """A user, and a directory with a program that runs the real `crontab` as that user."""

    name: str | None
    programs: Path | None

    @property
    def environ(self) -> dict[str, str]:
        path = os.environ["PATH"]
        return {**os.environ, "PATH": f"{self.programs}:{path}" if self.programs else path}

    def run(
        self, option: str, content: bytes = b"", **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `crontab` with an option."""
        return subprocess.run(
            ["crontab", option],
            input=content,
            capture_output=True,
            env={**self.environ, "LC_ALL": "C", **environ},
            check=False,
        )

    def read(self) -> bytes | None:
        """Return the crontab, or `None` if the user has no crontab.

        A listing is not exact, so `crontab -e` reads the content, as an editor receives it.
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
        """The crontab's file in cron's spool; only root can reach the file."""
        return SPOOL / str(self.name)

    @contextmanager
    def denied(self) -> Iterator[None]:
        """Forbid the user to have a crontab, for the time of a `with` block."""
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
    """Return a user without a crontab, and restore everything afterwards."""
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
    """Run a process with the name of a cron daemon, which starts no jobs."""
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
        with _alone():  # the user database allows a single writer
            _must("useradd", "--system", "--no-create-home", "--user-group", name)
        try:
            yield CrontabOwner(name, Path(folder))
        finally:
            with _alone():
                _must("userdel", name)


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other test uses the system's files."""
    path = Path(tempfile.gettempdir()) / f"certferry-tests-{os.geteuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _must(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
