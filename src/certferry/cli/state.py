"""`certferry state`: make the place where certferry remembers, bring it up to date, check it."""

from __future__ import annotations

import click

from certferry.cli.commands import Group
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, say, say_changed
from certferry.config.load import load_state
from certferry.config.model import StateSettings
from certferry.present.layout import line
from certferry.text import Text
from certferry.wiring.state import checked_state, new_key, prepared_state

_EVERY_HOST = Text(
    "Every host that shares it has the same `url` and `key` under [state], and a `host` of its own."
)


@click.group("state", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make, upgrade or check the place where certferry remembers."""


@command.command("init")
@click.pass_obj
def init(front: Front) -> Exit:
    """Make the state: its tables, and what only its key opens.

    A state that hosts share is made by this alone, once for all of them: its database must be
    there. With SQLite the first `certferry sync` does the same.
    """
    settings = load_state(front.config, front.console.environ)
    state = settings.state
    if not prepared_state(settings, init=True):
        return say(front, Text("{place} is there already.", place=state.named), *_next(state))
    said = Text("Made: {place}, sealed with {key}", place=state.named, key=_key_of(state))
    say_changed(front, "state.init", said)
    return say(front, *_next(state))


@command.command("migrate")
@click.pass_obj
def migrate(front: Front) -> Exit:
    """Bring the tables of the state up to date.

    Run once for all hosts, after certferry was upgraded on the first of them: hosts with the
    version before go on working meanwhile. With SQLite every command does the same.
    """
    settings = load_state(front.config, front.console.environ)
    place = settings.state.named
    if not prepared_state(settings, init=False):
        return say(front, Text("{place} is up to date; nothing was changed.", place=place))
    say_changed(front, "state.migrate", Text("Brought up to date: {place}", place=place))
    return Exit.OK


@command.command("check")
@json_option
@click.pass_obj
def check(front: Front, *, as_json: bool) -> Exit:
    """Open every key in the state, follow its history, and say what is wrong.

    Exits with 1 where something is.
    """
    from certferry.cli.discover import show_findings

    settings = load_state(front.config, front.console.environ)
    found = checked_state(settings)
    if not found and not as_json:
        return say(front, Text("{place} is in order.", place=settings.state.named))
    return show_findings(found, front, as_json=as_json)


@command.command("key")
@click.pass_obj
def key(front: Front) -> Exit:
    """Print a new key, for `key` of [state].

    It opens every private key of the state: give it to the hosts as you give them other secrets,
    and keep it apart from backups of the database.
    """
    front.console.print([line(new_key())])
    return Exit.OK


def _key_of(state: StateSettings) -> Text:
    if state.key_file is None:
        return Text("`key` of [state]")
    return Text("the key in {path}", path=state.key_file)


def _next(state: StateSettings) -> tuple[Text, ...]:
    return () if state.path is not None else (_EVERY_HOST,)
