"""`certferry watch` of the whole world: hosts of a file, and a change while it follows."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

from certferry_sandbox.world import World
from tests.acceptance.host import Host


def test_hosts_of_a_file_are_looked_at(
    world: World, host: Host, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """Each is told once with what its edges serve; one that is wrong makes the exit code 1."""
    right, missing = new_name(), new_name()
    world.add_https_domain(right)
    file = tmp_path / "hosts.txt"
    file.write_text(f"# ours\n{right}\nhttps://{missing}/logo.png\n{right}.\n")

    run = host.run("watch", "--file", str(file), "--json")

    document = json.loads(run.out)
    assert (1, False) == (run.code, document["ok"])
    assert [right, missing] == [one["host"] for one in document["hosts"]]
    edges, (nowhere,) = (one["addresses"] for one in document["hosts"])
    assert {True} == {edge["ok"] for edge in edges}
    assert {None} == {edge["problem"] for edge in edges}
    assert "not_in_dns" == nowhere["problem"]["code"]


def test_following_tells_a_change_and_ends_with_ctrl_c(
    world: World, host: Host, new_name: Callable[[], str]
) -> None:
    """The first state, then a document on a line when an edge is gone; then 130 and no more."""
    name = new_name()
    world.add_https_domain(name)
    edge = world.qiniu.edges[0]

    with host.begin("watch", name, "--follow", "--every", "1", "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        edge.down = True
        try:
            second = json.loads(process.stdout.readline())
        finally:
            edge.down = False
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=20)

    assert (130, "stopped\n") == (process.returncode, err)
    assert {name} >= {json.loads(line)["host"] for line in rest.splitlines()}
    assert (name, False) == (second["host"], second["ok"])
    codes = {one["address"]: one["problem"] for one in second["addresses"]}
    assert "refused" == codes[edge.address]["code"]
    assert first["at"] < second["at"]


def test_mistakes_of_usage_are_told(host: Host) -> None:
    """No host at all, a pause without --follow, and hosts that are none."""
    nothing = host.run("watch")
    pause = host.run("watch", "img.example.com", "--every", "5")
    wrong = host.run("watch", "img", "--json")

    assert (2, 2, 2) == (nothing.code, pause.code, wrong.code)
    assert "name a HOST" in nothing.err
    assert "--every needs --follow" in pause.err
    assert "config" == json.loads(wrong.out)["error"]["code"]


def test_many_hosts_are_announced(host: Host, new_name: Callable[[], str]) -> None:
    """A look at many takes a while: that it has begun is said on stderr, but with -q."""
    names = [new_name() for _ in range(16)]

    assert "looking at 16 hosts\n" == host.run("watch", *names).err
    assert not host.run("-q", "watch", *names).err
