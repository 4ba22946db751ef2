"""What a command about the CAs works with: their accounts, and what was issued."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from certferry.config.model import Settings
from certferry.config.values import directory_url
from certferry.core.certificates.lineage import RevocationReason, Version
from certferry.core.certificates.names import base_name
from certferry.core.dns_persist import PersistRecord, with_wildcards
from certferry.ports.issuer import CaAccount
from certferry.ports.progress import no_listener
from certferry.reconcile.revoke import RevocationDoors, revoke, to_revoke
from certferry.reconcile.visit import held_lease, history_keeper
from certferry.wiring.clock import now
from certferry.wiring.late_issuer import authority_at, issuer_settings
from certferry.wiring.session import Session, who_runs


@contextmanager
def open_at_cas(settings: Settings, *, language: str) -> Iterator[CaSession]:
    """Open what the settings name; where there is no state, none is made."""
    with ExitStack() as resources:
        yield CaSession(settings, no_listener, resources, language=language, looks_only=True)


@contextmanager
def open_to_register(settings: Settings, *, language: str) -> Iterator[CaSession]:
    """Open what the settings name, to make an account where there is none."""
    with ExitStack() as resources:
        yield CaSession(settings, no_listener, resources, language=language)


class CaSession(Session):
    """A session that can reach the accounts at the CAs."""

    def account_at(self, directory: str | None) -> CaAccount:
        """Return the account at a directory; at the usual one where that is not known."""
        from certferry.adapters.acme.account import AcmeCaAccount

        ca = authority_at(self._settings, directory or self._settings.acme.directory)
        return AcmeCaAccount(
            ca.directory,
            self.state,
            ca_bundle=ca.ca_bundle,
            proxy=ca.proxy,
            pause=self._stopping.pause,
            now=now,
        )

    def persist_record(self, name: str) -> PersistRecord:
        """Return the record of dns-persist-01 that proves a name to the usual CA; with its wildcard
        where that is asked for, or declared. See `adapters.acme.issuer.persist_record`.
        """
        from certferry.adapters.acme.issuer import persist_record

        declared = [name for desired in self.certificates for name in desired.names]
        return persist_record(
            name,
            issuer_settings(self._settings, self._settings.acme.directory),
            wildcard=with_wildcards([name, *declared])[base_name(name)],
            state=self.state,
            pause=self._stopping.pause,
            now=now,
        )

    def directory_of(self, name: str | None) -> str:
        """Return the URL of a CA that is called so, the usual one's without a name. Raises
        `ConfigError`.
        """
        known = {ca.name: ca.directory for ca in self._settings.acme.authorities}
        if name is None:
            return self._settings.acme.directory
        return known.get(name) or directory_url(name)

    def to_revoke(self, lineage: str, reason: RevocationReason) -> list[Version]:
        """See `reconcile.revoke.to_revoke`."""
        return to_revoke(lineage, reason, self.state, now())

    def revoke(self, lineage: str, reason: RevocationReason) -> list[Version]:
        """See `reconcile.revoke.revoke`."""
        lease = partial(held_lease, self.state, now)
        keep = history_keeper(self.state, now, who_runs())
        doors = RevocationDoors(self.state, self.account_at, lease, now, keep)
        return revoke(lineage, reason, doors)
