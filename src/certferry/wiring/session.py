"""Everything a command works with, joined: the state, the accounts, the edges, the engine."""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property, partial
from typing import cast

from certferry.adapters.clients import handover
from certferry.adapters.sources.pem_files import PemFileSource
from certferry.config.model import Settings
from certferry.core.certificate import CertificateBundle
from certferry.core.desired import Delivery, DesiredCertificate, FileDelivery
from certferry.core.ownership import Claims
from certferry.core.survey import FoundZone, Survey
from certferry.migration.adopt import adopt, as_remembered
from certferry.migration.home import OldCertificate
from certferry.ports.account_memory import AccountMemory
from certferry.ports.issuer import Issuer
from certferry.ports.probe import Probe
from certferry.ports.progress import Progress, each_of, nobody
from certferry.ports.receiver import Receiver
from certferry.ports.source import CertificateSource
from certferry.ports.state import StateStore
from certferry.ports.survey import Looked, Surveyed, ZoneKeeper
from certferry.reconcile.doors import Doors
from certferry.reconcile.ferried import as_known
from certferry.reconcile.history import history_keeper
from certferry.reconcile.leases import held_lease
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.stopping import Stopping
from certferry.wiring.account_notes import AccountNotes
from certferry.wiring.accounts import Accounts
from certferry.wiring.clock import now
from certferry.wiring.late_issuer import LateIssuer


@contextmanager
def open_session(
    settings: Settings, *, progress: Progress, language: str = "en"
) -> Iterator[Session]:
    """Open what the settings name, and let go of it at the end of the `with` block. `language` is
    that of whoever reads what happens.
    """
    with ExitStack() as resources:
        yield Session(settings, progress, resources, language=language)


@contextmanager
def open_to_look(settings: Settings, *, language: str = "en") -> Iterator[Session]:
    """Open what the settings name to look at it only: not even an empty state is made."""
    with ExitStack() as resources:
        yield Session(settings, nobody, resources, language=language, looks_only=True)


class Session:
    """Everything a command works with. Each part is opened when it is first asked for; what is
    wrong with the accounts is then told all at once, as one `ConfigError`.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        resources: ExitStack,
        *,
        language: str,
        looks_only: bool = False,
    ) -> None:
        self._settings = settings
        self._language = language
        self._looks_only = looks_only
        self._progress = progress
        self._resources = resources
        self._stopping = Stopping()
        self._workspace = settings.state.path.parent / "handover"

    @property
    def wishes(self) -> tuple[DesiredCertificate, ...]:
        """What the run is for."""
        return self._settings.certificates

    @cached_property
    def state(self) -> StateStore:
        """What certferry remembers."""
        from certferry.adapters.state.connect import connect

        where = self._settings.state
        state = connect(where.path, where.key_file, looks_only=self._looks_only)
        return self._resources.enter_context(closing(state))

    @cached_property
    def probe(self) -> Probe:
        """The look from outside."""
        from certferry.adapters.probe.tls import TlsProbe

        verify = self._settings.verify
        resolvers = [(server.host, server.port) for server in verify.resolvers]
        return TlsProbe(
            resolvers,
            now,
            pause=self._stopping.pause,
            port=verify.port,
            ca_bundle=verify.ca_bundle,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        """The engine, over every account that the certificates name."""
        # First: with a mistake in the settings, not even an empty state is made.
        dns, targets = self._accounts.meant()
        if not self._looks_only:
            handover.sweep(self._workspace)  # the file may have no command any more that would
        source = PemFileSource()
        doors = Doors(
            issuer=LateIssuer(self._issuer),
            source=source,
            dns=dns,
            targets=targets,
            receiver=self._receiver,
            probe=self.probe,
            state=self.state,
            lease=partial(held_lease, self.state, now),
            now=now,
            progress=each_of(history_keeper(self.state, now, _who()), self._progress),
            verify_timeout=self._settings.verify.timeout,
            claims=self._claims(source),
        )
        return Reconciler(doors, stop=self._stopping.stop)

    def _claims(self, source: CertificateSource) -> Claims:
        meant = {wish.lineage for wish in self.wishes}
        return Claims(
            as_known(wish, source, self.state, read=wish.lineage in meant)
            for wish in self._settings.declared
        )

    def survey(self, label: str, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`, of a target's account."""
        return cast("Surveyed", self._accounts.target(label)).survey(looked)

    def zones(self, label: str) -> tuple[FoundZone, ...] | None:
        """See `ports.survey.ZoneKeeper.zones`, of a DNS provider's account; `None` where it cannot
        list them.
        """
        return cast("ZoneKeeper", self._accounts.dns(label)).zones()

    def adopt(self, lineage: str, bundle: CertificateBundle) -> bool:
        """See `migration.adopt.adopt`."""
        lease = partial(held_lease, self.state, now)
        return adopt(lineage, bundle, state=self.state, lease=lease, now=now(), who=_who())

    def as_remembered(self, found: Sequence[OldCertificate]) -> tuple[OldCertificate, ...]:
        """See `migration.adopt.as_remembered`."""
        return as_remembered(found, self.state)

    def _issuer(self) -> Issuer:
        from certferry.adapters.acme import issuer
        from certferry.adapters.acme.account import ExternalAccount
        from certferry.adapters.acme.propagation import Propagation

        acme, dns = self._settings.acme, self._settings.dns
        propagation = Propagation(
            resolvers=[(server.host, server.port) for server in dns.resolvers],
            port=dns.port,
            timeout=dns.propagation_timeout,
            pause=self._stopping.pause,
            now=now,
        )
        external = None
        if acme.eab_kid is not None and acme.eab_hmac_key is not None:
            key = self._settings.secrets.resolve(acme.eab_hmac_key)
            external = ExternalAccount(acme.eab_kid, key)
        return issuer.connect(
            issuer.Settings(
                directory=acme.directory,
                email=acme.email,
                ca_bundle=acme.ca_bundle,
                profile=acme.profile,
                external=external,
            ),
            state=self.state,
            propagation=propagation,
            pause=self._stopping.pause,
            now=now,
        )

    @cached_property
    def _accounts(self) -> Accounts:
        return Accounts(
            self._settings,
            self._memory_of,
            pause=self._stopping.pause,
            progress=self._progress,
            language=self._language,
        )

    def _memory_of(self, label: str) -> AccountMemory:
        """Give what is remembered of an account. Who only looks, writes nothing down."""
        return AccountNotes(lambda: self.state, label, is_kept=not self._looks_only)

    def _receiver(self, delivery: Delivery) -> Receiver:
        from certferry.adapters.targets import command, files

        connect: Callable[..., Receiver] = partial(command.connect, workspace=self._workspace)
        if isinstance(delivery, FileDelivery):
            connect = files.connect
        return connect(
            delivery,
            pause=self._stopping.pause,
            withheld=self._settings.secrets.variables,
            hidden=self._settings.secrets.known(),
        )


def _who() -> str:
    """Who runs certferry; a number where the system has no name, as in containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.geteuid())
    return f"{user}@{platform.node()}"
