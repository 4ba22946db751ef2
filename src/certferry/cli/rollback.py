"""`certferry rollback`: bind the previous certificate that is still valid."""

from __future__ import annotations

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, name_argument, no_wait_option, wait_option
from certferry.wiring.clock import now


@click.command("rollback")
@name_argument()
@wait_option("Stop waiting for the edges after SECONDS. Default: wait to the end.")
@no_wait_option
@json_option
@click.pass_obj
def command(front: Front, name: str, *, wait: int | None, no_wait: bool, as_json: bool) -> Exit:
    """Bind the previous certificate of NAME again, at every domain that it is for.

    The certificate that it replaces is not deployed there again. `certferry sync --renew NAME`
    issues a new one now.
    """
    from certferry.cli.options import wait_limit_of
    from certferry.cli.run_report import show_report
    from certferry.cli.selection import settings_of_one
    from certferry.present.progress import progress_on
    from certferry.reconcile.by_hand import go_back, withdraw_by_hand
    from certferry.reconcile.run import Run
    from certferry.wiring.workspace import Workspace, who_runs

    wait_limit = wait_limit_of(wait, no_wait=no_wait)
    settings = settings_of_one(front, name)
    with (
        progress_on(front.console, front.verbosity, now) as progress,
        Workspace(settings, language=front.voice.language) as workspace,
    ):
        run = Run(who_runs(), progress)
        ports = workspace.connect(run)
        (desired,) = workspace.certificates
        desired = withdraw_by_hand(ports, desired)  # only its caller hears of a refusal
        report = workspace.notifications(run).notify_of(lambda: go_back(ports, desired, wait_limit))
    return show_report(report, front, as_json=as_json)
