"""`certferry hosts`: how the hosts that share a state stand, in words and for programs."""

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
    """Return a host in order that is at work, one whose clock is off, and one that is gone."""
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
    """Print them, and return the lines that stand there."""
    found = standings()
    console.console.print_table(status_text.hosts(found, voice), status_text.of_hosts(found, voice))
    return console.out.splitlines()


def test_hosts_in_a_table() -> None:
    """A row for each, and below what is wrong, with what to do."""
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
    """Each downwards, in the operator's language, and no line is too wide."""
    monkeypatch.setenv("COLUMNS", "60")
    lines = printed(terminal(NO_COLOR="1"), voice_in("zh"))
    assert ["web-1（本机）", "  版本        1.2.0"] == lines[:2]
    assert "  上次成功    2026-11-29 00:00 UTC" in lines
    assert "  时钟偏差    快 1 天" in lines
    assert all(width(one) <= 60 for one in lines)


def test_hosts_for_a_program() -> None:
    """As their schema has it; what is not known is null."""
    found = documents.rendered(documents.of_hosts(standings()), Voice())
    must_fit(found, "hosts")
    assert found["ok"] is False
    listed: list[dict[str, object]] = json.loads(json.dumps(found["hosts"]))
    assert [0, 86400, None, None] == [one["clock_ahead_seconds"] for one in listed]
    assert [True, False, False, False] == [one["this"] for one in listed]
    assert "2026-11-29T11:00:00Z" == listed[0]["running_since"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with a state in a file, which declares nothing."""
    path = tmp_path / "certferry.toml"
    path.write_text(f'[state]\nurl = "sqlite:///{tmp_path}/state.db"\n')
    path.chmod(0o600)
    return path


def test_state_in_a_file_has_one_host(file: Path) -> None:
    """Nothing is wrong with it, and it is not to be forgotten."""
    console = TestConsole()
    assert Exit.OK == run(["--config", str(file), "hosts", "--json"], console.console)
    [host] = json.loads(console.out)["hosts"]
    assert host["this"]

    for name, said in (
        (host["name"], f"error: {host['name']} is this host"),
        ("web-9", "error: there is no host web-9"),
    ):
        console = TestConsole()
        words = ["--config", str(file), "hosts", "forget", name]
        assert Exit.USAGE == run(words, console.console)
        assert said in console.err
        assert "known" not in console.err
