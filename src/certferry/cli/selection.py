"""Read the settings of a command, print warnings about the settings, and open the workspace: the
settings with the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from certferry.cli.exits import UsageMistake
from certferry.cli.options import CommandContext, interview_or_refuse, note, warn
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
    context: CommandContext, settings: Settings | None = None, *, reads_only: bool = True
) -> Workspace:
    """Open a workspace, by default only for reading. Without `settings` use the settings of the
    configuration file (`settings_or_defaults`). Raise `ConfigError`.
    """
    loaded = settings_or_defaults(context) if settings is None else settings
    return Workspace(loaded, reads_only=reads_only, language=context.voice.language)


@contextmanager
def running(
    context: CommandContext,
    settings: Settings,
    *,
    reads_only: bool = False,
    live_only: bool = False,
) -> Iterator[tuple[Workspace, Run]]:
    """Yield a workspace and a new run, and show and log the run's progress (`progress_on`). With
    `live_only`, do so only on a terminal, without `-q` or `-v`.
    """
    verbosity, only = context.verbosity, live_only
    shown = progress_on(context.console, verbosity, now, changes_nothing=reads_only, live_only=only)
    with shown as progress, workspace_of(context, settings, reads_only=reads_only) as workspace:
        yield workspace, Run(who_runs(settings), progress)


def observing(
    context: CommandContext, settings: Settings, *, as_json: bool
) -> AbstractContextManager[tuple[Workspace, Run]]:
    """Open a workspace and a run for a command that only reads. A terminal shows the run's
    progress, except with `as_json`, `-q` or `-v`.
    """
    listener = replace(context, verbosity=Verbosity.QUIET) if as_json else context
    return running(listener, settings, reads_only=True, live_only=True)


def choose(context: CommandContext, names: Sequence[str]) -> selection.Selection:
    """Choose the named certificates, or all without `names` (`wiring.selection.choose`). For each
    name that means several certificates, print them, except under `-q`. Raise `ConfigError`.
    """
    chosen = selection.choose(names, context.config, context.console.environ)
    message = Text("{name} is in several certificates: {lineages}")
    for name, lineages in chosen.meant.items():
        if len(lineages) > 1:
            note(context, message.filled(name=name, lineages=lineages))
    return chosen


def read_settings(context: CommandContext, names: Sequence[str]) -> Settings:
    """Return the settings with the named certificates only, or with all without `names`. Print as
    `choose` does. Raise `ConfigError`.
    """
    return choose(context, names).settings


def settings_of_one(context: CommandContext, name: str) -> Settings:
    """Return the settings with only the named certificate. Raise `ConfigError` for a wrong file, an
    unknown name or an ambiguous name.
    """
    chosen = selection.choose((name,), context.config, context.console.environ)
    chosen.must_be_unambiguous()
    return chosen.settings


def settings_of_run(context: CommandContext, names: Sequence[str], *, renew: bool) -> Settings:
    """Return the settings of a run, and warn of certificates with equal names. Raise `ConfigError`.

    With `renew`, also raise `ConfigError` for an ambiguous name, and for the name of a certificate
    that another client renews. Without NAMEs only print the latter certificates.
    """
    chosen = choose(context, names)
    settings = chosen.settings
    warn_of_equal_names(settings, context)
    if renew:
        chosen.must_be_unambiguous()  # an order costs rate limit
        warn_who_renews(settings.certificates, names, context)
    return settings


def settings_to_sync(context: CommandContext, names: Sequence[str], wanted: RunOptions) -> Settings:
    """Return the settings of `sync`. Raise `ConfigError`.

    Without NAMEs, notify the file's channels of a wrong file, and of a lost state that is not in a
    bucket. With NAMEs an operator is probably at the terminal, so the channels get nothing.
    """
    try:
        settings = settings_of_run(context, names, renew=wanted.kind is RunKind.RENEW)
        if not names and not settings.state.is_bucket:  # each opening of a bucket costs requests
            from certferry.wiring.runner import warn_of_state  # imports the engine

            # The run would create a lost state file anew, so the file must be examined before the
            # run, and opened only for reading. A shared state may be opened for writing, because
            # opening never creates a shared state.
            is_file = settings.state.path is not None
            with workspace_of(context, settings, reads_only=is_file) as workspace:
                warn_of_state(workspace, to_channels=True)
        return settings
    except ConfigError as error:
        if not names:
            from certferry.wiring.runner import fail_of_wrong_file

            environ, language = context.console.environ, context.voice.language
            fail_of_wrong_file(error, wanted, context.config, environ, language=language)
        raise


def warn_of_equal_names(settings: Settings, context: CommandContext) -> None:
    """Warn of declared certificates with the same names and key type, if the command is for one of
    these certificates. Under `-q` print nothing.
    """
    meant = {frozenset(certificate.names) for certificate in settings.certificates}
    alike = [
        certificate for certificate in settings.declared if frozenset(certificate.names) in meant
    ]
    for finding in () if context.quiet else with_equal_names(alike, settings.places):
        warn(context, finding.text)


def settings_or_defaults(context: CommandContext) -> Settings:
    """Return the settings of the configuration file, or the default settings if no file is found.
    Raise `ConfigError`.
    """
    defaults = partial(load_before, Document(None, {}), Path(NAME))
    return settings_with_accounts(context, defaults)


def settings_with_accounts(
    context: CommandContext,
    otherwise: Callable[[Mapping[str, str]], Settings] = without_certificates,
) -> Settings:
    """Return the settings of the configuration file. If no file is found, return
    `otherwise(environ)`: by default, settings with an account of the usual target and without
    certificates. Raise `ConfigError`.
    """
    environ = context.console.environ
    if find_file(context.config, environ) is None:
        return otherwise(environ)
    return load_checked(context.config, environ)


def warn_who_renews(
    certificates: Sequence[DesiredCertificate], names: Sequence[str], context: CommandContext
) -> None:
    """Print which of `certificates` other ACME clients renew, except under `-q`. With `names` raise
    `ConfigError` for the first of these certificates instead.
    """
    for certificate in certificates:
        try:
            selection.must_be_renewed_here(certificate)
        except ConfigError as error:
            if names:
                raise
            note(context, error.message)


def may_renew_all(desired: Sequence[DesiredCertificate], context: CommandContext) -> bool:
    """Return whether the operator agrees to order every certificate now. If other clients renew all
    of them, return True without asking. Raise `UsageMistake` if there is no terminal to ask at.
    """
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
    return not count or interview_or_refuse(context, mistake).confirm(question)
