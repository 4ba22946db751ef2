"""`certferry check`: for monitoring, how bad it is, by what earlier runs recorded."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from certferry.cli.complaints import problem_of
from certferry.cli.options import Front, json_option, names_argument
from certferry.present.layout import line
from certferry.problem import Problem

if TYPE_CHECKING:
    from certferry.core.assessment.health import Checkup

RUN_WITHIN = 48
"""Hours; see `core.assessment.health.RUN_WITHIN`."""

UNKNOWN = 3
"""What a plugin answers that cannot say anything (`present.check_text.PluginStatus`)."""

_TEN_YEARS = 24 * 3653  # hours


class Plugin(click.Command):
    """A command whose exit codes are a plugin's, whatever goes wrong: to a monitor 1 and 2 would be
    a warning and a catastrophe.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; what is wrong with it is reported as a plugin does."""
        as_json = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as mistake:
            ctx.exit(print_failure(problem_of(mistake), ctx.obj, as_json=as_json))


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
        return print_failure(problem_of(error), front, as_json=as_json)
    return print_checkup(found, now, front, as_json=as_json)


def _found(front: Front, names: Iterable[str], now: datetime, run_within: timedelta) -> Checkup:
    from certferry.cli.selection import read_settings
    from certferry.core.assessment.health import checkup
    from certferry.wiring.recorded import expected, recorded
    from certferry.wiring.workspace import Workspace

    settings = read_settings(front, tuple(names))
    with Workspace(settings, reads_only=True, language=front.voice.language) as workspace:
        known = recorded(settings, workspace.state, now)
    return checkup(expected(settings, known), known, now, run_within)


def print_checkup(found: Checkup, now: datetime, front: Front, *, as_json: bool) -> int:
    """Print how bad it is, and return the plugin's exit code."""
    from certferry.present import check_text

    if as_json:
        front.console.print_json(check_text.document(found, now, front.voice))
    else:
        front.console.print(line(one) for one in check_text.of_checkup(found, now, front.voice))
    return check_text.status_of(found.concerns).value


def print_failure(problem: Problem, front: Front, *, as_json: bool) -> int:
    """Print that nothing can be judged, and why, and return the plugin's exit code."""
    from certferry.present import check_text

    if as_json:
        front.console.print_json(check_text.document_of_failure(problem, front.voice))
    else:
        front.console.print(line(one) for one in check_text.of_failure(problem, front.voice))
    return UNKNOWN
