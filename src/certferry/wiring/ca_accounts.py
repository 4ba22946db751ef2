"""The accounts at the CAs of the settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from certferry.config.model import Settings
from certferry.ports.ca_account import AccountAt, CaAccount
from certferry.ports.progress import Pause
from certferry.ports.state import StateStore
from certferry.wiring.clock import now
from certferry.wiring.late_issuer import authority_at


def account_at(settings: Settings, state: Callable[[], StateStore], pause: Pause) -> AccountAt:
    """Return what gives the account at a directory."""
    return partial(_account, settings, state, pause)


def _account(
    settings: Settings, state: Callable[[], StateStore], pause: Pause, directory: str | None
) -> CaAccount:
    from certferry.adapters.acme.account_desk import AccountDesk

    ca = authority_at(settings, directory or settings.acme.directory)
    return AccountDesk(ca.directory, state(), ca_bundle=ca.ca_bundle, pause=pause, now=now)
