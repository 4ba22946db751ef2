"""A session that looks at everything the accounts hold, whatever is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from certferry.adapters.files.source import PemFileSource
from certferry.config.certificates import MOST_NAMES
from certferry.config.mistakes import instead_of, joined
from certferry.config.model import Settings
from certferry.core.discovery.inventory import Discovery, discover
from certferry.core.discovery.proposal import Proposal, propose_beside
from certferry.core.discovery.survey import FoundDomain, FoundZone, Survey
from certferry.core.observed.inferred import UploadOwners
from certferry.errors import ConfigError, DnsError
from certferry.ports.progress import Progress
from certferry.ports.survey import Looked
from certferry.problem import Problem
from certferry.reconcile.discover import Looking
from certferry.reconcile.observe import as_known
from certferry.text import Text
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS
from certferry.wiring.clock import now
from certferry.wiring.engine import probe_for
from certferry.wiring.looking import zones_of
from certferry.wiring.session import Session


@contextmanager
def open_to_discover(
    settings: Settings, *, progress: Progress, language: str
) -> Iterator[DiscoverySession]:
    """Open what the settings name to look at it only: not even an empty state is made."""
    with ExitStack() as resources:
        yield DiscoverySession(settings, progress, resources, language=language, looks_only=True)


class DiscoverySession(Session):
    """A session over every account of the settings, whether a certificate names it or not."""

    def chosen(self, accounts: Sequence[str]) -> tuple[str, ...]:
        """Return the accounts of targets that are named, all if none is. Raises `ConfigError`."""
        labels = self.accounts.labels(TARGETS)
        for account in accounts:
            if account not in labels:
                said = Text("{account} is no account with domains", account=account)
                raise ConfigError(said, hint=instead_of(account, labels))
        if not labels:
            raise ConfigError(
                Text("{path} has no account with domains", path=self._settings.path),
                hint=Text('add one, such as [accounts.qiniu] with type = "qiniu" and its keys'),
            )
        return tuple(dict.fromkeys(accounts)) or labels

    def discover(self, labels: Sequence[str]) -> Discovery:
        """Return everything that these accounts of targets hold, and what is wrong with any of
        them. Raises what keeps all of them from being read: see `must_be_read`.
        """
        self._stopping.begin()
        probe = probe_for(self._settings, self._stopping.pause, alone=True)
        looking = Looking(probe, now, self._progress, self._stopping.stop)
        known = partial(as_known, source=PemFileSource(), state=self.state, read=True)
        declared = tuple(map(known, self._settings.declared))
        lineages = {*self.state.lineages(), *(desired.lineage for desired in declared)}
        ledger = UploadOwners((one, self.state.remembered(one)) for one in sorted(lineages))
        looks = looking.look_at({label: self._survey_of(label) for label in labels})
        found = discover(looks, declared, ledger, now())
        must_be_read(found)
        return found

    def proposed(self, found: Discovery) -> tuple[Proposal, list[Problem]]:
        """Propose certificates for the domains that are not covered; return with it which zones
        could not be read: every name is taken to be in one of these.
        """
        zones: dict[str, tuple[FoundZone, ...] | None] = {}
        unread: list[Problem] = []
        for label in self.accounts.labels(DNS_PROVIDERS):
            zones[label] = None
            try:
                zones[label] = zones_of(self, label)
            except (DnsError, ConfigError) as error:
                unread.append(error.problem(label))
        uncovered: dict[str, list[FoundDomain]] = {}
        for one in found.domains:
            if one.is_uncovered:
                uncovered.setdefault(one.account, []).append(one.found)
        declared = [desired.lineage for desired in self._settings.declared]
        return propose_beside(declared, uncovered, zones, MOST_NAMES), unread

    def _survey_of(self, label: str) -> Callable[[Looked], Survey]:
        try:
            return self.accounts.survey_of(label)
        except ConfigError as wrong:
            return partial(_unreadable, wrong)


def _unreadable(wrong: ConfigError, looked: Looked) -> Survey:
    """Raise what is wrong with an account when it is to be read."""
    del looked
    raise wrong


def must_be_read(found: Discovery) -> None:
    """Raise what kept the only account from being read, or is wrong with the settings of each: then
    there is nothing to show.
    """
    failures = [look.failure for look in found.accounts if look.failure is not None]
    wrong = [error for error in failures if isinstance(error, ConfigError)]
    if len(wrong) == len(found.accounts):
        raise joined(wrong)
    if len(found.accounts) == len(failures) == 1:
        raise failures[0]
