"""Two hosts that share a state, by the real command: a single order with files on each host,
different configurations, and receivers of a single host.
"""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from certferry_sandbox.faults import Fault
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.world import World
from tests.acceptance.host import LONGEST_RUN, Host, certificate
from tests.acceptance.test_orders import rehearsing
from tests.support.postgresql import KEY, Postgresql
from tests.support.waiting import eventually

IN_ORDER, FAILED, USAGE, TRY_LATER = 0, 1, 2, 75


def with_files(directory: Path, *more: str) -> str:
    """Return the table of a deployment to files, with a copy program as its reload."""
    lines = ["[[certificates.deploy]]", 'to = "files"', f'directory = "{directory}/tls"']
    reload = f'reload = ["cp", "tls/fullchain.pem", "{directory}/reloaded.pem"]'
    return "\n".join([*lines, reload, *more, ""])


@pytest.fixture
def database(postgresql: Postgresql) -> str:
    """Create the shared database, and return its name."""
    return postgresql.new_state()


@pytest.fixture
def hosts(
    world: World, postgresql: Postgresql, database: str, tmp_path: Path, name: str
) -> tuple[Host, Host]:
    """Hosts with the same certificate, each with its own files."""
    url = postgresql.url(database)

    def host(called: str) -> Host:
        folder = tmp_path / called
        folder.mkdir()
        made = Host(world, folder, certificate(name) + with_files(folder))
        made.share(url, KEY, called)
        return made

    return host("web-1"), host("web-2")


def test_one_issues_and_each_installs(hosts: tuple[Host, Host], name: str) -> None:
    """A single order and upload serve both hosts; each host reloads, and its next run changes
    nothing.
    """
    first, second = hosts
    assert IN_ORDER == first.run("sync").code
    installed = second.run("sync", "--json")
    assert (IN_ORDER, 0, 0) == (installed.code, installed.left.orders, installed.left.qiniu_uploads)
    assert ["deploy"] == [step["action"] for step in installed.steps if step["outcome"] == "done"]
    pems = {(host.directory / "reloaded.pem").read_text() for host in hosts}
    assert 1 == len(pems)
    for host in hosts:
        again = host.run("sync", "--json")
        assert {"unchanged"} == {step["outcome"] for step in again.steps}
        assert IN_ORDER == host.run("check").code


def test_hosts_with_different_files(hosts: tuple[Host, Host], name: str) -> None:
    """The host with the older file says so in every command, and installs the certificate in force.
    The other host's certificates count as declared, and cannot be forgotten here.
    """
    first, second = hosts
    assert IN_ORDER == first.run("sync").code
    second.rewrite(f'names = ["{name}"]', f'names = ["{name}", "*.{name}"]')
    text = second.config.read_text()
    assert IN_ORDER == rehearsing(second).run("sync", "--rehearse").code
    second.config.write_text(text)
    assert [] == first.run("plan", "--json").document["certificates"][0]["notices"]
    assert IN_ORDER == second.run("sync").code

    planned, run = first.run("plan", "--json"), first.run("sync", "--json")
    assert (IN_ORDER, IN_ORDER, 0) == (planned.code, run.code, run.left.orders)
    [notice] = planned.document["certificates"][0]["notices"]
    [step] = [each for each in run.steps if each["target"] is None]
    assert ["declaration_outdated"] * 2 == [notice["error"]["code"], step["code"]]
    for words in (notice["error"]["message"], step["detail"], first.run("status").out):
        assert (
            f"{name} is declared differently on web-2, and the declaration there is newer" in words
        )
    pems = {(host.directory / "tls" / "fullchain.pem").read_text() for host in hosts}
    assert 1 == len(pems)
    findings = first.run("doctor", "--json").document["findings"]
    assert ["warning"] == [
        each["severity"] for each in findings if each["code"] == "declaration_outdated"
    ]
    back = first.run("rollback", name)
    assert (FAILED, 0) == (back.code, back.left.qiniu_writes)

    first.config.write_text(first.config.read_text().replace(name, f"other-{name}"))
    refused = first.run("-q", "forget", name)
    assert (USAGE, f"{name} is declared on web-2") == (refused.code, refused.complaint.error)
    assert [] == first.run("status", "--json").document["undeclared"]
    shown = first.run("discover", "--json").document["domains"]
    assert [[name]] == [each["covered_by"] for each in shown if each["domain"] == name]


def test_host_that_a_deployment_names(hosts: tuple[Host, Host]) -> None:
    """Only the listed host carries the deployment out; an unknown host in the list is a finding of
    `doctor`.
    """
    first, second = hosts
    for host in hosts:
        host.rewrite("reload =", 'hosts = ["web-2", "web-9"]\nreload =')
    assert (IN_ORDER, IN_ORDER) == (first.run("sync").code, second.run("sync").code)
    assert [False, True] == [(host.directory / "tls").exists() for host in hosts]
    findings = first.run("doctor", "--json").document["findings"]
    assert ["web-9"] == [
        finding["subject"] for finding in findings if finding["code"] == "host_unknown"
    ]


