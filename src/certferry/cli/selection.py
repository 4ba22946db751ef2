"""Which settings a run goes by, and which certificates it is about: those that are named on the
command line, or that another ACME client has just renewed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from certferry.cli.complaints import UsageMistake
from certferry.cli.options import Front
from certferry.config.certificates import with_equal_names
from certferry.config.document import Document
from certferry.config.load import NAME, find_file, load_before, usual_places
from certferry.config.mistakes import nearest
from certferry.config.model import Settings
from certferry.core.certificates.certificate import covered_by, first_of
from certferry.core.certificates.lineage import Version
from certferry.core.certificates.names import normalise
from certferry.core.desired.certificate import DesiredCertificate
from certferry.errors import CertferryError, ConfigError, NoneDeclared, StateError
from certferry.migration.renewed import (
    QINIU,
    Renewed,
    declared_for,
    how_to_declare,
    renewed_by,
    renewed_by_any,
)
from certferry.ports.source import CertificateSource
from certferry.present.console import Verbosity
from certferry.present.layout import Tone, labelled, line
from certferry.present.vocabulary import WARNING, one_or_many
from certferry.text import Text
from certferry.wiring.looking import open_to_look
from certferry.wiring.profiles import load_checked
from certferry.wiring.recorded import lost_state
from certferry.wiring.session import Session
from certferry.wiring.settings import from_client, from_environment, without_certificates
from certferry.wiring.undeclared import undeclared

_log = logging.getLogger(__name__)


def warn_of_state(settings: Settings, *, language: str, to_channels: bool) -> None:
    """Warn of a state that is lost, and of each certificate in it that the file has no more. The
    run itself tells what else is wrong with the state.

    `to_channels`: the run that begins issues every certificate of a lost state again, and at night
    no operator reads its warning.
    """
    with suppress(StateError), open_to_look(settings, language=language) as session:
        lost = lost_state(settings, session.state)
        if lost is not None:
            _log.warning(Text("{problem}; {hint}", problem=lost.message, hint=lost.hint))
            if to_channels and settings.channels:
                session.teller.tell_unremembered(lost)
        for one in undeclared(settings, session.state, datetime.now(UTC)):
            lapsed = one.problem
            _log.warning(Text("{problem}; {hint}", problem=lapsed.message, hint=lapsed.hint))


_MOST_LISTED = 10
"""Declared names that a message lists: more would hide what it says."""


def read_settings(front: Front, names: Sequence[str]) -> Settings:
    """Read the configuration file and keep of it the certificates that are named, all when none is;
    a domain names those that are for it, and where these are several, that is told.

    Without a file the names themselves are declared, as the environment allows. Raises
    `ConfigError`.
    """
    environ = front.console.environ
    if names and find_file(front.config, environ) is None:
        return from_environment(names, environ)
    settings = load_checked(front.config, environ)
    chosen = select(settings.certificates, names)
    for name in names:
        meant = lineages_meant(name, settings.certificates)
        if len(meant) > 1 and not front.quiet:
            said = Text("{name} is for several certificates: {lineages}", name=name, lineages=meant)
            front.console.remark([line(front.voice.say(said))])
    return replace(settings, certificates=chosen)


def settings_of_one(front: Front, name: str) -> Settings:
    """Read the configuration file and keep of it the one certificate that is named. Raises
    `ConfigError`, also for a domain that several certificates are for.
    """
    settings = read_settings(replace(front, verbosity=Verbosity.QUIET), (name,))
    return replace(settings, certificates=(the_one_meant(settings.certificates, name),))


def settings_of_run(
    front: Front, names: Sequence[str], *, renew: bool, to_channels: bool = False
) -> Settings:
    """Read what a run is for, as `read_settings` does, and tell what the operator has to know of
    the choice: who renews, and which certificates the file has no more.
    """
    settings = read_settings(front, names)
    tell_of_equal_names(settings, front)
    if renew:
        for name in names:  # of each order there must be no doubt
            _must_be_one(name, lineages_meant(name, settings.certificates) or [name])
        tell_who_renews(settings.certificates, names, front)
    if not names:
        warn_of_state(settings, language=front.voice.language, to_channels=to_channels)
    return settings


def settings_to_sync(front: Front, names: Sequence[str], *, renew: bool) -> Settings:
    """Read what `sync` is for. What is wrong with the file, and that its state is lost, is told to
    whom it names, unless only some certificates are meant: then there is an operator.
    """
    try:
        return settings_of_run(front, names, renew=renew, to_channels=True)
    except ConfigError as error:
        if not names:
            from certferry.wiring.wrong_file import tell_of_wrong_file

            environ, language = front.console.environ, front.voice.language
            tell_of_wrong_file(error, front.config, environ, language=language)
        raise


def must_declare(settings: Settings) -> None:
    """Raise `NoneDeclared` where there is no certificate: a file that was cut off must not look
    like one in which all is in order.
    """
    if not settings.certificates:
        hint = Text(
            "declare one under [[certificates]], or have certferry propose them: certferry init"
        )
        raise NoneDeclared(Text("{path} declares no certificate", path=settings.path), hint=hint)


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


def settings_with_accounts(
    front: Front, otherwise: Callable[[Mapping[str, str]], Settings] = without_certificates
) -> Settings:
    """Read the configuration file; without one, take keys from the environment, by default those of
    the usual target, with nothing declared. Raises `ConfigError`.
    """
    environ = front.console.environ
    if find_file(front.config, environ) is None:
        return otherwise(environ)
    return load_checked(front.config, environ)


def select(
    wishes: Sequence[DesiredCertificate], names: Sequence[str]
) -> tuple[DesiredCertificate, ...]:
    """Give the wishes whose lineages are named, or that cover a domain that is, all when none is.
    Raises `ConfigError`.
    """
    meant: set[str] = set()
    for name in names:
        found = lineages_meant(name, wishes)
        if not found:
            raise _unknown(name, [wish.lineage for wish in wishes])
        meant.update(found)
    return tuple(wish for wish in wishes if not names or wish.lineage in meant)


def lineages_meant(name: str, wishes: Sequence[DesiredCertificate]) -> list[str]:
    """Give the lineage of this name, or else those that are for the domain of this name: that
    declare it, or that cover it.
    """
    if any(wish.lineage == name for wish in wishes):
        return [name]
    return _meant(name, {wish.lineage: _names_of(wish) for wish in wishes})


def _names_of(wish: DesiredCertificate) -> Sequence[str]:
    """Give the names of a certificate; of one from files those in the files, none where they cannot
    be read, which is told when it is that one's turn.
    """
    if wish.files is None:
        return wish.names
    from certferry.wiring.machine import certificate_source

    with suppress(CertferryError):
        return certificate_source().read(wish.files).certificate.names
    return ()


def _meant(name: str, known: Mapping[str, Sequence[str]]) -> list[str]:
    if name in known:
        return [name]
    try:
        domain = normalise(name)
    except ConfigError:
        return []
    return [lineage for lineage, names in known.items() if covered_by(names, domain)]


def the_one_meant(wishes: Sequence[DesiredCertificate], name: str) -> DesiredCertificate:
    """Give the certificate of that name, or the only one that is for a domain. Raises
    `ConfigError`.
    """
    found = select(wishes, [name])
    _must_be_one(name, [wish.lineage for wish in found])
    return found[0]


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


def may_renew_all(wishes: Sequence[DesiredCertificate], front: Front) -> bool:
    """Ask whether every certificate is to be ordered, where certferry orders any: CAs count them.
    Raises `UsageMistake` without a terminal.
    """
    from certferry.cli.interview import interview_at

    orders = [wish for wish in wishes if wish.files is None]
    if not orders:
        return True
    interview = interview_at(front.console)
    if interview is None:
        raise UsageMistake(
            one_or_many(
                len(orders),
                Text("`--renew` without NAME would order 1 certificate anew, due or not"),
                Text(
                    "`--renew` without NAME would order all {count} certificates anew, due or not",
                    count=len(orders),
                ),
            ),
            hint=Text(
                "`certferry sync` renews what is due; `certferry sync --renew NAME` orders one of"
                " them now, `certferry sync --renew --all` every one"
            ),
        )
    return interview.confirm(
        one_or_many(
            len(orders),
            Text("Order 1 certificate anew, due or not?"),
            Text(
                "Order all {count} certificates anew, due or not?",
                count=len(orders),
            ),
        )
    )


def must_be_known(name: str, session: Session) -> str:
    """Give the lineage that is meant by its name, or by a domain that it is for: of those that are
    declared or, where none is meant, remembered. Raises `ConfigError` for none, and for several.
    """
    known: dict[str, Sequence[str]] = {wish.lineage: wish.names for wish in session.wishes}
    found, state = lineages_meant(name, session.wishes), session.state
    if name not in found:
        left = [lineage for lineage in state.lineages() if lineage not in known]
        known |= {
            one: versions[0].certificate.names if (versions := state.versions(one)) else ()
            for one in left
        }
        found = [name] if name in left else found or _meant(name, known)
    if not found:
        raise _unknown(name, list(known))
    _must_be_one(name, found)
    return found[0]


def _must_be_one(name: str, lineages: Sequence[str]) -> None:
    if len(lineages) > 1:
        raise ConfigError(
            Text("{name} is for several certificates: {lineages}", name=name, lineages=lineages),
            hint=Text("name the certificate that is meant"),
        )


def _unknown(name: str, known: Sequence[str]) -> ConfigError:
    message = Text("there is no certificate called {name}", name=name)
    if _is_domain(name):
        message = Text("there is no certificate called {name}, and none that covers it", name=name)
    if not known:
        return ConfigError(message, hint=Text("none is declared yet"))
    listed = first_of(known, _MOST_LISTED)
    meant = nearest(name, known)
    if meant is None:
        return ConfigError(message, hint=Text("known: {known}", known=listed))
    if len(known) == 1:
        return ConfigError(message, hint=Text("did you mean {meant}?", meant=meant))
    return ConfigError(
        message,
        hint=Text(
            "did you mean {meant}? known: {known}",
            meant=meant,
            known=listed,
        ),
    )


def _is_domain(name: str) -> bool:
    try:
        normalise(name)
    except ConfigError:
        return False
    return True


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
