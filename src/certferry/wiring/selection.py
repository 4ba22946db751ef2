"""Which certificates of a file are meant: by name, by domain, or by a client's renewal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

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
from certferry.wiring.settings import from_client, from_environment, load_checked
from certferry.wiring.workspace import Workspace

_MOST_LISTED = 10
"""Declared names that a message lists: more would hide what it says."""


def chosen_settings(
    names: Sequence[str], path: Path | None, environ: Mapping[str, str]
) -> Settings:
    """Read the file and keep what is named; without a file, declare it. Raises `ConfigError`."""
    if names and find_file(path, environ) is None:
        return from_environment(names, environ)
    settings = load_checked(path, environ)
    return replace(settings, certificates=select(settings.certificates, names))


def select(
    certificates: Sequence[DesiredCertificate], names: Sequence[str]
) -> tuple[DesiredCertificate, ...]:
    """Return those that are named or cover a named domain; all if none is. Raises `ConfigError`."""
    meant: set[str] = set()
    for name in names:
        found = lineages_meant(name, certificates)
        if not found:
            raise _unknown(name, [desired.lineage for desired in certificates])
        meant.update(found)
    return tuple(desired for desired in certificates if not names or desired.lineage in meant)


def lineages_meant(name: str, certificates: Sequence[DesiredCertificate]) -> list[str]:
    """Return the lineage of this name, or else those that cover the domain of this name."""
    if any(desired.lineage == name for desired in certificates):
        return [name]
    return _meant(name, {desired.lineage: _names_of(desired) for desired in certificates})


def _names_of(desired: DesiredCertificate) -> Sequence[str]:
    """Return a certificate's names, or those in its files; none where its pass reports why."""
    if desired.files is None:
        return desired.names
    with suppress(CertferryError):
        return PemFileSource().read(desired.files).certificate.names
    return ()


def _meant(name: str, known: Mapping[str, Sequence[str]]) -> list[str]:
    if name in known:
        return [name]
    try:
        domain = normalise(name)
    except ConfigError:
        return []
    return [lineage for lineage, names in known.items() if covered_by(names, domain)]


def the_one_meant(certificates: Sequence[DesiredCertificate], name: str) -> DesiredCertificate:
    """Return the one of that name, or the only one for a domain. Raises `ConfigError`."""
    found = select(certificates, [name])
    must_be_one(name, [desired.lineage for desired in found])
    return found[0]


def must_be_renewed_here(desired: DesiredCertificate) -> None:
    """Raise `ConfigError` for a certificate that another client renews."""
    if desired.files is not None:
        raise ConfigError(
            Text(
                "`--renew` is not for {lineage}: the client that makes it renews it",
                lineage=desired.lineage,
            ),
            hint=Text("renew it with its own client; the next run deploys the files"),
        )


def must_declare(settings: Settings) -> None:
    """Raise `NoneDeclared` where no certificate is: a truncated file must not look in order."""
    if not settings.certificates:
        hint = Text(
            "declare one under [[certificates]], or have certferry propose them: certferry init"
        )
        raise NoneDeclared(Text("{path} declares no certificate", path=settings.path), hint=hint)


def must_be_known(name: str, workspace: Workspace) -> str:
    """Return the lineage, declared or stored, that is meant. Raises `ConfigError` if not one."""
    known: dict[str, Sequence[str]] = {
        desired.lineage: desired.names for desired in workspace.certificates
    }
    found, state = lineages_meant(name, workspace.certificates), workspace.state
    if name not in found:
        left = [lineage for lineage in state.lineages() if lineage not in known]
        known |= {
            one: versions[0].certificate.names if versions else ()
            for one, versions in state.versions_of(left).items()
        }
        found = [name] if name in left else found or _meant(name, known)
    if not found:
        raise _unknown(name, list(known))
    must_be_one(name, found)
    return found[0]


def history_of(
    name: str | None,
    limit: int,
    workspace: Workspace,
    before: int | None = None,
    which: HistoryFilter = UNFILTERED,
) -> tuple[HistoryEntry, ...]:
    """Return what happened to a lineage, to the one of a domain, or to all; see
    `NoticeStore.history`. Raises `ConfigError` for an unknown name.
    """
    state = workspace.state
    entries = state.history(name, limit, before, which)
    if name is None or entries or state.history(name, 1):
        return entries
    return state.history(must_be_known(name, workspace), limit, before, which)


def must_be_one(name: str, lineages: Sequence[str]) -> None:
    """Raise `ConfigError` for a domain that several certificates cover."""
    if len(lineages) > 1:
        raise ConfigError(
            Text("{name} is for several certificates: {lineages}", name=name, lineages=lineages),
            hint=Text("name the certificate that is meant"),
        )


def _unknown(name: str, known: Sequence[str]) -> ConfigError:
    said = Text("there is no certificate called {name}, and none that covers it")
    try:
        normalise(name)
    except ConfigError:  # it is no domain
        said = Text("there is no certificate called {name}")
    meant, hint = nearest(name, known), Text("known: {known}")
    if not known:
        hint = Text("none is declared yet")
    elif meant is not None and len(known) == 1:
        hint = Text("did you mean {meant}?")
    elif meant is not None:
        hint = Text("did you mean {meant}? known: {known}")
    listed = first_of(known, _MOST_LISTED)
    return ConfigError(said.filled(name=name), hint=hint.filled(meant=meant, known=listed))


@dataclass(frozen=True, slots=True)
class Meant:
    """A hook's settings; `undeclared_of` is the client whose certificate no file declares."""

    settings: Settings
    undeclared_of: str | None = None


def meant_by(mode: str, chosen: Path | None, environ: Mapping[str, str]) -> Meant:
    """Read the settings that a client's renewal means, from a file or not. Raises `ConfigError`."""
    renewed = (
        renewals.renewed_by_any(environ)
        if mode == renewals.QINIU
        else renewals.renewed_by(mode, environ)
    )
    settings = None if find_file(chosen, environ) is None else load_checked(chosen, environ)
    if settings is not None and (
        renewed is None or (mode == renewals.QINIU and settings.certificates)
    ):
        return Meant(_at_qiniu(settings))
    if renewed is None:
        raise _nothing_to_go_by(environ)
    if settings is None or not settings.certificates:
        undeclared = from_client(renewed.name, renewed.files, environ, settings)
        return Meant(undeclared, renewed.client)
    return Meant(_declared_for(settings, renewed))


def _declared_for(settings: Settings, renewed: renewals.Renewed) -> Settings:
    with Workspace(settings, reads_only=True) as workspace:

        def versions(lineage: str) -> Sequence[Version]:
            return workspace.state.versions(lineage)  # opened for a certificate that is declared

        meant = renewals.declared_for(
            renewed.files, settings.certificates, PemFileSource(), versions
        )
    if not meant:
        said = Text("{path} declares no certificate for {name}, which {client} has renewed").filled(
            path=settings.path, name=renewed.name, client=renewed.client
        )
        raise ConfigError(said, hint=renewals.how_to_declare(renewed.files))
    return replace(settings, certificates=meant)


def _at_qiniu(settings: Settings) -> Settings:
    accounts = {
        label for label, account in settings.accounts.items() if account.type == renewals.QINIU
    }
    meant = tuple(
        desired
        for desired in settings.certificates
        if any(deployment.target in accounts for deployment in desired.deployments)
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
