"""`certferry hosts`: the standing of hosts with a shared state, as a table and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.core.assessment.hosts import HostStanding, of_this_host, standings_of
from certferry.core.observed.records import HostRecord, HostWork, LastRun
from certferry.present import documents, status_text
from certferry.present.language import Voice, voice_in
from certferry.present.layout import width
from tests.cli.consoles import TestConsole, terminal
from tests.support.schemas import must_fit

NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def standings() -> tuple[HostStanding, ...]:
    """Return a host in order and at work, a host with a wrong clock, a lost host, and a host
    without runs.
    """
    hosts = (
        HostRecord(
            "web-1",
            "digest",
            "1.2.0",
            NOON - HOUR,
            timedelta(0),
            LastRun(NOON - 12 * HOUR, NOON - 12 * HOUR),
            running_since=NOON - HOUR,
        ),
        HostRecord("web-2", "another", "1.2.0", NOON - HOUR, timedelta(days=1), LastRun(NOON)),
        HostRecord("web-3", "gone", "1.1.0", NOON - 72 * HOUR, None, LastRun(NOON - 72 * HOUR)),
        HostRecord("laptop"),
    )
    work = {"web-1": HostWork(12, (), ("img", "ops")), "web-2": HostWork(0, ("img",))}
    own = of_this_host("web-1", NOON, timedelta(0), None)
    return standings_of(hosts, "web-1", own, NOON, work)


def printed(console: TestConsole, voice: Voice) -> list[str]:
    """Print the standings, and return the lines."""
    hosts = standings()
    console.console.print_table(status_text.hosts(hosts, voice), status_text.of_hosts(hosts, voice))
    return console.out.splitlines()


def test_hosts_in_a_table() -> None:
    """Each host has a row, and the problems with hints follow below."""
    rows = """\
        HOST              VERSION  LAST RUN              LAST SUCCESS          CERTIFICATES  CLOCK        RUNNING SINCE         WORKS ON  DECLARES AN OLDER
        web-1 (this one)  1.2.0    2026-11-29 00:00 UTC  2026-11-29 00:00 UTC  12            —            2026-11-29 11:00 UTC  img, ops  —
        web-2             1.2.0    2026-11-29 12:00 UTC  —                     0             1 day ahead  —                     —         img
        web-3             1.1.0    2026-11-26 12:00 UTC  —                     0             —            —                     —         —
        laptop            —        —                     —                     0             —            —                     —         —

        web-2: the clock of web-2 says 2026-11-30 11:00 UTC, the clock of the database 2026-11-29 11:00 UTC
          hint: set the host's clock (`timedatectl set-ntp true`): the state uses the database's clock, but signatures of requests and TLS use the host's
        web-3: the host has not run since 2026-11-26 12:00 UTC
          hint: check with `certferry schedule show` on the host whether the system starts the runs; if the host is gone: `certferry hosts forget web-3`
        """  # noqa: E501 - a table, as wide as it is
    assert dedent(rows).splitlines() == printed(TestConsole(), Voice(zone=UTC))


def test_hosts_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each host is a list of lines in the operator's language, and no line is too wide."""
    monkeypatch.setenv("COLUMNS", "60")
    lines = printed(terminal(NO_COLOR="1"), voice_in("zh"))
    assert ["web-1（本机）", "  版本        1.2.0"] == lines[:2]
    assert "  上次成功    2026-11-29 00:00 UTC" in lines
    assert "  时钟偏差    快 1 天" in lines
    assert all(width(line) <= 60 for line in lines)


def test_hosts_as_json() -> None:
    """The document fits its schema, and unknown values are null."""
    document = documents.rendered(documents.of_hosts(standings()), Voice())
    must_fit(document, "hosts")
    assert document["ok"] is False
    listed: list[dict[str, object]] = json.loads(json.dumps(document["hosts"]))
    assert [0, 86400, None, None] == [entry["clock_ahead_seconds"] for entry in listed]
    assert [True, False, False, False] == [entry["this"] for entry in listed]
    assert "2026-11-29T11:00:00Z" == listed[0]["running_since"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a configuration without certificates, with a state in a file."""
    path = tmp_path / "certferry.toml"
    path.write_text(f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n')
    path.chmod(0o600)
    return path


def test_state_in_a_file_has_one_host(file: Path) -> None:
    """The host is in order, and `forget` refuses the host."""
    console = TestConsole()
    assert Exit.OK == run(["--config", str(file), "hosts", "--json"], console.console)
    [host] = json.loads(console.out)["hosts"]
    assert host["this"]

    for name, message in (
        (host["name"], f"error: {host['name']} is this host"),
        ("web-9", "error: there is no host web-9"),
    ):
        console = TestConsole()
        words = ["--config", str(file), "hosts", "forget", name]
        assert Exit.USAGE == run(words, console.console)
        assert message in console.err
        assert "known" not in console.err
