"""`certferry doctor`: look at everything that a run relies on, before it does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front, json_option, names_argument

if TYPE_CHECKING:
    from certferry.core.findings import Finding


@click.command("doctor")
@names_argument
@json_option
@click.pass_obj
def command(front: Front, names: tuple[str, ...], *, as_json: bool) -> Exit:
    """Check everything a run depends on, and say how to fix what is wrong.

    The clock, the keys and what they may do, zones and their delegation, CAA and DNSSEC, resolvers,
    domains and their CNAMEs, certificates, files, the state and its key, the schedule. Nothing is
    changed. Exits with 1 when an error is found.
    """
    from certferry.cli.selection import read_settings
    from certferry.present.progress import progress_on
    from certferry.wiring.doctor import open_to_examine
    from certferry.wiring.machine import schedulers

    settings = read_settings(front, names)
    with (
        progress_on(front.console, front.verbosity, _now, changes_nothing=True) as progress,
        open_to_examine(settings, progress=progress, language=front.voice.language) as session,
    ):
        findings = session.examine(schedulers(front.console.environ))
    return show_findings(findings, front, as_json=as_json)


def show_findings(findings: Sequence[Finding], front: Front, *, as_json: bool) -> Exit:
    """Print the findings; with `--quiet` only the errors."""
    from certferry.present import doctor_text, documents
    from certferry.present.log_entries import log_findings

    console = front.console
    log_findings(findings, console.run_log)
    if as_json:
        console.hand_out(documents.of_findings(findings, console.voice))
    elif front.quiet:
        console.remark(doctor_text.what_is_wrong(findings, console.voice))
    else:
        console.tell(doctor_text.told(findings, console.voice))
    return exits.of_findings(findings)


def _now() -> datetime:
    return datetime.now(UTC)
