"""The text of our two systemd units: a service that runs once, and the timer that starts it.

Facts are from systemd's manual pages: systemd.service(5), systemd.exec(5), systemd.timer(5),
systemd.syntax(7).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from certferry.core.schedule import NIGHT_HOURS, Job
from certferry.errors import ScheduleError
from certferry.text import Text

SERVICE = "certferry.service"
TIMER = "certferry.timer"

MARK = "# Written by `certferry schedule install --systemd`, and taken away by `schedule remove`."
"""The first line of what is ours."""

USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""Where services look for programs (systemd.exec(5), "$PATH")."""

_ENV = "/usr/bin/env"
_COMMAND = re.compile(r"^ExecStart=(.*)$", re.MULTILINE)
_PLAIN = re.compile(r"[\w@%$+=:,./-]+", re.ASCII)


def timer_text() -> str:
    """Write the timer: every night, at a moment of this machine's own, made up for if missed."""
    return f"""\
{MARK}
# To change it, write a drop-in: systemctl edit {TIMER}

[Unit]
Description=Daily run of certferry

[Timer]
OnCalendar=daily
# Not everybody at midnight; on one machine always the same moment.
RandomizedDelaySec={NIGHT_HOURS}h
FixedRandomDelay=true
# A machine that was off in the night makes up for it.
Persistent=true

[Install]
WantedBy=timers.target
"""


def service_text(job: Job, *, for_system: bool, capabilities: Sequence[str] = ()) -> str:
    """Write the service: the job, in a sandbox.

    `capabilities` are those that root needs to reach the job's files. Raises `ScheduleError` for
    words that a unit cannot hold.
    """
    return "\n".join(
        [
            MARK,
            f"# To change it, write a drop-in: systemctl edit {SERVICE}",
            "",
            "[Unit]",
            "Description=certferry: renew certificates, deploy them, and see them served",
            *_ordering(for_system=for_system),
            "",
            "[Service]",
            "Type=oneshot",
            *(f"Environment={_word(f'{name}={value}')}" for name, value in job.environment.items()),
            f"ExecStart={_command(job.command)}",
            "# Still in progress, or at work elsewhere: the next run goes on from there.",
            "SuccessExitStatus=75",
            "UMask=0077",
            "",
            "NoNewPrivileges=yes",
            *(_open_sandbox() if job.runs_programs else _sandbox(job)),
            *(_system_sandbox(capabilities) if for_system and not job.runs_programs else ()),
            "",
        ]
    )


def command_of(service: str) -> str:
    """Give the command line of a service, as it is written."""
    match = _COMMAND.search(service)
    return match[1] if match else ""


def words_of(command: str) -> tuple[str, ...]:
    """Read what `service_text` wrote as a command; none where somebody has made it something
    else.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return ()
    return tuple(word.replace("$$", "$").replace("%%", "%") for word in words)


def _ordering(*, for_system: bool) -> Iterator[str]:
    if for_system:  # a user's units cannot wait for the system's
        yield "Wants=network-online.target"
        yield "After=network-online.target nss-lookup.target"


def _sandbox(job: Job) -> Iterator[str]:
    """Give what every service manager can do, the system's and a user's."""
    yield "# Everything is there to be read, and only this to be written."
    yield "ProtectSystem=strict"
    yield "ProtectHome=read-only"
    yield from (f"ReadWritePaths={_word(path)}" for path in dict.fromkeys(job.keeps + job.fills))
    yield from _temporary(job)
    yield "ProtectKernelTunables=yes"
    yield "ProtectControlGroups=yes"
    yield "# The network, the resolver's socket, and nothing exotic."
    yield "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK"
    yield "RestrictNamespaces=yes"
    yield "RestrictRealtime=yes"
    yield "RestrictSUIDSGID=yes"
    yield "LockPersonality=yes"
    yield "MemoryDenyWriteExecute=yes"
    yield "SystemCallArchitectures=native"
    yield "SystemCallFilter=@system-service"
    yield "SystemCallErrorNumber=EPERM"


def _temporary(job: Job) -> Iterator[str]:
    paths = (*job.command, *job.reads, *job.keeps, *job.fills)
    if any(path.startswith(("/tmp/", "/var/tmp/")) for path in paths):  # noqa: S108 - compared, not used
        yield "# What it needs lies there."
        yield "PrivateTmp=no"
    else:
        yield "PrivateTmp=yes"


def _system_sandbox(capabilities: Sequence[str]) -> Iterator[str]:
    """Give what takes capabilities away, which a user's manager has not got and fails at."""
    yield "PrivateDevices=yes"
    yield "ProtectClock=yes"
    yield "ProtectHostname=yes"
    yield "ProtectKernelLogs=yes"
    yield "ProtectKernelModules=yes"
    if capabilities:
        yield "# Some of its files belong to another user than root, or are to."
    yield f"CapabilityBoundingSet={' '.join(capabilities)}"


def _open_sandbox() -> Iterator[str]:
    yield "# No sandbox beyond that: the configuration runs programs (a reload, a command), and"
    yield "# only whoever wrote them knows what they need. A drop-in can add what fits."
    yield "# A server that one of them starts outlives the run, as it does when cron starts it."
    yield "KillMode=process"


def _command(words: Sequence[str]) -> str:
    # In arguments systemd replaces variables too; in the program's path it does not.
    program, *arguments = words
    if any(character in program for character in "\"'\\"):  # which that path cannot have
        program, arguments = _ENV, list(words)
    return " ".join([_word(program), *(_word(word.replace("$", "$$")) for word in arguments)])


def _word(word: str) -> str:
    """Write a word so that systemd reads it back as it is."""
    if not word.isprintable():
        raise ScheduleError(
            Text("a systemd unit cannot hold {word}", word=repr(word)),
            hint=Text("give the file a name of printable characters"),
        )
    escaped = word.replace("%", "%%")
    if _PLAIN.fullmatch(escaped):
        return escaped
    inner = escaped.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'
