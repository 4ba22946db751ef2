"""`certferry discover`: everything that the accounts hold, whatever is declared."""

from __future__ import annotations

from datetime import timedelta

import click

from certferry.cli.complaints import UsageMistake
from certferry.cli.exits import Exit
from certferry.cli.options import Front, WholeNumber, json_option
from certferry.text import Text

_DAYS = WholeNumber(0, 36500)


@click.command("discover")
@click.option(
    "--account",
    "accounts",
    metavar="LABEL",
    multiple=True,
    help="Look at this account only; may be given several times.",
)
@click.option("--uncovered", is_flag=True, help="Only domains that no declared certificate covers.")
@click.option(
    "--foreign",
    is_flag=True,
    help="Only certificates that neither certferry nor Qiniu (for free) put there.",
)
@click.option(
    "--expiring",
    "days",
    metavar="DAYS",
    type=_DAYS,
    help="Only certificates that have expired, or will within DAYS days.",
)
@click.option(
    "--toml",
    "as_toml",
    is_flag=True,
    help="Print tables to paste into the file, for the domains that are not covered.",
)
@json_option
@click.pass_obj
def command(
    front: Front,
    accounts: tuple[str, ...],
    days: int | None,
    *,
    uncovered: bool,
    foreign: bool,
    as_toml: bool,
    as_json: bool,
) -> Exit:
    """Show every domain of the accounts and its certificate, declared or not.

    What needs your care comes first. HTTPS: `301` redirects to it, `h2` is HTTP/2. OWNER is who
    uploaded the certificate; LEFT is the days until the first of the bound and served certificates
    expires. COVERED BY names the declared certificate that is to serve the domain, in
    brackets one that only covers it.

    Without a configuration file the keys are taken from the environment (QINIU_ACCESS_KEY,
    QINIU_SECRET_KEY). Exits with 1 if an account could not be read, or only in
    part.
    """
    from certferry.cli.discover_run import run
    from certferry.core.discovery.inventory import Wanted

    if as_toml and as_json:
        raise UsageMistake(Text("--toml and --json exclude each other"))
    expiring = None if days is None else timedelta(days=days)
    wanted = Wanted(uncovered=uncovered, foreign=foreign, expiring=expiring)
    return run(accounts, wanted, front, as_toml=as_toml, as_json=as_json)
