"""Which settings a run goes by, and which certificates it is about: those that are named on the
command line, or that another ACME client has just renewed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from certferry.cli.options import Front
from certferry.config.certificates import with_equal_names
from certferry.config.document import Document
from certferry.config.find import NAME, find_file, usual_places
from certferry.config.findings import nearest
from certferry.config.load import load_before
from certferry.config.model import Settings
from certferry.core.abbreviations import first_of
from certferry.core.certificate import covered_by
from certferry.core.desired import DesiredCertificate
from certferry.core.lineage import Version
from certferry.errors import ConfigError
from certferry.migration.declared import declared_for, how_to_declare
from certferry.migration.renewed import QINIU, Renewed, renewed_by, renewed_by_any
from certferry.ports.source import CertificateSource
from certferry.present.layout import Tone, labelled, line
from certferry.present.vocabulary import WARNING
from certferry.text import Text
from certferry.wiring.looking import open_to_look
from certferry.wiring.profiles import load_checked
from certferry.wiring.session import Session
from certferry.wiring.settings import from_client, from_environment, without_certificates

_MOST_LISTED = 10
"""Declared names that a message lists: more would hide what it says."""


def read_settings(front: Front, names: Sequence[str]) -> Settings:
    """Read the configuration file and keep of it the certificates that are named, all when none is.

    Without a file the names themselves are declared, as the environment allows. Raises
    `ConfigError`.
    """
    environ = front.console.environ
    if names and find_file(front.config, environ) is None:
        return from_environment(names, environ)
    settings = load_checked(front.config, environ)
    return replace(settings, certificates=select(settings.certificates, names))


def settings_of_run(
    front: Front, names: Sequence[str], *, renew: bool, record: bool = False
) -> Settings:
    """Read what a run is for, as `read_settings` does, and tell what the operator has to know of
    the choice: who renews, and which certificates the file has no more.
    """
    from certferry.cli.undeclared import tell_of_undeclared

    settings = read_settings(front, names)
    tell_of_equal_names(settings, front)
    if renew:
        tell_who_renews(settings.certificates, names, front)
    if not names:
        tell_of_undeclared(settings, front, record=record)
    return settings


def tell_of_equal_names(settings: Settings, front: Front) -> None:
    """Tell which certificates of the file have the names of one that the command is about."""
    if front.quiet:
        return
    say, meant = front.voice.say, {frozenset(wish.names) for wish in settings.certificates}
    alike = [wish for wish in settings.declared if frozenset(wish.names) in meant]
    for twin in with_equal_names(alike, settings.places):
        front.console.remark(labelled(say(WARNING), Tone.PENDING, say(twin.text)))


def settings_or_defaults(front: Front) -> Settings:
    """Read the configuration file; without one, go by the defaults, with nothing declared."""
    environ = front.console.environ
    if find_file(front.config, environ) is None:
        return load_before(Document(None, {}), Path(NAME), environ)
    return load_checked(front.config, environ)


def settings_with_accounts(front: Front) -> Settings:
    """Read the configuration file; without one, take the keys of the usual target from the
    environment, with nothing declared. Raises `ConfigError`.
    """
    environ = front.console.environ
    if find_file(front.config, environ) is None:
        return without_certificates(environ)
    return load_checked(front.config, environ)


def select(
    wishes: Sequence[DesiredCertificate], names: Sequence[str]
) -> tuple[DesiredCertificate, ...]:
    """Give the wishes whose lineages are named, all when none is. Raises `ConfigError`."""
    known = [wish.lineage for wish in wishes]
    for name in names:
        if name not in known:
            raise _unknown(name, known, wishes)
    return tuple(wish for wish in wishes if not names or wish.lineage in names)


def tell_who_renews(
    wishes: Sequence[DesiredCertificate], names: Sequence[str], front: Front
) -> None:
    """Tell which certificates `--renew` is not for, since another client makes them.

    Raises `ConfigError` for one that is named: nothing else of the command is done either.
    """
    for wish in wishes:
        if wish.files is None:
            continue
        told = Text(
            "`--renew` is not for {lineage}: the client that makes it renews it",
            lineage=wish.lineage,
        )
        if names:
            hint = Text("renew it with its own client; the next run deploys the files")
            raise ConfigError(told, hint=hint)
        if not front.quiet:
            front.console.remark([line(front.voice.say(told))])


def must_be_known(name: str, session: Session) -> None:
    """Raise `ConfigError` for a lineage that is neither declared nor remembered."""
    declared = [wish.lineage for wish in session.wishes]
    known = list(dict.fromkeys([*declared, *session.state.lineages()]))
    if name not in known:
        raise _unknown(name, known, session.wishes)


def _unknown(name: str, known: Sequence[str], wishes: Sequence[DesiredCertificate]) -> ConfigError:
    message = Text("there is no certificate called {name}", name=name)
    if not known:
        return ConfigError(message, hint=Text("none is declared yet"))
    # An operator who types a domain means the certificate that covers it.
    covering = [wish.lineage for wish in wishes if covered_by(wish.names, name)]
    listed = first_of(known, _MOST_LISTED)
    meant = covering[0] if covering else nearest(name, known)
    if meant is None:
        return ConfigError(message, hint=Text("there are {known}", known=listed))
    if len(known) == 1:
        return ConfigError(message, hint=Text("did you mean {meant}?", meant=meant))
    return ConfigError(
        message,
        hint=Text(
            "did you mean {meant}? there are {known}",
            meant=meant,
            known=listed,
        ),
    )


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
    return Meant(_declared_for(settings, renewed, source))


def _declared_for(settings: Settings, renewed: Renewed, source: CertificateSource) -> Settings:
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
