"""Join the look at public logs with the settings: the domains, the service, the notices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from certferry import errors
from certferry.config.model import Settings
from certferry.core.assessment.notices import Notices
from certferry.core.assessment.transparency import (
    CODES,
    Transparency,
    domains_of,
    with_alarms,
)
from certferry.core.certificates.lineage import Versions
from certferry.core.observed.public_logs import LoggedCertificate
from certferry.ports.log_search import LogSearch
from certferry.ports.state import StateStore
from certferry.reconcile.log_look import look, shown_in
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.registry import log_search

_log = logging.getLogger(__name__)


def look_at_logs(settings: Settings, state: StateStore, run: Run, *, is_whole: bool) -> None:
    """Look at the public logs, if the settings say so and the run is for all certificates. A
    failure, or the stop of the run, ends the look and not the run: the certificates are done.
    """
    if not (settings.transparency.watches and is_whole):
        return
    with suppress(errors.Interrupted):
        try:
            run.pause(0)  # a stopped run begins no look
            look(watched_domains(settings, state), _search(settings, run, state), state, state.now)
        except errors.CertferryError as error:
            problem = error.message
            _log.warning(Text("public logs were not looked at: {problem}", problem=problem))


def _search(settings: Settings, run: Run, state: StateStore) -> LogSearch:
    logs = settings.transparency
    try:
        token = None if logs.token is None else settings.secrets.resolve(logs.token)
    except errors.ConfigError as error:
        return _Unusable(error)
    return log_search(run.pause, state.now, logs.api, token)


@dataclass(frozen=True)
class _Unusable:
    """A search with a wrong setting. Each look fails, so the silence is stored and reported."""

    #: The mistake.
    error: errors.ConfigError

    def page_after(self, domain: str, cursor: str) -> tuple[LoggedCertificate, ...]:
        del domain, cursor
        raise errors.LogSearchFailed(self.error.message, hint=self.error.hint)


def watched_domains(
    settings: Settings, state: StateStore, stored: Mapping[str, Versions] | None = None
) -> tuple[str, ...]:
    """Return the registered domains of all declared names. The names of another client's
    certificate are those of the newest version, from `stored` if given. Raises `StateError`.
    """
    imported = [desired.lineage for desired in settings.declared if desired.files is not None]
    versions = state.versions_of(imported) if stored is None else stored
    names = [name for desired in settings.declared for name in desired.names]
    for lineage in imported:
        for newest in versions.get(lineage, ())[:1]:
            names += newest.certificate.names
    return domains_of(names)


def shown(
    settings: Settings, state: StateStore, stored: Mapping[str, Versions] | None = None
) -> Transparency:
    """Return what the public logs show, from the records of earlier looks; nothing if the settings
    do not ask for looks. `stored` as for `watched_domains`. Raises `StateError`.
    """
    logs = settings.transparency
    if not logs.watches:
        return Transparency()
    domains = watched_domains(settings, state, stored)
    return shown_in(state, domains, logs.expected, state.now())


def with_current_alarms(
    settings: Settings, state: StateStore, stored: Mapping[str, Versions] | None = None
) -> Callable[[Notices], Notices]:
    """Return a function that replaces the notices about public logs by the present ones. `stored`
    as for `watched_domains`. Raises `StateError`.
    """
    current, now = shown(settings, state, stored), state.now()
    own = {watched.domain for watched in current.domains}
    elsewhere: frozenset[str] = frozenset()
    if state.is_shared:
        elsewhere = frozenset(each.domain for each in state.watched_domains()) - own

    def change(before: Notices) -> Notices:
        if not current.domains and not any(each.problem.code in CODES for each in before):
            return before
        return with_alarms(before, current, now, elsewhere)

    return change
