"""`certferry watch`: what every address of a host serves, and until when. Any host, ours or not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option
from certferry.present.console import Console

if TYPE_CHECKING:
    from certferry.ports.probe import Probe

_PORTS = click.IntRange(1, 65535)


@click.command("watch")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@click.option(
    "--port",
    metavar="PORT",
    type=_PORTS,
    help="The port to look at. Default: [verify] port, or 443.",
)
@json_option
@click.pass_obj
def command(front: Front, hosts: tuple[str, ...], *, port: int | None, as_json: bool) -> Exit:
    """Show what every address of a host serves, and until when.

    Resolvers, port and trust are those of [verify] where there is a configuration file, the
    system's and 443 elsewhere. Exits with 1 when an address does not present a certificate that is
    valid for the host.
    """
    from dataclasses import replace

    from certferry.cli.selection import settings_or_defaults
    from certferry.present.watch_text import host_name
    from certferry.wiring.session import open_to_look

    names = list(dict.fromkeys(map(host_name, hosts)))
    settings = settings_or_defaults(front)
    verify = replace(settings.verify, port=port or settings.verify.port)
    with open_to_look(replace(settings, verify=verify)) as session:
        now = datetime.now(UTC)
        return show_looks(session.probe, names, verify.port, front.console, now, as_json=as_json)


def show_looks(
    probe: Probe, hosts: list[str], port: int, console: Console, now: datetime, *, as_json: bool
) -> Exit:
    """Look at hosts, and show what each address presents."""
    from certferry.present import documents, watch_text
    from certferry.present.log_entries import log_looks

    looks = probe.look(hosts)
    log_looks(looks, console.run_log)
    if as_json:
        console.hand_out(documents.of_looks(looks, port, console.voice))
    else:
        console.show_table(
            watch_text.table(looks, now, console.voice), watch_text.remarks(looks, console.voice)
        )
    return exits.of_looks(list(looks.values()))
