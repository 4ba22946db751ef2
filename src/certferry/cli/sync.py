"""`certferry sync`: apply the configuration, show progress, report the result."""

from __future__ import annotations

import click

from certferry.cli import exits, options, selection
from certferry.cli.exits import Exit, UsageMistake
from certferry.config.model import Settings
from certferry.core.observed.runs import RunKind, RunSource
from certferry.core.planning.digest import is_digest
from certferry.core.planning.report import SyncReport
from certferry.present import documents, plan_text, report_text
from certferry.present.progress import log_unchanged
from certferry.reconcile.status import PlanNow
from certferry.text import Text
from certferry.wiring.authorities import rehearsing
from certferry.wiring.runs import RunInProgress, RunOptions


def _digest(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return the digest of a plan. Raises `UsageMistake` for what is none."""
    if value is not None and not is_digest(value):
        said = Text("{word} is no digest of a plan", word=repr(value))
        raise UsageMistake(said, hint=Text("`certferry plan` prints it in its last line"))
    return value


@click.command("sync")
@options.names_argument
@click.option("--renew", is_flag=True, help="Issue a new certificate, due or not.")
@click.option("--all", "every", is_flag=True, help="With --renew and no NAME: all, unasked.")
@click.option(
    "--scheduled", is_flag=True, help="Retry failures after 1, 10 and 100 minutes, then daily."
)
@click.option("--rehearse", is_flag=True, help="Try the orders at the staging directory only.")
@click.option(
    "--plan",
    "digest",
    metavar="DIGEST",
    callback=_digest,
    help="Carry out the plan that `certferry plan` showed with this digest, or nothing.",
)
@options.wait_option("Stop waiting after SECONDS. Default: wait to the end.")
@options.no_wait_option
@options.json_option
@click.pass_obj
def command(  # noqa: PLR0913 - one for each option of the command line
    front: options.Front,
    names: tuple[str, ...],
    *,
    renew: bool,
    every: bool,
    scheduled: bool,
    rehearse: bool,
    digest: str | None,
    wait: int | None,
    no_wait: bool,
    as_json: bool,
) -> Exit:
    """Apply the configuration: issue, deploy, verify, clean up.

    Without NAME: every declared certificate. With NAMEs and no configuration file, NAMEs are the
    domains of one certificate, and the keys are taken from the environment: DP_Id and DP_Key,
    Ali_Key and Ali_Secret, or CF_Token; QINIU_ACCESS_KEY and QINIU_SECRET_KEY.

    With --rehearse nothing is changed: the CA's staging directory issues the certificates that are
    due, certferry throws them away, and prints the plan.

    With --plan, where the plan is another one by now, nothing is changed: certferry prints the plan
    as it is now, and exits with 4.
    """
    wait_limit = options.wait_limit_of(wait, no_wait=no_wait)
    if every and (names or not renew):
        raise UsageMistake(Text("--all goes with --renew, and with no NAME"))
    if digest is not None and (scheduled or rehearse):
        raise UsageMistake(Text("--plan goes with neither --scheduled nor --rehearse"))
    if rehearse:
        if scheduled or wait_limit != options.wait_limit_of(None, no_wait=False):
            raise UsageMistake(Text("--rehearse goes with --renew and --json only"))
        return rehearsed(front, names, renew=renew, as_json=as_json)
    settings = selection.settings_to_sync(front, names, renew=renew)
    if renew and not (every or names or selection.may_renew_all(settings.certificates, front)):
        return options.say(front, Text("Nothing was changed."))
    kind = RunKind.RENEW if renew else RunKind.SYNC
    source = RunSource.SCHEDULE if scheduled else RunSource.COMMAND
    meant = _lineages(settings) if names else ()
    with selection.running(front, settings) as (workspace, run):
        wanted = RunOptions(kind, source, meant, digest, wait_limit)
        try:
            report = RunInProgress(workspace, run, wanted).sync()
        except PlanNow as changed:
            return show_plan_now(changed, front, as_json=as_json)
    return show_report(report, front, as_json=as_json)


def _lineages(settings: Settings) -> tuple[str, ...]:
    return tuple(one.lineage for one in settings.certificates)


def show_plan_now(changed: PlanNow, front: options.Front, *, as_json: bool) -> Exit:
    """Print what would be done now, and that it is not what was confirmed."""
    console, problem = front.console, changed.problem()
    console.run_log.complain(problem.code, problem.message, problem.hint)
    if as_json:
        plan = documents.of_plans(changed.plans, console.voice)
        console.print_json({**documents.of_end(problem, console.voice), "plan": plan})
    else:
        console.print_wrapped(plan_text.lines(changed.plans, console.voice))
    console.print_stderr(console.voice.end(problem))
    return exits.of_error(changed)


def show_report(
    report: SyncReport, front: options.Front, *, as_json: bool, undeclared_of: str | None = None
) -> Exit:
    """Print the result, with `--quiet` what failed; `undeclared_of` is a client that made it."""
    console = front.console
    log_unchanged(report, console.run_log)
    if as_json:
        console.print_json(documents.of_report(report, console.voice))
    elif front.quiet:
        console.print_stderr(report_text.what_is_wrong(report, console.voice))
    else:
        console.print_wrapped(report_text.lines(report, console.voice, undeclared_of))
    return exits.of_report(report)


def rehearsed(front: options.Front, names: tuple[str, ...], *, renew: bool, as_json: bool) -> Exit:
    """Rehearse, print the result, then what a run would do."""
    console, settings = front.console, selection.read_settings(front, names)
    rehearsing(settings)  # nothing is opened without a staging directory
    meant = _lineages(settings) if names else ()
    wanted = RunOptions(RunKind.REHEARSE, RunSource.COMMAND, meant, renews=renew)
    with selection.running(front, settings) as (workspace, run):
        found = RunInProgress(workspace, run, wanted).rehearse()
    if as_json:
        console.print_json(documents.of_rehearsal(found.report, found.plans, console.voice))
    elif front.quiet:
        console.print_stderr(report_text.what_is_wrong(found.report, console.voice))
    else:
        console.print_wrapped(report_text.rehearsal_lines(found.report, found.plans, console.voice))
    code = exits.of_report(found.report)
    return exits.of_plans(found.plans, check=False) if code is Exit.OK else code
