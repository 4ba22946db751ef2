"""`certferry completion`: scripts that complete certferry's commands, options and certificates."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from certferry.cli.exits import Exit
from certferry.cli.options import COMPLETION, PROGRAM, Front
from certferry.present.console import Console

_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}

_HELP = """Print a script that completes certferry's commands in a shell.

\b
bash: certferry completion bash > ~/.local/share/bash-completion/completions/certferry
zsh:  certferry completion zsh > "${fpath[1]}/_certferry"
fish: certferry completion fish > ~/.config/fish/completions/certferry.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", metavar="SHELL", type=click.Choice(list(_SHELLS)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> Exit:
    """Print the script of a shell."""
    front: Front = ctx.obj
    # Written as it is: these are no words for a person.
    front.console.stdout.write(script(shell, ctx.find_root().command))
    return Exit.OK


def script(shell: str, program: click.Command) -> str:
    """Give the script of a shell."""
    completer = _SHELLS[shell](program, {}, PROGRAM, COMPLETION)
    # The base class's: that of bash would run the bash of this machine to see how old it is.
    return ShellComplete.source(completer)


def answer(program: click.Command, console: Console, asked: str) -> Exit:
    """Answer a shell that asks what may stand where: what it is for is told as in the help."""
    shell, _, task = asked.partition("_")
    if shell not in _SHELLS or task not in {"source", "complete"}:
        return Exit.USAGE
    if task == "source":
        console.stdout.write(script(shell, program))
        return Exit.OK
    completer = _SHELLS[shell](program, {"obj": console}, PROGRAM, COMPLETION)
    items = completer.get_completions(*completer.get_completion_args())
    for item in items:
        console.stdout.write(completer.format_completion(item) + "\n")
    return Exit.OK
