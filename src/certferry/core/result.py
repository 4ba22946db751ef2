"""What became of a run, or of one certificate in it, in one word for programs."""

from __future__ import annotations

from enum import StrEnum

from certferry.core.report import LineageReport, Outcome, SyncReport


class Result(StrEnum):
    """Stable words; they appear in JSON. What is not done yet waits for a later run."""

    IN_ORDER = "in_order"
    WAITING = "waiting"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"


_WORST_FIRST = (Result.FAILED, Result.REFUSED, Result.WAITING)


def of_lineage(report: LineageReport) -> Result:
    """Judge one certificate, by its worst outcome; but first, whether the run was stopped before it
    looked at it.
    """
    if not report.looked_at:
        return Result.STOPPED
    if report.having(Outcome.FAILED):
        return Result.FAILED
    if report.having(Outcome.REFUSED):
        return Result.REFUSED
    return Result.IN_ORDER if report.ok else Result.WAITING


def of_run(report: SyncReport) -> Result:
    """Judge a run, by its worst certificate; but first, whether it was stopped."""
    if not report.complete:
        return Result.STOPPED
    if report.problem is not None:
        return Result.FAILED
    found = {of_lineage(lineage) for lineage in report.lineages}
    return next((result for result in _WORST_FIRST if result in found), Result.IN_ORDER)
