"""Groups of commands: what they list, offer and answer to a mistyped name, in whole sentences."""

from __future__ import annotations

import difflib

import click
from click.shell_completion import CompletionItem

from certferry.cli.help import paragraphs
from certferry.cli.usage import UsageMistake
from certferry.text import Text


class SpokenGroup(click.Group):
    """A group whose table of commands is translated: click's own cuts what does not fit."""

    def meanings(self, ctx: click.Context) -> dict[str, str]:
        """Give what each command does: a sentence of the catalogue."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        return {name: paragraphs(part.help or "")[0] for name, part in found.items() if part}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run; say what was probably meant when there is none."""
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            raise UsageMistake(_unknown(args[0], known), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table into the help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.meanings(ctx).items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands that begin so, and the options."""
        named = [
            CompletionItem(name, help=what)
            for name, what in self.meanings(ctx).items()
            if name.startswith(incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]


def _unknown(name: str, known: list[str]) -> Text:
    meant = difflib.get_close_matches(name, known, n=1)
    others = (
        Text("did you mean `{meant}`?", meant=meant[0])
        if meant
        else Text("there are {known}", known=known)
    )
    return Text("no such command: {name}; {known}", name=name, known=others)
