"""What became of a run, as its command tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front

if TYPE_CHECKING:
    from certferry.core.report import SyncReport


def show_report(
    report: SyncReport, front: Front, *, as_json: bool, undeclared_of: str | None = None
) -> Exit:
    """Tell what became of a run. Told to be quiet, only what failed or was refused.

    `undeclared_of` is the client whose certificate it was, where that is declared nowhere.
    """
    from certferry.present import documents, report_text
    from certferry.present.log_entries import log_unchanged

    console = front.console
    log_unchanged(report, console.run_log)
    if as_json:
        console.hand_out(documents.of_report(report, console.voice))
    elif front.quiet:
        console.remark(report_text.what_is_wrong(report, console.voice))
    else:
        console.tell(report_text.told(report, console.voice, undeclared_of))
    return exits.of_report(report)
