"""Two hosts that share a state, by the real command: each host knows the other, trouble is reported
once, and both share a heartbeat.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry.adapters.state.columns import from_moment
from certferry.adapters.state.connect import connect
from certferry_sandbox.heartbeat import HeartbeatService
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.support.postgresql import KEY, Postgresql
from tests.support.schemas import must_fit

IN_ORDER, FAILED, USAGE, TRY_LATER = 0, 1, 2, 75
WARNING = 1
Hosts = tuple[Host, Host]


@pytest.fixture
def database(postgresql: Postgresql) -> str:
    """Create an empty state, and return the name of its database."""
    return postgresql.new_state()


@pytest.fixture
def hosts(
    host: Host, world: World, tmp_path: Path, name: str, postgresql: Postgresql, database: str
) -> Hosts:
    """`web-1` and `web-2`, whose files declare the same certificate."""
    (tmp_path / "web-2").mkdir()
    other = Host(world, tmp_path / "web-2", certificate(name))
    for machine, called in ((host, "web-1"), (other, "web-2")):
        machine.share(postgresql.url(database), KEY, called)
    return host, other


def declare(hosts: Hosts, tables: str) -> None:
    """Write the same tables into both files."""
    for host in hosts:
        host.config.write_text(f"{host.config.read_text()}\n{tables}")


def set_back(postgresql: Postgresql, database: str, host: str, hours: float) -> None:
    """Set the end of a host's last run back by some hours."""
    condition = f"WHERE host = '{host}'"
    [[ended]] = postgresql.ask(f"SELECT ended_at FROM last_run {condition}", database)  # noqa: S608 - a test's own words
    earlier = from_moment(datetime.fromisoformat(ended) - timedelta(hours=hours))
    postgresql.ask(f"UPDATE last_run SET ended_at = '{earlier}' {condition}", database)  # noqa: S608 - a test's own words


def test_hosts_know_of_each_other(hosts: Hosts) -> None:
    """Both hosts show each host's last run, its result and the number of certificates. A host
    before its first run shows itself.
    """
    [new] = [row for row in hosts[1].run("hosts", "--json").document["hosts"] if row["this"]]
    assert ("web-2", None, 1) == (new["name"], new["last_run"], new["certificates"])
    assert [IN_ORDER, IN_ORDER] == [host.run("sync").code for host in hosts]
    for host, called in zip(hosts, ("web-1", "web-2"), strict=True):
        run = host.run("hosts", "--json")
        assert IN_ORDER == run.code
        must_fit(run.document, "hosts")
        rows = run.document["hosts"]
        assert ["web-1", "web-2"] == [row["name"] for row in rows]
        assert [called] == [row["name"] for row in rows if row["this"]]
        for row in rows:
            assert row["last_run"]["ended_at"] == row["last_run"]["succeeded_at"]
            assert (1, 0, []) == (row["certificates"], row["clock_ahead_seconds"], row["problems"])
    assert "web-2 (this one)" in hosts[1].run("hosts").out
    assert "web-2（本机）" in hosts[1].run("--lang", "zh", "hosts").out


def test_host_that_is_gone_is_forgotten(
    hosts: Hosts, postgresql: Postgresql, database: str
) -> None:
    """Another host forgets the host after its last run has ended, and lists the keys to replace."""
    web1, web2 = hosts
    assert [IN_ORDER, IN_ORDER] == [host.run("sync").code for host in hosts]
    assert "web-1 is this host" in web1.run("hosts", "forget", "web-1").complaint.error
    run = web1.run("hosts", "forget", "web-3")
    assert USAGE == run.code
    assert "did you mean" in run.complaint.hint
    with closing(connect(postgresql.url(database), KEY, host="web-2")) as state:
        begun = state.begin_run(state.now())
        assert TRY_LATER == web1.run("hosts", "forget", "web-2").code
        state.end_run(begun)

    run = web1.run("hosts", "forget", "web-2")

    assert IN_ORDER == run.code
    assert "web-2 is forgotten." in run.out
    assert "state key --rotate" in run.err
    assert "sync --renew --all" in run.err
    assert ["web-1"] == [row["name"] for row in web1.run("hosts", "--json").document["hosts"]]
    assert IN_ORDER == web2.run("sync").code
    assert "web-2" in web1.run("hosts").out


