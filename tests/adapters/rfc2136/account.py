"""An account at a real BIND, with the key that may change its zones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from certferry.adapters.rfc2136.dns import Settings, connect
from certferry.adapters.rfc2136.update_server import UpdateServer
from certferry.core.redaction import Secret
from certferry_sandbox.testing.context import connected_with
from tests.adapters.recorded_pauses import RecordedPauses
from tests.support.bind import KEY_NAME, SECRET, Bind


def connected(
    server: str, now: Callable[[], datetime] | None = None, **settings: Any
) -> UpdateServer:
    """Return a provider for a server, with the test's key as the default."""
    defaults: dict[str, Any] = {
        "server": server,
        "key_name": KEY_NAME,
        "key_secret": Secret(SECRET),
        "timeout": timedelta(seconds=5),
    }
    clock = now or (lambda: datetime.now(UTC))
    context = connected_with(pause=RecordedPauses(), now=clock)
    provider = connect(Settings(**{**defaults, **settings}), context)
    assert isinstance(provider, UpdateServer)
    return provider


def at(bind: Bind, **settings: Any) -> UpdateServer:
    """Return a new provider for a BIND's zones, as another process would make it."""
    return connected(bind.address, **settings)
