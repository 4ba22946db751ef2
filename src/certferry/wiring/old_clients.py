"""Other ACME clients on this machine: what they keep, and what they are to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from certferry.adapters.sources.pem_files import PemFileSource
from certferry.config.files import home_directory
from certferry.migration.home import OldClient, OldHome
from certferry.ports.source import CertificateSource

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
    from certferry.migration import acme_sh, deploy_hook

    usual = acme_sh.default_home(environ, home_directory(environ))
    return deploy_hook.install((home or usual).absolute(), command)


def old_home(client: OldClient, home: Path | None, environ: Mapping[str, str]) -> OldHome:
    """Read the home of another client: this one, or the one that it would use itself.

    Raises `ConfigError` when there is none.
    """
    reader = import_module(OLD_CLIENTS[client])
    usual = reader.default_home(environ, home_directory(environ))
    read: OldHome = reader.read(home or usual, usual, PemFileSource())
    return read
