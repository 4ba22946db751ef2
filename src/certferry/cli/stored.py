"""`certferry history` and `certferry export`: what the state holds of a certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, WholeNumber, json_option, name_argument
from certferry.errors import CertificateError
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.wiring.workspace import Workspace

_MOST = 50


@click.command("history")
@name_argument(required=False)
@click.option(
    "--limit",
    metavar="N",
    type=WholeNumber(min=1, max=1_000_000),
    default=_MOST,
    show_default=True,
    help="Show no more than this.",
)
@json_option
@click.pass_obj
def history(front: Front, name: str | None, *, limit: int, as_json: bool) -> Exit:
    """Show the history of changes, newest first.

    Without NAME: every certificate there has been.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.wiring.workspace import Workspace

    with Workspace(settings_or_defaults(front), reads_only=True) as workspace:
        return show_history(workspace, name, limit, front.console, as_json=as_json)


def show_history(
    workspace: Workspace, name: str | None, limit: int, console: Console, *, as_json: bool
) -> Exit:
    """Print what the state holds. Raises `ConfigError` for a name that nothing is known of."""
    from certferry.present import history_text
    from certferry.wiring.selection import must_be_known

    entries = workspace.state.history(name, limit)
    if name is not None and not entries:
        entries = workspace.state.history(must_be_known(name, workspace), limit)
    if as_json:
        console.print_json(history_text.document(entries))
    else:
        console.print_wrapped(history_text.lines(entries, console.voice))
    return Exit.OK


@click.command("export")
@name_argument()
@click.option(
    "--dir",
    "directory",
    metavar="D",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write. A directory that does not exist is created, readable by you alone.",
)
@click.pass_obj
def export(front: Front, name: str, directory: Path) -> Exit:
    """Write a certificate and its key to files.

    They are called cert.pem, chain.pem, fullchain.pem and privkey.pem. Each is replaced as a whole;
    only its owner can read the key.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.wiring.workspace import Workspace

    with Workspace(settings_or_defaults(front), reads_only=True) as workspace:
        return write_files(workspace, name, directory, front.console)


def write_files(workspace: Workspace, name: str, directory: Path, console: Console) -> Exit:
    """Write the newest certificate of a lineage.

    Raises `ConfigError` for a name that nothing is known of, `CertificateError` when there is no
    certificate yet, `CertferryError` when a file cannot be written.
    """
    from certferry.present.log_entries import log_export
    from certferry.wiring.machine import write_bundle
    from certferry.wiring.selection import must_be_known

    name = must_be_known(name, workspace)
    versions = workspace.state.versions(name)
    if not versions:
        hint = Text("run `certferry sync {name}`", name=name)
        raise CertificateError(Text("{name}: there is no certificate yet", name=name), hint=hint)
    bundle = workspace.state.bundle(name, versions[0].number)
    paths = write_bundle(bundle, directory)
    log_export(name, paths, bundle.certificate.fingerprint, console.run_log)
    console.print(line(str(path)) for path in paths)
    return Exit.OK
