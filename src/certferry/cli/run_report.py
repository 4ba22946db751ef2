"""The result of a run, as its command prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.core.planning.report import SyncReport


def show_report(
    report: SyncReport, front: Front, *, as_json: bool, undeclared_of: str | None = None
) -> Exit:
    """Print the result of a run; with `--quiet` only what failed or was refused.

    `undeclared_of` is the client whose certificate it was, where that is declared nowhere.
    """
    from certferry.present import documents, report_text
    from certferry.present.log_entries import log_unchanged

    console = front.console
    log_unchanged(report, console.run_log)
    if as_json:
        console.print_json(documents.of_report(report, console.voice))
    elif front.quiet:
        console.print_stderr(report_text.what_is_wrong(report, console.voice))
    else:
        console.print_wrapped(report_text.lines(report, console.voice, undeclared_of))
    return exits.of_report(report)


def rehearsed(front: Front, names: tuple[str, ...], *, renew: bool, as_json: bool) -> Exit:
    """Rehearse, print the result, then what a run would do."""
    from certferry.cli.selection import read_settings
    from certferry.present import plan_document, rehearsal_text, report_text
    from certferry.present.progress import progress_on
    from certferry.reconcile.run import Run
    from certferry.reconcile.status import rehearse
    from certferry.wiring.authorities import rehearsal_issuer, rehearsing
    from certferry.wiring.workspace import Workspace, who_runs

    console = front.console
    settings = read_settings(front, names)
    at_staging = rehearsing(settings)
    with (
        progress_on(console, front.verbosity, now) as progress,
        Workspace(settings, language=front.voice.language) as workspace,
    ):
        run = Run(who_runs(), progress)
        issuer = rehearsal_issuer(at_staging, workspace.state, run.pause)
        found = rehearse(workspace.connect(run), workspace.certificates, issuer, renew=renew)
    if as_json:
        console.print_json(plan_document.of_rehearsal(found.report, found.plans, console.voice))
    elif front.quiet:
        console.print_stderr(report_text.what_is_wrong(found.report, console.voice))
    else:
        console.print_wrapped(rehearsal_text.lines(found.report, found.plans, console.voice))
    code = exits.of_report(found.report)
    return exits.of_plans(found.plans, check=False) if code is Exit.OK else code
