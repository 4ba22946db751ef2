"""The console's own certificate from the state, and health while the state is away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from certferry.config.load import load
from certferry.console.listening import ServedCertificate
from certferry.core.certificates.lineage import Revocation, RevocationReason
from certferry.errors import ConfigError
from certferry.wiring.workspace import Workspace
from certferry_sandbox.testing.certificates import make_bundle
from tests.console.processes import address, serving, write
from tests.support.postgresql import KEY, Postgresql
from tests.support.tiers import long
from tests.support.waiting import eventually

NOW = datetime.now(UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    config = write(tmp_path, 'certificate = "ops"\nurl = "https://ops.example.com/"')
    with Workspace(load(config, {})) as opened:
        yield opened


def issue(workspace: Workspace, name: str = "ops.example.com") -> None:
    state = workspace.state
    bundle = make_bundle(name, not_before=NOW - timedelta(hours=1))
    lease = state.acquire("ops", NOW)
    state.save_version(lease, bundle, NOW)
    state.release(lease)


def test_certificate_is_loaded_from_the_state(workspace: Workspace) -> None:
    """The newest certificate is loaded from the state. A certificate already in use is not loaded
    again.
    """
    served = ServedCertificate()
    with pytest.raises(ConfigError, match="there is no certificate yet"):
        served.load(workspace)

    issue(workspace)
    assert served.load(workspace)
    assert not served.load(workspace)
    issue(workspace)
    assert served.load(workspace)


def test_revoked_certificate_is_not_loaded(workspace: Workspace) -> None:
    """The earlier certificate stays in use until a new certificate is issued."""
    issue(workspace)
    served = ServedCertificate()
    served.load(workspace)
    issue(workspace)
    state = workspace.state
    newest = state.versions("ops")[0].number
    lease = state.acquire("ops", NOW)
    state.save_revocation(lease, newest, Revocation(NOW, RevocationReason.KEY_COMPROMISE))
    state.release(lease)

    assert not served.load(workspace)


def test_certificate_for_another_name_is_refused(workspace: Workspace) -> None:
    """The certificate must cover the host name in `url`."""
    issue(workspace)
    served = ServedCertificate()
    served.load(workspace)
    issue(workspace, "other.example.com")

    with pytest.raises(ConfigError, match=r"but the host name in `url` is ops\.example\.com"):
        served.load(workspace)


@long
def test_health_follows_the_database(tmp_path: Path, postgresql: Postgresql) -> None:
    """`/healthz` answers with 503 while the database is stopped, and with 200 afterwards."""
    database, where = postgresql.new_state(), address()
    config = write(tmp_path, f'listen = "{where}"')
    text = config.read_text()
    _, _, rest = text.partition("[acme]")
    url = postgresql.tcp_url(database)
    config.write_text(f'[state]\nurl = "{url}"\nkey = "env:STATE_KEY"\n[acme]{rest}')

    def status() -> int:
        return requests.get(f"http://{where}/healthz", timeout=60).status_code

    with serving(config, environ={"STATE_KEY": KEY.reveal()}) as served:
        # A stop during the first run would leave a host without any run, which is not well.
        assert eventually(lambda: bool(postgresql.ask("SELECT 1 FROM last_run", database)))
        assert status() == 200, served.output
        postgresql.stop()
        try:
            assert status() == 503
            assert requests.get(f"http://{where}/healthz", timeout=60).text == "not ok\n"
        finally:
            postgresql.start()
        assert eventually(lambda: status() == 200), served.output
