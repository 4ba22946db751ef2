"""Join the look at public logs with the settings: the domains, the service, the notices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

from certferry import errors
from certferry.config.model import Settings
from certferry.core.assessment.notices import Notices
from certferry.core.assessment.transparency import (
    CODES,
    Transparency,
    domains_of,
    with_alarms,
)
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
            search = _search(settings, run, state)
            look(watched_domains(settings, state), search, state, state.now)
        except errors.CertferryError as error:
            problem = error.message
            _log.warning(Text("public logs were not looked at: {problem}", problem=problem))


def _search(settings: Settings, run: Run, state: StateStore) -> LogSearch:
    logs = settings.transparency
    token = None if logs.token is None else settings.secrets.resolve(logs.token)
    return log_search(run.pause, state.now, logs.api, token)


def watched_domains(settings: Settings, state: StateStore) -> tuple[str, ...]:
    """Return the registered domains of all declared names. The names of another client's
    certificate are those of the newest stored version. Raises `StateError`.
    """
    return domains_of(_names(settings, state))


def _names(settings: Settings, state: StateStore) -> Iterator[str]:
    imported = [desired.lineage for desired in settings.declared if desired.files is not None]
    for desired in settings.declared:
        yield from desired.names
    for versions in state.versions_of(imported).values():
        for version in versions[:1]:
            yield from version.certificate.names


def shown(settings: Settings, state: StateStore) -> Transparency:
    """Return what the public logs show, from the records of earlier looks; nothing if the settings
    do not ask for looks. Raises `StateError`.
    """
    logs = settings.transparency
    if not logs.watches:
        return Transparency()
    return shown_in(state, watched_domains(settings, state), logs.expected, state.now())


def with_current_alarms(settings: Settings, state: StateStore) -> Callable[[Notices], Notices]:
    """Return a function that replaces the notices about public logs by the present ones. Raises
    `StateError`.
    """
    current, now = shown(settings, state), state.now()
    own = {watched.domain for watched in current.domains}
    elsewhere: frozenset[str] = frozenset()
    if state.is_shared:
        elsewhere = frozenset(each.domain for each in state.watched_domains()) - own

    def change(before: Notices) -> Notices:
        if not current.domains and not any(each.problem.code in CODES for each in before):
            return before
        return with_alarms(before, current, now, elsewhere)

    return change
