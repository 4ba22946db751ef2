"""The table of commands, the group that imports only the command to run, and help in the operator's
language.

A command is the attribute `command` of the module with the command's name, unless `MODULES` names
another module. The modules of `demo` and `sandbox` are in the distribution certferry-sandbox.
"""

from __future__ import annotations

import copy
import difflib
import gettext
import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Self

import click
from click.shell_completion import CompletionItem

from certferry import __version__
from certferry.cli.exits import FAMILIAR, UsageMistake, familiar_word
from certferry.errors import ConfigError
from certferry.extras import how_to_install_with
from certferry.present.language import CATALOGUES, ENGLISH, Voice, voice_in
from certferry.present.layout import padded, width, wrapped
from certferry.text import Text

COMMANDS = {
    "init": "Write a configuration: ask for the keys, read the accounts, propose certificates.",
    "add": "Declare a certificate for DOMAINs in the configuration file.",
    "remove": "Take a certificate out of the configuration file.",
    "plan": "Show the changes that sync would make, and why.",
    "sync": "Apply the configuration: issue, deploy, verify, clean up.",
    "status": "Show the status of each certificate and domain.",
    "check": "For monitoring: print one line in the format of Nagios plugins, with metrics.",
    "discover": "Show every domain of the accounts and its certificate, declared or not.",
    "watch": "Show the certificate at every address of a host, and its expiry.",
    "doctor": "Check everything that a run depends on, with a fix for each problem.",
    "history": "Show the history of changes, newest first.",
    "serve": "Serve the console, the API and /metrics, and run `sync` twice a day.",
    "hosts": "Show the hosts that share the state, and each host's problems.",
    "console": "Manage the users of the console (`certferry serve`) and the tokens of its API.",
    "rollback": "Bind the previous certificate of NAME again, at every domain.",
    "revoke": "Revoke the newest certificate of NAME at the CA; the next sync replaces it.",
    "rename": "Move the certificate of OLD to the name NEW.",
    "forget": "Confirm the end of NAME, a certificate removed from the file.",
    "backup": "Write the state and its key into one file (mode 0600), even during runs.",
    "restore": "Restore the state and its key from a backup.",
    "state": "Create, upgrade, check or move certferry's state.",
    "export": "Write a certificate and its key to files.",
    "hook": "Deploy a certificate that another ACME client has just renewed; run by the client.",
    "account": "Show the accounts at the CAs, replace a key, or deactivate an account.",
    "dns-persist": "Print a DNS record that proves NAME permanently (experimental).",
    "schedule": "Schedule `certferry sync` twice a day, with cron or systemd.",
    "notify": "Test the notification channels.",
    "sandbox": "Run a simulated CA, DNS services and a CDN on 127.0.0.1 to practise on.",
    "demo": "Run the main job in a simulated world, and check every edge.",
    "completion": "Print a script that completes certferry's commands in a shell.",
    "help": "Print the reference and the how-tos, or search them, offline.",
}
"""Each command's name and a summary equal to the first sentence of the command's help."""

GROUPS = (
    (Text("Declare certificates"), ("init", "add", "remove", "discover")),
    (Text("Every day"), ("plan", "sync", "status", "history")),
    (Text("Unattended"), ("schedule", "serve", "check", "notify", "hook")),
    (Text("When something is wrong"), ("doctor", "watch", "rollback", "revoke")),
    (Text("The state and its hosts"), ("backup", "restore", "state", "hosts")),
    (Text("Seldom"), ("rename", "forget", "export", "account", "console", "dns-persist")),
    (Text("Practise and look up"), ("demo", "sandbox", "help", "completion")),
)
"""The headings of the help, each with the commands below it."""

EXAMPLES = {
    "certferry init": Text("from nothing: keys, domains, configuration file"),
    "certferry plan": Text("the changes of a sync, and the reasons"),
    "certferry sync": Text("issue, deploy, and wait until every edge serves it"),
    "certferry schedule install": Text("two runs a day to renew certificates"),
    "certferry help bad token": Text("explains an error, or searches any words"),
}
"""Examples printed by help below the commands."""

_OF_ONE_IDEA = {
    "account": ("dns-persist",),
    "discover": ("doctor",),
    "edit": ("add", "remove", "rename", "forget"),
    "rollback": ("revoke",),
    "schedule": ("notify",),
    "status": ("plan", "check"),
    "stored": ("history", "export", "backup", "restore"),
    "topics": ("help", "completion"),
}
MODULES = {name: module for module, names in _OF_ONE_IDEA.items() for name in names}
"""The module of each command without a module of its own. The command is the function in that
module with the command's name, written with `_` in place of `-`.
"""

