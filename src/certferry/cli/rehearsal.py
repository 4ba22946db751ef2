"""`certferry sync --rehearse`: try what would be ordered at the CA's staging directory."""

from __future__ import annotations

from datetime import UTC, datetime

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front


def rehearsed(front: Front, names: tuple[str, ...], *, renew: bool, as_json: bool) -> Exit:
    """Rehearse, tell what came of it, then what a run would do."""
    from certferry.cli.selection import read_settings
    from certferry.present import plan_document, rehearsal_text, report_text
    from certferry.present.progress import progress_on
    from certferry.wiring.rehearsal import rehearse, rehearsing
    from certferry.wiring.session import open_session

    console = front.console
    settings = read_settings(front, names)
    at_staging = rehearsing(settings)
    with (
        progress_on(console, front.verbosity, _now) as progress,
        open_session(settings, progress=progress, language=front.voice.language) as session,
    ):
        found = rehearse(session, at_staging, renew=renew)
    if as_json:
        console.hand_out(plan_document.of_rehearsal(found.report, found.plans, console.voice))
    elif front.quiet:
        console.remark(report_text.what_is_wrong(found.report, console.voice))
    else:
        console.tell(rehearsal_text.told(found.report, found.plans, console.voice))
    code = exits.of_report(found.report)
    return exits.of_plans(found.plans, check=False) if code is Exit.OK else code


def _now() -> datetime:
    return datetime.now(UTC)
