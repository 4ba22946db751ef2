"""The way of `certferry discover`: which accounts, what they hold, what is shown of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from certferry.cli import exits
from certferry.cli.exits import Exit
from certferry.cli.options import Front
from certferry.cli.selection import settings_with_accounts
from certferry.config.certificates import MOST_NAMES
from certferry.config.mistakes import instead_of, joined
from certferry.config.model import Settings
from certferry.config.propose import tables_of
from certferry.core.discovery.inventory import Discovery, Wanted
from certferry.core.discovery.proposal import Proposal, propose_beside
from certferry.core.discovery.survey import FoundDomain, FoundZone
from certferry.errors import ConfigError, DnsError
from certferry.present import discover_text
from certferry.present.console import Console
from certferry.present.documents import of_discovery
from certferry.present.layout import line
from certferry.present.log_entries import log_problems
from certferry.present.progress import progress_on
from certferry.problem import Problem
from certferry.text import Text
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS
from certferry.wiring.discovery import DiscoverySession, open_to_discover
from certferry.wiring.looking import zones_of

Zones = Mapping[str, tuple[FoundZone, ...] | None]


def run(
    accounts: Sequence[str], wanted: Wanted, front: Front, *, as_toml: bool, as_json: bool
) -> Exit:
    """Look at the accounts that are named, all when none is, and show the domains that the filters
    leave.

    Raises `ConfigError`, and what keeps the only account from being looked at.
    """
    settings = settings_with_accounts(front)
    with (
        progress_on(front.console, front.verbosity, _now, changes_nothing=True) as progress,
        open_to_discover(settings, progress=progress, language=front.voice.language) as session,
    ):
        found = session.discover(_chosen(session.labels(TARGETS), accounts, settings))
        must_have_looked(found)
        zones, unread = _zones(session) if as_toml else ({}, [])
    if as_toml:
        proposal = proposed(found.narrowed(wanted, _now()), zones, settings)
        return show_tables(proposal, [*found.problems, *unread], front)
    return show_discovery(found, wanted, front.console, _now(), as_json=as_json)


def _chosen(labels: Sequence[str], accounts: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Give the accounts to look at. Raises `ConfigError`."""
    for account in accounts:
        if account not in labels:
            said = Text("{account} is no account with domains", account=account)
            raise ConfigError(said, hint=instead_of(account, labels))
    if not labels:
        raise ConfigError(
            Text("{path} has no account with domains", path=settings.path),
            hint=Text('add one, such as [accounts.qiniu] with type = "qiniu" and its keys'),
        )
    return tuple(dict.fromkeys(accounts)) or tuple(labels)


def must_have_looked(found: Discovery) -> None:
    """Raise what kept the only account from being looked at, or is wrong with the settings of each:
    then there is nothing to show.
    """
    failures = [look.failure for look in found.accounts if look.failure is not None]
    wrong = [error for error in failures if isinstance(error, ConfigError)]
    if len(wrong) == len(found.accounts):
        raise joined(wrong)
    if len(found.accounts) == len(failures) == 1:
        raise failures[0]


def show_discovery(
    everything: Discovery, wanted: Wanted, console: Console, now: datetime, *, as_json: bool
) -> Exit:
    """Show the domains and certificates that the filters leave."""
    found, voice = everything.narrowed(wanted, now), console.voice
    log_problems(found.problems, console.run_log)
    if as_json:
        console.hand_out(of_discovery(found, voice))
        return exits.of_problems(found.problems)
    if found.domains:
        remarks = discover_text.remarks(found, voice)
        console.show_table(discover_text.domains(found, now, voice), remarks)
        console.show([line()])
    if found.unused:
        console.show([discover_text.heading(found, voice)])
        console.show_table(discover_text.unused(found, now, voice))
        console.show([line()])
    if found.domains or found.certificates or not found.problems:
        console.show([discover_text.summary(found, everything, voice)])
    console.remark(discover_text.problems(found.problems, voice))
    return exits.of_problems(found.problems)


def _zones(session: DiscoverySession) -> tuple[Zones, list[Problem]]:
    """Read the zones of each DNS account; where they cannot be read, `None` takes every name to be
    in one.
    """
    zones: dict[str, tuple[FoundZone, ...] | None] = {}
    problems: list[Problem] = []
    for label in session.labels(DNS_PROVIDERS):
        zones[label] = None
        try:
            zones[label] = zones_of(session, label)
        except (DnsError, ConfigError) as error:
            problems.append(error.problem(label))
    return zones, problems


def proposed(found: Discovery, zones: Zones, settings: Settings) -> Proposal:
    """Propose certificates for the domains that were found and are not covered."""
    by_account: dict[str, list[FoundDomain]] = {}
    for one in found.domains:
        if one.is_uncovered:
            by_account.setdefault(one.account, []).append(one.found)
    declared = [wish.lineage for wish in settings.declared]
    return propose_beside(declared, by_account, zones, MOST_NAMES)


def show_tables(proposal: Proposal, problems: Sequence[Problem], front: Front) -> Exit:
    """Print the tables alone; what else there is to say goes to stderr."""
    console, voice = front.console, front.voice
    tables = tables_of(proposal, voice.say)
    console.show(line(row) for row in tables.splitlines())
    if not tables and not front.quiet:
        console.remark([line(voice.say(Text("There is no domain to declare a certificate for.")))])
    console.remark(discover_text.problems(problems, voice))
    log_problems(problems, console.run_log)
    return exits.of_problems(problems)


def _now() -> datetime:
    return datetime.now(UTC)
