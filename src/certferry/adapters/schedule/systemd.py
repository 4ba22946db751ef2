"""A systemd timer, the system's for root and the user's own for every other user."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry.adapters.schedule.tools import call, complaint
from certferry.core.schedule import NIGHT_HOURS, Installation, Job, Scheduled
from certferry.errors import ScheduleError
from certferry.file_trust import user_name
from certferry.system_words import system_words
from certferry.text import Text, verbatim
from certferry.whole_file import replace_file

SYSTEM_UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")
"""Exists where systemd is the init system (sd_booted(3))."""
LINGERING = Path("/var/lib/systemd/linger")
"""Has a file for each user whose manager runs without a login (loginctl(1), `enable-linger`)."""

_TIMEOUT = timedelta(seconds=60)
"""For the manager to read every unit of a large machine again."""

_MODE = 0o644
_PRIVATE = 0o700
_MOMENT = re.compile(rb"@(\d+)")

_TRY_AGAIN = Text("fix that, then try again")


class SystemdTimer:
    """Keeps two services and a timer in one directory of units.

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
        self._environ = environ
        self._for_system = for_system
        self._booted = booted
        self._lingering = lingering

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        """See `ports.scheduler.Scheduler.install`."""
        wanted = {SERVICE: service_text(job, for_system=self._for_system), TIMER: TIMER_TEXT}
        if job.on_failure:
            wanted[FAILED] = failed_text(job, for_system=self._for_system)
        present = {name: self._own(name) for name in wanted}
        with _told():
            if present != wanted:
                self._write(wanted)
            for path in map(Path, job.writes):  # the sandbox opens only what is there
                path.mkdir(_PRIVATE, parents=True, exist_ok=True)
        if self._booted.is_dir() and not (present == wanted and self._is_on()):
            self._must("daemon-reload")
            self._must("enable", "--now", TIMER)
        change = Installation.REPLACED if any(present.values()) else Installation.INSTALLED
        return (Installation.UNCHANGED if present == wanted else change), self._scheduled()

    def remove(self) -> Text | None:
        """See `ports.scheduler.Scheduler.remove`."""
        present = [name for name in (TIMER, SERVICE, FAILED) if self._own(name)]
        if not present:
            return None
        if TIMER in present:
            # First, since a timer whose file is gone would still start the service.
            self._disable()
        with _told():
            for name in present:
                (self._directory / name).unlink()
        if self._booted.is_dir():
            self._must("daemon-reload")
        return self._place

    def find(self) -> Scheduled | None:
        """See `ports.scheduler.Scheduler.find`."""
        return self._scheduled() if self._own(TIMER) else None

    @property
    def _place(self) -> Text:
        return Text("the systemd timer {path}", path=self._directory / TIMER)

    def _scheduled(self) -> Scheduled:
        is_on = self._is_on()
        return Scheduled(
            place=self._place,
            command=command_of(self._own(SERVICE) or ""),
            when=Text("twice a day, at a moment that systemd chooses, or as a drop-in says"),
            next_run=self._next_run() if is_on else None,
            to_do=self._to_do(is_on=is_on),
            path=USUAL_PATH,
        )

    def _to_do(self, *, is_on: bool) -> Text | None:
        """Give what is to be typed for the timer to start the service, logged in or not."""
        user = user_name(os.getuid())
        typed = [] if is_on else [" ".join([*self._systemctl, "enable", "--now", TIMER])]
        if not self._for_system and not (self._lingering / user).exists():
            # Otherwise the user's manager, and the timer with it, ends with the last session.
            typed.append(f"loginctl enable-linger {user}")
        return verbatim(" && ".join(typed)) if typed else None

    def _own(self, name: str) -> str | None:
        """Read a unit, `None` when there is none of ours."""
        path = self._directory / name
        with _told():
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return text if text.startswith(MARK) else None

    def _write(self, units: Mapping[str, str]) -> None:
        paths = [self._directory / name for name in units]
        for path in paths:
            if path.exists() and self._own(path.name) is None:
                raise ScheduleError(
                    Text("{path} was not written by certferry, and stays as it is", path=path),
                    hint=Text("move it away, or keep using it instead"),
                )
        self._directory.mkdir(parents=True, exist_ok=True)
        for name, text in units.items():
            replace_file(self._directory / name, text.encode(), _MODE)

    def _disable(self) -> None:
        if self._booted.is_dir():
            self._must("disable", "--now", TIMER)
        with _told():  # where systemd does not run, the link is still there
            (self._directory / "timers.target.wants" / TIMER).unlink(missing_ok=True)

    def _is_on(self) -> bool:
        return self._booted.is_dir() and self._ask("is-active", TIMER).returncode == 0

    def _next_run(self) -> datetime | None:
        shown = self._ask(
            "show", "--timestamp=unix", "--property=NextElapseUSecRealtime", "--value", TIMER
        )
        moment = _MOMENT.search(shown.stdout)
        return datetime.fromtimestamp(int(moment[1]), UTC) if moment else None

    def _must(self, *arguments: str) -> None:
        result = self._ask(*arguments)
        if result.returncode != 0:
            words = Text("`systemctl {arguments}` failed: {problem}")
            raise ScheduleError(
                words.filled(arguments=" ".join(arguments), problem=complaint(result)),
                hint=_TRY_AGAIN,
            )

    @property
    def _systemctl(self) -> list[str]:
        return ["systemctl"] if self._for_system else ["systemctl", "--user"]

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return call([*self._systemctl, *arguments], self._environ, _TIMEOUT, _TRY_AGAIN)


