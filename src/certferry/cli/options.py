"""What the commands share on the command line: the global options, NAMEs, `--json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from certferry.cli.desk import Desk
from certferry.cli.words import Voice
from certferry.errors import CertferryError

PROGRAM = "certferry"

COMPLETION = "_CERTFERRY_COMPLETE"
"""The variable by which a shell's completion script asks."""

T = TypeVar("T", bound=Callable[..., Any])


class Verbosity(Enum):
    """How much a run tells beside its data: only what is wrong, what happens, the log."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


@dataclass(frozen=True, slots=True)
class Front:
    """What the global options say, and where to speak."""

    desk: Desk
    config: Path | None = None
    verbosity: Verbosity = Verbosity.NORMAL

    @property
    def voice(self) -> Voice:
        """Who speaks."""
        return self.desk.voice

    @property
    def quiet(self) -> bool:
        """Whether only what is wrong is to be told."""
        return self.verbosity is Verbosity.QUIET


def _complete_name(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the declared certificates. Whatever is wrong with the file, a shell is told nothing."""
    del parameter
    from certferry.config.load import load

    try:
        settings = load(ctx.find_root().params.get("config"), ctx.find_root().obj.environ)
    except CertferryError:
        return []
    names = [wish.lineage for wish in settings.certificates]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


names_argument = click.argument(
    "names", metavar="[NAME]...", nargs=-1, shell_complete=_complete_name
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout."
)


def name_argument(*, required: bool = True) -> Callable[[T], T]:
    """Declare the one certificate that a command is about."""
    metavar = "NAME" if required else "[NAME]"
    return click.argument("name", metavar=metavar, required=required, shell_complete=_complete_name)
