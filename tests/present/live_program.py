"""A run shown on its terminal, with a step for each line of input."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime, timedelta

from certferry.core.events import Activity, Event, StepEnded
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.reasons import Waiting
from certferry.present.console import Verbosity, standard_console
from certferry.present.layout import line
from certferry.present.progress import progress_on
from certferry.present.run_log import begin_logging
from certferry.text import Text

# In the morning, so that the hours after belong to the same day: on another day the date is shown.
BEGIN = datetime(2026, 11, 12, 9, 30, tzinfo=UTC)


def main() -> None:
    """Show a run of two certificates, then leave result lines behind."""
    begin_logging(logging.WARNING)
    console = standard_console(os.environ)
    hour = timedelta(hours=1)
    started = time.monotonic()
    wait = Waiting(Text("the target is carrying out the change"), BEGIN, BEGIN, BEGIN + hour)
    deploy = StepOutcome(
        Action.DEPLOY, Outcome.WAITING, wait.why, "qiniu", "img.example.com", waiting=wait
    )
    events: list[Event] = [
        Activity("img", Text("waiting for the challenge to appear at {all}", all="ns1"), BEGIN),
        StepEnded("img", deploy),
        Activity("图片", Text("等待所有权威域名服务器显示挑战记录"), BEGIN, BEGIN + hour),
    ]
    console.print([line("before")])
    console.flush()

    def now() -> datetime:
        return BEGIN + timedelta(seconds=time.monotonic() - started)

    with progress_on(console, Verbosity.NORMAL, now) as progress:
        for event in events:
            progress(event)
            sys.stdin.readline()
        logging.getLogger("certferry").warning("a lease could not be extended")
        sys.stdin.readline()
    console.print([line("img: waiting")])


if __name__ == "__main__":
    main()
