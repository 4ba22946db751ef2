"""`certferry discover`: show the domains of the accounts. `certferry doctor`: check everything that
a run depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain

import click

from certferry.cli import exits
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import CommandContext, json_option, names_argument, note, number_option
from certferry.cli.selection import read_settings, running, settings_with_accounts, workspace_of
from certferry.config.propose import tables_of
from certferry.core.discovery.inventory import Discovery, Wanted
from certferry.core.discovery.proposal import Proposal
from certferry.errors import CertferryError, Problem
from certferry.present import discover_text, documents
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.present.progress import log_findings, log_problems
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.clock import now
from certferry.wiring.discovery import chosen, discovered, proposed
from certferry.wiring.doctor import examine, reports_of
from certferry.wiring.machine import schedulers
from certferry.wiring.settings import from_keys

_ACCOUNT = "Show only this account; can be repeated."
_EXPIRING = "Show only certificates that expire within DAYS days or have expired."
_FOREIGN = (
    "Show only certificates uploaded by neither certferry nor the service (free certificates)."
)
_TOML = "Print tables for the configuration file, for the domains without coverage."
_REPORT = "Print the services' answers to reading calls, for an issue: without keys and names."


@click.command("discover")
@click.option("--account", "accounts", metavar="LABEL", multiple=True, help=_ACCOUNT)
@click.option(
    "--uncovered", is_flag=True, help="Show only domains that no declared certificate covers."
)
@click.option("--foreign", is_flag=True, help=_FOREIGN)
@number_option("--expiring", "DAYS", 0, 36500, _EXPIRING)
@click.option("--toml", "as_toml", is_flag=True, help=_TOML)
@json_option
@click.pass_obj
def command(
    context: CommandContext,
    accounts: tuple[str, ...],
    expiring: int | None,
    *,
    uncovered: bool,
    foreign: bool,
    as_toml: bool,
    as_json: bool,
) -> Exit:
    """Show every domain of the accounts and its certificate, declared or not.

    Problems come first. HTTPS: `301` redirects to HTTPS, `h2` is HTTP/2. OWNER is the uploader of
    the certificate; LEFT is the days until the bound or the served certificate expires, whichever
    is first. COVERED BY names the declared certificate that will serve the domain, in brackets a
    certificate that covers the domain without a deployment.

    Without a configuration file the keys of the usual services come from the environment
    (`certferry help adapters` lists the names); for other accounts, `certferry init` writes a file.
    Exits 1 if an account could not be read completely.
    """
    if as_toml and as_json:
        raise UsageMistake(Text("--toml and --json cannot be combined"))
    within = None if expiring is None else timedelta(days=expiring)
    wanted = Wanted(uncovered=uncovered, foreign=foreign, expiring=within)
    settings = settings_with_accounts(context)
    with running(context, settings, reads_only=True) as (workspace, run):
        accounts_read = workspace.accounts(run)
        discovery = discovered(chosen(accounts, accounts_read, settings), workspace, run)
        if as_toml:
            proposal, unread = proposed(discovery.narrowed(wanted, now()), accounts_read, settings)
    if as_toml:
        return show_tables(proposal, [*discovery.problems, *unread], context)
    return show_discovery(discovery, wanted, context.console, now(), as_json=as_json)


def show_discovery(
    everything: Discovery, wanted: Wanted, console: Console, now: datetime, *, as_json: bool
) -> Exit:
    """Print the domains and the unused certificates that pass the filters in `wanted`, and every
    problem. Return the exit code for the problems (`exits.of_problems`).
    """
    shown, voice = everything.narrowed(wanted, now), console.voice
    log_problems(shown.problems, console.run_log)
    if as_json:
        console.print_json(discover_text.of_discovery(shown))
        return exits.of_problems(shown.problems)
    if shown.domains:
        remarks = discover_text.remarks(shown, voice)
        console.print_table(discover_text.domains(shown, now, voice), remarks)
        console.print([line()])
    if shown.unused:
        console.print([discover_text.heading(shown, voice)])
        console.print_table(discover_text.unused(shown, now, voice))
        console.print([line()])
    if shown.domains or shown.certificates or not shown.problems:
        console.print([discover_text.summary(shown, everything, voice)])
    console.print_stderr(chain.from_iterable(map(voice.problem, shown.problems)))
    return exits.of_problems(shown.problems)


def show_tables(proposal: Proposal, problems: Sequence[Problem], context: CommandContext) -> Exit:
    """Print the proposal as TOML tables on stdout, and the problems on stderr. Return the exit code
    for the problems (`exits.of_problems`).
    """
    console, voice = context.console, context.voice
    tables = tables_of(proposal, voice.say)
    console.print(line(row) for row in tables.splitlines())
    if not tables:
        note(context, Text("No domain needs a certificate."))
    console.print_stderr(chain.from_iterable(map(voice.problem, problems)))
    log_problems(problems, console.run_log)
    return exits.of_problems(problems)


@click.command("doctor")
@names_argument
@json_option
@click.option("--report", "as_report", is_flag=True, help=_REPORT)
@click.pass_obj
def doctor(
    context: CommandContext, names: tuple[str, ...], *, as_json: bool, as_report: bool
) -> Exit:
    """Check everything that a run depends on, with a fix for each problem.

    Checks the clock, the keys and their permissions, zones and their delegation, CAA and DNSSEC,
    resolvers, domains and their CNAMEs, certificates, files, the state and its key, the schedule.
    Changes nothing. Exits 1 on an error.

    With --report, prints the facts for an issue about a service instead. Without a
    configuration file the keys come from the environment.
    """
    if as_report:
        if names or as_json:
            raise UsageMistake(Text("--report cannot be combined with names or --json"))
        return show_survey(context)

    with running(context, read_settings(context, names), reads_only=True) as (workspace, run):
        findings = examine(workspace, run, schedulers(context.console.environ))
    return show_findings(findings, context, as_json=as_json)


def show_survey(context: CommandContext) -> Exit:
    """Print the report for an issue. Then raise `CertferryError` if one or more services answered
    no call successfully.
    """
    settings, console = settings_with_accounts(context, from_keys), context.console
    with workspace_of(context, settings) as workspace:
        reports = reports_of(workspace, Run())
        note(context, Text("querying the accounts…"))
        survey = list(reports)
    console.print(discover_text.report(survey, now(), context.voice))
    outside = [answers.service for answers in survey if not answers.credentials_work]
    if outside:
        raise CertferryError(
            Text("{services} answered no call successfully", services=outside),
            hint=Text(
                "the report shows the answers: 401 and 10002 to 10004 point to the keys, 403 to"
                " the clock or the permissions of the keys; without a connection, check network"
                " and proxy"
            ),
        )
    return Exit.OK


def show_findings(findings: Sequence[Problem], context: CommandContext, *, as_json: bool) -> Exit:
    """Print the findings; without `as_json`, `-q` limits the output to errors. Return the exit code
    for the findings (`exits.of_problems`).
    """
    console = context.console
    log_findings(findings, console.run_log)
    if as_json:
        console.print_json(documents.of_findings(findings))
    elif context.quiet:
        console.print_stderr(discover_text.error_lines(findings, console.voice))
    else:
        console.print_wrapped(discover_text.lines(findings, console.voice))
    return exits.of_problems(findings)