def test_overdue_host_is_reported_once(
    hosts: Hosts, hook: EventReceiver, postgresql: Postgresql, database: str
) -> None:
    """The next run of another host sends a message to its channels. `check`, `status` and `hosts`
    report the absence until the host runs again, and the return is reported as well.
    """
    channel = f'type = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
    declare(hosts, f"[notify.hook]\n{channel}")
    web1, web2 = hosts
    assert [IN_ORDER, IN_ORDER] == [host.run("sync").code for host in hosts]
    set_back(postgresql, database, "web-2", 25)
    assert IN_ORDER == web1.run("check").code
    set_back(postgresql, database, "web-2", 2)

    run = web1.run("check", "--json")
    assert WARNING == run.code
    [problem] = run.document["problems"]
    must_fit(run.document, "check")
    assert ("host_away", "web-2") == (problem["code"], problem["about_host"])
    assert "the host has not run since" in web1.run("status").out
    assert FAILED == web1.run("hosts").code
    assert [] == hook.events

    for _ in range(2):
        assert IN_ORDER == web1.run("sync").code
    [event] = hook.events
    assert ("trouble", "host_away", "web-2") == (event["event"], event["code"], event["about_host"])
    assert "web-1" == event["host"]

    assert IN_ORDER == web2.run("sync").code
    assert ["trouble", "recovered"] == [each["event"] for each in hook.events]
    assert IN_ORDER == web1.run("check").code


def test_hosts_share_one_heartbeat(hosts: Hosts, heartbeat: HeartbeatService) -> None:
    """The host whose run begins first sends the heartbeat, round by round; in its absence another
    host takes over. Each host sends its own failures.
    """
    declare(hosts, f'[heartbeat]\nurl = "{heartbeat.address}"\n')
    web1, web2 = hosts
    assert [IN_ORDER, IN_ORDER] == [host.run("sync").code for host in (web1, web2)]
    assert ["start", "success"] == [ping.kind for ping in heartbeat.pings]

    assert IN_ORDER == web2.run("sync").code
    assert ["start", "success"] * 2 == [ping.kind for ping in heartbeat.pings]


def test_failure_of_a_host_that_sends_no_heartbeat(
    hosts: Hosts, heartbeat: HeartbeatService
) -> None:
    """The failure is sent at once, and the next successful run reports success."""
    declare(hosts, f'[heartbeat]\nurl = "{heartbeat.address}"\n')
    web1, web2 = hosts
    assert IN_ORDER == web1.run("sync").code
    assert FAILED == web2.run("sync", "--renew", "--all", DP_Key="0" * 32).code
    assert IN_ORDER == web1.run("sync").code
    kinds = [ping.kind for ping in heartbeat.pings]
    assert ["start", "success", "fail", "start", "success"] == kinds


def test_metrics_carry_the_host(hosts: Hosts, tmp_path: Path) -> None:
    """Each sample names the host, so the samples of several hosts stay distinct."""
    declare(hosts, f'[metrics]\nfile = "{tmp_path}/certferry.prom"\n')
    assert IN_ORDER == hosts[1].run("sync").code
    samples = [
        line
        for line in (tmp_path / "certferry.prom").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert samples
    assert all('{host="web-2"' in sample for sample in samples)


AHEAD = timedelta(hours=2)
"""The lead of the database's clock in the test of clocks."""

_OTHER_CLOCK = """
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
$$SELECT pg_catalog.clock_timestamp() + interval '2 hours'$$
"""
_MOMENTS = """
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'
AND column_name IN ('at', 'since') OR column_name ~ '_at$' AND table_schema = 'public'
"""


def test_every_moment_is_by_the_clock_of_the_database(
    hosts: Hosts, postgresql: Postgresql, database: str
) -> None:
    """The host's clock is two hours behind: the run reports so once, and so do `doctor` and
    `hosts`. All stored times are by the clock that the hosts share.
    """
    postgresql.ask(_OTHER_CLOCK, database)
    host = hosts[0]
    host.rewrite("?host=", "?options=-csearch_path%3Dpublic,pg_catalog&host=")

    run = host.run("sync")

    assert IN_ORDER == run.code
    assert 1 == run.err.count("the clock of web-1 says")
    stored = {
        (table, column, datetime.fromisoformat(moment))
        for table, column in postgresql.ask(_MOMENTS, database)
        for (moment,) in postgresql.ask(f"SELECT {column} FROM {table}", database)  # noqa: S608 - the schema's own names
        if moment is not None
    }
    now = datetime.now(UTC) + AHEAD
    assert {"history", "version", "upload", "rollout", "last_run", "host"} <= {
        t for t, *_ in stored
    }
    assert [] == [row for row in stored if abs(row[2] - now) > timedelta(minutes=10)]

    findings = host.run("doctor", "--json").document["findings"]
    [finding] = [each for each in findings if each["code"] == "clock_off"]
    assert ("error", "web-1") == (finding["severity"], finding["subject"])
    shown = host.run("hosts")
    assert FAILED == shown.code
    assert "2 hours behind" in shown.out
