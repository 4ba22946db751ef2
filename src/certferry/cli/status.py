"""`certferry status`: how each certificate and each domain stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, names_argument
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.core.assessment.health import Recorded
    from certferry.core.assessment.notices import ChannelState
    from certferry.core.assessment.status import LineageStatus
    from certferry.wiring.session import Session


@click.command("status")
@names_argument
@json_option
@click.pass_obj
def command(front: Front, names: tuple[str, ...], *, as_json: bool) -> Exit:
    """Show how each certificate and each domain stands.

    How long a certificate is still valid and when it is renewed; for each domain, the last moment
    its certificate can be uploaded, what is bound, and how many of its addresses serve it. What
    needs you comes first, with its last failure and when it is tried again. Exits with 1 when
    something needs you.
    """
    from certferry.cli.selection import read_settings, tell_of_equal_names
    from certferry.present.progress import progress_of_look
    from certferry.wiring.looking import open_to_look
    from certferry.wiring.recorded import recorded

    settings = read_settings(front, names)
    tell_of_equal_names(settings, front)
    with (
        progress_of_look(front.console, front.verbosity, _now, as_json=as_json) as progress,
        open_to_look(settings, progress=progress, language=front.voice.language) as session,
    ):
        found = observed(session, recorded(settings, session.state, _now()))
    return show_status(found, front.console, _now(), as_json=as_json)


@dataclass(frozen=True, slots=True)
class Found:
    """How everything stands: certificates, what is recorded, and the channels of notifications."""

    statuses: Sequence[LineageStatus]
    recorded: Recorded
    channels: Mapping[str, ChannelState]


def observed(session: Session, recorded: Recorded) -> Found:
    """Observe what the session declares."""
    from certferry.reconcile.status import statuses_of

    statuses = statuses_of(session.reconciler(), session.wishes, recorded)
    return Found(statuses, recorded, session.teller.channel_states())


def show_status(found: Found, console: Console, now: datetime, *, as_json: bool) -> Exit:
    """Show how everything stands."""
    from certferry.core.assessment.status import most_needed_first
    from certferry.present import news_text as channel_text
    from certferry.present import plan_document as status_document
    from certferry.present import status_text
    from certferry.present.log_entries import log_statuses

    statuses, recorded, channels = found.statuses, found.recorded, found.channels
    log_statuses(statuses, console.run_log)
    ending = exits.of_statuses(statuses, recorded)
    if as_json:
        document = status_document.of_statuses(statuses, recorded, console.voice)
        if channels:
            document["channels"] = channel_text.of_channels(channels, console.voice)
        console.hand_out(document)
    elif not statuses:
        console.show([line(console.voice.say(Text("No certificate is declared.")))])
        console.tell(status_text.troubles(recorded, console.voice))
    else:
        ordered = most_needed_first(statuses)
        remarks = [
            *status_text.remarks(ordered, console.voice),
            *channel_text.remarks(channels, console.voice),
        ]
        console.show_table(status_text.table(ordered, now, console.voice), remarks)
        console.tell([line(), *status_text.of_runs(recorded, console.voice)])
    return ending


def _now() -> datetime:
    return datetime.now(UTC)
