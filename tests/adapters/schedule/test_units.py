"""The units, word for word: each setting has a reason, and a lost setting fails here."""

from __future__ import annotations

import pytest

from certferry.adapters.schedule.systemd import TIMER_TEXT, failed_text, service_text
from certferry.core.schedule import Job
from certferry.errors import ScheduleError

TIMER = """\
# Written by `certferry schedule install --systemd`, and taken away by `schedule remove`.
# To change it, write a drop-in: systemctl edit certferry.timer

[Unit]
Description=Runs of certferry, twice a day

[Timer]
OnCalendar=*-*-* 00,12:00:00
# Each machine has another moment, and keeps this moment every day.
RandomizedDelaySec=6h
FixedRandomDelay=true
AccuracySec=1s
# If the machine was off at the moment, the run starts after the next boot.
Persistent=true

[Install]
WantedBy=timers.target
"""

SERVICE = """\
# Written by `certferry schedule install --systemd`, and taken away by `schedule remove`.
# To change it, write a drop-in: systemctl edit certferry.service

[Unit]
Description=certferry: renew certificates, deploy them, and see them served
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
Type=oneshot
# 75: work is still in progress, or another run does the work. 130: an operator or a shutdown
# stopped the run. In both cases the next run continues.
SuccessExitStatus=75 130
# A run repeats failed work after 1, 10 and 100 minutes. A run that hangs is ended before the next
# run is due. A run that systemd stops ends within seconds.
TimeoutStartSec=11h
TimeoutStopSec=15s
UMask=0077
NoNewPrivileges=yes
Environment=HOME=/srv
ExecStart=/usr/bin/certferry --quiet sync
"""

HARDENED = """\
ReadWritePaths=/var/lib/certferry
ReadWritePaths=/etc/ssl/site

# The service can read every file, but write only to ReadWritePaths.
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectControlGroups=yes
# Only sockets for the network and for local services, such as the resolver.
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

SYSTEM = """\
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectProc=invisible
# To write files of users other than root, and to set `owner` and `group`.
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
"""

OPEN = """
# No sandbox beyond these settings: the configuration runs programs (a reload, a command), and their
# needs are unknown. A drop-in can add restrictions.
# A server started by such a program outlives the run, as under cron.
KillMode=process
"""


def test_the_timer() -> None:
    """The timer starts twice a day at a second of this machine's own, and makes up for missed
    runs.
    """
    assert TIMER == TIMER_TEXT


@pytest.mark.parametrize(
    ("for_system", "runs_programs", "sandbox"),
    [
        (True, False, HARDENED + SYSTEM),
        (False, False, HARDENED),
        (True, True, OPEN),
        (False, True, OPEN),
    ],
)
def test_the_service(sandbox: str, *, for_system: bool, runs_programs: bool) -> None:
    """Work left for the next run is a success, other users can read no file, and no privilege is
    gained. The sandbox is whole unless the operator's programs run in it. A user's systemd cannot
    take capabilities away.
    """
    job = Job(
        ("/usr/bin/certferry", "--quiet", "sync"),
        {"HOME": "/srv"},
        writes=("/var/lib/certferry", "/etc/ssl/site"),
        runs_programs=runs_programs,
    )

    assert SERVICE + sandbox == service_text(job, for_system=for_system)


FAILED = """\
# Written by `certferry schedule install --systemd`, and taken away by `schedule remove`.
# To change it, write a drop-in: systemctl edit certferry-failed.service

[Unit]
Description=certferry: report a failed run

[Service]
Type=oneshot
# Reports a run that was killed or could not begin. A run that failed otherwise has reported its
# failure itself. systemd passes the run's end in MONITOR_SERVICE_RESULT (systemd.exec(5)).
TimeoutStartSec=2min
UMask=0077
NoNewPrivileges=yes
Environment=HOME=/srv
ExecStart=/usr/bin/certferry notify failed
"""


def test_the_service_that_reports_a_failure() -> None:
    """The main service starts the report on failure, and the report has the same sandbox."""
    job = Job(
        ("/usr/bin/certferry", "--quiet", "sync"),
        {"HOME": "/srv"},
        writes=("/var/lib/certferry", "/etc/ssl/site"),
        on_failure=("/usr/bin/certferry", "notify", "failed"),
    )

    after = "After=network-online.target nss-lookup.target\n"
    reported = SERVICE.replace(after, f"{after}OnFailure=certferry-failed.service\n")
    assert reported + HARDENED + SYSTEM == service_text(job, for_system=True)
    assert FAILED + HARDENED + SYSTEM == failed_text(job, for_system=True)


@pytest.mark.parametrize("character", ["\n", "'", '"', "\\", "$"])
def test_unrepresentable_word_is_refused(character: str) -> None:
    """A line end would begin another setting, and systemd would interpret the other characters."""
    with pytest.raises(ScheduleError, match="cannot hold") as caught:
        service_text(Job(("/bin/certferry", f"a{character}b")), for_system=True)

    assert caught.value.hint is not None
