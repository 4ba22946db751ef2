"""What operators are to be told of, and what each channel was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from certferry.adapters.state.columns import (
    from_moment,
    from_moments,
    from_optional_moment,
    from_optional_text,
    from_text,
    spoilt,
    to_moment,
    to_moments,
    to_optional_moment,
    to_optional_text,
    to_text,
)
from certferry.adapters.state.database import Column, Connection, Database
from certferry.core.assessment.notices import (
    REFUSED,
    ChannelState,
    Delivery,
    Notice,
    Subject,
    Topic,
)
from certferry.problem import Problem
from certferry.text import Text

_SUBJECT = "topic, lineage, target, domain, channel"


class Notices:
    """Rows by what they are about."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def notices(self) -> tuple[Notice, ...]:
        """See `StateStore.notices`."""
        rows = self._database.rows(
            f"SELECT {_SUBJECT}, since, code, message, hint, deadline FROM notice"  # noqa: S608 - a constant
            f" ORDER BY {_SUBJECT}"
        )
        return tuple(
            Notice(
                *_key(topic, subject),
                to_moment(since),
                Problem(code, to_text(message), to_optional_text(hint)),
                to_optional_moment(deadline),
            )
            for topic, *subject, since, code, message, hint, deadline in rows
        )

    def update_notices(
        self, change: Callable[[tuple[Notice, ...]], tuple[Notice, ...]]
    ) -> tuple[Notice, ...]:
        """See `StateStore.update_notices`."""
        with self._database.transaction(serializable=True) as connection:
            before = {one.key: one for one in self.notices()}
            after = {one.key: one for one in change(tuple(before.values()))}
            for key in before.keys() - after.keys():
                connection.execute(
                    "DELETE FROM notice WHERE topic = ? AND lineage = ? AND target = ?"
                    " AND domain = ? AND channel = ?",
                    _columns(*key),
                )
            for key, one in after.items():
                if before.get(key) != one:
                    _save(connection, one)
        return tuple(after.values())


class Channels:
    """What is remembered of channels, by their names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def channel(self, name: str) -> ChannelState:
        """See `StateStore.channel`."""
        told = self._database.rows(
            f"SELECT {_SUBJECT}, since, at, code FROM told WHERE name = ?"  # noqa: S608 - a constant
            f" ORDER BY {_SUBJECT}",
            name,
        )
        known = self._database.rows(
            "SELECT sent, again_at, refused_since, problem, hint FROM channel WHERE name = ?", name
        )
        deliveries = tuple(
            Delivery(*_key(topic, subject), to_moment(since), to_moment(at), code)
            for topic, *subject, since, at, code in told
        )
        for sent, again_at, refused_since, problem, hint in known:
            refusal = _refusal(refused_since, to_optional_text(problem), to_optional_text(hint))
            return ChannelState(deliveries, to_moments(sent), to_optional_moment(again_at), refusal)
        return ChannelState(deliveries)

    def update_channel(
        self, name: str, change: Callable[[ChannelState], ChannelState]
    ) -> ChannelState:
        """See `StateStore.update_channel`."""
        with self._database.transaction(serializable=True) as connection:
            before = self.channel(name)
            after = change(before)
            if after == before:
                return before
            _replace_told(connection, name, before, after)
            refusal = after.refusal
            connection.execute(
                "INSERT INTO channel (name, sent, again_at, refused_since, problem, hint)"
                " VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET sent = excluded.sent,"
                " again_at = excluded.again_at, refused_since = excluded.refused_since,"
                " problem = excluded.problem, hint = excluded.hint",
                (
                    name,
                    from_moments(after.sent),
                    from_optional_moment(after.again_at),
                    from_optional_moment(None if refusal is None else refusal.since),
                    from_optional_text(None if refusal is None else refusal.message),
                    from_optional_text(None if refusal is None else refusal.hint),
                ),
            )
        return after


def _save(connection: Connection, one: Notice) -> None:
    connection.execute(
        f"INSERT INTO notice ({_SUBJECT}, since, code, message, hint, deadline)"  # noqa: S608 - a constant
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        f" ON CONFLICT ({_SUBJECT}) DO UPDATE SET since = excluded.since, code = excluded.code,"
        " message = excluded.message, hint = excluded.hint, deadline = excluded.deadline",
        (
            *_columns(*one.key),
            from_moment(one.since),
            one.problem.code,
            from_text(one.problem.message),
            from_optional_text(one.problem.hint),
            from_optional_moment(one.deadline),
        ),
    )


def _replace_told(
    connection: Connection, name: str, before: ChannelState, after: ChannelState
) -> None:
    for one in set(before.deliveries) - set(after.deliveries):
        connection.execute(
            "DELETE FROM told WHERE name = ? AND topic = ? AND lineage = ? AND target = ?"
            " AND domain = ? AND channel = ?",
            (name, *_columns(*one.key)),
        )
    for one in set(after.deliveries) - set(before.deliveries):
        connection.execute(
            f"INSERT INTO told (name, {_SUBJECT}, since, at, code)"  # noqa: S608 - a constant
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, *_columns(*one.key), from_moment(one.since), from_moment(one.at), one.code),
        )


def _refusal(since: str | None, message: Text | None, hint: Text | None) -> Problem | None:
    if message is None:
        return None
    return Problem(REFUSED, message, hint, since=to_optional_moment(since))


def _columns(topic: Topic, subject: Subject) -> tuple[Column, ...]:
    return (topic.value, subject.lineage, subject.target, subject.domain, subject.channel)


def _key(topic: str, subject: Sequence[str]) -> tuple[Topic, Subject]:
    try:
        return Topic(topic), Subject(*subject)
    except ValueError as problem:
        raise spoilt() from problem
