"""Connect the accounts of the settings: find an account's adapter, read the adapter's settings,
return the port.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from certferry.config.bind import bind
from certferry.config.files import Paths
from certferry.config.mistakes import joined
from certferry.config.model import AccountTable, Settings
from certferry.config.secrets import Resolve, SecretReference
from certferry.core.certificates.names import base_name
from certferry.core.desired.certificate import Program
from certferry.core.discovery.inventory import FoundZone, Survey
from certferry.core.redaction import Secret, quoted
from certferry.errors import ConfigError, TargetRejected
from certferry.ports.adapter import Context, Ended, Http, Pace
from certferry.ports.dns import DnsProvider
from certferry.ports.examination import Examined
from certferry.ports.objects import ObjectStore
from certferry.ports.progress import Pause
from certferry.ports.receiver import FileServer
from certferry.ports.state import AccountMemory, Edit, StateStore
from certferry.ports.survey import Looked, Surveyed, ZoneKeeper
from certferry.ports.target import DeployTarget, LimitedTarget
from certferry.reconcile.run import Run
from certferry.text import Text, verbatim
from certferry.wiring import adapters

if TYPE_CHECKING:
    from certferry.adapters.http.http_client import Pacer


@dataclass(eq=False)
class AccountNotes:
    """Short notes about one account (`AccountMemory`), stored in the state if `is_kept`."""

    #: Returns the state; called only when a note is read or written.
    state: Callable[[], StateStore]
    #: The account's name in the state.
    account: str
    #: Whether changes are stored in the state; if False, only this object remembers changes.
    is_kept: bool
    _changed: dict[str, str | None] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def note(self, name: str) -> str | None:
        if name in self._changed:
            return self._changed[name]
        return self.state().account_note(self.account, name)

    def update(self, name: str, change: Edit) -> str | None:
        if self.is_kept:
            return self.state().update_account_note(self.account, name, change)
        with self._lock:
            self._changed[name] = change(self.note(name))
            return self._changed[name]

    def now(self) -> datetime:
        return self.state().now()


class Paces:
    """Limits the requests per second of each account at each service. All runs of this process
    share a limit. If a `state` is given and takes reservations, all processes and hosts that use
    the state share the limit. `is_shared`: several hosts use the state.
    """

    def __init__(
        self, state: Callable[[], StateStore] | None = None, *, is_shared: bool = True
    ) -> None:
        self._state, self._is_shared = state, is_shared and state is not None
        self._pacers: dict[tuple[str, str, float], Pacer] = {}
        self._guard = threading.Lock()

    def joined(self, account: str, pause: Pause, service: str, per_second: float) -> Pace:
        """Return an account's pace at a service, for a run that waits by `pause`: see
        `ports.adapter.OpenPace`.
        """
        from certferry.adapters.http.http_client import Pacer

        key = (account, service, per_second)
        with self._guard:
            pacer = self._pacers.get(key)
            if pacer is None:
                reserve = None if self._state is None else partial(self._reserve, self._state, key)
                pacer = self._pacers[key] = Pacer(per_second, pause=pause, reserve=reserve)
        return pacer.joined_by(pause)

    @staticmethod
    def _reserve(
        state: Callable[[], StateStore], key: tuple[str, str, float], count: int
    ) -> timedelta | None:
        account, service, per_second = key
        # Rounded up, so no second has more than `per_second` requests.
        interval = timedelta(microseconds=math.ceil(10**6 / per_second))
        return state().reserve(account, service, interval, count)

    def called(self, account: AccountTable, described: adapters.Described, settings: object) -> str:
        """Return the name under which the state counts an account's requests.

        Usually the name is the account's label. If hosts share the state, the name has a digest of
        the public parts of the account's keys (`ports.adapter.Variable`), because hosts may give
        the same account different labels. An account without public parts keeps the label.
        """
        public = [variable.key for variable in described.adapter.ENVIRONMENT if variable.is_public]
        parts = [part for key in public if (part := getattr(settings, key, None))]
        if not (self._is_shared and parts):
            return account.label
        shown = [part.reveal() if isinstance(part, Secret) else str(part) for part in parts]
        digest = hashlib.sha256("\n".join([account.type, *shown]).encode(errors="replace"))
        return f"{account.type} {digest.hexdigest()[:32]}"


@dataclass(eq=False)
class VendorAccounts:
    """Connects the accounts of the settings for one run. Each call connects anew, and connecting
    sends nothing.
    """

    #: The settings with the accounts and the certificates.
    settings: Settings
    #: Returns the memory that an account keeps between runs, by the name from `Paces.called`.
    memory_of: Callable[[str], AccountMemory]
    #: The run, which stops the waits of the ports.
    run: Run
    #: The paces that the run joins.
    paces: Paces
    #: The operator's language, `en` or `zh`.
    language: str
    #: The adapters by type.
    table: adapters.AdapterTable = field(default_factory=adapters.installed)

    def meant(
        self,
    ) -> tuple[dict[str, DnsProvider], dict[str, DeployTarget], dict[str, FileServer]]:
        """Connect the accounts used by certificates. Return three mappings by label, the DNS
        providers, the targets and the servers. An account with a broken adapter gets a port whose
        calls all fail. Raises one `ConfigError` for all mistakes.
        """
        certificates, errors = self.settings.certificates, list[ConfigError]()
        served = [
            deployment.target
            for desired in certificates
            for deployment in desired.deployments
            if deployment.delivery is None
        ]
        servers = [
            deployment.target
            for desired in certificates
            for deployment in desired.deployments
            if deployment.delivery is not None and not deployment.is_on_this_host
        ]
        proven = [account for desired in certificates for account in desired.dns_accounts]
        dns: dict[str, DnsProvider] = self._all(proven, adapters.DNS_PROVIDERS, errors)
        targets: dict[str, DeployTarget] = self._all(served, adapters.TARGETS, errors)
        files: dict[str, FileServer] = self._all(servers, adapters.SERVERS, errors)
        if errors:
            raise joined(errors)
        return dns, targets, files

    def _all(
        self, labels: Sequence[str], family: adapters.Family, errors: list[ConfigError]
    ) -> dict[str, Any]:
        ports: dict[str, Any] = {}
        for label in dict.fromkeys(labels):
            try:
                ports[label] = self._connected(label, family)
            except adapters.BrokenAdapter as broken:
                ports[label] = adapters.broken(family, broken)
            except ConfigError as error:
                errors.append(error)
        return ports

    def labels(self, family: adapters.Family) -> tuple[str, ...]:
        """Return the labels of the accounts in a family (DNS providers, or targets). Accounts of an
        unknown type are included. Imports nothing.
        """
        accounts = self.settings.accounts.values()
        others = [other for other in adapters.FAMILIES.values() if other != family]
        return tuple(
            account.label
            for account in accounts
            if self.table.is_known(family, account.type)
            or not any(self.table.is_known(other, account.type) for other in others)
        )

    def dns(self, label: str) -> DnsProvider:
        """Connect the account of a DNS provider. Raises `ConfigError`."""
        provider: DnsProvider = self._connected(label, adapters.DNS_PROVIDERS)
        return provider

    def target(self, label: str) -> DeployTarget:
        """Connect the account of a target. Raises `ConfigError`."""
        target: DeployTarget = self._connected(label, adapters.TARGETS)
        return target

    def bucket(self, label: str, bucket: str, prefix: str) -> ObjectStore:
        """Open a bucket of a target's account. Raises `ConfigError`."""
        account = self.settings.accounts[label]
        described = self.table.of_account(adapters.TARGETS, account)
        opened = getattr(described.adapter, "open_bucket", None)
        if opened is None:
            raise ConfigError(Text("the account {label} has no buckets", label=label))
        settings = bound(described, account, self.settings.secrets.resolve)
        objects: ObjectStore = opened(settings, self._context(label), bucket, prefix)
        return objects

    def survey_of(self, label: str) -> Callable[[Looked], Survey]:
        """Return the function that surveys a target. If the target cannot list domains, the
        function returns a survey without domains and with an error. Raises `ConfigError`.
        """
        target = self.target(label)
        if isinstance(target, Surveyed):
            return target.survey
        name = self.settings.accounts[label].type
        unlisted = TargetRejected(Text("{name} cannot list its domains", name=name))
        return lambda _looked: Survey((), (unlisted,))

    def zones_of(self, label: str) -> tuple[FoundZone, ...] | None:
        """Return an account's zones; `None` if the service does not list zones. Raises
        `ConfigError`, `DnsError`.
        """
        account = self.dns(label)
        return account.zones() if isinstance(account, ZoneKeeper) else None

    def credentials_work(self, label: str) -> bool:
        """Test an account's credentials by calls that only read. Return whether a test was made:
        `False` means that the adapter has no call for a test. Raises `CertferryError` if the
        service refuses the credentials or cannot be asked. A refusal that the adapter returns as a
        problem (`Examined.examine`) is not raised.
        """
        type_, has_called = self.settings.accounts[label].type, False
        if self.table.is_known(adapters.DNS_PROVIDERS, type_):
            has_called = self.zones_of(label) is not None
        if self.table.is_known(adapters.TARGETS, type_):
            target = self.target(label)
            if isinstance(target, Examined):
                target.examine(label)
                return True
        return has_called

    def _connected(self, label: str, family: adapters.Family) -> Any:
        account = self.settings.accounts[label]
        described = self.table.of_account(family, account)
        settings = bound(described, account, self.settings.secrets.resolve)
        called = self.paces.called(account, described, settings)
        connect = partial(described.adapter.connect, settings, self._context(called))
        if described.is_ours:
            return connect()
        guard = adapters.Guard(described, self.settings.secrets.known)
        try:
            return guard.around(family, guard.connecting(family.required, connect))
        except adapters.BrokenAdapter as wrong:
            raise adapters.used_by(account, wrong) from wrong

    def _context(self, called: str) -> Context:
        pause = self.run.pause
        pace = partial(self.paces.joined, called, pause)

        def connections(per_second: float) -> Http:
            from certferry.adapters.http.http_client import HttpClient

            return HttpClient(pace=pace("", per_second), pause=pause)

        return Context(
            pause=pause,
            now=self.run.now,
            memory=self.memory_of(called),
            http=connections,
            progress=self.run.progress,
            run=partial(run_program, self.settings, pause),
            contact=self._contact(),
            language=self.language,
            pace=pace,
        )

    def _contact(self) -> str:
        """Return a mail address for vendors: `email` of `[acme]`, or else the hostmaster of the
        first declared name (RFC 2142 §7).
        """
        names = [desired.names[0] for desired in self.settings.certificates if desired.names]
        zones = [f"hostmaster@{base_name(name)}" for name in names]
        return self.settings.acme.email or next(iter(zones), "")


