"""Delivery by `ssh` to a real sshd with a real nginx, with the installed program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.world import World
from tests.acceptance.host import Host
from tests.acceptance.nginx import Nginx
from tests.support.ports import free_port
from tests.support.programs import needs
from tests.support.sshd import Sshd
from tests.support.tiers import long, thorough

pytestmark = [needs("nginx"), needs("sshd")]

TABLES = """
[accounts.web]
type = "ssh"
host = "127.0.0.1"
port = {ssh_port}
key = "file:{key}"
host_key = "{host_key}"
[[certificates]]
name = "site"
names = ["{name}"]
dns = "dnspod"
[[certificates.deploy]]
to = "web"
directory = "{folder}/ssl"
test = ["sh", "-c", "cd {folder} && ./test"]
reload = ["sh", "-c", "cd {folder} && ./reload"]
serves = [{{ name = "{name}:{port}", address = "127.0.0.1" }}]
"""


class Server(Host):
    """A machine that delivers by `ssh` to a server with nginx: here both are one machine."""

    def __init__(self, world: World, folder: Path, name: str) -> None:
        self.name, self.port, there = name, free_port(), folder / "there"
        self.sshd = Sshd(there)
        tables = TABLES.format(
            name=name,
            port=self.port,
            ssh_port=self.sshd.port,
            key=self.sshd.key,
            host_key=self.sshd.host_key,
            folder=there,
        )
        super().__init__(world, folder, tables)
        self.rewrite("[verify]", "[verify]\ntimeout = 3")
        self.ssl = there / "ssl"
        self.nginx = Nginx(there, self.ssl, self.port)
        self.sshd.start()

    def sync(self, *arguments: str) -> tuple[int, list[tuple[str, str]], str]:
        """Sync, and return the exit code, the steps, and the words of the last step."""
        run = self.run("sync", "--json", *arguments)
        (lineage,) = json.loads(run.out)["certificates"]
        steps: list[dict[str, Any]] = lineage["steps"]
        brief = [(step["action"], step["outcome"]) for step in steps if step["action"] != "issue"]
        return run.code, brief, steps[-1]["detail"]

    def written(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in [self.ssl, *self.ssl.iterdir()]}


@pytest.fixture
def server(world: World, tmp_path: Path, new_name: Callable[[], str]) -> Iterator[Server]:
    server = Server(world, tmp_path, new_name())
    yield server
    server.nginx.stop()
    server.sshd.stop()


@long
def test_server_serves_what_was_delivered(server: Server) -> None:
    """A delivery ends with the proof; a second run writes nothing; a renewal is served as well."""
    code, steps, detail = server.sync()

    assert (0, [("deploy", "done"), ("verify", "done")]) == (code, steps), detail
    assert "served by every address that answers" == detail
    before = server.written()
    code, steps, _ = server.sync()
    assert (0, [("verify", "unchanged")]) == (code, steps)
    assert before == server.written()

    code, steps, _ = server.sync("site", "--renew")

    assert (0, [("deploy", "done"), ("verify", "done")]) == (code, steps)
    document = json.loads(server.run("status", "--json").out)
    (place,) = document["certificates"][0]["domains"]
    assert ("web", str(server.ssl), "verified") == (
        place["target"],
        place["domain"],
        place["state"],
    )


@thorough
def test_configuration_that_the_server_refuses(server: Server) -> None:
    """`nginx -t` fails on the server: the files are as before, and nginx's words are in the
    error.
    """
    assert 0 == server.sync()[0]
    before = {path.name: path.read_bytes() for path in server.ssl.iterdir()}
    server.nginx.break_with("no_such_directive on;")

    code, steps, detail = server.sync("site", "--renew")

    assert (1, [("deploy", "failed")]) == (code, steps)
    assert 'unknown directive "no_such_directive"' in detail
    assert "the files are as before" in detail
    assert before == {path.name: path.read_bytes() for path in server.ssl.iterdir()}


@thorough
def test_server_that_is_away_fails_alone(server: Server) -> None:
    """Another place of the certificate gets the certificate; the next run delivers the rest."""
    with server.config.open("a") as file:
        file.write('[[certificates.deploy]]\nto = "files"\ndirectory = "here"\n')
    server.sshd.stop()

    code, steps, _ = server.sync()

    assert 1 == code
    assert ("deploy", "done") in steps
    assert (server.directory / "here" / "fullchain.pem").exists()
    doctor = server.run("doctor", "--json").out
    assert "refuses connections by SSH" in doctor
    server.sshd.start()
    code, steps, _ = server.sync()
    assert (0, True) == (code, (server.ssl / "fullchain.pem").exists())
