"""`certferry state`: make, upgrade, check or move the state, and replace the state's key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from certferry.cli.commands import Group
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import CommandContext, json_option, say, say_changed
from certferry.config.load import load_state
from certferry.config.model import StateSettings
from certferry.config.propose import toml_string
from certferry.config.secrets import SecretReference
from certferry.config.tables import SERVERS
from certferry.present.layout import line
from certferry.text import Text
from certferry.wiring.state import changed_key, checked_state, moved_state, new_key, prepared_state

_EVERY_HOST = Text(
    "Every host of the state needs the same `url` and `key` under [state], and a `host` of its own."
)


_NEW = "new"
_WHICH = Text("give the secret as a reference: env:NAME, file:PATH or command:PROGRAM")


@click.group("state", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Create, upgrade, check or move certferry's state."""


@command.command("init")
@click.pass_obj
def init(context: CommandContext) -> Exit:
    """Create the state: its tables, and a value that only its key opens.

    Only this command creates a state that hosts share, once for all of them, in an existing
    database. With SQLite the first `certferry sync` does the same.
    """
    settings = load_state(context.config, context.console.environ)
    state = settings.state
    if not prepared_state(settings, init=True):
        return say(context, Text("{place} already exists.", place=state.named), *_next(state))
    message = Text("Created: {place}, sealed with {key}", place=state.named, key=_key_of(state))
    say_changed(context, "state.init", message)
    return say(context, *_next(state))


@command.command("migrate")
@click.pass_obj
def migrate(context: CommandContext) -> Exit:
    """Bring the tables of the state up to date.

    Run once for all hosts, after the upgrade of certferry on the first host: hosts with the
    previous version keep working meanwhile. With SQLite every command does the same.
    """
    settings = load_state(context.config, context.console.environ)
    place = settings.state.named
    if not prepared_state(settings, init=False):
        return say(context, Text("{place} is up to date; nothing was changed.", place=place))
    say_changed(context, "state.migrate", Text("Brought up to date: {place}", place=place))
    return Exit.OK


@command.command("check")
@json_option
@click.pass_obj
def check(context: CommandContext, *, as_json: bool) -> Exit:
    """Decrypt every key in the state, verify the history, and report problems.

    Exits 1 on a problem.
    """
    from certferry.cli.discover import show_findings

    settings = load_state(context.config, context.console.environ)
    findings = checked_state(settings)
    if not findings and not as_json:
        return say(context, Text("{place} is in order.", place=settings.state.named))
    return show_findings(findings, context, as_json=as_json)


@command.command("key")
@click.option(
    "--rotate",
    metavar="[REF]",
    is_flag=False,
    flag_value=_NEW,
    help="Seal everything in the state with a new key: REF, for example `env:NEW_KEY` or"
    " `file:PATH`. With `key_file`, certferry creates the new key, without REF.",
)
@click.pass_obj
def key(context: CommandContext, rotate: str | None) -> Exit:
    """Print a new key for `key` of [state], or replace the present key.

    The key opens every private key in the state: distribute it to the hosts like other secrets, and
    keep it apart from backups of the database.

    `--rotate` also needs the present key, and is refused while a run is in progress (exit code 75).
    After an interruption, one of the two keys opens the whole state. Hosts with the old key are
    refused afterwards.
    """
    if rotate is None:
        context.console.print([line(new_key())])
        return Exit.OK
    settings = load_state(context.config, context.console.environ)
    key_file = settings.state.key_file
    if rotate == _NEW and key_file is None:
        raise UsageMistake(_WHICH)
    new = None if rotate == _NEW else _reference(rotate)
    rotated = changed_key(settings, new)
    message = Text("Sealed with the new key: {count} keys and proofs", count=rotated.count)
    say_changed(context, "state.key", message)
    for text in rotated.left:
        say(context, Text("Left unchanged, since the old key does not open it: {text}", text=text))
    if rotated.left:
        say(context, Text("`certferry state check` shows how to remove each."))
    if key_file is not None:
        say(context, Text("{path} has the new key.", path=key_file))
    else:
        say(context, Text("Write into the configuration file of every host of the state:"))
        _print_table(context, {"key": rotate})
    return say(
        context, Text("Earlier backups need the old key: keep the key as long as the backups.")
    )