IN_THE_SANDBOX = frozenset({"demo", "sandbox"})
"""Commands whose modules are in certferry-sandbox."""


def name_file(config: Path, voice: Voice) -> None:
    """Make `voice` add `--config` to every printed command that reads the file. Add nothing if
    `config` is the relative path `certferry.toml`, which commands in this directory read by
    default.
    """
    from certferry.config.load import NAME

    if config != Path(NAME):
        voice.read_by(config)


def command_of(name: str) -> click.Command:
    """Import and return a command of `COMMANDS`. Raise `ConfigError` if the command needs
    certferry-sandbox, and certferry-sandbox is absent or of another version than certferry.
    """
    own = name.replace("-", "_")
    room = "certferry_sandbox" if name in IN_THE_SANDBOX else "certferry.cli"
    if name in IN_THE_SANDBOX:
        _must_have_the_sandbox(name)
    module = import_module(f"{room}.{MODULES.get(name, own)}")
    command: click.Command = getattr(module, own if name in MODULES else "command")
    return command


def _must_have_the_sandbox(name: str) -> None:
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return ""

    theirs, ours = installed("certferry-sandbox"), installed("certferry") or __version__
    if theirs == ours:
        return
    problem = Text("`certferry {name}` requires certferry-sandbox, which is not installed")
    if theirs:
        problem = Text(
            "certferry-sandbox is version {there}, certferry is version {ours}: `certferry"
            " {name}` requires the same version of both"
        )
    message = problem.filled(there=theirs, ours=ours, name=name)
    raise ConfigError(message, hint=how_to_install_with("demo"))


_MOST_LISTED = 8
"""If a group has more commands than this number, the error for an unknown command does not list the
commands: the list would hide the message.
"""


class Group(click.Group):
    """A group of commands whose error for an unknown command has a suggestion."""

    familiar: Mapping[str, str] = {}
    """certferry's command for each word of another program, for the suggestion."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command to run, as click does. Raise `UsageMistake` for an unknown command,
        except while a shell asks for completions.
        """
        command_names = self.list_commands(ctx)
        if args[0] not in command_names and not ctx.resilient_parsing:
            raise UsageMistake(_unknown(args, command_names, self.familiar), ctx)
        return super().resolve_command(ctx, args)


class Commands(Group):
    """The group of all commands: lists `COMMANDS`, and imports only the command to run."""

    familiar = FAMILIAR

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, and return a copy in the operator's language; return None for an
        unknown command. Raise `ConfigError` as `command_of` does; for completions return None.
        """
        if cmd_name not in COMMANDS:
            return None
        try:
            command = command_of(cmd_name)
        except ConfigError:
            if ctx.resilient_parsing:  # a shell asks for completions, and cannot show an error
                return None
            raise
        return spoken(command, voice_of(ctx))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups of commands into the help, with whole summaries; click's own method
        would shorten the summaries.
        """
        voice = voice_of(ctx)
        widest = max(map(len, COMMANDS))  # the same column in every group
        for heading, names in GROUPS:
            with formatter.section(voice.say(heading)):
                rows = [(name.ljust(widest), _said(COMMANDS[name], voice)) for name in names]
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples into the help."""
        say = voice_of(ctx).say
        with formatter.section(say(Text("Examples"))):
            formatter.write_dl([(typed, say(meaning)) for typed, meaning in EXAMPLES.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands that begin with `incomplete`; after a `-`, the options."""
        say = voice_of(ctx).say
        named = [
            CompletionItem(name, help=say(Text(what)))
            for name, what in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]


def what_instead(
    words: list[str],
    valid: list[str],
    familiar: Mapping[str, str] = FAMILIAR,
    more: Iterable[str] = (),
) -> Text | None:
    """Return a suggestion for unknown `words`.

    If the first word is another client's, suggest certferry's command (`familiar_word`). Else
    suggest the word of `valid` and `more` that is similar, if any. Otherwise list all `valid`
    words, or return `None` if `valid` is empty.
    """
    others = familiar_word(words, familiar)
    meant = difflib.get_close_matches(words[0], [*valid, *more], n=1)
    if others is None and meant:
        others = Text("did you mean `{meant}`?", meant=meant[0])
    return others or (Text("known: {known}", known=valid) if valid else None)


def _unknown(words: list[str], valid: list[str], familiar: Mapping[str, str]) -> Text:
    others = what_instead(words, valid, familiar)
    if others is None or (len(valid) > _MOST_LISTED and others.values.get("known")):
        return Text("no such command: {name}", name=words[0])
    return Text("no such command: {name}; {known}", name=words[0], known=others)


CLICK = "click"
"""The text domain of click's messages."""

UNBROKEN = "\b\n"
"""click's mark at the start of a paragraph whose line breaks stay as they are."""


