"""Looks at watched hosts that the process of the console makes by itself."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from certferry.config.document import document_of
from certferry.config.load import as_far_as_read
from certferry.config.model import Settings
from certferry.console.watching import APART, Looks
from certferry.errors import Interrupted
from certferry.reconcile.run import Run
from certferry.wiring.notifications import RunNotifications
from certferry.wiring.workspace import Workspace
from certferry_sandbox.testing.memory_state import MemoryState
from tests.config.conftest import FILE

NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.fixture
def closed_port() -> int:
    """Return a port of loopback at which no program listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@dataclass
class Shop:
    """A workspace that watches a host, with a state in memory."""

    settings: Settings
    state: MemoryState = field(default_factory=MemoryState)

    def notifications(self, run: Run) -> RunNotifications:
        return RunNotifications(self.settings, lambda: self.state, run, "en")


class World:
    """A process with a clock."""

    def __init__(self, text: str) -> None:
        self.at = NOON
        self.is_running = False
        self.ending = threading.Event()
        self.shop = Shop(as_far_as_read(document_of(FILE, text), {})[0])
        workspace = cast("Workspace", self.shop)
        self.looks = Looks(lambda: workspace, lambda: self.is_running, lambda: self.at)

    def looks_after(self, time: timedelta) -> bool:
        """Return whether a look is made after this time."""
        self.at += time
        return self.looks.look_if_due(self.ending)


def test_look_at_the_start_and_every_hour(closed_port: int) -> None:
    """A dead host is trouble at once, also without a run; a run in progress looks itself."""
    world = World(f'[[watch]]\nhosts = ["127.0.0.1:{closed_port}"]\n')
    world.is_running = True
    assert not world.looks_after(timedelta(0))
    world.is_running = False

    assert world.looks_after(timedelta(0))
    assert not world.looks_after(APART / 2)
    assert world.looks_after(APART)

    (notice,) = world.shop.state.notices()
    assert ("refused", f"127.0.0.1:{closed_port}") == (notice.problem.code, notice.subject.domain)
    (look,) = world.shop.state.watched_hosts()
    assert look.since == notice.since


def test_nothing_is_watched_without_the_table() -> None:
    """The process asks no host and reads no state."""
    world = World("")

    assert not world.looks_after(timedelta(0))


def test_ending_process_ends_the_look(closed_port: int) -> None:
    """Nothing is stored after the process was told to end."""
    world = World(f'[[watch]]\nhosts = ["127.0.0.1:{closed_port}"]\n')
    world.ending.set()

    with pytest.raises(Interrupted):
        world.looks_after(timedelta(0))
    assert () == world.shop.state.watched_hosts()
