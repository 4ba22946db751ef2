"""The issuer of a rehearsal: that of the settings, at the staging directory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from certferry.config.check import called
from certferry.config.model import Settings
from certferry.errors import ConfigError
from certferry.ports.state import AcmeOrder, Lease, StateStore
from certferry.reconcile import rehearsal
from certferry.reconcile.rehearsal import Rehearsed
from certferry.text import Text
from certferry.wiring.late_issuer import issuer_for
from certferry.wiring.session import Session


def rehearsing(settings: Settings) -> Settings:
    """Return the settings of a rehearsal. Raises `ConfigError` for a directory whose staging
    directory is not known.
    """
    acme = settings.acme
    if acme.staging is None:
        raise ConfigError(
            Text("certferry knows no staging directory of {directory}", directory=acme.directory),
            hint=Text(
                "write `staging` under [acme]: the URL of a directory of the same CA whose"
                " certificates are for tests"
            ),
        )
    usual = replace(acme.usual, name=called(acme.staging), directory=acme.staging)
    # A record proves names to the account at the usual directory alone.
    at_staging = replace(acme, usual=usual, fallback=(), dns_persist=False)
    return replace(settings, acme=at_staging)


def rehearse(session: Session, at_staging: Settings, *, renew: bool) -> Rehearsed:
    """Try at the staging directory what `sync` would order."""
    state = cast("StateStore", WithoutOrders(session.state))
    issuer = issuer_for(at_staging, state, session.pause)
    return rehearsal.rehearse(session.reconciler(), session.certificates, issuer, renew=renew)


class WithoutOrders:
    """A state that keeps no order and shows none, so that a rehearsal neither goes on with a real
    one nor takes its place. Challenge records are kept: a later run removes those that are left.
    """

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def order(self, lineage: str) -> AcmeOrder | None:
        """See `StateStore.order`."""
        del lineage
        return None

    def save_order(self, lease: Lease, order: object) -> None:
        """See `StateStore.save_order`."""
        self._state.extend(lease)

    def drop_order(self, lease: Lease, **_: object) -> None:
        """See `StateStore.drop_order`."""
        self._state.extend(lease)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)
