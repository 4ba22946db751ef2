"""The account at a bench's CA, as an operator asks for it."""

from __future__ import annotations

from typing import Any

from certferry.adapters.acme.account import AcmeCaAccount
from certferry.ports.state import AcmeAccount
from certferry_sandbox.testing.interruptions import Fate, Port
from tests.adapters.acme.bench import Bench


def ca_account(bench: Bench, fate: Fate | None = None) -> AcmeCaAccount:
    """Return the account, by default in a run that nothing happens to."""
    state: Any = bench.state if fate is None else Port(bench.state, fate)
    settings = bench.settings()
    return AcmeCaAccount(
        settings.directory,
        state,
        ca_bundle=settings.ca_bundle,
        pause=bench.clock.pause,
        now=bench.clock.now,
    )


def account(bench: Bench) -> AcmeAccount:
    found = bench.state.account(bench.proxy.directory_url)
    assert found is not None
    return found


def registrations(bench: Bench) -> list[int | None]:
    """How the CA answered each request for an account: 201 made, 200 found."""
    return [call.status for call in bench.proxy.journal if call.request.path == "/sign-me-up"]
