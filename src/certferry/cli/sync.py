"""`certferry sync`: apply the configuration, show progress, report the result."""

from __future__ import annotations

import click

from certferry.cli import exits, options, selection
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.schedule import starts_of
from certferry.cli.status import show_plan_now, show_rehearsal
from certferry.core.observed.stored_runs import RunKind, RunSource, RunState
from certferry.core.planning.report import SyncReport
from certferry.errors import PlanChanged, StateError
from certferry.present import documents, report_text
from certferry.present.progress import log_unchanged
from certferry.text import Text
from certferry.wiring.machine import schedulers
from certferry.wiring.run_row import RunOptions
from certferry.wiring.runner import RunInProgress
from certferry.wiring.workspace import Workspace


@click.command("sync")
@options.names_argument
@click.option("--renew", is_flag=True, help="Issue a new certificate, due or not.")
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="With --renew and no NAME: all certificates, without confirmation.",
)
@click.option(
    "--scheduled", is_flag=True, help="Retry failures after 1, 10 and 100 minutes, then daily."
)
@click.option("--rehearse", is_flag=True, help="Try the orders, at the staging directory only.")
@click.option("--quota-raised", is_flag=True, help="Upload again to accounts that were full.")
@options.digest_option
@options.wait_option("Stop waiting after SECONDS. Default: wait to the end.")
@options.no_wait_option
@options.json_option
@click.pass_obj
def command(  # noqa: PLR0913 - one for each option of the command line
    context: options.CommandContext,
    names: tuple[str, ...],
    *,
    renew: bool,
    every: bool,
    scheduled: bool,
    rehearse: bool,
    quota_raised: bool,
    digest: str | None,
    wait: int | None,
    no_wait: bool,
    as_json: bool,
) -> Exit:
    """Apply the configuration: issue, deploy, verify, clean up.

    Without NAME: every declared certificate. With NAMEs and no configuration file, NAMEs are the
    domains of one certificate, and the keys come from the environment (`certferry help adapters`
    lists the names).

    --rehearse changes nothing: the CA's staging directory issues the due certificates, certferry
    discards them, and prints the plan.

    --quota-raised retries now at accounts that refused an upload as full, instead of a day later.

    --plan carries out only the plan with this digest. If the plan has changed, certferry changes
    nothing, prints the present plan, and exits 4.
    """
    wait_limit = options.wait_limit_of(wait, no_wait=no_wait)
    if every and (names or not renew):
        raise UsageMistake(Text("--all requires --renew, and no NAME"))
    if digest is not None and (scheduled or rehearse):
        raise UsageMistake(Text("--plan cannot be combined with --scheduled or --rehearse"))
    if quota_raised and (digest is not None or rehearse):
        raise UsageMistake(Text("--quota-raised cannot be combined with --plan or --rehearse"))
    if rehearse:
        if scheduled or wait_limit != options.wait_limit_of(None, no_wait=False):
            raise UsageMistake(Text("--rehearse can be combined only with --renew and --json"))
        return show_rehearsal(context, names, renew=renew, as_json=as_json)
    kind = RunKind.RENEW if renew else RunKind.SYNC
    source = RunSource.SCHEDULE if scheduled else RunSource.COMMAND
    wanted = RunOptions(kind, source, not names, digest, wait_limit, quota_raised=quota_raised)
    settings = selection.settings_to_sync(context, names, wanted)
    if renew and not (every or names or selection.may_renew_all(settings.certificates, context)):
        return options.say(context, Text("Nothing was changed."))
    with selection.running(context, settings) as (workspace, run):
        going_on = RunInProgress(workspace, run, wanted)
        try:
            report = going_on.sync()
        except PlanChanged as changed:
            return show_plan_now(going_on.plans, changed, context, as_json=as_json)
        lacks_schedule = not scheduled and report.ok and is_first_without(workspace, context)
    ending = show_report(report, context, as_json=as_json)
    if lacks_schedule:
        options.note(context, Text("Next: `certferry schedule install` sets up automatic renewal."))
    return ending


def is_first_without(workspace: Workspace, context: options.CommandContext) -> bool:
    """Return whether exactly one of the last 20 stored runs succeeded, no schedule started any of
    these runs, and no schedule is installed. Return False if the state cannot be read.
    """
    try:
        runs = workspace.state.stored_runs(20)
    except StateError:  # the run has reported the trouble with the state
        return False
    succeeded = sum(run.state is RunState.DONE for run in runs)
    by_schedule = any(run.source is RunSource.SCHEDULE for run in runs)
    return succeeded == 1 and not (by_schedule or starts_of(schedulers(context.console.environ)))


def show_report(
    report: SyncReport,
    context: options.CommandContext,
    *,
    as_json: bool,
    undeclared_of: str | None = None,
) -> Exit:
    """Print the result of a sync, and return the exit code. Without `as_json`, `--quiet` limits the
    result to failures and refusals. `undeclared_of` names the ACME client whose certificate was
    deployed without a declaration.
    """
    console = context.console
    log_unchanged(report, console.run_log)
    if as_json:
        console.print_json(documents.of_report(report))
    elif context.quiet:
        console.print_stderr(report_text.what_is_wrong(report, console.voice))
    else:
        console.print_wrapped(report_text.lines(report, console.voice, undeclared_of))
    return exits.of_report(report)
