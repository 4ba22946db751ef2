"""The text of our systemd units: a service that runs once, the timer that starts it, and a service
that tells where it failed.

Facts are from systemd's manual pages: systemd.service(5), systemd.exec(5), systemd.timer(5),
systemd.syntax(7).
"""

from __future__ import annotations

import re

from certferry.core.schedule import NIGHT_HOURS, Job
from certferry.errors import ScheduleError
from certferry.text import Text

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
