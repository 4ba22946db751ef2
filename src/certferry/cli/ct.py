"""`certferry ct`: certificates in public logs that certferry did not order."""

from __future__ import annotations

import click

from certferry.cli.exits import Exit
from certferry.cli.options import CommandContext, json_option, note
from certferry.cli.selection import workspace_of
from certferry.present import transparency_text
from certferry.wiring.transparency import shown


@click.command("ct")
@json_option
@click.pass_obj
def command(context: CommandContext, *, as_json: bool) -> Exit:
    """Show certificates in public logs that certferry did not order.

    Reads the records of earlier looks, and asks no service: with `watch` under [ct], `certferry
    sync` of all certificates looks. Exits 1 if a certificate raises an alarm, or if a domain has
    not been looked at for three days.
    """
    with workspace_of(context) as workspace:
        state, settings = workspace.state, workspace.settings
        seen, now = shown(settings, state), state.now()
        if not settings.transparency.watches:
            note(context, transparency_text.NOT_WATCHED)
        if as_json:
            context.console.print_json(transparency_text.document(seen, now))
        elif settings.transparency.watches:
            voice = context.voice
            lines = transparency_text.below(seen, now, voice)
            context.console.print_table(transparency_text.table(seen, voice), lines)
    return Exit.OK if transparency_text.is_in_order(seen, now) else Exit.FAILED
