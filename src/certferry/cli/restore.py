"""`certferry restore`: what `certferry backup` has written, put in its place."""

from __future__ import annotations

from pathlib import Path

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, say


@click.command("restore")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@click.pass_obj
def command(front: Front, file: Path) -> Exit:
    """Put the state and the key of a backup in their places.

    They go where the configuration file says, on a new machine too. Everything in FILE is verified
    first. What is there is kept beside it, as state.db.bak and secret.key.bak. While another
    certferry has the state open nothing is changed, and the exit code is 75.
    """
    from certferry.config.files import read_private_file
    from certferry.config.load import load_state
    from certferry.errors import ConfigError
    from certferry.present.log_entries import log_change
    from certferry.text import Text
    from certferry.wiring.backup import restored

    state = load_state(front.config, front.console.environ)
    try:
        archive = read_private_file(file)
    except ConfigError as error:
        raise ConfigError(
            Text("{path} {problem}", path=file, problem=error.message), hint=error.hint
        ) from error
    done = restored(archive, file, state)
    said = Text(
        "Restored to {path}: {names}, as of {moment}",
        path=state.path,
        names=list(done.lineages) or "—",
        moment=done.made_at,
    )
    log_change("state.restore", said, front.console.run_log)
    kept = [Text("What was there is kept: {path}", path=path) for path in done.kept]
    return say(front, said, *kept, Text("What is to be done: `certferry plan`"))
