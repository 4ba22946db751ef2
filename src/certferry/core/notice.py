"""Notices for operators: those that stand now, and those that each channel was told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from certferry.text import Text


class Topic(StrEnum):
    """What a message is about. The words are those of `on` and of the events in JSON."""

    TROUBLE = "trouble"
    RECOVERED = "recovered"
    RENEWED = "renewed"
    DEPLOYED = "deployed"
    DEADLINE = "deadline"
    FOUND = "found"


USUAL = (Topic.TROUBLE, Topic.RECOVERED)
"""What a channel is told of, unless its table says otherwise."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """A certificate, a target of it, a domain there: each empty where it is about the whole. With
    none of them it is the run itself; with a `channel` alone, a channel of notifications.
    """

    lineage: str = ""
    target: str = ""
    domain: str = ""
    channel: str = ""


Key = tuple[Topic, Subject]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that stands, since a moment: trouble that is not over, or an event of the last day.

    `code` is stable, `message` says what happened and `hint` what to do. Until the `deadline`,
    where there is one, the old certificate still works.
    """

    topic: Topic
    subject: Subject
    since: datetime
    code: str
    message: Text
    hint: Text | None = None
    deadline: datetime | None = None

    @property
    def key(self) -> Key:
        """What identifies it: there is one at a time."""
        return (self.topic, self.subject)


@dataclass(frozen=True, slots=True)
class Told:
    """A channel was told `at` a moment of the notice that stands since another."""

    topic: Topic
    subject: Subject
    since: datetime
    at: datetime
    code: str = ""

    @property
    def key(self) -> Key:
        """The notice's."""
        return (self.topic, self.subject)


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What is remembered of a channel: what it was `told`, and when it was `sent` its last
    messages; nothing is sent before `again_at`. `problem` is what its service last answered where
    it took no message, since `refused_since`.
    """

    told: tuple[Told, ...] = ()
    sent: tuple[datetime, ...] = ()
    again_at: datetime | None = None
    refused_since: datetime | None = None
    problem: Text | None = None
    hint: Text | None = None


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell. `again` is trouble that was told before and is not over."""

    topic: Topic
    subject: Subject
    since: datetime
    code: str
    message: Text
    hint: Text | None = None
    deadline: datetime | None = None
    again: bool = False

    @property
    def key(self) -> Key:
        """The notice's, which what is over does not have any more."""
        topic = Topic.TROUBLE if self.topic is Topic.RECOVERED else self.topic
        return (topic, self.subject)
