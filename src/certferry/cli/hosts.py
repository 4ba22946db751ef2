"""`certferry hosts`: show the hosts that share the state, or forget a host that is gone."""

from __future__ import annotations

import click

from certferry.cli.commands import Group, what_instead
from certferry.cli.exits import Exit
from certferry.cli.options import CommandContext, json_option, note, say, say_changed
from certferry.cli.selection import workspace_of
from certferry.errors import ConfigError
from certferry.present import documents, status_text
from certferry.reconcile.reads import standings_of_hosts
from certferry.text import Text
from certferry.wiring.workspace import Workspace

_NEW_KEYS = Text(
    "The host had the key of the state, which opens every private key. If the host is not under"
    " your control: change the database's password, run `certferry state key --rotate REF`, then"
    " `certferry sync --renew --all`, which creates new keys unless `reuse_key` is set."
)


@click.group(
    "hosts",
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> Exit:
    """Show the hosts that share the state, and each host's problems.

    For each host: last run and version of certferry, the clock's difference to the state's clock,
    the number of declared certificates. Exits 1 if a host has a problem.
    """
    if ctx.invoked_subcommand is not None:
        return Exit.OK
    context: CommandContext = ctx.obj
    with workspace_of(context) as workspace:
        return show_hosts(workspace, context, as_json=as_json)


def show_hosts(workspace: Workspace, context: CommandContext, *, as_json: bool) -> Exit:
    """Print the runs, the declarations and the problems of every host of the state, and of this
    host even before its first run. Return FAILED if a host has a problem, else OK.
    """
    standings = standings_of_hosts(workspace.state, len(workspace.settings.declared))
    console, voice = context.console, context.voice
    if as_json:
        console.print_json(documents.of_hosts(standings))
    else:
        console.print_table(
            status_text.hosts(standings, voice), status_text.of_hosts(standings, voice)
        )
    return Exit.FAILED if any(host.problems for host in standings) else Exit.OK


@command.command("forget")
@click.argument("name", metavar="NAME")
@click.pass_obj
def forget(context: CommandContext, name: str) -> Exit:
    """Forget a host that is gone: its runs, installed files and declarations.

    Refused while a run of the host is in progress. A host that comes back counts as new: it
    installs its files again, and runs its commands.
    """
    with workspace_of(context, reads_only=False) as workspace:
        state = workspace.state
        others = [stored.name for stored in state.hosts() if stored.name != state.host]
        if name == state.host:
            raise ConfigError(
                Text("{name} is this host", name=name),
                hint=Text("run the command on another host, once this host is gone"),
            )
        if name not in others:
            raise ConfigError(
                Text("there is no host {name}", name=name), hint=what_instead([name], others, {})
            )
        installed = state.forget_host(name)
    say_changed(context, "hosts.forget", Text("{name} is forgotten.", name=name))
    if installed:
        say(context, Text("Installed on the host: {lineages}", lineages=list(installed)))
    note(context, _NEW_KEYS)
    return Exit.OK
