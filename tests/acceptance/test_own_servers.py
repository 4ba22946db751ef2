"""Files with `serves`, at a real nginx, with the installed program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.acceptance.nginx import Nginx
from tests.support.ports import free_port
from tests.support.programs import needs

pytestmark = needs("nginx")

TABLES = """
[[certificates]]
name = "site"
names = ["{name}"]
dns = "dnspod"
[[certificates.deploy]]
to = "files"
directory = "ssl"
test = "./test"
reload = "./reload"
serves = [{{ name = "{name}:{port}", address = "127.0.0.1" }}]
"""


class Server(Host):
    """A machine with a real nginx, whose files certferry delivers."""

    def __init__(self, world: World, folder: Path, name: str) -> None:
        self.name, self.port = name, free_port()
        self.ssl = folder / "ssl"
        super().__init__(world, folder, TABLES.format(name=name, port=self.port))
        self.rewrite("[verify]", "[verify]\ntimeout = 3")
        self.nginx = Nginx(folder, self.ssl, self.port)

    def sync(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Sync, and return the exit code and the steps."""
        run = self.run("sync", "--json", *arguments)
        (lineage,) = json.loads(run.out)["certificates"]
        return run.code, lineage["steps"]

    def status(self) -> dict[str, Any]:
        """Return the only place of the certificate."""
        (lineage,) = json.loads(self.run("status", "--json").out)["certificates"]
        (domain,) = lineage["domains"]
        return dict(domain)

    def files(self) -> dict[str, tuple[bytes, int, int]]:
        """Return content, inode and mode of each file in the directory."""
        return {
            path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mode)
            for path in self.ssl.iterdir()
        }


def brief(steps: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(step["action"], step["outcome"]) for step in steps if step["action"] != "issue"]


@pytest.fixture
def server(world: World, tmp_path: Path, new_name: Callable[[], str]) -> Iterator[Server]:
    server = Server(world, tmp_path, new_name())
    yield server
    server.nginx.stop()


def served(server: Server) -> Run:
    """Issue the first certificate, and see nginx serve the certificate."""
    run = server.run("sync")
    assert 0 == run.code, run
    return run


def test_nginx_serves_what_was_delivered(server: Server) -> None:
    """The first delivery starts nginx, a renewal reloads nginx, and each is proven by address."""
    code, steps = server.sync()

    assert (0, [("deploy", "done"), ("verify", "done")]) == (code, brief(steps))
    assert "served by every address that answers" == steps[-1]["detail"]
    place = server.status()
    assert "verified" == place["state"]
    [address] = place["served"]
    assert ("127.0.0.1", f"{server.name}:{server.port}", True) == (
        address["address"],
        address["host"],
        address["ok"],
    )
    assert "1 served" in server.run("check").out
    code, steps = server.sync()
    assert (0, [("verify", "unchanged")]) == (code, brief(steps))

    code, steps = server.sync("site", "--renew")

    assert (0, [("deploy", "done"), ("verify", "done")]) == (code, brief(steps))
    assert server.status()["served"][0]["fingerprint"] != address["fingerprint"]


def test_reload_that_changes_nothing_fails_by_address(server: Server) -> None:
    """The program ends with 0, and nginx keeps the old certificate; the next run mends that."""
    served(server)
    server.nginx.reload_nothing()

    code, steps = server.sync("site", "--renew")

    assert (1, [("deploy", "done"), ("verify", "failed")]) == (code, brief(steps))
    assert f"{server.name}:{server.port} (127.0.0.1)" in steps[-1]["detail"]
    assert "propagating" == server.status()["state"]
    assert "0 of 1 served" in server.run("check").out

    server.nginx.reload()

    code, steps = server.sync()
    assert (0, [("deploy", "done"), ("verify", "done")]) == (code, brief(steps))


def test_configuration_that_nginx_refuses(server: Server) -> None:
    """`nginx -t` fails: the very files are as before, and nginx's words are in the error."""
    served(server)
    before = server.files()
    server.nginx.break_with("no_such_directive on;")

    code, steps = server.sync("site", "--renew")

    assert (1, [("deploy", "failed")]) == (code, brief(steps))
    assert 'unknown directive "no_such_directive"' in steps[-1]["detail"]
    assert "the files are as before" in steps[-1]["detail"]
    assert before == server.files()
    assert server.status()["served"][0]["fingerprint"] is not None

    server.nginx.break_with("")

    code, steps = server.sync()
    assert (0, [("deploy", "done"), ("verify", "done")]) == (code, brief(steps))


def test_certificate_that_nginx_does_not_serve_is_put_back(server: Server) -> None:
    """With `rollback` the earlier certificate is delivered again, and stays."""
    server.rewrite("serves =", 'on_failure = "rollback"\nserves =')
    served(server)
    before = server.status()["served"][0]["fingerprint"]
    server.nginx.reload_nothing()

    code, steps = server.sync("site", "--renew")

    assert 1 == code
    assert {("rollback", "failed"), ("deploy", "done"), ("verify", "done")} == set(brief(steps))
    server.nginx.reload()
    code, steps = server.sync()
    assert (0, [("verify", "unchanged")]) == (code, brief(steps))
    assert "rolled back" in steps[-1]["detail"]
    place = server.status()
    assert ("verified", before) == (place["state"], place["served"][0]["fingerprint"])
