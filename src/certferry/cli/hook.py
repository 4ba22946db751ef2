"""`certferry hook`: the command that another ACME client runs after a renewal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from certferry.cli import exits, options
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.schedule import options_said, program_reading
from certferry.cli.selection import workspace_of
from certferry.cli.sync import show_report
from certferry.config.env_files import environment_with
from certferry.config.load import find_file
from certferry.core.observed.stored_runs import RunKind, RunSource
from certferry.migration.renewed import CLIENTS
from certferry.present.progress import progress_on_stdout
from certferry.reconcile.run import Run, WaitLimit
from certferry.text import Text
from certferry.wiring.machine import install_deploy_hook
from certferry.wiring.run_row import RunOptions
from certferry.wiring.runner import RunInProgress
from certferry.wiring.selection import hook_modes, meant_by
from certferry.wiring.settings import load_checked
from certferry.wiring.workspace import who_runs

_ENV_FILE = "Take keys from a file with KEY=value lines, mode 0600. Can be repeated."
_INSTALL = "Write acme.sh's deploy hook `certferry`, which runs this command with the same options."
_HOME = "With --install: acme.sh's home. Default: LE_WORKING_DIR, or ~/.acme.sh."


class _Mode(click.Choice[str]):
    """A mode of the hook, or the label of an account in the configuration file."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the mode or label. Raise `click.BadParameter` for any other word, and
        `ConfigError` if the configuration file cannot be loaded.
        """
        if value not in self.choices and ctx is not None:
            context: options.CommandContext = ctx.obj
            chosen, environ = context.config, context.console.environ
            if find_file(chosen, environ) and value in load_checked(chosen, environ).accounts:
                return value
        return super().convert(value, param, ctx)


@click.command("hook")
@click.argument("mode", metavar="MODE", type=_Mode(hook_modes()))
@options.wait_option(
    "Stop waiting after SECONDS. Default: wait to the end; 90 seconds for lego, which limits its"
    " hooks."
)
@options.no_wait_option
@options.path_option("--env-file", _ENV_FILE, multiple=True)
@click.option("--install", is_flag=True, help=_INSTALL)
@options.path_option("--home", _HOME, "DIR")
@click.pass_context
def command(
    ctx: click.Context,
    mode: str,
    *,
    wait: int | None,
    no_wait: bool,
    env_file: tuple[Path, ...],
    install: bool,
    home: Path | None,
) -> Exit:
    """Deploy a certificate that another ACME client has just renewed; run by the client.

    MODE is the client (acme.sh, certbot or lego) whose variables identify the certificate; or the
    type or label of an account with domains, for every declared certificate with a deployment
    there.

    With a configuration, syncs the declared certificate with the same files (or copies), else the
    one with the same names. Without a configuration or declared certificates, the client's
    certificate goes to the CDN domains that it covers, with keys from the environment (`certferry
    help adapters` lists the names).

    Changes still in progress at the end count as success: the hook exits 0, and the next run
    finishes them if the certificate is declared.
    """
    context: options.CommandContext = ctx.obj
    wait_limit = options.wait_limit_of(wait, no_wait=no_wait)
    if wait_limit.limit is None and mode in CLIENTS:
        wait_limit = WaitLimit(CLIENTS[mode].patience)
    if install and mode != "acme.sh":
        raise UsageMistake(
            Text("--install is only for acme.sh; {mode} needs no file", mode=mode), ctx
        )
    if home and not install:
        raise UsageMistake(Text("--home needs --install"), ctx)
    if install:
        hook_options = [part for file in env_file for part in ("--env-file", str(file.absolute()))]
        hook_options += [] if wait is None else ["--wait", str(wait)]
        hook_options += ["--no-wait"] if no_wait else []
        return _install(context, home, [*_this_program(ctx), "hook", mode, *hook_options])
    return _sync(mode, context, wait_limit, env_file)


def _sync(
    mode: str, context: options.CommandContext, wait_limit: WaitLimit, env_file: Sequence[Path]
) -> Exit:
    environ = environment_with(context.console.environ, env_file)
    meant = meant_by(mode, context.config, environ)
    run = Run(who_runs(meant.settings), progress_on_stdout(context.console, context.verbosity))
    wanted = RunOptions(RunKind.SYNC, RunSource.HOOK, is_whole=False, wait_limit=wait_limit)
    with workspace_of(context, meant.settings, reads_only=False) as workspace:
        report = RunInProgress(workspace, run, wanted).sync()
    show_report(report, context, as_json=False, undeclared_of=meant.undeclared_of)
    return exits.of_hook(report)


def _install(context: options.CommandContext, home: Path | None, command: Sequence[str]) -> Exit:
    path, changed = install_deploy_hook(home, command, context.console.environ)
    outcome = Text("written: {path}") if changed else Text("unchanged: {path}")
    options.say_changed(context, "hook.install", outcome.filled(path=path))
    return options.say(context, Text("acme.sh --deploy -d NAME --deploy-hook certferry"))


def _this_program(ctx: click.Context) -> list[str]:
    """Return the words of a command that starts this installation of certferry from any directory,
    with the same configuration file and global options.
    """
    console = ctx.obj.console
    file = find_file(ctx.obj.config, console.environ)
    return [*program_reading(file), *options_said(ctx.find_root(), console)]
