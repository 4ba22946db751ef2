"""`certferry account`: the accounts at the CAs. `certferry dns-persist`: the permanent DNS record
by which an account proves a name (dns-persist-01, a draft challenge type of ACME).
"""

from __future__ import annotations

import click

from certferry.cli.commands import Group
from certferry.cli.exits import Exit
from certferry.cli.options import CommandContext, is_wanted, json_option, note, say, yes_option
from certferry.cli.selection import workspace_of
from certferry.core.certificates.names import normalise
from certferry.errors import CertferryError
from certferry.ports.issuer import AccountFacts, CaAccount
from certferry.present.documents import of_persist_record
from certferry.present.layout import Span, Tone, columns
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.authorities import acme_account_at, directory_of, persist_record_of
from certferry.wiring.workspace import Workspace

_EXPERIMENTAL = Text(
    "Experimental: dns-persist-01 is a draft (-02), and a later draft may require another record."
    " While the record exists, the account's key is enough to get certificates for the name."
)
_NOT_ON = Text("certferry uses the record once `dns_persist = true` is set under [acme].")

directory_option = click.option(
    "--directory",
    metavar="CA",
    help=(
        "A short name, the name of a table under [acme], or a URL. Default: the directory in"
        " [acme]."
    ),
)


@click.group("account", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show the accounts at the CAs, replace a key, or deactivate an account."""


@command.command("show")
@click.pass_obj
def show(context: CommandContext) -> Exit:
    """Show each account, as the CA knows it."""
    with workspace_of(context) as workspace:
        directories = [account.directory for account in workspace.state.accounts()]
        if not directories:
            return say(
                context, Text("There is no account yet; `certferry sync` creates an account.")
            )
        accounts = [(directory, *_standing(workspace, directory)) for directory in directories]
    rows = [
        (Span(directory, Tone.STRONG), Span(context.voice.say_on_one_line(words), tone))
        for directory, words, tone in accounts
    ]
    context.console.print(columns(rows))
    return Exit.FAILED if any(tone is Tone.BAD for _, _, tone in accounts) else Exit.OK


@command.command("rollover")
@directory_option
@click.pass_obj
def rollover(context: CommandContext, directory: str | None) -> Exit:
    """Replace an account's key. Safe to interrupt: the next run always has a key that works."""
    with workspace_of(context) as workspace:
        url = directory_of(directory, workspace.settings)
        _account_at(url, workspace).rollover()
    return say(context, Text("The account has a new key."))


@command.command("deactivate")
@directory_option
@yes_option
@click.pass_obj
def deactivate(context: CommandContext, directory: str | None, *, yes: bool) -> Exit:
    """Deactivate an account permanently.

    The account's certificates stay valid. The next order creates a new account.
    """
    with workspace_of(context) as workspace:
        url = directory_of(directory, workspace.settings)
        question = Text("Deactivate the account at {directory} permanently?", directory=url)
        if not is_wanted(context, question, yes=yes):
            return say(context, Text("Nothing was changed."))
        _account_at(url, workspace).deactivate()
    return say(context, Text("The account is deactivated."))


@click.command("dns-persist")
@click.argument("name", metavar="NAME")
@json_option
@click.pass_obj
def dns_persist(context: CommandContext, name: str, *, as_json: bool) -> Exit:
    """Print a DNS record that proves NAME permanently (experimental).

    NAME is a domain or a wildcard; for a wildcard, or if a wildcard is declared, the record covers
    both. You set the record by hand, in place of a DNS account. Creates the account at the CA if
    missing.
    """
    domain = normalise(name)
    with workspace_of(context, reads_only=False) as workspace:
        settings = workspace.settings
        record = persist_record_of(domain, settings, workspace.state, Run().pause)
    if as_json:
        context.console.print_json(of_persist_record(record))
        return Exit.OK
    parts = (Text("name"), record.name), (Text("type"), record.rtype), (Text("value"), record.value)
    context.console.print(context.voice.facts(parts))
    note(context, *([_EXPERIMENTAL] if settings.acme.dns_persist else [_EXPERIMENTAL, _NOT_ON]))
    return Exit.OK


def _account_at(directory: str, workspace: Workspace) -> CaAccount:
    return acme_account_at(directory, workspace.settings, workspace.state, Run())


def _standing(workspace: Workspace, directory: str) -> tuple[Text, Tone]:
    """Return a sentence about an account at the CA, and the sentence's tone. The message of a
    `CertferryError` becomes the sentence, so that the other accounts are shown too.
    """
    try:
        facts = _account_at(directory, workspace).facts()
    except CertferryError as error:
        return error.message, Tone.BAD
    if facts is None:
        return Text("none"), Tone.FAINT
    return _words(facts), Tone.GOOD if facts.status == "valid" else Tone.BAD


def _words(facts: AccountFacts) -> Text:
    if facts.url is None:
        return Text("the account's registration was interrupted; the next order finishes it")
    description = Text("{url}, {status}, {contacts}")
    if facts.status is None:
        description = Text("{url}, unknown to the CA; the next order creates a new account")
    elif not facts.contacts:
        description = Text("{url}, {status}")
    contacts = [contact.removeprefix("mailto:") for contact in facts.contacts]
    return description.filled(url=facts.url, status=facts.status, contacts=contacts)
