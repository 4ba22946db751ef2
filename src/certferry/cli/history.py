"""`certferry history`: who did what when, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from certferry.cli.desk import Desk
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, name_argument

if TYPE_CHECKING:
    from certferry.wiring.session import Session

_MOST = 50


@click.command("history")
@name_argument(required=False)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1, max=1_000_000),
    default=_MOST,
    show_default=True,
    help="Show no more than this.",
)
@json_option
@click.pass_obj
def command(front: Front, name: str | None, *, limit: int, as_json: bool) -> Exit:
    """Show who did what when, newest first.

    Without a NAME it is about every certificate there has been.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.wiring.session import open_to_look

    with open_to_look(settings_or_defaults(front)) as session:
        return show_history(session, name, limit, front.desk, as_json=as_json)


def show_history(
    session: Session, name: str | None, limit: int, desk: Desk, *, as_json: bool
) -> Exit:
    """Show what the state remembers. Raises `ConfigError` for a name that nothing is known of."""
    from certferry.cli import documents, history_text
    from certferry.cli.selection import must_be_known

    entries = session.state.history(name, limit)
    if name is not None and not entries:
        must_be_known(name, session)
    if as_json:
        desk.hand_out(documents.of_history(entries))
    else:
        desk.show(history_text.told(entries, desk.voice))
    return Exit.OK
