"""The contract of `certferry.ports.notifier.Notifier`, as tests that any channel can run."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache

from certferry.core.assessment.notices import CUT, Message
from certferry.ports.notifier import AgainAt, Answered, Notifier, RefusedForGood, Sent

NAME = "*.img.example.com"
NOW = "2026-11-26T12:00:00Z"

Taken = Callable[[], list[str]]
"""Gives what the service took, each message as the words that it got."""


def message(*paragraphs: str) -> Message:
    """A message, for people and for programs."""
    said = paragraphs or (f"[问题] {NAME}\nthe token of <acct_1> is refused & 'more'",)
    event = {
        "event": "trouble",
        "certificate": NAME,
        "message": said[0],
        "since": NOW,
        "events": [{"event": "trouble", "message": one} for one in said],
    }
    return Message("certferry on web1: 问题 (1)", said, event)


class NotifierContract:
    """Every promise of the port.

    Inherit from it in a class that pytest collects, and give five fixtures: `notifier`, a channel
    that works; `taken`; `denied`, the same channel with a secret or recipient that is refused;
    `down`, the same channel while nothing answers; and `secrets`, what no answer may show.
    """

    def test_a_message_is_sent(self, notifier: Notifier, taken: Taken) -> None:
        """Its words arrive as they are, names and Chinese included, in one message."""
        assert Sent() == notifier.send(message())

        (words,) = taken()
        assert NAME in words
        assert "问题" in words
        assert "<acct_1> is refused & 'more'" in words

    def test_messages_follow_one_another(self, notifier: Notifier, taken: Taken) -> None:
        """Each is sent once."""
        answers = [notifier.send(message(f"number {number}")) for number in range(3)]

        assert [Sent()] * 3 == answers
        assert [True] * 3 == [f"number {n}" in words for n, words in enumerate(taken())]

    def test_a_long_message_is_made_to_fit(self, notifier: Notifier, taken: Taken) -> None:
        """Services count bytes, and Chinese has three to a character: the beginning arrives, whole
        paragraphs, and what shows that there is more; or all of it.
        """
        said = [f"第{number}条：" + "证书未能续期，" * 25 for number in range(80)]

        assert Sent() == notifier.send(message(*said))

        (words,) = taken()
        assert said[0] in words
        assert CUT in words or said[-1] in words

    def test_one_paragraph_that_is_too_long(self, notifier: Notifier, taken: Taken) -> None:
        """It is cut, and no character is."""
        assert Sent() == notifier.send(message('"引号"' * 20_000))

        (words,) = taken()
        assert '"引号"' in words.replace('\\"', '"')
        assert "\ufffd" not in words

    def test_what_is_refused_is_refused_for_good(
        self, denied: Notifier, taken: Taken, secrets: Collection[str]
    ) -> None:
        """With what the service said, and nothing secret; the message went nowhere."""
        answered = denied.send(message())

        assert isinstance(answered, RefusedForGood)
        assert not answered.partly
        assert [] == taken()
        assert set() == shown(answered, secrets)

    def test_a_service_that_does_not_answer(self, down: Notifier, secrets: Collection[str]) -> None:
        """It may be sent the message later; its address is not told."""
        answered = down.send(message())

        assert isinstance(answered, AgainAt)
        assert answered.moment > datetime.now(UTC)
        assert set() == shown(answered, secrets)


class OnlySendsContract(NotifierContract):
    """The same promises, for a channel with `ONLY_SENDS` (`certferry.ports.adapter`)."""

    def test_sending_starts_no_program_and_writes_no_file(
        self, notifier: Notifier, denied: Notifier
    ) -> None:
        """So a configuration file that other users can write does no harm through the channel."""
        with side_effects() as seen:
            notifier.send(message())
            denied.send(message())

        assert [] == seen


STARTS_A_PROGRAM = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
"""Events of Python's audit hooks (https://docs.python.org/3/library/audit_events.html)."""

_watching: list[tuple[int, list[str]]] = []
"""The thread that sends, and the list of its side effects. Python keeps an audit hook for ever, so
one hook serves every test.
"""


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    for thread, seen in _watching:
        if event in STARTS_A_PROGRAM:
            seen.append(f"{event} {arguments[:1]}")
        elif event == "open" and threading.get_ident() == thread:
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
                seen.append(f"wrote {path}")


@cache
def _hook() -> None:
    sys.addaudithook(_watch)


@contextmanager
def side_effects() -> Iterator[list[str]]:
    """Return a list of the programs that this process starts inside the `with` block, and of the
    files that this thread writes.
    """
    _hook()
    seen: list[str] = []
    _watching.append((threading.get_ident(), seen))
    try:
        yield seen
    finally:
        _watching.pop()


def shown(answered: Answered, secrets: Collection[str]) -> set[str]:
    """Return the secrets that an answer shows."""
    said = "" if isinstance(answered, Sent) else str(answered.problem)
    if isinstance(answered, RefusedForGood):
        said += str(answered.hint)
    return {secret for secret in secrets if secret in said}