@contextmanager
def click_speaks(language: str) -> Iterator[None]:
    """Make click's messages appear in `language` within a `with` block.

    click translates by `gettext`, which reads the text domain and the variable LANGUAGE of the
    process. At the end of the block both get their old values, so that programs started later keep
    their language.
    """
    if language == ENGLISH:
        yield
        return
    gettext.bindtextdomain(CLICK, str(CATALOGUES))
    domain, asked = gettext.textdomain(), os.environ.get("LANGUAGE")
    gettext.textdomain(CLICK)
    os.environ["LANGUAGE"] = language
    try:
        yield
    finally:
        gettext.textdomain(domain)
        if asked is None:
            del os.environ["LANGUAGE"]
        else:
            os.environ["LANGUAGE"] = asked


class WideFormatter(click.HelpFormatter):
    """Writes help as click does, but counts terminal cells: a Chinese character takes two."""

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        indent = " " * self.current_indent
        blocks = []
        for paragraph in paragraphs(text):
            if paragraph.startswith(UNBROKEN):
                rows = paragraph.removeprefix(UNBROKEN).splitlines()
            else:
                rows = self._wrapped(paragraph, len(indent))
            blocks.append("\n".join(indent + row for row in rows))
        self.write("\n\n".join(blocks) + "\n")

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write terms and their meanings in two columns."""
        rows = list(rows)
        widest = max((width(term) for term, _ in rows), default=0)
        first = min(widest, col_max) + col_spacing
        for term, meaning in rows:
            indent = " " * self.current_indent
            below = indent + " " * first
            meaning_rows = self._wrapped(meaning, len(below))
            if width(term) + col_spacing > first or not meaning_rows:
                self.write(f"{indent}{term}\n")
            else:
                self.write(f"{indent}{padded(term, first)}{meaning_rows.pop(0)}\n")
            self.write("".join(f"{below}{row}\n" for row in meaning_rows))

    def _wrapped(self, words: str, indent: int) -> list[str]:
        return wrapped(words, max(self.width - indent, 10))


class SpokenContext(click.Context):
    """A click context in the operator's language. The context adds itself to usage errors without a
    context, so that the hints of these errors name the command.
    """

    formatter_class = WideFormatter

    @contextmanager
    def scope(self, cleanup: bool = True) -> Iterator[Self]:  # noqa: FBT001, FBT002 - click's own
        """Enter the context, with click's messages in the operator's language. click enters the
        context to read a command line, and again to run the command.
        """
        with click_speaks(voice_of(self).language), super().scope(cleanup):
            try:
                yield self
            except click.UsageError as error:
                error.ctx = error.ctx or self
                raise


def voice_of(ctx: click.Context) -> Voice:
    """Return the operator's voice from the outermost context's object, or an English voice if the
    object has none.
    """
    return getattr(ctx.find_root().obj, "voice", None) or Voice()


def spoken(command: click.Command, voice: Voice) -> click.Command:
    """Return a copy of a command and its subcommands, with help in the voice's language.

    The original stays untranslated, because a later call may need another language. click also
    caches a command's `--help` option, so the copy starts without the cached option.
    """
    voice = voice_in(voice.language)  # help names commands without this run's configuration file
    copied = copy.copy(command)
    copied.context_class = SpokenContext
    copied._help_option = None  # noqa: SLF001 - click's cached option may be in another language
    translated = [_said(paragraph, voice) for paragraph in paragraphs(command.help or "")]
    copied.help, copied.short_help = "\n\n".join(translated), next(iter(translated), "")
    copied.options_metavar = voice.say(Text("[OPTIONS]"))
    copied.params = [copy.copy(parameter) for parameter in command.params]
    for parameter in copied.params:
        if isinstance(parameter, click.Option) and parameter.help:
            parameter.help = _said(parameter.help, voice)
    if isinstance(copied, click.Group):
        copied.subcommand_metavar = voice.say(Text("COMMAND [ARGS]..."))
        copied.commands = {name: spoken(part, voice) for name, part in copied.commands.items()}
    return copied


def _said(paragraph: str, voice: Voice) -> str:
    # Lines with fixed breaks are for typing, so they stay as written.
    return paragraph if paragraph.startswith(UNBROKEN) else voice.say(Text(paragraph))


def paragraphs(help_: str) -> list[str]:
    """Return the paragraphs of a help text up to a form feed. A paragraph is on one line, unless
    its line breaks are fixed (`UNBROKEN`).
    """
    text = inspect.cleandoc(help_).partition("\f")[0]
    blocks = filter(str.strip, re.split(r"\n\s*\n", text))
    return [b if b.startswith(UNBROKEN) else " ".join(b.split()) for b in blocks]
