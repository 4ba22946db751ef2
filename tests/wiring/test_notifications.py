"""The notifications of a run whose last writes fail.

Its certificates are in order, but the run has failed, since no later run and no monitor knows of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from certferry.cli.exits import Exit, of_report
from certferry.config.load import load
from certferry.core.assessment.notices import ChannelState, Notice
from certferry.core.planning.report import SyncReport
from certferry.errors import (
    ConfigError,
    Interrupted,
    LeaseHeld,
    LeaseLost,
    Reported,
    StateUnavailable,
)
from certferry.ports.state import StateStore
from certferry.present.language import Voice
from certferry.present.layout import plain
from certferry.present.report_text import lines, what_is_wrong
from certferry.text import Text
from certferry.wiring.notifications import RunNotifications
from certferry.wiring.settings import InstalledAdapters
from certferry_sandbox.heartbeat import HeartbeatService
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.testing.interruptions import Altered, failing
from certferry_sandbox.testing.memory_state import MemoryState
from tests.support.runs import AtOnce

T = TypeVar("T")

FULL = StateUnavailable(Text("the disk is full"), hint=Text("free some space"))


def full_disk() -> Any:
    """Return a state that refuses all writes."""
    return Altered(MemoryState(), update_notices=failing(FULL))


@pytest.fixture
def hook() -> Iterator[EventReceiver]:
    with EventReceiver() as service:
        yield service


@pytest.fixture
def heart() -> Iterator[HeartbeatService]:
    with HeartbeatService() as service:
        yield service


@pytest.fixture
def notifications(tmp_path: Path, hook: EventReceiver, heart: HeartbeatService) -> RunNotifications:
    """Return notifications through both services, over a state on a full disk."""
    (tmp_path / "state.db").touch()
    return notifications_of(tmp_path / "state.db", tmp_path, hook, heart)


def notifications_of(
    state: Path,
    folder: Path,
    hook: EventReceiver,
    heart: HeartbeatService,
    opened: Callable[[], StateStore] = full_disk,
) -> RunNotifications:
    path = folder / "certferry.toml"
    path.write_text(
        f'[state]\nurl = "sqlite:///{state}"\n'
        f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
        f'[heartbeat]\nurl = "{heart.address}"\n[metrics]\nfile = "{folder / "metrics.prom"}"\n'
    )
    path.chmod(0o600)
    settings = load(path, {}, InstalledAdapters())
    return RunNotifications(settings, opened, run=AtOnce(), language="en")


class Killed(Altered):
    """A state whose first run is killed before storing the answer of a channel."""

    def __init__(self) -> None:
        super().__init__(MemoryState())
        self.before_that = 2

    def update_channel(
        self,
        name: str,
        change: Callable[[ChannelState, tuple[Notice, ...]], tuple[ChannelState, T]],
    ) -> T:
        self.before_that -= 1
        if self.before_that == -1:
            raise KeyboardInterrupt
        answer: T = self._port.update_channel(name, change)
        return answer


def codes(hook: EventReceiver) -> list[str]:
    return [event["code"] for event in hook.events]


def test_a_run_that_cannot_be_reported_has_failed(
    notifications: RunNotifications, hook: EventReceiver, heart: HeartbeatService
) -> None:
    """Report and exit code are failures, the heartbeat fails, and the channel is notified."""
    report = notifications.notify_of(lambda: SyncReport(()), is_whole=True)

    assert FULL == report.problem
    assert Exit.FAILED is of_report(report)
    assert ["start", "fail"] == [ping.kind for ping in heart.pings]
    assert ["state_unavailable"] == codes(hook)


def test_a_run_that_could_not_record_its_end_has_failed(
    notifications: RunNotifications, hook: EventReceiver
) -> None:
    """The failure is also in the short report, and the channel is notified once a day."""
    for _ in range(2):
        report = notifications.notify_of(lambda: SyncReport((), problem=FULL))

    assert Exit.FAILED is of_report(report)
    assert ["state_unavailable"] == codes(hook)
    words = "error: could not record the end of the run: the disk is full"
    for report_lines in (lines(report, Voice()), what_is_wrong(report, Voice())):
        texts = [plain(report_line).strip() for report_line in report_lines]
        assert words in texts
        assert "hint: free some space" in texts


def test_an_error_that_ends_a_run_is_reported_without_a_state(
    notifications: RunNotifications, hook: EventReceiver
) -> None:
    """The error of the run stays the same."""

    def fails() -> SyncReport:
        raise ConfigError(Text("no key"))

    with pytest.raises(ConfigError, match="no key"):
        notifications.notify_of(fails)

    assert ["config"] == codes(hook)


def test_state_in_an_unreadable_directory_is_reported(
    tmp_path: Path, hook: EventReceiver, heart: HeartbeatService
) -> None:
    """Channel and heartbeat are notified."""

    def fails() -> SyncReport:
        raise FULL

    notifications = notifications_of(tmp_path / ("x" * 300) / "state.db", tmp_path, hook, heart)

    with pytest.raises(StateUnavailable):
        notifications.notify_of(fails, is_whole=True)

    assert ["start", "fail"] == [ping.kind for ping in heart.pings]
    assert ["state_unavailable"] == codes(hook)


@pytest.mark.parametrize(
    ("end", "answer"),
    [
        (LeaseHeld(Text("another run is at work")), {"success"}),
        (LeaseLost(Text("another run has taken over")), {"success"}),
        (Interrupted(Text("stopped")), set()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ends_of_a_run_that_are_no_trouble(
    tmp_path: Path, hook: EventReceiver, heart: HeartbeatService, end: Reported, answer: set[str]
) -> None:
    """Channels stay silent. For a monitor, another run at work is a success, and a stopped run is
    neither success nor failure.
    """

    def ends() -> SyncReport:
        raise end

    path, state = tmp_path / "state.db", MemoryState()
    path.touch()
    notifications = notifications_of(path, tmp_path, hook, heart, lambda: state)

    with pytest.raises(type(end)):
        notifications.notify_of(ends, is_whole=True)

    assert answer == {ping.kind for ping in heart.pings} - {"start"}
    assert [] == hook.events


def test_end_of_trouble_without_a_state_is_reported_once(
    tmp_path: Path, hook: EventReceiver, heart: HeartbeatService
) -> None:
    """Also if the run is killed while notifying."""
    path, state = tmp_path / "state.db", cast("Any", Killed())
    path.touch()
    notifications = notifications_of(path, tmp_path, hook, heart, lambda: state)
    notifications.notify_unremembered(FULL)

    for _ in range(2):
        with suppress(KeyboardInterrupt):
            notifications.notify_of(lambda: SyncReport(()))

    assert -1 == state.before_that  # the first run was killed, and the second wrote no answer
    assert ["trouble", "recovered"] == [event["event"] for event in hook.events]
