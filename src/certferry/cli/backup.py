"""`certferry backup` and `certferry restore`: the state and its key in one file."""

from __future__ import annotations

from pathlib import Path

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, say
from certferry.text import Text

file_argument = click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, readable=False)
)


@click.command("backup")
@file_argument
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.pass_obj
def backup(front: Front, file: Path, *, force: bool) -> Exit:
    """Write the state and its key into one file (mode 0600), while runs go on.

    FILE holds the private keys and the key that opens them: protect it as you protect these. Before
    it is written, every key in it is opened as a test. The configuration and the keys of the
    accounts are not in it.
    """
    from certferry.config.load import load_state
    from certferry.config.write import drafted
    from certferry.present.log_entries import log_change
    from certferry.wiring.machine import archive_of

    state = load_state(front.config, front.console.environ)
    archive, lineages = archive_of(state)
    with drafted(file, archive, Text("name another place")) as draft:
        if force:
            draft.put()
        else:
            draft.put_new()
    said = Text("Written (mode 0600): {path}, with {names}", path=file, names=list(lineages) or "—")
    log_change("state.backup", said, front.console.run_log)
    kept = Text("It opens your private keys: keep it where only you can read it.")
    return say(front, said, kept)


@click.command("restore")
@file_argument
@click.pass_obj
def restore(front: Front, file: Path) -> Exit:
    """Put the state and the key of a backup in their places.

    They go where the configuration file says, on a new machine too. Everything in FILE is verified
    first. What is there is kept beside it, as state.db.bak and secret.key.bak. While another
    certferry has the state open nothing is changed, and the exit code is 75.
    """
    from certferry.config.files import read_private_file
    from certferry.config.load import load_state
    from certferry.errors import ConfigError
    from certferry.present.log_entries import log_change
    from certferry.wiring.machine import restored

    state = load_state(front.config, front.console.environ)
    try:
        archive = read_private_file(file)
    except ConfigError as error:
        problem = Text("{path} {problem}", path=file, problem=error.message)
        raise ConfigError(problem, hint=error.hint) from error
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
