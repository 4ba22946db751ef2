"""The result of a lineage or a run, in one word."""

from __future__ import annotations

from enum import StrEnum

from certferry import errors
from certferry.core.planning.report import LineageReport, Outcome, SyncReport


class Result(StrEnum):
    """Stable words in JSON documents. `WAITING`: a later run goes on."""

    IN_ORDER = "in_order"
    WAITING = "waiting"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"
    ELSEWHERE = "elsewhere"


_WORST_FIRST = (Result.FAILED, Result.REFUSED, Result.WAITING)


def of_lineage(report: LineageReport) -> Result:
    """Judge a certificate by the worst outcome; `STOPPED` if the run stopped before the lineage."""
    if not report.was_observed:
        return Result.STOPPED
    if not all(_is_of_the_database(step.error) for step in report.having(Outcome.FAILED)):
        return Result.FAILED
    if report.having(Outcome.REFUSED):
        return Result.REFUSED
    if report.ok and report.is_elsewhere:
        return Result.ELSEWHERE
    return Result.IN_ORDER if report.ok else Result.WAITING


def _is_of_the_database(error: errors.Reported | None) -> bool:
    """Return whether only the state's server was unavailable, so the next run goes on."""
    return isinstance(error, errors.DatabaseUnavailable)


def of_run(report: SyncReport) -> Result:
    """Judge a run by the worst certificate; a stopped run is `STOPPED`. Certificates left to
    another host are in order.
    """
    if not report.complete:
        return Result.STOPPED
    if report.problem is not None and not _is_of_the_database(report.problem):
        return Result.FAILED
    results = {of_lineage(lineage) for lineage in report.lineages}
    if report.problem is not None:
        results.add(Result.WAITING)
    return next((result for result in _WORST_FIRST if result in results), Result.IN_ORDER)