@command.command("move")
@click.argument("url", metavar="URL")
@click.option(
    "--key",
    metavar="REF",
    help=(
        "The key at the new place, for example `env:CERTFERRY_KEY` or `file:PATH`. Default: the"
        " present key."
    ),
)
@click.option(
    "--password",
    metavar="REF",
    help="The password at the new place, for example env:CERTFERRY_DB_PASSWORD.",
)
@click.pass_obj
def move(context: CommandContext, url: str, key: str | None, password: str | None) -> Exit:
    """Copy everything in the state to another place, and mark the old state as moved.

    URL is the address of a database or a file, as in `url` of [state]. It must be empty or missing.
    certferry reads every row back and compares. Refused while a run is in progress (exit code 75);
    no run starts meanwhile. After an interruption, run the same command again: it starts over or
    finishes; until then the old state stays in use.
    """
    here = load_state(context.config, context.console.environ)
    table = _table_there(here.state, url, key, password)
    there = load_state(context.config, context.console.environ, table | {"host": here.state.host})
    moved = moved_state(here, there)
    message = Text("Moved to {place}: {count} rows, read back and compared")
    count = sum(moved.rows.values())
    say_changed(context, "state.move", message.filled(place=moved.destination, count=count))
    say(context, Text("Write into the configuration file of every host of the state:"))
    if there.state.is_shared and not here.state.is_shared:
        [host] = moved.hosts
        table |= {} if host == here.state.host else {"host": host}
    secrets = [name for name in ("key", "password") if _is_literal(table.get(name))]
    _print_table(context, {name: table[name] for name in table if name not in secrets})
    if secrets:
        message = Text("Keep {keys} of [state] as in the present file; no secret is printed.")
        say(context, message.filled(keys=[f"`{name}`" for name in secrets]))
    if "host" in table:
        say(
            context,
            Text(
                "Write `host` on this host alone: the state keeps this host's installed files under"
                " that name."
            ),
        )
    return say(
        context,
        Text("Then: `certferry state check`, `certferry plan`"),
        Text("{place} is no longer used; remove it once all is well.", place=moved.origin),
    )


def _table_there(
    here: StateSettings, url: str, key: str | None, password: str | None
) -> dict[str, str]:
    """Return the [state] table that every host needs after the move to `url`. Without `key` the
    table keeps the present key. Without `password` a table for a server keeps the present password.

    Raise `UsageMistake` if `key` or `password` is a secret in place of a reference to a secret.
    """
    for secret in filter(None, (key, password)):
        _reference(secret)
    is_file = url.startswith("sqlite:")
    table = {"url": url}
    if key is not None:
        table["key"] = key
    elif not isinstance(here.key, Path):
        table["key"] = here.key.written
    elif is_file:
        table["key_file"] = str(here.key)
    else:
        table["key"] = f"file:{here.key}"
    if password is None and here.password is not None and url.startswith(SERVERS):
        password = here.password.written
    return table | ({} if password is None else {"password": password})


def _is_literal(written: str | None) -> bool:
    """Return whether a setting of [state] is a secret in place of a reference to a secret."""
    return written is not None and SecretReference(written).is_literal


def _reference(text: str) -> SecretReference:
    reference = SecretReference(text)
    if reference.is_literal:
        raise UsageMistake(_WHICH)
    return reference


def _print_table(context: CommandContext, table: Mapping[str, str]) -> None:
    rows = ["[state]", *(f"{name} = {toml_string(value)}" for name, value in table.items())]
    context.console.print(map(line, rows))


def _key_of(state: StateSettings) -> Text:
    if state.key_file is None:
        return Text("`key` of [state]")
    return Text("the key in {path}", path=state.key_file)


def _next(state: StateSettings) -> tuple[Text, ...]:
    return (_EVERY_HOST,) if state.is_shared else ()
