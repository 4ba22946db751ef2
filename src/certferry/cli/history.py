"""`certferry history`: who did what when, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, WholeNumber, json_option, name_argument
from certferry.present.console import Console

if TYPE_CHECKING:
    from certferry.wiring.session import Session

_MOST = 50


@click.command("history")
@name_argument(required=False)
@click.option(
    "--limit",
    metavar="N",
    type=WholeNumber(min=1, max=1_000_000),
    default=_MOST,
    show_default=True,
    help="Show no more than this.",
)
@json_option
@click.pass_obj
def command(front: Front, name: str | None, *, limit: int, as_json: bool) -> Exit:
    """Show the history of changes, newest first.

    Without NAME: every certificate there has been.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.wiring.looking import open_to_look

    with open_to_look(settings_or_defaults(front)) as session:
        return show_history(session, name, limit, front.console, as_json=as_json)


def show_history(
    session: Session, name: str | None, limit: int, console: Console, *, as_json: bool
) -> Exit:
    """Print what the state remembers. Raises `ConfigError` for a name that nothing is known of."""
    from certferry.present import history_text
    from certferry.wiring.selection import must_be_known

    entries = session.state.history(name, limit)
    if name is not None and not entries:
        entries = session.state.history(must_be_known(name, session), limit)
    if as_json:
        console.hand_out(history_text.document(entries))
    else:
        console.tell(history_text.lines(entries, console.voice))
    return Exit.OK
