"""Channels are notified once, side by side, and no channel delays a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from certferry.core.assessment.dispatch import Notification
from certferry.core.assessment.notices import USUAL, Message, Notice, Subject, Topic
from certferry.errors import ConfigError, Interrupted, Problem
from certferry.ports.adapter import NoAnswer
from certferry.ports.notifier import AgainAt, Answered, Notifier, RefusedForGood, Sent
from certferry.reconcile.notifications import AGAIN, Channel, Notifications
from certferry.text import Text
from certferry_sandbox.testing.memory_state import MemoryState
from tests.core.strategies import NOW
from tests.support.runs import AtOnce

LATE = timedelta(seconds=0.3)
REFUSED = RefusedForGood(Text("wrong key"), Text("put it right"))
TROUBLE = Notice(Topic.TROUBLE, Subject("img"), NOW, Problem("dns_access_denied", Text("no")))

Change = Callable[[tuple[Notice, ...]], tuple[Notice, ...]]


class Service:
    """A service in memory with scripted answers; it keeps each message."""

    def __init__(self, *answers: Answered | BaseException) -> None:
        self.answers = list(answers)
        self.got: list[Message] = []

    def send(self, message: Message, /) -> Answered:
        self.got.append(message)
        answer = self.answers.pop(0) if self.answers else Sent()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def words(self) -> list[tuple[str, ...]]:
        return [message.paragraphs for message in self.got]


def words(due: Sequence[Notification]) -> Message:
    notices = [notice.notice for notice in due]
    return Message(
        "t", tuple(f"{notice.topic} {notice.subject.lineage or '#'}" for notice in notices)
    )


class Ship:
    """Runs on one state that notify channels, by a clock under the test's control."""

    def __init__(self, **services: Notifier | BaseException) -> None:
        self.state = MemoryState()
        self.services = services
        self.now = NOW
        self.waited: list[float] = []

    def clock(self) -> datetime:
        return self.now

    def run(self, *standing: Notice) -> dict[str, Answered]:
        """End a run that leaves the given notices."""
        return dict(self.notifications().notify(stands(*standing)))

    def notifications(self) -> Notifications:
        channels = {
            name: Channel(name, frozenset(USUAL), lambda name=name: self.connect(name), words)  # type: ignore[misc]  # a lambda's own default
            for name in self.services
        }
        return Notifications(
            channels, self.state, now=self.clock, run=AtOnce(self.waited.append), longest=LATE
        )

    def connect(self, name: str) -> Notifier:
        service = self.services[name]
        if isinstance(service, BaseException):
            raise service
        return service


def stands(*standing: Notice) -> Change:
    """Return the change of notices by a run, beside the channels' own trouble."""
    return lambda before: (*standing, *(notice for notice in before if notice.subject.channel))


def test_trouble_goes_to_every_channel_once() -> None:
    """Each channel gets one message; five more runs send none; the end sends one."""
    ops, boss = Service(), Service()
    ship = Ship(ops=ops, boss=boss)

    first = ship.run(TROUBLE)
    quiet = [ship.run(TROUBLE) for _ in range(5)]
    ship.run()
    ship.run()

    assert {"ops": Sent(), "boss": Sent()} == first
    assert [{}] * 5 == quiet
    assert [("trouble img",), ("recovered img",)] == ops.words == boss.words


def test_a_channel_that_refuses_is_notified_of_by_the_others_and_tried_again() -> None:
    """The refused message stays; after a later success the other channels hear of the
    recovery too.
    """
    ops, boss = Service(REFUSED, REFUSED), Service()
    ship = Ship(ops=ops, boss=boss)

    assert REFUSED == ship.run(TROUBLE)["ops"]
    assert (NOW, REFUSED.problem) == problem_of(ship, "ops")
    assert REFUSED == ship.run(TROUBLE)["ops"]
    assert Sent() == ship.run(TROUBLE)["ops"]
    assert (None, None) == problem_of(ship, "ops")
    ship.run(TROUBLE)

    assert [("trouble img",)] * 3 == ops.words
    assert [("trouble img",), ("trouble #",), ("recovered #",)] == boss.words


def problem_of(ship: Ship, name: str) -> tuple[datetime | None, Text | None]:
    """Return the remembered refusal of a channel."""
    refusal = ship.state.channel(name).refusal
    return (None, None) if refusal is None else (refusal.since, refusal.message)


def test_a_service_that_asks_for_patience_is_left_alone_until_then() -> None:
    """PushPlus bans senders that go on."""
    ops = Service(AgainAt(NOW + timedelta(hours=5), Text("900")))
    ship = Ship(ops=ops)

    ship.run(TROUBLE)
    ship.now = NOW + timedelta(hours=5, seconds=-1)
    held = ship.run(TROUBLE)
    ship.now = NOW + timedelta(hours=5)
    result = ship.run(TROUBLE)

    assert {} == held
    assert {"ops": Sent()} == result
    assert 2 == len(ops.got)


def test_a_mail_that_some_have_is_not_sent_again() -> None:
    """The refusal is reported; recipients of the mail get no second copy."""
    ops = Service(RefusedForGood(Text("no such user"), partly=True))
    ship = Ship(ops=ops)

    ship.run(TROUBLE)
    ship.run(TROUBLE)

    assert 1 == len(ops.got)
    assert (NOW, Text("no such user")) == problem_of(ship, "ops")


