"""Watched hosts, from the first look to the end of a trouble, on a machine in a world with real TLS
edges.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.edges import Edges
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from tests.acceptance.host import Host

OK, FAILED, CRITICAL = 0, 1, 2
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Shop:
    """A server that another client serves: a name, an address, and the certificate there."""

    def __init__(self, name: str, authority: Authority) -> None:
        self.name = name
        self._authority = authority
        self.certificate = self.issued(left=60 * DAY)
        self.edges = Edges(
            lambda _, __: self.certificate,
            {"127.0.0.1": timedelta(0)},
            clock=lambda: datetime.now(UTC),
        )

    def issued(self, *, left: timedelta, name: str = "") -> Issued:
        return self._authority.issue([name or self.name], NOW - 30 * DAY, NOW + left)

    @property
    def host(self) -> str:
        return f"{self.name}:{self.edges.port}"


@pytest.fixture
def shop(host: Host, new_name: Callable[[], str], tmp_path: Path) -> Iterator[Shop]:
    """Run a server in the world, and return the server."""
    authority = Authority("Harbour")
    (tmp_path / "harbour.pem").write_text(authority.root_pem)
    shop = Shop(new_name(), authority)
    host.world.zones.seed(shop.name, "A", "127.0.0.1")
    with shop.edges:
        yield shop


def watch(host: Host, *hosts: str, more: str = "") -> None:
    """Add a `[[watch]]` to the machine's file."""
    listed = ", ".join(f'"{name}"' for name in hosts)
    text = host.config.read_text()
    watched = f'\n[[watch]]\nhosts = [{listed}]\nca_bundle = "harbour.pem"\n{more}\n'
    host.config.write_text(text + watched)


def notify(host: Host, hook: EventReceiver) -> None:
    host.config.write_text(
        host.config.read_text()
        + f'\n[notify.ops]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
    )


def states(host: Host) -> dict[str, str]:
    document = host.run("status", "--json").document
    return {each["host"]: each["state"] for each in document["watched"]}


def codes(host: Host) -> list[str]:
    return [problem["code"] for problem in host.run("check", "--json").document["problems"]]


def test_from_order_to_trouble_and_back(host: Host, shop: Shop, hook: EventReceiver) -> None:
    """A certificate that ends soon is trouble everywhere, once, and over when it is replaced."""
    watch(host, shop.host)
    notify(host, hook)
    assert OK == host.run("sync").code
    assert {shop.host: "ok"} == states(host)
    assert (OK, OK) == (host.run("check").code, host.run("status").code)
    sent = len(hook.events)

    shop.certificate = shop.issued(left=5 * DAY)
    assert OK == host.run("sync").code
    assert {shop.host: "trouble"} == states(host)
    assert (CRITICAL, ["ends_soon"]) == (host.run("check").code, codes(host))
    status = host.run("status")
    assert FAILED == status.code
    assert f"{shop.host}: since" in status.out
    assert "the certificate ends at" in " ".join(status.out.split())
    assert "证书" in host.run("--lang", "zh", "status").out
    assert OK == host.run("sync").code
    assert "watch" not in host.run("plan").out
    events = [event for message in hook.events[sent:] for event in message["events"]]
    assert [("trouble", "ends_soon", shop.host)] == [
        (event["event"], event["code"], event["domain"]) for event in events
    ]

    shop.certificate = shop.issued(left=60 * DAY)
    assert OK == host.run("sync").code
    assert {shop.host: "ok"} == states(host)
    assert OK == host.run("check").code
    last = hook.events[-1]["events"][0]
    assert ("recovered", shop.host) == (last["event"], last["domain"])


def test_dead_hosts_are_one_cause_and_hold_nothing_up(
    host: Host, shop: Shop, new_name: Callable[[], str]
) -> None:
    """The living host is judged although two others are dead, and the dead share a cause."""
    dead = [new_name(), new_name()]
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    for name in dead:
        host.world.zones.seed(name, "A", "127.0.0.1")
    watch(host, *(f"{name}:{port}" for name in dead), shop.host)

    assert OK == host.run("sync").code

    assert {shop.host: "ok", **{f"{name}:{port}": "trouble" for name in dead}} == states(host)
    document = host.run("check", "--json").document
    assert ["refused", "refused"] == [problem["code"] for problem in document["problems"]]
    assert 1 == len(document["causes"])
    assert 1 == host.run("status").out.count("refuses connections")
    assert 2 == host.run("status", "--all").out.count("refuses connections")


def test_edge_of_ours_is_looked_at_once(host: Host, shop: Shop, name: str) -> None:
    """The run looks at the CDN's domain for the certificate; a watch adds no second look."""
    port = host.world.qiniu.edges.port
    watch(host, f"{name}:{port}", shop.host)

    assert OK == host.run("sync").code

    assert {f"{name}:{port}": "owned", shop.host: "ok"} == states(host)
    with host.remembering() as state:
        assert [shop.name] == [look.name for look in state.watched_hosts()]


def test_runs_for_some_certificates_do_not_look(host: Host, shop: Shop, name: str) -> None:
    """Only runs of all certificates look; a watch that is gone leaves no trouble."""
    watch(host, shop.host)
    assert OK == host.run("sync", name).code
    assert {shop.host: "unknown"} == states(host)

    shop.certificate = shop.issued(left=60 * DAY, name="other.example.com")
    assert OK == host.run("sync").code
    assert ["name_not_covered"] == codes(host)

    host.rewrite(f'hosts = ["{shop.host}"]', 'hosts = ["127.0.0.1:1"]')
    assert [] == codes(host)


def test_unusable_roots_fail_no_run(host: Host, shop: Shop, tmp_path: Path) -> None:
    """A bundle without a certificate is a trouble of the watched host."""
    watch(host, shop.host)
    (tmp_path / "harbour.pem").write_text("no certificate")

    assert OK == host.run("sync").code

    assert {shop.host: "trouble"} == states(host)
