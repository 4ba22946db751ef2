"""From an account's label to its door: the adapter found, its settings bound, connected."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import cast

from certferry.config.bind import bind
from certferry.config.files import Paths
from certferry.config.mistakes import joined
from certferry.config.model import AccountTable, Settings
from certferry.config.secrets import Resolve, SecretReference
from certferry.core.certificates.names import base_name
from certferry.core.desired.certificate import Program
from certferry.core.discovery.survey import Survey
from certferry.core.redaction import quoted
from certferry.core.secret import Secret
from certferry.errors import ConfigError, TargetRejected
from certferry.ports.adapter import Context
from certferry.ports.dns import DnsProvider
from certferry.ports.http import Http
from certferry.ports.programs import Ended
from certferry.ports.progress import Pause, Progress
from certferry.ports.state import AccountMemory, Edit, StateStore
from certferry.ports.survey import Looked, Surveyed
from certferry.ports.target import DeployTarget
from certferry.text import Text, verbatim
from certferry.wiring.adapters import (
    DNS_PROVIDERS,
    FAMILIES,
    TARGETS,
    BrokenAdapter,
    Described,
    Family,
    Table,
    in_short,
    installed,
    used_by,
    wrong_with,
)
from certferry.wiring.clock import now
from certferry.wiring.third_party import Guard, broken


class AccountNotes:
    """The notes of one account. The state is opened when one is asked for.

    Unless it `is_kept`, what changes is remembered by this process alone.
    """

    def __init__(self, state: Callable[[], StateStore], account: str, *, is_kept: bool) -> None:
        self._state = state
        self._account = account
        self._is_kept = is_kept
        self._changed: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def note(self, name: str) -> str | None:
        """See `AccountMemory.note`."""
        if name in self._changed:
            return self._changed[name]
        return self._state().account_note(self._account, name)

    def update(self, name: str, change: Edit) -> str | None:
        """See `AccountMemory.update`."""
        if self._is_kept:
            return self._state().update_account_note(self._account, name, change)
        with self._lock:
            self._changed[name] = change(self.note(name))
            return self._changed[name]


class Accounts:
    """The accounts of some settings. Each call connects anew; nothing is sent by it."""

    def __init__(
        self,
        settings: Settings,
        memory_of: Callable[[str], AccountMemory],
        *,
        pause: Pause,
        progress: Progress,
        language: str,
        table: Table | None = None,
    ) -> None:
        self._settings = settings
        self._memory_of = memory_of
        self._pause = pause
        self._progress = progress
        self._language = language
        self._table = installed() if table is None else table

    def meant(self) -> tuple[dict[str, DnsProvider], dict[str, DeployTarget]]:
        """Connect every account that a certificate names. One whose adapter is broken says so when
        it is used, so that the others go on. Raises one `ConfigError` of all that is wrong with
        what the operator wrote.
        """
        certificates = self._settings.certificates
        deployments = [
            d for desired in certificates for d in desired.deployments if d.delivery is None
        ]
        dns: dict[str, DnsProvider] = {}
        targets: dict[str, DeployTarget] = {}
        errors: list[ConfigError] = []
        for label in dict.fromkeys(
            account for desired in certificates for account in desired.dns_accounts
        ):
            with _collected(errors):
                try:
                    dns[label] = self.dns(label)
                except BrokenAdapter as wrong:
                    dns[label] = broken(DNS_PROVIDERS, wrong)
        for label in dict.fromkeys(deployment.target for deployment in deployments):
            with _collected(errors):
                try:
                    targets[label] = self.target(label)
                except BrokenAdapter as wrong:
                    targets[label] = broken(TARGETS, wrong)
        if errors:
            raise joined(errors)
        return dns, targets

    def labels(self, family: Family) -> tuple[str, ...]:
        """Return the labels of the accounts of a family; nothing is imported. One whose type is
        known nowhere is of each: what is wrong with it is told when it is connected.
        """
        accounts = self._settings.accounts.values()
        others = [other for other in FAMILIES.values() if other != family]
        return tuple(
            one.label
            for one in accounts
            if self._table.is_known(family, one.type)
            or not any(self._table.is_known(other, one.type) for other in others)
        )

    def dns(self, label: str) -> DnsProvider:
        """Connect the account of a DNS provider. Raises `ConfigError`."""
        return cast("DnsProvider", self._connected(label, DNS_PROVIDERS))

    def target(self, label: str) -> DeployTarget:
        """Connect the account of a target. Raises `ConfigError`."""
        return cast("DeployTarget", self._connected(label, TARGETS))

    def survey_of(self, label: str) -> Callable[[Looked], Survey]:
        """Return `ports.survey.Surveyed.survey` of a target; one that lacks it says so. Raises
        `ConfigError`.
        """
        target = self.target(label)
        if hasattr(target, "survey"):
            return cast("Surveyed", target).survey
        name = self._settings.accounts[label].type
        unlisted = TargetRejected(Text("{name} cannot list its domains", name=name))
        return lambda _looked: Survey((), (unlisted,))

    def _connected(self, label: str, family: Family) -> object:
        account = self._settings.accounts[label]
        described = self._table.of_account(family, account)
        settings = bound(described, account, self._settings.secrets.resolve)
        connect = partial(described.adapter.connect, settings, self._context(label))
        if described.is_ours:
            return connect()
        guard = Guard(described, self._settings.secrets.known)
        try:
            return guard.around(family, guard.connecting(family.required, connect))
        except BrokenAdapter as wrong:
            raise used_by(account, wrong) from wrong

    def _context(self, label: str) -> Context:
        return Context(
            pause=self._pause,
            now=now,
            memory=self._memory_of(label),
            http=self._http,
            progress=self._progress,
            run=partial(run_program, self._settings, self._pause),
            contact=self._contact(),
            language=self._language,
        )

    def _http(self, per_second: float) -> Http:
        from certferry.adapters.http.client import HttpClient, Pacer

        return HttpClient(pace=Pacer(per_second, pause=self._pause), pause=self._pause)

    def _contact(self) -> str:
        """Whom a vendor may write to: the operator, or by default the zone's (RFC 2142 §7)."""
        names = [desired.names[0] for desired in self._settings.certificates if desired.names]
        zones = [f"hostmaster@{base_name(name)}" for name in names]
        return self._settings.acme.email or next(iter(zones), "")


def run_program(
    settings: Settings,
    pause: Pause,
    arguments: Sequence[str],
    within: timedelta,
    given: bytes = b"",
) -> Ended:
    """See `ports.programs.RunProgram`. A path is relative to the file that names it."""
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


def bound(described: Described, account: AccountTable, resolve: Resolve) -> object:
    """Give the adapter's settings, as an account's table has them. Raises `ConfigError`."""
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
        wrong = wrong_with(described.package, verbatim(quoted(in_short(exc), seen)))
        raise used_by(account, wrong) from exc


@contextmanager
def _collected(errors: list[ConfigError]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        errors.append(error)
