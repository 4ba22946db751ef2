"""A session that looks at everything the accounts hold, whatever is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from certferry.adapters.files.source import PemFileSource
from certferry.config.model import Settings
from certferry.core.discovery.inventory import Discovery, discover
from certferry.core.discovery.survey import Survey
from certferry.core.observed.inferred import UploadOwners
from certferry.errors import ConfigError
from certferry.ports.progress import Progress
from certferry.ports.survey import Looked
from certferry.reconcile.discover import Looking
from certferry.reconcile.observe import as_known
from certferry.wiring.adapters import Family
from certferry.wiring.clock import now
from certferry.wiring.engine import probe_for
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

    def labels(self, family: Family) -> tuple[str, ...]:
        """See `wiring.accounts.Accounts.labels`."""
        return self.accounts.labels(family)

    def discover(self, labels: Sequence[str]) -> Discovery:
        """Look at everything that the accounts of targets hold. What is wrong with one of them is
        told with what the others hold.
        """
        self._stopping.begin()
        probe = probe_for(self._settings, self._stopping.pause, alone=True)
        looking = Looking(probe, now, self._progress, self._stopping.stop)
        known = partial(as_known, source=PemFileSource(), state=self.state, read=True)
        declared = tuple(map(known, self._settings.declared))
        lineages = {*self.state.lineages(), *(desired.lineage for desired in declared)}
        ledger = UploadOwners((one, self.state.remembered(one)) for one in sorted(lineages))
        looks = looking.look_at({label: self._survey_of(label) for label in labels})
        return discover(looks, declared, ledger, now())

    def _survey_of(self, label: str) -> Callable[[Looked], Survey]:
        try:
            return self.accounts.survey_of(label)
        except ConfigError as wrong:
            return partial(_told, wrong)


def _told(wrong: ConfigError, looked: Looked) -> Survey:
    """Tell what is wrong with an account where its survey was to be."""
    del looked
    raise wrong
