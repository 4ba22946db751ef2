"""`certferry console`: the console's users, and the tokens for the console's API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from certferry.cli.commands import Group, what_instead
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import CommandContext, json_option, note, number_option, say, say_changed
from certferry.cli.selection import workspace_of
from certferry.cli.serve import console_process
from certferry.core.access import LONGEST_TOKEN, Role, User, is_name
from certferry.errors import ConfigError
from certferry.present import documents, status_text
from certferry.present.layout import line
from certferry.text import Text
from certferry.wiring.passwords import keep_access, make_link, make_token
from certferry.wiring.settings import load_checked
from certferry.wiring.workspace import Workspace, who_runs

T = TypeVar("T", bound=Callable[..., Any])

_HELP = {"help_option_names": ["-h", "--help"]}
_ROLES = click.Choice([Role.OPERATOR.value, Role.VIEWER.value])
_ONCE = Text("The link is valid once, for an hour: send it to {name}, to choose a password.")
_MAY = {
    Role.OPERATOR: Text("{name} can see everything and start runs."),
    Role.VIEWER: Text("{name} can see everything."),
}


def _role_option(command: T) -> T:
    return click.option(
        "--role",
        type=_ROLES,
        metavar="ROLE",
        default=Role.OPERATOR.value,
        help="`viewer` can see everything; `operator` can also start runs. Default: `operator`.",
    )(command)


class _NewName(click.ParamType[str]):
    """Checks the name of a new user or token."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        if not is_name(value):
            message = Text("{name} cannot be a name: use 1 to 64 of A–Z, a–z, 0–9, and . _ @ -")
            raise UsageMistake(message.filled(name=repr(value)), ctx)
        return value


_new_name = click.argument("name", metavar="NAME", type=_NewName())
_name = click.argument("name", metavar="NAME")


@click.group("console", cls=Group, context_settings=_HELP)
def command() -> None:
    """Manage the users of the console (`certferry serve`) and the tokens of its API."""


@command.command("health")
@click.pass_obj
def ask_health(context: CommandContext) -> Exit:
    """Query `/healthz` of the console on this host, for a container's health check.

    Exits 0 if the state answers and this host's last run is at most 26 hours old; otherwise, or
    without a console, exits 1.
    """
    settings = load_checked(context.config, context.console.environ)
    console_process()
    from certferry.console.health import ask_healthz

    ask_healthz(settings.console)
    return say(context, Text("The console and the state answer, and runs take place."))


@command.group("user", cls=Group, context_settings=_HELP)
def user() -> None:
    """Add, remove and show users of the console.

    There are no users at first; only this command adds them.
    """


@user.command("add")
@_new_name
@_role_option
@click.pass_obj
def add_user(context: CommandContext, name: str, role: str) -> Exit:
    """Add a user, and print a link for choosing a password.

    The link is valid once, for an hour. Opening the link does not use it up; choosing a password
    does.
    """
    with workspace_of(context, reads_only=False) as workspace:
        state = workspace.state
        if not state.add_user(User(name, Role(role), state.now())):
            raise ConfigError(
                Text("the user {name} already exists", name=name),
                hint=Text("for a new link, run: certferry console user reset {name}", name=name),
            )
        _keep(workspace, "user added", user=name, role=role)
        message = _MAY[Role(role)].filled(name=name)
        return _print_link(context, workspace, name, "console.user.add", message)


@user.command("reset")
@_name
@click.pass_obj
def reset_user(context: CommandContext, name: str) -> Exit:
    """Print a link for choosing a new password; the old password stops working.

    Logs the user out everywhere at once, until a new password is chosen.
    """
    with workspace_of(context, reads_only=False) as workspace:
        name = _known_user(workspace, name)
        workspace.state.forget_password(name)
        _keep(workspace, "user reset", user=name)
        message = Text(
            "{name} has been logged out, and the old password no longer works.", name=name
        )
        return _print_link(context, workspace, name, "console.user.reset", message)


def _keep(workspace: Workspace, event: str, **facts: str) -> None:
    keep_access(workspace.state, who_runs(workspace.settings), event, **facts)


def _print_link(
    context: CommandContext, workspace: Workspace, name: str, event: str, message: Text
) -> Exit:
    secret = make_link(workspace.state, name, workspace.state.now())
    link = f"{workspace.settings.console.base}/welcome/{secret}"
    return _print_secret(context, event, message, link, _ONCE.filled(name=name))


def _print_secret(
    context: CommandContext, event: str, message: Text, secret: str, below: Text
) -> Exit:
    """Print a secret on stdout, without other text, so that a program can read the secret. Print
    `message` and `below` on stderr, except under `-q`. Log only `message`.
    """
    from certferry.present.progress import log_change

    log_change(event, message, context.console.run_log)
    note(context, message)
    context.console.print([line(secret)])
    note(context, below)
    return Exit.OK


