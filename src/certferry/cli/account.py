"""`certferry account`: the accounts at the CAs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from certferry.cli.commands import Group
from certferry.cli.exits import Exit
from certferry.cli.options import Front, is_wanted, say, yes_option
from certferry.errors import CertferryError
from certferry.present.layout import Span, Tone, columns
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.ports.issuer import AccountFacts
    from certferry.wiring.ca_session import CaSession

directory_option = click.option(
    "--directory",
    metavar="CA",
    help="A short name, the name of a table under [acme], or a URL. Default: that of [acme].",
)


@click.group("account", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show the accounts at the CAs, replace a key, or deactivate an account."""


@command.command("show")
@click.pass_obj
def show(front: Front) -> Exit:
    """Show each account, as its CA knows it."""
    with _session(front) as session:
        directories = [account.directory for account in session.state.accounts()]
        if not directories:
            return say(front, Text("There is no account yet; `certferry sync` makes one."))
        found = [(directory, *_look(session, directory)) for directory in directories]
    front.console.show(
        columns(
            [
                (Span(directory, Tone.STRONG), Span(front.voice.say_on_one_line(words), tone))
                for directory, words, tone in found
            ]
        )
    )
    return Exit.FAILED if any(tone is Tone.BAD for _, _, tone in found) else Exit.OK


@command.command("rollover")
@directory_option
@click.pass_obj
def rollover(front: Front, directory: str | None) -> Exit:
    """Replace an account's key. Safe to interrupt: the next run always has a key that works."""
    with _session(front) as session:
        session.account_at(session.directory_of(directory)).rollover()
    return say(front, Text("The account has a new key."))


@command.command("deactivate")
@directory_option
@yes_option
@click.pass_obj
def deactivate(front: Front, directory: str | None, *, yes: bool) -> Exit:
    """Deactivate an account permanently.

    Its certificates stay valid. A sync that orders another one makes a new account.
    """
    with _session(front) as session:
        url = session.directory_of(directory)
        question = Text("Deactivate the account at {directory} permanently?", directory=url)
        if not is_wanted(front, question, yes=yes):
            return say(front, Text("Nothing was changed."))
        session.account_at(url).deactivate()
    return say(front, Text("The account is deactivated."))


@contextmanager
def _session(front: Front) -> Iterator[CaSession]:
    from certferry.cli.selection import settings_or_defaults
    from certferry.wiring.ca_session import open_at_cas

    with open_at_cas(settings_or_defaults(front), language=front.voice.language) as session:
        yield session


def _look(session: CaSession, directory: str) -> tuple[Text, Tone]:
    """Say what the CA tells of an account. One that does not answer is no reason to hide others."""
    try:
        facts = session.account_at(directory).look()
    except CertferryError as error:
        return error.message, Tone.BAD
    return (Text("none"), Tone.FAINT) if facts is None else (_words(facts), _tone(facts))


def _tone(facts: AccountFacts) -> Tone:
    return Tone.GOOD if facts.status == "valid" else Tone.BAD


def _words(facts: AccountFacts) -> Text:
    if facts.url is None:
        return Text("its registration was interrupted; the next order finishes it")
    if facts.status is None:
        return Text(
            "{url}, which the CA does not know; the next order makes another", url=facts.url
        )
    if not facts.contacts:
        return Text("{url}, {status}", url=facts.url, status=facts.status)
    contacts = [contact.removeprefix("mailto:") for contact in facts.contacts]
    return Text(
        "{url}, {status}, {contacts}", url=facts.url, status=facts.status, contacts=contacts
    )