def run_program(
    settings: Settings,
    pause: Pause,
    arguments: Sequence[str],
    within: timedelta,
    given: bytes = b"",
) -> Ended:
    """Run a program named by the operator; see `ports.adapter.RunProgram`. A relative path with a
    slash starts at the directory of the configuration file.
    """
    from certferry.adapters.programs.run import run_to_end

    paths = Paths.beside(settings.path, os.environ)
    first, *others = arguments
    if "/" in first:
        first = str(paths.resolve(first))
    return run_to_end(
        Program((first, *others), str(paths.directory), within),
        {},
        pause,
        hidden=settings.secrets.known(),
        withheld=settings.secrets.withheld(),
        given=given,
    )


def bound(described: adapters.Described, account: AccountTable, resolve: Resolve) -> object:
    """Return the adapter's settings, read from an account's table. Raises `ConfigError`."""
    seen: set[Secret] = set()

    def watched(reference: SecretReference) -> Secret:
        secret = resolve(reference)
        seen.add(secret)
        return secret

    try:
        adapter = described.adapter
        return bind(adapter.Settings, account, watched, adapter.ENVIRONMENT)
    except ConfigError:
        raise
    except Exception as exc:
        if described.is_ours:
            raise
        wrong = adapters.wrong_with(
            described.package, verbatim(quoted(adapters.in_short(exc), seen))
        )
        raise adapters.used_by(account, wrong) from exc


def forget_refusals(targets: Iterable[DeployTarget]) -> None:
    """Forget that accounts refused uploads as full: the operator says that the quota was raised."""
    for target in targets:
        if isinstance(target, LimitedTarget):
            target.forget_refusal()