@user.command("role")
@_name
@click.argument("role", metavar="ROLE", type=_ROLES)
@click.pass_obj
def change_role(context: CommandContext, name: str, role: str) -> Exit:
    """Change a user's role, from the next click on: ROLE is `operator` or `viewer`."""
    with workspace_of(context, reads_only=False) as workspace:
        name = _known_user(workspace, name)
        workspace.state.change_role(name, Role(role))
        _keep(workspace, "role changed", user=name, role=role)
    say_changed(context, "console.user.role", _MAY[Role(role)].filled(name=name))
    return Exit.OK


@user.command("remove")
@_name
@click.pass_obj
def remove_user(context: CommandContext, name: str) -> Exit:
    """Remove a user and end all sessions. The user's actions stay in the history."""
    with workspace_of(context, reads_only=False) as workspace:
        name = _known_user(workspace, name)
        workspace.state.remove_user(name)
        _keep(workspace, "user removed", user=name)
    message = Text("{name} has been removed and logged out everywhere.", name=name)
    say_changed(context, "console.user.remove", message)
    return Exit.OK


@user.command("list")
@json_option
@click.pass_obj
def list_users(context: CommandContext, *, as_json: bool) -> Exit:
    """Show the users: role, and last visit."""
    with workspace_of(context) as workspace:
        users = workspace.state.users()
    if as_json:
        context.console.print_json(documents.of_users(users))
    elif not users:
        return say(
            context, Text("There are no users yet; `certferry console user add NAME` adds a user.")
        )
    else:
        context.console.print_table(status_text.users(users, context.voice), ())
    return Exit.OK


@command.group("token", cls=Group, context_settings=_HELP)
def token() -> None:
    """Create, remove and show tokens for the API."""


@token.command("add")
@_new_name
@_role_option
@number_option(
    "--days",
    "N",
    1,
    LONGEST_TOKEN.days,
    "How many days the token is valid. Default: until removed.",
)
@click.pass_obj
def add_token(context: CommandContext, name: str, role: str, days: int | None) -> Exit:
    """Create a token, and print the token only once: it is not stored.

    Programs send the token with each request, as a bearer token.
    """
    lasts = None if days is None else timedelta(days=days)
    with workspace_of(context, reads_only=False) as workspace:
        state = workspace.state
        secret = make_token(state, name, Role(role), state.now(), lasts)
        if secret is None:
            raise ConfigError(
                Text("the token {name} already exists", name=name),
                hint=Text("first run: certferry console token remove {name}", name=name),
            )
        _keep(workspace, "token added", token=name, role=role)
    message = _MAY[Role(role)].filled(name=name)
    below = Text("The token is not shown again.")
    return _print_secret(context, "console.token.add", message, secret, below)


@token.command("remove")
@_name
@click.pass_obj
def remove_token(context: CommandContext, name: str) -> Exit:
    """Remove a token; later requests with the token are refused."""
    with workspace_of(context, reads_only=False) as workspace:
        token_names = [stored.name for stored in workspace.state.tokens()]
        name = _the_one_called(name, token_names, Text("there is no token {name}"))
        workspace.state.remove_token(name)
        _keep(workspace, "token removed", token=name)
    message = Text("Token {name} has been removed.", name=name)
    say_changed(context, "console.token.remove", message)
    return Exit.OK


@token.command("list")
@json_option
@click.pass_obj
def list_tokens(context: CommandContext, *, as_json: bool) -> Exit:
    """Show the tokens: first characters, role, expiry and last use."""
    with workspace_of(context) as workspace:
        tokens, now = workspace.state.tokens(), workspace.state.now()
    if as_json:
        context.console.print_json(documents.of_tokens(tokens, now))
    elif not tokens:
        return say(
            context,
            Text("There are no tokens; `certferry console token add NAME` creates a token."),
        )
    else:
        context.console.print_table(status_text.tokens(tokens, now, context.voice), ())
    return Exit.OK


def _known_user(workspace: Workspace, name: str) -> str:
    user_names = [stored.name for stored in workspace.state.users()]
    return _the_one_called(name, user_names, Text("there is no user {name}"))


def _the_one_called(name: str, names: list[str], unknown: Text) -> str:
    """Return the first of `names` that equals `name` apart from case. Raise `ConfigError`, with the
    sentence `unknown`, if there is none.
    """
    for stored in names:
        if stored.lower() == name.lower():
            return stored
    raise ConfigError(unknown.filled(name=name), hint=what_instead([name], names, {}))
