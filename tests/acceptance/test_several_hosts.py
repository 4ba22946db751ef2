"""Two hosts that share a state, by the real command: one issues, each installs in its own files;
different files; a host's own receivers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.acceptance.test_orders import rehearsing
from tests.support.postgresql import KEY, Postgresql

IN_ORDER, FAILED, USAGE = 0, 1, 2


def with_files(directory: Path, *more: str) -> str:
    """Return the table of a deployment to files, which a program copies."""
    lines = ["[[certificates.deploy]]", 'to = "files"', f'directory = "{directory}/tls"']
    reload = f'reload = ["cp", "tls/fullchain.pem", "{directory}/reloaded.pem"]'
    return "\n".join([*lines, reload, *more, ""])


@pytest.fixture
def hosts(world: World, postgresql: Postgresql, tmp_path: Path, name: str) -> tuple[Host, Host]:
    """Hosts that have the same certificate, each with files of its own."""
    url = postgresql.url(postgresql.new_state())

    def host(called: str) -> Host:
        folder = tmp_path / called
        folder.mkdir()
        made = Host(world, folder, certificate(name) + with_files(folder))
        made.share(url, KEY, called)
        return made

    return host("web-1"), host("web-2")


def test_one_issues_and_each_installs(hosts: tuple[Host, Host], name: str) -> None:
    """With one order and one upload; each host has reloaded, and has nothing more to do."""
    first, second = hosts
    assert IN_ORDER == first.run("sync").code
    installed = second.run("sync", "--json")
    assert (IN_ORDER, 0, 0) == (installed.code, installed.left.orders, installed.left.qiniu_uploads)
    assert ["deploy"] == [one["action"] for one in installed.steps if one["outcome"] == "done"]
    pems = {(host.directory / "reloaded.pem").read_text() for host in hosts}
    assert 1 == len(pems)
    for host in hosts:
        again = host.run("sync", "--json")
        assert {"unchanged"} == {one["outcome"] for one in again.steps}
        assert IN_ORDER == host.run("check").code


def test_hosts_with_different_files(hosts: tuple[Host, Host], name: str) -> None:
    """The one whose file is older says so in every command and installs what is in force; what
    another declares is neither undeclared nor forgotten here.
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
    [said] = [one for one in run.steps if one["target"] is None]
    assert ["declaration_outdated"] * 2 == [notice["error"]["code"], said["code"]]
    for words in (notice["error"]["message"], said["detail"], first.run("status").out):
        assert f"{name} is declared differently on web-2, where" in words
    pems = {(host.directory / "tls" / "fullchain.pem").read_text() for host in hosts}
    assert 1 == len(pems)
    findings = first.run("doctor", "--json").document["findings"]
    assert ["warning"] == [
        one["severity"] for one in findings if one["code"] == "declaration_outdated"
    ]
    back = first.run("rollback", name)
    assert (FAILED, 0) == (back.code, back.left.qiniu_writes)

    first.config.write_text(first.config.read_text().replace(name, f"other-{name}"))
    refused = first.run("-q", "forget", name)
    assert (USAGE, f"{name} is declared on web-2") == (refused.code, refused.complaint.error)
    assert [] == first.run("status", "--json").document["undeclared"]
    shown = first.run("discover", "--json").document["domains"]
    assert [[name]] == [one["covered_by"] for one in shown if one["domain"] == name]


def test_host_that_a_deployment_names(hosts: tuple[Host, Host]) -> None:
    """Alone carries it out; one that no host is called is a finding of `doctor`."""
    first, second = hosts
    for host in hosts:
        host.rewrite("reload =", 'hosts = ["web-2", "web-9"]\nreload =')
    assert (IN_ORDER, IN_ORDER) == (first.run("sync").code, second.run("sync").code)
    assert [False, True] == [(host.directory / "tls").exists() for host in hosts]
    findings = first.run("doctor", "--json").document["findings"]
    assert ["web-9"] == [one["subject"] for one in findings if one["code"] == "host_unknown"]


def test_failure_of_one_host_stands_until_that_host_is_in_order(
    hosts: tuple[Host, Host], name: str
) -> None:
    """Whatever the others deliver meanwhile; they say whose it is, and it is none of theirs."""
    first, second = hosts
    first.rewrite('reload = ["cp"', 'reload = ["false"')
    assert (FAILED, IN_ORDER) == (first.run("sync").code, second.run("sync").code)

    here, there = (host.run("check", "--json").document["problems"] for host in hosts)
    place = f"{first.directory}/tls"
    for problems, host in ((here, {}), (there, {"about_host": "web-1"})):
        [found] = [one for one in problems if one["code"] == "deploy"]
        assert {"name": name, "target": "files", "domain": place, **host}.items() <= found.items()
    assert f"{name}: files → {place} on web-1" in second.run("check").out
    assert FAILED == first.run("status").code
    assert IN_ORDER == second.run("status").code

    first.rewrite('reload = ["false"', 'reload = ["cp"')
    assert (IN_ORDER, IN_ORDER) == (first.run("sync").code, second.run("sync").code)
    assert [] == second.run("check", "--json").document["problems"]
