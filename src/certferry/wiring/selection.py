"""Select certificates of a file: by name, by domain, or by a client's renewal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from certferry.adapters.files.source import PemFileSource
from certferry.config.load import find_file, usual_places
from certferry.config.mistakes import nearest
from certferry.config.model import Settings
from certferry.core.certificates.certificate import covered_by, first_of
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.names import normalise
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.records import UNFILTERED, HistoryEntry, HistoryFilter
from certferry.errors import CertferryError, ConfigError, NoneDeclared
from certferry.migration import renewed as renewals
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.adapters import TARGETS, installed
from certferry.wiring.settings import from_client, from_environment, load_checked
from certferry.wiring.workspace import Workspace

_MOST_LISTED = 10
"""Maximum number of declared names in a message; a longer list would hide the message."""


class Selection(Struct, frozen=True):
    """The certificates of a command, chosen once from the declared certificates."""

    #: The settings, limited to the chosen certificates.
    settings: Settings
    #: The lineages meant by each NAME of the command line: several if certificates share a domain.
    meant: Mapping[str, Sequence[str]]

    def must_be_unambiguous(self) -> None:
        """Raise `ConfigError` for a NAME that means several certificates."""
        for name, lineages in self.meant.items():
            must_be_one(name, lineages)


def choose(names: Sequence[str], path: Path | None, environ: Mapping[str, str]) -> Selection:
    """Read the file and choose the named certificates; all certificates if `names` is empty. If
    there is no file, return settings that declare a certificate for `names`. Raises `ConfigError`,
    also if there is neither a file nor a name.
    """
    if names and find_file(path, environ) is None:
        return Selection(from_environment(names, environ), {})
    settings = load_checked(path, environ)
    meant = _lineages_by_name(names, settings.certificates)
    certificates = _chosen(settings.certificates, meant)
    return Selection(replace(settings, certificates=certificates), meant)


def select(
    certificates: Sequence[DesiredCertificate], names: Sequence[str]
) -> tuple[DesiredCertificate, ...]:
    """Return the certificates named by lineage or covering a named domain; all certificates if
    `names` is empty. Raises `ConfigError` for a name without a certificate.
    """
    return _chosen(certificates, _lineages_by_name(names, certificates))


def _lineages_by_name(
    names: Sequence[str], certificates: Sequence[DesiredCertificate]
) -> dict[str, list[str]]:
    meant = {name: lineages_meant(name, certificates) for name in names}
    for name, lineages in meant.items():
        if not lineages:
            raise _unknown(name, [desired.lineage for desired in certificates])
    return meant


def _chosen(
    certificates: Sequence[DesiredCertificate], meant: Mapping[str, Sequence[str]]
) -> tuple[DesiredCertificate, ...]:
    lineages = {lineage for several in meant.values() for lineage in several}
    return tuple(desired for desired in certificates if not meant or desired.lineage in lineages)


def lineages_meant(name: str, certificates: Sequence[DesiredCertificate]) -> list[str]:
    """Return the lineage called `name`, or else the lineages that cover `name` as a domain."""
    if any(desired.lineage == name for desired in certificates):
        return [name]
    return _meant(name, {desired.lineage: _names_of(desired) for desired in certificates})


def _names_of(desired: DesiredCertificate) -> Sequence[str]:
    """Return a certificate's names. For another client's certificate, read the names from the
    files. Unreadable files give no names; the run reports the error.
    """
    if desired.files is None:
        return desired.names
    with suppress(CertferryError):
        return PemFileSource().read(desired.files).certificate.names
    return ()


def _meant(name: str, names_by_lineage: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lineage called `name`, or else the lineages that cover `name` as a domain."""
    if name in names_by_lineage:
        return [name]
    try:
        domain = normalise(name)
    except ConfigError:
        return []
    return [lineage for lineage, names in names_by_lineage.items() if covered_by(names, domain)]


def the_one_meant(certificates: Sequence[DesiredCertificate], name: str) -> DesiredCertificate:
    """Return the certificate of this name, or the only certificate covering this domain. Raises
    `ConfigError` if no certificate or several match.
    """
    matches = select(certificates, [name])
    must_be_one(name, [desired.lineage for desired in matches])
    return matches[0]


def must_be_renewed_here(desired: DesiredCertificate) -> None:
    """Raise `ConfigError` for a certificate renewed by another client."""
    if desired.files is not None:
        raise ConfigError(
            Text(
                "`--renew` does not apply to {lineage}: its own client renews the certificate",
                lineage=desired.lineage,
            ),
            hint=Text("renew the certificate with its client; the next run deploys the files"),
        )


def must_declare(settings: Settings) -> None:
    """Raise `NoneDeclared` if no certificate is declared: a truncated file must not pass as
    healthy.
    """
    if not settings.certificates:
        hint = Text(
            "declare a certificate under [[certificates]], or have certferry propose"
            " certificates: certferry init"
        )
        raise NoneDeclared(Text("{path} declares no certificate", path=settings.path), hint=hint)


def must_be_known(name: str, workspace: Workspace) -> str:
    """Return the declared or stored lineage of a name or domain. Raises `ConfigError` unless
    exactly one lineage matches.
    """
    names_by_lineage: dict[str, Sequence[str]] = {
        desired.lineage: desired.names for desired in workspace.certificates
    }
    matches, state = lineages_meant(name, workspace.certificates), workspace.state
    if name not in matches:
        left = [lineage for lineage in state.lineages() if lineage not in names_by_lineage]
        names_by_lineage |= {
            lineage: versions[0].certificate.names if versions else ()
            for lineage, versions in state.versions_of(left).items()
        }
        matches = [name] if name in left else matches or _meant(name, names_by_lineage)
    if not matches:
        raise _unknown(name, list(names_by_lineage))
    must_be_one(name, matches)
    return matches[0]


