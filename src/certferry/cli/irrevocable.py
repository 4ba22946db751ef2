"""Whether something that cannot be undone is to be done: asked, or said by `--yes`."""

from __future__ import annotations

import click

from certferry.cli.complaints import UsageMistake
from certferry.cli.exits import Exit
from certferry.cli.options import Front
from certferry.present.layout import line
from certferry.text import Text

yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


def is_wanted(front: Front, question: Text, *, yes: bool) -> bool:
    """Ask whether to go on, unless `--yes` says so. Raises `UsageMistake` without a terminal."""
    from certferry.cli.interview import interview_at

    if yes:
        return True
    interview = interview_at(front.console)
    if interview is None:
        raise UsageMistake(
            Text("this cannot be undone, and there is no terminal to ask at; --yes does it")
        )
    return interview.confirm(question)


def say(front: Front, said: Text) -> Exit:
    """Say what has become of it, unless only what is wrong is to be told."""
    if not front.quiet:
        front.console.show([line(front.voice.say(said))])
    return Exit.OK
