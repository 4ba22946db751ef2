"""Which settings a hook goes by: what is declared for the certificate that a client has renewed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from certferry.config.find import find_file, usual_places
from certferry.config.model import Settings
from certferry.core.lineage import Version
from certferry.errors import ConfigError
from certferry.migration.declared import declared_for, how_to_declare
from certferry.migration.renewed import QINIU, Renewed, renewed_by, renewed_by_any
from certferry.ports.source import CertificateSource
from certferry.text import Text
from certferry.wiring.profiles import load_checked
from certferry.wiring.session import open_to_look
from certferry.wiring.settings import from_client


@dataclass(frozen=True, slots=True)
class Meant:
    """The settings of a hook's run. `undeclared_of` is the client whose certificate it is for
    where no file declares any: no later run goes on with that.
    """

    settings: Settings
    undeclared_of: str | None = None


def meant_by(
    mode: str, chosen: Path | None, environ: Mapping[str, str], source: CertificateSource
) -> Meant:
    """Read the configuration file and keep of it the certificates that are meant.

    Without a file, or with one that declares no certificate, the client's certificate itself is
    taken, for Qiniu. Raises `ConfigError`, and `CertificateError` or `PlanRefused` when the
    client's files cannot be taken.
    """
    renewed = renewed_by_any(environ) if mode == QINIU else renewed_by(mode, environ)
    settings = None if find_file(chosen, environ) is None else load_checked(chosen, environ)
    if settings is not None and (renewed is None or (mode == QINIU and settings.certificates)):
        return Meant(_at_qiniu(settings))
    if renewed is None:
        raise _nothing_to_go_by(environ)
    if settings is None or not settings.certificates:
        undeclared = from_client(renewed.name, renewed.files, environ, settings)
        return Meant(undeclared, renewed.client)
    return Meant(_declared(settings, renewed, source))


def _declared(settings: Settings, renewed: Renewed, source: CertificateSource) -> Settings:
    with open_to_look(settings) as session:

        def versions(lineage: str) -> Sequence[Version]:
            return session.state.versions(lineage)  # opened for a certificate that is declared

        meant = declared_for(renewed.files, settings.certificates, source, versions)
    if not meant:
        said = Text(
            "{path} declares no certificate for {name}, which {client} has renewed",
            path=settings.path,
            name=renewed.name,
            client=renewed.client,
        )
        raise ConfigError(said, hint=how_to_declare(renewed.files))
    return replace(settings, certificates=meant)


def _at_qiniu(settings: Settings) -> Settings:
    accounts = {label for label, account in settings.accounts.items() if account.type == QINIU}
    meant = tuple(
        wish
        for wish in settings.certificates
        if any(deployment.target in accounts for deployment in wish.deployments)
    )
    if not meant:
        raise ConfigError(
            Text("{path}: no certificate is deployed to Qiniu", path=settings.path),
            hint=Text('declare it with [[certificates.deploy]] and to = "qiniu"'),
        )
    return replace(settings, certificates=meant)


def _nothing_to_go_by(environ: Mapping[str, str]) -> ConfigError:
    said = Text(
        "there is no configuration, and no client says what it has renewed; looked for {places}",
        places=usual_places(environ),
    )
    return ConfigError(said, hint=Text("name the file with --config FILE before the command"))
