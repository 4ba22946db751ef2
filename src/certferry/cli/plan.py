"""`certferry plan`: what `sync` would do, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, names_argument
from certferry.present.console import Console
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.core.planning.plan import Plan


@click.command("plan")
@names_argument
@click.option("--check", is_flag=True, help="Exit with 4 when something is pending.")
@click.option("--renew", is_flag=True, help="Plan a new certificate, due or not.")
@json_option
@click.pass_obj
def command(
    front: Front, names: tuple[str, ...], *, check: bool, renew: bool, as_json: bool
) -> Exit:
    """Show what sync would do, and why.

    Nothing is changed. Without NAME: every declared certificate.
    """
    return show(front, names, check=check, renew=renew, as_json=as_json)


def show(
    front: Front,
    names: Sequence[str] = (),
    *,
    check: bool = False,
    renew: bool = False,
    as_json: bool = False,
) -> Exit:
    """Look, plan and show the plans."""
    from certferry.cli.selection import settings_of_run
    from certferry.present.progress import progress_of_look
    from certferry.reconcile.run import Run
    from certferry.reconcile.status import plans_of
    from certferry.wiring.workspace import Workspace

    settings = settings_of_run(front, names, renew=renew)
    with (
        progress_of_look(front.console, front.verbosity, now, as_json=as_json) as progress,
        Workspace(settings, reads_only=True, language=front.voice.language) as workspace,
    ):
        ports = workspace.connect(Run(progress=progress))
        plans = plans_of(ports, workspace.certificates, renew=renew)
    return show_plans(plans, front.console, check=check, as_json=as_json)


def show_plans(plans: Sequence[Plan], console: Console, *, check: bool, as_json: bool) -> Exit:
    """Show what would be done."""
    from certferry.present import plan_document, plan_text
    from certferry.present.log_entries import log_plans

    log_plans(plans, console.run_log)
    if as_json:
        console.print_json(plan_document.of_plans(plans, console.voice))
    else:
        console.print_wrapped(plan_text.lines(plans, console.voice))
    return exits.of_plans(plans, check=check)
