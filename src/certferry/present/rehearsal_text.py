"""What became of a rehearsal, as a person reads it, and what a run would do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from certferry.core.planning.plan import Plan
from certferry.core.planning.report import SyncReport
from certferry.present import plan_text, report_text
from certferry.present.language import Voice
from certferry.present.layout import Line, line
from certferry.present.vocabulary import one_or_many
from certferry.text import Text


def lines(report: SyncReport, plans: Sequence[Plan], voice: Voice) -> Iterator[Line]:
    """Write how each rehearsed order ended, then the plans."""
    yield from report_text.lineages(report, voice)
    yield line(voice.say(_conclusion(report)))
    yield line()
    yield from plan_text.lines(plans, voice)


def _conclusion(report: SyncReport) -> Text:
    if not report.lineages:
        return Text(
            "Nothing was rehearsed: no certificate would be ordered (`--renew` orders all)."
        )
    good = sum(lineage.ok for lineage in report.lineages)
    bad = len(report.lineages) - good
    if bad:
        return one_or_many(
            bad,
            Text("The rehearsal of 1 certificate did not succeed; nothing was deployed."),
            Text(
                "The rehearsals of {count} certificates did not succeed; nothing was deployed.",
                count=bad,
            ),
        )
    return one_or_many(
        good,
        Text(
            "1 certificate was rehearsed; nothing of it was kept. What `certferry sync` would do:"
        ),
        Text(
            "{count} certificates were rehearsed; nothing of them was kept. What `certferry sync`"
            " would do:",
            count=good,
        ),
    )
