"""The contract of `certferry.ports.notifier.Notifier`, as tests for any channel."""

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
"""A function that returns the accepted messages, each as text."""


def message(*paragraphs: str) -> Message:
    """Return a message, with sentences for people and an event for programs."""
    sentences = paragraphs or (f"[问题] {NAME}\nthe token of <acct_1> is refused & 'more'",)
    event = {
        "event": "trouble",
        "certificate": NAME,
        "message": sentences[0],
        "since": NOW,
        "events": [{"event": "trouble", "message": sentence} for sentence in sentences],
    }
    return Message("certferry on web1: 问题 (1)", sentences, event)


class NotifierContract:
    """Every promise of the port.

    Inherit from `NotifierContract` in a class that pytest collects, and define five fixtures:

    - `notifier`: a channel that works.
    - `taken`: the messages that the service accepted (`Taken`).
    - `denied`: the same channel with a secret or recipient that the service refuses.
    - `down`: the same channel, with a service that does not answer.
    - `secrets`: the texts that no answer may show.
    """

    def test_a_message_is_sent(self, notifier: Notifier, taken: Taken) -> None:
        """The text arrives unchanged in one message, with names and Chinese."""
        assert Sent() == notifier.send(message())

        (words,) = taken()
        assert NAME in words
        assert "问题" in words
        assert "<acct_1> is refused & 'more'" in words

    def test_messages_follow_one_another(self, notifier: Notifier, taken: Taken) -> None:
        """Each message arrives once, in order."""
        answers = [notifier.send(message(f"number {number}")) for number in range(3)]

        assert [Sent()] * 3 == answers
        assert [True] * 3 == [f"number {n}" in words for n, words in enumerate(taken())]

    def test_a_long_message_is_made_to_fit(self, notifier: Notifier, taken: Taken) -> None:
        """The first paragraphs arrive whole, with a mark that the text is cut; or all arrive.

        Services limit bytes, and a Chinese character has three.
        """
        paragraphs = [f"第{number}条：" + "证书未能续期，" * 25 for number in range(80)]

        assert Sent() == notifier.send(message(*paragraphs))

        (words,) = taken()
        assert paragraphs[0] in words
        assert CUT in words or paragraphs[-1] in words

    def test_one_paragraph_that_is_too_long(self, notifier: Notifier, taken: Taken) -> None:
        """The paragraph is cut between characters."""
        assert Sent() == notifier.send(message('"引号"' * 20_000))

        (words,) = taken()
        assert '"引号"' in words.replace('\\"', '"')
        assert "\ufffd" not in words

    def test_what_is_refused_is_refused_for_good(
        self, denied: Notifier, taken: Taken, secrets: Collection[str]
    ) -> None:
        """The channel reports a final refusal without secrets, and no message arrives."""
        answered = denied.send(message())

        assert isinstance(answered, RefusedForGood)
        assert not answered.partly
        assert [] == taken()
        assert set() == shown(answered, secrets)

    def test_a_service_that_does_not_answer(self, down: Notifier, secrets: Collection[str]) -> None:
        """The channel asks for another try later, without secrets such as the address."""
        answered = down.send(message())

        assert isinstance(answered, AgainAt)
        assert answered.moment > datetime.now(UTC)
        assert set() == shown(answered, secrets)


class OnlySendsContract(NotifierContract):
    """The promises of a channel with `ONLY_SENDS` (`certferry.ports.adapter`)."""

    def test_sending_starts_no_program_and_writes_no_file(
        self, notifier: Notifier, denied: Notifier
    ) -> None:
        """`send` has no such side effect.

        A configuration file that other users can write then does no harm through the channel.
        """
        with side_effects() as seen:
            notifier.send(message())
            denied.send(message())

        assert [] == seen


STARTS_A_PROGRAM = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
"""Events at the start of a program (https://docs.python.org/3/library/audit_events.html)."""

_watching: list[tuple[int, list[str]]] = []
"""The thread that sends, and the list for the thread's side effects.

Python never removes an audit hook, so one hook serves every test.
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
    """Yield a list of the side effects inside the `with` block.

    The list collects the programs started by the process, and the files written by the thread.
    """
    _hook()
    seen: list[str] = []
    _watching.append((threading.get_ident(), seen))
    try:
        yield seen
    finally:
        _watching.pop()


def shown(answered: Answered, secrets: Collection[str]) -> set[str]:
    """Return the secrets in the text of an answer."""
    text = "" if isinstance(answered, Sent) else str(answered.problem)
    if isinstance(answered, RefusedForGood):
        text += str(answered.hint)
    return {secret for secret in secrets if secret in text}
