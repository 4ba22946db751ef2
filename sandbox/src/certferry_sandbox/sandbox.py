"""`certferry sandbox`: run a world on loopback, and print the commands to use the world."""

from __future__ import annotations

import shlex
import tempfile
import threading
from pathlib import Path

import click

from certferry.cli.exits import Exit
from certferry.cli.options import CommandContext
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.text import Text
from certferry_sandbox.heartbeat import HeartbeatService
from certferry_sandbox.messages.dingtalk import SECRET, DingtalkService
from certferry_sandbox.troubled import open_console
from certferry_sandbox.world import EVERYWHERE, World, demonstration


@click.command()
@click.option(
    "--dir",
    "directory",
    metavar="D",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write the configuration; by default a temporary directory.",
)
@click.option("--serve", is_flag=True, help="Open the console of a world with trouble in it.")
@click.pass_obj
def command(context: CommandContext, directory: Path | None, *, serve: bool) -> int:
    """Run a simulated CA, DNS services and a CDN on 127.0.0.1 to practise on.

    Prints a ready configuration, and the `certferry init` command to try the interview.
    """
    with tempfile.TemporaryDirectory(prefix="certferry-sandbox-") as temporary:
        place = (directory or Path(temporary)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        if serve:
            return open_console(context, place)
        with (
            demonstration(has_others=True) as world,
            DingtalkService() as robot,
            HeartbeatService() as heart,
        ):
            _introduce(world, world.write_files(place, EVERYWHERE), context.console)
            _introduce_users_for_dns(world, context.console)
            _introduce_init(world.write_base(place), robot, heart, context.console)
            # Ctrl-C ends the wait, and the `with` block stops the world.
            threading.Event().wait()
    return Exit.OK


def _introduce(world: World, path: Path, console: Console) -> None:
    """Print the configuration to stdout, and the commands that use the file to stderr."""
    console.print(line(row) for row in path.read_text().splitlines())
    console.stdout.flush()
    command = f"certferry --config {shlex.quote(str(path))}"
    exports = [f"export {name}={value}" for name, value in world.environment.items()]
    console.print_stderr(
        line(row)
        for row in (
            "",
            console.voice.say(Text("The world is running until Ctrl-C. In another terminal:")),
            "",
            *(f"  {export}" for export in exports),
            f"  {command} plan",
            f"  {command} sync",
        )
    )


def _introduce_users_for_dns(world: World, console: Console) -> None:
    """Print keys without the rights for the CDNs."""
    refused = Text("Keys with rights for DNS alone, to see how a missing right is reported:")
    exports = [f"  export {name}={value}" for name, value in world.add_users_for_dns().items()]
    console.print_stderr(line(row) for row in ("", console.voice.say(refused), "", *exports))


def _introduce_init(
    base: Path, robot: DingtalkService, heart: HeartbeatService, console: Console
) -> None:
    """Print the command that starts the interview, and possible answers."""
    output = shlex.quote(str(base.with_name("init.toml")))
    say = console.voice.say
    asked = Text("Or try the interview, which asks for the keys unless they are exported:")
    reached = Text(
        "The interview can set up this DingTalk robot (with its secret) and this heartbeat:"
    )
    rows = (
        "",
        say(asked),
        "",
        f"  certferry init --settings {shlex.quote(str(base))} --output {output}",
        "",
        say(reached),
        "",
        *(f"  {value}" for value in (robot.address, SECRET, heart.address)),
    )
    console.print_stderr(line(row) for row in rows)
    console.stderr.flush()
