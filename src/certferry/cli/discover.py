"""`certferry discover`: everything that the accounts hold, whatever is declared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import Front, WholeNumber, json_option, note
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.problem import Problem
from certferry.text import Text
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.core.discovery.inventory import Discovery, Wanted
    from certferry.core.discovery.proposal import Proposal

_DAYS = WholeNumber(0, 36500)


@click.command("discover")
@click.option(
    "--account",
    "accounts",
    metavar="LABEL",
    multiple=True,
    help="Look at this account only; may be given several times.",
)
@click.option("--uncovered", is_flag=True, help="Only domains that no declared certificate covers.")
@click.option(
    "--foreign",
    is_flag=True,
    help="Only certificates that neither certferry nor Qiniu (for free) put there.",
)
@click.option(
    "--expiring",
    "days",
    metavar="DAYS",
    type=_DAYS,
    help="Only certificates that have expired, or will within DAYS days.",
)
@click.option(
    "--toml",
    "as_toml",
    is_flag=True,
    help="Print tables to paste into the file, for the domains that are not covered.",
)
@json_option
@click.pass_obj
def command(
    front: Front,
    accounts: tuple[str, ...],
    days: int | None,
    *,
    uncovered: bool,
    foreign: bool,
    as_toml: bool,
    as_json: bool,
) -> Exit:
    """Show every domain of the accounts and its certificate, declared or not.

    What needs your care comes first. HTTPS: `301` redirects to it, `h2` is HTTP/2. OWNER is who
    uploaded the certificate; LEFT is the days until the first of the bound and served certificates
    expires. COVERED BY names the declared certificate that is to serve the domain, in
    brackets one that only covers it.

    Without a configuration file the keys are taken from the environment (QINIU_ACCESS_KEY,
    QINIU_SECRET_KEY). Exits with 1 if an account could not be read, or only in
    part.
    """
    from certferry.cli.selection import running, settings_with_accounts
    from certferry.core.discovery.inventory import Wanted
    from certferry.wiring.discovery import chosen, discovered, proposed

    if as_toml and as_json:
        raise UsageMistake(Text("--toml and --json exclude each other"))
    expiring = None if days is None else timedelta(days=days)
    wanted = Wanted(uncovered=uncovered, foreign=foreign, expiring=expiring)
    settings = settings_with_accounts(front)
    with running(front, settings, reads_only=True) as (workspace, run):
        known = workspace.accounts(run)
        found = discovered(chosen(accounts, known, settings), workspace, run)
        if as_toml:
            proposal, unread = proposed(found.narrowed(wanted, now()), known, settings)
    if as_toml:
        return show_tables(proposal, [*found.problems, *unread], front)
    return show_discovery(found, wanted, front.console, now(), as_json=as_json)


def show_discovery(
    everything: Discovery, wanted: Wanted, console: Console, now: datetime, *, as_json: bool
) -> Exit:
    """Print the domains and certificates that the filters leave."""
    from certferry.present import discover_text
    from certferry.present.progress import log_problems

    found, voice = everything.narrowed(wanted, now), console.voice
    log_problems(found.problems, console.run_log)
    if as_json:
        console.print_json(discover_text.of_discovery(found, voice))
        return exits.of_problems(found.problems)
    if found.domains:
        remarks = discover_text.remarks(found, voice)
        console.print_table(discover_text.domains(found, now, voice), remarks)
        console.print([line()])
    if found.unused:
        console.print([discover_text.heading(found, voice)])
        console.print_table(discover_text.unused(found, now, voice))
        console.print([line()])
    if found.domains or found.certificates or not found.problems:
        console.print([discover_text.summary(found, everything, voice)])
    console.print_stderr(chain.from_iterable(map(voice.problem, found.problems)))
    return exits.of_problems(found.problems)


def show_tables(proposal: Proposal, problems: Sequence[Problem], front: Front) -> Exit:
    """Print the tables alone on stdout, and everything else on stderr."""
    from certferry.config.propose import tables_of
    from certferry.present.progress import log_problems

    console, voice = front.console, front.voice
    tables = tables_of(proposal, voice.say)
    console.print(line(row) for row in tables.splitlines())
    if not tables:
        note(front, Text("There is no domain to declare a certificate for."))
    console.print_stderr(chain.from_iterable(map(voice.problem, problems)))
    log_problems(problems, console.run_log)
    return exits.of_problems(problems)
