"""Other ACME clients on this machine: what they keep, what starts them, what they are to run."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from certferry.adapters.sources.pem_files import PemFileSource
from certferry.config.files import home_directory
from certferry.errors import ScheduleError
from certferry.migration.home import OldClient, OldHome, Starters
from certferry.ports.source import CertificateSource
from certferry.wiring.clock import now

OLD_CLIENTS = {
    OldClient.ACME_SH: "certferry.migration.acme_sh",
    OldClient.CERTBOT: "certferry.migration.certbot",
    OldClient.LEGO: "certferry.migration.lego",
}


def certificate_source() -> CertificateSource:
    """Give what reads other clients' files, for who needs nothing else."""
    return PemFileSource()


def install_deploy_hook(
    home: Path | None, command: Sequence[str], environ: Mapping[str, str]
) -> tuple[Path, bool]:
    """See `migration.deploy_hook.install`; the home is the one that acme.sh uses itself, unless
    another is named.
    """
    from certferry.migration import deploy_hook

    usual = deploy_hook.default_home(environ, home_directory(environ))
    return deploy_hook.install((home or usual).absolute(), command)


def inheritance(client: OldClient, home: Path | None, environ: Mapping[str, str]) -> OldHome:
    """Read the directory of another client: this one, or the one that it would use itself.

    Raises `ConfigError` when there is none.
    """
    source = import_module(OLD_CLIENTS[client])
    usual = source.default_home(environ, home_directory(environ))
    read: OldHome = source.read(home or usual, usual, PemFileSource())
    return read


def started_by(found: OldHome, environ: Mapping[str, str]) -> Starters:
    """Give the lines of the crontab that start another client, as far as it can be read. One whose
    directory is not clear counts as another's: the wrong one is not to be taken out.
    """
    from certferry.migration.starters import homes_in

    source = import_module(OLD_CLIENTS[found.client])
    user_home = home_directory(environ)
    usual = source.default_home(environ, user_home)
    homes = homes_in(_crontab(environ), source.SCHEDULED, source.HOME_OPTIONS, user_home, usual)
    here = Path(found.home).resolve()
    ours = tuple(
        line for line, home in homes.items() if home is not None and home.resolve() == here
    )
    return Starters(ours, tuple(line for line in homes if line not in ours))


def _crontab(environ: Mapping[str, str]) -> Sequence[str]:
    from certferry.adapters.schedule import cron

    if not cron.is_here(environ):
        return ()
    try:
        return cron.Cron(environ, secrets.randbelow, now).lines()
    except ScheduleError:
        return ()
