"""An account at a real PowerDNS, through the library lexicon."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from certferry.adapters.lexicon.dns import LexiconRecords, Settings, connect
from certferry.core.redaction import Secret
from certferry_sandbox.testing.context import connected_with
from tests.adapters.recorded_pauses import RecordedPauses
from tests.support.powerdns import KEY, PowerDns


def connected(
    provider: str, options: dict[str, Secret | str], pause: Any = None, **settings: Any
) -> LexiconRecords:
    timeout = settings.pop("timeout", timedelta(seconds=20))
    parsed = Settings(provider=provider, options=options, timeout=timeout, **settings)
    records = connect(parsed, connected_with(pause=pause or RecordedPauses()))
    assert isinstance(records, LexiconRecords)
    return records


def at(server: PowerDns | str, key: str = KEY, **settings: Any) -> LexiconRecords:
    """Return a new provider for the zones of a PowerDNS, as another process would make it."""
    url = server if isinstance(server, str) else server.url
    return connected("powerdns", {"auth_token": Secret(key), "pdns-server": url}, **settings)
