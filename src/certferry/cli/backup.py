"""`certferry backup`: the state and its key in one file, while runs go on."""

from __future__ import annotations

from pathlib import Path

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, say


@click.command("backup")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.pass_obj
def command(front: Front, file: Path, *, force: bool) -> Exit:
    """Write the state and its key into one file (mode 0600), while runs go on.

    FILE holds the private keys and the key that opens them: protect it as you protect these. Before
    it is written, every key in it is opened as a test. The configuration and the keys of the
    accounts are not in it.
    """
    from certferry.config.load import load_state
    from certferry.config.write import drafted
    from certferry.present.log_entries import log_change
    from certferry.text import Text
    from certferry.wiring.backup import archive_of

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
