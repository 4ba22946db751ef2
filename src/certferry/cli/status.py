"""`certferry status` and `plan` observe: they print the status of certificates and domains, and the
changes of the next run. `certferry check` is a plugin for monitoring, and reads only stored facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit, problem_of
from certferry.cli.options import CommandContext, json_option, names_argument, number_option
from certferry.errors import Problem
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.core.assessment.health import Checkup
    from certferry.core.planning.plan import Plan
    from certferry.errors import PlanChanged
    from certferry.wiring.workspace import Overview


@click.command("status")
@names_argument
@click.option("--all", "lists_all", is_flag=True, help="List each failure, not only its cause.")
@json_option
@click.pass_obj
def command(
    context: CommandContext, names: tuple[str, ...], *, lists_all: bool, as_json: bool
) -> Exit:
    """Show the status of each certificate and domain.

    For each certificate: the time left, and its renewal. For each domain: the last moment for an
    upload, the bound certificate, and the number of addresses that serve it. Problems come first,
    with the last failure and the next try. Exits 1 if something needs you.
    """
    from certferry.cli.selection import observing, read_settings, warn_of_equal_names
    from certferry.wiring.recorded import recorded
    from certferry.wiring.workspace import overview

    settings = read_settings(context, names)
    warn_of_equal_names(settings, context)
    with observing(context, settings, as_json=as_json) as (workspace, run):
        now = workspace.state.now
        last_recorded = recorded(settings, workspace.state, now())
        summary = overview(workspace, run, last_recorded)
    return show_status(summary, context.console, now(), as_json=as_json, lists_all=lists_all)


def show_status(
    summary: Overview, console: Console, now: datetime, *, as_json: bool, lists_all: bool = False
) -> Exit:
    """Print the status of every certificate and domain, and return the exit code (`of_statuses`).

    Without `lists_all`, print a problem that several certificates share once, as a cause.
    """
    from certferry.core.assessment.causes import shared
    from certferry.core.assessment.status import most_needed_first
    from certferry.present import documents, news_text, status_text, watch_text
    from certferry.present.progress import log_statuses

    statuses, recorded, channels = summary.statuses, summary.recorded, summary.channels
    causes = summary.causes
    voice = console.voice
    log_statuses(statuses, console.run_log)
    if as_json:
        console.print_json(documents.of_statuses(statuses, recorded, channels, causes))
    elif not statuses:
        console.print([line(voice.say(Text("No certificate is declared.")))])
        console.print_wrapped(status_text.troubles(recorded, voice))
    else:
        ordered = most_needed_first(statuses)
        written = () if lists_all else shared(causes)
        console.print_wrapped(status_text.of_causes(written, voice))
        reported = {concern.subject for cause in written for concern in cause.everything}
        below = [
            *status_text.remarks(ordered, voice, reported),
            *news_text.remarks(channels, voice),
        ]
        console.print_table(status_text.table(ordered, now, voice), below)
        watched = watch_text.lines(recorded, causes, voice, lists_all=lists_all)
        console.print_wrapped([*watched, line(), *status_text.of_runs(recorded, voice)])
    return exits.of_statuses(statuses, recorded)


@click.command("plan")
@names_argument
@click.option("--check", is_flag=True, help="Exit 4 if changes are pending.")
@click.option("--renew", is_flag=True, help="Plan a new certificate, due or not.")
@json_option
@click.pass_obj
def plan(
    context: CommandContext, names: tuple[str, ...], *, check: bool, renew: bool, as_json: bool
) -> Exit:
    """Show the changes that sync would make, and why.

    Changes nothing. Without NAME: every declared certificate.
    """
    return show_plan(context, names, check=check, renew=renew, as_json=as_json)


def show_plan(
    context: CommandContext,
    names: Sequence[str] = (),
    *,
    check: bool = False,
    renew: bool = False,
    as_json: bool = False,
) -> Exit:
    """Observe the named certificates, by default all, and print their plans. Return the exit code
    (`of_plans`). Raise `ConfigError`, and `CertferryError` if the state cannot be read.
    """
    from certferry.cli.selection import observing, settings_of_run
    from certferry.reconcile.reads import plans_of
    from certferry.wiring.runner import warn_of_state

    settings = settings_of_run(context, names, renew=renew)
    with observing(context, settings, as_json=as_json) as (workspace, run):
        if not names:
            warn_of_state(workspace, to_channels=False)
        plans = plans_of(workspace.connect(run), workspace.certificates, renew=renew)
    return show_plans(plans, context.console, check=check, as_json=as_json)


def show_plans(plans: Sequence[Plan], console: Console, *, check: bool, as_json: bool) -> Exit:
    """Print the changes of some plans, and return the exit code."""
    from certferry.core.planning.digest import digest_of_plans
    from certferry.present import documents, plan_text
    from certferry.present.progress import log_plans

    log_plans(plans, console.run_log)
    if as_json:
        console.print_json(documents.of_plans(plans))
    else:
        console.print_wrapped(plan_text.lines(plans, console.voice, digest_of_plans(plans)))
    return exits.of_plans(plans, check=check)


def show_plan_now(
    plans: Sequence[Plan], changed: PlanChanged, context: CommandContext, *, as_json: bool
) -> Exit:
    """Print the present plans, and the error `changed`: these plans differ from the plan that the
    operator confirmed. Return the error's exit code.
    """
    from certferry.core.planning.digest import digest_of_plans
    from certferry.present import documents, plan_text

    console, problem = context.console, changed.problem()
    console.run_log.complain(problem.code, problem.message, problem.hint)
    if as_json:
        now = documents.of_plans(plans)
        console.print_json({**documents.of_end(problem), "plan": now})
    else:
        console.print_wrapped(plan_text.lines(plans, console.voice, digest_of_plans(plans)))
    console.print_stderr(console.voice.end(problem))
    return exits.of_error(changed)


def show_rehearsal(
    context: CommandContext, names: tuple[str, ...], *, renew: bool, as_json: bool
) -> Exit:
    """Try the orders at the CA's staging directory, and print the result with the plans of a real
    run. Without `as_json`, `-q` limits the output to failures and refusals.

    Return the exit code of the rehearsal. If this code is OK, return the exit code of the plans.
    """
    from certferry.cli.selection import read_settings, running
    from certferry.core.observed.stored_runs import RunKind
    from certferry.present import documents, report_text
    from certferry.wiring.authorities import rehearsing
    from certferry.wiring.run_row import RunOptions
    from certferry.wiring.runner import RunInProgress

    console, settings = context.console, read_settings(context, names)
    rehearsing(settings)  # raises before the state is opened, if there is no staging directory
    wanted = RunOptions(RunKind.REHEARSE, is_whole=not names, renews=renew)
    with running(context, settings) as (workspace, run):
        rehearsal = RunInProgress(workspace, run, wanted).rehearse()
    if as_json:
        console.print_json(documents.of_rehearsal(rehearsal.report, rehearsal.plans))
    elif context.quiet:
        console.print_stderr(report_text.what_is_wrong(rehearsal.report, console.voice))
    else:
        console.print_wrapped(
            report_text.rehearsal_lines(rehearsal.report, rehearsal.plans, console.voice)
        )
    code = exits.of_report(rehearsal.report)
    return exits.of_plans(rehearsal.plans, check=False) if code is Exit.OK else code


RUN_WITHIN = 48
"""The default of `--run-within`, in hours, equal to `core.assessment.health.RUN_WITHIN`."""

UNKNOWN = 3
"""The exit code of a monitoring plugin that cannot determine the status
(`present.check_text.PluginStatus`).
"""

_RUN_WITHIN = "Warn if the last run ended more hours ago than this. Default: 48."
_TEN_YEARS = 24 * 3653  # hours


class Plugin(click.Command):
    """A command that exits with UNKNOWN for a usage error, as monitoring plugins do: a monitor
    would read click's exit code 2 as critical.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line. For a usage error, print a plugin's line and exit with UNKNOWN."""
        as_json = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as mistake:
            ctx.exit(print_failure(problem_of(mistake), ctx.obj, as_json=as_json))


@click.command("check", cls=Plugin)
@names_argument
@number_option("--run-within", "HOURS", 1, _TEN_YEARS, _RUN_WITHIN, default=RUN_WITHIN)
@json_option
@click.pass_obj
def check(
    context: CommandContext, names: tuple[str, ...], *, run_within: int, as_json: bool
) -> int:
    """For monitoring: print one line in the format of Nagios plugins, with metrics.

    Judges by the records of the last run and asks no service, so it can run every few minutes.
    Exits 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. WARNING with 1/6 of a certificate's lifetime left,
    CRITICAL with 1/12; earlier if the CDN requires a minimum of days left.
    """
    from certferry.cli.selection import read_settings, workspace_of
    from certferry.core.assessment.health import checkup
    from certferry.wiring.recorded import expected, recorded

    try:
        settings = read_settings(context, names)
        with workspace_of(context, settings) as workspace:
            now = workspace.state.now()
            last_recorded = recorded(settings, workspace.state, now)
        result = checkup(
            expected(settings, last_recorded), last_recorded, now, timedelta(hours=run_within)
        )
    except Exception as error:  # noqa: BLE001 - a monitor gets a line for every error
        return print_failure(problem_of(error), context, as_json=as_json)
    return print_checkup(result, now, context, as_json=as_json)


def print_checkup(result: Checkup, now: datetime, context: CommandContext, *, as_json: bool) -> int:
    """Print the result of a checkup, and return the plugin's exit code."""
    from certferry.present import check_text

    if as_json:
        context.console.print_json(check_text.document(result, now, context.voice))
    else:
        context.console.print(
            line(row) for row in check_text.of_checkup(result, now, context.voice)
        )
    return check_text.plugin_status_of(result.concerns).value


def print_failure(problem: Problem, context: CommandContext, *, as_json: bool) -> int:
    """Print why the checkup failed, and return UNKNOWN."""
    from certferry.present import check_text

    if as_json:
        context.console.print_json(check_text.document_of_failure(problem, context.voice))
    else:
        context.console.print(line(row) for row in check_text.of_failure(problem, context.voice))
    return UNKNOWN
