"""`certferry doctor`: look at everything that a run relies on, before it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import Front, json_option, names_argument, note
from certferry.errors import CertferryError
from certferry.text import Text
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.problem import Problem


@click.command("doctor")
@names_argument
@json_option
@click.option(
    "--report",
    "as_report",
    is_flag=True,
    help="Print how Qiniu and DNSPod answer reading calls, for an issue: without keys and names.",
)
@click.pass_obj
def command(front: Front, names: tuple[str, ...], *, as_json: bool, as_report: bool) -> Exit:
    """Check everything a run depends on, and say how to fix what is wrong.

    The clock, the keys and what they may do, zones and their delegation, CAA and DNSSEC, resolvers,
    domains and their CNAMEs, certificates, files, the state and its key, the schedule. Nothing is
    changed. Exits with 1 when an error is found.

    With --report it prints what an issue about Qiniu or DNSPod needs instead. Without a
    configuration file the keys are taken from the environment.
    """
    if as_report:
        if names or as_json:
            raise UsageMistake(Text("--report takes neither names nor --json"))
        return show_report(front)
    from certferry.cli.selection import read_settings, running
    from certferry.wiring.doctor import examine
    from certferry.wiring.machine import schedulers

    with running(front, read_settings(front, names), reads_only=True) as (workspace, run):
        findings = examine(workspace, run, schedulers(front.console.environ))
    return show_findings(findings, front, as_json=as_json)


def show_report(front: Front) -> Exit:
    """Print the text for an issue. Raises `CertferryError` after it where an account answered no
    call with success: the text says little then.
    """
    from certferry.cli.selection import settings_with_accounts, workspace_of
    from certferry.present import doctor_text
    from certferry.reconcile.run import Run
    from certferry.wiring.doctor import reports_of
    from certferry.wiring.settings import from_keys

    settings, console = settings_with_accounts(front, from_keys), front.console
    with workspace_of(front, settings) as workspace:
        reports = reports_of(workspace, Run())
        note(front, Text("asking the accounts…"))
        found = list(reports)
    console.print(doctor_text.report(found, now(), front.voice))
    outside = [one.service for one in found if not one.credentials_work]
    if outside:
        raise CertferryError(
            Text("{services} answered no call with success", services=outside),
            hint=Text(
                "the report says with what: 401 and 10002 to 10004 mean the keys, 403 the clock or"
                " the rights of the keys; without a connection, look at network and proxy"
            ),
        )
    return Exit.OK


def show_findings(findings: Sequence[Problem], front: Front, *, as_json: bool) -> Exit:
    """Print the findings; with `--quiet` only the errors."""
    from certferry.present import doctor_text, documents
    from certferry.present.progress import log_findings

    console = front.console
    log_findings(findings, console.run_log)
    if as_json:
        console.print_json(documents.of_findings(findings, console.voice))
    elif front.quiet:
        console.print_stderr(doctor_text.error_lines(findings, console.voice))
    else:
        console.print_wrapped(doctor_text.lines(findings, console.voice))
    return exits.of_problems(findings)
