"""Read the settings of a command, print warnings about the settings, and open the workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from certferry.cli.exits import UsageMistake
from certferry.cli.options import Front, interview_or_refuse, note, warn
from certferry.config.certificates import with_equal_names
from certferry.config.document import Document
from certferry.config.load import NAME, find_file, load_before
from certferry.config.model import Settings
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.stored_runs import RunKind
from certferry.errors import ConfigError
from certferry.present.console import Verbosity
from certferry.present.language import one_or_many
from certferry.present.progress import progress_on
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.values import replace
from certferry.wiring import selection
from certferry.wiring.clock import now
from certferry.wiring.settings import load_checked, without_certificates
from certferry.wiring.workspace import Workspace, who_runs

if TYPE_CHECKING:
    from certferry.wiring.run_row import RunOptions


def workspace_of(
    front: Front, settings: Settings | None = None, *, reads_only: bool = True
) -> Workspace:
    """Open a workspace, by default only for reading, and with the settings of the file."""
    loaded = settings_or_defaults(front) if settings is None else settings
    return Workspace(loaded, reads_only=reads_only, language=front.voice.language)


@contextmanager
def running(
    front: Front, settings: Settings, *, reads_only: bool = False, live_only: bool = False
) -> Iterator[tuple[Workspace, Run]]:
    """Open a workspace with a run, and show the run's progress as `progress_on` does."""
    verbosity, only = front.verbosity, live_only
    shown = progress_on(front.console, verbosity, now, changes_nothing=reads_only, live_only=only)
    with shown as progress, workspace_of(front, settings, reads_only=reads_only) as workspace:
        yield workspace, Run(who_runs(settings), progress)


def observing(
    front: Front, settings: Settings, *, as_json: bool
) -> AbstractContextManager[tuple[Workspace, Run]]:
    """Open a workspace for a command that only reads. Unless the command prints JSON, a terminal
    shows the requests in progress.
    """
    listener = replace(front, verbosity=Verbosity.QUIET) if as_json else front
    return running(listener, settings, reads_only=True, live_only=True)


def choose(front: Front, names: Sequence[str]) -> selection.Selection:
    """Choose the named certificates. Print each name that means several certificates. Raise
    `ConfigError`.
    """
    chosen = selection.choose(names, front.config, front.console.environ)
    message = Text("{name} is in several certificates: {lineages}")
    for name, lineages in chosen.meant.items():
        if len(lineages) > 1:
            note(front, message.filled(name=name, lineages=lineages))
    return chosen


def read_settings(front: Front, names: Sequence[str]) -> Settings:
    """Return the settings of `choose`."""
    return choose(front, names).settings


def settings_of_one(front: Front, name: str) -> Settings:
    """Read the settings with only the named certificate. Raise
    `ConfigError` for an ambiguous name.
    """
    chosen = selection.choose((name,), front.config, front.console.environ)
    chosen.must_be_unambiguous()
    return chosen.settings


def settings_of_run(front: Front, names: Sequence[str], *, renew: bool) -> Settings:
    """Read the settings of a run, and warn of certificates with equal names. With `renew` also warn
    of certificates that other clients renew.
    """
    chosen = choose(front, names)
    settings = chosen.settings
    warn_of_equal_names(settings, front)
    if renew:
        chosen.must_be_unambiguous()  # an order costs rate limit
        warn_who_renews(settings.certificates, names, front)
    return settings


def settings_to_sync(front: Front, names: Sequence[str], wanted: RunOptions) -> Settings:
    """Read the settings of `sync`.

    Without NAMEs, a wrong file or a lost state is also reported to the file's channels. With NAMEs
    an operator is at the terminal, so nothing is sent.
    """
    try:
        settings = settings_of_run(front, names, renew=wanted.kind is RunKind.RENEW)
        if not names and not settings.state.is_bucket:  # each opening of a bucket costs requests
            from certferry.wiring.runner import warn_of_state  # imports the engine

            # Before the run opens the state, which makes a file that is lost. No opening makes a
            # shared state, and a read replica is refused by the run.
            is_file = settings.state.path is not None
            with workspace_of(front, settings, reads_only=is_file) as workspace:
                warn_of_state(workspace, to_channels=True)
        return settings
    except ConfigError as error:
        if not names:
            from certferry.wiring.runner import fail_of_wrong_file

            environ, language = front.console.environ, front.voice.language
            fail_of_wrong_file(error, wanted, front.config, environ, language=language)
        raise


def warn_of_equal_names(settings: Settings, front: Front) -> None:
    """Warn of declared certificates with the same names as a certificate of the command."""
    meant = {frozenset(certificate.names) for certificate in settings.certificates}
    alike = [
        certificate for certificate in settings.declared if frozenset(certificate.names) in meant
    ]
    for finding in () if front.quiet else with_equal_names(alike, settings.places):
        warn(front, finding.text)


def settings_or_defaults(front: Front) -> Settings:
    """Read the configuration file; return the defaults if the file is absent."""
    defaults = partial(load_before, Document(None, {}), Path(NAME))
    return settings_with_accounts(front, defaults)


def settings_with_accounts(
    front: Front, otherwise: Callable[[Mapping[str, str]], Settings] = without_certificates
) -> Settings:
    """Read the configuration file. If there is none, return `otherwise(environ)`, by default the
    accounts of the environment. Raise `ConfigError`.
    """
    environ = front.console.environ
    if find_file(front.config, environ) is None:
        return otherwise(environ)
    return load_checked(front.config, environ)


def warn_who_renews(
    certificates: Sequence[DesiredCertificate], names: Sequence[str], front: Front
) -> None:
    """Print which certificates other clients renew. Raise `ConfigError` if NAMEs
    chose such a certificate.
    """
    for certificate in certificates:
        try:
            selection.must_be_renewed_here(certificate)
        except ConfigError as error:
            if names:
                raise
            note(front, error.message)


def may_renew_all(desired: Sequence[DesiredCertificate], front: Front) -> bool:
    """Ask whether to order every certificate now. Raise `UsageMistake` without a terminal."""
    count = sum(certificate.files is None for certificate in desired)
    refusal = one_or_many(
        count,
        Text("`--renew` without NAME would order 1 certificate anew, due or not"),
        Text("`--renew` without NAME would order all {count} certificates anew, due or not"),
    )
    hint = Text(
        "`certferry sync` renews certificates that are due; `certferry sync --renew NAME` orders"
        " one now, `certferry sync --renew --all` all of them"
    )
    question = one_or_many(
        count,
        Text("Order 1 certificate anew, due or not?"),
        Text("Order all {count} certificates anew, due or not?"),
    )
    mistake = UsageMistake(refusal, hint=hint)
    return not count or interview_or_refuse(front, mistake).confirm(question)
