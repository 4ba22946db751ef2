"""The schedule by systemd: a timer, or the service `certferry serve`, from the files in `units`.

Root's units belong to the system, other users' units to the user's manager.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from certferry.adapters.schedule.tools import call, complaint
from certferry.core.schedule import Installation, Job, Scheduled
from certferry.errors import ScheduleError, system_words
from certferry.file_trust import user_name
from certferry.text import Text, verbatim
from certferry.values import replace
from certferry.whole_file import replace_file

SERVICE = "certferry.service"
TIMER = "certferry.timer"
FAILED = "certferry-failed.service"
SERVER = "certferry-serve.service"
MARK = "# Written by `certferry schedule install --systemd`, and taken away by `schedule remove`.\n"
"""The first line of units written by certferry."""

PACKAGE_UNITS = Path("/usr/lib/systemd/system")
"""The directory of packages' units (systemd.unit(5), "Unit File Load Path")."""
PACKAGE_MARK = "# Of the package certferry: no run starts before the unit is enabled.\n"
"""The first line of the units in the Debian package."""

RUN = Path("/run")
"""The directory of services' sockets; RuntimeDirectory= creates a directory below."""

SYSTEM_UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")  # exists where systemd is the init system (sd_booted(3))
LINGERING = Path("/var/lib/systemd/linger")
"""A directory with a file for each user whose manager runs without a login (loginctl(1)
`enable-linger`)."""
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""PATH of services (systemd.exec(5), "$PATH")."""

_TIMEOUT = timedelta(seconds=60)  # enough for a large machine to reload every unit
_MODE, _PRIVATE = 0o644, 0o700
_MOMENT = re.compile(rb"@(\d+)")
_COMMAND = re.compile(r"^ExecStart=(.*)$", re.MULTILINE)
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_REPLACED = set("\"'\\$")
"""Characters with a meaning for systemd in a path, a command or an assignment."""
_TRY_AGAIN = Text("fix the problem, then try again")


def _unit(name: str) -> str:
    return (Path(__file__).parent / "units" / name).read_text(encoding="ascii")


TIMER_TEXT = MARK + _unit(TIMER)


def service_text(job: Job, *, for_system: bool) -> str:
    """Return the service unit, sandboxed unless the job runs programs. Raises `ScheduleError`."""
    unit = MARK + _unit(SERVICE)
    if job.on_failure:
        unit = unit.replace("\n\n[Service]", f"\nOnFailure={FAILED}\n\n[Service]")
    return unit + _settings(job, job.command, for_system=for_system)


def server_text(job: Job, *, for_system: bool) -> str:
    """Return the unit of `certferry serve`. Raises `ScheduleError`."""
    unit = MARK + _unit(SERVER)
    for folder in map(Path, job.sockets):
        if for_system and folder.parent == RUN:
            unit += f"RuntimeDirectory={_word(folder.name)}\n"
        else:
            unit += f"ReadWritePaths=-{_word(str(folder))}\n"
    unit += _settings(job, job.command, for_system=for_system)
    if for_system and not job.runs_programs:
        unit += _LOW_PORTS
    return f"{unit}\n[Install]\nWantedBy={'multi-user' if for_system else 'default'}.target\n"


_LOW_PORTS = "# To listen at port 443.\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"


def failed_text(job: Job, *, for_system: bool) -> str:
    """Return the unit to start after a failed run. Raises `ScheduleError`."""
    return MARK + _unit(FAILED) + _settings(job, job.on_failure, for_system=for_system)


def _settings(job: Job, command: tuple[str, ...], *, for_system: bool) -> str:
    settings = [
        f"Environment={_word(f'{name}={value}')}" for name, value in job.environment.items()
    ]
    settings.append(f"ExecStart={' '.join(map(_word, command))}")
    guard = _unit("open.conf")
    if not job.runs_programs:
        settings += [f"ReadWritePaths={_word(path)}" for path in job.writes]
        # Only the system's manager can drop capabilities; a user's manager would fail.
        guard = _unit("guarded.conf") + (_unit("system-guarded.conf") if for_system else "")
    return "\n".join([*settings, "", guard])


def _word(word: str) -> str:
    """Return a word quoted for systemd. Raises `ScheduleError` for an unprintable character, and
    for a quotation mark, a backslash or a dollar.
    """
    if not word.isprintable() or _REPLACED & set(word):
        raise ScheduleError(
            Text("a systemd unit cannot hold {word}", word=repr(word)),
            hint=Text("rename the file without quotes, dollars and backslashes, or use cron"),
        )
    escaped = word.replace("%", "%%")
    return escaped if _PLAIN.fullmatch(escaped) else f'"{escaped}"'


class SystemdTimer:
    """The `Scheduler` by systemd: a timer and two services in one directory.

    - `for_system`: whether the directory belongs to the system, and not to a user.
    - `environ`: the environment for `systemctl`, with PATH and the address of the user's manager.
    - `booted`: a path that exists if systemd runs.
    - `lingering`: see `LINGERING`.
    """

    #: The units to write; the first unit is enabled and started.
    units: tuple[str, ...] = (TIMER, SERVICE, FAILED)
    #: The unit that runs certferry.
    service = SERVICE
    #: The schedule's name in sentences.
    place = Text("the systemd timer {path}")
    #: The times of the runs, in words for operators.
    when = Text("twice a day, at a time set by systemd or a drop-in")

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
        self._for_system = for_system
        self._booted = booted
        self._lingering = lingering
        self._systemctl = ["systemctl"] if for_system else ["systemctl", "--user"]
        self._call = partial(call, environ=environ, within=_TIMEOUT, hint=_TRY_AGAIN)
        self._started = self.units[0]
        self._place = self.place.filled(path=directory / self._started)

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        desired = self._desired(job)
        present = {name: self._own(name) for name in desired}
        with _translating_errors():
            if present != desired:
                self._write(desired)
            for path in map(Path, job.writes):  # the sandbox opens only existing directories
                path.mkdir(_PRIVATE, parents=True, exist_ok=True)
        if self._booted.is_dir() and not (present == desired and self._is_on()):
            self._must("daemon-reload")
            self._must("enable", "--now", self._started)
            self._started_again(has_changed=any(present.values()) and present != desired)
        change = Installation.REPLACED if any(present.values()) else Installation.INSTALLED
        return (Installation.UNCHANGED if present == desired else change), self._scheduled()

    def _desired(self, job: Job) -> dict[str, str]:
        desired = {SERVICE: service_text(job, for_system=self._for_system), TIMER: TIMER_TEXT}
        if job.on_failure:
            desired[FAILED] = failed_text(job, for_system=self._for_system)
        return desired

    def _started_again(self, *, has_changed: bool) -> None:
        """Do nothing: for a changed timer, `daemon-reload` is enough. `SystemdServer` overrides
        this method, to restart the changed service.
        """

    def remove(self) -> Text | None:
        present = [name for name in self.units if self._own(name)]
        if not present:
            return None
        if self._started in present:
            # Disable the timer before deleting the file: a timer in systemd's memory would still
            # start the service.
            if self._booted.is_dir():
                self._must("disable", "--now", self._started)
            with _translating_errors():  # without a running systemd, the link remains
                for link in self._directory.glob(f"*.target.wants/{self._started}"):
                    link.unlink(missing_ok=True)
        with _translating_errors():
            for name in present:
                (self._directory / name).unlink()
        if self._booted.is_dir():
            self._must("daemon-reload")
        return self._place

    def find(self) -> Scheduled | None:
        return self._scheduled() if self._own(self._started) else None

    def _scheduled(self) -> Scheduled:
        is_on = self._is_on()
        command = _COMMAND.search(self._own(self.service) or "")
        return Scheduled(
            place=self._place,
            command=command[1] if command else "",
            when=self.when,
            next_run=self._next_run() if is_on else None,
            to_do=self._to_do(is_on=is_on),
            path=USUAL_PATH,
        )

    def _to_do(self, *, is_on: bool) -> Text | None:
        """Return the commands that an operator still has to run so that systemd starts the runs, or
        `None`.
        """
        user = user_name(os.getuid())
        typed = [] if is_on else [" ".join([*self._systemctl, "enable", "--now", self._started])]
        if not self._for_system and not (self._lingering / user).exists():
            # Without lingering, systemd stops the user's timer when the user logs out.
            typed.append(f"loginctl enable-linger {user}")
        return verbatim(" && ".join(typed)) if typed else None

    def _own(self, name: str) -> str | None:
        """Return the text of a unit written by certferry; `None` for a missing or any other file.
        Raises `ScheduleError`.
        """
        path = self._directory / name
        with _translating_errors():
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return text if text.startswith(MARK) else None

    def _write(self, units: Mapping[str, str]) -> None:
        for name in units:
            path = self._directory / name
            if path.exists() and self._own(name) is None:
                raise ScheduleError(
                    Text("{path} was not written by certferry, and stays unchanged", path=path),
                    hint=Text("move the unit away, or keep using it"),
                )
        self._directory.mkdir(parents=True, exist_ok=True)
        for name, text in units.items():
            replace_file(self._directory / name, text.encode(), _MODE)

    def _is_on(self) -> bool:
        return self._booted.is_dir() and self._ask("is-active", self._started).returncode == 0

    def _next_run(self) -> datetime | None:
        asked = ("--timestamp=unix", "--property=NextElapseUSecRealtime", "--value")
        moment = _MOMENT.search(self._ask("show", *asked, self._started).stdout)
        return datetime.fromtimestamp(int(moment[1]), UTC) if moment else None

    def _must(self, *arguments: str) -> None:
        result = self._ask(*arguments)
        if result.returncode != 0:
            sentence = Text("`systemctl {arguments}` failed: {problem}")
            sentence = sentence.filled(arguments=" ".join(arguments), problem=complaint(result))
            raise ScheduleError(sentence, hint=_TRY_AGAIN)

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return self._call([*self._systemctl, *arguments])


class SystemdServer(SystemdTimer):
    """The `Scheduler` by the service `certferry serve`, which starts the runs."""

    units = (SERVER,)
    service = SERVER
    place = Text("the systemd service {path}")
    when = Text("twice a day, by the running `certferry serve`")

    def _desired(self, job: Job) -> dict[str, str]:
        return {SERVER: server_text(job, for_system=self._for_system)}

    def _started_again(self, *, has_changed: bool) -> None:
        if has_changed:
            self._must("restart", SERVER)


class PackagedTimer(SystemdTimer):
    """The `Scheduler` that enables and disables the units of the Debian package. Operators change
    these units by drop-ins.

    Older units, written by `schedule install` before the package was installed, are removed.
    """

    #: The directory of the package's units.
    packages = PACKAGE_UNITS

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        """See `ports.scheduler.Scheduler.install`. `job` is ignored: the package's unit has the
        command.
        """
        was_there = super().remove() is not None
        was_on = self.find() is not None
        if was_there or not was_on or not self._is_on():
            self._must("enable", *(["--now"] if self._booted.is_dir() else []), self._started)
        change = Installation.REPLACED if was_there else Installation.INSTALLED
        return (Installation.UNCHANGED if was_on and not was_there else change), self._scheduled()

    def remove(self) -> Text | None:
        """See `ports.scheduler.Scheduler.remove`."""
        before = super().remove()
        if not self._is_enabled():
            return before
        self._must("disable", *(["--now"] if self._booted.is_dir() else []), self._started)
        return self._of_package

    def find(self) -> Scheduled | None:
        """See `ports.scheduler.Scheduler.find`."""
        if (own := super().find()) is not None:
            return own
        return self._scheduled() if self._is_enabled() else None

    def _scheduled(self) -> Scheduled:
        scheduled = super()._scheduled()
        if self._own(self._started):
            return scheduled
        text = (self.packages / self.service).read_text(encoding="utf-8")
        command = _COMMAND.search(text)
        return replace(scheduled, place=self._of_package, command=command[1] if command else "")

    @property
    def _of_package(self) -> Text:
        return self.place.filled(path=self.packages / self._started)

    def _is_enabled(self) -> bool:
        return self._ask("is-enabled", self._started).returncode == 0


class PackagedServer(PackagedTimer):
    """The `Scheduler` that enables and disables the package's service `certferry serve`."""

    units, service, place, when = (SERVER,), SERVER, SystemdServer.place, SystemdServer.when


def are_packaged() -> bool:
    """Return whether the Debian package's units are installed."""
    return (PACKAGE_UNITS / TIMER).exists()


def is_installed(environ: Mapping[str, str]) -> bool:
    """Return whether `systemctl` is installed, with systemd running or not."""
    return shutil.which("systemctl", path=environ.get("PATH")) is not None


def units_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Return the directory of a user's own units (systemd.unit(5))."""
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd" / "user"


@contextmanager
def _translating_errors() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise ScheduleError(
            Text("{path}: {problem}", path=failure.filename, problem=system_words(failure)),
            hint=_TRY_AGAIN,
        ) from failure
