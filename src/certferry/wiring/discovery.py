"""Survey everything that the accounts hold, whatever is declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from certferry.adapters.files.source import PemFileSource
from certferry.config.certificates import MOST_NAMES
from certferry.config.mistakes import instead_of, joined
from certferry.config.model import Settings
from certferry.core.discovery.inventory import Discovery, FoundDomain, FoundZone, discover
from certferry.core.discovery.proposal import Proposal, propose_beside
from certferry.core.observed.inferred import UploadOwners
from certferry.core.observed.records import Remembered
from certferry.errors import ConfigError, DnsError, Problem, StateForeign
from certferry.ports.state import StateStore
from certferry.reconcile.observe import as_known
from certferry.reconcile.run import Run
from certferry.reconcile.status import survey_accounts
from certferry.text import Text
from certferry.wiring.accounts import VendorAccounts
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS
from certferry.wiring.network import probe_for
from certferry.wiring.recorded import domains_elsewhere
from certferry.wiring.workspace import Workspace


def chosen(named: Sequence[str], accounts: VendorAccounts, settings: Settings) -> tuple[str, ...]:
    """Return the accounts of targets that are named, all if none is. Raises `ConfigError`."""
    labels = accounts.labels(TARGETS)
    for account in named:
        if account not in labels:
            said = Text("{account} is no account with domains", account=account)
            raise ConfigError(said, hint=instead_of(account, labels))
    if not labels:
        raise ConfigError(
            Text("{path} has no account with domains", path=settings.path),
            hint=Text('add one, such as [accounts.qiniu] with type = "qiniu" and its keys'),
        )
    return tuple(dict.fromkeys(named)) or labels


def discovered(labels: Sequence[str], workspace: Workspace, run: Run) -> Discovery:
    """Return everything that these accounts hold. Raises what `must_be_read` does."""
    settings, state = workspace.settings, workspace.state
    known = partial(as_known, source=PemFileSource(), state=state, read=True)
    declared = tuple(map(known, settings.declared))
    lineages = {*state.lineages(), *(desired.lineage for desired in declared)}
    ledger = UploadOwners(_remembered(lineages, state))
    accounts = workspace.accounts(run)
    # What is wrong with the settings of one is reported as what it could not read.
    surveys = {label: lambda looked, of=label: accounts.survey_of(of)(looked) for label in labels}
    probe = probe_for(settings.verify, run.pause, state.now, alone=True)
    survey = survey_accounts(surveys, probe, state.now, run)
    elsewhere = domains_elsewhere(settings, state)
    found = discover(survey, declared, ledger, state.now(), elsewhere)
    must_be_read(found)
    return found


def _remembered(lineages: Iterable[str], state: StateStore) -> Iterator[tuple[str, Remembered]]:
    """Return what is stored of lineages, without those of which a row is another program's."""
    for one in sorted(lineages):
        with suppress(StateForeign):
            yield one, state.remembered(one)


def proposed(
    found: Discovery, accounts: VendorAccounts, settings: Settings
) -> tuple[Proposal, list[Problem]]:
    """Propose certificates for uncovered domains; return also which zones could not be read."""
    zones: dict[str, tuple[FoundZone, ...] | None] = dict.fromkeys(accounts.labels(DNS_PROVIDERS))
    unread: list[Problem] = []
    for label in zones:
        try:
            zones[label] = accounts.zones_of(label)
        except (DnsError, ConfigError) as error:
            unread.append(error.problem(label))
    uncovered: dict[str, list[FoundDomain]] = {}
    for one in found.domains:
        if one.is_uncovered:
            uncovered.setdefault(one.account, []).append(one.found)
    declared = [desired.lineage for desired in settings.declared]
    return propose_beside(declared, uncovered, zones, MOST_NAMES), unread


def must_be_read(found: Discovery) -> None:
    """Raise what kept the only account from being read, or is wrong with the settings of each."""
    failures = [look.failure for look in found.accounts if look.failure is not None]
    wrong = [error for error in failures if isinstance(error, ConfigError)]
    if len(wrong) == len(found.accounts):
        raise joined(wrong)
    if len(found.accounts) == len(failures) == 1:
        raise failures[0]
