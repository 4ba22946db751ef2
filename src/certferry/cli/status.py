"""`certferry status`: how each certificate and each domain stands."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, names_argument
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.text import Text
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.wiring.workspace import Overview


@click.command("status")
@names_argument
@json_option
@click.pass_obj
def command(front: Front, names: tuple[str, ...], *, as_json: bool) -> Exit:
    """Show how each certificate and each domain stands.

    How long a certificate is still valid and when it is renewed; for each domain, the last moment
    its certificate can be uploaded, what is bound, and how many of its addresses serve it. What
    needs you comes first, with its last failure and when it is tried again. Exits with 1 when
    something needs you.
    """
    from certferry.cli.selection import read_settings, warn_of_equal_names
    from certferry.present.progress import progress_of_look
    from certferry.reconcile.run import Run
    from certferry.wiring.recorded import recorded
    from certferry.wiring.workspace import Workspace, overview

    settings = read_settings(front, names)
    warn_of_equal_names(settings, front)
    with (
        progress_of_look(front.console, front.verbosity, now, as_json=as_json) as progress,
        Workspace(settings, reads_only=True, language=front.voice.language) as workspace,
    ):
        known = recorded(settings, workspace.state, now())
        found = overview(workspace, Run(progress=progress), known)
    return show_status(found, front.console, now(), as_json=as_json)


def show_status(found: Overview, console: Console, now: datetime, *, as_json: bool) -> Exit:
    """Print how everything stands."""
    from certferry.core.assessment.status import most_needed_first
    from certferry.present import news_text, plan_document, status_text
    from certferry.present.log_entries import log_statuses

    statuses, recorded, channels = found.statuses, found.recorded, found.channels
    voice = console.voice
    log_statuses(statuses, console.run_log)
    if as_json:
        console.print_json(plan_document.of_statuses(statuses, recorded, voice, channels))
    elif not statuses:
        console.print([line(voice.say(Text("No certificate is declared.")))])
        console.print_wrapped(status_text.troubles(recorded, voice))
    else:
        ordered = most_needed_first(statuses)
        below = [*status_text.remarks(ordered, voice), *news_text.remarks(channels, voice)]
        console.print_table(status_text.table(ordered, now, voice), below)
        console.print_wrapped([line(), *status_text.of_runs(recorded, voice)])
    return exits.of_statuses(statuses, recorded)