def history_of(
    name: str | None,
    limit: int,
    workspace: Workspace,
    before: int | None = None,
    which: HistoryFilter = UNFILTERED,
) -> tuple[HistoryEntry, ...]:
    """Return at most `limit` entries of the history, as `NoticeStore.history`. `name` is a lineage,
    a domain covered by a lineage, or `None` for all lineages. Raises `ConfigError` for an unknown
    or ambiguous name, and `StateError`.
    """
    state = workspace.state
    entries = state.history(name, limit, before, which)
    if name is None or entries or state.history(name, 1):
        return entries
    return state.history(must_be_known(name, workspace), limit, before, which)


def must_be_one(name: str, lineages: Sequence[str]) -> None:
    """Raise `ConfigError` if `name` means several lineages."""
    if len(lineages) > 1:
        raise ConfigError(
            Text("{name} is in several certificates: {lineages}", name=name, lineages=lineages),
            hint=Text("give the name of the certificate"),
        )


def _unknown(name: str, lineages: Sequence[str]) -> ConfigError:
    message = Text("there is no certificate called {name}, and no certificate covers {name}")
    try:
        normalise(name)
    except ConfigError:  # not a domain
        message = Text("there is no certificate called {name}")
    meant, hint = nearest(name, lineages), Text("known: {known}")
    if not lineages:
        hint = Text("no certificate is declared yet")
    elif meant is not None and len(lineages) == 1:
        hint = Text("did you mean {meant}?")
    elif meant is not None:
        hint = Text("did you mean {meant}? known: {known}")
    listed = first_of(lineages, _MOST_LISTED)
    return ConfigError(message.filled(name=name), hint=hint.filled(meant=meant, known=listed))


class Meant(Struct, frozen=True):
    """The settings for a run started by another client's hook."""

    #: The settings, limited to the certificates meant.
    settings: Settings
    #: The client's name if no file declares the renewed certificate; `settings` then declare the
    #: certificate.
    undeclared_of: str | None = None


def hook_modes() -> tuple[str, ...]:
    """Return the modes of the hook: the clients, then the types of accounts with domains."""
    return tuple(dict.fromkeys((*renewals.CLIENTS, *installed().names(TARGETS))))


def meant_by(mode: str, chosen: Path | None, environ: Mapping[str, str]) -> Meant:
    """Return the settings for the run of a hook: from the configuration file, or made for the
    renewed certificate if no file declares certificates. Raises `ConfigError`.

    `mode` is the name of the client that has renewed the certificate, a type of accounts, or an
    account's label. For a type or a label, the run is for every declared certificate with a
    deployment to an account of the type or with the label.
    """
    is_client = mode in renewals.CLIENTS
    renewed = renewals.renewed_by(mode, environ) if is_client else renewals.renewed_by_any(environ)
    settings = None if find_file(chosen, environ) is None else load_checked(chosen, environ)
    if settings is not None and not is_client and (renewed is None or settings.certificates):
        return Meant(_deployed_to(mode, settings))
    if renewed is None:
        raise _nothing_to_go_by(environ)
    if settings is None or not settings.certificates:
        undeclared = from_client(renewed.name, renewed.files, environ, settings)
        return Meant(undeclared, renewed.client)
    return Meant(_declared_for(settings, renewed))


def _declared_for(settings: Settings, renewed: renewals.Renewed) -> Settings:
    with Workspace(settings, reads_only=True) as workspace:

        def versions(lineage: str) -> Sequence[Version]:
            return workspace.state.versions(lineage)  # opens the state only if needed

        meant = renewals.declared_for(
            renewed.files, settings.certificates, PemFileSource(), versions
        )
    if not meant:
        message = Text("{path} declares no certificate for {name}, renewed by {client}").filled(
            path=settings.path, name=renewed.name, client=renewed.client
        )
        raise ConfigError(message, hint=renewals.how_to_declare(renewed.files))
    return replace(settings, certificates=meant)


def _deployed_to(mode: str, settings: Settings) -> Settings:
    """Return the settings with the certificates for the accounts of a type, or of a label."""
    declared = settings.accounts.items()
    accounts = {label for label, account in declared if mode in {label, account.type}}
    type_ = settings.accounts[mode].type if mode in settings.accounts else mode
    meant = tuple(
        desired
        for desired in settings.certificates
        if any(deployment.target in accounts for deployment in desired.deployments)
    )
    if not meant:
        raise ConfigError(
            Text("{path}: no certificate is deployed to {service}").filled(
                path=settings.path, service=installed().find(TARGETS, type_).called
            ),
            hint=Text(
                'declare a deployment with [[certificates.deploy]] and to = "{type}"', type=type_
            ),
        )
    return replace(settings, certificates=meant)


def _nothing_to_go_by(environ: Mapping[str, str]) -> ConfigError:
    message = Text(
        "there is no configuration file, and no client has set its variables; certferry"
        " looked for {places}",
        places=usual_places(environ),
    )
    return ConfigError(message, hint=Text("give the file with --config FILE before the command"))
