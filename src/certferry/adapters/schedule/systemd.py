"""A systemd timer, the system's for root and the user's own for everybody else."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry.adapters.schedule.account import user_name
from certferry.adapters.schedule.units import (
    MARK,
    SERVICE,
    TIMER,
    USUAL_PATH,
    command_of,
    service_text,
    timer_text,
    words_of,
)
from certferry.core.schedule import Change, Job, Scheduled
from certferry.errors import ScheduleError
from certferry.system_words import system_words
from certferry.text import Text, verbatim

SYSTEM_UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")
"""Exists where systemd is the init system (sd_booted(3))."""
LINGERING = Path("/var/lib/systemd/linger")
"""Has a file for each user whose manager runs without a login (loginctl(1), `enable-linger`)."""

_TIMEOUT = timedelta(seconds=60)
"""For the manager to read every unit of a large machine again."""

_WANTS = "timers.target.wants"
_MODE = 0o644
_PRIVATE = 0o700
_LONGEST_COMPLAINT = 300  # characters
_MOMENT = re.compile(r"@(\d+)")

_NOTHING_CHANGED = Text("nothing was changed; units that were there are as they were")


class SystemdTimer:
    """Keeps a service and a timer in one directory of units.

    `for_system`: whether the units are the system's. `booted` exists where systemd runs, and
    `lingering` holds the names of users whose managers always do; `environ` says where programs
    are, and how to reach the user's manager.
    """

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        *,
        for_system: bool,
        booted: Path = BOOTED,
        lingering: Path = LINGERING,
    ) -> None:
        self._directory = directory
        self._environ = {**environ, "LC_ALL": "C"}
        self._for_system = for_system
        self._booted = booted
        self._lingering = lingering

    def install(self, job: Job) -> Change:
        """See `ports.scheduler.Scheduler.install`."""
        capabilities = _capabilities(job) if self._for_system else ()
        wanted = {
            SERVICE: service_text(job, for_system=self._for_system, capabilities=capabilities),
            TIMER: timer_text(),
        }
        present = {name: self._own(name) for name in wanted}
        change = Change.UNCHANGED
        with _told(self._directory, _NOTHING_CHANGED):
            # The sandbox opens only what is there.
            for path in map(Path, job.keeps):
                path.mkdir(_PRIVATE, parents=True, exist_ok=True)
        if present != wanted:
            self._write(wanted)
            change = Change.REPLACED if any(present.values()) else Change.INSTALLED
        if self._runs():
            hint = Text(
                "the units are in place; when that is mended, type {todo}",
                todo=" && ".join(self._commands(on=False)),
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
            self._must(
                *("disable", "--now", TIMER),
                hint=Text("nothing was removed; when that is mended, try again"),
            )
        left = shlex.join(str(self._directory / name) for name in present)
        with _told(self._directory, Text("remove what is left of it: rm -f {left}", left=left)):
            # Without a running systemd nobody else takes the link away.
            (self._directory / _WANTS / TIMER).unlink(missing_ok=True)
            for name in present:
                (self._directory / name).unlink()
        if self._runs():
            self._must(
                "daemon-reload",
                hint=Text(
                    "the units are gone; for systemd to forget them, type {command}",
                    command=f"{self._systemctl} daemon-reload",
                ),
            )
        return scheduled

    def find(self) -> Scheduled | None:
        """See `ports.scheduler.Scheduler.find`."""
        return None if self._own(TIMER) is None else self._scheduled()

    def others(self) -> tuple[Scheduled, ...]:
        """See `ports.scheduler.Scheduler.others`."""
        timer = self._directory / TIMER
        if not timer.is_file() or (self._read(TIMER) or "").startswith(MARK):  # or it is masked
            return ()
        command = command_of(self._read(SERVICE) or "")
        return (Scheduled(self._place, command, self._as_written, every_day=False),)

    @property
    def _place(self) -> Text:
        return Text("the systemd timer {path}", path=self._directory / TIMER)

    @property
    def _as_written(self) -> Text:
        return Text("as {timer} and its drop-ins say", timer=TIMER)

    @property
    def _systemctl(self) -> str:
        return "systemctl" if self._for_system else "systemctl --user"

    def _scheduled(self) -> Scheduled:
        running = self._runs()
        commands = self._commands(on=running and self._is_on())
        nightly = self._own(TIMER) == timer_text() and not self._drop_ins(TIMER).is_dir()
        command = command_of(self._own(SERVICE) or "")
        return Scheduled(
            place=self._place,
            command=command,
            when=Text("every night, at a moment that systemd chooses")
            if nightly
            else self._as_written,
            every_day=nightly,
            next_run=self._next_run() if running else None,
            to_do=verbatim(" && ".join(commands)) if commands else None,
            arguments=words_of(command),
            # A drop-in may set another one.
            path=None if self._drop_ins(SERVICE).is_dir() else USUAL_PATH,
        )

    def _drop_ins(self, unit: str) -> Path:
        return self._directory / f"{unit}.d"

    def _commands(self, *, on: bool) -> list[str]:
        """Give what is to be typed for the timer to start the service, logged in or not."""
        commands = [] if on else ["daemon-reload", f"enable --now {TIMER}"]
        typed = [f"{self._systemctl} {command}" for command in commands]
        user = user_name()
        if not self._for_system and not (self._lingering / user).exists():
            # Otherwise the user's manager, and the timer with it, ends with the last session.
            typed.append(f"loginctl enable-linger {shlex.quote(user)}")
        return typed

    def _own(self, name: str) -> str | None:
        """Read a unit of ours, `None` when there is none; raises for somebody else's."""
        path = self._directory / name
        text = self._read(name)
        if text is not None and not text.startswith(MARK):
            raise ScheduleError(
                Text("{path} was not written by certferry, and stays as it is", path=path),
                hint=Text("move it away, or keep using it instead"),
            )
        return text

    def _read(self, name: str) -> str | None:
        path = self._directory / name
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "" if path.is_symlink() else None
        except OSError as exc:
            raise ScheduleError(
                Text("{path} cannot be read: {problem}", path=path, problem=system_words(exc))
            ) from exc

    def _write(self, units: Mapping[str, str]) -> None:
        """Put all units in place, or none: each is complete on the disk before the first counts."""
        with _told(self._directory, _NOTHING_CHANGED):
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
        result = self._ask(*arguments, hint=hint)
        if result.returncode != 0:
            words = " ".join(result.stderr.split()) or str(result.returncode)
            raise ScheduleError(
                Text(
                    "`systemctl {arguments}` failed: {problem}",
                    arguments=" ".join(arguments),
                    problem=words[:_LONGEST_COMPLAINT],
                ),
                hint=hint,
            )

    def _ask(self, *arguments: str, hint: Text | None = None) -> subprocess.CompletedProcess[str]:
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
            raise ScheduleError(
                Text("`systemctl` cannot be run: {problem}", problem=system_words(exc)),
                hint=hint or Text("where systemd runs, `systemctl` is to be found in PATH"),
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
def _told(directory: Path, hint: Text) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        place = exc.filename or directory
        raise ScheduleError(
            Text("{path} cannot be written: {problem}", path=place, problem=system_words(exc)),
            hint=hint,
        ) from exc
