"""Messages to operators. A run sends each channel a single message with all new notices, or none,
and waits at most `LONGEST` for the answers.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from msgspec import Struct

from certferry.core.assessment import notices as notice_rules
from certferry.core.assessment.dispatch import (
    Dispatch,
    Notification,
    dispatch,
    taken_back,
    until_quiet,
)
from certferry.errors import ConfigError, Problem, Reported
from certferry.ports.adapter import NoAnswer
from certferry.ports.notifier import AgainAt, Answered, Notifier, RefusedForGood, Sent
from certferry.ports.progress import Clock
from certferry.ports.state import StateStore
from certferry.reconcile.run import Change, Run, host_in_notices, in_thread, stopped
from certferry.text import Text
from certferry.values import replace

LONGEST = timedelta(seconds=10)
"""The total time that a run waits for the answers of its channels."""
AGAIN = timedelta(minutes=1)


class Channel(Struct, frozen=True):
    """A declared channel."""

    #: The name in the file.
    name: str
    #: The topics of the notices that the channel gets.
    topics: frozenset[notice_rules.Topic]
    #: Returns the adapter. Raises `ConfigError` for wrong settings.
    connect: Callable[[], Notifier]
    #: Returns the message for notifications, in the channel's language.
    words: Callable[[Sequence[Notification]], notice_rules.Message]


@dataclass(eq=False)
class Notifications:
    """Sends notices to the channels of a file."""

    #: The channels by name.
    channels: Mapping[str, Channel]
    #: The notices, and the records of sent notices.
    state: StateStore
    #: The clock for the stored moments.
    now: Clock
    #: The run, which may be stopped while waiting.
    run: Run
    #: The total time to wait for answers.
    longest: timedelta = LONGEST

    def notify(self, change: Change) -> Mapping[str, Answered]:
        """Store the changed notices, and send each channel the notices that are new to the channel.
        Return the answers by channel; a channel without a message is left out.

        Before sending, wait until the busy minutes of the services are over (`until_quiet`). Raises
        `StateError` and `Interrupted`.
        """
        end = time.monotonic() + self.longest.total_seconds()
        self.state.update_notices(change)
        if not self._has_news():
            return {}
        self.run.pause(until_quiet(self.now()).total_seconds())
        claimed = {name: self._claimed(channel) for name, channel in self.channels.items()}
        to_send = {
            name: claim.notifications for name, (claim, _) in claimed.items() if claim.notifications
        }
        messages = {name: self.channels[name].words(parts) for name, parts in to_send.items()}
        answers = self._sent(messages, end)
        for name, answer in answers.items():
            self._store(name, answer, to_send[name], claimed[name][1])
        return answers

    def try_out(self, messages: Mapping[str, notice_rules.Message]) -> Mapping[str, Answered]:
        """Send each channel its message from `messages`, and return the answers by name.

        If a channel's service has asked certferry to wait, and more than `AGAIN` of the wait is
        left, send nothing and return the wait as the answer. Raises `StateError` and `Interrupted`.
        """
        end = time.monotonic() + self.longest.total_seconds()
        held = {name: self._pausing(name) for name in messages}
        to_send = {name: message for name, message in messages.items() if held[name] is None}
        self.run.pause(until_quiet(self.now()).total_seconds())
        answers = self._sent(to_send, end)
        for name, answer in answers.items():
            self._store(name, answer, (), notice_rules.ChannelState())
        return {name: held[name] or answers[name] for name in messages}

    def _has_news(self) -> bool:
        """Return whether `notify` would change the records of a channel: there is a message to
        send, or a `SentNotice` to drop. Writes nothing.
        """
        notices, now = self.state.notices(), self.now()
        states = {name: self.state.channel(name) for name in self.channels}
        return any(
            dispatch(name, notices, states[name], channel.topics, now).state != states[name]
            for name, channel in self.channels.items()
        )

    def _claimed(self, channel: Channel) -> tuple[Dispatch, notice_rules.ChannelState]:
        """Choose the notifications to send, and store them as sent already, so no other run sends
        them. Return the notifications, and the channel's records from before.
        """

        def change(
            before: notice_rules.ChannelState, notices: tuple[notice_rules.Notice, ...]
        ) -> tuple[notice_rules.ChannelState, tuple[Dispatch, notice_rules.ChannelState]]:
            claimed = dispatch(channel.name, notices, before, channel.topics, self.now())
            return claimed.state, (claimed, before)

        return self.state.update_channel(channel.name, change)

    def _sent(
        self, messages: Mapping[str, notice_rules.Message], end: float
    ) -> dict[str, Answered]:
        """Send all messages in parallel, and return an answer for each channel. `end` is the end of
        the wait in seconds of the monotonic clock.

        For a channel that has not answered at `end`, return an `AgainAt`. Raises `Interrupted`.
        """
        answers: queue.SimpleQueue[tuple[str, Answered] | None] = queue.SimpleQueue()

        def send(name: str, message: notice_rules.Message) -> None:
            answers.put((name, _answer(self.channels[name], message, self.now)))

        for name, message in messages.items():
            in_thread(partial(send, name, message))
        late = AgainAt(
            self.now() + AGAIN, Text("the service did not answer within {time}", time=self.longest)
        )
        by_channel: dict[str, Answered] = dict.fromkeys(messages, late)
        with self.run.waking(lambda: answers.put(None)):
            for _ in messages:
                try:
                    answered = answers.get(timeout=max(end - time.monotonic(), 0.01))
                except queue.Empty:
                    break
                if answered is None:
                    raise stopped()
                by_channel[answered[0]] = answered[1]
        return by_channel

    def _store(
        self,
        name: str,
        answer: Answered,
        notifications: Sequence[Notification],
        before: notice_rules.ChannelState,
    ) -> None:
        """Store the answer to a message, with a notice if the channel failed. If the channel took
        no part of the message, mark the `notifications` as not sent, so a later run sends them.
        """
        now = self.now()
        problem = None if isinstance(answer, Sent) else answer.problem
        hint = answer.hint if isinstance(answer, RefusedForGood) else None
        was_sent = isinstance(answer, Sent) or (
            isinstance(answer, RefusedForGood) and answer.partly
        )

        def change(
            state: notice_rules.ChannelState, _: tuple[notice_rules.Notice, ...]
        ) -> tuple[notice_rules.ChannelState, None]:
            after = state if was_sent else taken_back(notifications, before, state)
            refusal = None
            if problem is not None:
                since = now if state.refusal is None else state.refusal.since
                refusal = Problem(notice_rules.REFUSED, problem, hint, since=since)
            again_at = answer.moment if isinstance(answer, AgainAt) else None
            return replace(after, again_at=again_at, refusal=refusal), None

        trouble = None if problem is None else notice_rules.refused(name, problem, hint)
        self.state.update_channel(name, change)
        host = host_in_notices(self.state)
        self.state.update_notices(
            lambda stood: notice_rules.of_channel(name, trouble, stood, now, host=host)
        )

    def _pausing(self, name: str) -> AgainAt | None:
        state = self.state.channel(name)
        if state.again_at is None or state.again_at - self.now() <= AGAIN:
            return None
        refusal = state.refusal
        message = (
            Text("the service asked certferry to retry later")
            if refusal is None
            else refusal.message
        )
        return AgainAt(state.again_at, message)


def _answer(channel: Channel, message: notice_rules.Message, now: Clock) -> Answered:
    """Send a message, and return the answer. An exception becomes an answer, so the run goes on."""
    try:
        answer: object = channel.connect().send(message)
    except ConfigError as wrong:
        return RefusedForGood(wrong.message, wrong.hint)
    except Reported as failed:
        return AgainAt(now() + AGAIN, failed.message)
    except NoAnswer:
        return AgainAt(now() + AGAIN, Text("the service did not answer"))
    except BaseException as mistake:  # noqa: BLE001 - of an adapter, perhaps another package's
        return _broken(type(mistake).__name__)
    return answer if isinstance(answer, Answered) else _broken(f"answered {type(answer).__name__}")


def _broken(how: str) -> RefusedForGood:
    problem = Text("the channel's adapter failed: {problem}", problem=how)
    return RefusedForGood(
        problem, Text("report the error to the author of the adapter, with the channel's type")
    )
