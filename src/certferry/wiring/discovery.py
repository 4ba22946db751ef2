"""Survey the domains and certificates of accounts; propose certificates for uncovered domains."""

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
from certferry.reconcile.reads import survey_accounts
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.accounts import VendorAccounts
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS
from certferry.wiring.network import probe_for
from certferry.wiring.recorded import domains_elsewhere
from certferry.wiring.registry import USUAL
from certferry.wiring.workspace import Workspace


def chosen(named: Sequence[str], accounts: VendorAccounts, settings: Settings) -> tuple[str, ...]:
    """Return the labels of the accounts in `named`, or of all accounts with domains if `named` is
    empty. Raises `ConfigError` if a label is not an account with domains, or if the file has no
    account with domains.
    """
    labels = accounts.labels(TARGETS)
    for account in named:
        if account not in labels:
            message = Text("{account} is not an account with domains", account=account)
            raise ConfigError(message, hint=instead_of(account, labels))
    if not labels:
        raise ConfigError(
            Text("{path} has no account with domains", path=settings.path),
            hint=Text(
                'add an account, for example [accounts.{type}] with type = "{type}" and its keys',
                type=USUAL[TARGETS.group],
            ),
        )
    return tuple(dict.fromkeys(named)) or labels


def discovered(labels: Sequence[str], workspace: Workspace, run: Run) -> Discovery:
    """Survey the accounts, and return the domains and certificates with their owners. Raises the
    errors of `must_be_read`, `StateError` and `Interrupted`.
    """
    settings, state = workspace.settings, workspace.state
    with_names = partial(as_known, source=PemFileSource(), state=state, read=True)
    declared = tuple(map(with_names, settings.declared))
    lineages = {*state.lineages(), *(desired.lineage for desired in declared)}
    ledger = UploadOwners(_remembered(lineages, state))
    accounts = workspace.accounts(run)
    # Connected inside the survey, so wrong settings of one account become that account's failure.
    surveys = {label: lambda looked, of=label: accounts.survey_of(of)(looked) for label in labels}
    probe = probe_for(settings.verify, run.pause, state.now, alone=True)
    survey = survey_accounts(surveys, probe, state.now, run)
    elsewhere = domains_elsewhere(settings, state)
    discovery = discover(survey, declared, ledger, state.now(), elsewhere)
    must_be_read(discovery)
    return discovery


def _remembered(lineages: Iterable[str], state: StateStore) -> Iterator[tuple[str, Remembered]]:
    """Yield the stored facts of lineages. Lineages with rows of another program are left out."""
    for lineage in sorted(lineages):
        with suppress(StateForeign):
            yield lineage, state.remembered(lineage)


def proposed(
    discovery: Discovery, accounts: VendorAccounts, settings: Settings
) -> tuple[Proposal, list[Problem]]:
    """Propose certificates for uncovered domains. Return the proposal, and a problem for each
    account whose zones could not be read.
    """
    zones: dict[str, tuple[FoundZone, ...] | None] = dict.fromkeys(accounts.labels(DNS_PROVIDERS))
    unread: list[Problem] = []
    for label in zones:
        try:
            zones[label] = accounts.zones_of(label)
        except (DnsError, ConfigError) as error:
            unread.append(error.problem(label))
    uncovered: dict[str, list[FoundDomain]] = {}
    for domain in discovery.domains:
        if domain.is_uncovered:
            uncovered.setdefault(domain.account, []).append(domain.listed)
    declared = [desired.lineage for desired in settings.declared]
    return propose_beside(declared, uncovered, zones, MOST_NAMES), unread


def must_be_read(discovery: Discovery) -> None:
    """Raise one `ConfigError` if every account has wrong settings. If only one account was read and
    failed, raise the account's error.
    """
    failures = [look.failure for look in discovery.accounts if look.failure is not None]
    wrong = [error for error in failures if isinstance(error, ConfigError)]
    if len(wrong) == len(discovery.accounts):
        raise joined(wrong)
    if len(discovery.accounts) == len(failures) == 1:
        raise failures[0]
