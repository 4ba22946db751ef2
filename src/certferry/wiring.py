"""Join adapters to the doors: the only file that knows which adapters exist.

What is heavy is loaded when it is first needed: a run that finds nothing to do never loads the
ACME library.
"""

from __future__ import annotations

import getpass
import os
import platform
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from certferry.adapters.clients import handover
from certferry.adapters.sources.pem_files import PemFileSource
from certferry.config.bind import bind
from certferry.config.files import home_directory
from certferry.config.findings import config_error, instead_of, joined
from certferry.config.load import variables_of_keys
from certferry.config.model import AccountTable, Settings
from certferry.core.certificate import CertificateBundle
from certferry.core.desired import Delivery, DesiredCertificate, FileDelivery
from certferry.core.identifiers import base_name
from certferry.core.inherited import Inheritance, OldClient
from certferry.core.ownership import Claims
from certferry.core.survey import FoundZone, Survey
from certferry.errors import ConfigError, ScheduleError
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.probe import Probe
from certferry.ports.progress import Progress
from certferry.ports.receiver import Receiver
from certferry.ports.scheduler import Scheduler
from certferry.ports.source import CertificateSource
from certferry.ports.state import Lease, StateStore
from certferry.ports.survey import Surveyed, ZoneKeeper
from certferry.ports.target import DeployTarget
from certferry.reconcile.adopt import adopt
from certferry.reconcile.doors import Doors
from certferry.reconcile.ferried import as_known
from certferry.reconcile.leases import LeaseKeeper
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.stopping import Stopping
from certferry.text import Text

DNS_PROVIDERS = {"dnspod": "certferry.adapters.dns.dnspod"}
TARGETS = {"qiniu": "certferry.adapters.targets.qiniu"}
OLD_CLIENTS = {
    OldClient.ACME_SH: "certferry.adapters.sources.acme_sh",
    OldClient.CERTBOT: "certferry.adapters.sources.certbot",
    OldClient.LEGO: "certferry.adapters.sources.lego",
}


@contextmanager
def open_session(settings: Settings, *, progress: Progress) -> Iterator[Session]:
    """Open what the settings name, and let go of it at the end of the `with` block."""
    with ExitStack() as resources:
        yield Session(settings, progress, resources)


class Session:
    """Everything a command works with. Each part is opened when it is first asked for; what is
    wrong with the accounts is then told all at once, as one `ConfigError`.
    """

    def __init__(self, settings: Settings, progress: Progress, resources: ExitStack) -> None:
        self._settings = settings
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
        from certferry.adapters.state import sqlite

        state = sqlite.connect(self._settings.state.path, self._settings.state.key_file)
        self._resources.callback(state.close)
        return state

    @cached_property
    def probe(self) -> Probe:
        """The look from outside."""
        from certferry.adapters.probe.tls import TlsProbe

        verify = self._settings.verify
        resolvers = [(server.host, server.port) for server in verify.resolvers]
        return TlsProbe(resolvers, _now, port=verify.port, ca_bundle=verify.ca_bundle)

    @cached_property
    def reconciler(self) -> Reconciler:
        """The engine, over every account that the certificates name."""
        # First: with a mistake in the settings, not even an empty state is made.
        dns, targets = self._accounts()
        keeper = LeaseKeeper(self.state, _now)
        self._resources.callback(keeper.close)
        handover.sweep(self._workspace)  # the file may have no command any more that would do it
        source = PemFileSource()
        doors = Doors(
            issuer=_LateIssuer(self._issuer),
            source=source,
            dns=dns,
            targets=targets,
            receiver=self._receiver,
            probe=self.probe,
            state=self.state,
            lease=keeper.lease,
            now=_now,
            progress=self._progress,
            who=_who(),
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

    def survey(self, label: str) -> Survey:
        """See `ports.survey.Surveyed.survey`, of a target's account."""
        connect = self._adapter(label, TARGETS, Text("target"))
        target: Surveyed = connect(pause=self._stopping.pause, now=_now)
        return target.survey()

    def zones(self, label: str) -> tuple[FoundZone, ...]:
        """See `ports.survey.ZoneKeeper.zones`, of a DNS provider's account."""
        connect = self._adapter(label, DNS_PROVIDERS, Text("DNS provider"))
        contact = self._settings.acme.email or ""
        provider: ZoneKeeper = connect(pause=self._stopping.pause, now=_now, contact=contact)
        return provider.zones()

    def adopt(self, lineage: str, bundle: CertificateBundle) -> bool:
        """See `reconcile.adopt.adopt`."""
        keeper = LeaseKeeper(self.state, _now)
        try:
            return adopt(
                lineage, bundle, state=self.state, lease=keeper.lease, now=_now(), who=_who()
            )
        finally:
            keeper.close()

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
            now=_now,
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
            now=_now,
        )

    def _accounts(self) -> tuple[dict[str, DnsProvider], dict[str, DeployTarget]]:
        """Connect every account that a certificate names; nothing is sent yet."""
        dns: dict[str, DnsProvider] = {}
        targets: dict[str, DeployTarget] = {}
        errors: list[ConfigError] = []
        for label in dict.fromkeys(wish.dns for wish in self.wishes if wish.files is None):
            with _collected(errors):
                connect = self._adapter(label, DNS_PROVIDERS, Text("DNS provider"))
                dns[label] = connect(pause=self._stopping.pause, now=_now, contact=self._contact())
        deployments = [d for wish in self.wishes for d in wish.deployments if d.delivery is None]
        for label in dict.fromkeys(deployment.target for deployment in deployments):
            with _collected(errors):
                connect = self._adapter(label, TARGETS, Text("target"))
                targets[label] = connect(pause=self._stopping.pause, now=_now)
        if errors:
            raise joined(errors)
        return dns, targets

    def _receiver(self, delivery: Delivery) -> Receiver:
        from certferry.adapters.targets import command, files

        withheld, pause = variables_of_keys(self._settings), self._stopping.pause
        if isinstance(delivery, FileDelivery):
            return files.connect(delivery, pause=pause, withheld=withheld)
        return command.connect(delivery, workspace=self._workspace, pause=pause, withheld=withheld)

    def _adapter(self, label: str, known: Mapping[str, str], role: Text) -> Callable[..., Any]:
        """Find what an account's type names, bind its settings, and give its `connect`."""
        account = self._settings.accounts[label]
        adapter = _module(account, known, role)
        settings = bind(adapter.Settings, account, self._settings.secrets.resolve)
        return partial(adapter.connect, settings)

    def _contact(self) -> str:
        """Whom a vendor may write to: the operator, or by default the zone's (RFC 2142 §7)."""
        email = self._settings.acme.email
        names = [wish.names[0] for wish in self.wishes if wish.names]
        return email or f"hostmaster@{base_name(names[0])}"


