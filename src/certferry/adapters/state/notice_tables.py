"""The tables for people and monitors: notices, the notices sent to each channel, notes about
accounts, last runs and the history.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from msgspec.structs import asdict

from certferry.adapters.state import columns, history_chain
from certferry.adapters.state.database import Reader, Row, Table, Tables, Transaction, writes
from certferry.adapters.state.sealing import Sealing
from certferry.core.assessment import notices as notice_rules
from certferry.core.observed import records
from certferry.errors import Problem
from certferry.ports.state import Edit

T = TypeVar("T")

_SUBJECT = ("topic", "lineage", "target", "domain", "channel", "host", "logged", "watch")
_IN_ORDER = f"ORDER BY {', '.join(_SUBJECT)}"
_TOPIC = columns.Column(from_value=lambda value: columns.read_as(notice_rules.Topic, value))

_NOTICES = Table(
    "notice",
    notice_rules.Notice,
    *_SUBJECT,
    topic=_TOPIC,
    subject=None,
    since=columns.MOMENT,
    problem=None,
    deadline=columns.MOMENT,
    message=columns.TEXT,
    hint=columns.TEXT,
)
_SENT_NOTICES = Table(
    "told",
    notice_rules.SentNotice,
    "name",
    *_SUBJECT,
    topic=_TOPIC,
    subject=None,
    since=columns.MOMENT,
    at=columns.MOMENT,
)
_CHANNELS = Table(
    "channel",
    notice_rules.ChannelState,
    "name",
    sent_notices=None,
    sent=columns.MOMENTS,
    again_at=columns.MOMENT,
    refusal=None,
    refused_since=columns.MOMENT,
    problem=columns.TEXT,
    hint=columns.TEXT,
)
LAST_RUNS = Table("last_run", records.LastRun, ended_at=columns.MOMENT, succeeded_at=columns.MOMENT)
_HISTORY = Table("history", records.HistoryEntry, at=columns.MOMENT, facts=columns.FACTS)

_LAST = 2**63 - 1
"""The greatest number that a column can hold: every entry has a smaller number."""


class NoticeTables(Tables):
    """See `NoticeStore`."""

    _sealing: Sealing
    #: The key of the history's chain, read with the first entry.
    _history_key: bytes | None = None

    def notices(self) -> tuple[notice_rules.Notice, ...]:
        return _notices(self._database)

    @writes
    def update_notices(
        self,
        transaction: Transaction,
        change: Callable[[tuple[notice_rules.Notice, ...]], tuple[notice_rules.Notice, ...]],
    ) -> tuple[notice_rules.Notice, ...]:
        before = {notice.key: notice for notice in _notices(transaction)}
        after = {notice.key: notice for notice in change(tuple(before.values()))}
        for key in before.keys() - after.keys():
            _NOTICES.remove(transaction, before[key], **asdict(key[1]))
        for key, notice in after.items():
            if before.get(key) != notice:
                _save_notice(transaction, notice)
        return tuple(after.values())

    def channel(self, name: str) -> notice_rules.ChannelState:
        return self._database.read(partial(_channel, name=name))

    @writes
    def update_channel(
        self,
        transaction: Transaction,
        name: str,
        change: Callable[
            [notice_rules.ChannelState, tuple[notice_rules.Notice, ...]],
            tuple[notice_rules.ChannelState, T],
        ],
    ) -> T:
        before = _channel(transaction, name)
        after, answer = change(before, _notices(transaction))
        if after != before:
            _save_channel(transaction, name, before, after)
        return answer

    def account_note(self, account: str, name: str) -> str | None:
        return _note(self._database, "", account, name)

    @writes
    def update_account_note(
        self, transaction: Transaction, account: str, name: str, change: Edit
    ) -> str | None:
        return _update_note(transaction, "", account, name, change)

    @writes
    def update_host_note(
        self, transaction: Transaction, account: str, name: str, change: Edit
    ) -> str | None:
        return _update_note(transaction, self.host, account, name, change)

    @writes
    def save_run(self, transaction: Transaction, ended_at: datetime, *, succeeded: bool) -> None:
        moment = columns.from_moment(ended_at)
        transaction.add(
            "last_run",
            "ON CONFLICT (host) DO UPDATE SET ended_at = excluded.ended_at,"
            " succeeded_at = COALESCE(excluded.succeeded_at, last_run.succeeded_at)",
            host=self.host,
            ended_at=moment,
            succeeded_at=moment if succeeded else None,
        )

    def last_run(self) -> records.LastRun | None:
        query, values = LAST_RUNS.query("WHERE host = ?", self.host)
        return LAST_RUNS.first(self._database.rows(query, *values))

    @writes
    def append_history(self, transaction: Transaction, entry: records.HistoryEntry) -> None:
        row = _HISTORY.values(entry) | {"host": self.host}
        if self._history_key is None:
            # Raises without the key, so the run warns about the missing event.
            self._sealing.begin(transaction)
            self._history_key = self._sealing.history_key(transaction)
        history_chain.append(transaction, self._database.dialect.head, self._history_key, row)

    def history(
        self,
        lineage: str | None,
        limit: int,
        before: int | None = None,
        which: records.HistoryFilter = records.UNFILTERED,
    ) -> tuple[records.HistoryEntry, ...]:
        """See `NoticeStore.history`. Most conditions have an index."""
        wanted = {
            "number < ?": before or _LAST,
            "lineage = ?": lineage,
            "host = ?": which.host,
            "who = ?": which.who,
            "at >= ?": columns.MOMENT.write(which.since),
            "at < ?": columns.MOMENT.write(which.until),
            "event = ?": which.event,
            "lineage <> ?": which.without,
        }
        asked = {condition: value for condition, value in wanted.items() if value is not None}
        newest_first = f"WHERE {' AND '.join(asked)} ORDER BY number DESC LIMIT ?"
        return _HISTORY.found(self._database, newest_first, *asked.values(), limit)

    def verify_history(self, lineage: str | None = None) -> records.VerifiedHistory:
        key = self._sealing.history_key
        return self._database.read(lambda reader: history_chain.verified(reader, key, lineage))


def _notices(reader: Reader) -> tuple[notice_rules.Notice, ...]:
    rows = reader.rows(f"SELECT * FROM notice {_IN_ORDER}")  # noqa: S608 - a constant
    return _NOTICES.read(rows, _of_notice)


def _of_notice(row: Row) -> dict[str, object]:
    message, hint = columns.TEXT.read(row["message"]), columns.TEXT.read(row["hint"])
    return {"subject": _subject(row), "problem": Problem(row["code"], message, hint)}


def _save_notice(transaction: Transaction, notice: notice_rules.Notice) -> None:
    message, hint = (
        columns.TEXT.write(notice.problem.message),
        columns.TEXT.write(notice.problem.hint),
    )
    row = {**asdict(notice.subject), "code": notice.problem.code, "message": message, "hint": hint}
    _NOTICES.save(transaction, notice, **row)


def _channel(reader: Reader, name: str) -> notice_rules.ChannelState:
    query = f"SELECT * FROM told WHERE name = ? {_IN_ORDER}"  # noqa: S608 - a constant
    rows = reader.rows(query, name)
    sent = _SENT_NOTICES.read(rows, lambda row: {"subject": _subject(row)})
    channels = _CHANNELS.read(
        reader.rows("SELECT * FROM channel WHERE name = ?", name),
        lambda row: {"sent_notices": sent, "refusal": _refusal(row)},
    )
    return next(iter(channels), notice_rules.ChannelState(sent))


def _refusal(row: Row) -> Problem | None:
    message, hint = columns.TEXT.read(row["problem"]), columns.TEXT.read(row["hint"])
    since = columns.MOMENT.read(row["refused_since"])
    return None if message is None else Problem(notice_rules.REFUSED, message, hint, since=since)


def _save_channel(
    transaction: Transaction,
    name: str,
    before: notice_rules.ChannelState,
    after: notice_rules.ChannelState,
) -> None:
    for sent_notice in set(before.sent_notices) - set(after.sent_notices):
        _SENT_NOTICES.remove(transaction, sent_notice, name=name, **asdict(sent_notice.subject))
    for sent_notice in set(after.sent_notices) - set(before.sent_notices):
        _SENT_NOTICES.save(transaction, sent_notice, name=name, **asdict(sent_notice.subject))
    refusal = after.refusal
    _CHANNELS.save(
        transaction,
        after,
        name=name,
        refused_since=columns.MOMENT.write(refusal.since) if refusal else None,
        problem=columns.TEXT.write(refusal.message) if refusal else None,
        hint=columns.TEXT.write(refusal.hint) if refusal else None,
    )


def _subject(row: Row) -> notice_rules.Subject:
    return notice_rules.Subject(*(columns.PLAIN.read(row[name]) for name in _SUBJECT[1:]))


def _note(reader: Reader, host: str, account: str, name: str) -> str | None:
    query = "SELECT text FROM account_note WHERE account = ? AND name = ? AND host = ?"
    rows = reader.rows(query, account, name, host)
    return next((str(row["text"]) for row in rows), None)


def _update_note(
    transaction: Transaction, host: str, account: str, name: str, change: Edit
) -> str | None:
    key = {"account": account, "name": name, "host": host}
    before = _note(transaction, host, account, name)
    after = change(before)
    if after is None:
        transaction.remove("account_note", **key)
    elif after != before:
        transaction.save("account_note", tuple(key), **key, text=after)
    return after
