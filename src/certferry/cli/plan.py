"""`certferry plan`: what `sync` would do, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, names_argument
from certferry.present.console import Console

if TYPE_CHECKING:
    from certferry.wiring.session import Session


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
    from certferry.cli.selection import read_settings, tell_who_renews
    from certferry.wiring.session import open_to_look

    settings = read_settings(front, names)
    if renew:
        tell_who_renews(settings.certificates, names, front)
    with open_to_look(settings, language=front.voice.language) as session:
        return show_plan(session, front.console, check=check, renew=renew, as_json=as_json)


def show_plan(
    session: Session, console: Console, *, check: bool, renew: bool, as_json: bool
) -> Exit:
    """Plan what the session declares, and show it."""
    from certferry.present import plan_document, plan_text
    from certferry.present.log_entries import log_plans

    plans = session.reconciler().plan(session.wishes, renew=renew)
    log_plans(plans, console.run_log)
    if as_json:
        console.hand_out(plan_document.of_plans(plans, console.voice))
    else:
        console.show(plan_text.told(plans, console.voice))
    return exits.of_plans(plans, check=check)
