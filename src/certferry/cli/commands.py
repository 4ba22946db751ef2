"""The commands, and a group that imports a command only when it runs.

A command is the `command` of the module that is called like it, with `_` for `-`, unless `MODULES`
says otherwise. Two are modules of certferry-sandbox, the distribution that has the stand-ins.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from gettext import gettext
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from certferry import __version__
from certferry.cli.exits import FAMILIAR, UsageMistake, familiar_word
from certferry.cli.help import spoken, voice_of
from certferry.errors import ConfigError, how_to_install_with
from certferry.text import Text

COMMANDS = {
    "init": "Write a configuration: ask for the keys, look at the accounts, propose certificates.",
    "add": "Declare a certificate for DOMAINs in the configuration file.",
    "remove": "Take a certificate out of the configuration file.",
    "plan": "Show what sync would do, and why.",
    "sync": "Apply the configuration: issue, deploy, verify, clean up.",
    "status": "Show how each certificate and each domain stands.",
    "check": "For monitoring: one line in the form of a Nagios plugin, with performance data.",
    "discover": "Show every domain of the accounts and its certificate, declared or not.",
    "watch": "Show what every address of a host serves, and until when.",
    "doctor": "Check everything a run depends on, and say how to fix what is wrong.",
    "history": "Show the history of changes, newest first.",
    "rollback": "Bind the previous certificate of NAME again, at every domain that it is for.",
    "revoke": "Revoke the newest certificate of NAME at its CA; the next sync replaces it.",
    "rename": "Keep the certificate of OLD under the name NEW.",
    "forget": "Confirm that NAME, which is no longer in the file, is meant to end.",
    "backup": "Write the state and its key into one file (mode 0600), while runs go on.",
    "restore": "Put the state and the key of a backup in their places.",
    "export": "Write a certificate and its key to files.",
    "hook": "Deploy what another ACME client has just renewed; for that client to run.",
    "account": "Show the accounts at the CAs, replace a key, or deactivate an account.",
    "dns-persist": "Print the one DNS record that proves NAME for ever (experimental).",
    "schedule": "Have `certferry sync` run twice a day, by cron or by systemd.",
    "notify": "Try the channels through which you hear of trouble.",
    "sandbox": "Run a simulated CA, DNSPod and Qiniu on 127.0.0.1 to practise on.",
    "demo": "Run the main job in a simulated world, and check every edge.",
    "completion": "Print a script that completes certferry's commands in a shell.",
    "help": "Print the reference and the how-tos, without a network.",
}
"""Each command's name and, as in its own docstring, what it does."""

MODULES = {
    "add": "edit:add",
    "remove": "edit:remove",
    "rename": "edit:rename",
    "forget": "edit:forget",
    "plan": "status:plan",
    "check": "status:check",
    "revoke": "rollback:revoke",
    "history": "stored:history",
    "export": "stored:export",
    "backup": "stored:backup",
    "restore": "stored:restore",
    "dns-persist": "account:dns_persist",
    "help": "topics:command",
    "completion": "topics:completion",
}
"""Where a command is that has no module of its own: the module, and its name there."""

IN_THE_SANDBOX = frozenset({"demo", "sandbox"})
"""Commands whose modules are in certferry-sandbox."""


def command_of(name: str) -> click.Command:
    """Import a command of the table. Raises `ConfigError` where certferry-sandbox is missing, or of
    another version: a stand-in that certferry was not tested with proves nothing.
    """
    module, _, attribute = MODULES.get(name, name.replace("-", "_")).partition(":")
    room = "certferry_sandbox" if name in IN_THE_SANDBOX else "certferry.cli"
    if name in IN_THE_SANDBOX:
        _must_have_the_sandbox(name)
    found: click.Command = getattr(import_module(f"{room}.{module}"), attribute or "command")
    return found


def _must_have_the_sandbox(name: str) -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        there = version("certferry-sandbox")
    except PackageNotFoundError:
        problem = Text(
            "`certferry {name}` needs certferry-sandbox, which is not installed", name=name
        )
    else:
        if there == __version__:
            return
        problem = Text(
            "certferry-sandbox is of version {there}, and certferry of {ours}: `certferry {name}`"
            " needs both in the same version",
            there=there,
            ours=__version__,
            name=name,
        )
    raise ConfigError(problem, hint=how_to_install_with("demo"))


_MOST_LISTED = 8
"""Commands of a group that a message lists: more would hide what it says."""


class Group(click.Group):
    """A group of commands that says what was probably meant."""

    familiar: Mapping[str, str] = {}
    """Other words for commands, and the commands that they stand for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run."""
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            raise UsageMistake(_unknown(args, known, self.familiar), ctx)
        return super().resolve_command(ctx, args)


class Commands(Group):
    """The group of all commands: lists them from the table above, imports the one that runs."""

    familiar = FAMILIAR

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. Raises `ConfigError`, as `command_of` does."""
        if cmd_name not in COMMANDS:
            return None
        try:
            command = command_of(cmd_name)
        except ConfigError:
            if ctx.resilient_parsing:  # a shell asks what to complete: there is nothing
                return None
            raise
        return spoken(command, voice_of(ctx))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table into the help, in whole sentences."""
        say = voice_of(ctx).say
        with formatter.section(gettext("Commands")):
            formatter.write_dl([(name, say(Text(what))) for name, what in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands that begin so, and the options."""
        say = voice_of(ctx).say
        named = [
            CompletionItem(name, help=say(Text(what)))
            for name, what in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]


def _unknown(words: list[str], known: list[str], familiar: Mapping[str, str]) -> Text:
    name = words[0]
    others = familiar_word(words, familiar)
    if others is not None:
        return Text("no such command: {name}; {known}", name=name, known=others)
    meant = difflib.get_close_matches(name, known, n=1)
    if meant:
        others = Text("did you mean `{meant}`?", meant=meant[0])
    elif len(known) > _MOST_LISTED:
        others = Text("run `{command} --help`", command="certferry")
    else:
        others = Text("known: {known}", known=known)
    return Text("no such command: {name}; {known}", name=name, known=others)
