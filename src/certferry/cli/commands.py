"""The commands, and a group that imports a command only when it runs.

A command is a module of this room, named like it, whose `command` is a click command.
"""

from __future__ import annotations

from importlib import import_module

import click

from certferry.cli.groups import SpokenGroup
from certferry.cli.help import SpokenContext, spoken

COMMANDS = {
    "init": "Write a configuration: ask for the keys, look at the accounts, propose certificates.",
    "plan": "Show what sync would do, and why.",
    "sync": "Bring the world to the declared state: issue, deploy, verify, retire.",
    "status": "Show how each certificate and each domain stands.",
    "watch": "Show what every address of a host serves, and until when.",
    "history": "Show who did what when, newest first.",
    "export": "Write a certificate and its key to files.",
    "hook": "Deploy what another ACME client has just renewed; for that client to run.",
    "schedule": "Have `certferry sync` run every day, by cron or by systemd.",
    "sandbox": "Keep the demo's world running on loopback, and print a ready configuration for it.",
    "demo": "Run the main job in a world on loopback, and prove it.",
    "completion": "Print a script that completes certferry's commands in a shell.",
}
"""Each command's name and, as in its own docstring, what it does."""


class Commands(SpokenGroup):
    """The group of all commands: lists them from the table above, imports the one that runs."""

    context_class = SpokenContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"certferry.cli.{cmd_name}").command
        return spoken(command)

    def meanings(self, ctx: click.Context) -> dict[str, str]:
        """Give what each command does, with none imported."""
        return COMMANDS
