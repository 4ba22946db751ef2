"""The parts that all runs of a process share: the state, and the pace of each account."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry.adapters.state.postgresql import PostgresqlDatabase
from certferry.config.load import load
from certferry.reconcile.run import Run
from certferry.wiring.accounts import Paces, VendorAccounts
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from certferry_sandbox.testing.memory_state import MemoryState
from certferry_sandbox.zones import Zones
from tests.support.postgresql import KEY, Postgresql

PER_SECOND = 4.0


def workspace_in(folder: Path, *, reads_only: bool = False) -> Workspace:
    path = folder / "certferry.toml"
    path.write_text(f'[state]\nurl = "sqlite:///{folder}/state.db"\n')
    path.chmod(0o600)
    return Workspace(load(path, {}, ADAPTERS), reads_only=reads_only)


def test_the_state_is_opened_once(tmp_path: Path) -> None:
    """Many threads may ask for the state at once."""
    meeting = threading.Barrier(8, timeout=30)

    def state(workspace: Workspace) -> object:
        meeting.wait()
        return workspace.state

    with workspace_in(tmp_path) as workspace, ThreadPoolExecutor(8) as pool:
        opened = set(map(id, pool.map(state, [workspace] * 8)))

    assert 1 == len(opened)


def test_reading_command_creates_no_state(tmp_path: Path) -> None:
    """The folder stays without even an empty file."""
    with workspace_in(tmp_path, reads_only=True) as workspace:
        assert () == workspace.state.lineages()

    assert ["certferry.toml"] == [path.name for path in tmp_path.iterdir()]


def test_two_runs_share_the_pace_of_an_account() -> None:
    """Together they send as many requests as a single run may; each waits with its own pause."""
    paces, waits = Paces(), {"one": list[float](), "other": list[float]()}
    runs = [
        paces.joined("qiniu", waits[name].append, "https://api.example.com", PER_SECOND)
        for name in waits
    ]
    elsewhere = paces.joined("other", waits["one"].append, "https://api.example.com", PER_SECOND)

    for _ in range(4):
        for pace in runs:
            pace.wait()
    apart = [*waits["one"], *waits["other"]]
    elsewhere.wait()

    assert 7 == len(apart)
    assert max(apart) > 7 / PER_SECOND - 0.2
    assert 7 == len(waits["one"] + waits["other"]), "another account has its own"


KEYS = """
[accounts.{}]
type = "qiniu"
access_key = "planted-{}"
secret_key = "planted-secret"
"""
CLOUDFLARE = '[accounts.zones]\ntype = "cloudflare"\ntoken = "planted-token"\n'


def test_a_run_goes_by_its_own_clock(tmp_path: Path) -> None:
    """Later changes of the machine's clock do not move the clock of the run."""
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    machine = iter([long_ago])
    run = Run(machine=lambda: next(machine))

    with workspace_in(tmp_path) as workspace:
        ports = workspace.connect(run)

    assert timedelta(0) <= ports.now() - long_ago < timedelta(hours=1)


def names_of(folder: Path, text: str, paces: Paces) -> list[str]:
    """Return the names under which the requests of a file's accounts are counted."""
    path = folder / "certferry.toml"
    path.write_text(text)
    path.chmod(0o600)
    settings, names = load(path, {}, ADAPTERS), list[str]()

    def memory_of(name: str) -> MemoryAccount:
        names.append(name)
        return MemoryAccount()

    accounts = VendorAccounts(settings, memory_of, run=Run(), paces=paces, language="en")
    for label, account in settings.accounts.items():
        accounts.target(label) if account.type == "qiniu" else accounts.dns(label)
    return names


def test_account_is_the_same_under_another_label(tmp_path: Path) -> None:
    """Hosts with a shared state know an account by its access key, which is not stored. A key
    without a public part has the label as its name.
    """
    text = KEYS.format("one", "key") + KEYS.format("two", "key") + KEYS.format("other", "key-2")
    first, second, other, zones = names_of(tmp_path, text + CLOUDFLARE, Paces(MemoryState))

    assert first == second
    assert first != other
    assert "zones" == zones
    assert "planted" not in first + other


def test_account_of_a_single_host_has_its_label_as_name(tmp_path: Path) -> None:
    """The stored notes of earlier releases have the label as well."""
    assert ["one", "two"] == names_of(
        tmp_path, KEYS.format("one", "key") + KEYS.format("two", "key"), Paces()
    )


DNSPOD = """
[state]
url = "{url}"
key = "env:CERTFERRY_KEY"
host = "{host}"
[accounts.{label}]
type = "dnspod"
id = "12345"
token = "0123456789abcdef0123456789abcdef"
api = "{api}"
"""


def test_hosts_count_an_account_together(postgresql: Postgresql, tmp_path: Path) -> None:
    """Hosts share its pace and the budget of an hour under any label; a reading command shares the
    pace.
    """
    url, zones, labels = postgresql.url(postgresql.new_state()), Zones(), ("dnspod", "zones")
    with DnspodService(zones, nameservers=["ns1.dns.test"]) as service:
        service.add_account("12345", "0123456789abcdef0123456789abcdef")
        for label in labels:
            path = tmp_path / f"{label}.toml"
            named = {"host": f"on-{label}", "label": label, "api": service.url}
            path.write_text(DNSPOD.format(url=url, **named))
            path.chmod(0o600)
            settings = load(path, {"CERTFERRY_KEY": KEY.reveal()}, ADAPTERS)
            for reads_only in (False, True):
                with Workspace(settings, reads_only=reads_only) as workspace:
                    workspace.accounts(Run()).zones_of(label)
        with closing(PostgresqlDatabase(url)) as database:
            [paced] = database.rows("SELECT account, name, until FROM pace")
            [noted] = database.rows("SELECT account FROM account_note WHERE name = 'spent'")

    assert named["api"] == paced["name"]
    assert paced["account"] == noted["account"]
    assert not {paced["account"]} & {*labels, "12345"}