def test_a_channel_that_hangs_holds_nothing_up() -> None:
    """After its time the run goes on, the other channels are notified, and the hanging channel's
    message stays for later.
    """
    release = threading.Event()

    class Hanging(Service):
        def send(self, message: Message, /) -> Answered:
            release.wait(10)
            return super().send(message)

    boss = Service()
    ship = Ship(ops=Hanging(), boss=boss)
    begun = time.monotonic()

    answers = ship.run(TROUBLE)

    took = time.monotonic() - begun
    release.set()
    assert took < LATE.total_seconds() + 2
    assert Sent() == answers["boss"]
    assert isinstance(answers["ops"], AgainAt)
    assert () == ship.state.channel("ops").sent_notices
    assert [("trouble img",)] == boss.words


def test_a_stop_ends_the_wait_for_a_channel() -> None:
    """A stop from any thread ends the wait early: the message counts as sent."""
    release, is_asked, run = threading.Event(), threading.Event(), AtOnce()

    class Hanging(Service):
        def send(self, message: Message, /) -> Answered:
            is_asked.set()
            release.wait(30)
            return super().send(message)

    def stop() -> None:
        is_asked.wait(30)
        run.stop()

    ship = Ship(ops=Hanging())
    channel = Channel("ops", frozenset(USUAL), lambda: ship.connect("ops"), words)
    long = timedelta(seconds=30)
    notifications = Notifications(
        {"ops": channel}, ship.state, now=ship.clock, run=run, longest=long
    )
    threading.Thread(target=stop).start()
    begun = time.monotonic()

    with pytest.raises(Interrupted):
        notifications.notify(stands(TROUBLE))

    assert time.monotonic() - begun < 10
    release.set()
    assert {} == ship.run(TROUBLE)


@pytest.mark.parametrize(
    ("error", "for_good"),
    [
        (ConfigError(Text("DINGTALK_SECRET is not set")), True),
        (RuntimeError("sekrit-sekrit"), True),
        (SystemExit("sekrit-sekrit"), True),
        (NoAnswer(Text("cannot connect to hooks.example"), maybe_done=False), False),
        (Interrupted(Text("stopped")), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_an_adapter_raises(error: BaseException, *, for_good: bool) -> None:
    """The error is the problem of one channel alone, and shows no part of an address."""
    boss = Service()
    ship = Ship(ops=Service(error), missing=error, boss=boss)

    answers = ship.run(TROUBLE)

    kind = RefusedForGood if for_good else AgainAt
    for name in ("ops", "missing"):
        answered = answers[name]
        assert isinstance(answered, kind)
        assert "sekrit" not in str(answered.problem)
        assert "hooks" not in str(answered.problem)
    assert Sent() == answers["boss"]


def test_an_adapter_that_answers_nothing() -> None:
    """A missing answer is the package's mistake, and no success."""

    class Silent(Service):
        def send(self, message: Message, /) -> Answered:
            return None  # type: ignore[return-value]  # the mistake

    assert isinstance(Ship(ops=Silent()).run(TROUBLE)["ops"], RefusedForGood)


def test_a_run_that_is_killed_while_it_sends_reports_nothing_twice() -> None:
    """A claimed message stays claimed: at most one delivery."""
    ops = Service()
    ship = Ship(ops=ops)
    ship.state.update_notices(stands(TROUBLE))
    ship.notifications()._claimed(Channel("ops", frozenset(USUAL), lambda: ops, words))  # noqa: SLF001 - the moment in between

    assert {} == ship.run(TROUBLE)
    assert [] == ops.got


def test_runs_that_end_at_once_report_it_once() -> None:
    """Eight runs end together."""
    ops = Service()
    ship = Ship(ops=ops)
    together = threading.Barrier(8)

    def end() -> None:
        together.wait()
        ship.run(TROUBLE)

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [("trouble img",)] == ops.words


def test_nothing_is_sent_as_the_hour_begins() -> None:
    """A run with messages waits for a few seconds."""
    ship = Ship(ops=Service())
    ship.now = NOW.replace(minute=30, second=1)

    ship.run()
    assert [] == ship.waited
    ship.run(TROUBLE)
    assert [3.0] == ship.waited
    ship.notifications().try_out({"ops": Message("t", ("by hand",))})
    assert [3.0, 3.0] == ship.waited


def test_trying_channels_out() -> None:
    """Each channel gets its own message, also after a minute's outage, but not before the end of a
    longer requested pause; the results are remembered.
    """
    ops, spent, out = Service(REFUSED), Service(), Service(AgainAt(NOW + AGAIN, Text("down")))
    ship = Ship(ops=ops, spent=spent, out=out)
    patience = AgainAt(NOW + timedelta(hours=9), Text("900"))
    spent.answers = [patience]
    ship.notifications().try_out({"spent": Message("t", ("one",)), "out": Message("t", ("two",))})

    messages = {name: Message("t", (name,)) for name in ("ops", "spent", "out")}
    answers = ship.notifications().try_out(messages)

    assert {"ops": REFUSED, "spent": patience, "out": Sent()} == answers
    assert [("one",)] == spent.words
    assert REFUSED.problem == problem_of(ship, "ops")[1]
    assert Subject(channel="ops") in {one.subject for one in ship.state.notices()}
    assert (None, None) == problem_of(ship, "out")
