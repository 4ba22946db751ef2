"""`certferry init`: an interview, the domains of the accounts, and a new configuration file."""

from __future__ import annotations

from pathlib import Path

import click

from certferry.cli.commands import name_file
from certferry.cli.exits import Exit, UsageMistake
from certferry.cli.options import CommandContext, path_option
from certferry.errors import ConfigError
from certferry.text import Text

CLIENTS = ("acme.sh", "certbot", "lego")
_SETTINGS = (
    "Start from the settings in this file: CA, state, resolvers, accounts; no certificates. Its"
    " relative paths begin at the directory of the output."
)


@click.command("init")
@click.option(
    "--from",
    "client",
    metavar="|".join(CLIENTS),
    type=click.Choice(CLIENTS),
    help="Take over the certificates of this ACME client.",
)
@path_option("--home", "The client's directory, if not the usual one.", "DIR", folder=True)
@click.option(
    "--keep-client", is_flag=True, help="Deploy only; the client keeps renewing its certificates."
)
@path_option(
    "--output", "The file to write. Default: --config, CERTFERRY_CONFIG, or certferry.toml here."
)
@path_option("--settings", _SETTINGS)
@path_option("--env-file", "Take keys from this file of KEY=value lines, and refer to the file.")
@click.option("--email", metavar="ADDRESS", help="Contact email for the CA.")
@click.option("--force", is_flag=True, help="Replace an existing file, and keep a copy.")
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.pass_obj
def command(  # noqa: PLR0913 - one for each option of the command line
    context: CommandContext,
    client: str | None,
    home: Path | None,
    output: Path | None,
    settings: Path | None,
    env_file: Path | None,
    email: str | None,
    *,
    keep_client: bool,
    force: bool,
    yes: bool,
) -> Exit:
    """Write a configuration: ask for the keys, read the accounts, propose certificates.

    Changes only the files listed at the end. Keys in the environment are referred to; typed keys go
    into a file of their own beside the configuration, and no key is ever shown. With --from, the
    other client's certificates are adopted into the state, so nothing is issued again.

    You choose the domains, and how they share certificates; a domain without HTTPS is declared only
    if you choose it. The file (mode 0600) has comments, and a channel for trouble.
    """
    from certferry.cli.init.files import Asked, Files, chosen_file, must_be_free
    from certferry.cli.init.wizard import run
    from certferry.cli.interview import interview_at
    from certferry.config.values import email_address

    if client is None and (home is not None or keep_client):
        raise UsageMistake(Text("--home and --keep-client need --from"))
    if email is not None:
        try:
            email_address(email)
        except ConfigError as error:
            message = Text("{name}: {problem}", name="--email", problem=error.message)
            raise UsageMistake(message) from None
    path = chosen_file(output, context.config, context.console.environ)
    must_be_free(path, force=force)
    name_file(path, context.voice)
    interview = None if yes else interview_at(context.console, may_go_back=True)
    if interview is None and not yes:
        raise UsageMistake(
            Text("without a terminal, use --yes to write the proposal without questions")
        )
    asked = Asked(client, home, Files(path, env_file), settings, email, keep_client=keep_client)
    return run(asked, context, interview)