def certificate_source() -> CertificateSource:
    """Give what reads other clients' files, for who needs nothing else."""
    return PemFileSource()


def install_deploy_hook(home: Path, command: Sequence[str]) -> tuple[Path, bool]:
    """See `adapters.sources.deploy_hook.install`."""
    from certferry.adapters.sources import deploy_hook

    return deploy_hook.install(home, command)


@dataclass(frozen=True, slots=True)
class Schedulers:
    """What can start a run every day. `usable` are those that this machine has."""

    cron: Scheduler
    systemd: Scheduler
    usable: tuple[Scheduler, ...]


def schedulers(environ: Mapping[str, str]) -> Schedulers:
    """Give the crontab and the systemd units of whoever runs this."""
    from certferry.adapters.schedule import cron, systemd

    crontab = cron.Cron(environ, secrets.randbelow, _now)
    root = os.geteuid() == 0
    own = systemd.units_directory(environ, home_directory(environ))
    timer = systemd.SystemdTimer(systemd.SYSTEM_UNITS if root else own, environ, for_system=root)
    usable = (crontab, timer) if cron.is_here(environ) else (timer,)
    return Schedulers(crontab, timer, usable)


def inheritance(client: OldClient, home: Path | None, environ: Mapping[str, str]) -> Inheritance:
    """Read the directory of another client: this one, or the one that it would use itself.

    Raises `ConfigError` when there is none.
    """
    source = import_module(OLD_CLIENTS[client])
    usual = source.default_home(environ, home_directory(environ))
    read: Inheritance = source.read(home or usual, usual)
    return read


def started_by(client: OldClient, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Give the lines of the crontab that start another client, as far as it can be read."""
    from certferry.adapters.schedule import cron

    scheduled = import_module(OLD_CLIENTS[client]).SCHEDULED
    if not cron.is_here(environ):
        return ()
    try:
        lines = cron.Cron(environ, secrets.randbelow, _now).lines()
    except ScheduleError:
        return ()
    return tuple(line for line in lines if scheduled.search(line))


def _who() -> str:
    """Who runs certferry; a number where the system has no name, as in containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.geteuid())
    return f"{user}@{platform.node()}"


def _now() -> datetime:
    return datetime.now(UTC)


def _module(account: AccountTable, known: Mapping[str, str], role: Text) -> ModuleType:
    if account.type in known:
        return import_module(known[account.type])
    problem = Text(
        "{type} is no {role}; {advice}",
        type=account.type,
        role=role,
        advice=instead_of(account.type, list(known)),
    )
    raise config_error([account.place.finding("type", problem)])


@contextmanager
def _collected(errors: list[ConfigError]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        errors.append(error)


class _LateIssuer:
    """An issuer that is connected when a certificate is first needed."""

    def __init__(self, connect: Callable[[], Issuer]) -> None:
        self._connect = connect
        self._issuer: Issuer | None = None
        self._lock = threading.Lock()

    def issue(
        self, request: IssueRequest, dns: DnsProvider, lease: Lease, progress: Progress
    ) -> CertificateBundle:
        """See `ports.issuer.Issuer.issue`."""
        return self._connected().issue(request, dns, lease, progress)

    def sweep(self, lineage: str, dns: DnsProvider, now: datetime) -> None:
        """See `ports.issuer.Issuer.sweep`."""
        self._connected().sweep(lineage, dns, now)

    def _connected(self) -> Issuer:
        with self._lock:
            if self._issuer is None:
                self._issuer = self._connect()
            return self._issuer
