"""`certferry check`: for monitoring, how bad it is, by what earlier runs recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from certferry.cli.complaints import Complaint, complaint_about
from certferry.cli.options import Front, json_option, names_argument
from certferry.present.layout import line

if TYPE_CHECKING:
    from certferry.core.assessment.health import Checkup

RUN_WITHIN = 48
"""Hours; see `core.assessment.health.RUN_WITHIN`."""

UNKNOWN = 3
"""What a plugin answers that cannot say anything (`core.assessment.health.Health`)."""

_TEN_YEARS = 24 * 3653  # hours


class Plugin(click.Command):
    """A command whose exit codes are a plugin's, whatever goes wrong: to a monitor 1 and 2 would be
    a warning and a catastrophe.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; what is wrong with it is told as a plugin does."""
        as_json = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as mistake:
            ctx.exit(print_failure(complaint_about(mistake), ctx.obj, as_json=as_json))


@click.command("check", cls=Plugin)
@names_argument
@click.option(
    "--run-within",
    metavar="HOURS",
    type=click.IntRange(1, _TEN_YEARS),
    default=RUN_WITHIN,
    help="Warn when the last run ended longer ago. Default: 48.",
)
@json_option
@click.pass_obj
def command(front: Front, names: tuple[str, ...], *, run_within: int, as_json: bool) -> int:
    """For monitoring: one line in the form of a Nagios plugin, with performance data.

    It judges by what the last run recorded and asks no service: call it every few minutes.
    Exits with 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. WARNING with 1/6 of a certificate's lifetime
    left, CRITICAL with 1/12; earlier if the CDN wants a minimum of days left (Qiniu: 30).
    """
    now = datetime.now(UTC)
    try:
        found = _found(front, names, now, timedelta(hours=run_within))
    except Exception as error:  # noqa: BLE001 - whatever it is, a monitor gets its line
        return print_failure(complaint_about(error), front, as_json=as_json)
    return print_checkup(found, now, front, as_json=as_json)


def _found(front: Front, names: Iterable[str], now: datetime, run_within: timedelta) -> Checkup:
    from certferry.cli.selection import read_settings
    from certferry.core.assessment.health import checkup
    from certferry.wiring.looking import lost_state, open_to_look
    from certferry.wiring.recorded import expected, recorded
    from certferry.wiring.undeclared import undeclared

    settings = read_settings(front, tuple(names))
    with open_to_look(settings, language=front.voice.language) as session:
        known = replace(
            recorded(session.state), undeclared=undeclared(settings, session.state, now)
        )
        known = replace(known, problem=known.problem or lost_state(settings, session.state))
    return checkup(expected(settings, known), known, now, run_within)


def print_checkup(found: Checkup, now: datetime, front: Front, *, as_json: bool) -> int:
    """Say how bad it is, and give the plugin's exit code."""
    from certferry.present import check_text

    if as_json:
        front.console.print_json(check_text.document(found, now, front.voice))
    else:
        front.console.print(line(one) for one in check_text.of_checkup(found, now, front.voice))
    return int(found.health)


def print_failure(complaint: Complaint, front: Front, *, as_json: bool) -> int:
    """Say that nothing can be said, and why, and give the plugin's exit code."""
    from certferry.present import check_text

    message, hint, voice = complaint.message, complaint.hint, front.voice
    if as_json:
        document = check_text.document_of_failure(complaint.code, message, hint, voice)
        front.console.print_json(document)
    else:
        front.console.print(line(one) for one in check_text.of_failure(message, hint, voice))
    return UNKNOWN
