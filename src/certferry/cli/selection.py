"""Which settings a run goes by, and which certificates it is about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from certferry.cli.lines import line
from certferry.cli.options import Front
from certferry.config.check import read_acme, read_dns, read_state, read_verify
from certferry.config.document import Document, Place
from certferry.config.files import Paths
from certferry.config.find import find_file
from certferry.config.findings import nearest
from certferry.config.load import default_directory
from certferry.config.model import Settings
from certferry.config.secrets import Secrets
from certferry.config.table import Table
from certferry.core.desired import DesiredCertificate
from certferry.core.identifiers import covered_by
from certferry.errors import ConfigError
from certferry.text import Text
from certferry.wiring.profiles import load_checked
from certferry.wiring.session import Session
from certferry.wiring.settings import from_environment

_MOST_LISTED = 10
"""Declared names that a message lists: more would hide what it says."""


def read_settings(front: Front, names: Sequence[str]) -> Settings:
    """Read the configuration file and keep of it the certificates that are named, all when none is.

    Without a file the names themselves are declared, as the environment allows. Raises
    `ConfigError`.
    """
    environ = front.desk.environ
    if names and find_file(front.config, environ) is None:
        return from_environment(names, environ)
    settings = load_checked(front.config, environ)
    return replace(settings, certificates=select(settings.certificates, names))


def settings_or_defaults(front: Front) -> Settings:
    """Read the configuration file; without one, go by the defaults, with nothing declared."""
    environ = front.desk.environ
    if find_file(front.config, environ) is not None:
        return load_checked(front.config, environ)
    nothing = Table({}, Place(Document(None, {})), [])
    paths = Paths.beside(None, environ)
    dns = read_dns(nothing)
    return Settings(
        path=None,
        state=read_state(nothing, paths, default_directory(environ, os.geteuid())),
        acme=read_acme(nothing, paths),
        dns=dns,
        verify=read_verify(nothing, paths, dns),
        accounts={},
        certificates=(),
        declared=(),
        places={},
        secrets=Secrets(environ, paths),
    )


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
            hint = Text(
                "have it renewed where it is made; the next run ferries what is in the files"
            )
            raise ConfigError(told, hint=hint)
        if not front.quiet:
            front.desk.remark([line(front.voice.say(told))])


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
    # Somebody who types a domain means the certificate that covers it.
    covering = [wish.lineage for wish in wishes if covered_by(wish.names, name)]
    meant = covering[0] if covering else nearest(name, known)
    if meant is None:
        return ConfigError(message, hint=Text("there are {known}", known=_listed(known)))
    if len(known) == 1:
        return ConfigError(message, hint=Text("did you mean {meant}?", meant=meant))
    return ConfigError(
        message,
        hint=Text("did you mean {meant}? there are {known}", meant=meant, known=_listed(known)),
    )


def _listed(known: Sequence[str]) -> list[str | Text]:
    if len(known) <= _MOST_LISTED:
        return list(known)
    more = len(known) - _MOST_LISTED
    return [*known[:_MOST_LISTED], Text("and {count} more", count=more)]
