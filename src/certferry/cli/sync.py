"""`certferry sync`: apply the configuration, show it on the way, tell what became
of it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.complaints import UsageMistake
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, names_argument, no_wait_option, wait_option
from certferry.cli.rehearsal import rehearsed
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.core.report import SyncReport
    from certferry.reconcile.visits import Patience


@click.command("sync")
@names_argument
@click.option("--renew", is_flag=True, help="Issue a new certificate, due or not.")
@click.option(
    "--scheduled",
    is_flag=True,
    help="Retry failures after 1, 10 and 100 minutes, then daily.",
)
@click.option("--rehearse", is_flag=True, help="Try the orders at the staging directory only.")
@wait_option("Stop waiting after SECONDS. Default: wait to the end.")
@no_wait_option
@json_option
@click.pass_obj
def command(
    front: Front,
    names: tuple[str, ...],
    *,
    renew: bool,
    scheduled: bool,
    rehearse: bool,
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
    """
    from certferry.cli.selection import settings_of_run
    from certferry.present.progress import progress_on
    from certferry.wiring.clock import now
    from certferry.wiring.session import open_session

    patience = patience_of(wait, no_wait=no_wait)
    if rehearse:
        if scheduled or patience != patience_of(None, no_wait=False):
            raise UsageMistake(Text("--rehearse goes with --renew and --json only"))
        return rehearsed(front, names, renew=renew, as_json=as_json)
    settings = settings_of_run(front, names, renew=renew, record=True)
    with (
        progress_on(front.console, front.verbosity, now) as progress,
        open_session(settings, progress=progress, language=front.voice.language) as session,
    ):
        report = session.teller.telling(
            lambda: (
                session.scheduled_run(patience).sync(session.wishes, renew=renew)
                if scheduled
                else session.reconciler().sync(session.wishes, patience, renew=renew)
            ),
            is_whole=not names,
        )
    return show_report(report, front, as_json=as_json)


def patience_of(wait: int | None, *, no_wait: bool) -> Patience:
    """Say how long a run waits. Raises `click.UsageError` when told both to wait and not to."""
    from certferry.reconcile.visits import Patience

    if no_wait and wait:
        raise UsageMistake(Text("--wait and --no-wait exclude each other"))
    limit = 0 if no_wait else wait
    return Patience(None if limit is None else timedelta(seconds=limit))


def show_report(
    report: SyncReport, front: Front, *, as_json: bool, undeclared_of: str | None = None
) -> Exit:
    """Tell what became of a run. Told to be quiet, only what failed or was refused.

    `undeclared_of` is the client whose certificate it was, where that is declared nowhere.
    """
    from certferry.present import documents, report_text
    from certferry.present.log_entries import log_unchanged

    console = front.console
    log_unchanged(report, console.run_log)
    if as_json:
        console.hand_out(documents.of_report(report, console.voice))
    elif front.quiet:
        console.remark(report_text.what_is_wrong(report, console.voice))
    else:
        console.tell(report_text.told(report, console.voice, undeclared_of))
    return exits.of_report(report)