def units_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Give the directory of a user's own units (systemd.unit(5))."""
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd" / "user"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ScheduleError(
            Text("{path}: {problem}", path=exc.filename, problem=system_words(exc)),
            hint=_TRY_AGAIN,
        ) from exc


SERVICE = "certferry.service"
TIMER = "certferry.timer"
FAILED = "certferry-failed.service"

MARK = "# Written by `certferry schedule install --systemd`, and taken away by `schedule remove`."
"""The first line of what is ours."""

USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""Where services look for programs (systemd.exec(5), "$PATH")."""

TIMER_TEXT = f"""\
{MARK}
# To change it, write a drop-in: systemctl edit {TIMER}

[Unit]
Description=Runs of certferry, twice a day

[Timer]
OnCalendar=*-*-* 00,12:00:00
# Not every machine at midnight; on one machine always the same second.
RandomizedDelaySec={NIGHT_HOURS}h
FixedRandomDelay=true
AccuracySec=1s
# A machine that was off at its time makes up for it.
Persistent=true

[Install]
WantedBy=timers.target
"""

_SERVICE = """\
{mark}
# To change it, write a drop-in: systemctl edit {name}

[Unit]
Description=certferry: renew certificates, deploy them, and see them served
Wants=network-online.target
After=network-online.target nss-lookup.target
{on_failure}
[Service]
Type=oneshot
# Still in progress, at work elsewhere, or stopped by an operator or a shutdown: the next run goes
# on from there.
SuccessExitStatus=75 130
# A run tries again what has failed, after 1, 10 and 100 minutes. One that hangs must not keep the
# next from starting; one that is told to end does so within seconds.
TimeoutStartSec=11h
TimeoutStopSec=15s
UMask=0077
NoNewPrivileges=yes
"""

_FAILED = """\
{mark}
# To change it, write a drop-in: systemctl edit {name}

[Unit]
Description=certferry: tell that a run failed

[Service]
Type=oneshot
# It is told how the run ended (MONITOR_SERVICE_RESULT, systemd.exec(5)). What a run told itself is
# not told again; one that was killed, or could not begin, told nothing.
TimeoutStartSec=2min
UMask=0077
NoNewPrivileges=yes
"""

_OPEN = """
# No sandbox beyond that: the configuration runs programs (a reload, a command), whose needs are
# not known. A drop-in can add what fits.
# A server that one of them starts outlives the run, as it does when cron starts it.
KillMode=process
"""

_SANDBOX = """
# Everything is there to be read, and only ReadWritePaths to be written.
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectControlGroups=yes
# The network, the resolver's socket, and nothing exotic.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""

# What takes capabilities away a user's manager cannot do, and fails at.
_SYSTEM_SANDBOX = """\
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectProc=invisible
# For files of other users than root, and for `owner` and `group`.
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
"""

_COMMAND = re.compile(r"^ExecStart=(.*)$", re.MULTILINE)
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_REPLACED = set("\"'\\$")
"""What systemd reads otherwise in a path, in a command or in an assignment."""


def service_text(job: Job, *, for_system: bool) -> str:
    """Write the service: the job, in a sandbox unless it runs programs of the operator's.

    Raises `ScheduleError` for words that a unit cannot hold.
    """
    on_failure = f"OnFailure={FAILED}\n" if job.on_failure else ""
    unit = _SERVICE.format(mark=MARK, name=SERVICE, on_failure=on_failure)
    return unit + _rest(job, job.command, for_system=for_system)


def failed_text(job: Job, *, for_system: bool) -> str:
    """Write the service that is started where a run fails. Raises as `service_text`."""
    unit = _FAILED.format(mark=MARK, name=FAILED)
    return unit + _rest(job, job.on_failure, for_system=for_system)


def _rest(job: Job, command: tuple[str, ...], *, for_system: bool) -> str:
    settings = [
        f"Environment={_word(f'{name}={value}')}" for name, value in job.environment.items()
    ]
    settings.append(f"ExecStart={' '.join(map(_word, command))}")
    if job.runs_programs:
        guard = _OPEN
    else:
        settings += [f"ReadWritePaths={_word(path)}" for path in job.writes]
        guard = _SANDBOX + (_SYSTEM_SANDBOX if for_system else "")
    return "\n".join(settings) + "\n" + guard


def command_of(service: str) -> str:
    """Give the command line of a service, as it is written."""
    match = _COMMAND.search(service)
    return match[1] if match else ""


def _word(word: str) -> str:
    """Write a word so that systemd reads it back as it is."""
    if not word.isprintable() or _REPLACED & set(word):
        raise ScheduleError(
            Text("a systemd unit cannot hold {word}", word=repr(word)),
            hint=Text("give the file a name without quotes, dollars and backslashes, or use cron"),
        )
    escaped = word.replace("%", "%%")
    return escaped if _PLAIN.fullmatch(escaped) else f'"{escaped}"'
