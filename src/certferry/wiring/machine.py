"""This machine's receivers, schedulers and other ACME clients."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path

from certferry.adapters.files import directory
from certferry.adapters.files.directory import write_bundle
from certferry.adapters.files.source import PemFileSource
from certferry.config.files import home_directory
from certferry.config.model import Settings
from certferry.core.desired.certificate import Delivery, FileDelivery
from certferry.file_trust import PACKAGE_USER, user_name
from certferry.migration.home import OldClient, OldHome
from certferry.ports.progress import Pause
from certferry.ports.receiver import FileServer, Receiver
from certferry.ports.scheduler import Scheduler
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS, BrokenAdapter, Family, installed
from certferry.wiring.clock import now

__all__ = ["PemFileSource", "write_bundle"]


def receiver_for(
    settings: Settings, pause: Pause, servers: Mapping[str, FileServer], delivery: Delivery
) -> Receiver:
    """Return the receiver for a delivery. `servers` are the accounts of servers, by label."""
    from certferry.adapters.receivers import command, files

    workspace = _workspace(settings)
    connect: Callable[..., Receiver] = partial(command.CommandReceiver, workspace=workspace)
    if isinstance(delivery, FileDelivery) and delivery.account:
        return servers[delivery.account].receiver(
            delivery, withheld=settings.secrets.withheld(), hidden=settings.secrets.known()
        )
    if isinstance(delivery, FileDelivery):
        connect = files.FilesReceiver
    return connect(
        delivery, pause=pause, withheld=settings.secrets.withheld(), hidden=settings.secrets.known()
    )


def sweep_handovers(settings: Settings) -> None:
    """Remove the files that a killed run left for a command, even if the command is no longer
    declared.
    """
    directory.sweep_handovers(_workspace(settings))


def _workspace(settings: Settings) -> Path:
    return settings.state.directory / "handover"


def schedulers(environ: Mapping[str, str]) -> tuple[Scheduler, Scheduler, Scheduler]:
    """Return the systemd timer, the systemd service and the user's crontab. The units are those of
    the system for root, and for the Debian package's user if the package's units are in use. Any
    other user gets the user's own units.
    """
    from certferry.adapters.schedule import cron, systemd

    root = os.geteuid() == 0
    own = systemd.units_directory(environ, home_directory(environ))
    units = systemd.SYSTEM_UNITS if root else own
    if has_packaged_timer(environ):
        units = systemd.SYSTEM_UNITS
        timer = systemd.PackagedTimer(units, environ, for_system=True)
        server = systemd.PackagedServer(units, environ, for_system=True)
        return timer, server, cron.Cron(environ, secrets.randbelow, now)
    return (
        systemd.SystemdTimer(units, environ, for_system=root),
        systemd.SystemdServer(units, environ, for_system=root),
        cron.Cron(environ, secrets.randbelow, now),
    )


def has_packaged_timer(environ: Mapping[str, str]) -> bool:
    """Return whether the Debian package's systemd units start the scheduled runs of this user:
    root or the package's user, on a machine with systemd. Most containers lack systemd.
    """
    from certferry.adapters.schedule import systemd

    is_its_user = os.geteuid() == 0 or user_name(os.geteuid()) == PACKAGE_USER
    return is_its_user and systemd.are_packaged() and systemd.is_installed(environ)


def install_deploy_hook(
    home: Path | None, command: Sequence[str], environ: Mapping[str, str]
) -> tuple[Path, bool]:
    """Install acme.sh's deploy hook for certferry in `home`, or else in acme.sh's usual home.
    Return the result of `migration.acme_sh.install`.
    """
    from certferry.migration import acme_sh

    usual = acme_sh.default_home(environ, home_directory(environ))
    exported = list(acme_sh_variables(TARGETS).values())
    return acme_sh.install((home or usual).absolute(), command, exported)


def old_home(client: OldClient, home: Path | None, environ: Mapping[str, str]) -> OldHome:
    """Read the home of another client, by default the client's usual home. Raises `ConfigError` if
    the home does not exist.
    """
    reader = import_module(f"certferry.migration.{client.name.lower()}")
    usual = reader.default_home(environ, home_directory(environ))
    read: Callable[..., OldHome] = reader.read
    if client is OldClient.ACME_SH:
        read = partial(read, variables=acme_sh_variables(DNS_PROVIDERS, TARGETS))
    return read(home or usual, usual, PemFileSource())


def acme_sh_variables(*families: Family) -> Mapping[str, str]:
    """Return the names of the environment variables that acme.sh has too: certferry's name with
    acme.sh's name.
    """
    table, names = installed(), dict[str, str]()
    for family in families:
        for type_ in table.names(family):
            with suppress(BrokenAdapter):  # connecting the account reports the broken adapter
                for variable in table.find(family, type_).adapter.ENVIRONMENT:
                    if variable.acme_sh:
                        names[variable.names[0]] = variable.acme_sh
    return names
