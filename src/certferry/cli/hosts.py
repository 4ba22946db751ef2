"""`certferry hosts`: the hosts that share the state; `hosts forget`
removes a host from the state.
"""

from __future__ import annotations

import click

from certferry.cli.commands import Group, what_instead
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, note, say, say_changed
from certferry.cli.selection import workspace_of
from certferry.errors import ConfigError
from certferry.present import documents, status_text
from certferry.reconcile.status import standings_of_hosts
from certferry.text import Text
from certferry.wiring.workspace import Workspace

_NEW_KEYS = Text(
    "It had the key of the state, which opens every private key. If it is not under your control:"
    " change the database's password, run `certferry state key --rotate REF`, then"
    " `certferry sync --renew --all`, which makes new keys unless `reuse_key` is set."
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
    """Show the hosts that share the state, and what is wrong with each.

    When each ran last, and with which certferry; how far its clock was from the state's; how many
    certificates it declares. Exits with 1 when something is wrong with one.
    """
    if ctx.invoked_subcommand is not None:
        return Exit.OK
    front: Front = ctx.obj
    with workspace_of(front) as workspace:
        return show_hosts(workspace, front, as_json=as_json)


def show_hosts(workspace: Workspace, front: Front, *, as_json: bool) -> Exit:
    """Print how every host stands, including this host before its first run."""
    standings = standings_of_hosts(workspace.state, len(workspace.settings.declared))
    console, voice = front.console, front.voice
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
def forget(front: Front, name: str) -> Exit:
    """Forget a host that is gone: when it ran, what it installed, what it declared.

    It is refused while a run of that host is in progress. A host that comes back is a new one: it
    installs its files again, and runs its commands.
    """
    with workspace_of(front, reads_only=False) as workspace:
        state = workspace.state
        others = [stored.name for stored in state.hosts() if stored.name != state.host]
        if name == state.host:
            raise ConfigError(
                Text("{name} is this host", name=name),
                hint=Text("run this on another, once it is gone"),
            )
        if name not in others:
            raise ConfigError(
                Text("there is no host {name}", name=name), hint=what_instead([name], others, {})
            )
        installed = state.forget_host(name)
    say_changed(front, "hosts.forget", Text("{name} is forgotten.", name=name))
    if installed:
        say(front, Text("It had installed: {lineages}", lineages=list(installed)))
    note(front, _NEW_KEYS)
    return Exit.OK
