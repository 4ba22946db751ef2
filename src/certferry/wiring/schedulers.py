"""What can start a run every day."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from certferry.config.files import home_directory
from certferry.ports.scheduler import Scheduler
from certferry.wiring.clock import now


@dataclass(frozen=True, slots=True)
class Schedulers:
    """What can start a run every day. `usable` are those that this machine has."""

    cron: Scheduler
    systemd: Scheduler
    usable: tuple[Scheduler, ...]


def schedulers(environ: Mapping[str, str]) -> Schedulers:
    """Give the crontab and the systemd units of whoever runs this."""
    from certferry.adapters.schedule import cron, systemd

    crontab = cron.Cron(environ, secrets.randbelow, now)
    root = os.geteuid() == 0
    own = systemd.units_directory(environ, home_directory(environ))
    timer = systemd.SystemdTimer(systemd.SYSTEM_UNITS if root else own, environ, for_system=root)
    usable = (crontab, timer) if cron.is_here(environ) else (timer,)
    return Schedulers(crontab, timer, usable)
