"""Notify operators of what a run has left, through every channel: at most one message to each, and
none delays the run.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from certferry.core.assessment.notices import (
    REFUSED,
    ChannelState,
    Dispatch,
    Message,
    Notice,
    Notification,
    Topic,
    dispatch,
    of_channel,
    refused,
    taken_back,
    until_quiet,
)
from certferry.errors import ConfigError, Reported
from certferry.ports.http import NoAnswer
from certferry.ports.notifier import AgainAt, Answered, Notifier, RefusedForGood, Sent
from certferry.ports.state import StateStore
from certferry.problem import Problem
from certferry.reconcile.run import Change, Run, aside, stopped
from certferry.text import Text

LONGEST = timedelta(seconds=10)
"""How long a run waits for its channels in all (contract, "Telling")."""
AGAIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: the topics it takes, how it is connected, and how notifications become its
    message. `connect` raises `ConfigError` where its settings are wrong, or a secret is not there.
    """

    name: str
    topics: frozenset[Topic]
    connect: Callable[[], Notifier]
    words: Callable[[Sequence[Notification]], Message]


class Notifications:
    """The channels of a file, and what is stored of them."""

    def __init__(
        self,
        channels: Sequence[Channel],
        state: StateStore,
        *,
        now: Callable[[], datetime],
        run: Run,
        longest: timedelta = LONGEST,
    ) -> None:
        self._channels = {channel.name: channel for channel in channels}
        self._state = state
        self._now = now
        self._run = run
        self._longest = longest

    def notify(self, change: Change) -> Mapping[str, Answered]:
        """Change what stands, and send each channel what it does not know yet. Return what those
        answered that were sent something. What a service did not take is left to a later run.
        Raises `StateError` and `Interrupted`.
        """
        end = time.monotonic() + self._longest.total_seconds()
        self._state.update_notices(change)
        if not self._has_news():
            return {}
        self._run.pause(until_quiet(self._now()).total_seconds())
        claimed = {name: self._claimed(channel) for name, channel in self._channels.items()}
        due = {name: one.notifications for name, (one, _) in claimed.items() if one.notifications}
        messages = {name: self._channels[name].words(parts) for name, parts in due.items()}
        answers = self._sent(messages, end)
        for name, answer in answers.items():
            self._store(name, answer, due[name], claimed[name][1])
        return answers

    def try_out(self, messages: Mapping[str, Message]) -> Mapping[str, Answered]:
        """Send each channel a message of its own, and return what they answered. One whose service
        has asked to wait for more than a minute is sent none.
        """
        end = time.monotonic() + self._longest.total_seconds()
        held = {name: self._pausing(name) for name in messages}
        due = {name: message for name, message in messages.items() if held[name] is None}
        self._run.pause(until_quiet(self._now()).total_seconds())
        answers = self._sent(due, end)
        for name, answer in answers.items():
            self._store(name, answer, (), ChannelState())
        return {name: held[name] or answers[name] for name in messages}

    def _has_news(self) -> bool:
        """Return whether there is anything to send or to forget, without a write."""
        notices, now = self._state.notices(), self._now()
        states = {name: self._state.channel(name) for name in self._channels}
        return any(
            dispatch(name, notices, states[name], channel.topics, now).state != states[name]
            for name, channel in self._channels.items()
        )

    def _claimed(self, channel: Channel) -> tuple[Dispatch, ChannelState]:
        """Claim what a channel is to be sent, and return what was stored of it before."""

        def change(
            before: ChannelState, notices: tuple[Notice, ...]
        ) -> tuple[ChannelState, tuple[Dispatch, ChannelState]]:
            claimed = dispatch(channel.name, notices, before, channel.topics, self._now())
            return claimed.state, (claimed, before)

        return self._state.update_channel(channel.name, change)

    def _sent(self, messages: Mapping[str, Message], end: float) -> dict[str, Answered]:
        """Send all at once, and wait until the end of the time. Raises `Interrupted`."""
        answers: queue.SimpleQueue[tuple[str, Answered] | None] = queue.SimpleQueue()

        def send(name: str, message: Message) -> None:
            answers.put((name, _answer(self._channels[name], message, self._now)))

        for name, message in messages.items():
            aside(partial(send, name, message))
        late = AgainAt(
            self._now() + AGAIN, Text("it did not answer within {time}", time=self._longest)
        )
        found: dict[str, Answered] = dict.fromkeys(messages, late)
        with self._run.waking(lambda: answers.put(None)):
            for _ in messages:
                try:
                    answered = answers.get(timeout=max(end - time.monotonic(), 0.01))
                except queue.Empty:
                    break
                if answered is None:
                    raise stopped()
                found[answered[0]] = answered[1]
        return found

    def _store(
        self, name: str, answer: Answered, due: Sequence[Notification], before: ChannelState
    ) -> None:
        """Store what became of a message; what was not taken is sent later."""
        now = self._now()
        problem = None if isinstance(answer, Sent) else answer.problem
        was_sent = isinstance(answer, Sent) or (
            isinstance(answer, RefusedForGood) and answer.partly
        )

        def change(state: ChannelState, _: tuple[Notice, ...]) -> tuple[ChannelState, None]:
            after = state if was_sent else taken_back(due, before, state)
            refusal = None
            if problem is not None:
                since = now if state.refusal is None else state.refusal.since
                hint = answer.hint if isinstance(answer, RefusedForGood) else None
                refusal = Problem(REFUSED, problem, hint, since=since)
            again_at = answer.moment if isinstance(answer, AgainAt) else None
            return replace(after, again_at=again_at, refusal=refusal), None

        trouble = None if problem is None else refused(name, problem)
        self._state.update_channel(name, change)
        self._state.update_notices(lambda stood: of_channel(name, trouble, stood, now))

    def _pausing(self, name: str) -> AgainAt | None:
        state = self._state.channel(name)
        if state.again_at is None or state.again_at - self._now() <= AGAIN:
            return None
        refusal = state.refusal
        said = Text("it asked to retry later") if refusal is None else refusal.message
        return AgainAt(state.again_at, said)


def _answer(channel: Channel, message: Message, now: Callable[[], datetime]) -> Answered:
    """Send one message. Whatever goes wrong is an answer: a channel stops nothing."""
    try:
        answer: object = channel.connect().send(message)
    except ConfigError as wrong:
        return RefusedForGood(wrong.message, wrong.hint)
    except Reported as failed:
        return AgainAt(now() + AGAIN, failed.message)
    except NoAnswer:
        return AgainAt(now() + AGAIN, Text("it did not answer"))
    except BaseException as mistake:  # noqa: BLE001 - of an adapter, perhaps another package's
        return _broken(type(mistake).__name__)
    return answer if isinstance(answer, Answered) else _broken(f"answered {type(answer).__name__}")


def _broken(how: str) -> RefusedForGood:
    problem = Text("its adapter failed: {problem}", problem=how)
    return RefusedForGood(
        problem, Text("report it to the author of the adapter, with the type of channel")
    )
