"""`certferry notify`: the channels through which operators are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from certferry.cli.commands import Group
from certferry.cli.exits import Exit
from certferry.cli.options import Front
from certferry.errors import ConfigError
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.config.model import Settings


@click.group("notify", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Try the channels through which you are told of trouble."""


@command.command("test")
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@click.pass_obj
def test(front: Front, channels: tuple[str, ...]) -> Exit:
    """Send one message through every channel, or those that are named, and print the answers.

    Exits 1 if a service did not take it.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.ports.notifier import Sent
    from certferry.ports.progress import no_listener
    from certferry.present.channel_text import answer_lines
    from certferry.wiring.session import open_session

    settings = settings_or_defaults(front)
    names = _chosen(settings, channels)
    with open_session(settings, progress=no_listener, language=front.voice.language) as session:
        answers = session.channels.try_out(names)
        services = session.channels.services(names)
    all_sent = all(isinstance(answer, Sent) for answer in answers.values())
    if not (front.quiet and all_sent):
        front.console.show(answer_lines(answers, services, front.voice))
    return Exit.OK if all_sent else Exit.FAILED


def _chosen(settings: Settings, channels: Sequence[str]) -> Sequence[str]:
    """Give the channels to try. Raises `ConfigError`."""
    from certferry.config.findings import instead_of

    known = list(settings.channels)
    if not known:
        raise ConfigError(
            Text("no channel is declared"),
            hint=Text('declare one: [notify.ops] with type = "dingtalk" and its url'),
        )
    for name in channels:
        if name not in known:
            said = Text("there is no channel called {name}", name=name)
            raise ConfigError(said, hint=instead_of(name, known))
    return channels or known
