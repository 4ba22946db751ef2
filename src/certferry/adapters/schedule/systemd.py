"""A systemd timer, the system's for root and the user's own for everybody else."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry.adapters.schedule.units import (
    MARK,
    SERVICE,
    TIMER,
    command_of,
    service_text,
    timer_text,
)
from certferry.core.schedule import Change, Job, Scheduled
from certferry.errors import ScheduleError
from certferry.text import Text

SYSTEM_UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")
"""Exists where systemd is the init system (sd_booted(3))."""

_TIMEOUT = timedelta(seconds=60)
"""For the manager to read every unit of a large machine again."""

_WANTS = "timers.target.wants"
_MODE = 0o644
_PRIVATE = 0o700
_LONGEST_COMPLAINT = 300  # characters
_MOMENT = re.compile(r"@(\d+)")


class SystemdTimer:
    """Keeps a service and a timer in one directory of units.

    `for_system`: whether the units are the system's. `booted` exists where systemd runs; `environ`
    says where programs are, and how to reach the user's manager.
    """

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        *,
        for_system: bool,
        booted: Path = BOOTED,
    ) -> None:
        self._directory = directory
        self._environ = {**environ, "LC_ALL": "C"}
        self._for_system = for_system
        self._booted = booted

    def install(self, job: Job) -> Change:
        """See `ports.scheduler.Scheduler.install`."""
        capabilities = _capabilities(job) if self._for_system else ()
        wanted = {
            SERVICE: service_text(job, for_system=self._for_system, capabilities=capabilities),
            TIMER: timer_text(),
        }
        present = {name: self._own(name) for name in wanted}
        change = Change.UNCHANGED
        with _told(self._directory):
            # The sandbox opens only what is there.
            for path in map(Path, job.keeps):
                path.mkdir(_PRIVATE, parents=True, exist_ok=True)
        if present != wanted:
            self._write(wanted)
            change = Change.REPLACED if any(present.values()) else Change.INSTALLED
        if self._runs():
            hint = Text(
                "the units are in place; when that is mended, type {todo}", todo=self._to_do()
            )
            if change is not Change.UNCHANGED:
                self._must("daemon-reload", hint=hint)
            if not self._is_on():
                self._must("enable", "--now", TIMER, hint=hint)
        return change

    def remove(self) -> Scheduled | None:
        """See `ports.scheduler.Scheduler.remove`."""
        present = [name for name in (TIMER, SERVICE) if self._own(name) is not None]
        if not present:
            return None
        scheduled = self._scheduled()
        if self._runs() and TIMER in present:
            self._must("disable", "--now", TIMER, hint=Text("nothing was removed"))
        with _told(self._directory):
            # Without a running systemd nobody else takes the link away.
            (self._directory / _WANTS / TIMER).unlink(missing_ok=True)
            for name in present:
                (self._directory / name).unlink()
        if self._runs():
            self._must("daemon-reload", hint=Text("the units are gone; systemd still knows them"))
        return scheduled

    def find(self) -> Scheduled | None:
        """See `ports.scheduler.Scheduler.find`."""
        return None if self._own(TIMER) is None else self._scheduled()

    def _scheduled(self) -> Scheduled:
        running = self._runs()
        return Scheduled(
            place=Text("the systemd timer {path}", path=self._directory / TIMER),
            command=command_of(self._own(SERVICE) or ""),
            when=Text("every night, at a moment that systemd chooses"),
            next_run=self._next_run() if running else None,
            to_do=None if running and self._is_on() else self._to_do(),
        )

    def _to_do(self) -> Text:
        systemctl = "systemctl" if self._for_system else "systemctl --user"
        return Text(
            "{systemctl} daemon-reload && {systemctl} enable --now {timer}",
            systemctl=systemctl,
            timer=TIMER,
        )

    def _own(self, name: str) -> str | None:
        """Read a unit of ours, `None` when there is none; raises for somebody else's."""
        path = self._directory / name
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            if not path.is_symlink():
                return None
            text = ""
        except OSError as exc:
            raise ScheduleError(
                Text("{path} cannot be read: {problem}", path=path, problem=exc.strerror)
            ) from exc
        if not text.startswith(MARK):
            raise ScheduleError(
                Text("{path} was not written by certferry, and stays as it is", path=path),
                hint=Text("move it away, or keep using it instead"),
            )
        return text

    def _write(self, units: Mapping[str, str]) -> None:
        """Put all units in place, or none: each is complete on the disk before the first counts."""
        with _told(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            drafts: dict[str, Path] = {}
            try:
                for name, text in units.items():
                    drafts[name] = _draft(self._directory, name, text)
                for name in units:
                    drafts.pop(name).replace(self._directory / name)
            finally:
                for draft in drafts.values():
                    draft.unlink(missing_ok=True)

    def _runs(self) -> bool:
        return self._booted.is_dir()

    def _is_on(self) -> bool:
        enabled, active = self._ask("is-enabled", TIMER), self._ask("is-active", TIMER)
        return enabled.returncode == active.returncode == 0

    def _next_run(self) -> datetime | None:
        shown = self._ask(
            "show", "--timestamp=unix", "--property=NextElapseUSecRealtime", "--value", TIMER
        )
        moment = _MOMENT.search(shown.stdout)
        return datetime.fromtimestamp(int(moment[1]), UTC) if moment else None

    def _must(self, *arguments: str, hint: Text) -> None:
        result = self._ask(*arguments)
        if result.returncode != 0:
            words = " ".join(result.stderr.split()) or str(result.returncode)
            raise ScheduleError(
                Text(
                    "`systemctl {arguments}` failed: {problem}",
                    arguments=" ".join(arguments),
                    problem=words[:_LONGEST_COMPLAINT],
                ),
                hint=Text(
                    "the units are in place; when that is mended, type {todo}", todo=self._to_do()
                ),
            )

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        scope = [] if self._for_system else ["--user"]
        try:
            return subprocess.run(
                ["systemctl", *scope, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=self._environ,
                timeout=_TIMEOUT.total_seconds(),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            problem = exc.strerror if isinstance(exc, OSError) else type(exc).__name__
            raise ScheduleError(
                Text("`systemctl` cannot be run: {problem}", problem=problem),
                hint=Text("type it where it can: {todo}", todo=self._to_do()),
            ) from exc


def units_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Give the directory of a user's own units (systemd.unit(5))."""
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd" / "user"


def _capabilities(job: Job) -> Sequence[str]:
    """Give what root needs beyond being root: nothing where all files are root's own."""
    written = list(map(Path, (*job.keeps, *job.fills)))
    read = [*map(Path, job.reads), *written]
    passed = {step for path in read for step in path.parents}
    reachable = (
        all(_opens(path, stat.S_IROTH) for path in read)
        and all(_opens(path, stat.S_IXOTH) for path in passed)
        and all(_opens(path, stat.S_IWOTH) for path in written)
    )
    return (
        *(() if reachable else ("CAP_DAC_OVERRIDE",)),
        *(("CAP_CHOWN", "CAP_FOWNER") if job.changes_owners else ()),
    )


def _opens(path: Path, permission: int) -> bool:
    """Tell whether root may, because it is root's own or because everybody may."""
    try:
        facts = path.stat()
    except OSError:
        return True  # what is not there will be made by root
    return facts.st_uid == 0 or bool(facts.st_mode & permission)


def _draft(directory: Path, name: str, text: str) -> Path:
    descriptor, draft = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(descriptor, _MODE)
        os.fsync(descriptor)
    return Path(draft)


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        place = exc.filename or directory
        raise ScheduleError(
            Text("{path} cannot be written: {problem}", path=place, problem=exc.strerror),
            hint=Text("nothing was changed; units that were there are as they were"),
        ) from exc
