"""What can start a run twice a day."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from certferry.config.files import home_directory
from certferry.ports.scheduler import Scheduler
from certferry.wiring.clock import now


def schedulers(environ: Mapping[str, str]) -> tuple[Scheduler, Scheduler]:
    """Give the user's systemd units, the system's for root, and the user's crontab."""
    from certferry.adapters.schedule import cron, systemd

    root = os.geteuid() == 0
    own = systemd.units_directory(environ, home_directory(environ))
    return (
        systemd.SystemdTimer(systemd.SYSTEM_UNITS if root else own, environ, for_system=root),
        cron.Cron(environ, secrets.randbelow, now),
    )