def test_failure_of_one_host_stands_until_that_host_is_in_order(
    hosts: tuple[Host, Host], name: str
) -> None:
    """The failure stays whatever the other hosts deliver. They report the failing host, and succeed
    themselves.
    """
    first, second = hosts
    first.rewrite('reload = ["cp"', 'reload = ["false"')
    assert (FAILED, IN_ORDER) == (first.run("sync").code, second.run("sync").code)

    here, there = (host.run("check", "--json").document["problems"] for host in hosts)
    place = f"{first.directory}/tls"
    for problems, host in ((here, {}), (there, {"about_host": "web-1"})):
        [problem] = [each for each in problems if each["code"] == "deploy"]
        assert {"name": name, "target": "files", "domain": place, **host}.items() <= problem.items()
    assert f"{name}: files → {place} on web-1" in second.run("check").out
    assert FAILED == first.run("status").code
    assert IN_ORDER == second.run("status").code

    first.rewrite('reload = ["false"', 'reload = ["cp"')
    assert (IN_ORDER, IN_ORDER) == (first.run("sync").code, second.run("sync").code)
    assert [] == second.run("check", "--json").document["problems"]


def test_older_file_is_trouble_after_an_hour(
    hosts: tuple[Host, Host], postgresql: Postgresql, database: str, name: str
) -> None:
    """Within the hour the other host's file may be on its way: the run reports the difference and
    succeeds.
    """
    first, second = hosts
    assert IN_ORDER == first.run("sync").code
    second.rewrite(f'names = ["{name}"]', f'names = ["{name}", "*.{name}"]')
    assert IN_ORDER == second.run("sync").code
    assert IN_ORDER == first.run("sync", "--scheduled").code

    for table, column in (("declaration", "first_seen_at"), ("host_declaration", "since")):
        postgresql.ask(
            f"UPDATE {table} SET {column} = to_char({column}::timestamptz AT TIME ZONE 'UTC'"  # noqa: S608 - names of ours
            " - interval '61 minutes', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')",
            database,
        )
    run = first.run("sync", "--scheduled", "--json")

    assert (FAILED, 0, 0) == (run.code, run.left.orders, run.left.qiniu_writes)
    assert ["declaration_outdated"] == [step["code"] for step in run.steps if step["code"]]
    assert IN_ORDER == second.run("sync", "--scheduled").code


def test_trouble_of_all_hosts_is_reported_once(
    hosts: tuple[Host, Host], hook: EventReceiver, world: World
) -> None:
    """Hosts whose runs end at the same moment send a single message, and a single message at the
    recovery.
    """
    for host in hosts:
        host.config.write_text(
            f'{host.config.read_text()}\n[notify.hook]\ntype = "webhook"\n'
            f'url = "{hook.address}"\nsecret = "{SECRET}"\n'
        )

    def at_once(**environ: str) -> set[int | None]:
        with ExitStack() as begun:
            runs = [begun.enter_context(each.begin("-q", "sync", **environ)) for each in hosts]
            for run in runs:
                run.communicate(timeout=LONGEST_RUN)
        return {run.returncode for run in runs}

    assert {FAILED} == at_once(QINIU_SECRET_KEY="another-key")
    assert ["trouble"] == [event["event"] for event in hook.events]

    assert {IN_ORDER} == at_once()
    assert ["trouble", "recovered"] == [event["event"] for event in hook.events]


def test_state_moves_to_a_file_and_back(
    hosts: tuple[Host, Host], postgresql: Postgresql, world: World, name: str
) -> None:
    """A move is refused during a run. After the move every run has the whole state, and a host with
    the old `url` is refused.
    """
    first, second = hosts
    assert IN_ORDER == first.run("sync").code
    url = re.search('"(postgresql:[^"]+)"', first.config.read_text())
    assert url is not None
    there, back = f"sqlite:///{first.state}", postgresql.url(postgresql.new_database())
    gate, moment = threading.Event(), "POST /sslcert"
    for service in world.qiniu.services:
        service.faults.add(Fault.held_until(gate), on=moment)
    before = sum(len(service.requests(moment)) for service in world.qiniu.services)
    with second.begin("-q", "sync", "--renew", name) as run:
        assert eventually(
            lambda: sum(len(each.requests(moment)) for each in world.qiniu.services) > before
        )
        refused = first.run("-q", "state", "move", there)
        gate.set()
        run.communicate(timeout=LONGEST_RUN)
    assert (TRY_LATER, IN_ORDER) == (refused.code, run.returncode), refused.err

    several = first.run("-q", "state", "move", there)
    assert (USAGE, "has 2 hosts") == (several.code, several.complaint.error[-11:])
    assert IN_ORDER == first.run("hosts", "forget", "web-2").code

    for origin, destination in ((url[1], there), (there, back)):
        moved = first.run("state", "move", destination)
        assert IN_ORDER == moved.code, moved.err
        left = first.run("-q", "sync")
        assert (USAGE, 0) == (left.code, left.left.orders)
        assert "was moved to" in left.complaint.error
        first.rewrite(origin, destination)
        run_there = first.run("sync", "--json")
        assert (IN_ORDER, 0, 0) == (
            run_there.code,
            run_there.left.orders,
            run_there.left.qiniu_writes,
        )
        assert IN_ORDER == first.run("state", "check").code
    assert USAGE == second.run("-q", "sync").code


def test_end_of_the_history_that_another_program_removed(
    hosts: tuple[Host, Host], postgresql: Postgresql, database: str, name: str
) -> None:
    """The break names the certificate and the kind of damage."""
    first, _ = hosts
    assert IN_ORDER == first.run("sync").code
    assert IN_ORDER == first.run("history", "--verify").code
    postgresql.ask("ALTER TABLE history DISABLE TRIGGER ALL", database)
    postgresql.ask("DELETE FROM history WHERE number = (SELECT MAX(number) FROM history)", database)

    run = first.run("history", "--verify", "--json")

    assert FAILED == run.code
    [broken] = run.document["breaks"]
    assert ("removed", name) == (broken["damage"], broken["name"])
