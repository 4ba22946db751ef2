"""The account at the CA of a bench, as the account commands see it."""

from __future__ import annotations

from typing import Any

from certferry.adapters.acme.account import AcmeCaAccount
from certferry.ports.state import AcmeAccount
from certferry_sandbox.testing.interruptions import Fate, Port
from tests.adapters.acme.bench import Bench


def ca_account(bench: Bench, fate: Fate | None = None) -> AcmeCaAccount:
    """Return the account, by default in a run without interruptions."""
    state: Any = bench.state if fate is None else Port(bench.state, fate)
    return AcmeCaAccount(bench.settings(), state, bench.clock.pause, bench.clock.now)


def account(bench: Bench) -> AcmeAccount:
    stored = bench.state.account(bench.proxy.directory_url)
    assert stored is not None
    return stored


def registrations(bench: Bench) -> list[int | None]:
    """Return the status of each answer to a request for an account: 201 created, 200 existing."""
    return [call.status for call in bench.proxy.journal if call.request.path == "/sign-me-up"]
