"""Commands on the stored state: `certferry history` and `export` for a certificate, `backup` and
`restore` for the whole state with its key.
"""

from __future__ import annotations

from pathlib import Path

import click

from certferry.cli.exits import Exit
from certferry.cli.options import (
    CommandContext,
    json_option,
    name_argument,
    number_option,
    say,
    say_changed,
)
from certferry.cli.selection import workspace_of
from certferry.config.files import read_file
from certferry.config.load import load_state
from certferry.config.write import drafted
from certferry.errors import CertificateError, ConfigError
from certferry.present import documents, status_text
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.present.progress import log_export
from certferry.text import Text
from certferry.wiring.machine import write_bundle
from certferry.wiring.selection import history_of, must_be_known
from certferry.wiring.state import archive_of, as_caller, restored
from certferry.wiring.workspace import Workspace


@click.command("history")
@name_argument(required=False)
@number_option(
    "--limit", "N", 1, 1_000_000, "Show at most this many entries.", default=50, show_default=True
)
@click.option(
    "--verify",
    is_flag=True,
    help="Report the first entry that was changed, removed or inserted, and exit 1.",
)
@json_option
@click.pass_obj
def history(
    context: CommandContext, name: str | None, *, limit: int, verify: bool, as_json: bool
) -> Exit:
    """Show the history of changes, newest first.

    Without NAME: every certificate so far.
    """
    with workspace_of(context) as workspace:
        if verify:
            return verify_history(workspace, name, context.console, as_json=as_json)
        return show_history(workspace, name, limit, context.console, as_json=as_json)


def show_history(
    workspace: Workspace, name: str | None, limit: int, console: Console, *, as_json: bool
) -> Exit:
    """Print the newest entries of the history, at most `limit`. Raise `ConfigError` for an unknown
    name.
    """
    entries = history_of(name, limit, workspace)
    if as_json:
        console.print_json(documents.of_history(entries))
    else:
        console.print_wrapped(status_text.history(entries, console.voice))
    return Exit.OK


def verify_history(
    workspace: Workspace, name: str | None, console: Console, *, as_json: bool
) -> Exit:
    """Print whether the stored history is unchanged, and return FAILED for a changed history. Raise
    `ConfigError` for an unknown name.
    """
    verified = workspace.state.verify_history(name)
    if name is not None and not (verified.entries or verified.breaks):
        verified = workspace.state.verify_history(must_be_known(name, workspace))
    if as_json:
        console.print_json(documents.of_verified(verified))
    else:
        console.print_wrapped(status_text.verified(verified, console.voice))
    return Exit.FAILED if verified.breaks else Exit.OK


@click.command("export")
@name_argument()
@click.option(
    "--dir",
    "directory",
    metavar="D",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The directory to write to. A missing directory is created, readable by you alone.",
)
@click.pass_obj
def export(context: CommandContext, name: str, directory: Path) -> Exit:
    """Write a certificate and its key to files.

    The files are cert.pem, chain.pem, fullchain.pem and privkey.pem. Each file is replaced
    atomically; only its owner can read the key.
    """
    with workspace_of(context) as workspace:
        return write_files(workspace, name, directory, context.console)


def write_files(workspace: Workspace, name: str, directory: Path, console: Console) -> Exit:
    """Write the newest certificate of `name` and its key to files, and print the files' paths.

    Raise `ConfigError` for an unknown name, `CertificateError` if there is no certificate yet, and
    `CertferryError` if the state cannot be read or a file cannot be written.
    """
    name = must_be_known(name, workspace)
    versions = workspace.state.versions(name)
    if not versions:
        hint = Text("run `certferry sync {name}`", name=name)
        raise CertificateError(Text("{name}: there is no certificate yet", name=name), hint=hint)
    bundle = workspace.state.bundle(name, versions[0].number)
    with as_caller():
        paths = write_bundle(bundle, directory)
    log_export(name, paths, bundle.certificate.fingerprint, console.run_log)
    console.print(line(str(path)) for path in paths)
    return Exit.OK


file_argument = click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, readable=False)
)


@click.command("backup")
@file_argument
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.pass_obj
def backup(context: CommandContext, file: Path, *, force: bool) -> Exit:
    """Write the state and its key into one file (mode 0600), even during runs.

    FILE contains the private keys and the key that opens them: protect FILE accordingly. Before
    writing, certferry opens every key as a test. The configuration and the accounts' keys are not
    included.
    """
    archive, lineages = archive_of(load_state(context.config, context.console.environ))
    with as_caller(), drafted(file, archive, Text("choose another place")) as draft:
        if force:
            draft.put()
        else:
            draft.put_new()
    message = Text(
        "Written (mode 0600): {path}, with {names}", path=file, names=list(lineages) or "—"
    )
    say_changed(context, "state.backup", message)
    return say(
        context,
        Text("The backup opens your private keys: keep the file where only you can read it."),
    )


@click.command("restore")
@file_argument
@click.pass_obj
def restore(context: CommandContext, file: Path) -> Exit:
    """Restore the state and its key from a backup.

    Restores to the places in the configuration file, also on a new machine. Verifies everything in
    FILE first. Keeps existing files beside the new ones, as state.db.bak and secret.key.bak. While
    another certferry has the state open, changes nothing and exits 75.
    """
    settings = load_state(context.config, context.console.environ)
    try:
        archive, _ = read_file(file, private=True)
    except ConfigError as error:
        problem = Text("{path} {problem}", path=file, problem=error.message)
        raise ConfigError(problem, hint=error.hint) from error
    done = restored(archive, file, settings)
    message = Text(
        "Restored to {path}: {names}, as of {moment}",
        path=settings.state.path,
        names=list(done.lineages) or "—",
        moment=done.made_at,
    )
    say_changed(context, "state.restore", message)
    kept = [Text("The previous file is kept: {path}", path=path) for path in done.kept]
    return say(context, *kept, Text("To see the changes: `certferry plan`"))
