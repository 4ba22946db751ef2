"""`certferry hook`: what another ACME client runs when it has renewed a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certferry.cli import exits
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import (
    Front,
    no_wait_option,
    say,
    say_changed,
    wait_limit_of,
    wait_option,
)
from certferry.cli.sync import show_report
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.core.planning.report import SyncReport
    from certferry.reconcile.run import WaitLimit


MODES = ("acme.sh", "certbot", "lego", "qiniu")


@click.command("hook")
@click.argument("mode", metavar="MODE", type=click.Choice(MODES))
@wait_option(
    "Stop waiting after SECONDS. Default: wait to the end; for lego, which would end the"
    " hook, 90 seconds."
)
@no_wait_option
@click.option(
    "--env-file",
    "env_files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    help="Take keys from a file with KEY=value lines, mode 0600. May be given several times.",
)
@click.option(
    "--install",
    is_flag=True,
    help="Write acme.sh's deploy hook `certferry`, which runs this hook with these options.",
)
@click.option(
    "--home",
    metavar="DIR",
    type=click.Path(path_type=Path, readable=False),
    help="With --install: acme.sh's home. Default: LE_WORKING_DIR, or ~/.acme.sh.",
)
@click.pass_context
def command(
    ctx: click.Context,
    mode: str,
    *,
    wait: int | None,
    no_wait: bool,
    env_files: tuple[Path, ...],
    install: bool,
    home: Path | None,
) -> Exit:
    """Deploy what another ACME client has just renewed; for that client to run.

    MODE is the client, acme.sh, certbot or lego, whose variables say which certificate it is; or
    qiniu, for every declared certificate that is deployed to Qiniu.

    With a configuration it syncs the declared certificate with the same files (or copies), else the
    one with the same names. Without one, or with one that declares no certificates, the client's
    certificate goes to the CDN domains that it covers, with QINIU_ACCESS_KEY and QINIU_SECRET_KEY
    from the environment.

    Changes that are still in progress at the end are no failure to the client: the hook exits with
    0, and the next run finishes them if the certificate is declared.
    """
    front: Front = ctx.obj
    wait_limit = _wait_limit(mode, wait, no_wait=no_wait)
    if install and mode != "acme.sh":
        raise UsageMistake(Text("--install is for acme.sh; {mode} needs no file", mode=mode), ctx)
    if home and not install:
        raise UsageMistake(Text("--home needs --install"), ctx)
    if install:
        options = [part for file in env_files for part in ("--env-file", str(file.absolute()))]
        options += [] if wait is None else ["--wait", str(wait)]
        options += ["--no-wait"] if no_wait else []
        return _install(front, home, [*_this_program(ctx), "hook", mode, *options])
    return _sync(mode, front, wait_limit, env_files)


def _wait_limit(mode: str, wait: int | None, *, no_wait: bool) -> WaitLimit:
    from certferry.migration.renewed import CLIENTS
    from certferry.reconcile.run import WaitLimit

    wait_limit = wait_limit_of(wait, no_wait=no_wait)
    if wait_limit.limit is None and mode in CLIENTS:
        return WaitLimit(CLIENTS[mode].patience)
    return wait_limit


def _sync(mode: str, front: Front, wait_limit: WaitLimit, env_files: Sequence[Path]) -> Exit:
    from certferry.cli.selection import workspace_of
    from certferry.config.env_files import environment_with
    from certferry.present.progress import progress_on_stdout
    from certferry.reconcile.reconciler import Reconciler
    from certferry.reconcile.run import Run
    from certferry.wiring.selection import meant_by
    from certferry.wiring.workspace import who_runs

    environ = environment_with(front.console.environ, env_files)
    meant = meant_by(mode, front.config, environ)
    run = Run(who_runs(), progress_on_stdout(front.console, front.verbosity))
    with workspace_of(front, meant.settings, reads_only=False) as workspace:

        def sync() -> SyncReport:
            return Reconciler(workspace.connect(run)).sync(workspace.certificates, wait_limit)

        report = workspace.notifications(run).notify_of(sync)
    show_report(report, front, as_json=False, undeclared_of=meant.undeclared_of)
    return exits.of_hook(report)


def _install(front: Front, home: Path | None, command: Sequence[str]) -> Exit:
    from certferry.wiring.machine import install_deploy_hook

    path, changed = install_deploy_hook(home, command, front.console.environ)
    outcome = Text("written: {path}") if changed else Text("unchanged: {path}")
    say_changed(front, "hook.install", outcome.filled(path=path))
    return say(front, Text("acme.sh --deploy -d NAME --deploy-hook certferry"))


def _this_program(ctx: click.Context) -> list[str]:
    """Return the command that runs now, with its global options, for a run from anywhere."""
    from certferry.cli.schedule import options_said, program_reading
    from certferry.config.load import find_file

    console = ctx.obj.console
    file = find_file(ctx.obj.config, console.environ)
    return [*program_reading(file), *options_said(ctx.find_root(), console)]
